"""Operators -> runners in other processes: a plain one, one with a pooled allocator, one with one thread.

All are alike but for what is asked about, and learn the sizes of the network's blocks before anything is
measured. This process's allocator, threads and environment are not touched.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Timer
from typing import Any

import torch

from flopscope.records import OpCall

from .children import command, environment
from .letters import written

PLAIN = "plain"

# With these glibc keeps the memory that it once got: no mapping of its own for large blocks, nothing
# handed back at the end of the heap, and the heap grown in large steps.
_POOLED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "MALLOC_TOP_PAD_": "67108864",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of child: the changes to its environment, its threads; `title` names what differs there."""

    code: str
    title: str
    changes: Mapping[str, str]
    threads: int


class ChildError(Exception):
    """A child could not be started, ended, or answered what it should not; the message says which."""


class RefusedError(Exception):
    """The child lives, but cannot run what it was given; the message says why."""


def places() -> tuple[Place, ...]:
    """The kinds of children that tell something here; the plain one, which is like this process, first."""
    threads = torch.get_num_threads()
    # What the user set for malloc stays as it is on the plain side.
    found = [Place(PLAIN, "as it is", {}, threads)]
    if platform.libc_ver()[0] == "glibc" and "malloc" not in os.environ.get("LD_PRELOAD", ""):
        found.append(Place("pooled-allocator", "memory kept by the allocator", _POOLED, threads))
    if threads > 1:
        found.append(Place("one-thread", f"1 thread instead of {threads}", {}, 1))
    return tuple(found)


class Child:
    """A process that keeps operators under names, and runs them when asked."""

    def __init__(self, place: Place, freed: Sequence[int]) -> None:
        """Start it, and tell it the conditions; `wait` for its answer.

        Raises:
            ChildError: the system does not allow that.
        """
        try:
            self._process = subprocess.Popen(
                command("outpost"),
                env=environment(place.changes, threads=place.threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except OSError as failure:
            raise ChildError(f"could not be started ({failure})") from failure
        try:
            self._tell({"threads": place.threads, "freed": list(freed), **_settings()})
        except ChildError:
            self.end()
            raise

    def wait(self) -> None:
        """Wait until it is ready for the next thing.

        Raises:
            ChildError: it ended.
            RefusedError: it cannot run what it was given.
        """
        answer = self._heard()
        if isinstance(answer, dict) and "refused" in answer:
            raise RefusedError(str(answer["refused"]))
        if answer != "ready":
            raise ChildError("gave a strange answer")

    def take(
        self, name: str, ops: Sequence[OpCall], *, beside: bool = False, room: int | None = None
    ) -> Runner:
        """Give it operators; the runner runs them there. Errors are those of `wait`.

        Args:
            name: under which they stand there.
            ops: run in a row.
            beside: a partial convolution of the input of what stands under `letters.THIS`.
            room: bytes that the allocator is to keep free from now on; 0 for what it does by itself,
                None for what it does already.
        """
        self._tell({"name": name, "ops": [written(op) for op in ops], "beside": beside, "room": room})
        self.wait()
        return Runner(self, name)

    def run(self, name: str, runs: int) -> Mapping[str, Any]:
        """The "seconds" of so many calls, the "faults" of one, the seconds that threads "waited_s"."""
        self._tell({"name": name, "runs": runs})
        answer = self._heard()
        if isinstance(answer, dict) and "refused" in answer:
            raise RefusedError(str(answer["refused"]))
        if not isinstance(answer, dict) or len(answer.get("seconds", ())) != runs:
            raise ChildError("gave a strange answer")
        return answer

    def stop(self) -> None:
        """End the process, from another thread too: whoever waits for its answer gets none."""
        self._process.kill()

    def end(self) -> None:
        """End the process and close what leads to it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                _close(stream)

    def _tell(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{json.dumps(request)}\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as gone:
            raise ChildError("ended before its time") from gone

    def _heard(self) -> Any:
        """The next line that the child says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildError("ended before its time")
        try:
            return json.loads(line)
        except ValueError as strange:
            raise ChildError("gave a strange answer") from strange


class Runner:
    """Operators that stand ready in a child.

    `faults` are the page faults of a call, by block; `waited` is the share of the last block's time that a
    thread waited for a processor.
    """

    def __init__(self, child: Child, name: str) -> None:
        self._child, self._name = child, name
        self.faults: list[float] = []
        self.waited = 0.0

    def __call__(self, runs: int) -> list[float]:
        """Seconds of so many calls."""
        answer = self._child.run(self._name, runs)
        if answer["faults"] is not None:
            self.faults.append(answer["faults"])
        taken: list[float] = answer["seconds"]
        self.waited = (answer["waited_s"] or 0.0) / max(sum(taken), 1e-9)
        return taken


@contextmanager
def children(
    wanted: Sequence[Place], freed: Sequence[int], *, seconds: float, notes: list[str]
) -> Iterator[Mapping[str, Child]]:
    """Start a child for each place, and wait for all; they are ended whatever happens.

    At the latest that is after `seconds`. Of a child that does not come to life, why is added to `notes`.
    """
    started: dict[str, Child] = {}
    ready: dict[str, Child] = {}
    alarm = Timer(seconds, _stop, (started,))
    alarm.daemon = True
    alarm.start()
    try:
        failures = []
        for place in wanted:
            try:
                started[place.code] = Child(place, freed)
            except ChildError as failure:
                failures.append(str(failure))
        for code, child in started.items():  # nothing is measured while another one is still being loaded
            try:
                child.wait()
                ready[code] = child
            except (ChildError, RefusedError) as failure:
                failures.append(str(failure))
        notes.extend(f"a process to compare in {failure}" for failure in dict.fromkeys(failures))
        yield ready
    finally:
        alarm.cancel()
        for child in started.values():
            child.end()


def _stop(started: Mapping[str, Child]) -> None:
    for child in list(started.values()):
        child.stop()


def _settings() -> dict[str, Any]:
    """What decides here how torch computes, and a new process would not know."""
    return {
        "mkldnn": bool(torch.backends.mkldnn.enabled),
        "precision": torch.get_float32_matmul_precision(),
    }


def _close(stream: Any) -> None:
    try:
        stream.close()
    except OSError:
        return  # what was still to be said has nobody to hear it
