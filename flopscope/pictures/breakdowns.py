"""Report -> where the time goes: bars of the whole and of each kind or layer, in five parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flopscope.pictures.captions import doubt
from flopscope.pictures.shapes import Brush, fitting, rect
from flopscope.render.parts import PARTS, Parts, parts_of, traits, withheld
from flopscope.units import milliseconds_text, share_text

if TYPE_CHECKING:
    from flopscope.reports import Report

_ROW = 22.0
_NAMES = 250.0
_NUMBERS = 150.0
_LAYERS = 20


@dataclass(frozen=True, slots=True)
class _Bar:
    name: str
    parts: Parts
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
    room = width - _NAMES - _NUMBERS
    parts = [*_legend(whole, brush, width), *_drawn(_Bar("whole model", whole), whole, 32, room, brush)]
    longest = max(bar.parts.total_s for bar in bars)
    for place, bar in enumerate(bars):
        parts += _drawn(bar, whole, 68 + place * _ROW, room * bar.parts.total_s / longest, brush)
    height = 68 + len(bars) * _ROW + 4
    if doubts := doubt(report):
        parts.append(brush.text(0, height + 12, doubts, colour="muted"))
        height += 20
    label = f"Where the time of {report.model} goes, by {by}: " + ", ".join(
        f"{whole.name(part)} {share_text(whole.share(part))} %" for part in PARTS
    )
    return brush.svg(width, height, label, parts)


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
            bars.append(_Bar(layer.label, parts, row))
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
        x += wide
    text = f"{milliseconds_text(bar.parts.total_s)} ms"
    if bar.parts is not whole:
        text += f", {share_text(bar.parts.total_s / whole.total_s)} %"
    parts.append(brush.text(x + 8, y + 13, text, colour="muted"))
    title = "\n".join(
        [bar.name, *(f"{bar.parts.name(part)} {share_text(bar.parts.share(part))} %" for part in PARTS)]
    )
    yield brush.group(parts, title=title, row=bar.row)
