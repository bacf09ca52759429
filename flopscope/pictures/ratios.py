"""Comparison -> how long each side takes as a multiple of the first, with its interval."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flopscope.pictures.shapes import Brush, fitting, rect
from flopscope.units import count_text, milliseconds_text

if TYPE_CHECKING:
    from flopscope.comparison import Comparison
    from flopscope.records import Ratio, Side
    from flopscope.reports import Report

_ROW, _NAMES, _NUMBERS, _TOP = 30.0, 250.0, 360.0, 26.0
_COLOURS = {"faster": "part-memory", "slower": "part-overhead"}


def ratios(comparison: Comparison, *, width: int = 900, static: bool = False) -> str:
    """Draw a row for each side; "" where no two sides were timed in one run."""
    known = [ratio for ratio in comparison.ratios if ratio is not None]
    if not known:
        return ""
    brush = Brush(static=static)
    reach = 1.08 * max([1.0, *(ratio.high for ratio in known)])
    room, height = width - _NAMES - _NUMBERS, _TOP + _ROW * len(comparison.sides)
    one = _NAMES + room / reach
    above = f"time, as a multiple of {comparison.sides[0].name}'s"
    parts = [
        brush.text(0, 14, fitting(above, one - 12), colour="muted"),
        brush.text(_NAMES + room + 12, 14, "MACs, time, ratio with its 95 % interval", colour="muted"),
        brush.text(one, 14, "1", anchor="middle", colour="muted"),
        brush.line(one, 20, one, height, "muted", stroke_dasharray="4 3"),
    ]
    for place, (side, report, ratio) in enumerate(
        zip(comparison.sides, comparison.reports, comparison.ratios, strict=True)
    ):
        y = _TOP + place * _ROW
        parts.append(brush.text(_NAMES - 12, y + 19, fitting(side.name, _NAMES - 40), anchor="end"))
        if not place or ratio is not None:
            parts += _row(ratio, y, room / reach, brush)
        parts.append(brush.text(_NAMES + room + 12, y + 19, _words(side, report, ratio), colour="muted"))
    return brush.svg(width, height + 6, _label(comparison), parts)


def _row(ratio: Ratio | None, y: float, scale: float, brush: Brush) -> Iterator[str]:
    """The bar from 0, and the interval over its end; of the first side a bar of 1."""
    value = 1.0 if ratio is None else ratio.value
    colour = "muted" if ratio is None else _COLOURS.get(ratio.verdict, "kind-activation")
    yield rect(_NAMES, y + 7, value * scale, 16, brush.colour(colour), fill_opacity="0.8")
    if ratio is None:
        return
    low, high = _NAMES + ratio.low * scale, _NAMES + ratio.high * scale
    yield brush.line(low, y + 15, high, y + 15, "ink", stroke_width="2")
    for x in (low, high):
        yield brush.line(x, y + 9, x, y + 21, "ink", stroke_width="2")


def _words(side: Side, report: Report, ratio: Ratio | None) -> str:
    seconds = report.total.latency_s
    time = f"{milliseconds_text(seconds / side.items)} ms" if seconds is not None else "not timed"
    words = [f"{count_text(report.total.macs)} MACs", time]
    if ratio is not None:
        words.append(f"{ratio.value:.3g} ({ratio.low:.3g} to {ratio.high:.3g}) {ratio.verdict}")
    return ", ".join(words)


def _label(comparison: Comparison) -> str:
    first = comparison.sides[0].name
    told = [
        f"{side.name} {ratio.value:.3g} ({ratio.low:.3g} to {ratio.high:.3g}, {ratio.verdict})"
        for side, ratio in zip(comparison.sides, comparison.ratios, strict=True)
        if ratio is not None
    ]
    return f"Time as a multiple of {first}'s: " + "; ".join(told)
