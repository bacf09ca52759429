"""Counterfactuals: which apply, their geometry and counts by hand, and how two are compared."""

from __future__ import annotations

import os
import sys
from typing import Any

import opcalls
import pytest
import torch

from flopscope.experiments import COUNTERFACTUALS, _partial, convolution_of, counterfactuals, elsewhere
from flopscope.experiments.alternatives import Alternative, other_ways, subject_of
from flopscope.experiments.bench import quiet
from flopscope.experiments.pairs import beside, compared
from flopscope.experiments.rebuilding import rebuild
from flopscope.experiments.values import Values
from flopscope.records import OpCall, Shape

tensor = opcalls.tensor


def convolution(
    channels: int,
    out: int,
    *,
    groups: int = 1,
    size: int = 28,
    kernel: int = 3,
    stride: int = 1,
    last: bool = False,
) -> OpCall:
    strides = (channels * size * size, 1, size * channels, channels) if last else None
    return opcalls.call(
        "aten::convolution",
        tensor(2, out, size // stride, size // stride),
        input=tensor(2, channels, size, size, strides=strides),
        weight=tensor(out, channels // groups, kernel, kernel),
        bias=tensor(out),
        stride=(stride, stride),
        padding=(kernel // 2, kernel // 2),
        groups=groups,
        transposed=False,
    )


def found(call: OpCall) -> dict[str, Alternative]:
    return {item.code: item for item in other_ways((call,))}


def sizes(item: Alternative) -> list[Shape]:
    return [spec.shape for spec in item.ops[0].inputs]


def test_of_a_depthwise_convolution() -> None:
    ways = found(convolution(64, 64, groups=64))
    assert set(ways) == {"channels-last", "dense-conv", "pconv"}
    assert ways["channels-last"].same_function
    assert ways["channels-last"].macs == 2 * 64 * 28 * 28 * 9
    assert ways["channels-last"].ops[0].inputs[0].strides == (64 * 28 * 28, 1, 28 * 64, 64)
    dense = ways["dense-conv"]
    assert sizes(dense) == [(2, 64, 28, 28), (64, 64, 3, 3), (64,)]
    assert dense.macs == 2 * 64 * 28 * 28 * 64 * 9
    assert dense.ops[0].value("groups") == 1
    assert (dense.title, dense.same_function) == ("dense 3x3, same shape", False)
    partial = ways["pconv"]
    assert sizes(partial)[:2] == [(2, 16, 28, 28), (16, 16, 3, 3)]
    assert partial.macs == 2 * 28 * 28 * 9 * 16 * 16  # h·w·k²·(c/4)²
    assert partial.beside == 48


def test_of_a_dense_convolution_in_channels_last_with_odd_channels() -> None:
    ways = found(convolution(60, 60, last=True))
    assert set(ways) == {"contiguous", "depthwise-conv", "pconv", "aligned-channels"}
    assert ways["contiguous"].ops[0].inputs[0].strides == (60 * 28 * 28, 28 * 28, 28, 1)
    assert sizes(ways["depthwise-conv"])[1] == (60, 1, 3, 3)
    assert ways["depthwise-conv"].macs == 2 * 60 * 28 * 28 * 9
    aligned = ways["aligned-channels"]
    assert sizes(aligned) == [(2, 64, 28, 28), (64, 64, 3, 3), (64,)]  # 60 -> 64
    assert aligned.macs == 2 * 64 * 28 * 28 * 64 * 9
    assert aligned.ops[0].inputs[0].strides == (64 * 28 * 28, 1, 28 * 64, 64)


@pytest.mark.parametrize(
    ("call", "codes"),
    [
        (convolution(64, 128), {"channels-last"}),  # other channels out than in
        (convolution(64, 64, kernel=1), {"channels-last"}),  # nothing to spread over space
        (convolution(64, 64, groups=4, stride=2), {"channels-last", "dense-conv"}),
        (convolution(30, 30, groups=30), {"channels-last", "dense-conv", "pconv", "aligned-channels"}),
        (convolution(30, 30, groups=5), {"channels-last", "dense-conv", "pconv"}),
    ],
)
def test_what_does_not_apply_is_absent(call: OpCall, codes: set[str]) -> None:
    assert set(found(call)) == codes
    assert codes <= set(COUNTERFACTUALS)


def test_depthwise_channels_are_rounded_up_together() -> None:
    aligned = found(convolution(30, 30, groups=30))["aligned-channels"]
    assert sizes(aligned) == [(2, 32, 28, 28), (32, 1, 3, 3), (32,)]
    assert aligned.ops[0].value("groups") == 32
    assert aligned.macs == 2 * 32 * 28 * 28 * 9


def test_of_a_linear_layer() -> None:
    call = opcalls.call(
        "aten::linear", tensor(4, 9, 50), input=tensor(4, 9, 100), weight=tensor(50, 100), bias=tensor(50)
    )
    (aligned,) = other_ways((call,))
    assert sizes(aligned) == [(4, 9, 112), (64, 112), (64,)]
    assert aligned.macs == 4 * 9 * 112 * 64


def test_the_subject_is_the_costliest_contraction_else_everything() -> None:
    small, large = convolution(8, 8), convolution(16, 16)
    relu = opcalls.call("aten::relu", tensor(2, 8, 4, 4), self=tensor(2, 8, 4, 4), tags=["pointwise"])
    view = opcalls.call("aten::view", tensor(4), self=tensor(4), view=True)
    assert subject_of([small, relu, large, view]) == (large,)
    assert subject_of([relu, view, relu]) == (relu, relu)
    assert subject_of([view]) == ()
    (last,) = other_ways((relu, relu))
    assert (last.code, last.macs, len(last.ops)) == ("channels-last", None, 2)


def turn(this: float, other: float) -> tuple[list[float], list[float]]:
    return [this] * 3, [other] * 3


def test_the_ratio_lies_in_its_interval() -> None:
    pair = compared([turn(2.0, 1.0), turn(4.0, 2.0), turn(2.0, 1.0), turn(4.0, 2.0), turn(2.0, 1.0)])
    assert (pair.this_s, pair.other_s, pair.turns) == (2.0, 1.0, 5)
    assert (pair.low, pair.high) == (0.5, 0.5)  # what drifts for both leaves the ratio alone
    noisy = compared([turn(1.0, 1.0), turn(1.0, 3.0)] * 4)
    assert (noisy.this_s, noisy.other_s) == (1.0, 2.0)  # the median of as many ones as threes
    assert noisy.low == 1.0
    assert noisy.high == 3.0


def test_turns_alternate_and_the_first_call_of_each_is_left_out() -> None:
    order: list[str] = []

    def runner(name: str, seconds: float) -> Any:
        def run(runs: int) -> list[float]:
            order.append(name)
            return [99.0 if len(order) > 4 else seconds] + [seconds] * (runs - 1)

        return run

    pair = beside(runner("a", 1e-3), runner("b", 3e-3), seconds=0.0301)
    assert pair is not None
    assert order[:8] == ["a", "a", "b", "b", "a", "b", "b", "a"]  # warm-up of each, then the turns
    assert (pair.this_s, pair.other_s, pair.low, pair.high) == (1e-3, 3e-3, 3.0, 3.0)
    assert pair.turns >= 6


def test_what_takes_too_long_is_not_measured() -> None:
    assert beside(lambda runs: [1.0] * runs, lambda runs: [1e-6] * runs, seconds=3.0) is None


def test_alternatives_are_measured_beside_the_layer() -> None:
    call = convolution(16, 16, groups=16, size=14)
    told: list[str] = []
    codes = ("channels-last", "dense-conv", "pconv")
    before = torch.get_rng_state().tolist(), torch.get_num_threads(), dict(os.environ)
    measured = counterfactuals([call], seconds=2, codes=codes, progress=lambda stage, _: told.append(stage))
    assert (torch.get_rng_state().tolist(), torch.get_num_threads(), dict(os.environ)) == before
    assert tuple(item.code for item in measured) == codes
    assert told[0] == "channels-last"
    for item in measured:
        assert item.low is not None
        assert item.high is not None
        assert item.low <= item.latency_s / item.this_s <= item.high
        assert item.macs is not None
        assert item.flops == 2 * item.macs
    assert counterfactuals([], seconds=1) == ()


def test_a_real_child_with_a_pooled_allocator() -> None:
    call = convolution(16, 16, groups=16, size=112)
    kinds = [other.code for other in elsewhere._others()]
    measured = counterfactuals([call], seconds=4, codes=("pooled-allocator",))
    assert [item.code for item in measured] == [code for code in kinds if code == "pooled-allocator"]
    for item in measured:
        assert item.same_function
        assert item.macs == 2 * 16 * 112 * 112 * 9
        assert item.note.startswith("both sides in fresh processes")


def test_children_that_fail_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "command", lambda module: [sys.executable, "-c", "raise SystemExit(1)"])
    assert counterfactuals([convolution(8, 8)], seconds=3, codes=("pooled-allocator", "one-thread")) == ()
    monkeypatch.setattr(elsewhere, "command", lambda module: ["/no/such/program"])
    assert counterfactuals([convolution(8, 8)], seconds=3, codes=("pooled-allocator",)) == ()


def test_a_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        elsewhere, "command", lambda module: [sys.executable, "-c", "import time; time.sleep(60)"]
    )
    monkeypatch.setattr(elsewhere, "_PATIENCE_S", -2.5)  # 3 s asked for: ended after half a second
    assert counterfactuals([convolution(8, 8)], seconds=3, codes=("pooled-allocator",)) == ()


def test_one_thread_is_asked_about_only_where_there_are_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert "one-thread" not in {other.code for other in elsewhere._others()}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    other = next(other for other in elsewhere._others() if other.code == "one-thread")
    assert (other.threads, other.title) == (1, "1 thread instead of 4")
    monkeypatch.setattr(elsewhere.platform, "libc_ver", lambda: ("musl", "1.2"))
    assert "pooled-allocator" not in {other.code for other in elsewhere._others()}


def test_geometry_of_what_is_measured_instead() -> None:
    """The dense alternative has the shape of the original but for its groups."""
    call = convolution(64, 64, groups=64, stride=2)
    dense = found(call)["dense-conv"].ops[0]
    assert convolution_of(call) is not None
    assert dense.value("stride") == (2, 2)
    assert dense.inputs[0].shape == call.inputs[0].shape


def test_a_partial_convolution_convolves_the_first_quarter() -> None:
    call = convolution(8, 8, size=6)
    partial = found(call)["pconv"]
    with quiet():
        values = Values()
        whole, small = rebuild(call, values), rebuild(partial.ops[0], values)
        result = _partial(small, whole).run()
        source, weight, bias = whole.tensors[0], small.tensors[1], small.tensors[2]
        assert weight.shape == (2, 2, 3, 3)
        expected = torch.nn.functional.conv2d(source[:, :2].clone(), weight, bias, padding=1)
        assert torch.allclose(result[:, :2], expected, rtol=1e-5)
        assert torch.equal(result[:, 2:], source[:, 2:])
