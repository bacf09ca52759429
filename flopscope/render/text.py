"""Report -> text for a terminal: where the MACs are, where the time is, what is out of proportion."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from flopscope.render.cells import CATALOGUE, default_columns, out_of_proportion
from flopscope.render.grid import Grid, fill, labelled, lay_out_ruled, printable
from flopscope.render.registry import Options, renderer
from flopscope.render.rows import Row, arrange, by_layers, cut, gather, whole_of
from flopscope.units import (
    bytes_text,
    count_text,
    giga_text,
    milliseconds_text,
    number_text,
    share_text,
)

if TYPE_CHECKING:
    from flopscope.reports import Report

MOST_ROWS = 60
"""Up to so many rows are shown where nothing else was asked for ..."""
ROWS_OF_MANY = 30
"""... and of more, so many."""

DROPPED_FIRST = (
    *("output_shape", "arithmetic_intensity", "params", "bytes", "flops_per_s", "what"),
    *("layers", "latency_share", "flops_share", "priced_by"),
)
"""Columns that give way, in this order, where the terminal is too narrow."""

_STRIKING = 0.05
"""A kind is worth a sentence from this share of the time."""
_WORTH_SAYING = 0.05
"""Bytes as written are set against a published formula's where they differ by more than this."""
_LEAST_LABEL = 12
_ROUTES = {
    "meta": "counted without data",
    "real": "counted in a real run",
    "exported": "read from an exported graph",
}


@renderer("text")
def render_text(report: Report, options: Options) -> str:
    """Header, layers, what they add up to, sums by kind, and a sentence on what is out of proportion."""
    rows, columns, more = readable(report, options)
    table, dropped = _fitted(fill(report, rows, columns), columns, options)
    parts = [_wrapped(_header(report), options), f"{table}\n{more}".rstrip("\n")]
    parts.append(_wrapped([dropped, *closing(report)], options))
    if options.by != "kind":
        kinds, sentences = summary_of_kinds(report)
        parts.append(_fitted(kinds, _kind_columns(report), replace(options, columns=None))[0])
        parts.append(_wrapped(sentences, options))
    if options.messages:
        parts.append(_wrapped("\n".join((*report.warnings, *report.notes)).splitlines(), options))
    return "\n\n".join(part for part in parts if part)


def readable(report: Report, options: Options) -> tuple[list[Row], tuple[str, ...], str]:
    """The rows and columns that one screen can hold, and a line on the rows left out.

    Rows without any cost are left out unless `top` is 0; of more than `MOST_ROWS`, those that
    take most are kept. Layers that did not run come last.
    """
    everything = gather(report, options)
    if options.depth and options.sort is None:
        everything = [row for row in everything if row["path"]]  # the root is the total below
    rows, idle = everything, list[Row]()
    if options.by is None and options.top != 0:
        rows = [row for row in everything if not _idle(row)]
        idle = [row for row in everything if _idle(row)]
    if options.by is None and options.depth is None:
        rows = sorted(rows, key=lambda row: row["calls"] == 0)
    many = options.top is None and len(rows) > MOST_ROWS
    shown, rest = cut(arrange(rows, options), replace(options, top=ROWS_OF_MANY) if many else options)
    columns = default_columns(report, options)
    return labelled(shown, options), columns, _more([*rest, *idle], options)


def closing(report: Report) -> list[str]:
    """The lines below the table: the whole, the convention, the memory, what has no price."""
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
    return [line for line in lines if line]


def summary_of_kinds(report: Report) -> tuple[Grid, list[str]]:
    """The sums by kind, and a sentence for each kind that is strikingly out of proportion."""
    kinds = by_layers(report.layers, "kind", whole_of(report))
    grid = replace(fill(report, [row for row in kinds if not _idle(row)], _kind_columns(report)), total=None)
    return grid, [_sentence(row, kinds) for row in kinds if _striking(row)]


def _kind_columns(report: Report) -> tuple[str, ...]:
    return default_columns(report, Options(by="kind"))


def _header(report: Report) -> Iterator[str]:
    here, settings = report.environment, report.settings
    dtype = settings.dtype or report.total.dtype or ""
    inputs = f"{settings.inputs} {dtype}".strip()
    route = _ROUTES.get(report.route, report.route)
    if report.whole is not None:
        route += f", timed in {len(report.whole.samples)} rounds"
    yield "   ".join(x for x in (f"flopscope {here.flopscope}", report.model, inputs, route) if x)
    threads = settings.threads or here.threads
    cpu = ", ".join(x for x in (here.cpu, here.capability) if x)
    cores = f"{threads} thread{'s' if threads != 1 else ''} of {here.cores} cores"
    device = f"device {settings.device}" if settings.device else ""
    yield "   ".join(x for x in (cpu, cores, f"torch {here.torch}", here.allocator, device) if x)


def _idle(row: Row) -> bool:
    """Whether a row costs nothing that anybody would look for."""
    costs = row["params"] or row["flops"] or row["macs"] or row["bytes"]
    return not costs and (row["latency_share"] or 0) < 0.01


def _more(rows: Sequence[Row], options: Options) -> str:
    if not rows:
        return ""
    things = {"kind": "kinds", "type": "types", "op": "ops"}.get(options.by or "", "layers")
    line = f"… {len(rows)} more {things if len(rows) > 1 else things[:-1]}"
    if options.depth is None:
        line += f": {count_text(sum(row['macs'] for row in rows))} MACs"
        times = [row["latency_s"] for row in rows if row.get("latency_s") is not None]
        line += f", {milliseconds_text(sum(times))} ms" if times else ""
    return f"{line} (--top 0 or --csv for all)"


def _whole_line(report: Report) -> str:
    """The measured whole as the sum of its terms; "" where there is none."""
    if not report.rows_of_the_whole or report.total.latency_s is None:
        return ""
    line = f"whole model {milliseconds_text(report.total.latency_s)} ms ="
    for place, row in enumerate(report.rows_of_the_whole):
        sign = " -" if row.latency_s < 0 else " +" if place else ""
        line += f"{sign} {row.name} {milliseconds_text(abs(row.latency_s))}"
    return line


def _formula_lines(report: Report) -> Iterator[str]:
    """What recognised blocks would move by their published formula, where they move something else."""
    blocks = [layer for layer in report.layers if layer.formula_bytes is not None]
    for kind in dict.fromkeys(layer.kind for layer in blocks):
        members = [layer for layer in blocks if layer.kind == kind]
        formula = sum(layer.formula_bytes or 0 for layer in members)
        moved = sum(layer.bytes_read + layer.bytes_written for layer in members)
        if abs(moved - formula) > _WORTH_SAYING * formula:
            published = bytes_text(formula)
            yield f"{kind} moves {bytes_text(moved)} as written, {published} by its published formula"


def _striking(row: Row) -> bool:
    return out_of_proportion(row) and row["latency_share"] >= _STRIKING


def _sentence(row: Row, kinds: Sequence[Row]) -> str:
    """Share of FLOPs and of time, and the rates beside those of the kind with the most FLOPs."""
    time = f"{share_text(row['latency_share'])} % of the time"
    if not row["flops"]:
        return f"{row['kind']}: no FLOPs, {bytes_text(row['bytes'])} moved, {time}"
    text = f"{row['kind']}: {share_text(row['flops_share'])} % of the FLOPs, {time}"
    text += f"; {giga_text(row['flops_per_s'])} GFLOP/s"
    others = [other for other in kinds if other is not row and other["flops_per_s"]]
    if not others:
        return text
    most = max(others, key=lambda other: other["flops"])
    text += f" against {giga_text(most['flops_per_s'])} for {most['kind']}"
    if row["arithmetic_intensity"] and most["arithmetic_intensity"]:
        mine, its = number_text(row["arithmetic_intensity"]), number_text(most["arithmetic_intensity"])
        text += f" ({mine} FLOP/B against {its})"
    return text


def _fitted(grid: Grid, columns: Sequence[str], options: Options) -> tuple[str, str]:
    """Lay the grid out within the width; also say which columns had to go."""
    kept = list(range(len(columns)))
    widths = [max(map(len, texts)) for texts in zip(grid.headings, *_texts(grid), strict=True)]
    dropped = []
    if options.width is not None and options.columns is None:
        for name in DROPPED_FIRST:
            if sum(widths[k] + 2 for k in kept) - 2 <= options.width:
                break
            if name in columns:
                kept.remove(columns.index(name))
                dropped.append(CATALOGUE[name].heading)
    grid = _shortened(_part(grid, kept), sum(widths[k] + 2 for k in kept) - 2, options)
    if options.color:
        grid = _painted(grid, [columns[k] for k in kept])
    note = f"no room for {', '.join(dropped)} (--csv has all)" if dropped else ""
    return lay_out_ruled(grid), note


def _texts(grid: Grid) -> list[Sequence[str]]:
    return [*grid.rows, *([] if grid.total is None else [grid.total])]


def _part(grid: Grid, kept: Sequence[int]) -> Grid:
    """The grid with these columns only."""

    def part(texts: Sequence[str]) -> list[str]:
        return [texts[k] for k in kept]

    total = None if grid.total is None else part(grid.total)
    return Grid(part(grid.headings), part(grid.sides), [part(row) for row in grid.rows], total)


def _shortened(grid: Grid, taken: int, options: Options) -> Grid:
    """The grid with the first column cut at its front, where all else that can go has gone."""
    if options.width is None or taken <= options.width or options.columns is not None or not grid.rows:
        return grid
    longest = max(len(row[0]) for row in grid.rows)
    room = max(_LEAST_LABEL, longest - (taken - options.width))
    rows = [
        [row[0] if len(row[0]) <= room else "…" + row[0][len(row[0]) - room + 1 :], *row[1:]]
        for row in grid.rows
    ]
    return replace(grid, rows=rows)


def _painted(grid: Grid, columns: Sequence[str]) -> Grid:
    """The grid with bold headings, and in yellow what is out of proportion."""
    loud = {k for k, name in enumerate(columns) if name == "mark"}
    marked = {k for k, name in enumerate(columns) if name == "ratio"}

    def paint(k: int, text: str) -> str:
        striking = (k in loud and text) or (k in marked and text.endswith("!"))
        return f"\x1b[33m{text}\x1b[0m" if striking else text

    rows = [[paint(k, text) for k, text in enumerate(row)] for row in grid.rows]
    return replace(grid, headings=[f"\x1b[1m{text}\x1b[0m" for text in grid.headings], rows=rows)


def _wrapped(lines: Sequence[str] | Iterator[str], options: Options) -> str:
    """One line after another, broken where the terminal ends."""
    clean = [printable(line) for line in lines if line]
    if options.width is None:
        return "\n".join(clean)
    return "\n".join(textwrap.fill(line, options.width, subsequent_indent="  ") for line in clean)
