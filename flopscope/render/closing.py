"""Report -> the lines below its table: what it adds up to, and in words where FLOPs do not tell the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flopscope.render.cells import percent
from flopscope.render.headers import alarm, allocator_text, dtype_of
from flopscope.render.parts import PARTS, Parts, doubtful, parts_of, traits, withheld
from flopscope.render.rows import Row, by_layers, whole_of
from flopscope.units import bytes_text, count_text, giga_text, milliseconds_text, number_text, share_text

if TYPE_CHECKING:
    from flopscope.reports import Report

_WORTH_A_LINE = 0.05
"""A kind is worth a sentence from this share of the time."""
_WORTH_SAYING = 0.05
"""Bytes as written are set against a published formula's where they differ by more than this."""
_WORTH_NAMING = 0.15
"""A part is named in a sentence from this share of a kind's time; the largest always."""
_EQUAL = 0.02
"""Parts within so much of the second are named with it: which of them is larger is chance."""
_FREQUENT = 0.2
"""A code is named in a sentence where it holds in so much of a kind's time."""
_MATERIAL = 0.1
"""The allocator's state is worth a sentence from this share of the whole."""
_NO_CAUSE = {"cache-resident", "padding-share"}
"""Codes that tell what is so, and not what takes time."""


def closing(report: Report) -> list[str]:
    """The whole, the convention, the memory, what has no price, what hangs on the allocator."""
    total = report.total
    held = f"params {count_text(total.params)} ({bytes_text(report.param_bytes)})"
    if report.buffer_bytes:
        held += f", buffers {bytes_text(report.buffer_bytes)}"
    where = f" at {report.peak.path}" if report.peak.path else ""
    peak = f"peak activation memory {bytes_text(report.peak.nbytes)}{where}"
    lines = [_whole_line(report), "   ".join(("1 MAC = 2 FLOPs", held, peak)), *_formula_lines(report)]
    if report.uncosted:
        named = ", ".join(f"{op} x{calls}" for op, calls in report.uncosted.items())
        calls = sum(report.uncosted.values())
        lines.append(f"≥: {calls} of {len(report.ops)} op calls have no cost formula ({named})")
    return [line for line in (*lines, _estimate_line(report), _allocator_line(report)) if line]


def signs(report: Report, rows: Sequence[Row], columns: Sequence[str]) -> str:
    """What the marks in these cells mean, those that are there."""
    said = []
    if "latency_s" in columns and not alarm(report) and any(map(_marked, rows)):
        said.append("~: disturbed while it was timed")
    if "limit" in columns and any(row["limit"] and row["traits"].clamped for row in rows):
        said.append("limit?: low confidence, the parts had to be cut to fit")
    if any(row["limit"] == "kernel" and row["traits"].form == "cheap" for row in rows if "limit" in columns):
        said.append("unexplained: what the roofs leave over; nothing was replayed")
    return "   ".join(said)


def sentences(report: Report) -> list[str]:
    """A line for each kind that takes time worth a word, or, without times, none."""
    kinds = by_layers(report.layers, "kind", whole_of(report), traits(report))
    rated = [row for row in kinds if row["macs"] and row["flops_per_s"]]
    dense = max(rated, key=lambda row: row["flops"], default=None)
    return [_sentence(row, dense, report) for row in kinds if (row["latency_share"] or 0) >= _WORTH_A_LINE]


def _sentence(row: Row, dense: Row | None, report: Report) -> str:
    """Share of FLOPs and of time, the rate beside that of the kind with the most FLOPs, and why."""
    mark = "~" if row["traits"].doubtful else ""
    flops = f"{share_text(row['flops_share'])} % of the FLOPs" if row["flops"] else "no FLOPs"
    moved = "" if row["flops"] else f", {bytes_text(row['bytes'])} moved"
    text = f"{row['kind']}: {flops}{moved}, {mark}{share_text(row['latency_share'])} % of the time"
    if not row["macs"] or row["flops_per_s"] is None:
        rated = row["flops"] and not row["macs"] and row["bytes_per_s"] is not None
        rate = f"; {mark}{giga_text(row['bytes_per_s'])} GB/s" if rated else ""
        return text + rate + _because(row, None, report)
    text += f"; {mark}{giga_text(row['flops_per_s'])} GFLOP/s"
    if dense is None or row is dense:
        return text + _roof(report) + _because(row, None, report)
    against = f" against {giga_text(dense['flops_per_s'])} for {dense['kind']}"
    return text + against + _because(row, dense, report)


def _roof(report: Report) -> str:
    """The roof in the report's dtype, for the kind that comes nearest to it."""
    machine = report.machine
    peak = None if machine is None else machine.peak(dtype_of(report))
    if machine is None or not peak:
        return ""
    return f", the roof is at {giga_text(peak)}{' by data sheet' if machine.form == 'sheet' else ''}"


def _because(row: Row, dense: Row | None, report: Report) -> str:
    """What the time consists of; as a reason where it explains a lower rate than that of `dense`."""
    parts: Parts | None = None if withheld(report) else row["parts"]
    if parts is None:
        return _by_intensity(row, dense)
    ranked = sorted(PARTS, key=lambda part: parts.seconds[part], reverse=True)
    lower = dense is not None and row["flops_per_s"] < dense["flops_per_s"]
    reason = lower and ranked[0] != "compute" and parts.name(ranked[0]) == ranked[0]
    if reason:
        ranked.remove("compute")
    least = max(_WORTH_NAMING, parts.share(ranked[1]) - _EQUAL)
    chosen = [part for part in ranked if part == ranked[0] or parts.share(part) >= least]
    terms = [f"{percent(parts.share(part))} {parts.name(part)}" for part in chosen]
    codes = [code for code, share in row["codes"].items() if share >= _FREQUENT and code not in _NO_CAUSE]
    found = f" ({', '.join(codes[:3])})" if codes else ""
    several = ", ".join(terms[:-1]) + f" and {terms[-1]}" if len(terms) > 1 else terms[0]
    return f"{', because' if reason else ';'} its time is {several}{found}"


def _by_intensity(row: Row, dense: Row | None) -> str:
    """All that counts alone can say: how many FLOPs each byte is used for."""
    if dense is None or not row["arithmetic_intensity"] or not dense["arithmetic_intensity"]:
        return ""
    mine, its = number_text(row["arithmetic_intensity"]), number_text(dense["arithmetic_intensity"])
    return f" ({mine} FLOP/B against {its})"


def _marked(row: Row) -> bool:
    return row["latency_s"] is not None and row["traits"].doubtful


def _whole_line(report: Report) -> str:
    """The measured whole as the sum of its terms; "" where there is none."""
    if not report.rows_of_the_whole or report.total.latency_s is None:
        return ""
    mark = "~" if doubtful(report, report.total) else ""
    line = f"whole model {mark}{milliseconds_text(report.total.latency_s)} ms ="
    for place, row in enumerate(report.rows_of_the_whole):
        sign = " -" if row.latency_s < 0 else " +" if place else ""
        line += f"{sign} {row.name} {milliseconds_text(abs(row.latency_s))}"
    return line


def _formula_lines(report: Report) -> Iterator[str]:
    """What recognised blocks would move by their published formula, where they move something else."""
    if report.phases:  # the formulas are those of a forward pass
        return
    blocks = [layer for layer in report.layers if layer.formula_bytes is not None]
    for kind in dict.fromkeys(layer.kind for layer in blocks):
        members = [layer for layer in blocks if layer.kind == kind]
        formula = sum(layer.formula_bytes or 0 for layer in members)
        moved = sum(layer.bytes_read + layer.bytes_written for layer in members)
        if abs(moved - formula) > _WORTH_SAYING * formula:
            published = bytes_text(formula)
            yield f"{kind} moves {bytes_text(moved)} as written, {published} by its published formula"


def _estimate_line(report: Report) -> str:
    """What the whole takes at least on absent hardware, by its data sheet; nothing was run there."""
    machine = report.machine
    known = [seen.least_s for seen in report.evidence]
    if machine is None or machine.form != "sheet" or not known:
        return ""
    least = sum(seconds or 0.0 for seconds in known)
    bound = "" if None not in known else "≥ "
    text = (
        f"attainable on {machine.name}, an estimate from its data sheet: {bound}{milliseconds_text(least)} ms"
    )
    return (
        f"{text} (Σ over operators of the greater of FLOPs / peak and bytes / bandwidth; launches left out)"
    )


def _allocator_line(report: Report) -> str:
    """That these figures hold for one state of the allocator, where it takes a material share."""
    found = None if withheld(report) else parts_of(report.layers, traits(report))
    if found is None or found.share("allocation") < _MATERIAL:
        return ""
    share = percent(found.share("allocation"))
    return (
        f"allocation is {share} of the time ({allocator_text(report)}): in another "
        "state of the allocator (fresh process, after a large tensor was freed, pooled) these layers would "
        "give other figures"
    )
