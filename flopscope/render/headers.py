"""Report -> the lines above its table: what ran where, under which roofs, how far to trust the clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flopscope.records import Bandwidth, Machine
from flopscope.render.parts import withheld
from flopscope.units import bytes_text, number_text, rate_text

if TYPE_CHECKING:
    from flopscope.reports import Report

FAULTS = "page_faults_per_pass"
"""The entry of `Environment.other` that tells the state of the allocator."""

_ROUTES = {
    "meta": "counted without data",
    "real": "counted in a real run",
    "exported": "read from an exported graph",
}


def header(report: Report) -> list[str]:
    """Model and input; machine and allocator; the roofs; the timing."""
    parts = [_subject(report), _place(report), _roofs(report), _timing(report)]
    lines = ("   ".join(word for word in words if word) for words in parts)
    return [line for line in lines if line]


def alarm(report: Report) -> list[str]:
    """What makes the latencies unreliable, what follows for the table, what to do; nothing if all is good."""
    quality = report.quality
    if quality is None or quality.word == "good":
        return []
    told = "; ".join(reason.rstrip(".") for reason in quality.reasons)
    reasons = f": {told}" if told else ""
    if withheld(report):
        effect = "All latencies are marked ~; limits and verdicts are withheld."
    else:
        effect = "Latencies marked ~ were disturbed."
    hint = quality.remedy or "stop other work and measure again; see flopscope doctor"
    return [f"warning: timing is {quality.word}{reasons}. {effect}", f"hint: {hint}"]


def dtype_of(report: Report) -> str | None:
    """The dtype whose roof the report is held against."""
    return report.settings.dtype or report.total.dtype


def allocator_text(report: Report) -> str:
    """The allocator and its state: what a pass through the model costs in page faults."""
    given = report.environment.other.get(FAULTS)
    try:
        faults = None if given is None else float(given)
    except ValueError:
        faults = None
    if faults is None:
        return report.environment.allocator
    if faults < 0.5:
        return f"{report.environment.allocator}, no page faults"
    count = f"{faults:.0f} page fault{'' if round(faults) == 1 else 's'}"
    return f"{report.environment.allocator}, {count} a pass"


def _subject(report: Report) -> Iterator[str]:
    yield f"flopscope {report.environment.flopscope}"
    yield report.model
    dtype = report.settings.dtype or report.total.dtype or ""
    yield f"{report.settings.inputs} {dtype}".strip()
    route = _ROUTES.get(report.route, report.route)
    if report.whole is not None and report.quality is None:
        route += f", timed in {len(report.whole.samples)} rounds"
    yield route
    yield "one training step" if report.settings.train else ""


def _place(report: Report) -> Iterator[str]:
    here, settings = report.environment, report.settings
    threads = settings.threads or here.threads
    yield ", ".join(x for x in (here.cpu, here.capability) if x)
    yield f"{threads} thread{'s' if threads != 1 else ''} of {here.cores} cores"
    yield f"torch {here.torch}"
    yield allocator_text(report)
    yield f"device {settings.device}" if settings.device else ""


def _roofs(report: Report) -> Iterator[str]:
    """Peak, bandwidths and the ridges where they meet."""
    machine, dtype = report.machine, dtype_of(report)
    if machine is None:
        return
    yield _origin(machine, report)
    peak = machine.peak(dtype)
    if peak is not None:
        yield f"compute {rate_text(peak)} ({dtype})"
    else:
        why = machine.absent.get(dtype or "", "")
        yield f"no compute roof for {dtype or 'an unknown dtype'}" + (f": {why}" if why else "")
    levels = _levels(machine)
    for name, level in levels:
        yield f"{name} {rate_text(level.bytes_per_s, 'B/s')} ({bytes_text(level.working_set_bytes)})"
    slopes = [level.bytes_per_s for _, level in levels]
    if peak is not None and all(slope > 0 for slope in slopes) and slopes:
        yield f"ridge {' and '.join(number_text(peak / slope) for slope in slopes)} FLOP/B"


def _origin(machine: Machine, report: Report) -> str:
    if machine.form == "sheet":
        return f"roofs of {machine.name} (estimate from data sheet)"
    doubt = "" if machine.quality == "good" else f", {machine.quality}"
    elsewhere = f" of {machine.name}" if machine.name not in ("", report.environment.cpu) else ""
    return f"roofs{elsewhere} (measured{doubt})"


def _levels(machine: Machine) -> Sequence[tuple[str, Bandwidth]]:
    """The fastest point of the curve is the cache's, the largest working set the DRAM's."""
    if not machine.bandwidth:
        return ()
    fastest = max(machine.bandwidth, key=lambda point: point.bytes_per_s)
    largest = machine.bandwidth[-1]
    if fastest.working_set_bytes == largest.working_set_bytes:
        return (("bandwidth", largest),)
    return (("cache", fastest), ("DRAM", largest))


def _timing(report: Report) -> Iterator[str]:
    """The one word, how often was measured, and what the word rests on where no alarm tells it."""
    if report.quality is None:
        return
    yield f"timing {report.quality.word}"
    rounds = report.total.samples or (len(report.whole.samples) if report.whole else 0)
    yield f"{rounds} round{'s' if rounds != 1 else ''}" if rounds else ""
    if report.quality.word == "good":
        yield "; ".join(report.quality.reasons)
