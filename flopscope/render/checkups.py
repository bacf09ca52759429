"""Checkups -> text for a terminal, or JSON: what was looked at, what to change, and one conclusion."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Iterator, Sequence

from flopscope.records import Checkup, Quality
from flopscope.render.grid import Grid, lay_out_ruled, printable

_COLORS = {"good": "32", "doubtful": "33", "bad": "31", "unknown": "2"}
_CONCLUSIONS = {"good": "fit for timing", "disturbed": "fit with care", "void": "not fit now"}
_WIDTH = 110  # of a line where no terminal says another
_LEAST_FOUND = 20


def conclusion(fitness: Quality) -> str:
    """One sentence: "fit for timing", or what stands against it."""
    sentence = _CONCLUSIONS[fitness.word]
    return f"{sentence}: {'; '.join(fitness.reasons)}" if fitness.reasons else sentence


def checkups_text(
    checkups: Sequence[Checkup],
    fitness: Quality,
    *,
    width: int | None = None,
    color: bool = False,
    everything: bool = False,
) -> str:
    """The table of checkups, what to change, and the conclusion.

    Args:
        checkups: in the order in which they shall stand.
        fitness: what they come to.
        width: of the terminal.
        color: whether words may be coloured by ANSI sequences.
        everything: whether advice on what is good or unknown is shown too.
    """
    width = width or _WIDTH
    parts = [lay_out_ruled(Grid(("check", "", "found"), ("left",) * 3, _rows(checkups, width, color)))]
    advice = [item for item in checkups if item.remedy and (everything or item.word in ("bad", "doubtful"))]
    if advice:
        parts.append("\n".join(["to change", *(line for item in advice for line in _advice(item, width))]))
    names = [item.name for word in ("bad", "doubtful") for item in checkups if item.word == word]
    closing = _CONCLUSIONS[fitness.word] + (f": {', '.join(names)}" if names else "")
    parts.append("\n".join(textwrap.wrap(closing, width)))
    return "\n\n".join(parts)


def checkups_json(checkups: Sequence[Checkup], fitness: Quality) -> str:
    """The same for programs: the word, the conclusion, and every checkup."""
    page = {
        "word": fitness.word,
        "conclusion": conclusion(fitness),
        "checkups": [dataclasses.asdict(item) for item in checkups],
    }
    return json.dumps(page, ensure_ascii=False, indent=1)


def _rows(checkups: Sequence[Checkup], width: int, color: bool) -> list[list[str]]:
    """One row for each checkup, and more where what was found needs more lines."""
    rows = []
    names = max((len(item.name) for item in checkups), default=0)
    words = max((len(item.word) for item in checkups), default=0)
    room = max(_LEAST_FOUND, width - names - words - 4)  # two gaps of two
    for item in checkups:
        head, *rest = textwrap.wrap(printable(item.found), room) or [""]
        rows.append([printable(item.name), _colored(item.word) if color else item.word, head])
        rows += [["", "", line] for line in rest]
    return rows


def _colored(word: str) -> str:
    return f"\x1b[{_COLORS[word]}m{word}\x1b[0m"


def _advice(item: Checkup, width: int) -> Iterator[str]:
    text = f"{printable(item.name)}: {printable(item.remedy)}"
    yield from textwrap.wrap(
        text, width, initial_indent="  ", subsequent_indent="    ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
