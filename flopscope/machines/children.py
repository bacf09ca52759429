"""What to measure -> a Session from a child process, which leaves this one as it was.

Large tensors change for good how glibc's malloc treats large blocks (it raises its mmap threshold), and the
number of threads is a setting of the whole process: neither may happen where a model is to be profiled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from flopscope.errors import MeasurementError

from .passes import Session, restored

Progress = Callable[[str, float], None]

LARGEST = 2**28
_ROOT = Path(__file__).parents[2]
_LONGEST_S = 300.0
_FOREIGN = ("MALLOC_", "GLIBC_TUNABLES")
"""Environment variables that would give the child another malloc than the default one ..."""
_LOUD = "_VERBOSE"
"""... and those by which libraries write to stdout, which costs time there."""


def session_of(
    threads: int, *, passes: int, seconds: float, progress: Progress | None = None, largest: int = LARGEST
) -> Session:
    """Measure in a child process.

    Raises:
        MeasurementError: The child failed, said nothing, or took far too long.
    """
    if not sys.executable:
        raise MeasurementError(
            "the roofs are measured in a child process, and this Python does not know its own executable",
            hint="run  flopscope machine  in a shell: its result is kept and used",
        )
    wanted = {"threads": threads, "passes": passes, "seconds": seconds, "largest": largest}
    words = [word for name, value in wanted.items() for word in (f"--{name}", str(value))]
    # -P: nothing that lies in the current folder may stand in for a module.
    command = [sys.executable, "-P", "-m", "flopscope.machines", *words]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        lines, code = _run(command, complaints, progress)
        complaints.seek(0)
        said = complaints.read().strip().splitlines()
    for line in reversed(lines):
        if "session" in line:
            return restored(line["session"])
    why = said[-1] if said else f"it ended with code {code}"
    raise MeasurementError(
        f"the roofs could not be measured: {why}",
        hint="a data sheet can stand in for the measurement: --machine FILE.toml",
    )


def environment() -> dict[str, str]:
    """The environment of the child: this one's, without what would distort the measurement."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) and not name.endswith(_LOUD)
    }
    places = [str(_ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(places)}


def _run(
    command: list[str], complaints: IO[str], progress: Progress | None
) -> tuple[list[dict[str, Any]], int]:
    """The JSON lines that a child writes, and its exit code; it never outlives this call."""
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment(),
    )
    alarm = threading.Timer(_LONGEST_S, child.kill)
    alarm.start()
    try:
        assert child.stdout is not None
        lines = list(_told(child.stdout, progress))
        return lines, child.wait()
    finally:
        alarm.cancel()
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def _told(stream: IO[str], progress: Progress | None) -> Iterator[dict[str, Any]]:
    """Each JSON object of a stream, line by line; stages go to `progress`, other text is passed over."""
    for text in stream:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            if progress is not None and "stage" in line:
                progress(str(line["stage"]), float(line["share"]))
            yield line
