"""Report -> the smaller tables of its page: sums, what could be won, findings, phases, memory, roofs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flopscope.errors import InputError
from flopscope.pages.explained import Explained, named
from flopscope.render import Options
from flopscope.render.cells import NOT_APPLICABLE
from flopscope.render.findings import TITLES, remedy_text
from flopscope.render.grid import Grid, plan
from flopscope.render.parts import withheld
from flopscope.render.phrases import as_float
from flopscope.render.why_advice import advised
from flopscope.units import bytes_text, count_text, giga_text, milliseconds_text, number_text, share_text

if TYPE_CHECKING:
    from flopscope.diagnosis import Why
    from flopscope.records import Fact, Machine
    from flopscope.reports import Report

_HELD = {"saved": "saved for the backward", "gradient": "gradients", "optimizer": "optimizer state"}
_CALLS = {
    "op": "element-wise operator",
    "convolution": "convolution",
    "matmul": "matrix product",
    "module": "empty module",
    "probe": "product of 128x128 (pace)",
}


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table with its caption; for each row the place of the layer that it is about, or None.

    That layer's name stands in the column `link`.
    """

    caption: str
    grid: Grid
    places: Sequence[int | None] = ()
    link: int = 0


def sums(report: Report) -> list[Sheet]:
    """By kind, by type, by op."""
    words = {"kind": "Layers by kind", "type": "Layers by type", "op": "Operator calls by operator"}
    return [Sheet(words[by], plan(report, Options(by=by))) for by in words]


def explained_whole(report: Report) -> Why | None:
    """Why the whole takes what it takes; None where nothing was measured, or nothing may be said."""
    if withheld(report):
        return None
    try:
        return report.why()
    except InputError:
        return None


def to_win(report: Report, why: Why, layers: Explained) -> Sheet | None:
    """The layers of which most could be won, and what would help; None where no roofs tell."""
    found = [fact for fact in why.evidence if fact.code == "recoverable"]
    if not found:
        return None
    places = named(report, [str(fact.numbers["path"]) for fact in found])
    rows, marks = [], []
    for fact in found:
        place = places.get(str(fact.numbers["path"]))
        remedies = () if place is None else layers.remedies[place]
        rows.append(_winning(fact, why, remedies))
        marks.append(place)
    headings = ("layer", "kind", "takes ms", "least ms", "at most to win", "of the time", "headroom", "limit")
    sides = ("left", "left", *5 * ["right"], "left", "left")
    grid = Grid((*headings, "what would help"), sides, rows)
    return Sheet("Layers by what could be won at most, by the roofs: a bound, not a forecast", grid, marks)


def _winning(fact: Fact, why: Why, remedies: Sequence[str]) -> list[str]:
    takes, least = as_float(fact.numbers.get("latency_s")), as_float(fact.numbers.get("least_s"))
    whole = why.summary.seconds
    return [
        str(fact.numbers["path"]),
        str(fact.numbers["kind"]),
        "?" if takes is None else milliseconds_text(takes),
        NOT_APPLICABLE if not least else milliseconds_text(least),
        NOT_APPLICABLE if fact.seconds is None else f"{milliseconds_text(fact.seconds)} ms",
        share_text(fact.seconds / whole) + " %" if whole and fact.seconds else NOT_APPLICABLE,
        f"{number_text(takes / least)}x" if takes and least else NOT_APPLICABLE,
        str(fact.numbers.get("limit") or NOT_APPLICABLE),
        "; ".join(remedies) or NOT_APPLICABLE,
    ]


def advice(why: Why) -> list[str]:
    """What to try, over all layers, a sentence each."""
    lines = advised(why, None, most=len(why.advice)).splitlines()
    return [line.removeprefix("Try").strip() for line in lines if not line.strip().startswith("…")]


def found(report: Report, why: Why) -> Sheet | None:
    """The findings by code: what they mean, what they account for, what helps."""
    if not why.reasons:
        return None
    places = named(report, [str(finding.numbers.get("most")) for finding in why.reasons])
    rows = []
    for finding in why.reasons:
        latency = as_float(finding.numbers.get("latency_s"))
        cells = [
            finding.code,
            TITLES.get(finding.code, ""),
            str(finding.numbers.get("layers")),
            milliseconds_text(finding.seconds) if finding.seconds else NOT_APPLICABLE,
            NOT_APPLICABLE if latency is None else milliseconds_text(latency),
            str(finding.numbers.get("most")),
            remedy_text(finding.remedy) if finding.remedy else NOT_APPLICABLE,
        ]
        rows.append(cells)
    marks = [places.get(str(finding.numbers.get("most"))) for finding in why.reasons]
    headings = (
        "finding",
        "what it means",
        "layers",
        "accounts for ms",
        "their time ms",
        "most in",
        "what helps",
    )
    sides = ("left", "left", "right", "right", "right", "left", "left")
    caption = "Findings: what they account for where that is known; they overlap and do not add up"
    return Sheet(caption, Grid(headings, sides, rows), marks, link=headings.index("most in"))


def phases(report: Report) -> Sheet | None:
    """The phases of a training step; None of a forward pass."""
    if not report.phases:
        return None
    timed = sum(phase.latency_s or 0.0 for phase in report.phases)
    rows = []
    for phase in report.phases:
        row = [phase.name, count_text(phase.macs), count_text(phase.flops)]
        row.append(bytes_text(phase.bytes_read + phase.bytes_written))
        if timed:
            seconds = phase.latency_s
            known = seconds is not None
            row += (
                [milliseconds_text(seconds or 0.0), share_text((seconds or 0.0) / timed)]
                if known
                else ["?", "?"]
            )
        rows.append(row)
    headings = ("phase", "MACs", "FLOPs", "R+W", *(("ms", "time %") if timed else ()))
    sides = ("left", *("right" for _ in headings[1:]))
    return Sheet("Phases of the training step", Grid(headings, sides, rows))


def held(report: Report) -> str:
    """What a training step holds besides, in a line."""
    known = [
        f"{_HELD.get(name, name)} {bytes_text(size)}" for name, size in report.held_bytes.items() if size
    ]
    return ", ".join(known)


def alive(report: Report) -> Sheet | None:
    """What lay in memory at the peak."""
    peak = report.peak
    if not peak.alive:
        return None
    whole = peak.nbytes or 1
    rows = [[name, bytes_text(size), share_text(size / whole)] for name, size in peak.alive]
    grid = Grid(("what", "bytes", "of the peak %"), ("left", "right", "right"), rows)
    return Sheet("Alive at the peak", grid)


def conventions(report: Report) -> Sheet:
    """The totals as others count them."""
    rows = [[name, count_text(value), f"{value:,}"] for name, value in report.conventions.items()]
    grid = Grid(("convention", "total", "exactly"), ("left", "right", "right"), rows)
    return Sheet("The totals as others count them", grid)


def uncosted(report: Report) -> Sheet | None:
    """Operators without a price."""
    if not report.uncosted:
        return None
    rows = [[op, str(calls)] for op, calls in report.uncosted.items()]
    return Sheet("Operators without a cost formula", Grid(("operator", "calls"), ("left", "right"), rows))


def roofs(report: Report) -> list[Sheet]:
    """Peaks, bandwidths and the costs of calls; nothing where no roofs are known."""
    machine = report.machine
    if machine is None:
        return []
    found = [_peaks(machine)]
    if machine.bandwidth:
        rows = [
            [
                bytes_text(point.working_set_bytes),
                giga_text(point.bytes_per_s),
                _spread(machine, point.spread),
            ]
            for point in machine.bandwidth
        ]
        grid = Grid(("working set", "GB/s", "spread %"), ("right", "right", "right"), rows)
        found.append(Sheet("Bandwidth", grid))
    costs = [
        [_CALLS.get(name, name), number_text(1e6 * seconds)] for name, seconds in machine.overheads_s.items()
    ]
    if machine.fault_s is not None:
        costs.append([f"page fault of {machine.page_bytes} bytes", number_text(1e6 * machine.fault_s)])
    if costs:
        found.append(Sheet("Cost of one call", Grid(("call", "µs"), ("left", "right"), costs)))
    return found


def _peaks(machine: Machine) -> Sheet:
    rows = [
        [peak.dtype, giga_text(peak.flops_per_s), _spread(machine, peak.spread), peak.how]
        for peak in machine.peaks
    ]
    rows += [[dtype, NOT_APPLICABLE, NOT_APPLICABLE, reason] for dtype, reason in machine.absent.items()]
    grid = Grid(("dtype", "GFLOP/s", "spread %", "reached by"), ("left", "right", "right", "left"), rows)
    return Sheet("Compute roofs", grid)


def _spread(machine: Machine, spread: float) -> str:
    return share_text(spread) if machine.form == "measured" else NOT_APPLICABLE
