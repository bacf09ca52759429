"""A probe, a clock and an observer -> rounds of passes, until enough is known or the time is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from flopscope.clocks import Clock

from .observers import Observer, increments
from .probes import Probe

WARMUP_LEAST, WARMUP_MOST = 3, 20
ROUNDS_LEAST, ROUNDS_MOST = 8, 1000
EPOCHS = 10  # slices of the time; what differs between them is no noise of single passes
EPOCHS_LEAST = 4
CLOSE_ENOUGH = 0.05
DECISIVE = 0.8  # the share of the time whose stretches have to be known closely
WAIT_EVERY, FAULTS_EVERY = 4, 8  # rounds from one pass that reads these counters to the next
WAITED_NS = 20_000  # less is a hand-over between threads, not another process

Progress = Callable[[str, float], None]
Now = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How long to sample: whole rounds until `max_seconds` are spent, within the two bounds."""

    max_seconds: float
    rounds_least: int = ROUNDS_LEAST
    rounds_most: int = ROUNDS_MOST
    now: Now = time.perf_counter


@dataclass(slots=True)
class Log:
    """What the rounds gave, in order; lists of one length, but for the counters' own passes."""

    bare: list[float] = field(default_factory=list)
    marked: list[tuple[float, ...]] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    products: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    issued: list[float] = field(default_factory=list)
    stretch_delays: list[tuple[int, ...]] = field(default_factory=list)
    stretch_faults: list[tuple[int, ...]] = field(default_factory=list)
    astray: int = 0
    stop_reason: str = "time"


def warm_up(run: Callable[[], Any], clock: Clock, sampling: Sampling, progress: Progress) -> int:
    """Run until the last three passes agree within 10 %; at most a quarter of the time."""
    times: list[float] = []
    started = sampling.now()
    while len(times) < WARMUP_MOST:
        progress("warm-up", len(times) / WARMUP_MOST)
        before = clock.mark()
        output = run()
        times.append(sum(clock.settle((before, clock.mark()))))
        del output
        late = sampling.now() - started > sampling.max_seconds / 4
        steady = len(times) >= WARMUP_LEAST and max(times[-3:]) <= 1.1 * min(times[-3:])
        if steady or (late and len(times) >= WARMUP_LEAST):
            break
    return len(times)


def sample(
    probe: Probe,
    boundaries: int,
    *,
    clock: Clock,
    sampling: Sampling,
    observer: Observer,
    progress: Progress,
) -> Log:
    """Take rounds of one bare and one marked pass, in turn first; some read the system's counters.

    A round whose marked pass met another number of boundaries took another path: it is left out,
    and counted.
    """
    log = Log()
    marked = probe.marking(clock.mark)
    counted = _counted_passes(probe, observer, log)
    started, epoch, turn = sampling.now(), 0, 0
    while turn < sampling.rounds_most:
        spent = sampling.now() - started
        if spent > sampling.max_seconds and turn >= sampling.rounds_least:
            return log
        progress("timing", min(1.0, spent / sampling.max_seconds))
        before, epoch = epoch, min(int(EPOCHS * spent / sampling.max_seconds), EPOCHS - 1)
        if epoch != before:
            observer.look_again()
            if turn >= sampling.rounds_least and is_known_closely(log):
                log.stop_reason = "steady"
                return log
        _round(probe, marked, log, clock=clock, observer=observer, epoch=epoch, expected=boundaries)
        for every, count in counted:
            if turn % every == 0:
                count(boundaries)
        turn += 1
    log.stop_reason = "rounds"
    return log


def is_known_closely(log: Log) -> bool:
    """Whether the epochs agree within 5 % on the stretches that make up most of the time."""
    by_epoch: dict[int, list[tuple[float, ...]]] = {}
    for epoch, stretches in zip(log.epochs, log.marked, strict=True):
        by_epoch.setdefault(epoch, []).append(stretches)
    if len(by_epoch) < EPOCHS_LEAST:
        return False
    return all(
        max(middles) - min(middles) <= 2 * CLOSE_ENOUGH * median(middles)
        for middles in (
            [median(stretches[place] for stretches in rounds) for rounds in by_epoch.values()]
            for place in _decisive(log.marked[-1])
        )
    )


def _decisive(stretches: tuple[float, ...]) -> list[int]:
    """The fewest stretches that make up most of a pass."""
    ranked = sorted(range(len(stretches)), key=stretches.__getitem__, reverse=True)
    whole, held = sum(stretches), 0.0
    for count, place in enumerate(ranked):
        if held >= DECISIVE * whole:
            return ranked[:count]
        held += stretches[place]
    return ranked


def _round(
    probe: Probe,
    marked: Callable[[], list[Any]],
    log: Log,
    *,
    clock: Clock,
    observer: Observer,
    epoch: int,
    expected: int,
) -> None:
    """One bare and one marked pass; the order changes from round to round."""
    product = observer.product()
    stretches: tuple[float, ...] = ()
    first = len(log.bare) % 2 == 1

    def marked_pass() -> tuple[float, ...]:
        clock.lead(log.issued[-1] if log.issued else 0.0)
        marks = marked()
        return clock.settle(marks) if len(marks) == expected else ()

    if first:
        stretches = marked_pass()
    bare = _bare(probe.run, clock, observer)
    if not first:
        stretches = marked_pass()
    if not stretches and expected > 1:
        log.astray += 1
        return
    seconds, delay, faults, cpu, issued = bare
    log.bare.append(seconds)
    log.marked.append(stretches)
    log.epochs.append(epoch)
    log.products.append(product)
    log.delays.append(delay)
    log.faults.append(faults)
    log.cpu.append(cpu)
    log.issued.append(issued)


def _bare(run: Callable[[], Any], clock: Clock, observer: Observer) -> tuple[float, float, int, float, float]:
    """One pass without marks: seconds, run-delay, faults, processor time, seconds to issue it."""
    waited, faulted = observer.run_delay, observer.faults
    delay = waited() if waited else 0
    faults = faulted() if faulted else 0
    cpu, host = time.process_time_ns(), time.perf_counter_ns()
    before = clock.mark()
    output = run()
    after = clock.mark()
    issued = time.perf_counter_ns() - host
    seconds = sum(clock.settle((before, after)))
    cpu = time.process_time_ns() - cpu
    faults = (faulted() if faulted else 0) - faults
    delay = max(0, (waited() if waited else 0) - delay)
    del output  # held until the clock was read: freeing it is not part of the pass
    return seconds, delay * 1e-9, faults, cpu * 1e-9, issued * 1e-9


def _counted_passes(
    probe: Probe, observer: Observer, log: Log
) -> Sequence[tuple[int, Callable[[int], None]]]:
    """Passes that read a counter at every boundary, and how often to take one."""
    passes = []
    for every, reading, kept in (
        (WAIT_EVERY, observer.run_delay, log.stretch_delays),
        (FAULTS_EVERY, observer.faults, log.stretch_faults),
    ):
        if reading is not None:
            passes.append((every, _counting(probe.marking(reading), kept)))
    return passes


def _counting(marked: Callable[[], list[int]], kept: list[tuple[int, ...]]) -> Callable[[int], None]:
    def count(expected: int) -> None:
        readings = marked()
        if len(readings) == expected:
            kept.append(increments(readings))

    return count
