"""Parts -> bars in plain text: what time consists of, one cell for an equal piece of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flopscope.errors import InputError
from flopscope.render.grid import printable
from flopscope.render.parts import PARTS, Parts, parts_of, traits, withheld
from flopscope.render.registry import Options, renderer
from flopscope.render.rows import by_layers, whole_of
from flopscope.units import milliseconds_text

if TYPE_CHECKING:
    from flopscope.reports import Report

BLOCKS: Mapping[str, str] = dict(zip(PARTS, "█▓▒░·", strict=True))
LETTERS: Mapping[str, str] = dict(zip(PARTS, "CKOAM", strict=True))
"""What fills a part where block characters cannot be shown."""

_WIDTH = 80
_LEAST = 10
_LONGEST_LABEL = 24
_NOTHING = "no time was taken apart"


@renderer("bars")
def render_bars(report: Report, options: Options) -> str:
    """The whole as one bar; with `by` "kind" or "type" a bar for each, as long as its time.

    Raises:
        InputError: `by` is something else, or `depth` is given.
    """
    if options.by not in (None, "kind", "type") or options.depth is not None:
        raise InputError("bars are drawn of the whole, a kind or a type", hint='by="kind" or by="type"')
    if options.by is None:
        return "\n".join(whole(report, options) or [_NOTHING])
    return "\n".join(groups(report, options.by, options) or [_NOTHING])


def whole(report: Report, options: Options) -> list[str]:
    """Three lines: whose time it is, its bar, the legend with shares; none where nothing is known."""
    found = _known(report)
    if found is None:
        return []
    width = _width(options)
    title = f"undisturbed time of the layers, {milliseconds_text(found.total_s)} ms"
    if found.cheap:
        title += ", by roofs alone"
    return [title, stacked(found, width, blocks=options.blocks), *legend(found, options, shares=True)]


def groups(report: Report, by: str, options: Options, *, most: int = _WIDTH) -> list[str]:
    """A line for each kind or type that has parts, the longest time the longest bar; then the legend.

    Args:
        report: whose.
        by: "kind" or "type".
        options: the width, and which signs can be shown.
        most: characters that a line has at most, however wide the terminal is.
    """
    everything = _known(report)
    if everything is None:
        return []
    rows = by_layers(report.layers, by, whole_of(report), traits(report))
    shown = [(printable(row[by]), row["parts"]) for row in rows if row["parts"] is not None]
    labels = max(min(len(label), _LONGEST_LABEL) for label, _ in shown)
    times = [milliseconds_text(parts.total_s) for _, parts in shown]
    numbers = max(map(len, times))
    room = max(_LEAST, _width(options, most) - labels - numbers - 7)
    longest = max(parts.total_s for _, parts in shown)
    lines = []
    for (label, parts), time in zip(shown, times, strict=True):
        bar = stacked(parts, round(room * parts.total_s / longest), blocks=options.blocks)
        lines.append(f"{_short(label):{labels}}  {time:>{numbers}} ms  {bar}".rstrip())
    return [*lines, *legend(everything, options, shares=False)]


def stacked(parts: Parts, width: int, *, blocks: bool = True) -> str:
    """A bar of exactly `width` characters; each part's cells are in proportion to it."""
    signs = BLOCKS if blocks else LETTERS
    cells = apportioned([parts.seconds[part] for part in PARTS], width)
    return "".join(signs[part] * count for part, count in zip(PARTS, cells, strict=True))


def apportioned(amounts: Sequence[float], cells: int) -> list[int]:
    """Whole cells in proportion to the amounts; the largest fractions are rounded up until all are given."""
    total = sum(amounts)
    exact = [cells * amount / total for amount in amounts]
    given = [int(share) for share in exact]
    neediest = sorted(range(len(exact)), key=lambda k: exact[k] - given[k], reverse=True)
    for k in neediest[: cells - sum(given)]:
        given[k] += 1
    return given


def legend(parts: Parts, options: Options, *, shares: bool) -> list[str]:
    """What fills which part, with its share of the whole; broken where a line has no room."""
    signs = BLOCKS if options.blocks else LETTERS
    entries = []
    for part in PARTS:
        share = f" {100 * parts.share(part):.1f} %" if shares else ""
        entries.append(f"{signs[part]} {parts.name(part)}{share}")
    lines = [entries[0]]
    for entry in entries[1:]:
        longer = f"{lines[-1]}   {entry}"
        if options.width is None or len(longer) <= options.width:
            lines[-1] = longer
        else:
            lines.append(entry)
    return lines


def _known(report: Report) -> Parts | None:
    return None if withheld(report) else parts_of(report.layers, traits(report))


def _width(options: Options, most: int = _WIDTH) -> int:
    return max(_LEAST, min(most, options.width or _WIDTH))


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
