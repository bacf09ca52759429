"""Report -> the same pictures by matplotlib, for papers: vector output, sized for a column or a page.

matplotlib is an extra, imported only here and only when something is drawn.
"""

from __future__ import annotations

import os
from math import atan2, degrees, sqrt
from typing import TYPE_CHECKING, Any, cast

from flopscope.errors import InputError
from flopscope.pictures.captions import doubt, sums
from flopscope.pictures.palette import BOX, COLOURS, INK
from flopscope.pictures.rooflines import Plan, lay_out
from flopscope.pictures.tiles import MOST_LEVELS, Span, sheet
from flopscope.units import count_text, rate_text, seconds_text, share_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flopscope.reports import Report

COLUMN, PAGE = (3.5, 2.6), (7.0, 3.6)
"""Inches: one column of a two-column paper, and its page."""
_LEAF, _BAND = 3.0, 4.0  # in rows of containers
_LABELS = 5


def plot_roofline(
    report: Report, path: str | os.PathLike[str] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw the layers under the roofs; see `Report.plot_roofline`.

    Raises:
        InputError: The report has no roofs or no latencies, or matplotlib is not there.
    """
    plan = None if report.machine is None else lay_out(report.machine, report)
    if plan is None or not plan.points:
        raise InputError(
            "a roofline needs measured roofs and latencies, which this report does not hold",
            hint="profile the model with latency on this machine",
        )
    axes = _axes(ax, COLUMN)
    low, high = (10.0**power for power in plan.across)
    top = max(peak for _, peak in plan.peaks)
    for place, (_, slope) in enumerate(plan.slopes):
        ends = ([low, top / slope], [low * slope, top])
        axes.plot(*ends, color=INK.light, lw=0.9, ls="--" if place else "-", zorder=1)
    fastest = max((slope for _, slope in plan.slopes), default=top / low)
    for name, peak in plan.peaks:
        axes.plot([peak / fastest, high], [peak, peak], color=INK.light, lw=0.9, zorder=1)
        axes.annotate(f"{name} {rate_text(peak)}", (high, peak), xytext=(-2, 2), textcoords="offset points",
                      size=5.5, ha="right")  # fmt: skip
    for kind in dict.fromkeys(point.kind for point in plan.points):
        these = [point for point in plan.points if point.kind == kind]
        axes.scatter([point.intensity for point in these], [point.flops_per_s for point in these],
                     s=[max(3.0, 900 * point.share) for point in these], color=COLOURS[kind].light,
                     alpha=0.85, lw=0.4, edgecolors="white", label=kind.replace("_", " "))  # fmt: skip
    for point in plan.points[:_LABELS]:
        axes.annotate(point.label, (point.intensity, point.flops_per_s), size=5, textcoords="offset points",
                      xytext=(3 + 15 * sqrt(point.share), -2))  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(10.0 ** plan.up[0], 10.0 ** plan.up[1]),
             xlabel="arithmetic intensity (FLOP/B)", ylabel="FLOP/s")  # fmt: skip
    for name, slope in plan.slopes:
        start = max(low, 10.0 ** plan.up[0] / slope) * 1.5
        axes.text(start, start * slope * 1.15, f"{name} {rate_text(slope, 'B/s')}", size=5.5, va="bottom",
                  rotation=_turn(axes, plan), rotation_mode="anchor")  # fmt: skip
    axes.legend(fontsize=5, frameon=False, loc="lower right", markerscale=0.5)
    return _saved(axes, path, doubt(report))


def _turn(axes: Axes, plan: Plan) -> float:
    """Degrees at which a slope of one decade by one decade stands in these axes."""
    box = axes.get_window_extent()
    across, up = plan.across[1] - plan.across[0], plan.up[1] - plan.up[0]
    return degrees(atan2(box.height / up, box.width / across))


def plot_icicle(
    report: Report, path: str | os.PathLike[str] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw FLOPs above and time below; see `Report.plot_icicle`.

    Raises:
        InputError: The report has no layer, or matplotlib is not there.
    """
    if not report.layers:
        raise InputError(
            "a report without layers cannot be drawn", hint="profile a model that runs something"
        )
    axes, drawn = _axes(ax, PAGE), sheet(report)
    timed = any(tile.time for tile in drawn.tiles)
    depth = min(drawn.levels, MOST_LEVELS + 1)
    height = depth + _LEAF
    bottom = 2 * height + _BAND if timed else height
    for tile in drawn.boxes:
        spans = [(tile.flops, float(tile.level))] + (
            [(tile.time, bottom - tile.level - 1)] if tile.time else []
        )
        for span, y in spans:
            _rectangle(axes, span, y, 1.0, BOX.light)
            if span[1] - span[0] > 0.012 * len(tile.name):
                axes.text(span[0] + 0.003, y + 0.55, tile.name, size=4.5, va="center", clip_on=True)
    for tile in drawn.leaves:
        kind, level = report.layers[tile.row or 0].kind, min(tile.level, depth)
        _rectangle(axes, tile.flops, level, height - level, COLOURS[kind].light)
        if tile.time:
            _rectangle(axes, tile.time, height + _BAND, height - level, COLOURS[kind].light)
            _band(axes, tile.flops, tile.time, (height, height + _BAND), COLOURS[kind].light)
    _words(axes, report, bottom, timed=timed)
    return _saved(axes, path, "")


def _words(axes: Axes, report: Report, bottom: float, *, timed: bool) -> None:
    """Totals above and below, and a legend with both shares of each kind."""
    from matplotlib.patches import Patch

    bound = "≥ " if report.uncosted else ""
    axes.text(0, -0.3, f"FLOPs: {bound}{count_text(report.total.flops)}", size=7, va="bottom", weight="bold")
    seconds = sum(layer.latency_s or 0.0 for layer in report.layers)
    told = f"Time: {seconds_text(seconds)}" if timed else "Time"
    doubts = doubt(report)
    axes.text(0, bottom + 0.3, told + (f" ({doubts})" if doubts else ""), size=7, va="top", weight="bold")
    handles = []
    for item in sums(report)[:9]:
        words = f"{item.kind.replace('_', ' ')}: {share_text(item.flops)}"
        words += " % of FLOPs" if item.time is None else f" → {share_text(item.time)} %"
        handles.append(Patch(color=COLOURS[item.kind].light, label=words))
    axes.legend(
        handles=handles, fontsize=5.5, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.06)
    )
    axes.set(xlim=(0, 1), ylim=(bottom, 0))
    axes.set_axis_off()


def _rectangle(axes: Axes, span: Span, y: float, height: float, colour: str) -> None:
    from matplotlib.patches import Rectangle

    wide = span[1] - span[0]
    if wide > 0:
        line = 0.3 if wide > 0.004 else 0.0
        axes.add_patch(Rectangle((span[0], y), wide, height, fc=colour, ec="white", lw=line))


def _band(axes: Axes, above: Span, below: Span, ends: tuple[float, float], colour: str) -> None:
    """The band from a share of the FLOPs to a share of the time, by two cubic curves."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    top, under = ends
    middle = (top + under) / 2
    points = [
        (above[0], top), (above[0], middle), (below[0], middle), (below[0], under), (below[1], under),
        (below[1], middle), (above[1], middle), (above[1], top), (above[0], top),
    ]  # fmt: skip
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    axes.add_patch(PathPatch(Path(points, codes), fc=colour, ec="none", alpha=0.42))


def _axes(given: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes that were given, or new ones of their own figure, which no window manager knows of."""
    if given is not None:
        return given
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "matplotlib is not installed, and this picture is drawn with it",
            hint="install it: pip install matplotlib, or the extra from the checkout: pip install '.[plots]'",
        ) from error
    figure = Figure(figsize=size, layout="constrained", dpi=200)
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    axes.tick_params(labelsize=6)
    axes.xaxis.label.set_size(7)
    axes.yaxis.label.set_size(7)
    return cast("Axes", axes)


def _saved(axes: Axes, path: str | os.PathLike[str] | None, doubts: str) -> Axes:
    """The axes, with the doubt about the times as their title; saved where a path is given."""
    if doubts:
        axes.set_title(doubts, size=6)
    if path is not None:
        figure: Any = axes.get_figure()
        try:
            figure.savefig(path, bbox_inches="tight")
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot write {os.fspath(path)}: {error}",
                hint="name a .pdf, .svg or .png file in a directory that is there",
            ) from error
    return axes
