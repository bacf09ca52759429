"""Timings and what the system told about them -> Quality: how far latencies can be trusted, and why.

Three words for a report. "good": nothing was found against it. "disturbed": latencies are those of a
machine that did something else as well; they are shown, marked. "void": so much of the time went
elsewhere that no rate, roof or verdict may be drawn from it. Five words for a layer, see `layer_quality`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from flopscope.records import Checkup, Machine, Quality, Timings, Witnesses, percentile
from flopscope.units import number_text

DELAYED, DELAYED_VOID = 0.03, 0.25
"""Share of the time spent waiting for a processor. Layers should add up to the whole within 3 %, so more
waiting than that is seen in the sums; from a quarter on, latencies tell of the scheduler."""
WAITED = 0.05
"""At one thread a pass that computes uses its processor all the time; up to this share is clock error."""
TICK_S = 0.016
"""The coarsest step of a CPU clock (Windows); CPU/wall is judged where a tick is less than `WAITED` of it."""
OTHERS, OTHERS_SHARE = 0.25, 0.05
"""Processors kept busy by others: a quarter of one is more than an idle system's housekeeping; on large
machines that grows with the machine. They share caches, memory and clock even where they leave one alone."""
STREAM_VOID = 0.5
"""A stream's best rate against the roof of its size. A single stream reaches most of it; below half, another
process takes as much again, and every layer that waits for memory waits for that process."""
SWITCHES_PER_S, SWITCHES_LEAST = 50.0, 10
"""Involuntary switches per second and thread: a system at rest makes a few; beside one busy process the
scheduler's slice of a few milliseconds makes hundreds. Fewer than ten in all are no rate."""
SPREAD, SPREAD_VOID = 1.3, 3.0
"""p90 / p10 of bare passes: the same work on the same data. Above 3 a typical pass is anybody's guess."""
CHANGED, CHANGED_VOID = 0.15, 1.0
"""How far the typical bare pass may differ between epochs; at twice the time something else was measured."""
DRIFT, DRIFT_VOID = 0.10, 0.50
"""The same of the clock probe, one fixed matrix product: what it loses every layer loses, and the roofs,
measured at another moment, do not. At half as long again every share of a roof is wrong by that much."""
PACE = 1.25
"""The probe's 10th percentile against the calibration's, both with data and code at hand. They agree within a
few per cent at one clock; beyond a quarter the roofs are those of another."""
FAULT_S, FAULT_SHARE = 1e-6, 0.05
"""Order of magnitude of one page fault: decides only whether a change of their number is worth a word, which
it is where it comes to more than this share of a pass."""
PASSES_LEAST = 8
"""Below so many passes a 10th and a 90th percentile are just the smallest and the largest."""

LAYER_SAMPLES_LEAST = 8
LAYER_WAITS, LAYER_CHANGED = 0.25, 0.25
"""More disturbed passes than a quarter reach into the fastest half, from which latencies are taken; epochs
that differ by more than a quarter contradict any interval."""
BRIEF_S = 10e-6
"""The clock and the wrapper cost up to 1 µs: more than a tenth of a floor below this."""

_STOP = "stop other work"
_CALMER = "repeat when the machine is at rest"
_LONGER = "sample longer (--max-seconds)"
_RANK = {"good": 0, "disturbed": 1, "void": 2}


@dataclass(frozen=True, slots=True)
class _Finding:
    """One thing found against a measurement; how bad it is, in words and numbers, and what helps."""

    word: str
    reason: str
    remedy: str = ""


def assess(timings: Timings, machine: Machine | None = None) -> Quality:
    """Judge a measurement by what the system told about it and by its own repeatability.

    With the machine's roofs at hand also by the bandwidth that was to be had meanwhile.

    Sources that a platform lacks are left out; where nothing else is found, what was not watched is the
    one reason beside "good".
    """
    if not timings.bare.samples:
        return Quality("void", ("no pass was timed",), _LONGER)
    witnesses = timings.witnesses or Witnesses(wall_s=sum(timings.bare.samples))
    found = [
        *_waiting(timings, witnesses),
        *_idling(timings, witnesses),
        *_crowd(timings, witnesses),
        *_neighbours(witnesses),
        *_streaming(witnesses, machine),
        *_switching(timings, witnesses),
        *_spreading(timings),
        *_drifting(timings, witnesses),
        *_pacing(witnesses, machine),
        *_faulting(timings, witnesses),
    ]
    if not found:
        return Quality("good", _unwatched(timings))
    word = max((finding.word for finding in found), key=_RANK.__getitem__)
    reasons = [finding.reason for finding in found] + _load(witnesses)
    return Quality(word, tuple(reasons), "; ".join([*_remedies(found), "see flopscope doctor"]))


def layer_quality(
    *, seconds: Sequence[float], floor_s: float, waits: float | None, epochs: Sequence[int]
) -> str:
    """Judge one layer's samples by themselves.

    Args:
        seconds: the layer's samples, by round.
        floor_s: its undisturbed latency.
        waits: the share of witnessed passes in which a thread waited for a processor there, if known.
        epochs: of each sample, the epoch that it belongs to; may be empty.

    Returns:
        "few": fewer than 8 samples. "disturbed": threads waited in more than a quarter of the
        witnessed passes, or the medians of its epochs differ by more than a quarter. "brief": below 10 µs,
        where the clock's and the wrapper's own cost is more than a tenth. Otherwise "good".
        Of several the first that applies, except that a brief layer's epochs are not compared: the
        clock's own steps make them differ.
    """
    if len(seconds) < LAYER_SAMPLES_LEAST:
        return "few"
    if waits is not None and waits > LAYER_WAITS:
        return "disturbed"
    if floor_s < BRIEF_S:
        return "brief"
    change = _change(_medians(seconds, epochs)) if len(epochs) == len(seconds) else None
    return "disturbed" if change is not None and change > LAYER_CHANGED else "good"


def fitness(checkups: Sequence[Checkup]) -> Quality:
    """Sum checkups up: "void" if one is bad, "disturbed" if one is doubtful, else "good".

    What is unknown is not held against a machine.
    """
    wrong = [item for word in ("bad", "doubtful") for item in checkups if item.word == word]
    word = "good" if not wrong else "void" if wrong[0].word == "bad" else "disturbed"
    remedies = dict.fromkeys(item.remedy for item in wrong if item.remedy)
    return Quality(word, tuple(f"{item.name}: {item.found}" for item in wrong), "; ".join(remedies))


def _remedies(found: Sequence[_Finding]) -> list[str]:
    """What helps, each said once: a remedy that another one begins with is contained in it."""
    said = list(dict.fromkeys(finding.remedy for finding in found if finding.remedy))
    return [one for one in said if not any(other != one and other.startswith(one) for other in said)]


# --------------------------------------------------------------------------- what speaks against a report


def _waiting(timings: Timings, witnesses: Witnesses) -> Iterator[_Finding]:
    """Threads that were ready to run and had no processor.

    A parallel region lasts as long as its slowest thread, so the waiting of all threads is added up;
    no pass can have lost more than its own time.
    """
    delays, seconds = witnesses.run_delay_s, timings.bare.samples
    if not delays:
        return
    if len(delays) == len(seconds):
        lost, whole = sum(map(min, delays, seconds)), sum(seconds)
    else:
        lost, whole = min(sum(delays), witnesses.wall_s), witnesses.wall_s
    share = lost / whole if whole > 0 else 0.0
    if share > DELAYED:
        who = "the thread" if timings.threads == 1 else "threads"
        reason = f"{who} waited for a processor {_percent(share)} of the time"
        yield _Finding(_word(share, DELAYED_VOID), reason, _pinned(timings, witnesses))


def _idling(timings: Timings, witnesses: Witnesses) -> Iterator[_Finding]:
    """CPU time against wall time, at one thread; with more, serial parts lower it by right."""
    wall_s = witnesses.wall_s
    if timings.threads != 1 or not _on_cpu(timings) or witnesses.cpu_s is None or wall_s * WAITED < TICK_S:
        return
    ratio = witnesses.cpu_s / wall_s
    if ratio < 1 - WAITED:
        word = _word(1 - ratio, DELAYED_VOID)
        yield _Finding(word, f"CPU/wall {ratio:.2f} at 1 thread", _pinned(timings, witnesses))


def _crowd(timings: Timings, witnesses: Witnesses) -> Iterator[_Finding]:
    """More threads than processors: they wait for each other."""
    processors = witnesses.processors
    if processors and timings.threads > processors and _on_cpu(timings):
        reason = f"{_plural(timings.threads, 'thread')} on {_plural(processors, 'processor')}"
        yield _Finding("disturbed", reason, f"no more threads than processors (--threads {processors})")


def _neighbours(witnesses: Witnesses) -> Iterator[_Finding]:
    """Other processes on the same processors, whether or not they made a thread wait."""
    others, processors = witnesses.others, witnesses.processors or 1
    if others is not None and others > max(OTHERS, OTHERS_SHARE * processors):
        reason = f"other processes kept {number_text(others)} of {_plural(processors, 'processor')} busy"
        yield _Finding("disturbed", reason, _STOP)


def _streaming(witnesses: Witnesses, machine: Machine | None) -> Iterator[_Finding]:
    """A stream beside the passes: where it never comes near the roof, others use memory too."""
    if machine is None or machine.form != "measured" or not witnesses.stream_bytes_per_s:
        return
    roof = machine.bytes_per_s(witnesses.stream_bytes)
    share = max(witnesses.stream_bytes_per_s) / roof if roof else 1.0
    if share < STREAM_VOID:
        reason = f"memory was to be had at {_percent(share)} of its bandwidth"
        yield _Finding("void", reason, _STOP)


def _switching(timings: Timings, witnesses: Witnesses) -> Iterator[_Finding]:
    """Involuntary context switches over the whole sampling, bare and instrumented passes."""
    passes = (*timings.bare.samples, *timings.instrumented.samples)
    switches, seconds = witnesses.switches or 0, sum(passes)
    most = max(SWITCHES_LEAST, SWITCHES_PER_S * seconds * timings.threads)
    if switches > most:
        reason = f"{number_text(switches / len(passes))} involuntary context switches per pass"
        yield _Finding("disturbed", reason, _pinned(timings, witnesses))


def _spreading(timings: Timings) -> Iterator[_Finding]:
    """The bare passes among themselves: 90th against 10th percentile, and epoch against epoch."""
    seconds = timings.bare.samples
    if len(seconds) < PASSES_LEAST:
        reason = f"only {_plural(len(seconds), 'pass', 'passes')} timed: too few to tell how far they spread"
        yield _Finding("disturbed", reason, _LONGER)
        return
    low, high = percentile(seconds, 0.1), percentile(seconds, 0.9)
    if low > 0 and high / low > SPREAD:
        reason = f"bare passes spread by {_percent(high / low - 1)} (p90/p10)"
        yield _Finding("void" if high / low > SPREAD_VOID else "disturbed", reason, f"{_STOP}, or {_LONGER}")
    change = _change(_medians(timings.bare.samples, timings.epochs))
    if change is not None and change > CHANGED:
        reason = f"the typical bare pass changed by {_percent(change)} between epochs"
        yield _Finding(_word(change, CHANGED_VOID), reason, _CALMER)


def _drifting(timings: Timings, witnesses: Witnesses) -> Iterator[_Finding]:
    """The clock probe, epoch against epoch."""
    change = _change(_medians(witnesses.probe_s, timings.epochs))
    if change is not None and change > DRIFT:
        reason = f"the clock probe drifted by {_percent(change)} between epochs"
        yield _Finding(_word(change, DRIFT_VOID), reason, f"{_CALMER} and its clock steady")


def _pacing(witnesses: Witnesses, machine: Machine | None) -> Iterator[_Finding]:
    """The clock probe now against the one when the roofs were measured: drift that no single run shows."""
    then = machine.overheads_s.get("probe") if machine is not None and machine.form == "measured" else None
    if not then or not witnesses.probe_s:
        return
    now = percentile(witnesses.probe_s, 0.1)
    if now > PACE * then:
        reason = f"the processor went at {_percent(then / now)} of the pace at which the roofs were measured"
        yield _Finding("disturbed", reason, _CALMER)
    elif then > PACE * now:
        reason = f"the roofs were measured at {_percent(now / then)} of the pace of now"
        yield _Finding("disturbed", reason, "measure them anew (flopscope machine --refresh)")


def _faulting(timings: Timings, witnesses: Witnesses) -> Iterator[_Finding]:
    """Pages read from disk; and an allocator that changed its ways while it was measured."""
    if witnesses.major_faults:
        reason = f"{_plural(witnesses.major_faults, 'major fault')} (pages read from disk)"
        yield _Finding("disturbed", reason, "free memory, or use a smaller batch")
    faults = _medians(witnesses.faults or (), timings.epochs)
    if len(faults) < 2:
        return
    low, high = min(faults), max(faults)
    if (high - low) * FAULT_S > FAULT_SHARE * median(timings.bare.samples):
        reason = f"page faults changed from epoch to epoch ({low:.0f} to {high:.0f} per pass)"
        yield _Finding("disturbed", reason, f"{_LONGER}, so that the allocator settles")


def _load(witnesses: Witnesses) -> list[str]:
    """The load average beside other reasons; alone it is none, for it lags and counts this process too."""
    if witnesses.loads is None or witnesses.processors is None:
        return []
    load = max(witnesses.loads)
    return [f"load {load:.1f} on {witnesses.processors} CPUs"] if load > witnesses.processors else []


def _unwatched(timings: Timings) -> tuple[str, ...]:
    """What could not be watched, as one reason; nothing where everything was."""
    witnesses = timings.witnesses
    if witnesses is None:
        return ("judged by the spread of its passes alone: the system was not asked",)
    sources = {
        "run-delay": witnesses.run_delay_s,
        "CPU time": witnesses.cpu_s,
        "page faults": witnesses.faults,
        "context switches": witnesses.switches,
        "clock probe": witnesses.probe_s or None,
    }
    missing = witnesses.missing or [name for name, value in sources.items() if value is None]
    return (f"not watched here: {', '.join(missing)}",) if missing else ()


# --------------------------------------------------------------------------- numbers and words


def _word(share: float, void: float) -> str:
    return "void" if share > void else "disturbed"


def _pinned(timings: Timings, witnesses: Witnesses) -> str:
    """How to get out of other processes' way; `taskset` exists where run-delay does, on Linux."""
    if not _on_cpu(timings) or witnesses.run_delay_s is None or (witnesses.processors or 1) < 2:
        return _STOP
    return f"{_STOP}, or pin: taskset -c 1 flopscope ... --threads 1"


def _on_cpu(timings: Timings) -> bool:
    return timings.device.partition(":")[0] == "cpu"


def _medians(values: Sequence[float], epochs: Sequence[int]) -> list[float]:
    """Medians of up to four consecutive parts: epochs, several together where there are more.

    Where no epochs are known the parts are quarters. Parts of fewer than three values are left out.
    """
    if len(epochs) != len(values):
        epochs = range(len(values))
    order = sorted(set(epochs))
    part_of = {epoch: place * min(4, len(order)) // len(order) for place, epoch in enumerate(order)}
    parts: dict[int, list[float]] = {}
    for value, epoch in zip(values, epochs, strict=True):
        parts.setdefault(part_of[epoch], []).append(value)
    return [median(part) for part in parts.values() if len(part) >= 3]


def _change(medians: Sequence[float]) -> float | None:
    """By how much the largest exceeds the smallest; None where there are not two to compare."""
    return max(medians) / min(medians) - 1 if len(medians) > 1 and min(medians) > 0 else None


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
