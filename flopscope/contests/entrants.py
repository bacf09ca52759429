"""Sides of a contest, each a model with its settings -> Reports, and the turns of their samples.

All that can be timed is timed in turns of one run, so that what drifts on the machine drifts for all.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from flopscope import clocks, comparison, inputs, timing, tracing
from flopscope.comparison import Comparison
from flopscope.errors import ForwardError, InputError, MeasurementError
from flopscope.profiling import Asked, Walk
from flopscope.progress import Progress
from flopscope.records import Latency, Refused, Rewrote, Settings, Side, Timings, Trace, percentile
from flopscope.reports import Report
from flopscope.subjects import Subject


@dataclasses.dataclass(frozen=True, slots=True)
class Entrant:
    """One side before it is run: a live model with inputs and settings, or a saved report.

    `items` are the samples of one call; `compiled` runs what torch.compile makes of the model, in which an
    earlier contest spent `prepare_s`.
    """

    name: str
    model: nn.Module | None = None
    inputs: Any = None
    settings: Settings = dataclasses.field(default_factory=Settings)
    report: Report | None = None
    title: str | None = None
    items: int = 1
    compiled: bool = False
    rewrote: Rewrote | None = None
    step: Any = None
    prepare_s: float | None = None


@dataclasses.dataclass(slots=True)
class Outcome:
    """What became of an entrant: its report, and where it was timed here, the turns of its samples."""

    report: Report
    turns: tuple[int, ...] = ()
    prepare_s: float | None = None

    @property
    def measured(self) -> bool:
        """Whether it was timed in this run."""
        return bool(self.turns)


class _Compiled(nn.Module):
    """Calls a compiled model without showing its modules: nothing in it can be marked."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._held = [torch.compile(model, dynamic=False)]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._held[0](*args, **kwargs)


def contested(
    entrants: Sequence[Entrant],
    refused: Sequence[Refused] = (),
    *,
    seconds: float,
    progress: Progress,
    margin: float,
) -> Comparison:
    """Count every entrant, time all live ones together, and set them side by side. Errors are `settled`'s."""
    outcomes = settled(entrants, seconds=seconds, progress=progress)
    sides = []
    for entrant, outcome in zip(entrants, outcomes, strict=True):
        spent = outcome.prepare_s if entrant.prepare_s is None else entrant.prepare_s
        rewrote = entrant.rewrote and dataclasses.replace(entrant.rewrote, prepare_s=spent)
        sides.append(Side(entrant.name, entrant.items, outcome.measured, rewrote))
    return comparison.compared(
        sides,
        [outcome.report for outcome in outcomes],
        turns=[outcome.turns for outcome in outcomes],
        refused=refused,
        margin=margin,
    )


def settled(entrants: Sequence[Entrant], *, seconds: float, progress: Progress) -> list[Outcome]:
    """Count every entrant, and time all live ones together.

    Args:
        entrants: in their order.
        seconds: of sampling, for all together.
        progress: called with a stage and the share of it that is done.

    Raises:
        InputError: they are to run on different devices.
        ForwardError: a model rejected its input.
        MeasurementError: a model could not be timed.
    """
    walks = [None if entrant.model is None else _walk(entrant, progress) for entrant in entrants]
    traces: list[Trace | None] = []
    for entrant, walk in zip(entrants, walks, strict=True):
        if walk is None:
            traces.append(None)
            continue
        with walk.conditions():
            try:
                traces.append(walk.traced())
            except ForwardError as failure:  # it may fit the others
                raise ForwardError(f"{entrant.name}: {failure}", hint=failure.hint) from failure.__cause__
    timed = [place for place, walk in enumerate(walks) if walk is not None and walk.is_measurable()]
    found = _timed([(entrants[place], walks[place]) for place in timed], seconds, progress) if timed else []
    by_place = dict(zip(timed, found, strict=True))
    return [
        _outcome(entrant, walk, trace, by_place.get(place))
        for place, (entrant, walk, trace) in enumerate(zip(entrants, walks, traces, strict=True))
    ]


def _walk(entrant: Entrant, progress: Progress) -> Walk:
    assert entrant.model is not None
    asked = Asked(entrant.inputs, machine=False, step=entrant.step)
    return Walk(Subject(entrant.model, entrant.settings), entrant.settings, asked, progress)


def _timed(
    sides: Sequence[tuple[Entrant, Walk | None]], seconds: float, progress: Progress
) -> list[tuple[Timings, float | None]]:
    """The Timings of each side, all in turns of one run, and the seconds that preparing it took."""
    walks = [walk for _, walk in sides if walk is not None]
    device = walks[0].subject.device
    if len({walk.subject.device for walk in walks}) > 1:
        raise InputError(
            "the models are on different devices, and only what runs on one can be timed in turns",
            hint="give device=..., or move the models to one device",
        )
    clock = clocks.clock_for(device)
    assert clock is not None
    with ExitStack() as stack:
        runs, prepared = [], []
        for (entrant, _), walk in zip(sides, walks, strict=True):
            with walk.conditions():
                run = walk.run()
            stack.enter_context(tracing.borrowed(run.model, evaluating=entrant.step is None))
            run, spent = _compiled(run, progress) if entrant.compiled else (run, None)
            runs.append(run)
            prepared.append(spent)
        stack.enter_context(walks[0].conditions_of_all())
        try:
            timings = timing.measure_in_turns(
                runs, clock=clock, sampling=timing.Sampling(seconds), device=device, progress=progress
            )
        except MeasurementError:
            raise
        except Exception as failure:  # whatever a model may raise
            raise inputs.explain(walks[0].subject.model, failure, inputs=walks[0].call) from failure
    return list(zip(timings, prepared, strict=True))


def _compiled(run: timing.Run, progress: Progress) -> tuple[timing.Run, float]:
    """The run with its model compiled, and what the compilation took.

    Raises:
        MeasurementError: it cannot be compiled here.
    """
    progress("compiling", 0.0)
    model = _Compiled(run.model).eval()
    before = time.perf_counter()
    try:
        with torch.inference_mode(run.step is None), run.conditions():
            model(*run.args, **run.kwargs)
    except Exception as failure:  # the compiler may raise anything
        first = (str(failure).strip().splitlines() or [type(failure).__name__])[0]
        raise MeasurementError(
            f"torch.compile cannot compile the model here: {first}", hint="leave compile out"
        ) from failure
    return dataclasses.replace(run, model=model), time.perf_counter() - before


def _outcome(
    entrant: Entrant, walk: Walk | None, trace: Trace | None, found: tuple[Timings, float | None] | None
) -> Outcome:
    if walk is None or trace is None:
        assert entrant.report is not None
        return Outcome(entrant.report)
    timings, prepare_s = found or (None, None)
    whole_only = timings is not None and entrant.compiled
    with walk.conditions():
        report = walk.finished(trace, None if whole_only else timings, None)
    if whole_only and timings is not None:
        report = _with_whole(report, timings)
    report = dataclasses.replace(report, model=entrant.title or report.model)
    return Outcome(report, timings.turns if timings else (), prepare_s)


def _with_whole(report: Report, timings: Timings) -> Report:
    """The report with the latency of the whole alone."""
    median = percentile(timings.bare.samples, 0.5)
    total = dataclasses.replace(report.total, latency_s=median, samples=len(timings.bare.samples))
    return dataclasses.replace(report, whole=Latency(timings.bare.samples), total=total)


Told = Callable[[str, float], None] | bool | None
