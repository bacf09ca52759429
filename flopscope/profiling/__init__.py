"""The conductor: a model and its inputs -> Report. It alone knows the order of the walk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from flopscope import assembly, timing
from flopscope.diagnosis import Why
from flopscope.environment import environment
from flopscope.errors import InputError, MeasurementError
from flopscope.progress import shown
from flopscope.records import Machine, Settings, Trace
from flopscope.reports import Report
from flopscope.subjects import Subject, check_device

from .training import Loss, training_step
from .walk import Walk

__all__ = ["EFFORTS", "count", "explain", "profile", "report_of"]

EFFORTS = tuple(timing.SECONDS)
Told = Callable[[str, float], None] | bool | None


def profile(
    model: nn.Module,
    inputs: Any = None,
    *,
    device: str | None = None,
    dtype: Any = None,
    threads: int | None = None,
    channels_last: bool = False,
    train: bool = False,
    loss: Loss | None = None,
    optimizer: Any = None,
    latency: bool = True,
    effort: str = "normal",
    max_seconds: float | None = None,
    seed: int = 0,
    machine: Machine | str | bool | None = None,
    strict: bool = False,
    progress: Told = None,
    explain: str | None = None,
) -> Report:
    """Tell what each layer of a model costs, what it takes on this machine, and why.

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
        train: count and time one training step: forward in train mode, loss, backward, and the
            optimizer's step where one is given.
        loss: makes a scalar of the model's output; the mean of its floating outputs by default.
        optimizer: an optimizer of the model (copied with its settings and state), or what makes one
            of parameters: a class, or a function.
        latency: measure. Without it this is `count`.
        effort: "quick": 1.5 seconds of sampling, and latencies taken apart by the roofs alone; "normal":
            at most 5, and every operator run alone for what it takes with its data at hand; "thorough":
            15, in three processes, and the layers out of proportion done otherwise, too.
        max_seconds: seconds of sampling, instead of those of `effort`.
        seed: for the values of made inputs.
        machine: the roofs to hold latencies against: a `Machine`, or a data sheet by name or path
            (what follows from it is an estimate). None: those of this machine, measured once in a
            process apart and kept; False: none.
        strict: raise MeasurementError where an op has no price, or the measurement was disturbed;
            the error's `report` holds what was measured all the same.
        progress: called with a stage's name and the share of it that is done; True to show a
            bar on stderr, False for silence, None to show it where stderr is a terminal.
        explain: path of a layer to do otherwise, that `report.why(path)` can compare; "": those
            that take most beyond their share.

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
        train=train,
        latency=latency,
        effort=effort,
        max_seconds=max_seconds,
        seed=seed,
        strict=strict,
        machine=machine if isinstance(machine, str) else None,
    )
    _check(settings)
    step = training_step(settings, loss, optimizer)
    with shown(progress) as told, timing.without_collection(), _room_to_nest():
        walk = Walk(
            Subject(model, settings), inputs, settings, told, machine=machine, explain=explain, step=step
        )
        report = walk.report()
    if strict and report.quality is not None and report.quality.word != "good":
        raise MeasurementError(
            f"timing is {report.quality.word}: {'; '.join(report.quality.reasons)}",
            hint=report.quality.remedy,
            report=report,
        )
    return report


def explain(model: nn.Module, inputs: Any = None, path: str = "", **keywords: Any) -> Why:
    """Tell why a layer takes what it takes: `print(flopscope.explain(model, shape, "features.1"))`.

    The model is profiled, the layer done otherwise where that can be (another memory format, a dense
    convolution, a partial one, an allocator that keeps its memory), and what is found set in order.

    Args:
        model: any module.
        inputs: as in `profile`.
        path: of a layer, or of a container; the whole by default.
        keywords: those of `profile`.

    Raises:
        InputError: there is no such layer.
    """
    return profile(model, inputs, **{**keywords, "explain": path}).why(path)


def count(
    model: nn.Module,
    inputs: Any = None,
    *,
    device: str | None = None,
    dtype: Any = None,
    channels_last: bool = False,
    train: bool = False,
    loss: Loss | None = None,
    optimizer: Any = None,
    seed: int = 0,
    strict: bool = False,
    progress: Told = None,
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
        train=train,
        loss=loss,
        optimizer=optimizer,
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
        assembly.draft(trace, settings=settings),
        model=model,
        settings=settings,
        environment=environment(),
        notes=notes,
        loaded_by=loaded_by,
    )


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
