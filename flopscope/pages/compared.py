"""Comparison -> its page: the sides, their ratios, both pictures, kinds, layers, what was rewritten."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from markupsafe import Markup

from flopscope import pictures
from flopscope.pages import embedded, explained, summary
from flopscope.pages.documents import document
from flopscope.pages.inking import inked
from flopscope.pages.layers import Cell, Line, Table, alignment, split
from flopscope.pages.sheets import Sheet
from flopscope.records import Layer, Rewrote, Side
from flopscope.render.cells import NOT_APPLICABLE
from flopscope.render.compared_tables import labels_of, layers_of, of_sides, per_item, tables
from flopscope.render.grid import Grid
from flopscope.units import count_text, milliseconds_text, number_text, shape_text
from flopscope.version import __version__

if TYPE_CHECKING:
    from flopscope.comparison import Comparison

COMPARISON = "flopscope-comparison"
MOST_PICTURES = 4
"""Sides of which the modules are drawn."""
_FUNCTIONS = {
    "same": "the same",
    "precision": "the same within the dtype's precision",
    "changed": "ANOTHER FUNCTION, fresh weights",
}
_ROW = re.compile(r'data-row="(\d+)"')


def comparison_page(comparison: Comparison) -> str:
    """One HTML document with the whole comparison."""
    table = _layers(comparison)
    drawn, looks = _drawn(comparison)
    return document(
        "comparison.html.j2",
        what="comparison",
        style=alignment(table) + looks,
        carried={COMPARISON: embedded.comparison_text(comparison)},
        comparison=comparison,
        title=_title(comparison),
        measured=any(report.total.latency_s is not None for report in comparison.reports),
        badge=_badge(comparison),
        facts=summary.facts(comparison.reports[0]),
        verdicts=list(_verdicts(comparison)),
        sides=Sheet("The sides", of_sides(comparison)),
        models=_models(comparison),
        turns=min((ratio.turns for ratio in comparison.ratios if ratio is not None), default=None),
        margin=f"{100 * comparison.margin:g}",
        ratios=drawn.pop(""),
        drawn=drawn,
        by_kind=_kinds(comparison),
        differences=list(_differences(comparison)),
        table=table,
        kinds=sorted({line.kind for line in table.lines}),
        told=explained.nothing(len(table.lines)),
        rewrites=_rewrites(comparison),
        refused=_refused(comparison),
        version=__version__,
    )


def _title(comparison: Comparison) -> str:
    """The sides by name; with the model before them where all are that model, done otherwise."""
    first, *others = [side.name for side in comparison.sides]
    models = {report.model for report in comparison.reports}
    names = f"{first} against {', '.join(others)}" if others else first
    return f"{models.pop()}: {names}" if len(models) == 1 and first not in models else names


def _badge(comparison: Comparison) -> summary.Badge:
    """The worst word of the sides, with what is said of it."""
    pairs = zip(comparison.sides, comparison.reports, strict=True)
    badges = [_of_side(side, summary.badge(report)) for side, report in pairs]
    order = ("void", "disturbed", "not judged", "good", "counts only")
    return min(badges, key=lambda badge: order.index(badge.word) if badge.word in order else 0)


def _of_side(side: Side, badge: summary.Badge) -> summary.Badge:
    return replace(badge, reasons=tuple(f"{side.name}: {reason}" for reason in badge.reasons))


def _verdicts(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """For each side with a ratio a sentence and its verdict, the fastest first."""
    for place in comparison.ranking():
        side, ratio = comparison.sides[place], comparison.ratios[place]
        if ratio is not None:
            changed = side.rewrote is not None and side.rewrote.function == "changed"
            name = f"{side.name} (another function)" if changed else side.name
            taken, low, high = (number_text(value) for value in (ratio.value, ratio.low, ratio.high))
            first = comparison.sides[0].name
            yield ratio.verdict, f"{name} takes {taken} times as long as {first} ({low} to {high})"


def _models(comparison: Comparison) -> Sheet:
    """What each side is: its model, its input, its letter in the tables where it has one."""
    pairs = zip(labels_of(comparison), comparison.sides, comparison.reports, strict=True)
    rows = [
        [label, side.name, report.model, report.settings.inputs, _origin(side)]
        for label, side, report in pairs
    ]
    grid = Grid(("in tables", "side", "model", "input", "timing"), ("left",) * 5, rows)
    return Sheet("What was compared", grid)


def _origin(side: Side) -> str:
    timed = "in turns with the others" if side.measured else "not in this run"
    return timed + (f", one of {side.items} items" if side.items > 1 else "")


def _drawn(comparison: Comparison) -> tuple[dict[str, Markup], str]:
    """The ratios under "", the modules of each side under its name, and the rules of their looks.

    Tiles lead to the rows of this page's table.
    """
    pictured = {"": pictures.ratios(comparison)}
    for number, side in enumerate(comparison.sides[:MOST_PICTURES]):
        rows = {str(match.rows[number]): str(place) for place, match in enumerate(comparison.matches)}
        svg = pictures.icicles(comparison.reports[number])
        pictured[side.name] = _ROW.sub(partial(_renumbered, rows), svg)
    drawn, looks = inked(pictured)
    return {
        name: Markup(svg) for name, svg in drawn.items()
    }, looks  # texts were escaped where they were drawn


def _renumbered(rows: Mapping[str, str], found: re.Match[str]) -> str:
    return f'data-row="{rows[found[1]]}"'


def _kinds(comparison: Comparison) -> Sheet | None:
    grid = next((grid for _, grid in tables(comparison, None) if grid.headings[0] == "kind"), None)
    return None if grid is None else Sheet("By kind: MACs, and ms where measured", grid)


def _differences(comparison: Comparison) -> Iterator[str]:
    """For each side the first layer whose output has another shape."""
    for place, side in enumerate(comparison.sides[1:], 1):
        pair = comparison.first_difference(place)
        if pair is not None:
            shapes = " and ".join(shape_text(layer.output_shape or ()) for layer in pair)
            text = f"{side.name}: the first layer of another shape is {pair[0].label}: {shapes}"
            yield text


# --------------------------------------------------------------------------- layers


def _layers(comparison: Comparison) -> Table:
    """All matches, in the order of the first side; two sides also get their difference."""
    labels = labels_of(comparison)
    timed = any(report.total.latency_s is not None for report in comparison.reports)
    pair = len(comparison.sides) == 2
    headings = ["kind", "output", *(f"MACs {label}" for label in labels)]
    headings += [f"ms {label}" for label in labels] if timed else []
    headings += ["difference ms" if timed else "difference MACs"] if pair else []
    numeric = (False, False, *(True for _ in headings[2:]))
    lines = tuple(
        _line(place, layers_of(comparison, match.rows), comparison.sides, timed=timed)
        for place, match in enumerate(comparison.matches)
    )
    return Table(tuple(headings), tuple(headings), numeric, numeric, lines, ())


def _line(place: int, layers: Sequence[Layer | None], sides: Sequence[Side], *, timed: bool) -> Line:
    known = [layer for layer in layers if layer is not None]
    kinds, shapes = (
        dict.fromkeys(layer.kind for layer in known),
        dict.fromkeys(shape_text(layer.output_shape or ()) for layer in known),
    )
    macs = [None if layer is None else layer.macs for layer in layers]
    seconds = [
        None if layer is None else per_item(layer.latency_s, side)
        for layer, side in zip(layers, sides, strict=True)
    ]
    cells = [Cell(" > ".join(kinds)), Cell(" > ".join(shapes))]
    cells += [
        Cell(NOT_APPLICABLE) if count is None else Cell(count_text(count), str(count)) for count in macs
    ]
    if timed:
        cells += [_time(value) for value in seconds]
    if len(layers) == 2:
        cells.append(_change(*seconds) if timed else _growth(*macs))
    above, name = split(known[0].label)
    return Line(place, 1, above, name, known[0].kind, tuple(cells))


def _time(seconds: float | None) -> Cell:
    return Cell(NOT_APPLICABLE) if seconds is None else Cell(milliseconds_text(seconds), f"{seconds:.6g}")


def _change(one: float | None, other: float | None) -> Cell:
    """Seconds more on the second side, a missing layer taking none."""
    if one is None and other is None:
        return Cell(NOT_APPLICABLE)
    change = (other or 0.0) - (one or 0.0)
    return Cell(f"{'+' if change > 0 else ''}{milliseconds_text(change)}", f"{change:.6g}")


def _growth(one: int | None, other: int | None) -> Cell:
    change = (other or 0) - (one or 0)
    return Cell(f"{'+' if change > 0 else '-' if change < 0 else ''}{count_text(abs(change))}", str(change))


# --------------------------------------------------------------------------- rewrites


def _rewrites(comparison: Comparison) -> Sheet | None:
    """What each rewrite did, and whether the function is the same; None where nothing was rewritten."""
    rows = [_rewrite(side.name, side.rewrote) for side in comparison.sides if side.rewrote is not None]
    if not rows:
        return None
    headings = ("rewrite", "function", "difference", "in float64", "places", "among them", "left alone")
    sides = ("left", "left", "right", "right", "right", "left", "left", "right")
    caption = "Rewrites: the largest difference of outputs is in shares of the largest output"
    return Sheet(caption, Grid((*headings, "prepared s"), sides, rows))


def _rewrite(name: str, done: Rewrote) -> list[str]:
    return [
        name,
        _FUNCTIONS.get(done.function, done.function),
        _difference(done.relative),
        _difference(done.precise_relative),
        str(len(done.changed)),
        _some(done.changed),
        _some(done.skipped, most=1),
        NOT_APPLICABLE if done.prepare_s is None else f"{done.prepare_s:.1f}",
    ]


def _some(texts: Sequence[str], most: int = 3) -> str:
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more if texts else NOT_APPLICABLE


def _difference(share: float | None) -> str:
    return "not checked" if share is None else f"{share:.1e}" if share else "0"


def _refused(comparison: Comparison) -> Sheet | None:
    if not comparison.refused:
        return None
    rows = [[one.name, one.reason, one.hint or NOT_APPLICABLE] for one in comparison.refused]
    return Sheet("Not done", Grid(("rewrite", "why not", "hint"), ("left",) * 3, rows))
