"""Report -> a Markdown table, as GitHub reads it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flopscope.render.grid import escaped, lay_out, plan
from flopscope.render.registry import Options, renderer

if TYPE_CHECKING:
    from flopscope.reports import Report

# An underscore inside a word is plain; at a word's edge it begins emphasis.
_SPECIAL = re.compile(r"[\\|*`\[\]<~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


@renderer("markdown")
def render_markdown(report: Report, options: Options) -> str:
    """One table with its total; what Markdown would read as markup is escaped."""
    return lay_out(escaped(plan(report, options), escape), "pipe") + "\n"


def escape(text: str) -> str:
    """The text so that Markdown shows it as it is."""
    return _SPECIAL.sub(lambda found: "\\" + found[0], text)
