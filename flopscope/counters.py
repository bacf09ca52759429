"""This process -> what the system counts of it: waiting, page faults, switches, the processors' work.

What a platform does not count is None. Paths are arguments, so that a test can bring its own /proc.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TASKS = Path("/proc/self/task")
STAT = Path("/proc/stat")

_BUSY = (
    0,
    1,
    2,
    5,
    6,
)  # of a processor's line: user (with its guests), nice, system, irq, softirq
_STOLEN = 7

# Windows has no such module.
_resource: Any = importlib.import_module("resource") if find_spec("resource") else None


def page_faults() -> int | None:
    """Page faults of this process so far that needed no disk."""
    return None if _resource is None else int(_resource.getrusage(_resource.RUSAGE_SELF).ru_minflt)


def major_faults() -> int | None:
    """Page faults of this process so far that had to wait for a disk."""
    return None if _resource is None else int(_resource.getrusage(_resource.RUSAGE_SELF).ru_majflt)


def switches() -> int | None:
    """Involuntary context switches of this process so far."""
    return None if _resource is None else int(_resource.getrusage(_resource.RUSAGE_SELF).ru_nivcsw)


def run_delays(tasks: Path = TASKS) -> dict[int, float] | None:
    """Seconds that each thread was ready to run and waited for a processor.

    None where nobody counts them: some kernels offer the file and leave all at nought.
    """
    delays, ran = {}, False
    for task in tasks.iterdir() if tasks.exists() else ():
        try:
            on, waiting, *_ = (task / "schedstat").read_bytes().split()
            delays[int(task.name)] = int(waiting) * 1e-9
        except (OSError, ValueError):
            continue  # no such source, or a thread that ended meanwhile
        ran = ran or int(on) > 0
    return delays if ran else None


def run_delay_s(tasks: Path = TASKS) -> float | None:
    """The sum of `run_delays`; a thread that ended took its own along."""
    delays = run_delays(tasks)
    return None if delays is None else sum(delays.values())


def processors() -> tuple[int, ...] | None:
    """The processors that this process may use; None where the platform does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def processor_times(
    stat: Path = STAT, wanted: Collection[int] | None = None, tick_s: float | None = None
) -> tuple[float | None, float | None]:
    """Seconds that processors have worked so far, for whomever, and seconds that a host took from them.

    Args:
        stat: the listing, /proc/stat.
        wanted: numbers of the processors; those that this process may use by default.
        tick_s: seconds of a tick; the system's by default.
    """
    wanted = processors() if wanted is None else wanted
    try:
        rows = [line.split() for line in stat.read_text(encoding="ascii").splitlines()]
    except (OSError, UnicodeDecodeError):
        return None, None
    names = {f"cpu{number}" for number in wanted or ()}
    ticks = [[int(text) for text in row[1:]] for row in rows if row and row[0] in names]
    if not ticks or min(map(len, ticks)) <= _STOLEN:
        return None, None
    tick_s = 1 / os.sysconf("SC_CLK_TCK") if tick_s is None else tick_s
    busy = sum(row[place] for row in ticks for place in _BUSY)
    return busy * tick_s, sum(row[_STOLEN] for row in ticks) * tick_s
