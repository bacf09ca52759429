"""A number of threads -> Trial: a fixed matrix product over and over, and what the system did meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import torch

from flopscope.records import Checkup

from .hosts import Host, Moment, moment

_WARM_S = 0.05
_READINGS = 2000
_SLOW_CLOCK_S, _COARSE_CLOCK_S = 1e-6, 1e-4


@dataclass(frozen=True, slots=True)
class Trial:
    """One product of square matrices, repeated: seconds of each, counters before and after."""

    threads: int
    flops: int
    seconds: tuple[float, ...]
    before: Moment
    after: Moment

    @property
    def wall_s(self) -> float:
        """Seconds between the two readings of the counters."""
        return self.after.at_s - self.before.at_s

    @property
    def waited(self) -> float | None:
        """Share of the time in which threads waited for a processor, all threads added up, at most 1."""
        then, now = self.before.run_delay_s, self.after.run_delay_s
        if then is None or now is None or self.wall_s <= 0:
            return None
        return min(1.0, sum(delay - then.get(task, 0.0) for task, delay in now.items()) / self.wall_s)

    @property
    def others(self) -> float | None:
        """How many of the usable processors other processes kept busy, on average."""
        then, now = self.before.busy_s, self.after.busy_s
        if then is None or now is None or self.wall_s <= 0:
            return None
        return max(0.0, now - then - (self.after.cpu_s - self.before.cpu_s)) / self.wall_s

    @property
    def flops_per_s(self) -> float:
        """The typical rate."""
        return self.flops / median(self.seconds)


def trial(host: Host, threads: int, *, seconds: float) -> Trial:
    """Multiply for so many seconds at so many threads; torch's own number is given back."""
    size = 384 if threads <= 4 else 768 if threads <= 32 else 1536  # enough for all threads, a few ms
    with torch.inference_mode(), _threads(threads):
        left = torch.full((size, size), 0.5, dtype=torch.float32, device="cpu")
        right, out = left.clone(), left.clone()
        _repeat(left, right, out, seconds=min(_WARM_S, seconds))
        before = moment(host)
        taken = _repeat(left, right, out, seconds=seconds)
        after = moment(host)
    return Trial(threads, 2 * size**3, taken, before, after)


def _repeat(
    left: torch.Tensor, right: torch.Tensor, out: torch.Tensor, *, seconds: float
) -> tuple[float, ...]:
    """Seconds of each product; at least eight."""
    taken: list[int] = []
    end = time.perf_counter_ns() + int(seconds * 1e9)
    now = time.perf_counter_ns()
    while now < end or len(taken) < 8:
        before = time.perf_counter_ns()
        torch.mm(left, right, out=out)
        now = time.perf_counter_ns()
        taken.append(now - before)
    return tuple(span * 1e-9 for span in taken)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


def timer(host: Host) -> Checkup:
    """The step and the cost of the clock that layers are timed with."""
    readings = [time.perf_counter_ns() for _ in range(_READINGS)]
    steps = [after - before for before, after in pairwise(readings) if after > before]
    step_s, cost_s = min(steps, default=0) * 1e-9, (readings[-1] - readings[0]) / (_READINGS - 1) * 1e-9
    return timer_checkup(
        step_s, cost_s, host.word("sys/devices/system/clocksource/clocksource0/current_clocksource")
    )


def timer_checkup(step_s: float, cost_s: float, source: str | None) -> Checkup:
    """Judge a clock: short layers take a few µs, so it should cost and step well below one."""
    found = f"perf_counter_ns steps by {1e9 * step_s:.0f} ns and costs {1e9 * cost_s:.0f} ns"
    found += f", source {source}" if source else ""
    worst = max(step_s, cost_s)
    word = "bad" if worst > _COARSE_CLOCK_S else "doubtful" if worst > _SLOW_CLOCK_S else "good"
    remedy = "choose the clock source tsc, or read layers below 100 µs with care" if word != "good" else ""
    return Checkup("timer", word, found, remedy)


def denormals() -> Checkup:
    """Whether numbers too small for full precision are computed or flushed to zero, tried out on one."""
    tiny = torch.full((1,), 1e-38, dtype=torch.float32, device="cpu")
    if float(tiny * 1e-2) == 0.0:
        return Checkup("denormals", "good", "flushed to zero on this thread")
    found = "computed (torch's default): layers that fade to below 1e-38 may slow down"
    return Checkup("denormals", "good", found)
