"""Timings of the stretches between module boundaries -> the latency of layers and tree rows.

An instrumented round is a sequence of boundaries: a module is entered ("+path") or left
("-path"). The time between two boundaries belongs to the ops that ran there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from statistics import median

from flopscope.errors import MeasurementError
from flopscope.records import Layer, OpCost, Timings, Trace, WholeRow

from .ownership import OPS, ancestors
from .partition import assignment
from .tree import labels_of

_FLOOR = 0.1  # the floor is the 10th percentile over all rounds: a minimum would reward luck

Share = tuple[int, float]


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """Seconds by layer and by round (`seconds[layer][round]`), and what is doubtful about them."""

    seconds: tuple[tuple[float, ...], ...]
    fastest: tuple[int, ...]
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
    expected, positions = _boundaries(trace)
    warnings: tuple[str, ...] = ()
    if tuple(expected) == timings.boundaries:
        shares = _shares_by_order(layers, trace, costs, positions)
    else:
        shares = _shares_by_path(layers, timings.boundaries)
        warnings = (
            "the timed run entered other modules than the counted one; latencies are matched by path",
        )
    seconds = [[0.0] * rounds for _ in layers]
    for stretch, shared in zip(timings.stretches, shares, strict=True):
        for layer, share in shared:
            seconds[layer] = [held + share * more for held, more in zip(seconds[layer], stretch, strict=True)]
    return LayerTimes(tuple(tuple(row) for row in seconds), _fastest(timings, rounds), warnings)


def with_latency(layers: Sequence[Layer], times: LayerTimes) -> tuple[Layer, ...]:
    """Put latencies into a partition.

    `latency_s` is the mean over the fastest half of whole rounds, and so adds up over layers;
    `latency_floor_s` the 10th percentile over all rounds. A layer that never ran keeps None.
    """
    return tuple(
        _timed(layer, seconds, times.fastest) if layer.calls or layer.ops else layer
        for layer, seconds in zip(layers, times.seconds, strict=True)
    )


def tree_with_latency(tree: Sequence[Layer], timings: Timings, *, trace: Trace) -> tuple[Layer, ...]:
    """Put inclusive latencies into a tree: all the time during which a module was open."""
    rounds = _rounds(timings)
    fastest = _fastest(timings, rounds)
    inclusive = _inclusive(timings, trace, rounds)
    return tuple(
        _timed(branch, inclusive[branch.path], fastest) if branch.path in inclusive else branch
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
    if len(timings.stretches) != max(len(timings.boundaries) - 1, 0) or len(counts) != 1 or counts == {0}:
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


def _timed(layer: Layer, seconds: Sequence[float], fastest: Sequence[int]) -> Layer:
    return replace(
        layer,
        latency_s=sum(seconds[at] for at in fastest) / len(fastest),
        latency_floor_s=_percentile(seconds, _FLOOR),
        samples=len(seconds),
    )


def _percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie, interpolated between neighbours."""
    ranked = sorted(values)
    place = share * (len(ranked) - 1)
    below = int(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (place - below) * (ranked[above] - ranked[below])


# --------------------------------------------------------------------------- which ops ran when


def _boundaries(trace: Trace) -> tuple[list[str], list[int]]:
    """The boundaries of the counted run, and how many ops had run at each."""
    names: list[str] = []
    positions: list[int] = []
    stack: list[int] = []

    def leave() -> None:
        call = trace.calls[stack.pop()]
        names.append(f"-{call.path}")
        positions.append(call.end_op)

    for index, call in enumerate(trace.calls):
        while stack and stack[-1] != call.parent:
            leave()
        stack.append(index)
        names.append(f"+{call.path}")
        positions.append(call.first_op)
    while stack:
        leave()
    return names, positions


def _open_calls(trace: Trace) -> Iterator[int]:
    """For each stretch of the counted run, the innermost call that is open in it."""
    stack: list[int] = []
    for index, call in enumerate(trace.calls):
        while stack and stack[-1] != call.parent:
            stack.pop()
            if stack:
                yield stack[-1]
        stack.append(index)
        yield index
    while len(stack) > 1:
        stack.pop()
        yield stack[-1]


def _shares_by_order(
    layers: Sequence[Layer], trace: Trace, costs: Sequence[OpCost], positions: Sequence[int]
) -> list[list[Share]]:
    """The layers of each stretch, by the ops that ran in it."""
    home = assignment(layers, len(trace.ops))
    owner = _owner_of_idle_time(layers)
    shares = []
    for stretch, call in enumerate(_open_calls(trace)):
        ran = range(positions[stretch], positions[stretch + 1])
        found = {home[index] for index in ran}
        if len(found) > 1:
            shares.append(_by_bytes(ran, home, costs))
        elif found:
            shares.append([(found.pop(), 1.0)])
        else:
            shares.append([(_idle_owner(trace, call, owner, home, positions[stretch]), 1.0)])
    return shares


def _by_bytes(ran: range, home: Sequence[int], costs: Sequence[OpCost]) -> list[Share]:
    """Split a stretch between its layers in proportion to the bytes that their ops move."""
    moved: dict[int, int] = {}
    for index in ran:
        cost = costs[index].cost
        moved[home[index]] = moved.get(home[index], 0) + cost.bytes_read + cost.bytes_written
    whole = sum(moved.values())
    return [(layer, amount / whole if whole else 1 / len(moved)) for layer, amount in moved.items()]


def _owner_of_idle_time(layers: Sequence[Layer]) -> Callable[[str], int | None]:
    """By path: a leaf's or block's own layer, else the container's "(ops)"."""
    whole = {layer.path: index for index, layer in enumerate(layers) if not layer.type.startswith("(")}
    own = {layer.path: index for index, layer in enumerate(layers) if layer.type == OPS}

    def find(path: str) -> int | None:
        return whole.get(path, own.get(path))

    return find


def _idle_owner(
    trace: Trace, call: int, owner: Callable[[str], int | None], home: Sequence[int], position: int
) -> int:
    """Whose a stretch without ops is: the open call's, one round it, the next op's, the last's."""
    above: int | None = call
    while above is not None:
        found = owner(trace.calls[above].path)
        if found is not None:
            return found
        above = trace.calls[above].parent
    return home[min(position, len(home) - 1)] if home else 0


def _shares_by_path(layers: Sequence[Layer], boundaries: Sequence[str]) -> list[list[Share]]:
    """The layer of each stretch by the innermost open path that has one."""
    owner = _owner_of_idle_time(layers)
    shares: list[list[Share]] = []
    for stack in _open_paths(boundaries):
        innermost = stack[-1] if stack else ""
        candidates = (owner(path) for path in (*reversed(stack), *ancestors(innermost)))
        shares.append([(next((found for found in candidates if found is not None), 0), 1.0)])
    return shares


def _open_paths(boundaries: Sequence[str]) -> Iterator[list[str]]:
    """For each stretch, the paths that are open in it, outermost first."""
    stack: list[str] = []
    for boundary in boundaries[:-1]:
        if boundary.startswith("+"):
            stack.append(boundary[1:])
        elif stack:
            stack.pop()
        yield stack


# --------------------------------------------------------------------------- inclusive times


def _inclusive(timings: Timings, trace: Trace, rounds: int) -> dict[str, list[float]]:
    """Seconds by round during which each path was open; a path inside itself counts once."""
    paths = [boundary[1:] for boundary in timings.boundaries if boundary.startswith("+")]
    labels = labels_of(trace.modules, paths)
    found: dict[str, list[float]] = {}
    running: dict[str, int] = {}
    frames: list[tuple[str, list[float]]] = []
    for boundary, stretch in zip(timings.boundaries, (*timings.stretches, None), strict=True):
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
    return found


def _add(held: list[float], more: Sequence[float]) -> None:
    for at, value in enumerate(more):
        held[at] += value
