"""Comparison, Machine -> what a notebook shows: tables and pictures, no styles, no scripts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from flopscope.render.grid import lay_out
from flopscope.render.machines import grids, header_lines
from flopscope.render.svg import image

if TYPE_CHECKING:
    from flopscope.comparison import Comparison
    from flopscope.records import Machine


def comparison_html(comparison: Comparison) -> str:
    """What was compared, the ratios as a picture, where there are any, and the tables."""
    from flopscope.pictures import ratios
    from flopscope.render.compared import html_of

    drawn = image(ratios(comparison, static=True), f"time as a multiple of {comparison.sides[0].name}'s")
    return html_of(comparison, picture=drawn)


def machine_html(machine: Machine) -> str:
    """The roofs as a picture, and the tables of peaks, bandwidth and costs."""
    from flopscope.pictures import machine_roofline

    first, *lines = (line.replace("   ", " · ") for line in header_lines(machine))
    parts = [f"<p><b>{escape(first)}</b></p>", *(f"<p>{escape(line)}</p>" for line in lines)]
    parts.append(image(machine_roofline(machine, static=True), f"roofs of {machine.name}"))
    parts += [lay_out(grid, "html") for grid in grids(machine)]
    parts += [f"<p>{escape(text)}</p>" for text in machine.warnings]
    return "\n".join(part for part in parts if part) + "\n"
