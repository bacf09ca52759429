"""Two subjects -> how much longer one takes than the other, measured in turns.

What drifts (clock, load, caches) drifts for both. A turn is a few calls of each; the order within it changes
from turn to turn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from .bench import quantile

Runner = Callable[[int], list[float]]  # runs -> seconds of each

_WARM_UPS = 3
_FEWEST_TURNS, _MOST_TURNS = 6, 30
_LONGEST_TURN = 20  # calls
_TURN_S = 0.002
_RESAMPLES = 300


@dataclass(frozen=True, slots=True)
class Pair:
    """Median seconds of a call of each, and an interval for `other_s / this_s`."""

    this_s: float
    other_s: float
    low: float
    high: float
    turns: int


def beside(this: Runner, other: Runner, *, seconds: float) -> Pair | None:
    """Measure both in turns for about so long; None where not even six turns fit in."""
    begin = perf_counter()
    once = 0.0
    for runner in (this, other):
        taken = runner(1)
        if taken[0] * (_FEWEST_TURNS + 1) > seconds:
            taken = runner(1)  # the first call may have had to set something up
            if taken[0] * (_FEWEST_TURNS + 1) > seconds:
                return None
        once += max(min(taken + runner(_WARM_UPS - 1)), 1e-7)
    calls = min(max(round(2 * _TURN_S / once), 1), _LONGEST_TURN)
    turns: list[tuple[list[float], list[float]]] = []
    while len(turns) < _MOST_TURNS:
        if perf_counter() - begin > seconds and len(turns) >= _FEWEST_TURNS:
            break
        first, second = (this, other) if len(turns) % 2 == 0 else (other, this)
        ran = [runner(calls + 1)[1:] for runner in (first, second)]  # the first call after a change is colder
        turns.append((ran[0], ran[1]) if first is this else (ran[1], ran[0]))
    return compared(turns)


def compared(turns: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Pair:
    """Medians over all calls, and the interval that holds 95 % of the ratios of resampled turns.

    Whole turns are drawn, with replacement, for calls of one turn are alike. How often a second
    measurement falls into the interval is a question for a benchmark, not promised here.
    """
    this_s, other_s = _medians(turns)
    chance = random.Random(0)
    drawn = [_medians(chance.choices(turns, k=len(turns))) for _ in range(_RESAMPLES)]
    ratios = [other / this for this, other in drawn if this > 0]
    ratio = other_s / this_s
    low, high = quantile(ratios, 0.025), quantile(ratios, 0.975)
    return Pair(this_s, other_s, min(low, ratio), max(high, ratio), len(turns))


def _medians(turns: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[float, float]:
    return (
        median(second for turn in turns for second in turn[0]),
        median(second for turn in turns for second in turn[1]),
    )
