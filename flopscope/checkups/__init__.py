"""This machine, now -> Checkups: whether it is fit for timing, and what to change.

A fixed matrix product runs for a moment at one thread and at all, while the system's own counters are
read: other processes, waiting, stolen time, heat, swap. A source that this system lacks gives "unknown".
"""

from __future__ import annotations

import torch

from flopscope.records import Checkup

from .company import load, other_work, repeatability, stolen, switches, throttling, waiting
from .devices import accelerators
from .hosts import Host, Moment, this_host
from .memory import allocator_checkup, memory_checkup, pages_checkup
from .processors import (
    clock_checkup,
    cores_checkup,
    counters_checkup,
    quota_checkup,
    threads_checkup,
    virtual_checkup,
)
from .trials import Trial, denormals, timer, trial

__all__ = ["Host", "Moment", "Trial", "checkups", "judged", "this_host"]


def checkups(*, seconds: float = 1.5, threads: int | None = None) -> tuple[Checkup, ...]:
    """Check this machine for what disturbs timing.

    Args:
        seconds: how long to multiply in all.
        threads: of the runs that are to be timed; torch's own number by default.
    """
    host, count = this_host(), threads or torch.get_num_threads()
    trials = [trial(host, 1, seconds=seconds / (1 if count == 1 else 2))]
    if count > 1:
        trials.append(trial(host, count, seconds=seconds / 2))
    on_the_spot = (timer(host), allocator_checkup(host), denormals(), accelerators())
    return (*judged(host, trials, threads=count), *on_the_spot)


def judged(host: Host, trials: list[Trial], *, threads: int) -> tuple[Checkup, ...]:
    """What a host's sources and the trials say: the one at one thread first, that at `threads` last."""
    alone, most = trials[0], trials[-1]
    return (
        threads_checkup(host, threads),
        quota_checkup(host, trials),
        cores_checkup(host, threads),
        load(host),
        other_work(host, alone, threads),
        *(waiting(item) for item in trials),
        stolen(host, trials),
        switches(trials),
        repeatability(alone),
        *([repeatability(most, alone)] if most is not alone else []),
        clock_checkup(host),
        throttling(trials),
        memory_checkup(host, trials),
        pages_checkup(host),
        virtual_checkup(host),
        counters_checkup(host),
    )
