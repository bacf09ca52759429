"""Report, Machine -> a roofline: what each layer reaches under the measured roofs, log-log.

`lay_out` is what the SVG and the matplotlib picture are both drawn from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import atan2, degrees, floor, log10, sqrt
from typing import TYPE_CHECKING

from flopscope.pictures.captions import doubt
from flopscope.pictures.shapes import Brush, length, number
from flopscope.render.machines import levels
from flopscope.roofline.dots import dots
from flopscope.units import rate_text, share_text

if TYPE_CHECKING:
    from flopscope.records import Machine
    from flopscope.reports import Report

_LEFT, _RIGHT, _TOP, _FOOT = 96.0, 16.0, 14.0, 46.0
_LABELS = 7
_WORTH = 0.01  # of the time: a smaller layer is not named


@dataclass(frozen=True, slots=True)
class Point:
    """A layer: intensity in FLOP/B, FLOP/s, its share of the layers' time, its place in `Report.layers`."""

    label: str
    kind: str
    intensity: float
    flops_per_s: float
    share: float
    row: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a roofline shows: decades of both axes, peaks by dtype, slopes by level, points.

    `left_out` is the share of the time in layers that have no place: those without FLOPs or bytes.
    """

    across: tuple[int, int]
    up: tuple[int, int]
    peaks: tuple[tuple[str, float], ...]
    slopes: tuple[tuple[str, float], ...]
    points: tuple[Point, ...] = ()
    left_out: float = 0.0


def lay_out(machine: Machine, report: Report | None = None) -> Plan | None:
    """Choose axes and roofs; None where the machine has no peak.

    Peaks are those of the dtypes that the layers compute in, or all where no report is given.
    """
    used = {layer.dtype for layer in report.layers if layer.flops} if report else set()
    peaks = tuple((peak.dtype, peak.flops_per_s) for peak in machine.peaks if not used or peak.dtype in used)
    slopes = tuple((name, point.bytes_per_s) for name, point in levels(machine))
    if not peaks:
        return None
    points = _points(report) if report else ()
    spent = sum(layer.latency_s or 0.0 for layer in report.layers) if report else 0.0
    told = sum(point.share for point in points)
    ridges = [peak / slope for _, peak in peaks for _, slope in slopes]
    across = [*ridges, *(point.intensity for point in points), 0.1, 100.0]
    top = max([*(peak for _, peak in peaks), *(point.flops_per_s for point in points)])
    lowest = [point.flops_per_s for point in points if point.share >= 0.001] or [top / 1000]
    return Plan(
        (floor(log10(min(across))), floor(log10(max(across))) + 1),
        (floor(log10(max(min(lowest), top / 1e6))), floor(log10(top)) + 1),
        peaks,
        slopes,
        points,
        1 - told if spent else 0.0,
    )


def roofline(report: Report, *, width: int = 900, static: bool = False) -> str:
    """Draw a report's layers under its machine's roofs; "" without roofs or latencies."""
    plan = None if report.machine is None else lay_out(report.machine, report)
    if plan is None or not plan.points:
        return ""
    brush = Brush(static=static)
    page = _Page(plan, float(width), min(560.0, width * 0.6))
    parts = [*_axes(page, brush), *_roofs(page, brush), *_dots(page, brush)]
    notes = (
        [f"{share_text(plan.left_out)} % of the time is in layers without FLOPs"]
        if plan.left_out > 0.0005
        else []
    )
    notes += [text for text in [doubt(report)] if text]
    parts.append(
        brush.text(
            _LEFT, page.height + 14, "; ".join(["dot area = share of the time", *notes]), colour="muted"
        )
    )
    label = f"Roofline of {report.model}: {len(plan.points)} layers under {_told(plan)}"
    return brush.svg(page.width, page.height + 22, label, parts)


def machine_roofline(machine: Machine, *, width: int = 700, static: bool = False) -> str:
    """Draw a machine's roofs alone; "" where it has no peak."""
    plan = lay_out(machine)
    if plan is None:
        return ""
    brush = Brush(static=static)
    page = _Page(plan, float(width), width * 0.55)
    parts = [*_axes(page, brush), *_roofs(page, brush)]
    return brush.svg(page.width, page.height, f"Roofs of {machine.name}: {_told(plan)}", parts)


@dataclass(frozen=True, slots=True)
class _Page:
    plan: Plan
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.width - _RIGHT

    @property
    def floor(self) -> float:
        return self.height - _FOOT

    def x(self, intensity: float) -> float:
        low, high = self.plan.across
        return _LEFT + (log10(intensity) - low) / (high - low) * (self.right - _LEFT)

    def y(self, rate: float) -> float:
        low, high = self.plan.up
        place = (log10(rate) - low) / (high - low)
        return self.floor - min(1.0, max(0.0, place)) * (self.floor - _TOP)


def _axes(page: _Page, brush: Brush) -> Iterator[str]:
    for power in range(page.plan.across[0], page.plan.across[1] + 1):
        x = page.x(10.0**power)
        yield brush.line(x, _TOP, x, page.floor)
        yield brush.text(x, page.floor + 17, f"{10.0**power:g}", colour="muted", anchor="middle")
    for power in range(page.plan.up[0], page.plan.up[1] + 1):
        y = page.y(10.0**power)
        yield brush.line(_LEFT, y, page.right, y)
        yield brush.text(_LEFT - 8, y + 4, _round(10.0**power), colour="muted", anchor="end")
    middle = (_LEFT + page.right) / 2
    yield brush.text(middle, page.height - 10, "arithmetic intensity, FLOP/B", anchor="middle")


def _roofs(page: _Page, brush: Brush) -> Iterator[str]:
    top = max(peak for _, peak in page.plan.peaks)
    for place, (name, slope) in enumerate(page.plan.slopes):
        low = max(10.0 ** page.plan.across[0], 10.0 ** page.plan.up[0] / slope)
        x, y, x2, y2 = page.x(low), page.y(low * slope), page.x(top / slope), page.y(top)
        yield brush.line(
            x, y, x2, y2, "ink", stroke_width="1.6", **({"stroke_dasharray": "7 4"} if place else {})
        )
        yield _along(brush, f"{name} {rate_text(slope, 'B/s')}", (x, y, x2, y2))
    slopes = [slope for _, slope in page.plan.slopes]
    for name, peak in page.plan.peaks:
        start = page.x(peak / max(slopes)) if slopes else _LEFT
        yield brush.line(start, page.y(peak), page.right, page.y(peak), "ink", stroke_width="1.6")
        words = f"{name} {rate_text(peak)}"
        yield brush.text(page.right - 4, page.y(peak) - 6, words, anchor="end")


def _along(brush: Brush, words: str, ends: tuple[float, float, float, float]) -> str:
    """A text that runs along a slope, above it, from where the slope begins."""
    x, y, x2, y2 = ends
    turn = degrees(atan2(y2 - y, x2 - x))
    a, b = number(x + 0.08 * (x2 - x)), number(y + 0.08 * (y2 - y))
    inner = brush.text(0, -6, words)
    return f'<g transform="translate({a} {b}) rotate({number(turn)})">{inner}</g>'


def _dots(page: _Page, brush: Brush) -> Iterator[str]:
    taken: list[tuple[float, float, float, float]] = []
    named = [point for point in page.plan.points[:_LABELS] if point.share >= _WORTH]
    for point in page.plan.points:
        x, y, radius = page.x(point.intensity), page.y(point.flops_per_s), _radius(point)
        fill, ground = brush.colour(f"kind-{point.kind}"), brush.colour("ground")
        circle = f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" fill="{fill}"'
        circle += f' fill-opacity="0.85" stroke="{ground}" stroke-width="0.8"/>'
        title = f"{point.label}\n{point.kind}, {share_text(point.share)} % of the time\n"
        title += f"{point.intensity:.3g} FLOP/B, {rate_text(point.flops_per_s)}"
        yield brush.group([circle], title=title, row=point.row)
        if point in named or radius > 5:
            taken.append((x - radius, y - radius, x + radius, y + radius))
    for point in named:
        yield from _label(page, brush, point, taken)


def _label(
    page: _Page, brush: Brush, point: Point, taken: list[tuple[float, float, float, float]]
) -> Iterator[str]:
    """A name beside its dot, where it hits neither an edge nor another name; none where there is no room."""
    x, y, radius = page.x(point.intensity), page.y(point.flops_per_s), _radius(point) + 4
    words, wide = point.label, length(point.label, 11)
    places = [
        (x + radius, y + 4),
        (x - radius - wide, y + 4),
        (x - wide / 2, y - radius),
        (x - wide / 2, y + radius + 9),
    ]
    places += [
        (x + radius, y + 18),
        (x + radius, y - 10),
        (x - radius - wide, y + 18),
        (x - radius - wide, y - 10),
    ]
    for left, base in places:
        box = (left, base - 10, left + wide, base + 3)
        inside = box[0] >= _LEFT and box[2] <= page.right and box[1] >= _TOP and box[3] <= page.floor
        if inside and not any(_overlap(box, other) for other in taken):
            taken.append(box)
            around = brush.colour("ground")  # a halo, so that a line behind does not cross the name
            yield brush.text(
                left, base, words, size=11, stroke=around, stroke_width="3", paint_order="stroke"
            )
            return


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _radius(point: Point) -> float:
    """So that the area is in proportion to the time; at least what can be seen."""
    return max(2.2, 46 * sqrt(point.share))


def _points(report: Report) -> tuple[Point, ...]:
    """The dots of the room of roofs, with their places among the layers."""
    found = []
    for row, layer in enumerate(report.layers):
        found += [(row, dot) for dot in dots([layer])]
    spent = sum(layer.latency_s or 0.0 for layer in report.layers)
    points = [
        Point(
            dot.label,
            dot.kind,
            dot.intensity,
            dot.flops_per_s,
            (report.layers[row].latency_s or 0.0) / spent,
            row,
        )
        for row, dot in found
        if spent
    ]
    return tuple(sorted(points, key=lambda point: -point.share))


def _round(rate: float) -> str:
    """A power of ten with its unit, without digits that say nothing: "10 GFLOP/s"."""
    words, unit = rate_text(rate).split(" ", 1)
    return f"{float(words):g} {unit}"


def _told(plan: Plan) -> str:
    roofs = [f"{name} {rate_text(peak)}" for name, peak in plan.peaks]
    return ", ".join([*roofs, *(f"{name} {rate_text(slope, 'B/s')}" for name, slope in plan.slopes)])
