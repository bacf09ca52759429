"""A piece of work -> its least seconds: how this room times one thing."""

from __future__ import annotations

import time
from collections.abc import Callable

Work = Callable[[], object]


def once(work: Work, calls: int = 1) -> float:
    """Seconds of one call, the mean of so many in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - start) / calls


def least(work: Work, seconds: float, *, block_s: float = 1e-4, runs: int = 3) -> float:
    """The least seconds of a call, over blocks of about `block_s`, for `seconds` but `runs` blocks at least.

    The least, for a roof is what was reached at best. Short calls are timed in blocks, since reading the
    clock takes as long as they do.
    """
    first = once(work, 2)
    calls = max(1, int(block_s / max(first, 1e-9)))
    end = time.perf_counter() + seconds
    best, done = float("inf"), 0
    while done < runs or time.perf_counter() < end:
        best = min(best, once(work, calls))
        done += 1
    return best


def beyond(work: Work, idle: Work, seconds: float) -> float:
    """The least seconds of `work` less those of `idle`, which takes turns with it for so long.

    Taking turns matters: the difference is small, and the processor's pace drifts.
    """
    end = time.perf_counter() + seconds
    calls = max(1, int(1e-4 / max(once(work, 2), 1e-9)))
    busy, empty, done = float("inf"), float("inf"), 0
    while done < 3 or time.perf_counter() < end:
        busy, empty = min(busy, once(work, calls)), min(empty, once(idle, calls))
        done += 1
    return busy - empty if busy > empty else busy
