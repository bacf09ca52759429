"""Report -> str: one file per format, each entered in one registry by `@renderer(name)`.

Nothing here opens a file, prints, or touches torch; `Report` is imported for its type alone.
"""

from __future__ import annotations

from flopscope.render import (
    chrome_trace,
    delimited,
    html_table,
    json_text,
    latex,
    markdown,
    plot,
    speedscope,
    svg,
    text,
)
from flopscope.render.registry import RENDERERS, Options, render, renderer

__all__ = [
    "RENDERERS",
    "Options",
    "chrome_trace",
    "delimited",
    "html_table",
    "json_text",
    "latex",
    "markdown",
    "plot",
    "render",
    "renderer",
    "speedscope",
    "svg",
    "text",
]
