"""One pass over a machine, as a record; and record <-> plain values, for the pipe from the child."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass saw: the best rates of it, and what the system told about it meanwhile.

    `flops_per_s` is by dtype, `bytes_per_s` pairs of working set and bandwidth, `overheads_s` by kind of
    call. `run_delay_s` is how long the threads were ready and waited for a processor, `switches` how often
    one was taken from them, `others` how many processors other processes kept busy; None where the platform
    has no such source.
    """

    flops_per_s: Mapping[str, float]
    bytes_per_s: tuple[tuple[int, float], ...] = ()
    overheads_s: Mapping[str, float] = field(default_factory=dict)
    fault_s: float | None = None
    wall_s: float = 0.0
    cpu_s: float | None = None
    run_delay_s: float | None = None
    switches: int | None = None
    others: float | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """All passes of one calibration, and what holds for all of them.

    `how` says by dtype what reached the peak, `absent` why a dtype has none, `missing` which sources
    the platform lacks. `page_bytes` is what one page fault hands out.
    """

    threads: int
    passes: tuple[Pass, ...]
    how: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    page_bytes: int = 4096
    vector_bytes: int | None = None


def plain(session: Session) -> dict[str, Any]:
    """A session as JSON takes it."""
    return asdict(session)


def restored(given: Mapping[str, Any]) -> Session:
    """A session from what `plain` made of it and JSON gave back."""
    passes = tuple(
        Pass(**{**one, "bytes_per_s": tuple((int(size), rate) for size, rate in one["bytes_per_s"])})
        for one in given["passes"]
    )
    return Session(**{**given, "passes": passes, "missing": tuple(given["missing"])})
