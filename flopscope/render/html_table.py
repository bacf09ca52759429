"""Report -> a plain HTML table: no script, no style sheet, nothing fetched."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from flopscope.render.grid import fill, lay_out, plan
from flopscope.render.registry import Options, renderer
from flopscope.render.text import closing, readable, summary_of_kinds

if TYPE_CHECKING:
    from flopscope.reports import Report


@renderer("html")
def render_html(report: Report, options: Options) -> str:
    """One `<table>`; texts are escaped."""
    return lay_out(plan(report, options), "html") + "\n"


@renderer("notebook")
def render_notebook(report: Report, options: Options) -> str:
    """What a notebook shows: the readable table, the sums by kind, and the sentences."""
    rows, columns, more = readable(report, options)
    parts = [f"<p><b>{escape(report.model)}</b></p>", lay_out(fill(report, rows, columns), "html")]
    parts += [f"<p>{escape(line)}</p>" for line in (more, *closing(report)) if line]
    kinds, sentences = summary_of_kinds(report)
    parts.append(lay_out(kinds, "html"))
    parts += [f"<p>{escape(line)}</p>" for line in (*sentences, *report.warnings, *report.notes)]
    return "\n".join(parts) + "\n"
