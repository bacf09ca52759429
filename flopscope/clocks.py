"""A device -> a Clock: how to mark a moment in its work, and how to read the marks in seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Marks moments while work is under way; tells the seconds between them once it is done."""

    def mark(self) -> Any:
        """Note the present moment. Called at every module boundary, so it must be cheap."""

    def settle(self, marks: Sequence[Any]) -> tuple[float, ...]:
        """Seconds from each mark to the next; waits for the device if it must."""


class HostClock:
    """The processor's own clock: work is over when the call returns."""

    mark = staticmethod(time.perf_counter_ns)

    def settle(self, marks: Sequence[int]) -> tuple[float, ...]:
        """Seconds from each mark to the next."""
        return tuple((after - before) * 1e-9 for before, after in pairwise(marks))


class CudaClock:
    """Events on the current CUDA stream: the device notes the time as it reaches them.

    One synchronisation settles a whole round; none happens between modules, so launches stay
    queued ahead as they are without the instrument.
    """

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


def clock_for(device: str) -> Clock | None:
    """The clock of a device type; None where flopscope has none."""
    clocks: dict[str, type[HostClock | CudaClock]] = {"cpu": HostClock, "cuda": CudaClock}
    found = clocks.get(torch.device(device).type)
    return found() if found else None
