"""This process -> what the system tells of a stretch of its time: waiting, processor time, switches."""

from __future__ import annotations

import time
from dataclasses import dataclass

from flopscope import counters


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
    busy_s, _ = counters.processor_times()
    return Reading(
        time.perf_counter(), time.process_time(), counters.run_delay_s(), counters.switches(), busy_s
    )


def missing() -> tuple[str, ...]:
    """The sources that this platform lacks."""
    lacks = {
        "run-delay of the threads (/proc/self/task/*/schedstat)": counters.run_delay_s() is None,
        "context switches and page faults (getrusage)": counters.switches() is None,
    }
    return tuple(source for source, lacking in lacks.items() if lacking)


def _gain(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else max(0.0, now - before)
