"""Report -> the explanation of each layer for the page: in full for those that matter, short for the rest.

A page must stay small, and be readable without scripts. So the layers that take most of the time have their
whole text in it, and all others the verdict, while their text lies in the page compressed, for scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flopscope.errors import InputError
from flopscope.render.findings import remedy_text
from flopscope.render.phrases import milliseconds
from flopscope.render.why import why_text

if TYPE_CHECKING:
    from flopscope.diagnosis import Why
    from flopscope.reports import Report

ROOM = 150_000
"""Characters of explanation that stand in a page in full."""
CROWDED = 150
"""Of more layers than these each takes some of that room: a page of 500 layers stays below 1 MB."""


@dataclass(frozen=True, slots=True)
class Explained:
    """The explanations of a report's layers.

    Attributes:
        lines: For each layer the lines of its explanation, or of its short form; none where there is none.
        texts: For each layer its whole text where only its short form is among `lines`, else "".
        full: How many layers have their text in full.
        share: The share of the time that these take.
        remedies: For each layer what would help, in words.
    """

    lines: tuple[tuple[str, ...], ...]
    texts: tuple[str, ...]
    full: int
    share: float
    remedies: tuple[tuple[str, ...], ...]


def nothing(count: int) -> Explained:
    """For a table of so many rows of which none is explained."""
    return Explained(((),) * count, ("",) * count, 0, 0.0, ((),) * count)


def room_for(layers: int) -> int:
    """The characters of explanation in full that a page of so many layers has room for."""
    return max(ROOM // 4, ROOM - 250 * max(0, layers - CROWDED))


def explained(report: Report, room: int | None = None) -> Explained:
    """Explain every layer that was measured, those that take most first, in full while there is room."""
    room = room_for(len(report.layers)) if room is None else room
    found = [_why(report, place) for place in range(len(report.layers))]
    texts = ["" if why is None else why_text(why, width=None) for why in found]
    order = sorted(range(len(texts)), key=lambda place: -(report.layers[place].latency_s or 0.0))
    kept = set()
    for place in order:
        room -= len(texts[place])
        if room < 0:
            break
        if texts[place]:
            kept.add(place)
    whole = sum(layer.latency_s or 0.0 for layer in report.layers)
    lines = [_lines(text) if place in kept else _short(text) for place, text in enumerate(texts)]
    spent = sum(report.layers[place].latency_s or 0.0 for place in kept)
    return Explained(
        lines=tuple(lines),
        texts=tuple("" if place in kept else text for place, text in enumerate(texts)),
        full=len(kept),
        share=spent / whole if whole else 0.0,
        remedies=tuple(() if why is None else _remedies(why) for why in found),
    )


def _why(report: Report, place: int) -> Why | None:
    """The explanation of one layer; None where it was not measured, or its name is not its alone."""
    layer = report.layers[place]
    if layer.latency_s is None:
        return None
    try:
        found = report.why(layer.label)
    except InputError:  # it did not run, or no name leads to it
        return None
    return found if found.scope == "layer" and found.layer == layer else None


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.rstrip() for line in text.splitlines() if line.strip())


def _short(text: str) -> tuple[str, ...]:
    """The first sentence of the verdict: limit and findings stand in the table beside it."""
    verdict = next((line for line in text.splitlines() if line.startswith("Verdict")), "")
    sentence = verdict.removeprefix("Verdict").strip().partition(". ")[0].removesuffix(".")
    return (f"{sentence}.",) if sentence else ()


def _remedies(why: Why) -> tuple[str, ...]:
    """What would help, and how much is said to be won: at most two."""
    found: dict[str, str] = {}
    for fact in why.advice:
        basis = "measured" if fact.numbers.get("basis") == "measured" else "at most"
        gain = "" if fact.seconds is None else f" ({basis} {milliseconds(fact.seconds)} less)"
        found.setdefault(remedy_text(fact.code), gain)
    return tuple(words + gain for words, gain in list(found.items())[:2])


def named(report: Report, labels: Sequence[str]) -> dict[str, int]:
    """Labels -> places in `Report.layers`, of those that only one layer has."""
    places: dict[str, list[int]] = {}
    for place, layer in enumerate(report.layers):
        places.setdefault(layer.label, []).append(place)
    return {label: places[label][0] for label in labels if len(places.get(label, [])) == 1}
