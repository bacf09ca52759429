"""Report -> the activation memory that is alive while the operators run, its peak marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flopscope.pictures.captions import framed, rounded
from flopscope.pictures.shapes import Brush, fitting, number, path, rect
from flopscope.units import bytes_text

if TYPE_CHECKING:
    from flopscope.reports import Report

_LEFT, _RIGHT, _TOP, _HEIGHT, _FOOT = 78.0, 10.0, 34.0, 150.0, 30.0
_HELD, _LINE = 4, 16.0
_STEPS = (1, 2, 2.5, 5, 10)


def memory(report: Report, *, width: int = 1200, static: bool = False) -> str:
    """Draw bytes over operators in execution order; "" where a report does not hold them (older files)."""
    curve = report.peak.over_run
    if len(curve) < 2 or not max(curve):
        return ""
    brush = Brush(static=static)
    floor, right = _TOP + _HEIGHT, width - _RIGHT
    held = list(_held(report, brush, right, floor + 44))
    parts = [
        *_axes(curve, brush, right, floor),
        path(_outline(curve, right, floor), brush.colour("kind-pointwise_conv"), fill_opacity="0.55"),
        *_peak(report, brush, right, floor),
        *held,
    ]
    where = f" at {report.peak.path}" if report.peak.path else ""
    label = f"Activation memory of {report.model} over the run: peak {bytes_text(report.peak.nbytes)}{where}"
    height = floor + _FOOT + (18 + _LINE * len(held) if held else 0)
    return framed(report, brush, "Activation memory", (width, height), label, parts)


def _held(report: Report, brush: Brush, right: float, y: float) -> Iterator[str]:
    """The largest tensors that are held at the peak, a line each, and what the others come to."""
    peak = report.peak
    lines = [f"{bytes_text(size)}  {name}" for name, size in peak.alive[:_HELD]]
    if rest := peak.alive[_HELD:]:
        lines.append(f"{bytes_text(sum(size for _, size in rest))}  in {len(rest)} more")
    for place, words in enumerate(["held at the peak:", *lines] if lines else []):
        shown = fitting(words, right - _LEFT)
        yield brush.text(_LEFT, y + place * _LINE, shown, colour="ink" if not place else "muted")


def _axes(curve: Sequence[int], brush: Brush, right: float, floor: float) -> Iterator[str]:
    top = max(curve)
    for value in ticks(top):
        y = floor - value / top * _HEIGHT
        yield brush.line(_LEFT, y, right, y)
        yield brush.text(_LEFT - 8, y + 4, rounded(bytes_text(value)), colour="muted", anchor="end")
    words = f"operators in execution order, 1 to {len(curve)}"
    yield brush.text((_LEFT + right) / 2, floor + 20, words, anchor="middle")


def ticks(top: float) -> list[float]:
    """Round values from 0 up to `top`, three to six of them."""
    scale = 10.0 ** (len(str(int(top))) - 1)
    steps = (scale * step / 10 for step in (*_STEPS, *(10 * step for step in _STEPS)))
    step = next(step for step in steps if top / step <= 5)
    return [step * place for place in range(int(top / step) + 1)]


def _outline(curve: Sequence[int], right: float, floor: float) -> str:
    """Steps, one for each operator; of more operators than there are pixels the highest of each pixel."""
    columns = min(len(curve), int(right - _LEFT))
    tops = [
        max(
            curve[
                place * len(curve) // columns : max(
                    (place + 1) * len(curve) // columns, place * len(curve) // columns + 1
                )
            ]
        )
        for place in range(columns)
    ]
    wide, top = (right - _LEFT) / columns, max(curve)
    steps = [f"M{number(_LEFT)} {number(floor)}"]
    steps += [f"V{number(floor - value / top * _HEIGHT)}h{number(wide)}" for value in tops]
    return "".join([*steps, f"V{number(floor)}Z"])


def _peak(report: Report, brush: Brush, right: float, floor: float) -> Iterator[str]:
    """A mark over the operator at which the peak was, with its bytes and its module."""
    curve = report.peak.over_run
    op = report.peak.op if report.peak.op is not None else curve.index(max(curve))
    x = _LEFT + (op + 0.5) / len(curve) * (right - _LEFT)
    words = f"peak {bytes_text(report.peak.nbytes)}" + (f" at {report.peak.path}" if report.peak.path else "")
    anchor = "start" if x < (_LEFT + right) / 2 else "end"
    shift = 8 if anchor == "start" else -8
    yield brush.line(x, _TOP - 20, x, floor, "ink", stroke_dasharray="3 3")
    yield rect(x - 3, _TOP - 3, 6, 6, brush.colour("ink"))
    yield brush.text(x + shift, _TOP - 10, words, anchor=anchor, bold=True)
