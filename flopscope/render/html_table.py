"""Report -> a plain HTML table: no script, no style sheet, nothing fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from flopscope.render import bars
from flopscope.render.closing import closing, sentences, signs
from flopscope.render.grid import fill, lay_out, plan
from flopscope.render.headers import alarm, header
from flopscope.render.registry import Options, renderer
from flopscope.render.svg import image
from flopscope.render.text import kinds_of, readable

if TYPE_CHECKING:
    from flopscope.reports import Report


@renderer("html")
def render_html(report: Report, options: Options) -> str:
    """One `<table>`; texts are escaped."""
    return lay_out(plan(report, options), "html") + "\n"


@renderer("notebook")
def render_notebook(report: Report, options: Options) -> str:
    """What a notebook shows: all that the terminal does, with tables for tables, and a picture."""
    from flopscope.pictures import icicles
    from flopscope.pictures.captions import sums, told

    rows, columns, more = readable(report, options)
    words = f"FLOPs are not time: {report.model}. {told(sums(report))}"
    picture = image(icicles(report, static=True, titles=False), words)
    parts = [
        f"<p><b>{escape(report.model)}</b></p>",
        *_paragraphs([*header(report), *alarm(report)]),
        picture,
    ]
    parts.append(lay_out(fill(report, rows, columns), "html"))
    parts += _paragraphs([more, signs(report, rows, columns), *closing(report)])
    if lines := bars.whole(report, options):
        parts.append(f"<pre>{escape(chr(10).join(lines))}</pre>")
    kinds, columns = kinds_of(report)
    parts.append(lay_out(replace(fill(report, kinds, columns), total=None), "html"))
    parts += _paragraphs([*sentences(report), *report.warnings, *report.notes])
    return "\n".join(parts) + "\n"


def _paragraphs(lines: Sequence[str]) -> list[str]:
    return [f"<p>{escape(line)}</p>" for line in lines if line]
