"""Report -> "FLOPs are not time": the module tree by FLOPs above and by time below, and what joins them.

Both rows have the layers in one order, the leaves of the upper one hang down, those of the lower one stand
up, and a band leads from each layer's share of the FLOPs to its share of the time: one that widens
downwards takes more time than its FLOPs suggest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from flopscope.pictures.captions import Sum, doubt, of_layer, ran_on, sums
from flopscope.pictures.shapes import Brush, fitting, number, path, rect
from flopscope.pictures.tiles import Sheet, Span, Tile, sheet
from flopscope.units import count_text, seconds_text, share_text

if TYPE_CHECKING:
    from flopscope.reports import Report

_ROW = 17.0
_LEAF = 52.0  # the least height of a leaf
_BAND = 84.0
_EDGE = 10.0
_LEAST = 0.25  # a narrower tile cannot be seen
_KINDS = 11  # in the legend; the rest are told together
_ENTRY = 385.0


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where things stand: the upper icicle from `top`, bands from `band`, the lower one from `under`."""

    width: float
    levels: int
    top: float
    timed: bool

    @property
    def height(self) -> float:
        """Of one icicle: containers, and leaves of at least `_LEAF`."""
        return self.levels * _ROW + _LEAF

    @property
    def band(self) -> float:
        """Where the upper icicle ends."""
        return self.top + self.height

    @property
    def under(self) -> float:
        """Where the lower icicle begins."""
        return self.band + _BAND

    @property
    def bottom(self) -> float:
        """Where the last icicle ends."""
        return self.under + self.height if self.timed else self.band

    def x(self, share: float) -> float:
        """The place of a share of the whole."""
        return _EDGE + share * (self.width - 2 * _EDGE)


def icicles(report: Report, *, width: int = 1200, static: bool = False) -> str:
    """Draw the picture; without latencies its upper half alone, which says so.

    Args:
        report: Of any model; one without layers gives "".
        width: Of the picture, in its own units; its height follows.
        static: Whether it shall stand alone: fixed colours, title and machine in it.
    """
    if not report.layers:
        return ""
    brush, drawn = Brush(static=static), sheet(report)
    timed = any(tile.time for tile in drawn.tiles)
    frame = _Frame(float(width), drawn.levels, 74.0 if static else 30.0, timed)
    kinds = sums(report)
    parts = [
        *(_title(report, brush, frame) if static else ()),
        *_headings(report, brush, frame),
        f'<g stroke="{brush.colour("ground")}" stroke-width="0">',
        *_containers(drawn, brush, frame),
        *_layers(report, drawn, brush, frame),
        "</g>",
    ]
    legend, end = _legend(kinds, brush, frame)
    label = f"FLOPs are not time: {report.model}. {_summary(kinds)}"
    return brush.svg(frame.width, end + _EDGE, label, [*parts, *legend])


def _title(report: Report, brush: Brush, frame: _Frame) -> Iterator[str]:
    yield brush.text(
        _EDGE, 26, fitting(f"FLOPs are not time: {report.model}", frame.width - 20, 18), size=18, bold=True
    )
    yield brush.text(_EDGE, 45, fitting(ran_on(report), frame.width - 2 * _EDGE), colour="muted")


def _headings(report: Report, brush: Brush, frame: _Frame) -> Iterator[str]:
    bound = "≥ " if report.uncosted else ""
    flops = f"FLOPs: {bound}{count_text(report.total.flops)}"
    hint = "width = share of the FLOPs, in order of execution"
    yield brush.text(_EDGE, frame.top - 8, flops, bold=True)
    yield brush.text(frame.width - _EDGE, frame.top - 8, hint, colour="muted", anchor="end")
    doubts = doubt(report)
    if not frame.timed:
        yield brush.text(_EDGE, frame.bottom + 18, f"Time: {doubts or 'not measured'}", colour="muted")
        return
    seconds = sum(layer.latency_s or 0.0 for layer in report.layers)
    below = frame.bottom + 18
    yield brush.text(_EDGE, below, f"Time: {seconds_text(seconds)} in layers", bold=True)
    more = "width = share of the time"
    more += f"; {doubts}" if doubts else ""
    yield brush.text(frame.width - _EDGE, below, more, colour="muted", anchor="end")


def _containers(drawn: Sheet, brush: Brush, frame: _Frame) -> Iterator[str]:
    for tile in drawn.boxes:
        name = tile.path or tile.name
        parts = [*_box(tile, tile.flops, frame.top + tile.level * _ROW, brush, frame)]
        if tile.time:
            parts += _box(tile, tile.time, frame.bottom - (tile.level + 1) * _ROW, brush, frame)
        if parts:
            share = f"{share_text(tile.flops[1] - tile.flops[0])} % of the FLOPs"
            if tile.time:
                share += f", {share_text(tile.time[1] - tile.time[0])} % of the time"
            yield brush.group(parts, title=f"{name}\n{share}", path=tile.path)


def _box(tile: Tile, span: Span, y: float, brush: Brush, frame: _Frame) -> Iterator[str]:
    x, wide = frame.x(span[0]), frame.x(span[1]) - frame.x(span[0])
    if wide < _LEAST:
        return
    yield rect(x, y, wide, _ROW, brush.colour("box"), **_outline(wide))
    words = fitting(tile.name, wide - 6, 11)
    if words:
        yield brush.text(x + 4, y + 12.5, words, size=11, stroke="none")


def _layers(report: Report, drawn: Sheet, brush: Brush, frame: _Frame) -> Iterator[str]:
    for tile in drawn.leaves:
        layer = report.layers[tile.row or 0]
        fill = brush.colour(f"kind-{layer.kind}")
        level = min(tile.level, frame.levels)
        parts = []
        x, wide = frame.x(tile.flops[0]), frame.x(tile.flops[1]) - frame.x(tile.flops[0])
        if wide >= _LEAST:
            y = frame.top + level * _ROW
            parts.append(rect(x, y, wide, frame.band - y, **_outline(wide)))
        if tile.time:
            parts += _below(tile, tile.time, level, frame)
        if parts:
            time = tile.time[1] - tile.time[0] if tile.time else None
            title = of_layer(layer, tile.flops[1] - tile.flops[0], time)
            yield brush.group(parts, title=title, row=tile.row, fill=fill)


def _below(tile: Tile, span: Span, level: int, frame: _Frame) -> Iterator[str]:
    """The band that leads down, and the layer's tile in the lower icicle."""
    left, right = frame.x(tile.flops[0]), frame.x(tile.flops[1])
    x, end = frame.x(span[0]), frame.x(span[1])
    if max(right - left, end - x) < _LEAST:
        return
    middle = number((frame.band + frame.under) / 2)
    top, under = number(frame.band), number(frame.under)
    a, b, c, d = (number(value) for value in (left, right, end, x))
    steps = f"M{a} {top}C{a} {middle} {d} {middle} {d} {under}H{c}C{c} {middle} {b} {middle} {b} {top}Z"
    yield path(steps, fill_opacity=".42")
    if end - x >= _LEAST:
        yield rect(x, frame.under, end - x, frame.height - level * _ROW, **_outline(end - x))


def _outline(wide: float) -> dict[str, str]:
    """A thin line between tiles that are wide enough to spare it; its colour is that of all tiles."""
    return {"stroke_width": ".6"} if wide >= 3 else {}


def _legend(kinds: Sequence[Sum], brush: Brush, frame: _Frame) -> tuple[list[str], float]:
    """A swatch, the name and both shares of each kind; where it ends."""
    shown = [item for item in kinds if max(item.flops, item.time or 0.0) > 0]
    most = len(shown) if len(shown) <= _KINDS + 1 else _KINDS
    columns = max(1, int((frame.width - 2 * _EDGE) / _ENTRY))
    lines = ceil((most + (len(shown) > most)) / columns)
    parts, start = [], frame.bottom + 44
    for place, item in enumerate(shown[:most]):
        x, y = _EDGE + (place // lines) * _ENTRY, start + (place % lines) * 19
        parts.append(rect(x, y - 10, 12, 12, brush.colour(f"kind-{item.kind}")))
        parts.append(brush.text(x + 18, y, item.kind.replace("_", " ")))
        parts.append(brush.text(x + 132, y, _shares(item), colour="muted"))
    if rest := shown[most:]:
        place = most
        x, y = _EDGE + (place // lines) * _ENTRY, start + (place % lines) * 19
        time = None if rest[0].time is None else sum(item.time or 0.0 for item in rest)
        both = _shares(Sum("", sum(item.flops for item in rest), time))
        parts.append(brush.text(x + 18, y, f"{len(rest)} more kinds"))
        parts.append(brush.text(x + 132, y, both, colour="muted"))
    return parts, start + (lines - 1) * 19 + 6


def _shares(item: Sum) -> str:
    flops = f"{share_text(item.flops)} % of FLOPs"
    return flops if item.time is None else f"{flops}, {share_text(item.time)} % of time"


def _summary(kinds: Sequence[Sum]) -> str:
    """The greatest kinds, for those who cannot see the picture."""
    return "; ".join(f"{item.kind}: {_shares(item)}" for item in kinds[:5])
