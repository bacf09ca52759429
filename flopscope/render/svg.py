"""Report -> the picture "FLOPs are not time", as a file that stands alone or as an image in a notebook."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

from flopscope.errors import InputError
from flopscope.render.registry import Options, renderer

if TYPE_CHECKING:
    from flopscope.reports import Report


@renderer("svg")
def render_svg(report: Report, options: Options) -> str:  # noqa: ARG001
    """The whole report as one picture with its title, machine and legend.

    Raises:
        InputError: The report has no layer.
    """
    from flopscope.pictures import icicles

    drawn = icicles(report, static=True)
    if not drawn:
        raise InputError(
            "a report without layers cannot be drawn", hint="profile a model that runs something"
        )
    return drawn + "\n"


def image(svg: str, words: str) -> str:
    """A drawn picture as an `<img>` that holds its own bytes; "" for one that was not drawn.

    Hosts of notebooks clean the HTML of outputs, and most drop an `<svg>` that stands in it; an image
    with its bytes in a `data:` address is left alone, and no style of the page reaches into it.
    """
    if not svg:
        return ""
    coded = b64encode(svg.encode()).decode()
    return f'<img alt="{escape(words)}" src="data:image/svg+xml;base64,{coded}">'
