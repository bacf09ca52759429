"""Report -> one run as a tree of spans: modules over layers, in execution order, without gaps.

No clock recorded this run. It is put together: where each layer ran is known from the order of its
operators, how long from its latency. A layer that ran in several places has equal shares of its latency in
them, for nothing measured tells them apart; so the spans add up to the latencies of the layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from flopscope.errors import InputError

if TYPE_CHECKING:
    from flopscope.records import Layer
    from flopscope.reports import Report

_LOSS, _OPTIMIZER = "(loss)", "(optimizer)"
_FORWARD, _BACKWARD = "(forward)", "(backward)"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the run in which a module, or a layer, was at work; from `begin` to `end` in nanoseconds.

    `layer` indexes `Report.layers` where the span is one of a layer's `places`; else it is a container's, or
    a phase's of a training step, and lies over its `inner` spans without a gap. `ops` indexes `Report.ops`.
    """

    path: str
    type: str
    begin: int
    end: int
    ops: tuple[int, ...] = ()
    layer: int | None = None
    places: int = 1
    inner: tuple[Span, ...] = ()

    @property
    def name(self) -> str:
        """The module's path and type; the root has no path."""
        return f"{self.path} {self.type}".strip()

    def walk(self) -> Iterator[Span]:
        """This span and all in it, by their beginning, the outer ones first."""
        yield self
        for span in self.inner:
            yield from span.walk()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a layer ran: its ops there, or, without any, the op before which it ran (`at`)."""

    layer: int
    phase: str
    ops: tuple[int, ...]
    at: float


_Frame = tuple[str, str, int]
"""A path, a type, and which of its calls."""


def timeline(report: Report, *, grain: int = 1) -> tuple[Span, ...]:
    """The spans of the run; of a model there is one, the root's.

    Args:
        report: what was measured.
        grain: nanoseconds to whose multiples all edges are rounded.

    Raises:
        InputError: No latencies were measured.
    """
    seconds = [layer.latency_s for layer in report.layers]
    if not any(seconds):
        raise InputError(
            "a timeline needs latencies, and this report has none",
            hint="make it by flopscope.profile, or by flopscope report without --no-latency",
        )
    places = _places(report)
    counts = _counts(places)
    bounds = [0.0]
    for place in places:
        bounds.append(
            bounds[-1] + _seconds(report.layers[place.layer], place) / counts[place.layer, place.phase]
        )
    ticks = [grain * round(1e9 * bound / grain) for bound in bounds]
    leaves = [
        Span(layer.path, layer.type, begin, end, place.ops, place.layer, counts[place.layer, place.phase])
        for place, (begin, end) in zip(places, pairwise(ticks), strict=True)
        for layer in (report.layers[place.layer],)
    ]
    chains = _chains(report, places)
    shown = [(chain, leaf) for chain, leaf in zip(chains, leaves, strict=True) if leaf.end > leaf.begin]
    return _nested(shown, 0)


def basis(report: Report) -> str:
    """What the timeline is, in a sentence to stand with it."""
    rounds = max((layer.samples or 0 for layer in report.layers), default=0)
    measured = f"measured in {rounds} rounds, " if rounds else ""
    return (
        f"A typical run, not a recorded one: latencies of the layers, {measured}laid end to end in the order"
        " in which they ran. A layer that ran several times has equal shares of its latency; a container's"
        " own time stands where its own operators ran."
    )


def _seconds(layer: Layer, place: _Place) -> float:
    """What of a layer's latency belongs to the phase of a place."""
    backward = layer.backward_s or 0.0
    if place.phase == _BACKWARD:
        return backward
    return max(0.0, (layer.latency_s or 0.0) - (backward if place.phase == _FORWARD else 0.0))


def _counts(places: Sequence[_Place]) -> dict[tuple[int, str], int]:
    counts: dict[tuple[int, str], int] = {}
    for place in places:
        counts[place.layer, place.phase] = counts.get((place.layer, place.phase), 0) + 1
    return counts


# --------------------------------------------------------------------------- places


def _places(report: Report) -> list[_Place]:
    """Where the layers ran, in order; those without an operator where their neighbours in the report ran."""
    phases = _phases(report)
    paths = dict(enumerate(op.path for op in report.ops))
    home = {at: place for place, layer in enumerate(report.layers) for at in layer.ops if at in paths}
    single = [{paths.get(at) for at in layer.ops} == {layer.path} for layer in report.layers]

    def stretch(index: int) -> tuple[int, str, int]:
        """Neighbours with one key are one place: those of one layer, and of one call where that is told."""
        layer = home[index]
        return layer, phases[index], report.ops[index].call if single[layer] else -1

    found = []
    for (layer, phase, _), members in groupby(sorted(home), key=stretch):
        ops = tuple(members)
        found.append(_Place(layer, phase, ops, ops[0]))
    return sorted([*found, *_unseen(report, found)], key=lambda place: place.at)


def _phases(report: Report) -> list[str]:
    """The phase of every op; "" of all where only a forward pass ran.

    What follows the first op of the loss and is neither the loss's nor the optimizer's is the backward.
    """
    if not report.phases:
        return [""] * len(report.ops)
    outside = {
        index: layer.type
        for layer in report.layers
        if layer.type in (_LOSS, _OPTIMIZER)
        for index in layer.ops
    }
    turn = min(outside, default=len(report.ops))
    return [outside.get(index, _FORWARD if index < turn else _BACKWARD) for index in range(len(report.ops))]


def _unseen(report: Report, seen: Sequence[_Place]) -> Iterator[_Place]:
    """Places for time that no op tells the place of: modules that run none, gradients that need none."""
    forward = [place for place in seen if place.phase in ("", _FORWARD)]
    backward = [place for place in seen if place.phase == _BACKWARD]
    firsts = {place.layer: number for number, place in reversed(list(enumerate(forward)))}
    differentiated = {place.layer for place in backward}
    for number, layer in enumerate(report.layers):
        if layer.latency_s and not layer.ops:
            # Layers stand in the report by their first execution: this one's lies between its neighbours'.
            low = 1 + max((firsts[other] for other in range(number) if other in firsts), default=-1)
            later = range(number + 1, len(report.layers))
            high = min((firsts[other] for other in later if other in firsts), default=len(forward))
            at = _gap(report, layer.path, forward, range(low, max(low, high) + 1))
            yield _Place(number, _FORWARD if report.phases else "", (), at)
        if layer.backward_s and number not in differentiated:
            # What is left of a forward backwards comes first: of equal gaps the earliest.
            at = _gap(report, layer.path, backward, range(len(backward), -1, -1))
            yield _Place(number, _BACKWARD, (), at if backward else len(report.ops))


def _gap(report: Report, path: str, run: Sequence[_Place], gaps: Sequence[int]) -> float:
    """Before which op a layer fits best: between places that share most of its path; of equals the last.

    Gap `k` is that before `run[k]`.
    """

    def fit(gap: int) -> int:
        beside = run[max(gap - 1, 0) : gap + 1]
        return min((_common(path, report.layers[place.layer].path) for place in beside), default=0)

    best = max(fit(gap) for gap in gaps)
    chosen = [gap for gap in gaps if fit(gap) == best][-1]
    if chosen < len(run):
        return run[chosen].at - 0.5
    return run[-1].ops[-1] + 0.5 if run else -0.5


def _common(one: str, other: str) -> int:
    """How many names two paths begin with in common."""
    pairs = list(zip(one.split("."), other.split("."), strict=False))
    return next((number for number, (mine, its) in enumerate(pairs) if mine != its), len(pairs))


# --------------------------------------------------------------------------- nesting


def _chains(report: Report, places: Sequence[_Place]) -> list[tuple[_Frame, ...]]:
    """For every place the frames that are open round it, the outermost first."""
    types = {branch.path: branch.type for branch in report.tree}
    numbers = _numbers(report, places)
    chains = []
    for place, of in zip(places, numbers, strict=True):
        layer = report.layers[place.layer]
        names = layer.path.split(".") if layer.path else []
        above = ["", *(".".join(names[:depth]) for depth in range(1, len(names) + 1))]
        whole = not layer.type.startswith("(")  # a module is its own frame, "(ops)" stand in a container's
        held = [path for path in above if path in types and not (whole and path == layer.path)]
        chain = [(path, types[path], of.get(path, 0)) for path in held]
        if place.phase in (_FORWARD, _BACKWARD):
            chain.insert(1, ("", place.phase, 0))
        chains.append(tuple(chain))
    return chains


def _numbers(report: Report, places: Sequence[_Place]) -> list[dict[str, int]]:
    """For every place, which call it is of each container round it that was called several times.

    The report does not tell it. Where a layer has a multiple of the container's places, the calls are taken
    to be alike; where the numbers that follow are not in order, the container stays one.
    """
    repeated = {branch.path: branch.calls for branch in report.tree if branch.calls > 1}
    counts = _counts(places)
    met: dict[tuple[int, str], int] = {}
    found: list[dict[str, int]] = []
    for place in places:
        key = (place.layer, place.phase)
        nth = met[key] = met.get(key, -1) + 1
        path = report.layers[place.layer].path
        around = [above for above in repeated if path == above or path.startswith(above + ".")]
        known = [above for above in around if counts[key] % repeated[above] == 0]
        found.append({above: nth * repeated[above] // counts[key] for above in known})
    for path in repeated:
        for phase in {place.phase for place in places}:
            ranks = [
                of[path] for of, at in zip(found, places, strict=True) if path in of and at.phase == phase
            ]
            if ranks != sorted(ranks):
                for of in found:
                    of.pop(path, None)
    return found


def _nested(shown: Sequence[tuple[tuple[_Frame, ...], Span]], depth: int) -> tuple[Span, ...]:
    """Spans over neighbours that have the same frame at this depth; those that have none more are layers'."""
    found: list[Span] = []

    def frame(pair: tuple[tuple[_Frame, ...], Span]) -> _Frame | None:
        return pair[0][depth] if depth < len(pair[0]) else None

    for key, members in groupby(shown, key=frame):
        group = list(members)
        if key is None:
            found += [leaf for _, leaf in group]
            continue
        ops = tuple(index for _, leaf in group for index in leaf.ops)
        inner = _nested(group, depth + 1)
        found.append(Span(key[0], key[1], group[0][1].begin, group[-1][1].end, ops, inner=inner))
    return tuple(found)
