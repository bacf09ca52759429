"""Dots, some with names -> where each name stands, so that it hits no edge, no other name and no dot.

Lengths are in any one unit, y downwards: units of a picture, or points of a figure on paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, hypot

from flopscope.pictures.shapes import length

Box = tuple[float, float, float, float]
"""left, top, right, bottom."""

_RINGS = (4.0, 16.0, 30.0)
"""How far from its dot a name may stand; from the second on a line leads to it."""
_HIGH, _BASE = 1.2, 0.25
"""The height of a name, and how far its base line is above its lower edge, in font sizes."""
_STEP, _KEPT = 6.0, 4.0


@dataclass(frozen=True, slots=True)
class Spot:
    """A dot, and its name where it should have one."""

    x: float
    y: float
    radius: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """A name with the left end of its base line; `leader` is the line to its dot, where it stands apart."""

    name: str
    x: float
    y: float
    spot: Spot
    leader: tuple[float, float, float, float] | None = None


def placed(
    spots: Sequence[Spot], frame: Box, *, size: float, most: int, lines: Sequence[Box] = ()
) -> tuple[Label, ...]:
    """Find a place for the first names, as many as `most`; one that finds none is left out.

    A name is left out too where its dot lies on one that has its name already: it would stand for both.

    Args:
        spots: The weightiest first.
        frame: What names must stay within.
        size: Of the font.
        most: So many names at most.
        lines: Straight lines, each from (x, y) to (x, y), that names keep clear of where they can.
    """
    taken: list[Box] = []
    found: list[Label] = []
    crossed = [box for line in lines for box in _along(line)]
    for spot in spots:
        if len(found) == most:
            break
        if not spot.name or any(_same_place(spot, label.spot) for label in found):
            continue
        dots = [_around(other) for other in spots if other is not spot]
        for lines_too in (crossed, []):
            label = _first(spot, frame, size, taken, [*dots, *lines_too])
            if label is not None:
                break
        if label is not None:
            found.append(label)
            taken.append(_box(label, size))
            taken += _along(label.leader) if label.leader else ()
    return tuple(found)


def _first(spot: Spot, frame: Box, size: float, taken: Sequence[Box], hit: Sequence[Box]) -> Label | None:
    """The first free place within the frame, whose line to its dot crosses no name and no other line."""
    for box, leader in _places(spot, size):
        led = _along(leader) if leader else ()
        if (
            _within(box, frame)
            and not any(_overlap(box, other) for other in (*taken, *hit))
            and not any(_overlap(part, other) for part in led for other in taken)
        ):
            return Label(spot.name, box[0], box[3] - _BASE * size, spot, leader)
    return None


def _box(label: Label, size: float) -> Box:
    base = label.y + _BASE * size
    return label.x, base - _HIGH * size, label.x + length(label.name, size), base


def _places(spot: Spot, size: float) -> Iterator[tuple[Box, Box | None]]:
    """The places for a name, the best first: beside its dot, above and below, then farther away."""
    wide, high = length(spot.name, size), _HIGH * size
    for ring in _RINGS:
        reach = spot.radius + ring
        slant = 0.7 * reach
        for x, y in (
            *((reach, -high / 2), (-reach - wide, -high / 2)),
            *((-wide / 2, -reach - high), (-wide / 2, reach)),
            *((slant, slant - high / 3), (slant, -slant - high * 2 / 3)),
            *((-slant - wide, slant - high / 3), (-slant - wide, -slant - high * 2 / 3)),
        ):
            box = (spot.x + x, spot.y + y, spot.x + x + wide, spot.y + y + high)
            yield box, None if ring == _RINGS[0] else _leader(spot, box)


def _leader(spot: Spot, box: Box) -> Box:
    """From the edge of a dot to the nearest point of its name's box."""
    x, y = min(max(spot.x, box[0]), box[2]), min(max(spot.y, box[1]), box[3])
    far = hypot(x - spot.x, y - spot.y) or 1.0
    edge = spot.radius / far
    return spot.x + edge * (x - spot.x), spot.y + edge * (y - spot.y), x, y


def _along(line: Box) -> Iterator[Box]:
    """Small boxes that together cover a line."""
    x, y, x2, y2 = line
    steps = max(1, ceil(hypot(x2 - x, y2 - y) / _STEP))
    for place in range(steps + 1):
        a, b = x + (x2 - x) * place / steps, y + (y2 - y) * place / steps
        yield a - _KEPT, b - _KEPT, a + _KEPT, b + _KEPT


def _around(spot: Spot) -> Box:
    return spot.x - spot.radius, spot.y - spot.radius, spot.x + spot.radius, spot.y + spot.radius


def _same_place(one: Spot, other: Spot) -> bool:
    return hypot(one.x - other.x, one.y - other.y) <= max(one.radius, other.radius) + 4


def _within(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
