"""Report -> the same pictures by matplotlib, for papers: vector output, sized for a column or a page.

matplotlib is an extra, imported only here and only when something is drawn.
"""

from __future__ import annotations

import os
from math import atan2, degrees, log10, sqrt
from typing import TYPE_CHECKING, Any, cast

from flopscope.errors import InputError
from flopscope.pictures.captions import doubt, sums
from flopscope.pictures.labels import Spot, placed
from flopscope.pictures.palette import BOX, COLOURS, INK, MUTED
from flopscope.pictures.rooflines import WORTH, Plan, Point, lay_out
from flopscope.pictures.shapes import fitting
from flopscope.pictures.tiles import MOST_LEVELS, Span, sheet
from flopscope.units import count_text, rate_text, seconds_text, share_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

    from flopscope.reports import Report

COLUMN, PAGE = (3.5, 3.0), (7.0, 3.6)
"""Inches: one column of a two-column paper, and its page."""
_LEAF, _BAND = 3.0, 4.0  # in rows of containers
_LABELS, _NAME, _TINY = 5, 5.5, 5.0


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
    axes.set(xscale="log", yscale="log", xlim=[10.0**end for end in plan.across],
             ylim=[10.0**end for end in plan.up],
             xlabel="arithmetic intensity (FLOP/B)", ylabel="FLOP/s")  # fmt: skip
    for kind in dict.fromkeys(point.kind for point in plan.points):
        these = [point for point in plan.points if point.kind == kind]
        axes.scatter([point.intensity for point in these], [point.flops_per_s for point in these],
                     s=[_area(point) for point in these], color=COLOURS[kind].light, alpha=0.85, lw=0.4,
                     edgecolors="white", label=kind.replace("_", " "), zorder=2)  # fmt: skip
    legend = axes.legend(fontsize=6, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3,
                         handletextpad=0.1, columnspacing=1.0)  # fmt: skip
    for handle in legend.legend_handles:
        cast("PathCollection", handle).set_sizes([18.0])
    _settled(axes)
    _roofs(axes, plan)
    _names(axes, plan)
    return _saved(axes, path, doubt(report))


def _area(point: Point) -> float:
    """A dot's size as matplotlib takes it: the square of its diameter in points."""
    return max(3.0, 900 * point.share)


def _roofs(axes: Axes, plan: Plan) -> None:
    """Slopes and peaks, each with its name along it."""
    low, high = (10.0**end for end in plan.across)
    top = max(peak for _, peak in plan.peaks)
    for place, (name, slope) in enumerate(plan.slopes):
        ends = ([low, top / slope], [low * slope, top])
        axes.plot(*ends, color=INK.light, lw=0.9, ls="--" if place else "-", zorder=1)
        start = max(low, 10.0 ** plan.up[0] / slope) * 1.3
        axes.text(start, start * slope * 1.15, f"{name} {rate_text(slope, 'B/s')}", size=6, va="bottom",
                  rotation=_turn(axes, plan), rotation_mode="anchor", zorder=1)  # fmt: skip
    fastest = max((slope for _, slope in plan.slopes), default=top / low)
    for name, peak in plan.peaks:
        axes.plot([peak / fastest, high], [peak, peak], color=INK.light, lw=0.9, zorder=1)
        axes.annotate(f"{name} {rate_text(peak)}", (high, peak), xytext=(-2, 2), textcoords="offset points",
                      size=6, ha="right")  # fmt: skip


def _names(axes: Axes, plan: Plan) -> None:
    """The layers that take most, named where their names hit nothing."""
    from matplotlib.patheffects import withStroke

    wide, high = _points_wide(axes)

    def at(intensity: float, rate: float) -> tuple[float, float]:
        x, y = log10(intensity) - plan.across[0], plan.up[1] - log10(rate)
        return x / (plan.across[1] - plan.across[0]) * wide, y / (plan.up[1] - plan.up[0]) * high

    spots = [Spot(*at(point.intensity, point.flops_per_s), sqrt(_area(point)) / 2,
                  point.label if point.share >= WORTH else "")
             for point in plan.points]  # fmt: skip
    top, low = max(peak for _, peak in plan.peaks), 10.0 ** plan.across[0]
    lines = [(*at(low, low * slope), *at(top / slope, top)) for _, slope in plan.slopes]
    lines += [(*at(low, peak), *at(10.0 ** plan.across[1], peak)) for _, peak in plan.peaks]
    roof = at(low, top)[1]
    frame = (0.0, roof if all(spot.y >= roof for spot in spots) else 0.0, wide, high)
    for label in placed(spots, frame, size=_NAME, most=_LABELS, lines=lines):
        axes.annotate(label.name, (label.x / wide, 1 - label.y / high), xycoords="axes fraction",
                      size=_NAME, parse_math=False, zorder=3,
                      path_effects=[withStroke(linewidth=1.5, foreground="white")])  # fmt: skip
        if label.leader:
            x, y, x2, y2 = label.leader
            axes.plot([x / wide, x2 / wide], [1 - y / high, 1 - y2 / high], transform=axes.transAxes,
                      color=MUTED.light, lw=0.5, zorder=1)  # fmt: skip


def _points_wide(axes: Axes) -> tuple[float, float]:
    """Width and height of the axes in points."""
    box, dpi = axes.get_window_extent(), axes.figure.dpi
    return 72 * box.width / dpi, 72 * box.height / dpi


def _settled(axes: Axes) -> None:
    """Let the figure lay itself out, after which lengths in the axes are known."""
    figure: Any = axes.figure.canvas.figure
    figure.draw_without_rendering()


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
    drawn = sheet(report)
    timed = any(tile.time for tile in drawn.tiles)
    axes = _axes(ax, PAGE if timed else (PAGE[0], 0.6 * PAGE[1]))
    axes.set_axis_off()
    _settled(axes)
    wide, _ = _points_wide(axes)
    depth = min(drawn.levels, MOST_LEVELS + 1)
    height = depth + _LEAF
    bottom = 2 * height + _BAND if timed else height
    for tile in drawn.boxes:
        spans = [(tile.flops, float(tile.level))] + (
            [(tile.time, bottom - tile.level - 1)] if tile.time else []
        )
        for span, y in spans:
            _rectangle(axes, span, y, 1.0, BOX.light)
            if words := fitting(tile.name, (span[1] - span[0] - 0.006) * wide, _TINY):
                axes.text(
                    span[0] + 0.003, y + 0.55, words, size=_TINY, va="center", clip_on=True, parse_math=False
                )
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
    doubts = f" ({doubt(report)})" if doubt(report) else ""
    told = f"Time: {seconds_text(seconds)}{doubts}" if timed else "Time was not measured."
    axes.text(0, bottom + 0.3, told, size=7, va="top", weight="bold")
    handles = []
    for item in sums(report)[:9]:
        words = f"{item.kind.replace('_', ' ')}: {share_text(item.flops)}"
        words += " %" if item.time is None else f" → {share_text(item.time)} %"
        handles.append(Patch(color=COLOURS[item.kind].light, label=words))
    axes.legend(
        handles=handles,
        fontsize=6,
        frameon=False,
        ncols=3,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.06),
        title="share of the FLOPs" + (" → share of the time" if timed else ""),
        title_fontsize=6,
    )
    axes.set(xlim=(0, 1), ylim=(bottom, 0))


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
        from matplotlib import rc_context

        figure: Any = axes.get_figure()
        try:
            with rc_context({"pdf.fonttype": 42, "ps.fonttype": 42}):  # TrueType: publishers refuse Type 3
                figure.savefig(path, bbox_inches="tight")
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot write {os.fspath(path)}: {error}",
                hint="name a .pdf, .svg or .png file in a directory that is there",
            ) from error
    return axes
