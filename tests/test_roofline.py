"""Layers taken apart by roofs and replays, from ten-line records; and the evidence gathered for each.

The machine of these tests does 1 FLOP and moves 1 byte per nanosecond, so that a count is its time in
ns. The layer most of them use is a pointwise convolution of 4 to 8 channels on 8 x 8 places:
512 outputs x 4 = 2048 MACs, 4096 FLOPs; 4 * (256 in + 32 weights + 512 out) = 3200 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_reports import layer
from traces import Run

from flopscope.records import (
    Bandwidth,
    Evidence,
    Kernel,
    Layer,
    Machine,
    OpCost,
    Peak,
    Replay,
    TensorSpec,
    Trace,
)
from flopscope.roofline import METHOD, PARTS, explained

NS = 1e-9
MACHINE = Machine(
    name="made", device="cpu", threads=1,
    peaks=(Peak("float32", 1e9),),
    bandwidth=(Bandwidth(1000, 1e9),),
    overheads_s={"op": 100 * NS, "convolution": 3000 * NS, "matmul": 500 * NS},
    fault_s=200 * NS,
)  # fmt: skip


def _net() -> tuple[Run, TensorSpec]:
    run = Run()
    return run, run.input(1, 4, 8, 8)


def _convolution(run: Run, source: TensorSpec) -> TensorSpec:
    return run.conv(source, run.parameter("a.weight", 8, 4, 1, 1))


def _one_convolution() -> Run:
    run, source = _net()
    _convolution(run, source)
    return run


def _explained(
    run: Run,
    floor_ns: float | None,
    *,
    replays: Mapping[int, Replay] | None = None,
    faults: float | None = None,
    idle_ns: float | None = None,
    waits: float | None = None,
    machine: Machine | None = MACHINE,
    prices: Sequence[OpCost] | None = None,
    trace: Trace | None = None,
    withheld: bool = False,
) -> tuple[Layer, Evidence]:
    """All ops of the run as one layer."""
    trace = trace or run.trace()
    floor = None if floor_ns is None else floor_ns * NS
    one = layer("a", "Net", "conv", ops=tuple(range(len(trace.ops))), latency_floor_s=floor)
    layers, evidence = explained(
        (one,), trace=trace, prices=prices or run.costs, machine=machine, replays=replays or {},
        faults=(faults,), waits=(waits,), idle_s=(None if idle_ns is None else idle_ns * NS,),
        withheld=withheld,
    )  # fmt: skip
    return layers[0], evidence[0]


def _ns(found: Layer) -> tuple[int, ...]:
    """The five parts in nanoseconds."""
    return tuple(round(getattr(found, f"{name}_s") / NS) for name in PARTS)


def _replay(hot_ns: float, tiny_ns: float | None = 2000, faults: float = 0, **known: Any) -> Replay:
    return Replay(hot_ns * NS, faults, None if tiny_ns is None else tiny_ns * NS, 10, **known)


def test_a_replayed_layer() -> None:
    """compute 4096; kernel 7000 - 2000 - 4096 = 904; overhead 2000 + 300; 5 faults 1000; rest 1700."""
    found, evidence = _explained(
        _one_convolution(), 10_000, replays={0: _replay(7000)}, faults=5, idle_ns=300
    )
    assert _ns(found) == (4096, 904, 2300, 1000, 1700)
    assert found.limit == "compute"
    assert found.headroom == pytest.approx(10_000 / 4096)
    assert (evidence.form, evidence.clamped) == ("replayed", False)


def test_the_page_faults_of_a_replay_are_not_its_kernels() -> None:
    """Of 7000 ns hot 2 faults cost 400: kernel 6600 - 2000 - 4096 = 504."""
    found, evidence = _explained(_one_convolution(), 10_000, replays={0: _replay(7000, faults=2)})
    assert _ns(found)[1] == 504
    assert evidence.hot_s == pytest.approx(6600 * NS)


def test_without_a_twin_the_machine_tells_the_overhead() -> None:
    """A convolution: 3000. Kernel 8000 - 3000 - 4096 = 904."""
    found, evidence = _explained(_one_convolution(), 10_000, replays={0: _replay(8000, None)})
    assert _ns(found) == (4096, 904, 3000, 0, 2000)
    assert evidence.overhead_s == pytest.approx(3000 * NS)


def test_the_cheap_form() -> None:
    """compute 4096; memory 0, for 3200 bytes < 4096 FLOPs; overhead 3300; 5 faults 1000; rest 1604."""
    found, evidence = _explained(_one_convolution(), 10_000, faults=5, idle_ns=300)
    assert _ns(found) == (4096, 1604, 3300, 1000, 0)
    assert evidence.form == "cheap"
    assert evidence.hot_s is None


def test_bytes_bound_where_they_take_longer() -> None:
    """A ReLU on 256 numbers: 256 FLOPs, 2048 bytes. Cheap: 256, memory 2048 - 256, 100 for the call."""
    run, source = _net()
    run.op("aten::relu", source, flops=256)
    found, evidence = _explained(run, 5000)
    assert _ns(found) == (256, 2852, 100, 0, 1792)
    assert found.headroom == pytest.approx(5000 / 2048)
    assert evidence.least_s == pytest.approx(2048 * NS)


def test_streaming_in_a_replay_is_no_fault_of_the_kernel() -> None:
    """The same ReLU hot in 2400: 2400 - 100 - 2048 = 252 are the kernel's, not 2400 - 100 - 256."""
    run, source = _net()
    run.op("aten::relu", source, flops=256)
    found, _ = _explained(run, 5000, replays={0: _replay(2400, 100)})
    assert _ns(found) == (256, 252, 100, 0, 4392)


def test_the_bandwidth_is_that_of_the_working_set() -> None:
    """2048 bytes lie half way, by logarithm, between 1024 at 3 B/ns and 4096 at 1 B/ns: 2 B/ns."""
    machine = replace(MACHINE, bandwidth=(Bandwidth(1024, 3e9), Bandwidth(4096, 1e9)))
    run, source = _net()
    run.op("aten::relu", source, flops=0)
    _, evidence = _explained(run, None, machine=machine)
    assert evidence.memory_s == pytest.approx(1024 * NS)
    assert evidence.working_set_bytes == 2048


def test_bounds_are_taken_op_by_op() -> None:
    """Convolution max(4096, 3200), ReLU on 512 max(512, 4096): 8192 together, not max(4608, 7296)."""
    run, source = _net()
    run.op("aten::relu", _convolution(run, source), flops=512)
    _, evidence = _explained(run, None)
    assert evidence.compute_s == pytest.approx(4608 * NS)
    assert evidence.memory_s == pytest.approx(7296 * NS)
    assert evidence.least_s == pytest.approx(8192 * NS)
    assert evidence.working_set_bytes == 4096
    assert evidence.op_calls == 2


def test_views_and_what_is_priced_zero_cost_nothing() -> None:
    run, source = _net()
    run.view("aten::view", _convolution(run, source), (8, 64))
    run.op("aten::empty", out=(4,), flops=0, priced_by="zero")
    found, evidence = _explained(run, 10_000)
    assert _ns(found) == _ns(_explained(_one_convolution(), 10_000)[0])
    assert evidence.op_calls == 1


def test_what_is_only_moved() -> None:
    """A cat of two 1024-byte tensors moves 4096 bytes; zeros read nothing; of a custom op nobody knows."""
    run, source = _net()
    run.op("aten::relu", run.cat(source, source), flops=512)
    run.op("aten::zeros", out=(100,), flops=0)
    run.op("mylib::foo", source, flops=0, priced_by="uncosted")
    _, evidence = _explained(run, None)
    assert evidence.copied_bytes == 4096


def test_the_working_set_counts_memory_once() -> None:
    """In place: 1024 bytes of working set though 2048 are moved. A gather touches no more than it moves."""
    run, source = _net()
    run.write("aten::relu_", source, source, flops=256)
    assert _explained(run, None)[1].working_set_bytes == 1024
    run, _ = _net()
    run.op("aten::embedding", run.parameter("e.weight", 1000, 4), out=(2, 4), flops=0)
    trace = run.trace()
    read = replace(run.costs[0], cost=replace(run.costs[0].cost, bytes_read=32))
    assert _explained(run, None, trace=trace, prices=[read])[1].working_set_bytes == 64


def test_taps_on_padding_take_no_time() -> None:
    """3x3 on 8x8: (3 * 8 - 2)² = 484 of 576 taps. 8 outputs x 4 inputs x 484 = 15488 MACs."""
    run, source = _net()
    run.conv(source, run.parameter("a.weight", 8, 4, 3, 3), padding=(1, 1))
    _, evidence = _explained(run, None)
    assert evidence.executed_flops == 2 * 15488
    assert evidence.compute_s == pytest.approx(30976 * NS)
    assert evidence.convolution is not None
    assert (evidence.convolution.kernel, evidence.convolution.in_channels) == ((3, 3), 4)


def test_a_layer_called_twice_counts_twice() -> None:
    """Equal signatures share a replay: 2 x (7000 - 2000 - 4096) = 1808."""
    run, source = _net()
    _convolution(run, source)
    _convolution(run, source)
    trace = run.trace()
    twice = replace(trace, ops=(trace.ops[0], replace(trace.ops[1], signature=0)))
    log = (Kernel("reorder", "simple", 50 * NS, "source", nbytes=1024), Kernel("conv", "jit", 100 * NS))
    replays = {0: _replay(7000, backend="Mkldnn", kernels=log)}
    found, evidence = _explained(run, 20_000, trace=twice, replays=replays)
    assert _ns(found) == (8192, 1808, 4000, 0, 6000)
    assert evidence.hot_s == pytest.approx(14_000 * NS)
    assert evidence.backend == "Mkldnn"
    assert [(step.latency_s, step.nbytes) for step in evidence.kernels] == [
        (pytest.approx(100 * NS), 2048),
        (pytest.approx(200 * NS), None),
    ]


def test_most_of_a_layer_must_be_replayed() -> None:
    """Weights: convolution 4096 + tiny 2000, ReLU 4096 + 100: with the first alone 59 %: cheap."""
    run, source = _net()
    run.op("aten::relu", _convolution(run, source), flops=512)
    found, evidence = _explained(run, 20_000, replays={0: _replay(7000)})
    assert evidence.form == "cheap"
    assert evidence.hot_s == pytest.approx(7000 * NS)  # known, though not enough to go by
    # compute 4096 + 512; memory 8192 - 4608; overhead 2000 + 100; the rest is unexplained.
    assert _ns(found) == (4608, 9708, 2100, 0, 3584)


def test_what_is_left_out_of_the_replays_is_taken_to_run_at_its_roofs() -> None:
    """A ReLU on 4 numbers weighs 132 of 6228. Kernel 904 of the convolution, and nothing of the ReLU."""
    run, source = _net()
    _convolution(run, source)
    run.op("aten::relu", run.input(4), flops=4)
    found, evidence = _explained(run, 20_000, replays={0: _replay(7000)})
    assert evidence.form == "replayed"
    assert _ns(found) == (4100, 904, 2100, 0, 12_896)


def test_a_layer_without_ops_is_overhead() -> None:
    run, _ = _net()
    found, evidence = _explained(run, 800, idle_ns=800)
    assert _ns(found) == (0, 0, 800, 0, 0)
    assert (found.limit, found.headroom) == ("overhead", None)
    assert (evidence.form, evidence.op_calls, evidence.least_s) == ("cheap", 0, 0.0)
    assert _explained(run, 800, idle_ns=800, replays={7: _replay(1)})[1].form == "replayed"


def test_a_layer_that_only_looks_at_tensors_does_not_wait_for_data() -> None:
    run, source = _net()
    run.view("aten::view", source, (4, 64))
    found, evidence = _explained(run, 900, idle_ns=200)
    assert _ns(found) == (0, 0, 900, 0, 0)
    assert not evidence.clamped


@pytest.mark.parametrize("missing", ["floor", "machine", "withheld"])
def test_nothing_is_taken_apart_without_a_floor_or_a_machine(missing: str) -> None:
    found, evidence = _explained(
        _one_convolution(), None if missing == "floor" else 9000, faults=3, waits=0.5, idle_ns=200,
        machine=None if missing == "machine" else MACHINE, withheld=missing == "withheld",
        replays={0: _replay(7000, backend="Mkldnn")},
    )  # fmt: skip
    assert [getattr(found, f"{name}_s") for name in PARTS] == [None] * 5
    assert (found.limit, found.headroom) == (None, None)
    assert (evidence.form, evidence.faults, evidence.waits) == ("none", 3, 0.5)
    assert evidence.idle_s == pytest.approx(200 * NS)
    assert (evidence.executed_flops, evidence.working_set_bytes) == (4096, 3200)
    assert evidence.hot_s == pytest.approx(7000 * NS)
    assert evidence.overhead_s == pytest.approx(2000 * NS)
    assert (evidence.compute_s is None) == (missing == "machine")


def test_a_dtype_without_a_roof() -> None:
    """float16 has no peak: no compute, no headroom, and the evidence says that it is not known."""
    run = _one_convolution()
    trace = run.trace()
    op = trace.ops[0]
    halves = replace(
        op,
        inputs=tuple(replace(spec, dtype="float16") for spec in op.inputs),
        outputs=tuple(replace(spec, dtype="float16") for spec in op.outputs),
    )
    found, evidence = _explained(run, 10_000, trace=replace(trace, ops=(halves,)))
    assert _ns(found) == (0, 3800, 3000, 0, 3200)
    assert (evidence.compute_s, evidence.least_s, found.headroom) == (None, None, None)
    assert evidence.memory_s == pytest.approx(3200 * NS)


@pytest.mark.parametrize(("flops", "known"), [(200, True), (300, False)])
def test_a_few_flops_without_a_roof_do_not_matter(flops: int, known: bool) -> None:
    """200 of 4296 FLOPs are 4.7 %, 300 of 4396 are 6.8 %; the line is at 5 %."""
    run, source = _net()
    _convolution(run, source)
    run.op("aten::add", run.input(4), flops=flops)
    trace = run.trace()
    wide = tuple(replace(spec, dtype="float64") for spec in trace.ops[1].outputs)
    trace = replace(trace, ops=(trace.ops[0], replace(trace.ops[1], outputs=wide)))
    _, evidence = _explained(run, None, trace=trace)
    assert (evidence.compute_s is not None) is known
    if known:
        assert evidence.compute_s == pytest.approx(4096 * NS)


@pytest.mark.parametrize(
    ("outputs", "inputs", "peak"),
    [
        ("bfloat16", "float32", "bfloat16"),
        ("int64", "float32", "float32"),
        ("complex64", "float32", "float32"),
        ("int32", "int8", "int8"),
        ("quint8", "quint8", "int8"),
    ],
)
def test_the_dtype_whose_peak_bounds_an_op(outputs: str, inputs: str, peak: str) -> None:
    """An argmax is bound by the floats that it reads, a product of integers by the integers."""
    run = _one_convolution()
    trace = run.trace()
    op = trace.ops[0]
    mixed = replace(
        op,
        inputs=tuple(replace(spec, dtype=inputs) for spec in op.inputs),
        outputs=tuple(replace(spec, dtype=outputs) for spec in op.outputs),
    )
    machine = replace(MACHINE, peaks=(Peak(peak, 2e9),))
    _, evidence = _explained(run, None, trace=replace(trace, ops=(mixed,)), machine=machine)
    assert evidence.compute_s == pytest.approx(2048 * NS)


def test_without_a_bandwidth_there_is_no_headroom() -> None:
    machine = replace(MACHINE, bandwidth=(), overheads_s={}, fault_s=None)
    found, evidence = _explained(_one_convolution(), 10_000, machine=machine, faults=9)
    assert _ns(found) == (4096, 5904, 0, 0, 0)
    assert (evidence.memory_s, evidence.overhead_s, evidence.least_s) == (None, None, None)
    assert found.headroom is None


def test_overheads_by_family() -> None:
    """Convolution 3000, linear 500, ReLU 100; a family that was not measured costs what any op does."""
    run, source = _net()
    _convolution(run, source)
    run.linear(run.input(2, 4), run.parameter("l.weight", 4, 4))
    run.op("aten::relu", source, flops=256)
    assert _explained(run, None)[1].overhead_s == pytest.approx(3600 * NS)
    machine = replace(MACHINE, overheads_s={"op": 100 * NS})
    assert _explained(run, None, machine=machine)[1].overhead_s == pytest.approx(300 * NS)


def test_the_costliest_convolution_is_the_one_described() -> None:
    """Also where a gradient costs more: torch selects a backend by the forward's geometry."""
    run, source = _net()
    wide = _convolution(run, source)
    run.conv(wide, run.parameter("b.weight", 8, 8, 3, 3), padding=(1, 1))
    trace = run.trace()
    backward = replace(trace.ops[1], phase="backward")
    replays = {0: _replay(1, backend="small"), 1: _replay(1, backend="large")}
    _, evidence = _explained(run, None, trace=trace, replays=replays)
    assert evidence.convolution is not None
    assert (evidence.convolution.kernel, evidence.backend) == ((3, 3), "large")
    _, evidence = _explained(run, None, trace=replace(trace, ops=(trace.ops[0], backward)), replays=replays)
    assert evidence.convolution is not None
    assert (evidence.convolution.kernel, evidence.backend) == ((1, 1), "small")


def test_every_layer_has_its_own() -> None:
    run, source = _net()
    run.op("aten::relu", _convolution(run, source), flops=512)
    layers = (
        layer("a", "Conv2d", "conv", ops=(0,), latency_floor_s=10_000 * NS),
        layer("b", "ReLU", "activation", ops=(1,)),
    )
    found, evidence = explained(
        layers, trace=run.trace(), prices=run.costs, machine=MACHINE, replays={}, faults=(1, 2),
        waits=(None, 0.1), idle_s=(None, None),
    )  # fmt: skip
    assert [item.form for item in evidence] == ["cheap", "none"]
    assert [item.faults for item in evidence] == [1, 2]
    assert [item.op_calls for item in evidence] == [1, 1]
    assert found[1] == layers[1]
    assert replace(found[0], **{f"{name}_s": None for name in PARTS}, limit=None, headroom=None) == layers[0]


def test_witnesses_must_match_the_layers() -> None:
    with pytest.raises(ValueError, match="zip"):
        explained((), trace=_one_convolution().trace(), prices=[OpCost(None, "zero")],  # type: ignore[arg-type]
                  machine=None, replays={}, faults=(1,), waits=(), idle_s=())  # fmt: skip


def test_the_method_has_a_version() -> None:
    assert METHOD == "1"


_TIME = st.floats(min_value=0, max_value=1e5, allow_nan=False)


@given(
    floor=_TIME,
    hot=_TIME,
    tiny=st.none() | _TIME,
    faults=st.none() | st.floats(0, 1e4),
    idle=st.none() | _TIME,
    replayed=st.booleans(),
    peak=st.floats(1e3, 1e12),
    bandwidth=st.floats(1e3, 1e12),
)
def test_parts_of_any_layer_add_up_to_its_floor(
    floor: float,
    hot: float,
    tiny: float | None,
    faults: float | None,
    idle: float | None,
    replayed: bool,
    peak: float,
    bandwidth: float,
) -> None:
    machine = replace(MACHINE, peaks=(Peak("float32", peak),), bandwidth=(Bandwidth(1000, bandwidth),))
    replays = {0: _replay(hot, tiny, 3)} if replayed else {}
    found, _ = _explained(
        _one_convolution(), floor, replays=replays, faults=faults, idle_ns=idle, machine=machine
    )
    parts = [getattr(found, f"{name}_s") for name in PARTS]
    assert all(part >= 0 for part in parts)
    assert math.isclose(sum(parts), floor * NS, rel_tol=1e-14, abs_tol=1e-300)
    assert (found.limit is None) == (floor * NS == 0)
    if found.limit:
        assert getattr(found, f"{found.limit}_s") == max(parts)
