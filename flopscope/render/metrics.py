"""Report -> flat names and numbers, as trackers of experiments take them: "kind/conv/latency_share"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flopscope.render.parts import PARTS, parts_of, traits, withheld
from flopscope.render.rows import by_layers, whole_of

if TYPE_CHECKING:
    from flopscope.reports import Report

_TOTALS = (
    *("params", "param_bytes", "macs", "flops", "bytes_read", "bytes_written", "arithmetic_intensity"),
    *("latency_s", "latency_floor_s", "latency_low_s", "latency_high_s", "flops_per_s", "bytes_per_s"),
)
_OF_KINDS = ("macs", "flops", "bytes", "flops_share", "latency_s", "latency_share", "flops_per_s")
_OF_PHASES = ("macs", "flops", "latency_s")


def metrics(report: Report) -> dict[str, float]:
    """Totals by the name of their column, then "kind/", "part/" and "phase/"; what is unknown is left out."""
    return {name: value for name, value in _named(report) if value is not None}


def _named(report: Report) -> Iterator[tuple[str, float | None]]:
    for name in _TOTALS:
        yield name, getattr(report.total, name)
    yield "buffer_bytes", report.buffer_bytes
    yield "peak_activation_bytes", report.peak_activation_bytes
    yield "saved_activation_bytes", report.saved_activation_bytes
    for row in by_layers(report.layers, "kind", whole_of(report)):
        for name in _OF_KINDS:
            yield f"kind/{row['kind']}/{name}", row[name]
    found = None if withheld(report) else parts_of(report.layers, traits(report))
    if found is not None:
        for part in PARTS:
            yield f"part/{part}_s", found.seconds[part]
            yield f"part/{part}_share", found.share(part)
    for phase in report.phases:
        for name in _OF_PHASES:
            yield f"phase/{phase.name}/{name}", getattr(phase, name)
