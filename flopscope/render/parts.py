"""Layers -> the five parts of their time, added up: what limits, bars and closing lines are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flopscope.records import Layer

if TYPE_CHECKING:
    from flopscope.reports import Report

PARTS = ("compute", "kernel", "overhead", "allocation", "memory")
"""The five, in the order in which they are shown; they sum to a layer's floor."""

SHARES = tuple(f"{part}_part" for part in PARTS)
"""The columns that show them as shares of a row's own time."""

UNEXPLAINED = "unexplained"
"""What the kernel's part is called where it is only what roofs leave over."""

_MATERIAL = 0.1
"""A sum is doubtful where so much of its time comes from doubtful layers."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a row shows of one layer's evidence: whether its time was disturbed, how its parts were found."""

    doubtful: bool = False
    form: str = "none"
    clamped: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds by part, summed over layers; `cheap` where most of them were found by roofs alone."""

    seconds: Mapping[str, float]
    cheap: bool = False

    @property
    def total_s(self) -> float:
        """All five together: the floors of the layers."""
        return sum(self.seconds.values())

    @property
    def limit(self) -> str:
        """The largest part."""
        return max(PARTS, key=lambda part: self.seconds[part])

    def share(self, part: str) -> float:
        """One part of all five, in 0..1."""
        return self.seconds[part] / self.total_s

    def name(self, part: str) -> str:
        """What a part is called here."""
        return named(part, cheap=self.cheap)


def named(part: str, *, cheap: bool) -> str:
    """The name of a part; without a replay nobody knows that the kernel took it."""
    return UNEXPLAINED if cheap and part == "kernel" else part


def traits(report: Report) -> tuple[Traits, ...]:
    """The traits of each layer; nothing is known of layers without evidence."""
    paired = len(report.evidence) == len(report.layers)
    found = []
    for place, layer in enumerate(report.layers):
        evidence = report.evidence[place] if paired else None
        form, clamped = ("none", False) if evidence is None else (evidence.form, evidence.clamped)
        found.append(Traits(doubtful(report, layer), form, clamped))
    return tuple(found)


def doubtful(report: Report, layer: Layer) -> bool:
    """Whether a layer's latency is to be marked: by its own flag, or by the report's where it has none."""
    word = "good" if report.quality is None else report.quality.word
    return word == "void" or (layer.quality or word) in ("disturbed", "void")


def withheld(report: Report) -> bool:
    """Whether the latencies are worth so little that no limit and no verdict follows from them."""
    return report.quality is not None and report.quality.word == "void"


def parts_of(layers: Sequence[Layer], found: Sequence[Traits] = ()) -> Parts | None:
    """The parts of those layers that have them, added up; None where there are none."""
    seconds = dict.fromkeys(PARTS, 0.0)
    forms = {True: 0.0, False: 0.0}
    for place, layer in enumerate(layers):
        own = seconds_of(layer)
        if own is None:
            continue
        cheap = place < len(found) and found[place].form == "cheap"
        forms[cheap] += sum(own.values())
        for part in PARTS:
            seconds[part] += own[part]
    return Parts(seconds, forms[True] > forms[False]) if sum(seconds.values()) > 0 else None


def seconds_of(layer: Layer) -> dict[str, float] | None:
    """A layer's own parts, all five or none."""
    found = {part: getattr(layer, f"{part}_s") for part in PARTS}
    return None if None in found.values() else found


def joined(layers: Sequence[Layer], found: Sequence[Traits]) -> Traits:
    """The traits of a sum."""
    pairs = list(zip(layers, found, strict=False))
    spent = sum(layer.latency_s or 0.0 for layer, _ in pairs)
    marked = sum(layer.latency_s or 0.0 for layer, trait in pairs if trait.doubtful)
    parts = parts_of(layers, found)
    form = "none" if parts is None else "cheap" if parts.cheap else "replayed"
    return Traits(marked > 0 and marked >= _MATERIAL * spent, form)


def codes_of(layers: Sequence[Layer]) -> dict[str, float]:
    """Verdict codes -> the share of these layers' time in which they were found, the weightiest first.

    A layer's own order counts: its second finding weighs half as much as its first.
    """
    seconds: dict[str, float] = {}
    weights: dict[str, float] = {}
    spent = 0.0
    for layer in layers:
        own = layer.latency_floor_s or layer.latency_s or 0.0
        spent += own
        for rank, code in enumerate(reasons(layer.verdicts), start=1):
            seconds[code] = seconds.get(code, 0.0) + own
            weights[code] = weights.get(code, 0.0) + own / rank
    ranked = sorted(weights, key=lambda code: weights[code], reverse=True)
    return {code: seconds[code] / spent for code in ranked} if spent else {}


def reasons(codes: Sequence[str]) -> list[str]:
    """The codes that say something of the layer itself; that it was disturbed its mark tells."""
    return [code for code in dict.fromkeys(codes) if code != "disturbed"]
