"""Why -> its table of alternatives: the layer beside itself done otherwise, conditions as footnotes."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING

from flopscope.records import Counterfactual
from flopscope.render.why_lines import Table
from flopscope.units import count_text, giga_text, milliseconds_text, number_text

if TYPE_CHECKING:
    from flopscope.diagnosis import Why

_NAMES: tuple[str, ...] = (
    "alternative",
    "MACs",
    "FLOPs",
    "GFLOP/s",
    "ms",
    "this ms",
    "FLOPs x",
    "time x",
    "see",
)
_SIDES: tuple[str, ...] = ("left", "right", "right", "right", "right", "right", "right", "left", "left")
_SPARE = ("MACs", "this ms", "FLOPs", "ms", "GFLOP/s")
_OTHER_FUNCTION = "computes another function"


def compared(why: Why) -> Table | None:
    """The table; None where nothing was done otherwise."""
    found = why.counterfactuals
    if not found:
        return None
    flops = _counts(why)[1]
    common, marks = _footnotes(found)
    rows = [
        _this(why),
        *(_alternative(item, flops, mark) for item, mark in zip(found, marks[0], strict=True)),
    ]
    lines = [f"{letter}  {text}" for letter, text in marks[1]]
    lines += [f"All: {'; '.join(common)}"] if common else []
    heading = "Compared on this machine, each pair measured side by side and alone: compare within a row"
    if found[0].subject:
        heading += f"; this is the layer's costliest operator, {found[0].subject}"
    shown = len(_NAMES) if any(row[-1] for row in rows) else len(_NAMES) - 1
    rows = [row[:shown] for row in rows]
    return Table(heading, _NAMES[:shown], _SIDES[:shown], rows, _SPARE, cut_front=False, lines=tuple(lines))


def ratio_text(ratio: float) -> str:
    """A ratio with two places up to ten, in three digits beyond: "0.38", "14.7"."""
    return f"{ratio:.2f}" if 0.1 <= ratio < 10 else number_text(ratio)


def _counts(why: Why) -> tuple[int | None, int | None]:
    """MACs and FLOPs of what the others are measured beside: one call of the layer, or of one operator."""
    found = why.counterfactuals[0]
    if found.this_flops is not None or found.subject:
        return found.this_macs, found.this_flops
    calls = max(why.layer.calls, 1)
    return why.layer.macs // calls, why.layer.flops // calls


def _this(why: Why) -> list[str]:
    """The layer as it is; its time differs from pair to pair, so it is a range."""
    found, (macs, flops) = why.counterfactuals, _counts(why)
    times = sorted(item.this_s for item in found)
    rates = [giga_text(flops / times[place]) if flops and times[place] else "-" for place in (-1, 0)]
    spans = [milliseconds_text(times[place]) for place in (0, -1)]
    name = "this operator" if found[0].subject else "this layer"
    return [name, _count(macs), _count(flops), _span(rates), _span(spans), "", "", "", ""]


def _span(ends: Sequence[str]) -> str:
    return ends[0] if ends[0] == ends[1] else "-".join(ends)


def _alternative(item: Counterfactual, this_flops: int | None, mark: str) -> list[str]:
    rate = giga_text(item.flops / item.latency_s) if item.flops and item.latency_s else "-"
    more = ratio_text(item.flops / this_flops) if item.flops and this_flops else "-"
    return [
        item.title,
        _count(item.macs),
        _count(item.flops),
        rate,
        milliseconds_text(item.latency_s),
        milliseconds_text(item.this_s),
        more,
        _times(item),
        mark,
    ]


def _times(item: Counterfactual) -> str:
    """The ratio of the times with its interval: "0.38 (0.36-0.41)"."""
    if not item.this_s:
        return "-"
    text = ratio_text(item.latency_s / item.this_s)
    if item.low is None or item.high is None:
        return text
    return f"{text} ({ratio_text(item.low)}-{ratio_text(item.high)})"


def _count(value: int | None) -> str:
    return "-" if value is None else count_text(value)


def _footnotes(
    found: Sequence[Counterfactual],
) -> tuple[list[str], tuple[list[str], list[tuple[str, str]]]]:
    """Conditions that hold for all; and for each row its mark "a, b", with what the letters mean."""
    parts = [_conditions(item) for item in found]
    common = [text for text in parts[0] if all(text in others for others in parts)]
    own = [[text for text in texts if text not in common] for texts in parts]
    different = list(dict.fromkeys(text for texts in own for text in texts))
    letters = {text: ascii_lowercase[place % 26] for place, text in enumerate(different)}
    marks = [", ".join(sorted(letters[text] for text in texts)) for texts in own]
    return common, (marks, [(letter, text) for text, letter in letters.items()])


def _conditions(item: Counterfactual) -> list[str]:
    noted = [part.strip() for part in item.note.split(";") if part.strip()]
    return noted if item.same_function else [_OTHER_FUNCTION, *noted]
