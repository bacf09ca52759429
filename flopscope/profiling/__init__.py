"""The conductor: a model and its inputs -> Report. It alone knows the order of the walk.

subjects, inputs -> tracing -> [timing] -> assembly
"""

from __future__ import annotations

import dataclasses
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from flopscope import assembly, clocks, costs, inputs, timing, tracing
from flopscope.environment import environment
from flopscope.errors import InputError
from flopscope.inputs import Inputs, Made
from flopscope.progress import Progress, shown
from flopscope.records import Settings, Timings, Trace
from flopscope.reports import Report
from flopscope.subjects import Subject, check_device

EFFORTS = tuple(timing.SECONDS)


def profile(
    model: nn.Module,
    inputs: Any = None,
    *,
    device: str | None = None,
    dtype: Any = None,
    threads: int | None = None,
    channels_last: bool = False,
    latency: bool = True,
    effort: str = "normal",
    max_seconds: float | None = None,
    seed: int = 0,
    strict: bool = False,
    progress: Callable[[str, float], None] | bool | None = None,
) -> Report:
    """Tell what each layer of a model costs, and what it takes on this machine.

    The model itself is not changed: what is to run is a private copy, in eval mode and under
    inference mode. Where it was built on the meta device there is nothing to run, and latencies
    are None.

    Args:
        model: any module.
        inputs: a shape `(1, 3, 224, 224)`; a tensor; a tuple or list of shapes and tensors
            (positional arguments); a dict of them (keyword arguments); `Spec(shape, dtype)`
            wherever a shape may stand; `Inputs(...)` for both kinds. None: guessed from the
            model, and named in `notes`.
        device: where to run, and what bytes are counted for; the model's own by default.
        dtype: run a copy converted to this dtype ("bfloat16" or a torch.dtype).
        threads: number of threads of one operator, for the measurement.
        channels_last: run a copy in channels_last memory format.
        latency: measure. Without it this is `count`.
        effort: "quick", "normal" or "thorough": 1.5, 5 or 15 seconds of sampling.
        max_seconds: seconds of sampling, instead of those of `effort`.
        seed: for the values of made inputs.
        strict: raise MeasurementError where an op has no price.
        progress: called with a stage's name and the share of it that is done; True to show a
            bar on stderr, False for silence, None to show it where stderr is a terminal.

    Returns:
        The report: `print(report)`, `report.layers`, `report.df`, `report.save(path)`.

    Raises:
        InputError: an argument is malformed.
        ForwardError: the model rejected the input, or failed.
    """
    settings = Settings(
        device=_device_text(device),
        dtype=None if dtype is None else str(dtype).removeprefix("torch."),
        threads=threads,
        channels_last=channels_last,
        latency=latency,
        effort=effort,
        max_seconds=max_seconds,
        seed=seed,
        strict=strict,
    )
    _check(settings)
    with shown(progress) as told, timing.without_collection(), _room_to_nest():
        return _Walk(Subject(model, settings), inputs, settings, told).report()


def count(
    model: nn.Module,
    inputs: Any = None,
    *,
    device: str | None = None,
    dtype: Any = None,
    channels_last: bool = False,
    seed: int = 0,
    strict: bool = False,
    progress: Callable[[str, float], None] | bool | None = None,
) -> Report:
    """Tell what each layer of a model costs, without running it on data.

    Weights are neither read nor copied; a model on the meta device will do. Where its control
    flow depends on data, a private copy is run for real, and `warnings` says so.

    Arguments, result and errors are as in `profile`.
    """
    return profile(
        model,
        inputs,
        device=device,
        dtype=dtype,
        channels_last=channels_last,
        latency=False,
        seed=seed,
        strict=strict,
        progress=progress,
    )


def report_of(
    trace: Trace, *, model: str, settings: Settings, notes: Sequence[str] = (), loaded_by: str = "static"
) -> Report:
    """Make the report of a trace that was not recorded here: of an exported program."""
    return assembly.assemble(
        trace, model=model, settings=settings, environment=environment(), notes=notes, loaded_by=loaded_by
    )


class _Walk:
    """One run of the conductor: what was asked for, and what was found out on the way."""

    def __init__(self, subject: Subject, given: Any, settings: Settings, progress: Progress) -> None:
        self.subject = subject
        self.settings = settings
        self.progress = progress
        self.given = None if given is None else inputs.describe(given)
        self.call = Inputs()
        self.notes = list(subject.notes)
        self.warnings: list[str] = []

    def report(self) -> Report:
        """Trace, measure where that was asked for, and put it together."""
        compiled = self.subject.is_compiled()
        with (
            torch.compiler.set_stance("force_eager") if compiled else nullcontext(),
            _disable_current_modes(),
        ):
            trace = self._traced()
            timings = self._timed() if self.settings.latency else None
        return assembly.assemble(
            trace,
            model=self.subject.name,
            settings=dataclasses.replace(self.settings, inputs=inputs.text(self.call)),
            environment=environment(),
            timings=timings,
            notes=self.notes,
            warnings=self.warnings,
        )

    def _traced(self) -> Trace:
        """Trace the model, on no data if that can be, and settle what its inputs are."""
        self.progress("counting", 0.0)
        candidates = [self.given] if self.given is not None else inputs.infer(self.subject.model)
        if not candidates:
            raise InputError(
                f"the input of {self.subject.name} is not known, and its layers do not tell",
                hint="give its shape, e.g. (1, 3, 224, 224); on the command line -i 1,3,224,224",
            )
        failures: list[tracing.TraceError] = []
        for call in candidates:
            try:
                return self._settled(call, *self._trace(call, meta=True))
            except tracing.TraceError as failure:
                failures.append(failure)
            reason = failures[-1].__cause__
            if self.subject.has_data and reason is not None and inputs.needs_values(reason):
                # Nothing is wrong with this input; it only cannot do without values.
                return self._traced_for_real([call], failures[-1])
        if not self.subject.has_data:
            raise self._explained(candidates[0], failures[0]) from failures[0].__cause__
        return self._traced_for_real(candidates, failures[0])

    def _traced_for_real(self, candidates: list[Inputs], without: tracing.TraceError) -> Trace:
        """The cheap route failed: run a private copy, or say why the model rejects the call."""
        failures: list[tracing.TraceError] = []
        for call in candidates:
            try:
                trace = self._settled(call, *self._trace(call, meta=False))
            except tracing.TraceError as failure:
                failures.append(failure)
                continue
            reason = without.__cause__
            self.warnings.append(
                f"counted on a real run, for without data the forward stopped at {without.path or 'the top'} "
                f"({type(reason).__name__}: {_first_line(reason)}); they hold for the values of this input"
            )
            return trace
        raise self._explained(candidates[0], failures[0]) from failures[0].__cause__

    def _trace(self, call: Inputs, *, meta: bool) -> tuple[Trace, Made]:
        model = self.subject.traced() if meta else self.subject.private()
        if self.subject.lazy:
            settle = self._made(call, self.subject.device)
            tracing.run_once(model, settle.args, settle.kwargs)
            self.subject.lazy = False
        made = self._made(call, "meta" if meta else self.subject.device)
        trace = tracing.trace(
            model,
            made.args,
            made.kwargs,
            keep=costs.has_formula,
            meta=meta,
            device=self.subject.device,
        )
        return trace, made

    def _settled(self, call: Inputs, trace: Trace, made: Made) -> Trace:
        self.call = call
        self.notes += made.notes
        if self.given is None:
            self.notes.append(f"no input was given; {inputs.text(call)} was inferred from the model")
        return trace

    def _explained(self, call: Inputs, failure: tracing.TraceError) -> Exception:
        def works(other: Inputs) -> bool:
            try:
                self._trace(other, meta=True)
            except (tracing.TraceError, InputError):
                return False
            return True

        cause = failure.__cause__ or failure
        return inputs.explain(self.subject.model, cause, inputs=call, path=failure.path, works=works)

    def _timed(self) -> Timings | None:
        if not self.subject.has_data:
            self.warnings.append(
                "the model is on the meta device: it has no weights to run, so nothing was timed"
            )
            return None
        clock = clocks.clock_for(self.subject.device)
        if clock is None:
            self.warnings.append(f"flopscope has no clock for {self.subject.device}: nothing was timed")
            return None
        made = self._made(self.call, self.subject.device)
        private = self.subject.private()
        sampling = timing.Sampling(self.settings.max_seconds or timing.SECONDS[self.settings.effort])
        try:
            with _threads(self.settings.threads), tracing.borrowed(private):
                return timing.measure(
                    private,
                    made.args,
                    made.kwargs,
                    clock=clock,
                    sampling=sampling,
                    device=self.subject.device,
                    progress=self.progress,
                )
        except Exception as failure:  # whatever the model may raise
            raise inputs.explain(self.subject.model, failure, inputs=self.call) from failure

    def _made(self, call: Inputs, device: str) -> Made:
        settings = self.settings
        made = inputs.make(
            call, model=self.subject.model, device=device, dtype=settings.dtype, seed=settings.seed
        )
        arguments, named = self.subject.arguments(made.args), self.subject.arguments(made.kwargs)
        return dataclasses.replace(made, args=arguments, kwargs=named)


def _check(settings: Settings) -> None:
    if settings.effort not in EFFORTS:
        raise InputError(f"effort {settings.effort!r} is not known", hint=f"one of {', '.join(EFFORTS)}")
    if settings.threads is not None and settings.threads < 1:
        raise InputError(
            f"threads must be at least 1, got {settings.threads}", hint="leave it out for torch's own number"
        )
    if settings.max_seconds is not None and settings.max_seconds <= 0:
        raise InputError(
            f"max_seconds must be positive, got {settings.max_seconds}", hint="leave it out for 5 seconds"
        )
    if settings.dtype is not None and not isinstance(getattr(torch, settings.dtype, None), torch.dtype):
        raise InputError(f"dtype {settings.dtype!r} is not known", hint="for example float32 or bfloat16")
    if settings.latency and settings.device is not None:
        check_device(settings.device)


def _device_text(device: Any) -> str | None:
    if device is None:
        return None
    try:
        return str(torch.device(device))
    except RuntimeError as reason:
        raise InputError(f"device {device!r} is not known", hint="for example cpu or cuda:0") from reason


@contextmanager
def _room_to_nest() -> Iterator[None]:
    """Allow the deeper calls that hooks and copying take: what runs bare must not fail for them."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(4 * limit)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Use `count` threads for one operator; give the process its own number back."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)


def _first_line(failure: BaseException | None) -> str:
    lines = str(failure).strip().splitlines() or ["no message"]
    return textwrap.shorten(lines[0], 120, placeholder=" …")
