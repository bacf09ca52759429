"""Paths, variables and counters of this system -> Host, Moment: where every checkup reads from.

Nothing here knows torch. A host can be built on any directory, so that a test may plant its own /proc.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flopscope import counters


@dataclass(frozen=True, slots=True)
class Host:
    """A system as this process sees it.

    `root` is the directory that /proc and /sys stand in. `processors` are those that the process may
    run on, `pinned` whether the system told so; `load` is the load average of the last minute, None where
    there is none.
    """

    root: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    processors: tuple[int, ...] = (0,)
    pinned: bool = True
    load: float | None = None
    pid: int = 1
    tick_s: float = 0.01
    system: str = "Linux"

    def text(self, path: str) -> str | None:
        """The text of a file below the root; None where there is none or it may not be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace")
        except (OSError, ValueError):
            return None

    def word(self, path: str) -> str | None:
        """The one line of a file; None where it is missing or empty."""
        return (self.text(path) or "").strip() or None

    def number(self, path: str) -> int | None:
        """The whole number that a file holds; None where it holds none."""
        try:
            return int(self.text(path) or "")
        except ValueError:
            return None

    def numbers(self, path: str) -> dict[str, int]:
        """Lines of "name: 12 kB" or "name 12" -> numbers by name; what is no such line is left out."""
        found = {}
        for line in (self.text(path) or "").splitlines():
            name, *rest = line.replace(":", " ").split() or [""]
            if rest and rest[0].isdigit():
                found[name] = int(rest[0])
        return found

    def names(self, path: str) -> list[str]:
        """What a directory below the root holds, sorted; nothing where there is none."""
        try:
            return sorted(entry.name for entry in (self.root / path).iterdir())
        except OSError:
            return []

    def groups(self, controller: str) -> Iterator[str]:
        """Directories of this process's control group of a kind ("cpu", "memory"), the innermost first.

        Version 2 has one tree for all; version 1 one for each controller. Where a container sees
        another path than the host, only the outermost directory is there.
        """
        for line in (self.text("proc/self/cgroup") or "").splitlines():
            _, kinds, path = [*line.split(":", 2), "", ""][:3]
            parts = [part for part in path.split("/") if part not in ("", "..")]
            if not kinds:
                base = "sys/fs/cgroup"
            elif controller in kinds.split(","):
                base = f"sys/fs/cgroup/{kinds}" if self.names(f"sys/fs/cgroup/{kinds}") else ""
                base = base or f"sys/fs/cgroup/{controller}"
            else:
                continue
            for depth in range(len(parts), -1, -1):
                yield "/".join([base, *parts[:depth]])


@dataclass(frozen=True, slots=True)
class Moment:
    """Counters of the system at one moment; None or empty where there is no such source.

    `run_delay_s` is by thread. `busy_s` and `stolen_s` are those of the processors that this process may
    use; `processes` holds the name and the processor seconds of every other process; `throttled` counts
    the periods in which the control group was held back, `hot` thermal throttling, `swapped` pages.
    """

    at_s: float
    cpu_s: float
    run_delay_s: Mapping[int, float] | None = None
    switches: int | None = None
    busy_s: float | None = None
    stolen_s: float | None = None
    processes: Mapping[int, tuple[str, float]] = field(default_factory=dict)
    throttled: int | None = None
    hot: int | None = None
    swapped: int | None = None


def this_host() -> Host:
    """The system that this process runs on."""
    usable = counters.processors()
    return Host(
        root=Path("/"),
        environ=dict(os.environ),
        processors=tuple(range(os.cpu_count() or 1)) if usable is None else usable,
        pinned=usable is not None,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        pid=os.getpid(),
        tick_s=1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01,
        system=platform.system(),
    )


def moment(host: Host) -> Moment:
    """Read all counters now; a few milliseconds, mostly for the list of processes."""
    vm = host.numbers("proc/vmstat")
    busy_s, stolen_s = counters.processor_times(host.root / "proc/stat", host.processors, host.tick_s)
    return Moment(
        processes=_processes(host),
        throttled=_throttled(host),
        hot=_hot(host),
        swapped=vm["pswpin"] + vm["pswpout"] if {"pswpin", "pswpout"} <= vm.keys() else None,
        switches=counters.switches(),
        run_delay_s=counters.run_delays(host.root / "proc/self/task"),
        busy_s=busy_s,
        stolen_s=stolen_s,
        cpu_s=time.process_time(),
        at_s=time.perf_counter(),
    )


def _processes(host: Host) -> dict[int, tuple[str, float]]:
    """Names and processor seconds of all processes but this one; names only, no command lines."""
    found = {}
    for name in host.names("proc"):
        if not name.isdigit() or int(name) == host.pid:
            continue
        head, _, tail = (host.text(f"proc/{name}/stat") or "").rpartition(")")
        fields = tail.split()
        if len(fields) > 12:
            found[int(name)] = (head.partition("(")[2], (int(fields[11]) + int(fields[12])) * host.tick_s)
    return found


def _throttled(host: Host) -> int | None:
    """Periods in which a control group of this process, or one round it, had used its quota up."""
    counts = [host.numbers(f"{group}/cpu.stat").get("nr_throttled") for group in host.groups("cpu")]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _hot(host: Host) -> int | None:
    """Times that a usable processor or its package was slowed down for heat since boot."""
    base = "sys/devices/system/cpu/cpu{}/thermal_throttle/{}_throttle_count"
    counts = [host.number(base.format(n, what)) for n in host.processors for what in ("core", "package")]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
