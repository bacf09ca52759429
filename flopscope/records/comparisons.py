"""What is set side by side: the sides of a comparison, their ratios, the layers that belong together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ratio:
    """How long one side takes as a multiple of the first, both measured in turns of one run.

    `value` is the median over the turns, `low` and `high` an interval for it from resampled blocks of turns.
    `verdict` is "faster", "slower", "same" (the interval lies within the margin) or "unclear".
    """

    value: float
    low: float
    high: float
    verdict: str
    turns: int


@dataclass(frozen=True, slots=True)
class Rewrote:
    """What was done to a model to make a side: which rewrites, where, and how its outputs differ.

    `function` is "same", "precision" (the same but for rounding to a narrower dtype) or "changed" (fresh
    weights: another function). `relative` is the largest difference of outputs over the largest output, in
    the model's dtype; `precise_relative` the same in float64, where that could be run. `prepare_s` are
    seconds of preparation that no call has to pay again (compilation).
    """

    names: tuple[str, ...]
    function: str = "same"
    changed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    relative: float | None = None
    precise_relative: float | None = None
    prepare_s: float | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison. `items` are the samples of one call, by which latency is divided.

    `measured` tells whether it was timed in this run, in turns with the others.
    """

    name: str
    items: int = 1
    measured: bool = False
    rewrote: Rewrote | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A rewrite that was asked for and could not be done, and why."""

    name: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """Layers that belong together: for each side the place in its `layers`, None where it has none.

    `by` says how the first side's layer was found in the others: "path", "shape" or "" (alone).
    """

    rows: tuple[int | None, ...]
    by: str


@dataclass(frozen=True, slots=True)
class Regression:
    """A side that is worse than the first by more than was allowed: `metric` rose by `rise` (0.01: 1 %)."""

    side: str
    metric: str
    rise: float
    allowed: float
