"""An order -> what a child process measured; and the foreign processes that stand beside it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LONGEST_S = 600.0

# Both end when the benchmark does, however that ends.
_AS_LONG = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    "
FOREIGN = {
    "spinning": f"{_AS_LONG}for _ in range(1_000_000): pass",
    "streaming": "one = bytearray(2**28)\nother = memoryview(bytearray(2**28))\n"
    + _AS_LONG
    + "other[:] = one",
}
"""Programs that do nothing but compute, and nothing but copy 268 MB in memory, over and over."""

_BUSY = (0, 1, 2, 5, 6)  # of a line of /proc/stat: user, nice, system, irq, softirq


class FailedError(Exception):
    """A child did not bring what it was sent for."""


def ask(do: str, *, environment: Mapping[str, str] | None = None, **order: Any) -> dict[str, Any]:
    """Let one child process do one thing, and nothing beside it.

    Raises:
        FailedError: it failed, or took far too long.
    """
    command = [sys.executable, "-P", str(HERE / "accuracy_child.py"), json.dumps({"do": do, **order})]
    _, done = run(command, environment=environment)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise FailedError(f"{do} {order}: {said[-1]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def run(
    command: list[str], *, environment: Mapping[str, str] | None = None
) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Run a command to its end; seconds on the wall, and what it said.

    Raises:
        FailedError: it took far too long.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    kept |= {"PYTHONPATH": str(ROOT), **(environment or {})}
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LONGEST_S,
            env=kept,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise FailedError(f"{command[-1]}: not done after {LONGEST_S:.0f} s") from late
    return time.perf_counter() - start, done


@contextlib.contextmanager
def beside(kind: str, count: int = 1) -> Iterator[None]:
    """Keep `count` foreign processes of a kind running meanwhile; "" for none."""
    children = [
        subprocess.Popen([sys.executable, "-S", "-c", FOREIGN[kind]]) for _ in range(count if kind else 0)
    ]
    try:
        time.sleep(1.0)  # they have started, or their predecessors have ended
        gone = [child.returncode for child in children if child.poll() is not None]
        if gone:
            raise FailedError(f"the {kind} process ended by itself with code {gone[0]}")
        yield
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()


def others(seconds: float = 2.0) -> float | None:
    """How many processors are busy while the benchmark itself waits; None where the system does not tell."""
    before = _busy_s()
    time.sleep(seconds)
    after = _busy_s()
    return None if before is None or after is None else (after - before) / seconds


def _busy_s() -> float | None:
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    except OSError:
        return None
    return sum(int(line[1:][place]) for place in _BUSY) / os.sysconf("SC_CLK_TCK")


def load() -> float | None:
    """The load average of the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
