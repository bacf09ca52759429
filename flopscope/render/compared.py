"""Comparison -> text, Markdown, LaTeX, HTML, CSV, JSON: sides, sums by kind, layers side by side."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flopscope.errors import InputError
from flopscope.records import Rewrote, Side
from flopscope.render.compared_tables import layers_of, per_item, rate_of, tables
from flopscope.render.grid import escaped, lay_out, lay_out_ruled, printable
from flopscope.render.registry import Options
from flopscope.units import shape_text

if TYPE_CHECKING:
    from flopscope.comparison import Comparison

_GAP = "   "
"""Between the facts of a line; formats that join blanks get a sign."""
_NUMBERS = ("macs", "flops", "params", "bytes_read", "bytes_written", "latency_s", "latency_floor_s")


def rendered(comparison: Comparison, name: str, *, top: int | None, width: int | None) -> str:
    """Show a comparison in a format.

    Raises:
        InputError: There is no such format.
    """
    formats: dict[str, Callable[[], str]] = {
        "text": lambda: _text(comparison, top, width),
        "markdown": lambda: _markdown(comparison, top),
        "latex": lambda: _latex(comparison, top),
        "plot": lambda: plotted(comparison, Options(width=width)),
        "html": lambda: html_of(comparison, top),
        "svg": lambda: _svg(comparison),
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
        seconds = per_item(total.latency_s, side)
        rows.append(
            {
                "name": side.name, "model": report.model, "inputs": report.settings.inputs,
                "items": side.items, "params": total.params, "macs": total.macs, "flops": total.flops,
                "bytes_read": total.bytes_read, "bytes_written": total.bytes_written,
                "peak_activation_bytes": report.peak_activation_bytes,
                "latency_s": seconds,
                "flops_per_s": rate_of(report),
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
        layers = layers_of(comparison, match.rows)
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
    parts += [f"{title}\n{lay_out_ruled(grid)}".lstrip("\n") for title, grid in tables(comparison, top)]
    closing = "\n".join(_filled(line, width) for line in _closing(comparison))
    return "\n\n".join(part for part in (*parts, closing) if part)


def plotted(comparison: Comparison, options: Options) -> str:
    """Ratios with their intervals, and what the kinds take, as pictures in characters."""
    from flopscope.render.compared_plot import kind_lines, ratio_lines
    from flopscope.render.plot import MOST, WIDTH

    width = min(MOST, options.width or WIDTH)
    parts = ["\n".join(_filled(line, width) for line in _opening(comparison))]
    parts += ["\n".join(draw(comparison, options)) for draw in (ratio_lines, kind_lines)]
    parts.append("\n".join(_filled(line, width) for line in _closing(comparison)))
    return "\n\n".join(part for part in parts if part)


def _markdown(comparison: Comparison, top: int | None) -> str:
    from flopscope.render.markdown import escape

    parts = [
        f"{title}\n\n{lay_out(escaped(grid, escape), 'pipe')}".lstrip("\n")
        for title, grid in tables(comparison, top)
    ]
    lines = [escape(line.replace(_GAP, " · ")) for line in (*_opening(comparison), *_closing(comparison))]
    return "\n\n".join([*parts, *lines]) + "\n"


def _latex(comparison: Comparison, top: int | None) -> str:
    r"""A `tabular` for each table; titles and what is to be known besides stand in comments."""
    from flopscope.render.latex import NEEDS, escape, ruled

    parts = [
        f"% {title}\n{ruled(escaped(grid, escape))}".removeprefix("% \n")
        for title, grid in tables(comparison, top)
    ]
    lines = [f"% {line}" for line in (*_opening(comparison), *_closing(comparison))]
    return "\n".join([NEEDS, "\n\n".join(parts), *lines]) + "\n"


def html_of(comparison: Comparison, top: int | None = None, *, picture: str = "") -> str:
    """What was compared, the picture where there is one, tables, and what is to be known besides."""
    from html import escape

    first, *opening = [escape(line.replace(_GAP, " · ")) for line in _opening(comparison)]
    parts = [f"<p><b>{first}</b></p>", *(f"<p>{line}</p>" for line in opening), picture]
    for title, grid in tables(comparison, top):
        parts += [f"<p><b>{escape(title)}</b></p>" if title else "", lay_out(grid, "html")]
    parts += [f"<p>{escape(line)}</p>" for line in _closing(comparison)]
    return "\n".join(part for part in parts if part) + "\n"


def _svg(comparison: Comparison) -> str:
    from flopscope.pictures import ratios

    drawn = ratios(comparison, static=True)
    if not drawn:
        raise InputError(
            "no ratio of times was measured, so there is nothing to draw",
            hint="compare models rather than saved reports, and without --no-latency",
        )
    return drawn + "\n"


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


def _listed(paths: Sequence[str], most: int = 3) -> str:
    return ", ".join(paths[:most]) + (f" and {len(paths) - most} more" if len(paths) > most else "")


def _filled(line: str, width: int | None) -> str:
    return (
        line if width is None else textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False)
    )
