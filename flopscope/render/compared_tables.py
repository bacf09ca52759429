"""Comparison -> grids: the sides with their ratios, sums by kind, layers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING

from flopscope.records import Layer, Ratio, Side
from flopscope.render.grid import Grid, printable
from flopscope.units import bytes_text, count_text, giga_text, milliseconds_text, shape_text

if TYPE_CHECKING:
    from flopscope.comparison import Comparison
    from flopscope.reports import Report

_ROWS = 15
_MOST_SIDES = 4  # of which sums by kind are shown
_LONGEST = 12  # characters of a name that may stand in a heading
_HEADINGS = (
    "",
    "params",
    "MACs",
    "FLOPs",
    "R+W",
    "peak act.",
    "ms",
    "GFLOP/s",
    "time",
    "interval",
    "verdict",
)

Table = tuple[str, Grid]


def tables(comparison: Comparison, top: int | None) -> list[Table]:
    """The tables of a comparison, each with its title ("" for none)."""
    found = [("", of_sides(comparison))]
    kinds = _of_kinds(comparison)
    if kinds is not None:
        found.append(("by kind: MACs, and ms where measured", kinds))
    layers = _of_layers(comparison, top)
    if layers is not None:
        found.append(layers)
    return found


def of_sides(comparison: Comparison) -> Grid:
    """The first side, then the others: by rank where a model was rewritten, else in their own order."""
    labels = labels_of(comparison)
    rows = []
    for place in order_of(comparison):
        side, report, ratio = comparison.sides[place], comparison.reports[place], comparison.ratios[place]
        total, bound = report.total, "≥ " if report.uncosted else ""
        seconds, rate = per_item(total.latency_s, side), rate_of(report)
        rows.append(
            [
                _named(side, labels[place]),
                count_text(total.params),
                bound + count_text(total.macs),
                bound + count_text(total.flops),
                bytes_text(total.bytes_read + total.bytes_written),
                bytes_text(report.peak_activation_bytes),
                "" if seconds is None else _doubt(report) + milliseconds_text(seconds),
                "" if rate is None else giga_text(rate),
                *_ratio_cells(ratio),
            ]
        )
    keep = [0, *(k for k in range(1, len(_HEADINGS)) if any(row[k] for row in rows))]
    sides = ["left" if k in (0, 9, 10) else "right" for k in keep]
    return Grid([_HEADINGS[k] for k in keep], sides, [[printable(row[k]) for k in keep] for row in rows])


def labels_of(comparison: Comparison) -> list[str]:
    """What columns call the sides: by name, or by letter where names are long."""
    names = [printable(side.name) for side in comparison.sides]
    short = max(map(len, names)) <= _LONGEST or len(names) > _MOST_SIDES
    return names if short else list(ascii_uppercase[: len(names)])


def _named(side: Side, label: str) -> str:
    """The name of a side, with its letter where it has one; one whose function changed says so."""
    changed = side.rewrote is not None and side.rewrote.function == "changed"
    per = f" (ms of one of {side.items})" if side.items > 1 else ""
    letter = "" if label == printable(side.name) else f"{label}  "
    return f"{letter}{side.name}{' (other function)' if changed else ''}{per}"


def _ratio_cells(ratio: Ratio | None) -> list[str]:
    if ratio is None:
        return ["", "", ""]
    return [f"{ratio.value:.3g}x", f"{ratio.low:.3g} .. {ratio.high:.3g}", ratio.verdict]


def order_of(comparison: Comparison) -> tuple[int, ...]:
    """The places of the sides as they are shown: the first, then by rank where a model was rewritten."""
    ranked = any(side.rewrote for side in comparison.sides)
    return (0, *(comparison.ranking() if ranked else range(1, len(comparison.sides))))


def kind_sums(comparison: Comparison) -> list[tuple[str, list[list[float]]]]:
    """Kinds, those that take most first: for each side its MACs and seconds of one sample.

    Empty where there are too many sides to be set beside one another.
    """
    if len(comparison.sides) > _MOST_SIDES:
        return []
    measured = any(report.total.latency_s is not None for report in comparison.reports)
    found: dict[str, list[list[float]]] = {}
    for place, (side, report) in enumerate(zip(comparison.sides, comparison.reports, strict=True)):
        for layer in report.layers:
            sums = found.setdefault(layer.kind, [[0, 0] for _ in comparison.sides])
            sums[place][0] += layer.macs
            sums[place][1] += per_item(layer.latency_s, side) or 0.0
    return sorted(found.items(), key=lambda item: -max((s[1], s[0]) for s in item[1])[0 if measured else 1])


def _of_kinds(comparison: Comparison) -> Grid | None:
    """Kinds by what they take on the first side; as many columns as sides, where these are few."""
    ranked = kind_sums(comparison)
    if not ranked:
        return None
    measured = any(report.total.latency_s is not None for report in comparison.reports)
    timed = [any(layer.latency_s for layer in report.layers) for report in comparison.reports]
    headings = ["kind"]
    for label in labels_of(comparison):
        headings += [f"MACs {label}", *([f"ms {label}"] if measured else [])]
    rows = []
    for kind, sums in ranked:
        if any(any(pair) for pair in sums):
            cells = [
                [count_text(macs), *([milliseconds_text(ms) if known else "-"] if measured else [])]
                for (macs, ms), known in zip(sums, timed, strict=True)
            ]
            rows.append([kind, *(text for pair in cells for text in pair)])
    return Grid(headings, ["left", *["right"] * (len(headings) - 1)], rows)


def _of_layers(comparison: Comparison, top: int | None) -> Table | None:
    """Two sides, layer by layer: those that differ most, or all in order where `top` is 0."""
    if len(comparison.sides) != 2:
        return None
    pairs = [layers_of(comparison, match.rows) for match in comparison.matches]
    measured = all(report.total.latency_s is not None for report in comparison.reports)
    scores = [_difference(pair, comparison.sides, measured) for pair in pairs]
    count = len(pairs) if top == 0 else top or _ROWS
    places = (
        range(len(pairs)) if top == 0 else sorted(range(len(pairs)), key=lambda k: -abs(scores[k]))[:count]
    )
    shown = [k for k in places if top == 0 or scores[k]]
    if not shown:
        return None
    names = labels_of(comparison)
    headings = ["layer", "kind", *(f"out {name}" for name in names), *(f"MACs {name}" for name in names)]
    headings += [f"ms {name}" for name in names] if measured else []
    rows = [_layer_cells(pairs[k], comparison.sides, measured) for k in shown]
    what = "ms" if measured else "MACs"
    title = (
        "layers"
        if top == 0
        else f"layers that differ most in {what} ({len(shown)} of {len(pairs)}; --top 0 for all)"
    )
    return title, Grid(headings, ["left", "left", *["right"] * (len(headings) - 2)], rows)


def _layer_cells(pair: Sequence[Layer | None], sides: Sequence[Side], measured: bool) -> list[str]:
    known = next(layer for layer in pair if layer is not None)
    kinds = list(dict.fromkeys(layer.kind for layer in pair if layer is not None))
    cells = [printable(known.label), " > ".join(kinds)]
    cells += ["-" if layer is None else shape_text(layer.output_shape or ()) for layer in pair]
    cells += ["-" if layer is None else count_text(layer.macs) for layer in pair]
    if measured:
        for layer, side in zip(pair, sides, strict=True):
            seconds = None if layer is None else per_item(layer.latency_s, side)
            cells.append("-" if seconds is None else milliseconds_text(seconds))
    return cells


def _difference(pair: Sequence[Layer | None], sides: Sequence[Side], measured: bool) -> float:
    if measured:
        one, other = (
            (per_item(layer.latency_s, side) or 0.0) if layer else 0.0
            for layer, side in zip(pair, sides, strict=True)
        )
        return other - one
    return float((pair[1].macs if pair[1] else 0) - (pair[0].macs if pair[0] else 0))


def layers_of(comparison: Comparison, rows: Sequence[int | None]) -> list[Layer | None]:
    """The layers of a match: for each side its own, None where it has none."""
    return [
        None if place is None else report.layers[place]
        for place, report in zip(rows, comparison.reports, strict=True)
    ]


def per_item(seconds: float | None, side: Side) -> float | None:
    """Seconds of one sample of a call."""
    return None if seconds is None else seconds / side.items


def rate_of(report: Report) -> float | None:
    """FLOP/s of the whole, by its latency."""
    seconds = report.total.latency_s
    return report.total.flops / seconds if seconds else None


def _doubt(report: Report) -> str:
    return "~" if report.quality is not None and report.quality.word != "good" else ""
