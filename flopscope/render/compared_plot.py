"""Comparison -> pictures in characters: ratios with their intervals, what each kind takes on every side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from flopscope.render.compared_tables import kind_sums, labels_of, order_of
from flopscope.render.grid import printable
from flopscope.render.phrases import filled
from flopscope.render.plot import MOST, WIDTH, painted, thick
from flopscope.render.registry import Options
from flopscope.units import count_text, milliseconds_text

if TYPE_CHECKING:
    from flopscope.comparison import Comparison
    from flopscope.records import Ratio

_LABEL = 24
_MARGIN = 1.05  # room beside the outermost end of an interval
_PAINT = {"faster": "32", "slower": "31"}
_SIDES = ("34", "33", "36", "35")
_WORTH_A_BAR = 0.005


def ratio_lines(comparison: Comparison, options: Options) -> Iterator[str]:
    """A line for each side with a ratio: its interval on one scale, by ratios, with a mark at 1."""
    rows = [
        (comparison.sides[place].name, ratio)
        for place in order_of(comparison)
        if (ratio := comparison.ratios[place]) is not None
    ]
    if not rows:
        return
    width = min(MOST, options.width or WIDTH)
    first = printable(comparison.sides[0].name)
    title = f"time as a multiple of that of {first}, with its interval"
    yield from filled(title, width, 2).splitlines()
    names = [_cut(printable(name), min(_LABEL, width // 3)) for name, _ in rows]
    label = max(map(len, names))
    track = _Track(
        min(1.0, *(ratio.low for _, ratio in rows)) / _MARGIN,
        max(1.0, *(ratio.high for _, ratio in rows)) * _MARGIN,
        max(10, width - label - 20),
    )
    for name, (_, ratio) in zip(names, rows, strict=True):
        line = track.line(ratio, blocks=options.blocks)
        line = painted(line, _PAINT.get(ratio.verdict, ""), options) if ratio.verdict in _PAINT else line
        yield f"{name:{label}}  {line}  {ratio.value:>5.3g}x  {ratio.verdict}".rstrip()
    one = track.column(1.0)
    low, high = f"{track.low:.2g}", f"{track.high:.2g}"
    left = f"{low:{one}}"[:one] if one > len(low) else " " * one
    axis = f"{left}1{high:>{track.room - one - 1}}" if track.room - one - 1 > len(high) else f"{left}1"
    yield f"{'':{label}}  {axis}".rstrip()


def kind_lines(comparison: Comparison, options: Options) -> Iterator[str]:
    """A bar for each kind and side, on one scale: milliseconds where all were measured, else MACs."""
    ranked = kind_sums(comparison)
    if not ranked:
        return
    measured = all(report.total.latency_s is not None for report in comparison.reports)
    place = 1 if measured else 0
    amounts = [(kind, [pair[place] for pair in pairs]) for kind, pairs in ranked]
    most = max((amount for _, row in amounts for amount in row), default=0.0)
    wholes = [sum(row[side] for _, row in amounts) for side in range(len(comparison.sides))]
    shown = [
        (kind, row)
        for kind, row in amounts
        if any(amount > _WORTH_A_BAR * whole for amount, whole in zip(row, wholes, strict=True) if whole)
    ]
    if not shown:
        return
    width = min(MOST, options.width or WIDTH)
    yield "by kind: " + (
        "ms of the layers, of one sample" if measured else "MACs; not all sides were measured"
    )
    labels = labels_of(comparison)
    label = max(min(_LABEL, len(kind)) for kind, _ in shown)
    side = max(map(len, labels))
    room = max(8, width - label - side - 14)
    for kind, row in shown:
        for number, amount in enumerate(row):
            name = _cut(printable(kind), label) if number == 0 else ""
            bar = thick(amount / most, room, options)
            gap = " " * (room - len(bar))
            value = milliseconds_text(amount) if measured else count_text(amount)
            bar = painted(bar, _SIDES[number % len(_SIDES)], options)
            yield f"{name:{label}}  {labels[number]:{side}}  {bar}{gap} {value:>9}"


@dataclass(frozen=True, slots=True)
class _Track:
    """A scale by ratios: 0.5 lies as far from 1 as 2 does."""

    low: float
    high: float
    room: int

    def column(self, value: float) -> int:
        place = log(value / self.low) / log(self.high / self.low)
        return min(self.room - 1, max(0, int(place * self.room)))

    def line(self, ratio: Ratio, *, blocks: bool) -> str:
        """The interval, its value in it, and where 1 is."""
        one, left, flat, right, dot, both = "│├─┤●┼" if blocks else "|[-]o+"
        cells = [" "] * self.room
        begin, end = self.column(ratio.low), self.column(ratio.high)
        cells[begin : end + 1] = [flat] * (end - begin + 1)
        cells[self.column(1.0)] = both if begin <= self.column(1.0) <= end else one
        cells[begin], cells[end] = left, right
        cells[self.column(ratio.value)] = dot
        return "".join(cells)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}."
