"""Report -> the words of its pictures: what a layer is, what the kinds come to, how far to trust it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flopscope.pictures.shapes import fitting, number
from flopscope.render.rows import by_layers, whole_of
from flopscope.units import count_text, seconds_text, share_text

if TYPE_CHECKING:
    from flopscope.pictures.shapes import Brush
    from flopscope.pictures.tiles import Tile
    from flopscope.records import Layer
    from flopscope.reports import Report

HEAD = 54.0
"""The height of a title."""
_EDGE = 10.0


@dataclass(frozen=True, slots=True)
class Sum:
    """One kind: its share of the FLOPs and of the time (None: not measured), each in 0..1."""

    kind: str
    flops: float
    time: float | None


def sums(report: Report) -> tuple[Sum, ...]:
    """The kinds of a report, those first that take the greatest share of either."""
    rows = by_layers(report.layers, "kind", whole_of(report))
    timed = any(row["latency_share"] for row in rows)
    found = [
        Sum(row["kind"], row["flops_share"] or 0.0, row["latency_share"] or 0.0 if timed else None)
        for row in rows
    ]
    return tuple(sorted(found, key=lambda item: -max(item.flops, item.time or 0.0)))


def shares(item: Sum) -> str:
    """Both shares of a kind in words."""
    flops = f"{share_text(item.flops)} % of FLOPs"
    return flops if item.time is None else f"{flops}, {share_text(item.time)} % of time"


def told(kinds: Sequence[Sum]) -> str:
    """The greatest kinds, for those who cannot see a picture."""
    return "; ".join(f"{item.kind}: {shares(item)}" for item in kinds[:5])


def of_tile(layer: Layer, tile: Tile) -> str:
    """What a layer is, its FLOPs and its time with their shares of the whole."""
    if tile.more:
        return f"{layer.label} and {tile.more} neighbours, too narrow to be seen apart"
    what = " ".join(word for word in (layer.type, layer.detail) if word)
    share = share_text(tile.flops[1] - tile.flops[0])
    words = [layer.label, f"{layer.kind}, {what}", f"{count_text(layer.flops)} FLOPs, {share} %"]
    if tile.time is None or layer.latency_s is None:
        words.append("not measured")
    else:
        share = share_text(tile.time[1] - tile.time[0])
        words.append(f"{seconds_text(layer.latency_s)}, {share} % of the time")
    return "\n".join(words)


def head(report: Report, brush: Brush, title: str, width: float) -> Iterator[str]:
    """The title of a picture that stands alone, and below it what ran where; `HEAD` high."""
    room = width - 2 * _EDGE
    yield brush.text(_EDGE, 26, fitting(title, room, 18), size=18, bold=True)
    yield brush.text(_EDGE, 45, fitting(ran_on(report), room), colour="muted")


def framed(
    report: Report, brush: Brush, title: str, size: tuple[float, float], label: str, parts: Sequence[str]
) -> str:
    """The whole picture, of a size without its title; one that stands alone has the title above it."""
    width, height = size
    if brush.static:
        above = head(report, brush, f"{title}: {report.model}", width)
        parts = [*above, f'<g transform="translate(0 {number(HEAD)})">', *parts, "</g>"]
        height += HEAD
    return brush.svg(width, height, label, parts)


def doubt(report: Report) -> str:
    """What a reader must know before believing the times; "" where they are good."""
    if report.total.latency_s is None:
        return "time was not measured"
    word = "good" if report.quality is None else report.quality.word
    return {
        "good": "",
        "void": "the measurement is void: these times are not to be trusted",
    }.get(word, f"the measurement is {word}")


def ran_on(report: Report) -> str:
    """Model, input, machine and threads in one line."""
    here, settings = report.environment, report.settings
    threads = settings.threads or here.threads
    words = [settings.inputs, "one training step" if settings.train else ""]
    if report.total.latency_s is not None:
        words += [here.cpu, f"{threads} thread{'s' if threads != 1 else ''}"]
    return ", ".join(word for word in [*words, f"torch {here.torch}"] if word)


def rounded(words: str) -> str:
    """A round quantity without digits that say nothing: "10.0 GFLOP/s" -> "10 GFLOP/s"."""
    value, _, unit = words.partition(" ")
    return f"{float(value):g} {unit}"
