"""A device -> a Clock: how to mark a moment in its work, and how to read the marks in seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch

_LONGEST_LEAD_S = 0.05
_CYCLES_PER_S = 2e9  # above any present GPU's clock: the lead is rather too long than too short


class Clock(Protocol):
    """Marks moments while work is under way; tells the seconds between them once it is done.

    Attributes:
        queues: whether the device works off a queue while the host goes on.
    """

    queues: bool

    def mark(self) -> Any:
        """Note the present moment. Called at every module boundary, so it must be cheap."""

    def settle(self, marks: Sequence[Any]) -> tuple[float, ...]:
        """Seconds from each mark to the next; waits for the device if it must."""

    def lead(self, seconds: float) -> None:
        """Keep the device busy for about so long, that what comes next is queued before it runs."""


class HostClock:
    """The processor's own clock: work is over when the call returns."""

    queues = False
    mark = staticmethod(time.perf_counter_ns)

    def settle(self, marks: Sequence[int]) -> tuple[float, ...]:
        """Seconds from each mark to the next."""
        return tuple((after - before) * 1e-9 for before, after in pairwise(marks))

    def lead(self, seconds: float) -> None:
        """Nothing to do: nothing is queued."""


class CudaClock:
    """Events on the current CUDA stream: the device notes the time as it reaches them.

    One synchronisation settles a whole round; none happens between modules, so launches stay
    queued ahead as they are without the instrument.
    """

    queues = True

    def __init__(self, cuda: Any = None) -> None:
        self._cuda = cuda or torch.cuda

    def mark(self) -> Any:
        """Record an event on the current stream."""
        event = self._cuda.Event(enable_timing=True)
        event.record()
        return event

    def settle(self, marks: Sequence[Any]) -> tuple[float, ...]:
        """Seconds from each event to the next, after waiting for the last."""
        self._cuda.synchronize()
        return tuple(before.elapsed_time(after) * 1e-3 for before, after in pairwise(marks))

    def lead(self, seconds: float) -> None:
        """Let the device spin, so that the intervals hold its work and not the host's launches."""
        self._cuda._sleep(int(min(seconds, _LONGEST_LEAD_S) * _CYCLES_PER_S))


class MpsClock:
    """Events of Apple's Metal device; it has no way to be kept busy, so launches may show."""

    queues = True

    def __init__(self, mps: Any = None) -> None:
        self._mps = mps or torch.mps

    def mark(self) -> Any:
        """Record an event."""
        event = self._mps.Event(enable_timing=True)
        event.record()
        return event

    def settle(self, marks: Sequence[Any]) -> tuple[float, ...]:
        """Seconds from each event to the next, after waiting for the last."""
        self._mps.synchronize()
        return tuple(before.elapsed_time(after) * 1e-3 for before, after in pairwise(marks))

    def lead(self, seconds: float) -> None:
        """Nothing to be done."""


def clock_for(device: str) -> Clock | None:
    """The clock of a device type; None where flopscope has none."""
    clocks: dict[str, type[HostClock | CudaClock | MpsClock]] = {
        "cpu": HostClock,
        "cuda": CudaClock,
        "mps": MpsClock,
    }
    found = clocks.get(torch.device(device).type)
    return found() if found else None
