"""Rows, columns, a width -> a table that fits: columns give way in a fixed order, and it is said which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flopscope.render.cells import CATALOGUE
from flopscope.render.grid import Grid, fill, lay_out_ruled
from flopscope.render.parts import SHARES
from flopscope.render.registry import Options
from flopscope.render.rows import Row

if TYPE_CHECKING:
    from flopscope.reports import Report


@dataclass(frozen=True, slots=True)
class Step:
    """Columns that go together, what takes their place, and what the reader is told is missing.

    A step without columns lets the labels be cut from then on.
    """

    gone: tuple[str, ...] = ()
    instead: str | None = None
    said: str = ""


_SECOND = "second verdicts"
STEPS = (
    *(Step((name,)) for name in ("output_shape", "arithmetic_intensity", "params", "mark", "bytes")),
    Step(("findings",), "finding", _SECOND),
    Step(("what",)),
    Step(("layers",)),
    Step(SHARES, "limit", "parts"),
    Step(),
    *(Step((name,)) for name in ("finding", "macs", "rate", "limit", "ratio")),
    *(Step((name,)) for name in ("latency_share", "flops_share", "priced_by")),
)
"""What gives way where the terminal is too narrow, in this order."""

_SHORT_LABEL = 24
_LEAST_LABEL = 12


def fitted(
    report: Report, rows: Sequence[Row], columns: Sequence[str], options: Options, *, total: bool = True
) -> tuple[str, str]:
    """Lay rows out within the width; also say which columns had to go."""
    if options.width is None or options.columns is not None:
        chosen, said = tuple(columns), list[str]()
    else:
        chosen, said = _chosen(report, rows, columns, options.width)
    grid = fill(report, rows, chosen)
    loud = {place for place, row in enumerate(fill(report, rows, ("mark",)).rows) if row[0]}
    grid = grid if total else replace(grid, total=None)
    if options.width is not None and options.columns is None:
        grid = _shortened(grid, options.width)
    if options.color:
        grid = _painted(grid, chosen, loud)
    return lay_out_ruled(grid), f"no room for {', '.join(said)} (--csv has all)" if said else ""


def _chosen(
    report: Report, rows: Sequence[Row], columns: Sequence[str], width: int
) -> tuple[tuple[str, ...], list[str]]:
    """The columns that find room, after as few steps as will do, and what was lost on the way."""
    others = [step.instead for step in STEPS if step.instead and {*step.gone} & {*columns}]
    possible = tuple(dict.fromkeys((*columns, *others)))
    sizes = dict(zip(possible, _widths(fill(report, rows, possible)), strict=True))
    chosen, said, label = list(columns), list[str](), sizes[columns[0]]
    for step in STEPS:
        if label + sum(sizes[name] + 2 for name in chosen[1:]) <= width:
            break
        if not step.gone:
            label = min(label, _SHORT_LABEL)
        here = [chosen.index(name) for name in step.gone if name in chosen]
        if not here:
            continue
        chosen[here[0] : here[-1] + 1] = [] if step.instead is None else [step.instead]
        said.append(step.said or CATALOGUE[step.gone[0]].heading)
    if "verdicts" in said:
        said.remove(_SECOND)
    return tuple(chosen), said


def _widths(grid: Grid) -> list[int]:
    return [max(map(len, texts)) for texts in zip(*_lines(grid), strict=True)]


def _lines(grid: Grid) -> Iterator[Sequence[str]]:
    yield grid.headings
    yield from grid.rows
    if grid.total is not None:
        yield grid.total


def _shortened(grid: Grid, width: int) -> Grid:
    """The grid with the first column cut at its front by as much as the line is too long."""
    taken = sum(_widths(grid)) + 2 * (len(grid.headings) - 1)
    if taken <= width or not grid.rows:
        return grid
    longest = max(len(row[0]) for row in grid.rows)
    room = max(_LEAST_LABEL, longest - (taken - width))
    rows = [
        [row[0] if len(row[0]) <= room else "…" + row[0][len(row[0]) - room + 1 :], *row[1:]]
        for row in grid.rows
    ]
    return replace(grid, rows=rows)


def _painted(grid: Grid, columns: Sequence[str], loud: set[int]) -> Grid:
    """The grid with bold headings, and in yellow what is out of proportion: the mark, else the time."""
    place = next(
        (columns.index(name) for name in ("mark", "ratio", "latency_share") if name in columns), None
    )
    rows = [list(row) for row in grid.rows]
    for row in sorted(loud) if place is not None else ():
        rows[row][place or 0] = f"\x1b[33m{rows[row][place or 0]}\x1b[0m"
    return replace(grid, headings=[f"\x1b[1m{text}\x1b[0m" for text in grid.headings], rows=rows)
