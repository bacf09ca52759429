"""Report -> where the time goes: bars of the whole and of each kind or layer, in five parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flopscope.pictures.captions import doubt, framed
from flopscope.pictures.shapes import Brush, fitting, length, rect
from flopscope.render.parts import PARTS, Parts, parts_of, traits, withheld
from flopscope.units import milliseconds_text, share_text

if TYPE_CHECKING:
    from flopscope.reports import Report

_ROW = 22.0
_NAMES = 250.0
_NUMBERS = {"kind": 150.0, "layer": 270.0}
_LAYERS = 20
_INSIDE = 11.0
_WHOLE = 56.0
"""The height of the bar of the whole, with what is said below it."""
_ENTRY = 138.0


@dataclass(frozen=True, slots=True)
class _Bar:
    name: str
    parts: Parts
    more: str = ""
    row: int | None = None


def breakdown(report: Report, *, by: str = "kind", width: int = 1200, static: bool = False) -> str:
    """Draw the bars; "" where no time was taken apart, or the measurement is void.

    Args:
        report: With the five parts of its layers.
        by: "kind", or "layer" for those that take most.
        width: Of the picture, in its own units.
        static: Whether it shall stand alone.

    Raises:
        ValueError: `by` is something else.
    """
    if by not in ("kind", "layer"):
        raise ValueError(f"by: 'kind' or 'layer', not {by!r}")
    found = traits(report)
    whole = None if withheld(report) else parts_of(report.layers, found)
    if whole is None:
        return ""
    brush = Brush(static=static)
    bars = _kinds(report) if by == "kind" else _layers(report)
    left = min(_NAMES, 0.32 * width)
    room = width - left - _NUMBERS[by]
    longest = max(bar.parts.total_s for bar in bars)
    legend, first = _legend(whole, brush, left, width)
    parts = [
        *legend,
        *_drawn(_Bar("whole model", whole), whole, (left, first, room), brush),
        brush.text(left, first + 42, _scale(bars, whole, by), colour="muted", size=_INSIDE),
    ]
    first += _WHOLE
    for place, bar in enumerate(bars):
        place_of_it = (left, first + place * _ROW, room * bar.parts.total_s / longest)
        parts += _drawn(bar, whole, place_of_it, brush)
    height = first + len(bars) * _ROW + 4
    if doubts := doubt(report):
        parts.append(brush.text(left, height + 12, doubts, colour="muted"))
        height += 20
    label = f"Where the time of {report.model} goes, by {by}: " + ", ".join(
        f"{whole.name(part)} {share_text(whole.share(part))} %" for part in PARTS
    )
    return framed(report, brush, "Where the time goes", (width, height), label, parts)


def _scale(bars: Sequence[_Bar], whole: Parts, by: str) -> str:
    """What the bars below are, and that they are longer than that of the whole is."""
    longest = milliseconds_text(bars[0].parts.total_s)
    which = f"by {by}"
    if by == "layer" and len(bars) == _LAYERS:
        share = sum(bar.parts.total_s for bar in bars) / whole.total_s
        which = f"the {_LAYERS} layers that take most, {share_text(share)} % of the time"
    return f"{which}; on a scale of their own: the longest is {longest} ms"


def _legend(whole: Parts, brush: Brush, left: float, width: float) -> tuple[list[str], float]:
    """A swatch, the name and the share of each part, and where the first bar may begin."""
    columns = min(len(PARTS), max(1, int((width - left) / _ENTRY)))
    step = min(190.0, (width - left) / columns)
    parts, y = [], 0.0
    for place, part in enumerate(PARTS):
        x, y = left + place % columns * step, place // columns * 20.0
        parts.append(rect(x, y + 4, 12, 12, brush.colour(f"part-{part}")))
        parts.append(brush.text(x + 18, y + 14, f"{whole.name(part)} {share_text(whole.share(part))} %"))
    return parts, y + 30


def _kinds(report: Report) -> list[_Bar]:
    found = traits(report)
    bars = []
    for kind in dict.fromkeys(layer.kind for layer in report.layers):
        pairs = [
            (layer, trait) for layer, trait in zip(report.layers, found, strict=True) if layer.kind == kind
        ]
        parts = parts_of([layer for layer, _ in pairs], [trait for _, trait in pairs])
        if parts is not None:
            bars.append(_Bar(kind.replace("_", " "), parts))
    return _longest(bars)


def _layers(report: Report) -> list[_Bar]:
    bars = []
    for row, (layer, trait) in enumerate(zip(report.layers, traits(report), strict=True)):
        parts = parts_of([layer], [trait])
        if parts is not None:
            bars.append(_Bar(layer.label, parts, layer.kind.replace("_", " "), row))
    return _longest(bars)[:_LAYERS]


def _longest(bars: Sequence[_Bar]) -> list[_Bar]:
    return sorted(bars, key=lambda bar: -bar.parts.total_s)


def _drawn(bar: _Bar, whole: Parts, at: tuple[float, float, float], brush: Brush) -> Iterator[str]:
    """The name, the bar in its five colours, milliseconds and share; `at` is left end, top and length."""
    x, y, room = at
    parts = [brush.text(x - 10, y + 13, fitting(bar.name, x - 14), anchor="end")]
    for part in PARTS:
        wide = room * bar.parts.share(part)
        if wide >= 0.2:
            parts.append(rect(x, y, wide, _ROW - 5, brush.colour(f"part-{part}")))
        words = f"{share_text(bar.parts.share(part))} %"
        if wide >= length(words, _INSIDE) + 6:
            parts.append(
                brush.text(x + wide / 2, y + 12.5, words, colour=f"on-{part}", anchor="middle", size=_INSIDE)
            )
        x += wide
    text = f"{milliseconds_text(bar.parts.total_s)} ms"
    if bar.parts is not whole:
        text += f", {share_text(bar.parts.total_s / whole.total_s)} %"
    text += f", {bar.more}" if bar.more else ""
    parts.append(brush.text(x + 8, y + 13, text, colour="muted"))
    title = "\n".join(
        [bar.name, *(f"{bar.parts.name(part)} {share_text(bar.parts.share(part))} %" for part in PARTS)]
    )
    yield brush.group(parts, title=title, row=bar.row)
