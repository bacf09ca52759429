"""A model and the arguments of one call -> Timings: what each stretch between modules takes.

Modules are timed in place, in whole forward passes: a layer run alone, over and over, finds its
data in cache and takes less than its true time. Bare passes, without any instrument, are
taken in turn with the instrumented ones, so that the instrument's own cost shows; what the system
tells (waiting for a processor, page faults) is read beside them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from statistics import fmean, median_low
from typing import Any, TypeVar

import torch
from torch import nn

from flopscope.clocks import Clock
from flopscope.errors import MeasurementError
from flopscope.records import Latency, Timings, Witnesses

from .observers import STREAM_BYTES, Observer
from .probes import Probe
from .repeats import repeats
from .sampling import WAITED_NS, Lane, Log, Progress, Sampling, sample_in_turns, warm_up
from .steps import StepProbe

__all__ = [
    "SECONDS",
    "Observer",
    "Run",
    "Sampling",
    "Step",
    "measure",
    "measure_in_turns",
    "repeats",
    "threads_of",
    "without_collection",
]

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Step:
    """What a training step needs besides the model: its loss, and an optimizer where there is one."""

    loss: Callable[[Any], torch.Tensor]
    optimizer: torch.optim.Optimizer | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One call to be timed: a private copy in eval mode, its arguments, and the threads that it runs on."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    step: Step | None = None
    threads: int | None = None

    def conditions(self) -> AbstractContextManager[Any]:
        """The context in which it runs."""
        return nullcontext() if self.threads is None else threads_of(self.threads)


SECONDS = {"quick": 1.5, "normal": 5.0, "thorough": 15.0}


def measure(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    clock: Clock,
    sampling: Sampling,
    device: str = "cpu",
    progress: Progress = lambda stage, share: None,
    observer: Observer | None = None,
    step: Step | None = None,
) -> Timings:
    """Time forward passes of `model`, bare and with a mark at every module boundary in turn.

    Args:
        model: a private copy in eval mode; its `forward`s are wrapped and given back.
        args: positional arguments of the call, on the model's device.
        kwargs: keyword arguments of the call.
        clock: reads the time on the device.
        sampling: when to stop.
        device: the device's name, for the record.
        progress: called with a stage's name and the share of it that is done.
        observer: reads what the system tells; of this process by default.
        step: time training steps with this loss and optimizer, in place of forward passes.

    Raises:
        MeasurementError: no two passes took the same path through the modules.
    """
    run = Run(model, args, kwargs, step)
    return measure_in_turns(
        [run], clock=clock, sampling=sampling, device=device, progress=progress, observer=observer
    )[0]


def measure_in_turns(
    runs: Sequence[Run],
    *,
    clock: Clock,
    sampling: Sampling,
    device: str = "cpu",
    progress: Progress = lambda stage, share: None,
    observer: Observer | None = None,
) -> tuple[Timings, ...]:
    """Time several models in one go: a pass of each in every turn, so that what drifts drifts for all.

    Args:
        runs: what is timed.
        clock: reads the time on the device.
        sampling: when to stop; its seconds are for all together.
        device: the device's name, for the record.
        progress: called with a stage's name and the share of it that is done.
        observer: reads what the system tells; of this process by default.

    Returns:
        The Timings of each; `turns` says which rounds were taken in the same turn.

    Raises:
        MeasurementError: no two passes of one took the same path through its modules.
    """
    gc.collect()
    training = any(run.step is not None for run in runs)
    with torch.inference_mode(not training), without_collection(), observer or Observer() as seen:
        prepared = [_prepared(run, clock, sampling, progress) for run in runs]
        seen.look_again()
        before = _Readings.of(seen)
        lanes = [lane for lane, _, _ in prepared]
        sample_in_turns(lanes, clock=clock, sampling=sampling, observer=seen, progress=progress)
        after = _Readings.of(seen)
        for lane in lanes:
            _require_rounds(lane.log)
        return tuple(
            _timings(lane, boundaries, warmups, clock, device, run.threads,
                     _witnesses(lane.log, seen, before, after))
            for run, (lane, boundaries, warmups) in zip(runs, prepared, strict=True)
        )  # fmt: skip


def _prepared(
    run: Run, clock: Clock, sampling: Sampling, progress: Progress
) -> tuple[Lane, tuple[str, ...], int]:
    """A lane that is warm, the boundaries of its passes, and how many passes warmed it."""
    with run.conditions():
        probe = _probe_of(run.model, run.args, run.kwargs, run.step)
        warmups = warm_up(probe, clock, sampling, progress)
        boundaries = probe.boundaries()
    stretches = max(0, len(boundaries) - 1) + len(probe.later)
    return Lane(probe, stretches, around=run.conditions), boundaries, warmups


def _timings(
    lane: Lane,
    boundaries: tuple[str, ...],
    warmups: int,
    clock: Clock,
    device: str,
    threads: int | None,
    witnesses: Witnesses,
) -> Timings:
    """What one lane's log comes to."""
    log, probe = lane.log, lane.probe
    whole = tuple(sum(stretches) for stretches in log.marked)
    return Timings(
        bare=Latency(tuple(log.bare)),
        instrumented=Latency(whole),
        boundaries=boundaries,
        stretches=tuple(zip(*log.marked, strict=True)),
        warmup_rounds=warmups,
        stop_reason=log.stop_reason,
        threads=threads or torch.get_num_threads(),
        device=device,
        instrument_s=max(0.0, _fast_mean(whole) - _fast_mean(log.bare)),
        warnings=_changes_of_path(log.astray),
        epochs=tuple(log.epochs),
        witnesses=witnesses,
        issued_s=tuple(log.issued) if clock.queues else (),
        later=probe.later,
        phases={
            name: Latency(samples)
            for name, samples in zip(probe.phases, zip(*log.phases, strict=True), strict=True)
        },
        turns=tuple(log.turns),
    )


@contextmanager
def threads_of(count: int | None) -> Iterator[None]:
    """Use `count` threads for one operator; give the process its own number back."""
    before = torch.get_num_threads()
    try:
        if count is not None and count != before:
            torch.set_num_threads(count)
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextmanager
def without_collection() -> Iterator[None]:
    """Keep the garbage collector still: each collection would walk all of torch."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _probe_of(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], step: Step | None
) -> Probe | StepProbe:
    if step is None:
        return Probe(model, lambda: model(*args, **kwargs))
    return StepProbe(model, args, kwargs, loss=step.loss, optimizer=step.optimizer)


def _require_rounds(log: Log) -> None:
    if not log.marked:
        raise MeasurementError(
            f"the forward entered other modules in each of {log.astray} passes than in the one before them, "
            "so that no layer could be timed",
            hint="count it (latency=False, --no-latency), or fix what its path hangs on",
        )


@dataclass(frozen=True, slots=True)
class _Readings:
    """The counters of the whole process at one moment; None where the platform has none."""

    at: float
    switches: int | None
    major_faults: int | None
    foreign: float | None
    load: float | None

    @classmethod
    def of(cls, observer: Observer) -> _Readings:
        return cls(
            time.perf_counter(),
            observer.switches(),
            observer.major_faults(),
            observer.foreign(),
            observer.load(),
        )


def _witnesses(log: Log, observer: Observer, before: _Readings, after: _Readings) -> Witnesses:
    """What the observer's counters say of the rounds that were kept."""
    waits = [[delay > WAITED_NS for delay in column] for column in zip(*log.stretch_delays, strict=True)]
    # The lower median: the first passes of all fault in what the process keeps from then on.
    faults = tuple(float(median_low(column)) for column in zip(*log.stretch_faults, strict=True))
    foreign = _gained(before.foreign, after.foreign)
    return Witnesses(
        wall_s=sum(log.bare),
        cpu_s=sum(log.cpu),
        run_delay_s=tuple(log.delays) if observer.run_delay else None,
        faults=tuple(log.faults) if observer.faults else None,
        probe_s=tuple(log.products),
        switches=_gained(before.switches, after.switches),
        loads=None if before.load is None or after.load is None else (before.load, after.load),
        stretch_faults=faults or None,
        stretch_waits=tuple(fmean(column) for column in waits) or None,
        processors=observer.processors(),
        missing=tuple(observer.missing),
        others=None if foreign is None else max(0.0, foreign) / (after.at - before.at),
        major_faults=_gained(before.major_faults, after.major_faults),
        stream_bytes_per_s=tuple(log.streams),
        stream_bytes=STREAM_BYTES if log.streams else 0,
    )


def _gained(before: N | None, after: N | None) -> N | None:
    return None if before is None or after is None else after - before


def _fast_mean(seconds: tuple[float, ...] | list[float]) -> float:
    """Mean over the fastest half of the rounds."""
    if not seconds:
        return 0.0
    fastest = sorted(seconds)[: (len(seconds) + 1) // 2]
    return sum(fastest) / len(fastest)


def _changes_of_path(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    return (f"the forward took another path in {count} rounds; they are left out of the latencies",)
