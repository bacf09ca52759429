"""Cells -> a laid-out table: the one door to tabulate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flopscope.render.cells import cells, default_columns, headings, sides, total_cells, tree_labels
from flopscope.render.registry import Options
from flopscope.render.rows import Row, select

if TYPE_CHECKING:
    from flopscope.reports import Report


@dataclass(frozen=True, slots=True)
class Grid:
    """A table before it has a format: headings, sides, rows of texts, and the total."""

    headings: Sequence[str]
    sides: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: Sequence[str] | None = None


def plan(report: Report, options: Options) -> Grid:
    """The table that the options ask for, in texts that no format has escaped yet."""
    columns = default_columns(report, options)
    return fill(report, labelled(select(report, options), options), columns)


def fill(report: Report, rows: Sequence[Row], columns: Sequence[str]) -> Grid:
    """Rows and columns -> grid."""
    return Grid(
        headings(report, columns),
        sides(columns),
        [[printable(text) for text in cells(row, columns)] for row in rows],
        total_cells(report, columns),
    )


def labelled(rows: Sequence[Row], options: Options) -> list[Row]:
    """Rows with labels; those of the tree, in its own order, are indented, and its root is the total."""
    if options.depth:
        rows = [row for row in rows if row["path"]]
    if options.depth is None or options.sort is not None:
        return list(rows)
    return [{**row, "label": text} for row, text in zip(rows, tree_labels(rows), strict=True)]


def lay_out(grid: Grid, tablefmt: str) -> str:
    """Lay the grid out in one of tabulate's formats, with a heading and a total."""
    rows = [*grid.rows, *([] if grid.total is None else [grid.total])]
    return _tabulated(rows or [[""] * len(grid.headings)], grid, tablefmt, headers=grid.headings)


def lay_out_ruled(grid: Grid) -> str:
    """Lay the grid out for a terminal, with lines below the headings and above the total.

    The headings go in as a row: as headings, tabulate would give each two columns too many.
    """
    from tabulate import SEPARATING_LINE

    rows: list[Sequence[str] | str] = [grid.headings, SEPARATING_LINE, *grid.rows]
    if grid.total is not None:
        rows += [SEPARATING_LINE, grid.total]
    _, *lines, _ = _tabulated(rows, grid, "simple").splitlines()
    return "\n".join(line.rstrip() for line in lines)


def _tabulated(
    rows: Sequence[Sequence[str] | str], grid: Grid, tablefmt: str, *, headers: Sequence[str] = ()
) -> str:
    from tabulate import tabulate

    return tabulate(
        rows,
        headers=headers,
        tablefmt=tablefmt,
        colalign=grid.sides,
        # A layer called 1e5 is no number; an indented one is not flush.
        disable_numparse=True,
        preserve_whitespace=True,
    )


def printable(text: str) -> str:
    """The text with control characters spelled out: a saved report may come from anybody."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def escaped(grid: Grid, escape: Callable[[str], str]) -> Grid:
    """The grid with every text, headings included, made safe for a format."""
    return Grid(
        [escape(text) for text in grid.headings],
        grid.sides,
        [[escape(text) for text in row] for row in grid.rows],
        None if grid.total is None else [escape(text) for text in grid.total],
    )
