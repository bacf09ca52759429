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
_FIRST = 86.0
"""Where the bars of kinds or layers begin, below that of the whole."""


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
    room = width - _NAMES - _NUMBERS[by]
    longest = max(bar.parts.total_s for bar in bars)
    parts = [
        *_legend(whole, brush, width),
        *_drawn(_Bar("whole model", whole), whole, 30, room, brush),
        brush.text(_NAMES, _FIRST - 14, _scale(bars, longest, by), colour="muted", size=_INSIDE),
    ]
    for place, bar in enumerate(bars):
        parts += _drawn(bar, whole, _FIRST + place * _ROW, room * bar.parts.total_s / longest, brush)
    height = _FIRST + len(bars) * _ROW + 4
    if doubts := doubt(report):
        parts.append(brush.text(_NAMES, height + 12, doubts, colour="muted"))
        height += 20
    label = f"Where the time of {report.model} goes, by {by}: " + ", ".join(
        f"{whole.name(part)} {share_text(whole.share(part))} %" for part in PARTS
    )
    return framed(report, brush, "Where the time goes", (width, height), label, parts)


def _scale(bars: Sequence[_Bar], longest: float, by: str) -> str:
    """That the bars below are longer than that of the whole is."""
    which = f"by {by}" if by == "kind" or len(bars) < _LAYERS else f"the {_LAYERS} layers that take most"
    return f"{which}, on a scale of their own: the longest is {milliseconds_text(longest)} ms"


def _legend(whole: Parts, brush: Brush, width: float) -> Iterator[str]:
    step = min(190.0, (width - _NAMES) / len(PARTS))
    for place, part in enumerate(PARTS):
        x = _NAMES + place * step
        yield rect(x, 4, 12, 12, brush.colour(f"part-{part}"))
        yield brush.text(x + 18, 14, f"{whole.name(part)} {share_text(whole.share(part))} %")


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


def _drawn(bar: _Bar, whole: Parts, y: float, room: float, brush: Brush) -> Iterator[str]:
    """The name, the bar in its five colours, milliseconds and share."""
    x = _NAMES
    parts = [brush.text(_NAMES - 10, y + 13, fitting(bar.name, _NAMES - 14), anchor="end")]
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
