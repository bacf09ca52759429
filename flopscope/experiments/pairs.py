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

from flopscope.records import percentile

Runner = Callable[[int], list[float]]  # runs -> seconds of each

_WARM_UPS = 3
_FEWEST_TURNS, _MOST_TURNS = 6, 30
_MOST_TRIED = 100  # turns, where most are disturbed
_LONGEST_TURN = 20  # calls
_TURN_S = 0.002
_LONG_S = 0.02  # of a call: beyond it the state of the caches at its begin is a small part
_RESAMPLES = 300


@dataclass(frozen=True, slots=True)
class Pair:
    """Median seconds of a call of each, and an interval for `other_s / this_s`."""

    this_s: float
    other_s: float
    low: float
    high: float
    turns: int


class DisturbedError(Exception):
    """Hardly any turn was left alone; the message says how many."""


def beside(
    this: Runner, other: Runner, *, seconds: float, undisturbed: Callable[[], bool] = lambda: True
) -> Pair | None:
    """Measure both in turns for about so long.

    Args:
        this: runs the one so many times.
        other: runs the other.
        seconds: for all of it.
        undisturbed: tells of the turn just past whether it may count.

    Returns:
        None where not even six turns fit in.

    Raises:
        DisturbedError: there were as many turns, but fewer than six that count.
    """
    begin = perf_counter()
    once = 0.0
    for runner in (this, other):
        taken = runner(1)
        if taken[0] * (_FEWEST_TURNS + 1) > seconds:
            taken = runner(1)  # the first call may have had to set something up
            if taken[0] * (_FEWEST_TURNS + 1) > seconds:
                return None
        warm_ups = _WARM_UPS if taken[0] < _LONG_S else 1
        once += max(min(taken + (runner(warm_ups - 1) if warm_ups > 1 else [])), 1e-7)
    if once * _FEWEST_TURNS > seconds:
        return None
    calls = min(max(round(2 * _TURN_S / once), 1), _LONGEST_TURN)
    colder = 1 if once < _LONG_S else 0  # the first call after a change: left out where that costs little
    turns: list[tuple[list[float], list[float]]] = []
    tried = 0
    while len(turns) < _MOST_TURNS and tried < _MOST_TRIED:
        if perf_counter() - begin > seconds and tried >= _FEWEST_TURNS:
            break
        first, second = (this, other) if tried % 2 == 0 else (other, this)
        ran, quiet = [], True
        for runner in (first, second):
            ran.append(runner(calls + colder)[colder:])
            quiet = quiet and undisturbed()
        tried += 1
        if quiet:
            turns.append((ran[0], ran[1]) if first is this else (ran[1], ran[0]))
    if len(turns) < _FEWEST_TURNS:
        raise DisturbedError(f"{len(turns)} of {tried} turns were left alone")
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
    low, high = percentile(ratios, 0.025), percentile(ratios, 0.975)
    return Pair(this_s, other_s, min(low, ratio), max(high, ratio), len(turns))


def _medians(turns: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[float, float]:
    return (
        median(second for turn in turns for second in turn[0]),
        median(second for turn in turns for second in turn[1]),
    )
