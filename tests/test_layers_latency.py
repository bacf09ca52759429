"""Latencies of layers from the stretches between module boundaries, by hand-made numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from traces import Run

from flopscope.errors import MeasurementError
from flopscope.layers import (
    by_layer,
    partition,
    rows_of_the_whole,
    total,
    tree,
    tree_with_latency,
    with_latency,
    with_latency_of_the_whole,
)
from flopscope.layers.latency import LayerTimes
from flopscope.recognition import blocks, kinds
from flopscope.records import Latency, Layer, Timings, Trace, Witnesses


def _timings(boundaries: str, *stretches: tuple[float, ...], instrumented: tuple[float, ...] = ()) -> Timings:
    return Timings(
        bare=Latency((9.0, 10.0, 11.0)),
        instrumented=Latency(instrumented or tuple(sum(column) for column in zip(*stretches, strict=True))),
        boundaries=tuple(boundaries.split()),
        stretches=stretches,
        warmup_rounds=1,
        stop_reason="rounds",
        threads=1,
        device="cpu",
        instrument_s=0.5,
    )


def _net() -> Run:
    """`a`, then an op of the root, then `b` that holds `b.c` and an op of its own."""
    run = Run()
    seen = run.input(1, 4)
    with run.call("a", "Linear"):
        seen = run.linear(seen, run.parameter("a.weight", 4, 4))
    seen = run.op("aten::relu", seen, flops=4)
    with run.call("b", "Block"):
        with run.call("b.c", "Linear"):
            seen = run.linear(seen, run.parameter("b.c.weight", 4, 4))
        run.op("aten::relu", seen, flops=4)
    return run


_NET = "+ +a -a +b +b.c -b.c -b -"


def _layers(run: Run) -> tuple[Trace, tuple[Layer, ...]]:
    trace = run.trace()
    return trace, partition(trace, run.costs, kinds=kinds(trace), blocks=blocks(trace))


def _attach(run: Run, timings: Timings) -> tuple[LayerTimes, dict[tuple[str, str], tuple[float, ...]]]:
    trace, layers = _layers(run)
    times = by_layer(layers, timings, trace=trace, costs=run.costs)
    rows = zip(layers, times.seconds, strict=True)
    return times, {(layer.path, layer.type): seconds for layer, seconds in rows}


def test_a_stretch_belongs_to_the_layer_whose_ops_ran_in_it() -> None:
    #             before a   in a    relu    before c  in c     relu    after b
    stretches = [(0.1,), (1.0,), (2.0,), (0.2,), (4.0,), (8.0,), (0.4,)]
    times, found = _attach(_net(), _timings(_NET, *stretches))
    assert times.warnings == ()
    assert found == {
        ("a", "Linear"): (1.0,),
        ("", "(ops)"): (pytest.approx(0.1 + 2.0 + 0.4),),  # the gaps are the container's own
        ("b.c", "Linear"): (4.0,),
        ("b", "(ops)"): (pytest.approx(0.2 + 8.0),),
    }


def test_a_gap_of_a_container_without_own_ops_goes_to_the_next_one_out() -> None:
    run = Run()
    seen = run.op("aten::relu", run.input(1, 4))
    with run.call("seq", "Sequential"), run.call("seq.0", "Linear"):
        run.linear(seen, run.parameter("seq.0.weight", 4, 4))
    _, found = _attach(run, _timings("+ +seq +seq.0 -seq.0 -seq -", (1.0,), (0.1,), (2.0,), (0.2,), (0.3,)))
    assert found == {("", "(ops)"): (pytest.approx(1.6),), ("seq.0", "Linear"): (2.0,)}


def test_where_no_container_has_own_ops_a_gap_goes_to_what_runs_next() -> None:
    run = Run()
    seen = run.input(1, 4)
    for name in ("x", "y"):
        with run.call(name, "Linear"):
            seen = run.linear(seen, run.parameter(f"{name}.weight", 4, 4))
    _, found = _attach(run, _timings("+ +x -x +y -y -", (0.1,), (1.0,), (0.2,), (2.0,), (0.4,)))
    expected = {("x", "Linear"): (pytest.approx(1.1),), ("y", "Linear"): (pytest.approx(2.6),)}
    assert found == expected


def test_a_stretch_with_ops_of_two_layers_is_split_by_their_bytes() -> None:
    run = Run()
    image = run.input(1, 8, 4, 4)
    with run.call("conv", "Conv2d"):
        image = run.conv(image, run.parameter("conv.weight", 8, 8, 1, 1))
    first, rest = run.channels(image, 2, 6)
    with run.call("mix", "Conv2d"):
        mixed = run.conv(first, run.parameter("mix.weight", 2, 2, 3, 3))
    image = run.cat(mixed, rest)  # the PConv's: 128 numbers read, 128 written
    run.op("aten::relu", run.op("aten::relu", run.op("aten::relu", image)))  # three times as much
    _, found = _attach(run, _timings("+ +conv -conv +mix -mix -", (0.0,), (1.0,), (0.5,), (2.0,), (8.0,)))
    assert found == {
        ("conv", "Conv2d"): (1.0,),
        ("", "(pconv)"): (0.5 + 2.0 + 2.0,),  # its views, its convolution, a quarter of the last stretch
        ("", "(ops)"): (6.0,),
    }


def test_another_sequence_is_matched_by_path_and_said() -> None:
    boundaries = "+ +a -a +b +b.d -b.d -b -"
    stretches = [(0.1,), (1.0,), (2.0,), (0.2,), (4.0,), (8.0,), (0.4,)]
    times, found = _attach(_net(), _timings(boundaries, *stretches))
    assert len(times.warnings) == 1
    assert found == {
        ("a", "Linear"): (1.0,),
        ("", "(ops)"): (pytest.approx(2.5),),
        ("b.c", "Linear"): (0.0,),
        ("b", "(ops)"): (pytest.approx(12.2),),  # b.d is unknown: its container has it
    }


def test_latency_is_the_mean_over_the_fastest_half_of_whole_rounds() -> None:
    # by whole rounds: 10, 30, 20, 40: the fastest half are the first and the third
    timings = _timings(
        "+ -", (1.0, 2.0, 4.0, 8.0), instrumented=(10.0, 30.0, 20.0, 40.0)
    )  # fmt: skip
    run = Run("ReLU")
    run.op("aten::relu", run.input(1, 4))
    trace, layers = _layers(run)
    (layer,) = with_latency(layers, by_layer(layers, timings, trace=trace, costs=run.costs))
    assert layer.latency_s == (1.0 + 4.0) / 2
    # 10th percentile of 1, 2, 4, 8: a place of 0.3 between the first and the second
    assert layer.latency_floor_s == pytest.approx(1.3)
    assert layer.samples == 4


def test_a_module_that_never_ran_has_no_latency() -> None:
    run = _net()
    run.parameter("spare.weight", 3)
    trace, layers = _layers(run)
    timed = with_latency(
        layers, by_layer(layers, _timings(_NET, *[(1.0,)] * 7), trace=trace, costs=run.costs)
    )
    spare = next(layer for layer in timed if layer.path == "spare")
    assert (spare.latency_s, spare.latency_floor_s, spare.samples) == (None, None, None)


def test_rows_of_the_whole_add_up_to_the_bare_median() -> None:
    run = _net()
    trace, layers = _layers(run)
    timings = _timings(_NET, *[(1.0, 3.0)] * 7)
    timed = with_latency(layers, by_layer(layers, timings, trace=trace, costs=run.costs))
    rows = rows_of_the_whole(timed, timings)
    # layers: 7 stretches of 1 s in the faster round; 0.5 s is the instrument's; the bare median is 10 s
    assert [(row.name, row.latency_s) for row in rows] == [
        ("layers", pytest.approx(7.0)), ("instrumentation", -0.5), ("interference", pytest.approx(3.5))
    ]  # fmt: skip
    assert sum(row.latency_s for row in rows) == pytest.approx(10.0)


def _tree(run: Run, timings: Timings) -> dict[str, float | None]:
    trace, layers = _layers(run)
    rows = tree(trace, run.costs, kinds=kinds(trace), layers=layers)
    return {row.path: row.latency_s for row in tree_with_latency(rows, timings, trace=trace)}


def test_tree_latencies_are_inclusive() -> None:
    found = _tree(_net(), _timings(_NET, (0.1,), (1.0,), (2.0,), (0.2,), (4.0,), (8.0,), (0.4,)))
    assert found == {"": pytest.approx(15.7), "a": 1.0, "b": pytest.approx(12.2), "b.c": 4.0}


def test_a_module_inside_itself_and_a_list_of_modules_count_once() -> None:
    run = Run()
    run.register("list", "ModuleList")
    with run.call("list.rec", "Recursive"):
        run.op("aten::relu", run.input(1, 4))
        with run.call("list.rec", "Recursive"):
            run.op("aten::relu", run.input(1, 4))
    boundaries = "+ +list.rec +list.rec -list.rec -list.rec -"
    found = _tree(run, _timings(boundaries, (0.1,), (1.0,), (2.0,), (4.0,), (0.2,)))
    assert found == {"": pytest.approx(7.3), "list": 7.0, "list.rec": 7.0}


@pytest.mark.parametrize("stretches", [[], [(1.0,)] * 6, [()] * 7, [(1.0,)] * 6 + [(1.0, 2.0)]])
def test_timings_that_do_not_fit_are_refused(stretches) -> None:
    timings = replace(_timings(_NET, *[(1.0,)] * 7), stretches=tuple(stretches))
    with pytest.raises(MeasurementError) as refused:
        _attach(_net(), timings)
    assert refused.value.hint


# --------------------------------------------------------------------------- what surrounds a latency


def test_the_interval_is_the_range_of_the_epochs_floors_widened_by_what_processes_differ() -> None:
    run = Run("ReLU")
    run.op("aten::relu", run.input(1, 4))
    trace, layers = _layers(run)
    timings = replace(_timings("+ -", (2.0, 2.0, 3.0, 3.0)), epochs=(0, 0, 1, 1))
    (layer,) = with_latency(layers, by_layer(layers, timings, trace=trace, costs=run.costs))
    # The epochs' floors are 2 and 3; processes differ by 10 % more.
    assert layer.latency_low_s == pytest.approx(2.0 * 0.9)
    assert layer.latency_high_s == pytest.approx(3.0 * 1.1)
    assert layer.latency_floor_s == 2.0


def test_one_epoch_gives_no_interval() -> None:
    run = Run("ReLU")
    run.op("aten::relu", run.input(1, 4))
    trace, layers = _layers(run)
    timings = replace(_timings("+ -", (2.0, 3.0)), epochs=(0, 0))
    (layer,) = with_latency(layers, by_layer(layers, timings, trace=trace, costs=run.costs))
    assert (layer.latency_low_s, layer.latency_high_s) == (None, None)


def test_the_whole_has_the_bare_median_and_an_interval() -> None:
    run = _net()
    trace, _ = _layers(run)
    timings = replace(_timings(_NET, *[(1.0, 1.0, 1.0)] * 7), epochs=(0, 0, 1))
    whole = with_latency_of_the_whole(total(trace, run.costs), timings)
    # bare passes of 9, 10 and 11 s: the floor lies 0.2 of the way from 9 to 10; epochs' floors: 9.1, 11
    assert (whole.latency_s, whole.samples) == (10.0, 3)
    assert whole.latency_floor_s == pytest.approx(9.2)
    assert whole.latency_low_s == pytest.approx(9.1 * 0.9)
    assert whole.latency_high_s == pytest.approx(11.0 * 1.1)


def test_time_without_an_operator_is_idle() -> None:
    #             before a   in a    relu    before c  in c     relu    after b
    stretches = [(0.1,), (1.0,), (2.0,), (0.2,), (4.0,), (8.0,), (0.4,)]
    run = _net()
    trace, layers = _layers(run)
    times = by_layer(layers, _timings(_NET, *stretches), trace=trace, costs=run.costs)
    idle = {(layer.path, layer.type): idle for layer, idle in zip(layers, times.idle_s, strict=True)}
    assert idle == {
        ("a", "Linear"): 0.0,
        ("", "(ops)"): pytest.approx(0.1 + 0.4),
        ("b.c", "Linear"): 0.0,
        ("b", "(ops)"): 0.2,
    }


def test_what_the_system_told_by_stretch_is_joined_by_layer() -> None:
    run = _net()
    trace, layers = _layers(run)
    seen = Witnesses(
        wall_s=1.0,
        stretch_faults=(1.0, 10.0, 100.0, 3.0, 30.0, 300.0, 1000.0),
        stretch_waits=(0.1, 0.5, 0.2, 0.0, 1.0, 0.3, 0.4),
    )
    timings = replace(_timings(_NET, *[(1.0,)] * 7), witnesses=seen)
    times = by_layer(layers, timings, trace=trace, costs=run.costs)
    told = {
        (layer.path, layer.type): (faults, waits)
        for layer, faults, waits in zip(layers, times.faults, times.waits, strict=True)
    }
    # Faults add up; of waiting, the stretch that waited most often speaks.
    assert told == {
        ("a", "Linear"): (10.0, 0.5),
        ("", "(ops)"): (1101.0, 0.4),
        ("b.c", "Linear"): (30.0, 1.0),
        ("b", "(ops)"): (303.0, 0.3),
    }


def test_floors_of_other_processes_widen_the_interval() -> None:
    run = Run("ReLU")
    run.op("aten::relu", run.input(1, 4))
    trace, layers = _layers(run)
    timings = replace(
        _timings("+ -", (2.0, 2.0)),
        epochs=(0, 0),
        repeats=(_timings("+ -", (1.0, 1.0)), _timings("+ -", (4.0, 4.0)), _timings("+ +x -x -", (9.0,))),
    )
    (layer,) = with_latency(layers, by_layer(layers, timings, trace=trace, costs=run.costs))
    assert layer.latency_floor_s == 2.0
    # from 1 to 4 seconds and 10 % on either side; the fourth process took another path
    assert layer.latency_low_s == pytest.approx(0.9)
    assert layer.latency_high_s == pytest.approx(4.4)


@pytest.mark.parametrize(
    ("bare", "share"),
    [
        ((0, 0, 0), 0.0),  # no pass as it is faults at all: what counting passes fault in is their own
        ((111, 111, 5000), 0.5),  # half of the 222 that a counting pass saw, whatever one pass did
        ((222, 222, 222), 1.0),
        ((999, 999, 999), 1.0),  # never more than was counted in a layer
    ],
)
def test_page_faults_of_layers_add_up_to_no_more_than_a_bare_pass_has(bare, share: float) -> None:
    run = _net()
    trace, layers = _layers(run)
    seen = Witnesses(wall_s=1.0, faults=bare, stretch_faults=(0.0, 22.0, 0.0, 0.0, 200.0, 0.0, 0.0))
    timings = replace(_timings(_NET, *[(1.0,)] * 7), witnesses=seen)
    times = by_layer(layers, timings, trace=trace, costs=run.costs)
    told = {layer.path: faults for layer, faults in zip(layers, times.faults, strict=True) if faults}
    assert told == ({"a": 22 * share, "b.c": 200 * share} if share else {})
