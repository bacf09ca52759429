"""Comparison, Why, Machine -> what a notebook shows: tables and pictures, no styles, no scripts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from flopscope.render.grid import lay_out
from flopscope.render.machines import grids, header_lines
from flopscope.render.svg import image

if TYPE_CHECKING:
    from flopscope.comparison import Comparison
    from flopscope.diagnosis import Why
    from flopscope.records import Machine


def comparison_html(comparison: Comparison) -> str:
    """The ratios as a picture, where there are any, and the tables."""
    from flopscope.pictures import ratios

    drawn = image(ratios(comparison, static=True), f"time as a multiple of {comparison.sides[0].name}'s")
    return "\n".join(part for part in (drawn, comparison.table("html")) if part)


def why_html(why: Why) -> str:
    """The explanation as it stands in a terminal, its first line as a heading."""
    from flopscope.render.why import why_text

    first, _, rest = why_text(why).partition("\n")
    return f"<p><b>{escape(first)}</b></p>\n<pre>{escape(rest.strip(chr(10)))}</pre>\n"


def machine_html(machine: Machine) -> str:
    """The roofs as a picture, and the tables of peaks, bandwidth and costs."""
    from flopscope.pictures import machine_roofline

    first, *lines = header_lines(machine)
    parts = [f"<p><b>{escape(first)}</b></p>", *(f"<p>{escape(line)}</p>" for line in lines)]
    parts.append(image(machine_roofline(machine, static=True), f"roofs of {machine.name}"))
    parts += [lay_out(grid, "html") for grid in grids(machine)]
    parts += [f"<p>{escape(text)}</p>" for text in machine.warnings]
    return "\n".join(part for part in parts if part) + "\n"
