"""Report -> text for a terminal: where the MACs are, where the time is, what it consists of and why."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from flopscope.render import bars
from flopscope.render.cells import default_columns
from flopscope.render.closing import closing, sentences, signs
from flopscope.render.fitting import fitted
from flopscope.render.grid import labelled, printable
from flopscope.render.headers import alarm, header
from flopscope.render.parts import traits
from flopscope.render.phases import phases_text
from flopscope.render.registry import Options, renderer
from flopscope.render.rows import Row, arrange, by_layers, cut, gather, whole_of
from flopscope.units import count_text, milliseconds_text

if TYPE_CHECKING:
    from flopscope.reports import Report

MOST_ROWS = 60
"""Up to so many rows are shown where nothing else was asked for ..."""
ROWS_OF_MANY = 30
"""... and of more, so many."""


_TIED = "\N{NO-BREAK SPACE}"
"""No text holds one any more when lines are broken: `printable` spells it out."""


@renderer("text")
def render_text(report: Report, options: Options) -> str:
    """Header, layers, what they add up to, the whole as a bar, sums by kind, and why time is not FLOPs."""
    rows, columns, more = readable(report, options)
    table, dropped = fitted(report, rows, columns, options)
    parts = [wrapped(header(report), options), wrapped(alarm(report), options)]
    parts.append(f"{table}\n{more}".rstrip("\n"))
    parts.append(wrapped([dropped, signs(report, rows, columns), *closing(report)], options))
    parts.append(phases_text(report))
    parts.append("\n".join(bars.whole(report, options)))
    if options.by != "kind":
        kinds, columns = kinds_of(report)
        parts.append(fitted(report, kinds, columns, replace(options, columns=None), total=False)[0])
        parts.append(wrapped(sentences(report), options))
    if options.messages:
        parts.append(wrapped("\n".join((*report.warnings, *report.notes)).splitlines(), options))
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


def kinds_of(report: Report) -> tuple[list[Row], tuple[str, ...]]:
    """The sums by kind that cost anything, and the columns to show of them."""
    kinds = by_layers(report.layers, "kind", whole_of(report), traits(report))
    return [row for row in kinds if not _idle(row)], default_columns(report, Options(by="kind"))


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


def wrapped(lines: Sequence[str] | Iterator[str], options: Options) -> str:
    """One line after another, broken where the terminal ends."""
    clean = [printable(line) for line in lines if line]
    if options.width is None:
        return "\n".join(clean)
    return "\n".join(_filled(line, options.width) for line in clean)


def _filled(line: str, width: int) -> str:
    """One line broken at spaces, but not between a number and its percent sign."""
    held = line.replace(" %", f"{_TIED}%")
    return textwrap.fill(held, width, subsequent_indent="  ", break_on_hyphens=False).replace(_TIED, " ")
