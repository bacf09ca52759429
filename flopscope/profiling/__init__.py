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
from .walk import Asked, Walk

__all__ = [
    "EFFORTS",
    "Asked",
    "Walk",
    "count",
    "explain",
    "profile",
    "report_of",
    "room_to_nest",
    "settings_of",
    "training_step",
]

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

    What runs is a private copy, in eval mode and under inference mode; the model is not changed. One on
    the meta device has nothing to run: its latencies are None.

    Args:
        model: any module.
        inputs: a shape, a tensor, a tuple or list of them, a dict for keyword arguments; `Spec` and
            `Inputs` say more (docs/inputs.md). None: guessed from the model, and named in `notes`.
        device: where to run, and what bytes are counted for; the model's own by default.
        dtype: run a copy converted to this dtype ("bfloat16" or a torch.dtype).
        threads: number of threads of one operator.
        channels_last: run a copy in channels_last memory format.
        train: one training step: forward in train mode, loss, backward, and the optimizer's step.
        loss: makes a scalar of the model's output; the mean of its floating outputs by default.
        optimizer: one of the model, which is copied, or a class or function that makes one of parameters.
        latency: measure. Without it this is `count`.
        effort: "quick", "normal", "thorough": 1.5, 5, 15 seconds of sampling at most; "quick" runs no
            operator alone, "thorough" samples in three processes and tries alternatives to layers.
        max_seconds: seconds of sampling, instead of those of `effort`.
        seed: for the values of made inputs.
        machine: a `Machine` or a data sheet (name or path) instead of this machine's roofs; False: none.
        strict: raise where an op has no price or timing was disturbed.
        progress: called with a stage and the share of it that is done; True, False or None (where
            stderr is a terminal) for a bar on stderr.
        explain: path of a layer to do otherwise, for `why`; "": those most out of proportion.

    Raises:
        InputError: an argument is malformed.
        ForwardError: the model rejected the input, or failed.
        MeasurementError: with `strict`; its `report` holds what was measured all the same.
    """
    settings = settings_of(
        device=device, dtype=dtype, threads=threads, channels_last=channels_last, train=train,
        latency=latency, effort=effort, max_seconds=max_seconds, seed=seed, strict=strict,
        machine=machine if isinstance(machine, str) else None,
    )  # fmt: skip
    asked = Asked(inputs, machine, explain, training_step(settings, loss, optimizer))
    return _trusted(_walked(model, settings, asked, progress), strict)


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


def settings_of(*, device: Any = None, dtype: Any = None, **others: Any) -> Settings:
    """The settings that keywords of `profile` come to.

    Raises:
        InputError: one of them is malformed, or this torch lacks the device.
    """
    return _checked(Settings(device=_device_text(device), dtype=_dtype_text(dtype), **others))


def _walked(model: nn.Module, settings: Settings, asked: Asked, progress: Told) -> Report:
    with shown(progress) as told, timing.without_collection(), room_to_nest():
        return Walk(Subject(model, settings), settings, asked, told).report()


def _trusted(report: Report, strict: bool) -> Report:
    """The report; where it must be trusted and cannot be, an error that holds it."""
    judged = report.quality
    if strict and judged is not None and judged.word != "good":
        reasons = "; ".join(judged.reasons)
        raise MeasurementError(f"timing is {judged.word}: {reasons}", hint=judged.remedy, report=report)
    return report


def _checked(settings: Settings) -> Settings:
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
    return settings


def _dtype_text(dtype: Any) -> str | None:
    return None if dtype is None else str(dtype).removeprefix("torch.")


def _device_text(device: Any) -> str | None:
    if device is None:
        return None
    try:
        return str(torch.device(device))
    except RuntimeError as reason:
        raise InputError(f"device {device!r} is not known", hint="for example cpu or cuda:0") from reason


@contextmanager
def room_to_nest() -> Iterator[None]:
    """Allow the deeper calls that hooks and copying take: what runs bare must not fail for them."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(4 * limit)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
