"""Report or Comparison -> one HTML file: readable without scripts, fetching nothing, carrying its data.

What is drawn in it comes from `flopscope.pictures`, the texts of its tables from `flopscope.render`.
Templates, style and script are files of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flopscope.comparison import Comparison
    from flopscope.reports import Report


def report_page(report: Report) -> str:
    """The whole report as a page; `flopscope.load` reads the report back from it."""
    from flopscope.pages.reported import report_page as made

    return made(report)


def comparison_page(comparison: Comparison) -> str:
    """A comparison as a page: sides, ratios, kinds, layers, what was rewritten."""
    from flopscope.pages.compared import comparison_page as made

    return made(comparison)
