"""A device -> a Machine: its measured roofs, kept on disk; or those of a data sheet.

The measurement itself runs in a child process (`children`, `calibration`); torch is imported only where it is
needed here, so that a sheet can be read without it.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace

from flopscope.errors import MeasurementError
from flopscope.records import Machine

from . import cache
from .datasheets import from_sheet, listed_sheets
from .judging import judge, machine_of
from .passes import Session
from .saved import as_json

__all__ = ["as_json", "from_sheet", "known", "listed_sheets", "machine", "measure", "require_good"]

Progress = Callable[[str, float], None]

PASSES = 3
SECONDS = 1.0


def machine(
    device: str = "cpu",
    threads: int | None = None,
    *,
    refresh: bool = False,
    progress: Progress | None = None,
    strict: bool = False,
) -> Machine:
    """The roofs of a device: those kept from an earlier call, else measured now (some seconds) and kept.

    Args:
        device: "cpu", or "cuda:0".
        threads: of one operator; by default torch's own number here. Each number has its own roofs.
        refresh: measure anew even where there are some.
        progress: is told the stage and the share that is done.
        strict: refuse what was measured while the machine was disturbed.

    Returns:
        The machine. Where it was disturbed, `quality` says so, `warnings` tell why, and it is not kept.

    Raises:
        InputError: There is no such device here.
        MeasurementError: It cannot be measured, or with `strict`: it was disturbed.
    """
    found = None if refresh else known(device, threads)
    if found is not None:
        return found
    measured = measure(device, threads, progress=progress)
    if measured.quality != "good":
        cache.refuse(measured.fingerprint, "; ".join(measured.warnings))
        if strict:
            require_good(measured)
        return measured
    trouble = cache.store(measured)
    return measured if trouble is None else replace(measured, warnings=(*measured.warnings, trouble))


def known(device: str = "cpu", threads: int | None = None) -> Machine | None:
    """The roofs that are kept for this machine, torch and number of threads; None where there are none.

    Raises:
        InputError: There is no such device here.
    """
    from .here import fingerprint, identity, settled

    return cache.load(fingerprint(identity(*settled(device, threads))))


def refused(device: str = "cpu", threads: int | None = None) -> str | None:
    """Why these roofs could not be measured, if that was tried in the last minutes; else None."""
    from .here import fingerprint, identity, settled

    return cache.refused(fingerprint(identity(*settled(device, threads))))


def measure(
    device: str = "cpu",
    threads: int | None = None,
    *,
    passes: int = PASSES,
    seconds: float = SECONDS,
    progress: Progress | None = None,
) -> Machine:
    """Measure the roofs now; nothing is kept, and nothing in this process is changed.

    Args:
        device: "cpu" is measured in a child process, "cuda:0" in this one.
        threads: of one operator; by default torch's own number here.
        passes: over everything; more are added where they disagree.
        seconds: of one pass, roughly.
        progress: is told the stage and the share that is done.

    Raises:
        InputError: There is no such device here.
        MeasurementError: The child process failed.
    """
    from .here import fingerprint, identity, settled

    device, threads = settled(device, threads)
    session = _session(device, threads, passes, seconds, progress)
    who = identity(device, threads)
    found = machine_of(
        session, judge(session.passes, threads=threads, needed=passes), name=who["name"], device=device
    )
    return replace(
        found,
        cores=int(who["cores"]),
        fingerprint=fingerprint(who),
        torch=who["torch"],
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def require_good(machine: Machine) -> None:
    """Refuse a machine that was disturbed while it was measured.

    Raises:
        MeasurementError: It was; the message says what was seen.
    """
    if machine.quality == "good":
        return
    seen = "; ".join(machine.warnings)
    raise MeasurementError(
        f"the machine was disturbed while its roofs were measured: {seen}",
        hint="end other programs or take fewer threads, then measure again; flopscope doctor tells what runs",
    )


def _session(device: str, threads: int, passes: int, seconds: float, progress: Progress | None) -> Session:
    if device == "cpu":
        from .children import session_of

        return session_of(threads, passes=passes, seconds=seconds, progress=progress)
    from .cuda import calibrate

    return calibrate(device, threads, passes=passes, progress=progress)
