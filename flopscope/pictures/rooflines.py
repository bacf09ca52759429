"""Report, Machine -> a roofline: what each layer reaches under the measured roofs, log-log.

`lay_out` is what the SVG and the matplotlib picture are both drawn from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import atan2, ceil, degrees, floor, hypot, log10, sqrt
from typing import TYPE_CHECKING

from flopscope.pictures.captions import doubt, framed, rounded
from flopscope.pictures.labels import Spot, placed
from flopscope.pictures.shapes import Brush, fitting, length, number
from flopscope.render.machines import levels
from flopscope.roofline.dots import dots
from flopscope.units import rate_text, share_text

if TYPE_CHECKING:
    from flopscope.records import Machine
    from flopscope.reports import Report

_LEFT, _RIGHT, _TOP, _FOOT = 96.0, 16.0, 14.0, 46.0
_LABELS, _NAME = 7, 11.0
_ENTRY = 190.0
WORTH = 0.01  # of the time: a smaller layer is not named


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
    """What a roofline shows: the ends of both axes as powers of ten, peaks by dtype, slopes by level, points.

    `left_out` has the shares of the time, by kind, of the layers that have no place: those without FLOPs.
    """

    across: tuple[float, float]
    up: tuple[float, float]
    peaks: tuple[tuple[str, float], ...]
    slopes: tuple[tuple[str, float], ...]
    points: tuple[Point, ...] = ()
    left_out: Mapping[str, float] = field(default_factory=dict)


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
    ridges = [peak / slope for _, peak in peaks for _, slope in slopes] or [1.0]
    across = [min(ridges) / 8, max(ridges) * 8, *(1.5 ** (2 * end - 1) * point.intensity
              for point in points for end in (0, 1))]  # fmt: skip
    top = max([*(peak for _, peak in peaks), *(point.flops_per_s for point in points)])
    low = min([top / (100 if points else 1000), *(point.flops_per_s for point in points)])
    return Plan(
        (log10(min(across)), log10(max(across))),
        (log10(low / 2.5), log10(top * 2)),
        peaks,
        slopes,
        points,
        _left_out(report, points) if report else {},
    )


def _left_out(report: Report, points: Sequence[Point]) -> dict[str, float]:
    """Kind -> share of the time, of layers that are no point; the greatest first."""
    spent = sum(layer.latency_s or 0.0 for layer in report.layers)
    there = {point.row for point in points}
    found: dict[str, float] = {}
    for row, layer in enumerate(report.layers):
        if row not in there and layer.latency_s:
            found[layer.kind] = found.get(layer.kind, 0.0) + layer.latency_s / spent
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def roofline(report: Report, *, width: int = 900, static: bool = False) -> str:
    """Draw a report's layers under its machine's roofs; "" without roofs or latencies."""
    plan = None if report.machine is None else lay_out(report.machine, report)
    if plan is None or not plan.points:
        return ""
    brush = Brush(static=static)
    page = _Page(plan, float(width), min(560.0, width * 0.6))
    legend, end = _legend(plan, brush, page)
    parts = [*_axes(page, brush), *_roofs(page, brush), *_dots(page, brush), *legend]
    for text in (_missing(plan), doubt(report)):
        if text:
            end += 18
            parts.append(brush.text(_LEFT, end, fitting(text, page.right - _LEFT), colour="muted"))
    label = f"Roofline of {report.model}: {len(plan.points)} layers under {_told(plan)}"
    return framed(report, brush, "Roofline", (page.width, end + 10), label, parts)


def _legend(plan: Plan, brush: Brush, page: _Page) -> tuple[list[str], float]:
    """A dot, the name and the share of the time of each kind; where they end."""
    kinds: dict[str, float] = {}
    for point in plan.points:
        kinds[point.kind] = kinds.get(point.kind, 0.0) + point.share
    columns = max(1, int((page.right - _LEFT) / _ENTRY))
    y = page.height + 16
    parts = [brush.text(_LEFT, y, "dot area = share of the time", colour="muted")]
    for place, (kind, share) in enumerate(sorted(kinds.items(), key=lambda item: -item[1])):
        x, y = _LEFT + place % columns * _ENTRY, page.height + 36 + place // columns * 19
        parts.append(f'<circle cx="{number(x + 6)}" cy="{number(y - 4)}" r="6" '
                     f'fill="{brush.colour(f"kind-{kind}")}"/>')  # fmt: skip
        parts.append(brush.text(x + 18, y, f"{kind.replace('_', ' ')} {share_text(share)} %"))
    return parts, y


def _missing(plan: Plan) -> str:
    """Which layers have no dot, in words; "" where they take next to nothing."""
    share = sum(plan.left_out.values())
    if share < 0.0005:
        return ""
    kinds = [f"{kind.replace('_', ' ')} {share_text(part)} %" for kind, part in plan.left_out.items()]
    return f"{share_text(share)} % of the time is in layers without FLOPs, which have no dot: " + ", ".join(
        kinds
    )


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
        return self.floor - place * (self.floor - _TOP)

    def slope(self, bytes_per_s: float, top: float) -> tuple[float, float, float, float]:
        """A bandwidth as a line, from where it enters to where it meets the highest peak."""
        low = max(10.0 ** self.plan.across[0], 10.0 ** self.plan.up[0] / bytes_per_s)
        return self.x(low), self.y(low * bytes_per_s), self.x(top / bytes_per_s), self.y(top)

    def lines(self) -> Iterator[tuple[float, float, float, float]]:
        """All roofs, and the middles of the texts along them, as lines that names keep clear of."""
        top = max(peak for _, peak in self.plan.peaks)
        for name, bytes_per_s in self.plan.slopes:
            x, y, x2, y2 = ends = self.slope(bytes_per_s, top)
            yield ends
            far = hypot(x2 - x, y2 - y) or 1.0
            end = 0.08 + length(f"{name} {rate_text(bytes_per_s, 'B/s')}") / far
            a, b = ((x + at * (x2 - x), y + at * (y2 - y) - 10) for at in (0.08, end))
            yield *a, *b
        for _, peak in self.plan.peaks:
            yield _LEFT, self.y(peak), self.right, self.y(peak)
            yield self.right - 160, self.y(peak) - 10, self.right, self.y(peak) - 10


def _axes(page: _Page, brush: Brush) -> Iterator[str]:
    for power in range(ceil(page.plan.across[0]), floor(page.plan.across[1]) + 1):
        x = page.x(10.0**power)
        yield brush.line(x, _TOP, x, page.floor)
        yield brush.text(x, page.floor + 17, f"{10.0**power:g}", colour="muted", anchor="middle")
    for power in range(ceil(page.plan.up[0]), floor(page.plan.up[1]) + 1):
        y = page.y(10.0**power)
        yield brush.line(_LEFT, y, page.right, y)
        yield brush.text(_LEFT - 8, y + 4, rounded(rate_text(10.0**power)), colour="muted", anchor="end")
    yield brush.line(_LEFT, _TOP, _LEFT, page.floor, "muted")
    yield brush.line(_LEFT, page.floor, page.right, page.floor, "muted")
    middle = (_LEFT + page.right) / 2
    yield brush.text(middle, page.height - 10, "arithmetic intensity, FLOP/B", anchor="middle")


def _roofs(page: _Page, brush: Brush) -> Iterator[str]:
    top = max(peak for _, peak in page.plan.peaks)
    for place, (name, slope) in enumerate(page.plan.slopes):
        x, y, x2, y2 = page.slope(slope, top)
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
    spots = []
    for point in page.plan.points:
        x, y, radius = page.x(point.intensity), page.y(point.flops_per_s), _radius(point)
        fill, ground = brush.colour(f"kind-{point.kind}"), brush.colour("ground")
        circle = f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" fill="{fill}"'
        circle += f' fill-opacity="0.85" stroke="{ground}" stroke-width="0.8"/>'
        title = f"{point.label}\n{point.kind}, {share_text(point.share)} % of the time\n"
        title += f"{point.intensity:.3g} FLOP/B, {rate_text(point.flops_per_s)}"
        yield brush.group([circle], title=title, row=point.row)
        spots.append(Spot(x, y, radius, point.label if point.share >= WORTH else ""))
    roof = page.y(max(peak for _, peak in page.plan.peaks))
    above = any(spot.y < roof for spot in spots)  # where no dot is, no name should be
    frame = (_LEFT, _TOP if above else roof, page.right, page.floor)
    for label in placed(spots, frame, size=_NAME, most=_LABELS, lines=tuple(page.lines())):
        if label.leader:
            yield brush.line(*label.leader, "muted", stroke_width="0.8")
        around = brush.colour("ground")  # a halo, so that a line behind does not cross the name
        yield brush.text(
            label.x, label.y, label.name, size=_NAME, stroke=around, stroke_width="3", paint_order="stroke"
        )


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


def _told(plan: Plan) -> str:
    roofs = [f"{name} {rate_text(peak)}" for name, peak in plan.peaks]
    return ", ".join([*roofs, *(f"{name} {rate_text(slope, 'B/s')}" for name, slope in plan.slopes)])
