"""Headings and rows of plain values -> text in a format: for tables that are not reports."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any


def sheet(
    headings: Sequence[str],
    rows: Sequence[Sequence[Any]],
    form: str | None = None,
    *,
    width: int | None = None,
) -> str:
    """Lay a table out.

    Args:
        headings: of the columns.
        rows: numbers, texts, or None for what is not known.
        form: "csv", "json" (a list of objects), "md", "latex"; None for a terminal.
        width: of the terminal: longer lines are cut.
    """
    if form == "json":
        records = [dict(zip(headings, row, strict=True)) for row in rows]
        return json.dumps(records, ensure_ascii=False, indent=1)
    if form == "csv":
        page = io.StringIO()
        csv.writer(page, lineterminator="\n").writerows([headings, *rows])
        return page.getvalue()
    text = _laid_out(headings, rows, form)
    if form is not None or width is None:
        return text
    return "\n".join(line if len(line) <= width else f"{line[: width - 1]}…" for line in text.splitlines())


def _laid_out(headings: Sequence[str], rows: Sequence[Sequence[Any]], form: str | None) -> str:
    from flopscope.render import latex, markdown
    from flopscope.render.grid import Grid, escaped, lay_out, lay_out_ruled, printable

    columns = list(zip(*rows, strict=True)) or [()] * len(headings)
    sides = ["right" if _numeric(column) else "left" for column in columns]
    texts = [["-" if value is None else printable(str(value)) for value in row] for row in rows]
    grid = Grid(headings, sides, texts)
    if form == "md":
        return lay_out(escaped(grid, markdown.escape), "pipe")
    if form == "latex":
        return lay_out(escaped(grid, latex.escape), "latex_raw")
    return lay_out_ruled(grid)


def _numeric(column: Sequence[Any]) -> bool:
    known = [value for value in column if value is not None]
    return bool(known) and all(isinstance(value, (int, float)) for value in known)
