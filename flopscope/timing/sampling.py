"""A probe, a clock and an observer -> rounds of passes, until enough is known or the time is spent."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from flopscope.clocks import Clock

from .observers import Observer, increments
from .probes import Probe
from .steps import StepProbe

WARMUP_LEAST, WARMUP_MOST = 3, 20
ROUNDS_LEAST, ROUNDS_MOST = 8, 1000
ROUNDS_LEAST_SLOW = 3  # of a pass so long that eight rounds would take more than twice the time
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
    """How long to sample: whole rounds until `max_seconds` are spent, within the two bounds.

    Where a pass takes more than the `rounds_least`th part of `max_seconds`, fewer rounds will do.
    """

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
    phases: list[tuple[float, ...]] = field(default_factory=list)
    stretch_delays: list[tuple[int, ...]] = field(default_factory=list)
    stretch_faults: list[tuple[int, ...]] = field(default_factory=list)
    streams: list[float] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    astray: int = 0
    stop_reason: str = "time"


class Lane:
    """One of the subjects that are sampled in turns: its probe, its log, and what must be in force round it.

    `expected` is the number of stretches of a marked pass. `around` makes a context in which its passes
    run; of several lanes each round is led in by a pass that does not count, for the others took the caches.
    """

    def __init__(
        self,
        probe: Probe | StepProbe,
        expected: int,
        *,
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.probe = probe
        self.expected = expected
        self.around = around
        self.log = Log()

    def ready(self, clock: Clock, observer: Observer) -> None:
        """Make the passes that mark boundaries, and those that read counters there."""
        self.marked = self.probe.marking(clock.mark)
        self.counted = _counted_passes(self.probe, observer, self.log)

    def turn(self, number: int, epoch: int, *, clock: Clock, observer: Observer, lead_in: bool) -> None:
        """One round, and the counters' passes that are due."""
        if lead_in:
            self.probe.bare(clock.mark)
        kept = len(self.log.bare)
        _round(
            self.probe, self.marked, self.log,
            clock=clock, observer=observer, epoch=epoch, expected=self.expected,
        )  # fmt: skip
        if len(self.log.bare) > kept:
            self.log.turns.append(number)
        for every, count in self.counted:
            if number % every == 0:
                count(self.expected)


def warm_up(probe: Probe | StepProbe, clock: Clock, sampling: Sampling, progress: Progress) -> int:
    """Run until the last three passes agree within 10 %; at most a quarter of the time."""
    times: list[float] = []
    started = sampling.now()
    while len(times) < WARMUP_MOST:
        progress("warm-up", len(times) / WARMUP_MOST)
        marks, output = probe.bare(clock.mark)
        times.append(sum(clock.settle(marks)))
        del output
        late = sampling.now() - started > sampling.max_seconds / 4
        enough = len(times) >= WARMUP_LEAST
        steady = enough and max(times[-3:]) <= 1.1 * min(times[-3:])
        if steady or (late and (enough or times[-1] > sampling.max_seconds / ROUNDS_LEAST)):
            break
    return len(times)


def sample(
    probe: Probe | StepProbe,
    stretches: int,
    *,
    clock: Clock,
    sampling: Sampling,
    observer: Observer,
    progress: Progress,
) -> Log:
    """Take rounds of one bare and one marked pass, in turn first; some read the system's counters.

    A round whose marked pass has another number of stretches took another path: it is left out,
    and counted.
    """
    lane = Lane(probe, stretches)
    sample_in_turns([lane], clock=clock, sampling=sampling, observer=observer, progress=progress)
    return lane.log


def sample_in_turns(
    lanes: Sequence[Lane], *, clock: Clock, sampling: Sampling, observer: Observer, progress: Progress
) -> None:
    """Take rounds of all lanes, one of each in a turn, in an order drawn anew; what drifts drifts for all.

    The logs of the lanes hold what was found; a turn in which a lane took another path is missing there.
    """
    chance = random.Random(0)
    for lane in lanes:
        with lane.around():
            lane.ready(clock, observer)
    started, epoch, turn, reason = sampling.now(), 0, 0, "rounds"
    logs = [lane.log for lane in lanes]
    while turn < sampling.rounds_most:
        spent = sampling.now() - started
        if spent > sampling.max_seconds and turn >= max(_rounds_least(log, sampling) for log in logs):
            reason = "time"
            break
        # By turns where a pass is so short that the rounds are over first: epochs there must be.
        share = min(1.0, max(spent / sampling.max_seconds, turn / sampling.rounds_most))
        progress("timing", share)
        before, epoch = epoch, min(int(EPOCHS * share), EPOCHS - 1)
        if epoch != before or not any(log.bare for log in logs):
            _begin_epoch(logs, clock, observer)
            long = EPOCHS * spent >= sampling.max_seconds  # what disturbs comes in spells
            if long and turn >= sampling.rounds_least and all(map(is_known_closely, logs)):
                reason = "steady"
                break
        for lane in chance.sample(lanes, len(lanes)):
            with lane.around():
                lane.turn(turn, epoch, clock=clock, observer=observer, lead_in=len(lanes) > 1)
        turn += 1
    for log in logs:
        log.stop_reason = reason


def _begin_epoch(logs: Sequence[Log], clock: Clock, observer: Observer) -> None:
    observer.look_again()
    if not clock.queues:
        rate = observer.stream()
        for log in logs:
            log.streams.append(rate)


def _rounds_least(log: Log, sampling: Sampling) -> int:
    """The least rounds: so many that their bare passes take no more than the time, or three."""
    if not log.bare or (typical := median(log.bare)) <= 0:
        return sampling.rounds_least
    return min(sampling.rounds_least, max(ROUNDS_LEAST_SLOW, int(sampling.max_seconds / typical)))


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
    probe: Probe | StepProbe,
    marked: Callable[[], list[list[Any]]],
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
        found = tuple(second for row in marked() for second in clock.settle(row))
        return found if len(found) == expected else ()

    if first:
        stretches = marked_pass()
    bare = _bare(probe, clock, observer)
    if not first:
        stretches = marked_pass()
    if not stretches and expected:
        log.astray += 1
        return
    phases, delay, faults, cpu, issued = bare
    log.bare.append(sum(phases))
    log.phases.append(phases)
    log.marked.append(stretches)
    log.epochs.append(epoch)
    log.products.append(product)
    log.delays.append(delay)
    log.faults.append(faults)
    log.cpu.append(cpu)
    log.issued.append(issued)


def _bare(
    probe: Probe | StepProbe, clock: Clock, observer: Observer
) -> tuple[tuple[float, ...], float, int, float, float]:
    """One pass, no module marked: seconds by phase, run-delay, faults, CPU time, seconds to issue it."""
    waited, faulted = observer.run_delay, observer.faults
    delay = waited() if waited else 0
    faults = faulted() if faulted else 0
    cpu, host = time.process_time_ns(), time.perf_counter_ns()
    marks, output = probe.bare(clock.mark)
    issued = time.perf_counter_ns() - host
    phases = clock.settle(marks)
    cpu = time.process_time_ns() - cpu
    faults = (faulted() if faulted else 0) - faults
    delay = max(0, (waited() if waited else 0) - delay)
    del output  # held until the clock was read: freeing it is not part of the pass
    return phases, delay * 1e-9, faults, cpu * 1e-9, issued * 1e-9


def _counted_passes(
    probe: Probe | StepProbe, observer: Observer, log: Log
) -> Sequence[tuple[int, Callable[[int], None]]]:
    """Passes that read a counter at every boundary, and how often to take one."""
    passes = []
    for every, reading, kept in (
        (WAIT_EVERY, observer.run_delay, log.stretch_delays),
        (FAULTS_EVERY, observer.faults, log.stretch_faults),
    ):
        if reading is not None:
            marked = probe.marking(reading)
            if kept is log.stretch_faults:
                marked()  # not kept: the process may grow once more, and those pages are not of every pass
            passes.append((every, _counting(marked, kept)))
    return passes


def _counting(marked: Callable[[], list[list[int]]], kept: list[tuple[int, ...]]) -> Callable[[int], None]:
    def count(expected: int) -> None:
        gained = tuple(gain for row in marked() for gain in increments(row))
        if len(gained) == expected:
            kept.append(gained)

    return count
