"""A report of a training step -> what forward, loss, backward and optimizer each cost and take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flopscope.units import bytes_text, count_text, milliseconds_text

if TYPE_CHECKING:
    from flopscope.records import Phase
    from flopscope.reports import Report

_KINDS = {"saved": "saved for the backward", "gradient": "gradients", "optimizer": "optimizer state"}
_HEADINGS = ("phase", "MACs", "FLOPs", "R+W", "ms", "time %")


def phases_text(report: Report) -> str:
    """A small table, and the memory that a step holds; nothing of a forward pass alone."""
    if not report.phases:
        return ""
    from tabulate import tabulate

    timed = sum(phase.latency_s or 0.0 for phase in report.phases)
    columns = len(_HEADINGS) if timed else len(_HEADINGS) - 2
    rows = [_row(phase, timed)[:columns] for phase in report.phases]
    table = tabulate(
        rows,
        _HEADINGS[:columns],
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", *("right",) * (columns - 1)),
    )
    held = (f"{_KINDS[name]} {bytes_text(nbytes)}" for name, nbytes in report.held_bytes.items() if nbytes)
    return f"{table}\n{', '.join(held)}".rstrip()


def _row(phase: Phase, timed: float) -> tuple[str, ...]:
    moved = phase.bytes_read + phase.bytes_written
    seconds = phase.latency_s
    return (
        phase.name,
        count_text(phase.macs),
        count_text(phase.flops),
        bytes_text(moved),
        "?" if seconds is None else milliseconds_text(seconds),
        "?" if seconds is None or not timed else f"{100 * seconds / timed:.1f}",
    )
