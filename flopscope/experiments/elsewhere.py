"""A subject -> how it does in another process: with a pooled allocator, with one thread.

Both sides run in children that are alike but for what is asked about, in the state of a fresh process,
and answer in turns. This process's allocator, threads and environment are not touched.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Timer
from time import perf_counter
from typing import Any

import torch

from flopscope.records import Counterfactual, OpCall

from .alternatives import macs_of
from .bench import faulting
from .children import command, environment
from .letters import written
from .pairs import Pair, beside

# With these glibc keeps the memory that it once got: no mapping of its own for large blocks, nothing
# handed back at the end of the heap, and the heap grown in large steps.
_POOLED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "MALLOC_TOP_PAD_": "67108864",
}
_START_S = 2.0  # less than it takes a child to import torch: with less time none is started
_PATIENCE_S = 20.0  # beyond the time asked for, after which children are ended


@dataclass(frozen=True, slots=True)
class _Other:
    code: str
    title: str
    changes: Mapping[str, str]
    threads: int
    same_function: bool = True


class _ChildError(Exception):
    """A child ended, or answered what it should not."""


class _Child:
    """A process that runs the subject when asked."""

    def __init__(self, changes: Mapping[str, str], threads: int) -> None:
        self._process = subprocess.Popen(
            command("outpost"),
            env=environment(changes, threads=threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._threads = threads
        self.faults: list[float] = []

    def prepare(self, subject: tuple[OpCall, ...]) -> None:
        """Hand over the subject; the answer is "ready", or why it is not."""
        self._tell(json.dumps({"threads": self._threads, "ops": [written(op) for op in subject]}))

    def run(self, runs: int) -> list[float]:
        """Seconds of so many calls."""
        self._tell(str(runs))
        answer = self.answer()
        if not isinstance(answer, dict) or len(answer.get("seconds", ())) != runs:
            raise _ChildError
        if answer["faults"] is not None:
            self.faults.append(answer["faults"])
        return list(answer["seconds"])

    def answer(self) -> Any:
        """The next line that the child says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise _ChildError
        try:
            return json.loads(line)
        except ValueError as strange:
            raise _ChildError from strange

    def end(self) -> None:
        """End the process and close what leads to it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                _close(stream)

    def stop(self) -> None:
        """End the process from another thread: whoever waits for its answer gets none."""
        self._process.kill()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError as gone:
            raise _ChildError from gone


def compare_elsewhere(
    subject: tuple[OpCall, ...], codes: Collection[str] | None, *, seconds: float
) -> Iterator[Counterfactual]:
    """The subject beside itself under other conditions; what fails, or does not fit in, is left out."""
    others = [other for other in _others() if codes is None or other.code in codes]
    end = perf_counter() + seconds
    for place, other in enumerate(others):
        left = (end - perf_counter()) / (len(others) - place)
        if left < _START_S or not sys.executable:
            return
        found = _measured(subject, other, left)
        if found is not None:
            yield found


def _others() -> Iterator[_Other]:
    threads = torch.get_num_threads()
    if platform.libc_ver()[0] == "glibc" and "malloc" not in os.environ.get("LD_PRELOAD", ""):
        yield _Other("pooled-allocator", "memory kept by the allocator", _POOLED, threads)
    if threads > 1:
        yield _Other("one-thread", f"1 thread instead of {threads}", {}, 1)


def _measured(subject: tuple[OpCall, ...], other: _Other, seconds: float) -> Counterfactual | None:
    begin = perf_counter()
    try:
        with _children(subject, other, seconds + _PATIENCE_S) as (plain, changed):
            if plain.answer() != "ready" or changed.answer() != "ready":
                return None
            left = max(seconds - (perf_counter() - begin), 0.2 * seconds)
            pair = beside(plain.run, changed.run, seconds=left)
            note = _note(plain, changed) if pair is not None else ""
    except (_ChildError, OSError):
        return None
    macs = macs_of(subject)
    return None if pair is None else counterfactual(other.code, other.title, pair, macs, True, note)


@contextmanager
def _children(subject: tuple[OpCall, ...], other: _Other, seconds: float) -> Iterator[tuple[_Child, _Child]]:
    """Two children at a time, ended whatever happens."""
    started: list[_Child] = []
    alarm = Timer(seconds, _stop, (started,))
    alarm.daemon = True
    alarm.start()
    try:
        # What the user set for malloc stays as it is on the plain side.
        started.append(_Child({}, torch.get_num_threads()))
        started.append(_Child(other.changes, other.threads))
        for child in started:
            child.prepare(subject)
        yield started[0], started[1]
    finally:
        alarm.cancel()
        for child in started:
            child.end()


def _stop(children: Sequence[_Child]) -> None:
    for child in children:
        child.stop()


def _note(plain: _Child, changed: _Child) -> str:
    told = faulting(plain.faults, changed.faults)
    return "both sides in fresh processes" + (f"; {told}" if told else "")


def counterfactual(
    code: str, title: str, pair: Pair, macs: int | None, same_function: bool, note: str
) -> Counterfactual:
    """The record of a pair; two FLOPs a multiply-add."""
    flops = None if macs is None else 2 * macs
    return Counterfactual(
        code, title, pair.other_s, pair.this_s, macs, flops, same_function, pair.low, pair.high, note
    )


def _close(stream: Any) -> None:
    try:
        stream.close()
    except OSError:
        return  # what was still to be said has nobody to hear it
