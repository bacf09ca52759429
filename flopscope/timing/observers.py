"""This process -> what the system tells about it while it is timed: waiting, faults, switches, load.

Each source is read where the platform has it; the others are named in `missing`.
"""

from __future__ import annotations

import importlib
import mmap
import os
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

resource: Any = importlib.import_module("resource") if find_spec("resource") else None  # Windows has none

_TASKS = Path("/proc/self/task")
_STAT = Path("/proc/stat")
_BUSY = (0, 1, 2, 5, 6)  # of a processor's line in it: user, nice, system, irq, softirq
STREAM_BYTES = 64_000_000  # read and written; beyond the caches of most processors
_PROBE = 128  # a product of 128 x 128 matrices: 4.2 MFLOP in 200 kB, within any second-level cache


class Observer:
    """Reads the system's counters of this process; to be used as a context, for it keeps files open.

    Attributes:
        missing: the sources that this platform lacks.
    """

    def __init__(self, tasks: Path = _TASKS, stat: Path = _STAT) -> None:
        self._tasks = tasks
        self._stat = stat
        self._files: list[int] = []
        self.missing: list[str] = []
        self._stream: tuple[torch.Tensor, torch.Tensor] | None = None
        self._product: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
        if not self._readable():
            self.missing.append("run-delay")
        if resource is None:
            self.missing += ["page faults", "context switches"]
        if not hasattr(os, "getloadavg"):
            self.missing.append("load")

    def __enter__(self) -> Observer:
        self.look_again()
        return self

    def __exit__(self, *failure: object) -> None:
        self._close()

    def look_again(self) -> None:
        """List the threads anew: torch makes its own when it first needs them."""
        self._close()
        if "run-delay" in self.missing:
            return
        for task in self._tasks.iterdir():
            try:
                self._files.append(os.open(task / "schedstat", os.O_RDONLY))
            except OSError:
                continue  # a thread that ended meanwhile

    @property
    def run_delay(self) -> Callable[[], int] | None:
        """Nanoseconds that the threads of this process were ready and waited for a processor."""
        return self._run_delay if self._files else None

    @property
    def faults(self) -> Callable[[], int] | None:
        """Page faults of this process so far, those that needed no disk."""
        return _faults if resource is not None else None

    def switches(self) -> int | None:
        """Involuntary context switches so far."""
        return None if resource is None else int(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw)

    def load(self) -> float | None:
        """The load average of the last minute."""
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else None

    def major_faults(self) -> int | None:
        """Page faults so far that had to wait for a disk."""
        return None if resource is None else int(resource.getrusage(resource.RUSAGE_SELF).ru_majflt)

    def foreign(self) -> float | None:
        """Seconds that the processors which we may use have spent so far on other processes.

        Run-delay does not show them where the scheduler moves us aside; caches and memory are shared all
        the same.
        """
        try:
            lines = self._stat.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError):
            return None
        ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        ticks = 0
        for name, *counts in (line.split() for line in lines if line.startswith("cpu")):
            if name in ours:
                ticks += sum(int(counts[place]) for place in _BUSY)
        return ticks / os.sysconf("SC_CLK_TCK") - time.process_time()

    def processors(self) -> int | None:
        """How many processors this process may use."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

    def product(self) -> float:
        """Seconds of a small fixed matrix product: a clock of the processor's own pace."""
        if self._product is None:
            square = torch.ones(_PROBE, _PROBE, dtype=torch.float32, device="cpu")
            self._product = (square, square.clone(), square.clone())
        left, right, out = self._product
        torch.mm(left, right, out=out)  # so that its data and its code are at hand, as in the calibration
        before = time.perf_counter_ns()
        torch.mm(left, right, out=out)
        return (time.perf_counter_ns() - before) * 1e-9

    def stream(self) -> float:
        """Bytes per second, read and written, of one copy through main memory, on torch's threads."""
        if self._stream is None:
            # Not by malloc: freeing so large a block would raise glibc's threshold for this whole process.
            pair = [torch.frombuffer(mmap.mmap(-1, STREAM_BYTES // 2), dtype=torch.uint8) for _ in range(2)]
            for half in pair:
                half.fill_(1)
            self._stream = (pair[0], pair[1])
        source, target = self._stream
        before = time.perf_counter_ns()
        target.copy_(source)
        return STREAM_BYTES / ((time.perf_counter_ns() - before) * 1e-9)

    def _run_delay(self) -> int:
        """The sum of the second number of each thread's schedstat; a thread that ended has none."""
        total = 0
        for file in self._files:
            try:
                total += int(os.pread(file, 96, 0).split()[1])
            except OSError:
                continue
        return total

    def _readable(self) -> bool:
        """Whether the kernel keeps these numbers: some offer the file and leave it at nought."""
        try:
            return any(
                int((task / "schedstat").read_bytes().split()[0]) > 0 for task in self._tasks.iterdir()
            )
        except (OSError, ValueError, IndexError):
            return False

    def _close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files.clear()


def _faults() -> int:
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)


def increments(readings: Sequence[int]) -> tuple[int, ...]:
    """What a counter gained from each reading to the next; a thread that ended takes its count along."""
    return tuple(max(0, after - before) for before, after in pairwise(readings))
