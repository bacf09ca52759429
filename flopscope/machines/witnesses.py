"""This process -> what the system tells of a stretch of its time: waiting, processor time, switches."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

_TASKS = Path("/proc/self/task")
_STAT = Path("/proc/stat")
_BUSY = (0, 1, 2, 5, 6)  # of a processor's line in it: user, nice, system, irq, softirq


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of this process at one moment; None where the platform has no such source."""

    wall_s: float
    cpu_s: float
    run_delay_s: float | None
    switches: int | None
    busy_s: float | None = None

    def since(self, earlier: Reading) -> dict[str, float | int | None]:
        """What was gained since an earlier reading; a thread that ended took its count along."""
        return {
            "wall_s": self.wall_s - earlier.wall_s,
            "cpu_s": self.cpu_s - earlier.cpu_s,
            "run_delay_s": _gain(self.run_delay_s, earlier.run_delay_s),
            "switches": None
            if self.switches is None or earlier.switches is None
            else self.switches - earlier.switches,
            "others": self._others(earlier),
        }

    def _others(self, earlier: Reading) -> float | None:
        """How many of our processors other processes kept busy since an earlier reading."""
        busy, wall_s = _gain(self.busy_s, earlier.busy_s), self.wall_s - earlier.wall_s
        if busy is None or wall_s <= 0:
            return None
        return max(0.0, busy - (self.cpu_s - earlier.cpu_s)) / wall_s


def reading() -> Reading:
    """Read all counters now."""
    switches = None if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    return Reading(time.perf_counter(), time.process_time(), _run_delay(), switches, _busy_s())


def missing() -> tuple[str, ...]:
    """The sources that this platform lacks."""
    lacks = {
        "run-delay of the threads (/proc/self/task/*/schedstat)": _run_delay() is None,
        "context switches and page faults (getrusage)": resource is None,
    }
    return tuple(source for source, lacking in lacks.items() if lacking)


def _run_delay() -> float | None:
    """Seconds that the threads of this process were ready and waited; None where nobody counts them.

    Some kernels offer the file and leave it at nought: then the time on a processor is nought too.
    """
    ran, waited = 0, 0
    for task in _TASKS.iterdir() if _TASKS.exists() else ():
        try:
            first, second, _ = (task / "schedstat").read_bytes().split()
        except (OSError, ValueError):
            continue  # no such source, or a thread that ended meanwhile
        ran, waited = ran + int(first), waited + int(second)
    return waited * 1e-9 if ran else None


def _busy_s() -> float | None:
    """Seconds that the processors which we may use have worked so far, for whomever."""
    try:
        lines = _STAT.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = sum(
        int(counts[place])
        for name, *counts in (line.split() for line in lines if line.startswith("cpu"))
        if name in ours
        for place in _BUSY
    )
    return ticks / os.sysconf("SC_CLK_TCK")


def _gain(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else max(0.0, now - before)
