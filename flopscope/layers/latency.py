"""Timings of the stretches between module boundaries -> the latency of layers and tree rows.

An instrumented round is a sequence of boundaries: a module is entered ("+path") or left
("-path"). The time between two boundaries belongs to the ops that ran there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from statistics import median

from flopscope.errors import MeasurementError
from flopscope.records import Layer, OpCost, Timings, Trace, WholeRow, Witnesses, percentile

from .ownership import LOSS, OPTIMIZER, ancestors
from .stretches import Share, boundaries, shares_by_order, shares_by_path, shares_of_the_rest
from .tree import labels_of

_FLOOR = 0.1

PROCESS_SPREAD = 0.1
"""How far the floors of one layer lie apart, from process to process, besides what epochs show: the median
over the larger layers of MobileNetV3-Large was 9 % on a shared virtual machine (benchmarks/accuracy.py)."""


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """Seconds by layer and by round (`seconds[layer][round]`), and what is doubtful about them.

    By layer besides, or empty where the system did not tell: `idle_s`, the floor of the time in which
    no operator ran; `faults` of one pass; `waits`, the share of passes in which it waited for a processor;
    `elsewhere`, its floors in other processes. Of a training step, `backward` holds the seconds by round
    that are the backward's.
    """

    seconds: tuple[tuple[float, ...], ...]
    fastest: tuple[int, ...]
    epochs: tuple[int, ...] = ()
    idle_s: tuple[float | None, ...] = ()
    faults: tuple[float | None, ...] = ()
    waits: tuple[float | None, ...] = ()
    elsewhere: tuple[tuple[float, ...], ...] = ()
    backward: tuple[tuple[float, ...], ...] = ()
    warnings: tuple[str, ...] = ()


def by_layer(
    layers: Sequence[Layer], timings: Timings, *, trace: Trace, costs: Sequence[OpCost]
) -> LayerTimes:
    """Give the time of every stretch to the layers whose ops ran in it.

    A stretch with ops of several layers is split in proportion to the bytes that they move, or
    equally where none are; one without ops goes to the innermost open module's layer. Where the
    boundaries are not those of the trace, stretches are matched by path, and a warning says so.

    Args:
        layers: the partition.
        timings: the measurement, of the same model.
        trace: the run that the layers describe.
        costs: one price per op.

    Raises:
        MeasurementError: the timings hold no round, or stretches do not fit the boundaries.
    """
    rounds = _rounds(timings)
    expected, positions = boundaries(trace)
    warnings: tuple[str, ...] = ()
    empty: list[bool] | None = None
    if tuple(expected) == timings.boundaries:
        shares = shares_by_order(layers, trace, costs, positions)
        empty = [before == after for before, after in pairwise(positions)] + [False] * len(timings.later)
    else:
        shares = shares_by_path(layers, timings.boundaries)
        warnings = (
            "the timed run entered other modules than the counted one; latencies are matched by path",
        )
    shares += shares_of_the_rest(layers, trace, costs, timings.later)
    seen = timings.witnesses
    idle: tuple[float | None, ...] = (None,) * len(layers)
    if empty is not None:
        idle = tuple(_floor(row) for row in _added(len(layers), timings, shares, empty))
    others = [_added(len(layers), other, shares) for other in timings.repeats if _alike(other, timings)]
    return LayerTimes(
        tuple(tuple(row) for row in _added(len(layers), timings, shares)),
        _fastest(timings, rounds),
        epochs=timings.epochs,
        idle_s=idle,
        faults=_told(len(layers), shares, _faults_of_every_pass(seen), sum),
        waits=_told(len(layers), shares, seen.stretch_waits if seen else None, max),
        elsewhere=tuple(tuple(_floor(other[layer]) for other in others) for layer in range(len(layers))),
        backward=_backward(len(layers), timings, shares),
        warnings=warnings,
    )


def with_latency(layers: Sequence[Layer], times: LayerTimes) -> tuple[Layer, ...]:
    """Put latencies into a partition.

    `latency_s` is the mean over the fastest half of whole rounds, and so adds up over layers;
    `latency_floor_s` the 10th percentile over all rounds, `latency_low_s` to `latency_high_s` the range
    of the floors of the epochs and of other processes, widened by what processes differ. A layer that
    never ran keeps None.
    """
    elsewhere = times.elsewhere or ((),) * len(layers)
    timed = tuple(
        _timed(layer, seconds, times.fastest, times.epochs, others) if layer.calls or layer.ops else layer
        for layer, seconds, others in zip(layers, times.seconds, elsewhere, strict=True)
    )
    if not times.backward:
        return timed
    return tuple(
        replace(layer, backward_s=_fast_mean(seconds, times.fastest))
        if layer.latency_s is not None
        else layer
        for layer, seconds in zip(timed, times.backward, strict=True)
    )


def with_latency_of_the_whole(total: Layer, timings: Timings) -> Layer:
    """Put the bare model's latencies into the total: the median, the floor and its interval."""
    others = [_floor(other.bare.samples) for other in timings.repeats]
    floor, low, high = _floor_and_interval(timings.bare.samples, timings.epochs, others)
    return replace(
        total,
        latency_s=median(timings.bare.samples),
        latency_floor_s=floor,
        latency_low_s=low,
        latency_high_s=high,
        samples=len(timings.bare.samples),
    )


def tree_with_latency(tree: Sequence[Layer], timings: Timings, *, trace: Trace) -> tuple[Layer, ...]:
    """Put inclusive latencies into a tree: all the time during which a module was open."""
    rounds = _rounds(timings)
    fastest = _fastest(timings, rounds)
    inclusive = _inclusive(timings, trace, rounds)
    return tuple(
        _timed(branch, inclusive[branch.path], fastest, timings.epochs)
        if branch.path in inclusive
        else branch
        for branch in tree
    )


def rows_of_the_whole(layers: Sequence[Layer], timings: Timings) -> tuple[WholeRow, ...]:
    """Say how the layers' latencies make up the bare model's median.

    "layers" is their sum, "instrumentation" takes away what the instrument added to it, and
    "interference" is what is left: how the bare rounds differ from the instrumented ones.
    """
    own = sum(layer.latency_s or 0.0 for layer in layers)
    instrument = 0.0 - timings.instrument_s
    rest = median(timings.bare.samples) - (own + instrument)
    return (
        WholeRow("layers", own),
        WholeRow("instrumentation", instrument),
        WholeRow("interference", rest),
    )


def _rounds(timings: Timings) -> int:
    """The number of whole rounds, after checking that stretches and boundaries fit."""
    counts = {len(stretch) for stretch in timings.stretches}
    expected = max(len(timings.boundaries) - 1, 0) + len(timings.later)
    if len(timings.stretches) != expected or len(counts) != 1 or counts == {0}:
        raise MeasurementError(
            f"{len(timings.stretches)} stretches of {sorted(counts)} rounds were given for"
            f" {len(timings.boundaries)} boundaries; one stretch is expected between each two,"
            " all of the same number of rounds",
            hint="measure again; the measurement was cut short or its record is damaged",
        )
    return counts.pop()


def _fastest(timings: Timings, rounds: int) -> tuple[int, ...]:
    """The faster half of the whole rounds; all layers share it, so that their means add up."""
    totals = timings.instrumented.samples
    if len(totals) != rounds:
        totals = tuple(sum(stretch[at] for stretch in timings.stretches) for at in range(rounds))
    ranked = sorted(range(rounds), key=totals.__getitem__)
    return tuple(sorted(ranked[: ceil(rounds / 2)]))


def _added(
    count: int,
    timings: Timings,
    shares: Sequence[Sequence[Share]],
    wanted: Sequence[bool] | None = None,
) -> list[list[float]]:
    """Seconds by layer and round: the sum of its shares of all stretches, or of those that are wanted."""
    rounds = len(timings.stretches[0])
    seconds = [[0.0] * rounds for _ in range(count)]
    for place, (stretch, shared) in enumerate(zip(timings.stretches, shares, strict=True)):
        if wanted is None or wanted[place]:
            for layer, share in shared:
                seconds[layer] = [
                    held + share * more for held, more in zip(seconds[layer], stretch, strict=True)
                ]
    return seconds


def _faults_of_every_pass(seen: Witnesses | None) -> tuple[float, ...] | None:
    """Page faults by stretch, together no more than a bare pass has.

    The few passes that count them by stretch tell where they are, the many bare ones how many: a heap that
    happens to grow in a counting pass does not do so in every pass.
    """
    if seen is None or seen.stretch_faults is None or not seen.faults:
        return None if seen is None else seen.stretch_faults
    counted = sum(seen.stretch_faults)
    share = min(1.0, median(seen.faults) / counted) if counted else 1.0
    return tuple(share * amount for amount in seen.stretch_faults)


def _told(
    count: int,
    shares: Sequence[Sequence[Share]],
    by_stretch: Sequence[float] | None,
    joined: Callable[[list[float]], float],
) -> tuple[float | None, ...]:
    """What the system told by stretch, joined by layer; None where it told nothing."""
    if by_stretch is None:
        return (None,) * count
    found: list[list[float]] = [[] for _ in range(count)]
    for amount, shared in zip(by_stretch, shares, strict=True):
        for layer, share in shared:
            found[layer].append(amount * share if joined is sum else amount)
    return tuple(joined(amounts) if amounts else None for amounts in found)


def _backward(
    count: int, timings: Timings, shares: Sequence[Sequence[Share]]
) -> tuple[tuple[float, ...], ...]:
    """Seconds by layer and round of the backward; empty where there was none."""
    if not timings.later:
        return ()
    forward = len(shares) - len(timings.later)
    wanted = [False] * forward + [label not in (LOSS, OPTIMIZER) for label in timings.later]
    return tuple(tuple(row) for row in _added(count, timings, shares, wanted))


def _fast_mean(seconds: Sequence[float], fastest: Sequence[int]) -> float:
    return sum(seconds[at] for at in fastest) / len(fastest)


def _timed(
    layer: Layer,
    seconds: Sequence[float],
    fastest: Sequence[int],
    epochs: Sequence[int],
    elsewhere: Sequence[float] = (),
) -> Layer:
    floor, low, high = _floor_and_interval(seconds, epochs, elsewhere)
    return replace(
        layer,
        latency_s=_fast_mean(seconds, fastest),
        latency_floor_s=floor,
        latency_low_s=low,
        latency_high_s=high,
        samples=len(seconds),
    )


def _alike(one: Timings, other: Timings) -> bool:
    return one.boundaries == other.boundaries and bool(one.stretches)


def _floor_and_interval(
    seconds: Sequence[float], epochs: Sequence[int], elsewhere: Sequence[float] = ()
) -> tuple[float, float | None, float | None]:
    """The floor of all rounds, and the range of all floors known; None where there is but one."""
    floor = _floor(seconds)
    by_epoch: dict[int, list[float]] = {}
    for epoch, value in zip(epochs, seconds, strict=False):
        by_epoch.setdefault(epoch, []).append(value)
    floors = [*(_floor(values) for values in by_epoch.values()), *elsewhere]
    if len(floors) < 2:
        return floor, None, None
    return floor, min(floor, *floors) * (1 - PROCESS_SPREAD), max(floor, *floors) * (1 + PROCESS_SPREAD)


def _floor(seconds: Sequence[float]) -> float:
    """The 10th percentile: a minimum would reward luck."""
    return percentile(seconds, _FLOOR)


# --------------------------------------------------------------------------- inclusive times


def _inclusive(timings: Timings, trace: Trace, rounds: int) -> dict[str, list[float]]:
    """Seconds by round during which each path was open; a path inside itself counts once."""
    paths = [boundary[1:] for boundary in timings.boundaries if boundary.startswith("+")]
    labels = labels_of(trace.modules, paths)
    found: dict[str, list[float]] = {}
    running: dict[str, int] = {}
    frames: list[tuple[str, list[float]]] = []
    forward = timings.stretches[: max(len(timings.boundaries) - 1, 0)]
    for boundary, stretch in zip(timings.boundaries, (*forward, None), strict=True):
        if boundary.startswith("+"):
            frames.append((boundary[1:], [0.0] * rounds))
            for label in labels[boundary[1:]]:
                running[label] = running.get(label, 0) + 1
        elif frames:
            path, seconds = frames.pop()
            if frames:
                _add(frames[-1][1], seconds)
            for label in labels[path]:
                running[label] -= 1
                if not running[label]:
                    _add(found.setdefault(label, [0.0] * rounds), seconds)
        if stretch is not None and frames:
            _add(frames[-1][1], stretch)
    for label, stretch in zip(timings.later, timings.stretches[len(forward) :], strict=True):
        for path in (label, *ancestors(label)) if label not in (LOSS, OPTIMIZER) else ("",):
            _add(found.setdefault(path, [0.0] * rounds), stretch)
    return found


def _add(held: list[float], more: Sequence[float]) -> None:
    for at, value in enumerate(more):
        held[at] += value
