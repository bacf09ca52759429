"""Report -> "FLOPs are not time": the module tree by FLOPs above and by time below, and what joins them.

Both rows have the layers in one order, the leaves of the upper one hang down, those of the lower one stand
up, and a band leads from each layer's share of the FLOPs to its share of the time: one that widens
downwards takes more time than its FLOPs suggest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from flopscope.pictures.captions import HEAD, Sum, doubt, head, of_tile, shares, sums, told
from flopscope.pictures.shapes import Brush, fitting, length, number, path, rect
from flopscope.pictures.tiles import Sheet, Span, joined, sheet
from flopscope.render.parts import withheld
from flopscope.units import count_text, seconds_text, share_text

if TYPE_CHECKING:
    from flopscope.reports import Report

_ROW = 17.0
_LEAF = 52.0  # the least height of a leaf
_BAND = 84.0
_EDGE = 10.0
_LEAST = 0.3  # a narrower tile cannot be seen: it is joined with its neighbours
_SPECK = 0.02  # of a tile that is wide in the other row only
_LINE, _SPARE = ".6", 3  # the line between tiles that are wide enough to spare it
_INSIDE = 11
_FAINT = ".42"
_KINDS = 11  # in the legend; the rest are told together
_ENTRY = 385.0

Box = tuple[float, float, float, float]
"""x, y, width, height."""


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


def icicles(report: Report, *, width: int = 1200, static: bool = False, titles: bool = True) -> str:
    """Draw the picture; without latencies its upper half alone, which says so.

    Args:
        report: Of any model; one without layers gives "".
        width: Of the picture, in its own units; its height follows.
        static: Whether it shall stand alone: fixed colours, title and machine in it.
        titles: Whether each tile tells what it is. An `<img>` shows none, and is a third as long without.
    """
    if not report.layers:
        return ""
    brush, drawn = Brush(static=static), sheet(report)
    timed = any(tile.time for tile in drawn.tiles)
    frame = _Frame(float(width), drawn.levels, 20.0 + HEAD if static else 30.0, timed)
    kinds = sums(report)
    leaves = list(_leaves(report, drawn, brush, frame))
    parts = [
        *(head(report, brush, f"FLOPs are not time: {report.model}", width) if static else ()),
        *_headings(report, brush, frame),
        f'<g stroke="{brush.colour("ground")}" stroke-width="0">',
        *_containers(drawn, brush, frame, titles=titles),
        *(_apart(leaves, brush) if titles else _together(leaves, brush)),
        "</g>",
        brush.group([text for leaf in leaves for text in leaf.texts], pointer_events="none"),
    ]
    legend, end = _legend(kinds, brush, frame)
    label = f"FLOPs are not time: {report.model}. {told(kinds)}"
    return brush.svg(frame.width, end + _EDGE, label, [*parts, *legend])


def _headings(report: Report, brush: Brush, frame: _Frame) -> Iterator[str]:
    bound = "≥ " if report.uncosted else ""
    flops = f"FLOPs: {bound}{count_text(report.total.flops)}"
    hint = "width = share of the FLOPs, in order of execution"
    yield brush.text(_EDGE, frame.top - 8, flops, bold=True)
    yield brush.text(frame.width - _EDGE, frame.top - 8, hint, colour="muted", anchor="end")
    doubts = doubt(report)
    if not report.total.flops:
        words = "no layer has FLOPs"
        yield brush.text(frame.width / 2, frame.band - _LEAF / 2, words, colour="muted", anchor="middle")
    if not frame.timed:
        yield brush.text(_EDGE, frame.bottom + 18, "Time was not measured.", colour="muted")
        return
    seconds = sum(layer.latency_s or 0.0 for layer in report.layers)
    below = frame.bottom + 18
    yield brush.text(_EDGE, below, f"Time: {seconds_text(seconds)} in layers", bold=True)
    more = "width = share of the time"
    more += f"; {doubts}" if doubts else ""
    yield brush.text(
        frame.width - _EDGE,
        below,
        more,
        colour="ink" if doubts else "muted",
        anchor="end",
        bold=withheld(report),
    )


def _containers(drawn: Sheet, brush: Brush, frame: _Frame, *, titles: bool) -> Iterator[str]:
    """Their tiles and names; without titles all tiles are one shape."""
    fill, all_of_them, names = brush.colour("box"), "", []
    for tile in drawn.boxes:
        spans = [(tile.flops, frame.top + tile.level * _ROW)]
        shares = f"{share_text(tile.flops[1] - tile.flops[0])} % of the FLOPs"
        if tile.time:
            spans.append((tile.time, frame.bottom - (tile.level + 1) * _ROW))
            shares += f", {share_text(tile.time[1] - tile.time[0])} % of the time"
        boxes = [(frame.x(span[0]), y, frame.x(span[1]) - frame.x(span[0]), _ROW) for span, y in spans]
        boxes = [box for box in boxes if box[2] >= _LEAST]
        shape = "".join(_steps(box) for box in boxes)
        texts = [
            brush.text(x + 4, y + 12.5, words, size=11, stroke="none")
            for x, y, wide, _ in boxes
            if (words := fitting(tile.name, wide - 6, 11))
        ]
        all_of_them += shape
        names += texts
        if titles and boxes:
            parts = [path(shape, fill, stroke_width=_LINE), *texts]
            yield brush.group(parts, title=f"{tile.path or tile.name}\n{shares}", path=tile.path)
    if not titles:
        yield from (path(all_of_them, fill, stroke_width=_LINE), *names)


@dataclass(slots=True)
class _Leaf:
    """A tile of a layer as it is drawn: its rectangles as (x, y, width, height), its band, its texts."""

    kind: str
    row: int | None
    title: str
    boxes: list[Box] = field(default_factory=list)
    band: str = ""
    texts: list[str] = field(default_factory=list)


def _leaves(report: Report, drawn: Sheet, brush: Brush, frame: _Frame) -> Iterator[_Leaf]:
    for tile in joined(drawn.leaves, _LEAST / (frame.width - 2 * _EDGE)):
        if not tile.wide:
            continue
        layer = report.layers[tile.row or 0]
        leaf = _Leaf(layer.kind, tile.row, of_tile(layer, tile))
        level = min(tile.level, frame.levels)
        high = frame.height - level * _ROW
        spans = [(tile.flops, frame.band - high, frame.band - _LEAF / 2)]
        if tile.time:
            spans.append((tile.time, frame.under, frame.under + _LEAF / 2))
            leaf.band = _band(tile.flops, tile.time, frame)
        for span, y, middle in spans:
            x, wide = frame.x(span[0]), frame.x(span[1]) - frame.x(span[0])
            if wide >= _SPECK:
                leaf.boxes.append((x, y, wide, high))
                leaf.texts += _inside(layer.kind, span, (x + wide / 2, middle, wide), brush)
        yield leaf


def _inside(kind: str, span: Span, place: tuple[float, float, float], brush: Brush) -> Iterator[str]:
    """The kind and its share, in the middle of a tile, as far as they find room."""
    x, y, wide = place
    words = [kind.removesuffix("_conv").replace("_", " "), f"{share_text(span[1] - span[0])} %"]
    shown = [text for text in words if length(text, _INSIDE) <= wide - 5]
    if words[1] not in shown:
        return
    for line, text in enumerate(shown):
        base = y + 4 + 13 * (line - (len(shown) - 1) / 2)
        yield brush.text(x, base, text, colour=f"on-{kind}", anchor="middle", size=_INSIDE)


def _band(above: Span, below: Span, frame: _Frame) -> str:
    """What leads from a tile of the upper icicle to that of the lower one."""
    a, b, c, d = (number(frame.x(share)) for share in (*above, *reversed(below)))
    top, middle, under = number(frame.band), number((frame.band + frame.under) / 2), number(frame.under)
    return f"M{a} {top}C{a} {middle} {d} {middle} {d} {under}H{c}C{c} {middle} {b} {middle} {b} {top}Z"


def _apart(leaves: Sequence[_Leaf], brush: Brush) -> Iterator[str]:
    """Each layer as a group of its own, which can be pointed at."""
    for leaf in leaves:
        parts = [rect(*box, stroke_width=_LINE) if box[2] >= _SPARE else rect(*box) for box in leaf.boxes]
        parts += [path(leaf.band, fill_opacity=_FAINT)] if leaf.band else []
        yield brush.group(parts, title=leaf.title, row=leaf.row, fill=brush.colour(f"kind-{leaf.kind}"))


def _together(leaves: Sequence[_Leaf], brush: Brush) -> Iterator[str]:
    """All layers of a kind as three shapes: wide tiles, narrow tiles, bands."""
    for kind in dict.fromkeys(leaf.kind for leaf in leaves):
        these = [leaf for leaf in leaves if leaf.kind == kind]
        steps: dict[str, str] = {}
        for x, y, wide, high in (box for leaf in these for box in leaf.boxes):
            look = _LINE if wide >= _SPARE else "0"
            steps[look] = steps.get(look, "") + _steps((x, y, wide, high))
        parts = [path(shape, stroke_width=look) for look, shape in steps.items()]
        bands = "".join(leaf.band for leaf in these)
        parts += [path(bands, fill_opacity=_FAINT)] if bands else []
        yield brush.group(parts, fill=brush.colour(f"kind-{kind}"))


def _steps(box: Box) -> str:
    """A rectangle as a path."""
    x, y, wide, high = (number(value) for value in box)
    return f"M{x} {y}h{wide}v{high}h-{wide}z"


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
        parts.append(brush.text(x + 132, y, shares(item), colour="muted"))
    if rest := shown[most:]:
        place = most
        x, y = _EDGE + (place // lines) * _ENTRY, start + (place % lines) * 19
        time = None if rest[0].time is None else sum(item.time or 0.0 for item in rest)
        both = shares(Sum("", sum(item.flops for item in rest), time))
        parts.append(brush.text(x + 18, y, f"{len(rest)} more kinds"))
        parts.append(brush.text(x + 132, y, both, colour="muted"))
    return parts, start + (lines - 1) * 19 + 6
