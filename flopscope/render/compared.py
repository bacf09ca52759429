"""Comparison -> text, Markdown, HTML, CSV, JSON: sides with ratios, sums by kind, layers side by side."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from flopscope.errors import InputError
from flopscope.records import Layer, Ratio, Rewrote, Side
from flopscope.render.grid import Grid, escaped, lay_out, lay_out_ruled, printable
from flopscope.units import bytes_text, count_text, giga_text, milliseconds_text, shape_text

if TYPE_CHECKING:
    from flopscope.comparison import Comparison
    from flopscope.reports import Report

_ROWS = 15
_MOST_SIDES = 4  # of which sums by kind are shown
_LONGEST = 12  # characters of a name that may stand in a heading
_NUMBERS = ("macs", "flops", "params", "bytes_read", "bytes_written", "latency_s", "latency_floor_s")
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


def rendered(comparison: Comparison, name: str, *, top: int | None, width: int | None) -> str:
    """Show a comparison in a format.

    Raises:
        InputError: There is no such format.
    """
    formats: dict[str, Callable[[], str]] = {
        "text": lambda: _text(comparison, top, width),
        "markdown": lambda: _markdown(comparison, top),
        "html": lambda: _html(comparison, top),
        "csv": lambda: _csv(comparison),
        "json": lambda: _json(comparison),
    }
    if name not in formats:
        raise InputError(f"no format {name!r} for a comparison", hint=f"formats: {', '.join(formats)}")
    return formats[name]()


def side_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row per side, in base units; latency is that of one sample."""
    rows = []
    for side, report, ratio in zip(comparison.sides, comparison.reports, comparison.ratios, strict=True):
        total = report.total
        seconds = _per_item(total.latency_s, side)
        rows.append(
            {
                "name": side.name, "model": report.model, "inputs": report.settings.inputs,
                "items": side.items, "params": total.params, "macs": total.macs, "flops": total.flops,
                "bytes_read": total.bytes_read, "bytes_written": total.bytes_written,
                "peak_activation_bytes": report.peak_activation_bytes,
                "latency_s": seconds,
                "flops_per_s": _rate(report),
                "ratio": ratio.value if ratio else None,
                "ratio_low": ratio.low if ratio else None,
                "ratio_high": ratio.high if ratio else None,
                "verdict": ratio.verdict if ratio else None,
                "quality": report.quality.word if report.quality else None,
            }
        )  # fmt: skip
    return rows


def layer_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row per match: what it is on the first side that has it, and the numbers of every side."""
    rows = []
    for match in comparison.matches:
        layers = _layers(comparison, match.rows)
        known = next(layer for layer in layers if layer is not None)
        shape = None if known.output_shape is None else shape_text(known.output_shape)
        row: dict[str, Any] = {"path": known.label, "kind": known.kind, "output_shape": shape, "by": match.by}
        for side, layer in zip(comparison.sides, layers, strict=True):
            for number in _NUMBERS:
                row[f"{number}:{side.name}"] = None if layer is None else getattr(layer, number)
        rows.append(row)
    return rows


def _text(comparison: Comparison, top: int | None, width: int | None) -> str:
    parts = [_filled(line, width) for line in _opening(comparison)]
    parts += [f"{title}\n{lay_out_ruled(grid)}".lstrip("\n") for title, grid in _tables(comparison, top)]
    closing = "\n".join(_filled(line, width) for line in _closing(comparison))
    return "\n\n".join(part for part in (*parts, closing) if part)


def _markdown(comparison: Comparison, top: int | None) -> str:
    from flopscope.render.markdown import escape

    parts = [
        f"{title}\n\n{lay_out(escaped(grid, escape), 'pipe')}".lstrip("\n")
        for title, grid in _tables(comparison, top)
    ]
    lines = [escape(line) for line in (*_opening(comparison), *_closing(comparison))]
    return "\n\n".join([*parts, *lines]) + "\n"


def _html(comparison: Comparison, top: int | None) -> str:
    from html import escape

    tables = [
        f"<p><b>{escape(title)}</b></p>{lay_out(grid, 'html')}" for title, grid in _tables(comparison, top)
    ]
    lines = [f"<p>{escape(line)}</p>" for line in (*_opening(comparison), *_closing(comparison))]
    return "\n".join([*tables, *lines]) + "\n"


def _csv(comparison: Comparison) -> str:
    rows = layer_rows(comparison)
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, list(rows[0]) if rows else ["path"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sheet.getvalue()


def _json(comparison: Comparison) -> str:
    top = {
        "format": "flopscope-comparison",
        "version": 1,
        "margin": comparison.margin,
        "sides": side_rows(comparison),
        "rewrites": {
            side.name: asdict(side.rewrote) for side in comparison.sides if side.rewrote is not None
        },
        "refused": [asdict(refused) for refused in comparison.refused],
        "layers": layer_rows(comparison),
        "notes": comparison.notes,
        "warnings": comparison.warnings,
    }
    return json.dumps(top, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


# --------------------------------------------------------------------------- lines


def _opening(comparison: Comparison) -> list[str]:
    """What was run, where, and how far it can be trusted."""
    first = comparison.reports[0]
    inputs = list(dict.fromkeys(report.settings.inputs for report in comparison.reports))
    threads = f"{first.environment.threads} thread{'s' if first.environment.threads != 1 else ''}"
    place = f"{first.environment.cpu}   {threads}   torch {first.environment.torch}"
    models = list(dict.fromkeys(report.model for report in comparison.reports))
    lines = [f"{' against '.join(models)}   {' and '.join(inputs)}   {first.settings.device or 'cpu'}", place]
    words = {report.quality.word: report.quality for report in comparison.reports if report.quality}
    for word in ("void", "disturbed"):
        if word in words:
            reasons = "; ".join(words[word].reasons)
            lines.append(f"timing {word}: {reasons}")
            break
    return [printable(line) for line in lines]


def _closing(comparison: Comparison) -> list[str]:
    """What the tables mean, and what could not be done."""
    lines = []
    if any(ratio is not None for ratio in comparison.ratios):
        turns = min(ratio.turns for ratio in comparison.ratios if ratio is not None)
        lines.append(
            f"time: latency over that of {comparison.sides[0].name}, in {turns} turns of one run; interval of"
            f" resampled blocks of turns; same: within {100 * comparison.margin:g} %. It holds for this run"
            " on this machine."
        )
    for place in range(1, len(comparison.sides)):
        pair = comparison.first_difference(place)
        if pair is not None and comparison.sides[place].rewrote is None:
            shapes = " and ".join(shape_text(layer.output_shape or ()) for layer in pair)
            name, label = comparison.sides[place].name, pair[0].label
            lines.append(f"{name}: the first layer of another shape is {label}: {shapes}")
    for side in comparison.sides:
        lines += _of_rewrite(side)
    lines += [f"{refused.name} was not done: {refused.reason}" for refused in comparison.refused]
    return [printable(line) for line in lines]


def _of_rewrite(side: Side) -> list[str]:
    """What a rewrite did, whether the function is the same, and what it left alone."""
    rewrote = side.rewrote
    if rewrote is None:
        return []
    words = [f"{side.name}: {_function(rewrote)}"]
    if rewrote.changed:
        words.append(f"changed {len(rewrote.changed)}: {_listed(rewrote.changed)}")
    if rewrote.skipped:
        words.append(f"left {len(rewrote.skipped)}, as {rewrote.skipped[0]}")
    if rewrote.prepare_s is not None:
        words.append(f"prepared once in {rewrote.prepare_s:.1f} s")
    return ["; ".join(words)]


def _function(rewrote: Rewrote) -> str:
    if rewrote.function == "changed":
        return "ANOTHER FUNCTION, fresh weights"
    found = "same function"
    if rewrote.function == "precision":
        found = "same function within the dtype's precision"
    if rewrote.precise_relative is not None:
        return (
            f"{found} (largest difference {rewrote.precise_relative:.1e} of the largest output, in float64)"
        )
    if rewrote.relative is not None:
        return f"{found} (largest difference {rewrote.relative:.1e} of the largest output)"
    return found


# --------------------------------------------------------------------------- tables


def _tables(comparison: Comparison, top: int | None) -> list[Table]:
    tables = [("", _of_sides(comparison))]
    kinds = _of_kinds(comparison)
    if kinds is not None:
        tables.append(("by kind: MACs, and ms where measured", kinds))
    layers = _of_layers(comparison, top)
    if layers is not None:
        tables.append(layers)
    return tables


def _of_sides(comparison: Comparison) -> Grid:
    """The first side, then the others: by rank where a model was rewritten, else in their own order."""
    ranked = any(side.rewrote for side in comparison.sides)
    labels = _labels(comparison)
    order = (0, *(comparison.ranking() if ranked else range(1, len(comparison.sides))))
    rows = []
    for place in order:
        side, report, ratio = comparison.sides[place], comparison.reports[place], comparison.ratios[place]
        total, bound = report.total, "≥ " if report.uncosted else ""
        seconds, rate = _per_item(total.latency_s, side), _rate(report)
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


def _labels(comparison: Comparison) -> list[str]:
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


def _of_kinds(comparison: Comparison) -> Grid | None:
    """Kinds by what they take on the first side; as many columns as sides, where these are few."""
    if len(comparison.sides) > _MOST_SIDES:
        return None
    measured = any(report.total.latency_s is not None for report in comparison.reports)
    found: dict[str, list[list[float]]] = {}
    timed = [any(layer.latency_s for layer in report.layers) for report in comparison.reports]
    for place, (side, report) in enumerate(zip(comparison.sides, comparison.reports, strict=True)):
        for layer in report.layers:
            sums = found.setdefault(layer.kind, [[0, 0] for _ in comparison.sides])
            sums[place][0] += layer.macs
            sums[place][1] += _per_item(layer.latency_s, side) or 0.0
    ranked = sorted(found.items(), key=lambda item: -max((s[1], s[0]) for s in item[1])[0 if measured else 1])
    headings = ["kind"]
    for label in _labels(comparison):
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
    pairs = [_layers(comparison, match.rows) for match in comparison.matches]
    measured = all(report.total.latency_s is not None for report in comparison.reports)
    scores = [_difference(pair, comparison.sides, measured) for pair in pairs]
    count = len(pairs) if top == 0 else top or _ROWS
    places = (
        range(len(pairs)) if top == 0 else sorted(range(len(pairs)), key=lambda k: -abs(scores[k]))[:count]
    )
    shown = [k for k in places if top == 0 or scores[k]]
    if not shown:
        return None
    names = _labels(comparison)
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
            seconds = None if layer is None else _per_item(layer.latency_s, side)
            cells.append("-" if seconds is None else milliseconds_text(seconds))
    return cells


def _difference(pair: Sequence[Layer | None], sides: Sequence[Side], measured: bool) -> float:
    if measured:
        one, other = (
            (_per_item(layer.latency_s, side) or 0.0) if layer else 0.0
            for layer, side in zip(pair, sides, strict=True)
        )
        return other - one
    return float((pair[1].macs if pair[1] else 0) - (pair[0].macs if pair[0] else 0))


def _layers(comparison: Comparison, rows: Sequence[int | None]) -> list[Layer | None]:
    return [
        None if place is None else report.layers[place]
        for place, report in zip(rows, comparison.reports, strict=True)
    ]


def _per_item(seconds: float | None, side: Side) -> float | None:
    return None if seconds is None else seconds / side.items


def _rate(report: Report) -> float | None:
    seconds = report.total.latency_s
    return report.total.flops / seconds if seconds else None


def _doubt(report: Report) -> str:
    return "~" if report.quality is not None and report.quality.word != "good" else ""


def _listed(paths: Sequence[str], most: int = 3) -> str:
    return ", ".join(paths[:most]) + (f" and {len(paths) - most} more" if len(paths) > most else "")


def _filled(line: str, width: int | None) -> str:
    return (
        line if width is None else textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False)
    )
