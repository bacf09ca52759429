"""Report -> CSV or TSV: plain base units, one line a row, no total; empty is not measured."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from flopscope.render.registry import Options, renderer
from flopscope.render.rows import plain_columns, select
from flopscope.units import shape_text

if TYPE_CHECKING:
    from flopscope.reports import Report


@renderer("csv")
def render_csv(report: Report, options: Options) -> str:
    """Comma-separated values; quoted where needed."""
    return _delimited(report, options, ",")


@renderer("tsv")
def render_tsv(report: Report, options: Options) -> str:
    """Tab-separated values, for pasting into a spreadsheet."""
    return _delimited(report, options, "\t")


def _delimited(report: Report, options: Options, delimiter: str) -> str:
    columns = plain_columns(options)
    sheet = io.StringIO()
    writer = csv.writer(sheet, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    for row in select(report, options):
        writer.writerow([_plain(name, row[name]) for name in columns])
    return sheet.getvalue()


def _plain(name: str, value: Any) -> Any:
    """Shapes as 1x64x56x56, codes with spaces between, the rest as it is; None becomes empty."""
    if name == "verdicts" and value is not None:
        return " ".join(value)
    return shape_text(value) if isinstance(value, tuple) else value
