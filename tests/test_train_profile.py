"""A training step from the outside: `count` and `profile` with train=True, and the command line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_lines import CommandLine
from test_timing import Blind, FakeClock
from torch import nn

import flopscope
from flopscope import timing
from flopscope.errors import InputError


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 4, bias=False)
        self.norm = nn.BatchNorm1d(4)
        self.b = nn.Linear(4, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.norm(self.a(x))))


def test_a_step_counts_forward_backward_and_optimizer() -> None:
    report = flopscope.count(Mlp(), (2, 3), train=True, optimizer=torch.optim.SGD)
    macs = {phase.name: phase.macs for phase in report.phases}
    # forward: 2*3*4 + 2*4*5; backward: the gradient of each weight, and of b's input; a's input has none.
    assert macs == {"forward": 24 + 40, "loss": 0, "backward": 24 + 40 + 40, "optimizer": 0}
    assert report.total.macs == 168
    assert {layer.path: layer.macs for layer in report.layers if layer.macs} == {"a": 48, "b": 120}
    assert {layer.type for layer in report.layers} >= {"(loss)", "(optimizer)"}
    # 12 + 4 + 4 + 20 parameters of four bytes have a gradient; SGD without momentum keeps nothing
    assert (report.held_bytes["gradient"], report.held_bytes["optimizer"]) == (160, 0)
    assert report.saved_activation_bytes is not None
    assert all(phase.latency_s is None for phase in report.phases)


def test_adam_keeps_two_tensors_for_each_parameter() -> None:
    report = flopscope.count(Mlp(), (2, 3), train=True, optimizer=torch.optim.Adam)
    steps = 4 * 4  # and a count of its steps, of four bytes
    assert report.held_bytes["optimizer"] == 2 * 160 + steps


def test_a_measured_step_adds_up_and_leaves_everything_as_it_was(tmp_path: Path) -> None:
    model = Mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    before = copy.deepcopy(model.state_dict())
    report = flopscope.profile(
        model, (2, 3), train=True, optimizer=optimizer, effort="quick", max_seconds=0.3, threads=1
    )
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not optimizer.state
    assert model.training
    assert sum(row.latency_s for row in report.rows_of_the_whole) == pytest.approx(report.total.latency_s)
    assert [phase.name for phase in report.phases] == ["forward", "loss", "backward", "optimizer"]
    assert all(phase.latency_s and phase.latency_s > 0 for phase in report.phases)
    named = {layer.path: layer for layer in report.layers if not layer.type.startswith("(")}
    for path in ("a", "norm", "b"):
        layer = named[path]
        assert layer.backward_s is not None
        assert layer.latency_s is not None
        assert 0 < layer.backward_s < layer.latency_s
    report.save(tmp_path / "step.json")
    assert report == flopscope.load(tmp_path / "step.json")


class Slow(torch.autograd.Function):
    """Takes one second forward and three backward."""

    clock: FakeClock

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        Slow.clock.now += 1.0
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        Slow.clock.now += 3.0
        return gradient * 2


class Holds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Slow.apply(x * self.weight)


def test_backward_and_loss_are_timed_apart_and_by_module() -> None:
    Slow.clock = clock = FakeClock()

    def loss(output: torch.Tensor) -> torch.Tensor:
        clock.now += 0.5
        return output.sum()

    found = timing.measure(
        nn.Sequential(Holds()),
        (torch.ones(1, 2),),
        {},
        clock=clock,
        sampling=timing.Sampling(max_seconds=60.0, rounds_least=2, rounds_most=2),
        observer=Blind(),
        step=timing.Step(loss),
    )
    assert {name: latency.samples for name, latency in found.phases.items()} == {
        "forward": (1.0, 1.0), "loss": (0.5, 0.5), "backward": (3.0, 3.0)
    }  # fmt: skip
    assert found.bare.samples == (4.5, 4.5)
    assert found.boundaries == ("+", "+0", "-0", "-")
    # The loss, the engine's start, sum's node of the loss, then the module's: Slow, mul, its weight's.
    assert found.later == ("(loss)", "(loss)", "(loss)", "0", "0", "0")
    rest = found.stretches[3:]
    assert [stretch[0] for stretch in rest] == [0.5, 0.0, 0.0, 3.0, 0.0, 0.0]


def test_a_loss_without_training_is_refused() -> None:
    with pytest.raises(InputError, match="loss was given, but not train=True"):
        flopscope.count(Mlp(), (2, 3), loss=torch.sum)


def test_the_command_line_trains(cli: CommandLine) -> None:
    done = cli("report", "zoo:mobilenetv3_small", "-i", "2,3,64,64", "--train", "--optimizer", "adamw",
                  "--no-latency", "--json")  # fmt: skip
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert [phase["name"] for phase in told["phases"]] == ["forward", "loss", "backward", "optimizer"]
    assert told["settings"]["train"] is True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--optimizer", "sgd"), "--optimizer sgd has no effect without --train."),
        (("--train", "--optimizer", "sgdd"), "--optimizer sgdd is not in torch.optim."),
    ],
)
def test_an_optimizer_that_cannot_be(cli: CommandLine, words: tuple[str, ...], message: str) -> None:
    done = cli("report", "zoo:mobilenetv3_small", "--no-latency", *words)
    assert done.code == 2
    assert message in done.err
