"""Fingerprint <-> Machine on disk: a calibration is made once for each machine and number of threads."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import platformdirs

from flopscope.errors import InputError
from flopscope.records import Machine

from .saved import as_json, from_json

VARIABLE = "FLOPSCOPE_CACHE"

PATIENCE_S = 600.0
"""So long after a refusal `profile` does not try again: on a busy machine that takes many seconds."""


def folder() -> Path:
    """Where machines are kept: in `FLOPSCOPE_CACHE` if that is set, else where the platform keeps caches."""
    chosen = os.environ.get(VARIABLE)
    root = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("flopscope", appauthor=False)
    return root / "machines"


def load(fingerprint: str) -> Machine | None:
    """The machine that is kept; None where there is none, or none that can be read."""
    path = folder() / f"{fingerprint}.json"
    try:
        machine = from_json(path.read_text(encoding="utf-8"), file=str(path))
    except (OSError, UnicodeDecodeError, InputError):
        return None  # a damaged file is as good as none: it is measured again and replaced
    return machine if machine.fingerprint == fingerprint and machine.quality == "good" else None


def store(machine: Machine) -> str | None:
    """Keep a machine, whole or not at all.

    Returns:
        None where that went well, else why not, in words: it is no reason to fail.
    """
    path = folder() / f"{machine.fingerprint}.json"
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=".", suffix=".part", delete=False
        ) as file:
            part = Path(file.name)
            file.write(as_json(machine))
        part.replace(path)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        return f"the roofs could not be kept in {path.parent} ({error.strerror}): they are measured each time"
    return None


def refuse(fingerprint: str, reason: str) -> None:
    """Note that the machine could not be measured just now, and why; where nothing can be kept, forget it."""
    path = folder() / f"{fingerprint}.refused"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(reason, encoding="utf-8")
    except OSError:
        return


def refused(fingerprint: str) -> str | None:
    """Why the machine could not be measured, if that was a short while ago; None where it may be tried."""
    path = folder() / f"{fingerprint}.refused"
    try:
        if time.time() - path.stat().st_mtime < PATIENCE_S:
            return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        pass
    return None
