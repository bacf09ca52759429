"""Calls -> seconds: how an operator is run hot, and how the process is left as it was."""

from __future__ import annotations

import gc
import mmap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from time import perf_counter_ns
from typing import Any

import torch

from flopscope import counters

from .rebuilding import Rebuilt

_EVICTED_BYTES = 4_000_000  # read, and as many written: more than a core's own caches hold


@contextmanager
def quiet() -> Iterator[None]:
    """Inference mode, no autocast, no garbage collection, no warnings; the random state is given back."""
    state, collecting = torch.get_rng_state(), gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings(), torch.inference_mode(), torch.autocast("cpu", enabled=False):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_rng_state(state)
        if collecting:
            gc.enable()


def seconds_of(subject: Rebuilt, runs: int) -> list[float]:
    """Seconds of each of `runs` calls, their results freed after the clock was read.

    Inputs that are written in place are made anew before each call, outside the clock.
    """
    run, refill, taken = subject.run, subject.refill, []
    for _ in range(runs):
        if refill is not None:
            refill()
        begin = perf_counter_ns()
        result = run()
        end = perf_counter_ns()
        del result
        taken.append((end - begin) * 1e-9)
    return taken


class Cold:
    """Runs subjects as they come in a network: after other work has taken the caches."""

    def __init__(self) -> None:
        # Not by malloc: freeing so large a block would raise glibc's threshold for this whole process.
        self._source, self._target = (
            torch.frombuffer(mmap.mmap(-1, _EVICTED_BYTES), dtype=torch.float32) for _ in range(2)
        )
        self._source.fill_(1.0)

    def seconds_of(self, subject: Rebuilt, runs: int) -> list[float]:
        """Seconds of each of `runs` calls, before each of which a stream has gone through the caches."""
        taken = []
        for _ in range(runs):
            torch.mul(self._source, 1.0, out=self._target)
            taken += seconds_of(subject, 1)
        return taken


class Watched:
    """A subject that is run in blocks.

    `faults` are the page faults of a call, by block; `waited_s` how long this process's threads waited for a
    processor in the last block, None where the platform does not tell.
    """

    def __init__(self, subject: Rebuilt) -> None:
        self._subject = subject
        self.faults: list[float] = []
        self.waited_s: float | None = None

    def __call__(self, runs: int) -> list[float]:
        """Seconds of so many calls."""
        waited, before = counters.run_delay_s(), counters.page_faults()
        taken = seconds_of(self._subject, runs)
        after, waiting = counters.page_faults(), counters.run_delay_s()
        if before is not None and after is not None:
            self.faults.append((after - before) / max(runs, 1))
        self.waited_s = None if waited is None or waiting is None else max(0.0, waiting - waited)
        return taken


def faulting(this: Sequence[float], other: Sequence[float]) -> str:
    """What blocks of two subjects tell of their page faults; "" where there are none, or nothing is told."""
    if not this or not other or max(median(this), median(other)) < 1:
        return ""
    return f"page faults of a call: {median(this):.0f} of this layer, {median(other):.0f} done otherwise"


def plain(call: Callable[[], Any]) -> Rebuilt:
    """A call that writes into nothing, as a subject."""
    return Rebuilt(call, None)
