"""Replays: operators rebuilt as they were recorded, run alone, and nothing left behind."""

from __future__ import annotations

import gc
import os
from typing import Any

import opcalls
import pytest
import torch
from torch import nn

import flopscope
from flopscope import experiments
from flopscope.costs import has_formula
from flopscope.experiments import hot, replays
from flopscope.experiments.bench import Cold, Watched, faulting, quiet, seconds_of
from flopscope.experiments.hot import Time
from flopscope.experiments.rebuilding import UnbuildableError, in_a_row, rebuild
from flopscope.experiments.values import Values
from flopscope.records import OpCall, Replay, Trace
from flopscope.tracing import trace


def traced(model: nn.Module, *args: Any, dtype: torch.dtype = torch.float32) -> Trace:
    tensors = tuple(torch.empty(size, dtype=dtype, device="meta") for size in args)
    return trace(model, tensors, {}, keep=has_formula)


class Slices(nn.Module):
    """A partial convolution on slices of one tensor, an expanded gate, a transposed product."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, rest = torch.split(x, [4, 12], 1)
        x = torch.cat((self.conv(first), rest), 1)
        left, right = x.chunk(2, 1)
        left = left * right * x.mean((2, 3), keepdim=True)[:, :8].expand_as(left)
        rows = left.flatten(2)
        return torch.bmm(rows.transpose(1, 2), rows).softmax(-1)


class Channelled(nn.Sequential):
    """Convolutions of which the input comes in channels_last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.contiguous(memory_format=torch.channels_last))


NETS: dict[str, tuple[Any, ...]] = {
    "mobilenet": (lambda: flopscope.load_model("zoo:mobilenetv3_small"), (1, 3, 64, 64)),
    "shuffle": (lambda: flopscope.load_model("zoo:shufflenetv2_x0_5"), (1, 3, 64, 64)),
    "slices": (Slices, (2, 16, 6, 6)),
    "channels_last": (
        lambda: Channelled(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.SiLU(inplace=True)),
        (2, 8, 9, 9),
    ),
    "lstm": (lambda: nn.LSTM(8, 12, 2, bidirectional=True), (5, 2, 8)),
    "encoder": (lambda: nn.TransformerEncoderLayer(32, 4, batch_first=True), (2, 7, 32)),
    "bfloat16": (lambda: nn.Sequential(nn.Linear(16, 8), nn.LayerNorm(8), nn.GELU()), (3, 16)),
    "deconv": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 2, 2), nn.MaxPool2d(2)), (1, 4, 5, 5)),
}


def ops_of(name: str) -> tuple[OpCall, ...]:
    build, size = NETS[name]
    dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
    return traced(build().to(dtype), size, dtype=dtype).ops


def distinct(ops: tuple[OpCall, ...]) -> dict[int, OpCall]:
    return {op.signature: op for op in ops if not op.view}


@pytest.mark.parametrize("name", NETS)
def test_tensors_are_laid_out_as_recorded(name: str) -> None:
    values, seen = Values(), 0
    for op in distinct(ops_of(name)).values():
        with quiet():
            tensors = rebuild(op, values).tensors
        for tensor, spec in zip(tensors, op.inputs, strict=True):
            found = (tuple(tensor.shape), tensor.stride(), str(tensor.dtype))
            assert found == (spec.shape, spec.strides, f"torch.{spec.dtype}"), op.op
            assert tensor.data_ptr() % spec.itemsize == 0
        for place, (one, spec) in enumerate(zip(tensors, op.inputs, strict=True)):
            for two, other in zip(tensors[:place], op.inputs[:place], strict=True):
                apart = two.data_ptr() - one.data_ptr()
                if spec.storage == other.storage:
                    assert apart == other.offset * other.itemsize - spec.offset * spec.itemsize
                    seen += 1
                else:
                    assert two.untyped_storage().data_ptr() != one.untyped_storage().data_ptr()
    if name == "slices":
        assert seen == 2  # left * right are halves of one tensor; bmm reads one tensor in two layouts


@pytest.mark.parametrize("name", NETS)
def test_every_operator_of_ordinary_networks_is_replayed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "_LONGEST_SHARE_S", 0.002)  # little for each, time enough for all
    ops, notes = ops_of(name), list[str]()
    found = replays(ops, seconds=60, notes=notes)
    assert not notes
    assert set(found) == set(distinct(ops))
    for one in found.values():
        assert one.hot_s > 0
        assert one.hot_faults >= 0
        assert 3 <= one.runs <= 40  # 5, but for calls beyond 20 ms on a busy machine
    convolutions = [key for key, op in distinct(ops).items() if op.op == "aten::convolution"]
    assert all(found[key].backend for key in convolutions)
    without = {op.op for key, op in distinct(ops).items() if found[key].tiny_s is None}
    assert without <= {"aten::zeros"}  # an LSTM's first state: it has no input to shrink


def test_embeddings_look_up_valid_rows_of_all_the_table() -> None:
    net = nn.Sequential(nn.Embedding(1000, 4), nn.Linear(4, 2))
    ops = traced(net, (8, 16), dtype=torch.int64).ops
    look = next(op for op in ops if op.op == "aten::embedding")
    with quiet():
        weight, indices = rebuild(look, Values()).tensors
    assert weight.shape == (1000, 4)
    assert int(indices.min()) >= 0
    assert int(indices.max()) < 1000
    assert len(indices.unique()) > 64  # of 128 drawn out of 1000: the same row twice is rare
    assert len(replays(ops, seconds=1)) == 2


@pytest.mark.parametrize(
    ("arguments", "bound"),
    [
        ({"op": "aten::gather", "dim": 1}, 6),
        ({"op": "aten::index_select", "dim": 0}, 5),
        ({"op": "aten::take"}, 30),
    ],
)
def test_indices_stay_within_the_dimension(arguments: dict[str, Any], bound: int) -> None:
    source, index = opcalls.tensor(5, 6), opcalls.tensor(5, 6, dtype="int64")
    if arguments["op"] == "aten::index_select":
        index = opcalls.tensor(40, dtype="int64")
    name = arguments.pop("op")
    call = opcalls.call(name, self=source, **arguments, index=index)
    with quiet():
        drawn = rebuild(call, Values()).tensors[1]
    assert int(drawn.min()) >= 0
    assert bound - 3 <= int(drawn.max()) < bound


def test_floats_are_near_one_and_masks_are_true() -> None:
    x, mask = opcalls.tensor(300, 100), opcalls.tensor(300, 100, dtype="bool")
    call = opcalls.call("aten::where", condition=mask, self=x, other=opcalls.tensor(300, 100))
    with quiet():
        chosen, left, right = rebuild(call, Values()).tensors
    assert bool(chosen.all())
    for values in (left, right):
        assert 0.5 <= float(values.min()) < 0.52
        assert 1.48 < float(values.max()) < 1.5


def test_what_is_written_is_made_anew_before_each_call() -> None:
    x = opcalls.tensor(64)
    halved = opcalls.call("aten::mul_", x, self=x, other=0.5, written=["self"])
    with quiet():
        subject = rebuild(halved, Values())
        before = subject.tensors[0].clone()
        seconds_of(subject, 5)
        assert torch.equal(subject.tensors[0], before * 0.5)  # once, not 0.5^5
        assert subject.refill is not None
        subject.refill()
        assert torch.equal(subject.tensors[0], before)


def test_a_row_runs_everything_and_refills_everything() -> None:
    with quiet():
        x = opcalls.tensor(4)
        first = rebuild(opcalls.call("aten::mul_", x, self=x, other=2.0, written=["self"]), Values())
        second = rebuild(opcalls.call("aten::neg", opcalls.tensor(4), self=opcalls.tensor(4)), Values())
        row = in_a_row([first, second])
        before = first.tensors[0].clone()
        row.run()
        assert torch.equal(first.tensors[0], before * 2)
        assert row.refill is not None
        row.refill()
        assert torch.equal(first.tensors[0], before)
        assert len(row.tensors) == 2


MATRIX = opcalls.tensor(4, 5)
IMPOSSIBLE = {
    "data": (
        opcalls.call("aten::nonzero", self=MATRIX, tags=["dynamic_output_shape"]),
        "depends on the data",
    ),
    "value": (
        opcalls.call("aten::_local_scalar_dense", self=opcalls.tensor(), tags=["data_dependent_output"]),
        "depends on the data",
    ),
    "mask": (
        opcalls.call("aten::index", self=MATRIX, indices=[opcalls.tensor(4, dtype="bool")]),
        "depends on the data",
    ),
    "mismatch": (opcalls.call("aten::mm", MATRIX, self=MATRIX, mat2=MATRIX), "torch refused it"),
    "other result": (
        opcalls.call("aten::relu", opcalls.tensor(9), self=MATRIX),
        "makes another result",
    ),
    "no such operator": (opcalls.call("aten::no_such_thing", self=MATRIX), "no operator"),
    "foreign": (opcalls.call("mylib::foo", self=MATRIX), "torch's own"),
    "quantised": (
        opcalls.call("aten::relu", self=opcalls.tensor(3, dtype="quint8")),
        "cannot be laid out",
    ),
    "lengths": (
        opcalls.call(
            "aten::lstm", data=MATRIX, batch_sizes=opcalls.tensor(2, dtype="int64"), hx=[], params=[]
        ),
        "lengths or offsets",
    ),
    "resized": (opcalls.call("aten::resize_", self=MATRIX, size=(3,)), "changes the shape"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_run_alone_has_no_replay_and_a_reason(name: str) -> None:
    call, reason = IMPOSSIBLE[name]
    notes: list[str] = []
    assert not replays([call], seconds=1, notes=notes)
    assert len(notes) == 1
    assert notes[0].startswith(f"{call.op} was not replayed: ")
    assert reason in notes[0]


def test_tensors_larger_than_the_memory_are_refused() -> None:
    huge = opcalls.call("aten::relu", self=opcalls.tensor(1 << 24, 1 << 24))  # 2^48 floats: a petabyte
    with pytest.raises(UnbuildableError, match="memory"):
        rebuild(huge, Values())


def test_each_signature_is_measured_once_in_the_given_order(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def stub(op: OpCall, values: Values, time: Time, cold: Cold) -> Replay:
        asked.append(op.signature)
        return Replay(1.0, 0.0, None, 5)

    monkeypatch.setattr(experiments, "replay", stub)
    x = opcalls.tensor(4)
    one, two = (opcalls.call("aten::relu", self=x, signature=number) for number in (7, 3))
    view = opcalls.call("aten::view", self=x, view=True, signature=9)
    assert set(replays([one, view, two, one], seconds=5)) == {7, 3}
    assert asked == [7, 3]


def test_nothing_is_started_when_the_time_is_up() -> None:
    notes: list[str] = []
    x = opcalls.tensor(4)
    calls = [opcalls.call("aten::relu", self=x), opcalls.call("aten::neg", self=x)]
    assert not replays(calls, seconds=0, notes=notes)
    assert notes == ["2 operators were not replayed: the time was up"]
    assert not replays(calls, seconds=1, device="cuda", notes=notes)
    assert "CPU only" in notes[-1]


def test_progress_is_told() -> None:
    told: list[tuple[str, float]] = []
    calls = [opcalls.call("aten::relu", self=opcalls.tensor(4)) for _ in range(2)]
    replays(calls, seconds=1, progress=lambda stage, share: told.append((stage, share)))
    assert told == [("replays", 0.0), ("replays", 0.5)]


def test_the_process_stays_as_it_was() -> None:
    def state() -> tuple[Any, ...]:
        threads = torch.get_num_threads(), torch.get_num_interop_threads()
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()
        return (*threads, *modes, gc.isenabled(), dict(os.environ), torch.get_rng_state().tolist())

    random = opcalls.tensor(8)
    calls = [
        opcalls.call("aten::bernoulli_", random, self=random, p=0.5, written=["self"]),  # draws numbers
        opcalls.call("aten::no_such_thing", self=random),
        *ops_of("encoder"),
    ]
    before = state()
    found = replays(calls, seconds=1)
    assert calls[0].signature in found
    assert state() == before
    with pytest.raises(KeyboardInterrupt), quiet():
        raise KeyboardInterrupt
    assert state() == before


def test_backward_operators_are_replayed() -> None:
    image, weight, answer = (
        opcalls.tensor(2, 8, 10, 10),
        opcalls.tensor(8, 1, 3, 3),
        opcalls.tensor(2, 8, 8, 8),
    )
    made = [opcalls.tensor(*spec.shape) for spec in (image, weight)]
    backward = opcalls.call(
        "aten::convolution_backward",
        [*made, opcalls.tensor(8)],
        grad_output=answer,
        input=image,
        weight=weight,
        bias_sizes=(8,),
        stride=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
        transposed=False,
        output_padding=(0, 0),
        groups=8,
        output_mask=(True, True, True),
    )
    channel = opcalls.tensor(8)
    normal = opcalls.call(
        "aten::native_batch_norm_backward",
        [opcalls.tensor(2, 8, 10, 10), opcalls.tensor(8), opcalls.tensor(8)],
        grad_out=image,
        input=image,
        weight=channel,
        running_mean=channel,
        running_var=channel,
        save_mean=channel,
        save_invstd=channel,
        train=True,
        eps=1e-5,
        output_mask=(True, True, True),
    )
    notes: list[str] = []
    found = replays([backward, normal], seconds=1, notes=notes)
    assert set(found) == {backward.signature, normal.signature}, notes
    assert all(one.tiny_s is not None for one in found.values())
    assert found[backward.signature].backend == "Mkldnn" or not torch.backends.mkldnn.is_available()


def test_page_faults_are_told_by_block() -> None:
    with quiet():
        watched = Watched(rebuild(opcalls.call("aten::relu", self=opcalls.tensor(4)), Values()))
        assert len(watched(3)) == 3
    assert all(fault >= 0 for fault in watched.faults)
    told = "page faults of a call: 200 of this layer, 0 done otherwise"
    assert faulting([100.0, 300.0, 200.0], [0.0]) == told
    assert faulting([], [1.0]) == ""
    assert faulting([0.0, 0.0], [0.4]) == ""  # of hardly any there is nothing to say


@pytest.mark.parametrize(
    ("call_s", "left_s", "runs"),
    [
        (1e-4, 9.0, 40),  # 30 ms would do for 300: enough is enough
        (1e-2, 9.0, 5),  # 30 ms would do for three: at least five
        (0.1, 9.0, 3),  # a long call: three
        (0.1, 0.25, None),  # three long calls do not fit into what is left
    ],
)
def test_as_many_calls_as_the_time_allows(
    monkeypatch: pytest.MonkeyPatch, call_s: float, left_s: float, runs: int | None
) -> None:
    monkeypatch.setattr(hot, "seconds_of", lambda subject, count: [call_s] * count)
    monkeypatch.setattr(hot, "perf_counter", lambda: 0.0)
    call = opcalls.call(
        "aten::gather", self=opcalls.tensor(4, 4), dim=1, index=opcalls.tensor(4, 4, dtype="int64")
    )
    with quiet():
        if runs is None:
            with pytest.raises(hot.OutOfTimeError):
                hot.replay(call, Values(), Time(0.03, left_s), Cold())
        else:
            assert hot.replay(call, Values(), Time(0.03, left_s), Cold()).runs == runs
