"""This process -> what the system tells about it while it is timed: waiting, faults, switches, load.

Each source is read where the platform has it; the others are named in `missing`.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import torch

from flopscope import counters

STREAM_BYTES = 64_000_000  # read and written; beyond the caches of most processors
_PROBE = 128  # a product of 128 x 128 matrices: 4.2 MFLOP in 200 kB, within any second-level cache


class Observer:
    """Reads the system's counters of this process; to be used as a context, for it keeps files open.

    Attributes:
        missing: the sources that this platform lacks.
    """

    def __init__(self, tasks: Path = counters.TASKS, stat: Path = counters.STAT) -> None:
        self._tasks = tasks
        self._stat = stat
        self._files: list[int] = []
        self.missing: list[str] = []
        self._stream: tuple[torch.Tensor, torch.Tensor] | None = None
        self._product: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
        if counters.run_delays(tasks) is None:
            self.missing.append("run-delay")
        if counters.page_faults() is None:
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
        return None if "page faults" in self.missing else lambda: counters.page_faults() or 0

    def switches(self) -> int | None:
        """Involuntary context switches so far."""
        return counters.switches()

    def load(self) -> float | None:
        """The load average of the last minute."""
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else None

    def major_faults(self) -> int | None:
        """Page faults so far that had to wait for a disk."""
        return counters.major_faults()

    def foreign(self) -> float | None:
        """Seconds that the processors which we may use have spent so far on other processes.

        Run-delay does not show them where the scheduler moves us aside; caches and memory are shared all
        the same.
        """
        busy_s, _ = counters.processor_times(self._stat)
        return None if busy_s is None else busy_s - time.process_time()

    def processors(self) -> int | None:
        """How many processors this process may use."""
        usable = counters.processors()
        return os.cpu_count() if usable is None else len(usable)

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

    def _close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files.clear()


def increments(readings: Sequence[int]) -> tuple[int, ...]:
    """What a counter gained from each reading to the next; a thread that ended takes its count along."""
    return tuple(max(0, after - before) for before, after in pairwise(readings))
