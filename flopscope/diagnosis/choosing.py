"""A report and a path -> the layers that are worth the time of being done otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flopscope.diagnosis.places import find

if TYPE_CHECKING:
    from flopscope.reports import Report


def worth_explaining(report: Report, path: str, *, count: int) -> tuple[int, ...]:
    """Choose the one layer that `path` names, or of those beneath it the ones most out of proportion.

    Out of proportion is the time that a layer takes beyond its share of the FLOPs; `count` bounds
    how many are chosen.

    Raises:
        InputError: There is no such layer.
    """
    place = find(report, path)
    timed = [index for index in place.places if report.layers[index].latency_s]
    if place.scope == "layer":
        return tuple(timed)
    whole_s = sum(layer.latency_s or 0.0 for layer in report.layers)
    flops = report.total.flops

    def beyond(index: int) -> float:
        layer = report.layers[index]
        fair = layer.flops / flops * whole_s if flops else 0.0
        return (layer.latency_s or 0.0) - fair

    return tuple(sorted(timed, key=beyond, reverse=True)[:count])
