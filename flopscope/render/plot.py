"""Report -> pictures in characters: FLOPs against time, what the time consists of, the roofline."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING

from flopscope.errors import InputError
from flopscope.render import bars
from flopscope.render.cells import cells, out_of_proportion
from flopscope.render.closing import sentences
from flopscope.render.grid import printable
from flopscope.render.headers import alarm, dtype_of, header
from flopscope.render.machines import roofline_lines
from flopscope.render.parts import PARTS, traits, withheld
from flopscope.render.phrases import filled
from flopscope.render.registry import Options, renderer
from flopscope.render.rows import Row, by_layers, cut, weight, whole_of
from flopscope.render.text import wrapped
from flopscope.units import rate_text, share_text

if TYPE_CHECKING:
    from flopscope.records import Layer
    from flopscope.reports import Report

WIDTH, MOST = 80, 120
"""Columns where nobody says how many; and at most, for a longer bar says no more."""

_LABEL = 24
_WORTH_A_BAR = 0.005
_CAPITAL = 0.01
"""From this share of the time a layer's letter in the roofline is a capital."""
_HEIGHT = 20
_FLOPS, _TIME = "34", "33"  # SGR codes: blue, yellow
_PAINT: Mapping[str, str] = dict(zip(PARTS, ("32", "33", "35", "31", "36"), strict=True))
_LETTER_PAINT = ("32", "33", "36", "35", "31", "34")
_LETTERS: Mapping[str, str] = {
    "conv": "C", "pointwise_conv": "P", "depthwise_conv": "D", "group_conv": "G", "transposed_conv": "T",
    "pconv": "Q", "se": "S", "linear": "L", "matmul": "M", "attention": "A", "recurrent": "R",
    "batch_norm": "B", "norm": "N", "activation": "F", "pooling": "O", "resampling": "U",
    "embedding": "H", "elementwise": "E", "reduction": "Z", "data_movement": "V", "other": "X",
}  # fmt: skip
"""The same in every picture, so that two can be set side by side."""
_EIGHTHS = " ▏▎▍▌▋▊▉"


@renderer("plot")
def render_plot(report: Report, options: Options) -> str:
    """Header; shares of FLOPs and time by kind; the five parts; the roofline; why time is not FLOPs.

    Raises:
        InputError: `by` is "op", or `depth` is given.
    """
    if options.by not in (None, "kind", "type") or options.depth is not None:
        raise InputError("pictures are drawn by kind or by type", hint='by="kind", by="type", or neither')
    options = replace(options, width=min(MOST, options.width or WIDTH))
    by = options.by or "kind"
    parts = [
        wrapped(header(report), options),
        wrapped(alarm(report), options),
        "\n".join(_shares(report, by, options)),
        "\n".join(_parts(report, by, options)),
        "\n".join(_roofline(report, options)),
        wrapped(sentences(report), options),
    ]
    if options.messages:
        parts.append(wrapped([*report.warnings, *report.notes], options))
    return "\n\n".join(part for part in parts if part)


def painted(text: str, code: str, options: Options) -> str:
    """The text in a colour, where colours are wanted; `code` is that of SGR."""
    return f"\x1b[{code}m{text}\x1b[0m" if options.color and text else text


def thin(share: float, room: int, options: Options) -> str:
    """A line `share` of `room` columns long; what is not nothing has half a column at least."""
    halves = max(round(2 * room * share), 1 if share > 0 else 0)
    if not options.blocks:
        return "-" * ((halves + 1) // 2)
    return "━" * (halves // 2) + "╸" * (halves % 2)


def thick(share: float, room: int, options: Options) -> str:
    """A bar `share` of `room` columns long, to an eighth of a column; a hash where these cannot be shown."""
    eighths = max(round(8 * room * share), 1 if share > 0 else 0)
    if not options.blocks:
        return "#" * max((eighths + 4) // 8, 1 if share > 0 else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


# --------------------------------------------------------------------------- FLOPs are not time


def _shares(report: Report, by: str, options: Options) -> Iterator[str]:
    """Two bars for each kind on one scale: its share of the FLOPs above, of the time below."""
    rows = by_layers(report.layers, by, whole_of(report), traits(report))
    timed = whole_of(report).latency_s is not None
    shown = cut([row for row in rows if _material(row)], replace(options, sort=None))[0]
    if not shown:
        return
    title = f"FLOPs are not time: what share of both each {by} has"
    if not timed:
        title = f"FLOPs: what share each {by} has. Time was not measured"
    yield from filled(title, options.width, 2).splitlines()
    most = max((share for row in shown for share in _both(row)), default=0.0)
    label = min(_LABEL, (options.width or WIDTH) // 4, max(len(printable(row[by])) for row in shown))
    room = max(8, (options.width or WIDTH) - label - (28 if timed else 10))
    for row in shown:
        yield from _pair(row, by, label, room, most, timed, options)
    small = [row for row in rows if row not in shown and (row["flops"] or row["latency_s"])]
    if small:
        flops, time = (sum(row[name] or 0.0 for row in small) for name in ("flops_share", "latency_share"))
        both = f", {share_text(time)} % of the time" if timed else ""
        line = f"{len(small)} more: {share_text(flops)} % of the FLOPs{both}"
        yield from filled(line, options.width, 2).splitlines()


def _pair(
    row: Row, by: str, label: int, room: int, most: float, timed: bool, options: Options
) -> Iterator[str]:
    name = printable(row[by])
    name = name if len(name) <= label else f"{name[: label - 1]}{'…' if options.blocks else '.'}"
    flops, time = _both(row)
    bar = thin(flops / most, room, options)
    gap = " " * (room - len(bar))
    word = "  FLOPs " if timed else "  "
    yield f"{name:{label}}{word}{painted(bar, _FLOPS, options)}{gap} {share_text(flops):>5} %"
    if timed:
        bar = thick(time / most, room, options)
        gap = " " * (room - len(bar))
        share = f"{'~' if row['traits'].doubtful else ''}{share_text(time)} %"
        ratio = cells(row, ("ratio",))[0]
        ratio = painted(ratio, _TIME, options) if out_of_proportion(row) else ratio
        line = f"{'':{label}}  time  {painted(bar, _TIME, options)}{gap} {share:>7}  {ratio}"
        yield line.rstrip()


def _both(row: Row) -> tuple[float, float]:
    return row["flops_share"] or 0.0, row["latency_share"] or 0.0


def _material(row: Row) -> bool:
    return max(_both(row)) >= _WORTH_A_BAR


# --------------------------------------------------------------------------- the five parts


def _parts(report: Report, by: str, options: Options) -> Iterator[str]:
    lines = bars.groups(report, by, options, most=MOST)
    if not lines:
        return
    yield f"What the time consists of, by {by}"
    runs = re.compile("|".join(f"{sign}+" for sign in bars.BLOCKS.values()))
    codes = {sign: _PAINT[part] for part, sign in bars.BLOCKS.items()}
    for line in lines:
        if options.blocks:
            yield runs.sub(lambda run: painted(run[0], codes[run[0][0]], options), line)
        else:
            yield line


# --------------------------------------------------------------------------- the roofline


def _roofline(report: Report, options: Options) -> Iterator[str]:
    """Layers as letters under the roofs of their dtype, the kind's own letter for each; then the key."""
    machine, dtype, whole = report.machine, dtype_of(report), whole_of(report).latency_s
    missing = _without_roofs(report)
    if machine is None or not whole or missing:
        yield from filled(f"No roofline: {missing}", options.width, 2).splitlines() if whole else ()
        return
    placed = [layer for layer in report.layers if layer.flops_per_s and layer.arithmetic_intensity]
    there = {layer.kind for layer in placed}
    ranked = sorted(by_layers(report.layers, "kind", whole_of(report)), key=weight, reverse=True)
    letters = {row["kind"]: _LETTERS.get(row["kind"], "*") for row in ranked if row["kind"] in there}
    signs = [
        (_sign(layer, letters, whole, options), layer.arithmetic_intensity or 0.0, layer.flops_per_s or 0.0)
        for layer in sorted(placed, key=lambda layer: layer.latency_s or 0.0)
    ]
    roofs = replace(machine, peaks=tuple(peak for peak in machine.peaks if peak.dtype == dtype))
    lines = roofline_lines(
        roofs, signs, width=options.width or WIDTH, height=_HEIGHT, plain=not options.blocks
    )
    peak = machine.peak(dtype) or 0.0
    title = f"Roofline ({dtype} {rate_text(peak)}): each letter a layer, a capital from 1 % of the time on"
    yield from filled(title, options.width, 2).splitlines()
    yield from lines
    key = [f"{letter} {kind}" for kind, letter in letters.items()]
    yield from _joined(key, options.width or WIDTH)


def _without_roofs(report: Report) -> str:
    """Why no layer can be held against roofs; "" where they can."""
    machine, dtype = report.machine, dtype_of(report)
    if withheld(report):
        return "nothing can be said of rates where timing is void"
    if machine is None:
        return "the roofs of the machine are not known (flopscope machine)"
    if machine.form == "sheet":
        return f"what was measured here does not run under the roofs of {machine.name}"
    if machine.peak(dtype) is None or not machine.bandwidth:
        return f"no roof is known for {dtype or 'an unknown dtype'}"
    return ""


def _sign(layer: Layer, letters: Mapping[str, str], whole: float, options: Options) -> str:
    letter = letters[layer.kind]
    if (layer.latency_s or 0.0) < _CAPITAL * whole:
        letter = letter.lower()
    codes = dict(zip(letters, cycle(_LETTER_PAINT), strict=False))
    return painted(letter, codes[layer.kind], options)


def _joined(words: Sequence[str], width: int) -> list[str]:
    """Words in lines, three blanks between them."""
    lines = list(words[:1])
    for word in words[1:]:
        longer = f"{lines[-1]}   {word}"
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
