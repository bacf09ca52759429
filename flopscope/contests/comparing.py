"""compare(): models, addresses and saved reports by name -> Comparison."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from flopscope import comparison, timing
from flopscope.comparison import Comparison
from flopscope.errors import InputError, ModelLoadError
from flopscope.inputs import Inputs
from flopscope.loading import open_address
from flopscope.profiling import room_to_nest, settings_of, training_step
from flopscope.progress import shown
from flopscope.records import Settings
from flopscope.reports import Report, load

from .entrants import Entrant, Told, contested

Contender = nn.Module | Report | str | os.PathLike[str]


def compare(  # noqa: D417 - what is as in `profile` is listed in one line
    models: Mapping[str, Any],
    inputs: Any = None,
    *,
    device: str | None = None,
    dtype: Any = None,
    threads: int | None = None,
    channels_last: bool = False,
    train: bool = False,
    loss: Any = None,
    optimizer: Any = None,
    latency: bool = True,
    effort: str = "normal",
    max_seconds: float | None = None,
    seed: int = 0,
    margin: float = comparison.MARGIN,
    progress: Told = None,
) -> Comparison:
    """Set models side by side: counts, and latencies measured in turns of one run (A B, B A, ...).

    Args:
        models: name -> a module, an address or file as `load_model` takes it, a saved report (its path, or a
            `Report`), or a pair of a model and inputs of its own. The others are held against the first.
        inputs: as in `profile`, for all that have none of their own; None: each gets what its source says.
        device, dtype, threads, channels_last, seed, progress: as in `profile`.
        train: one training step of each.
        loss: as in `profile`.
        optimizer: a class, or a function that makes one of parameters, for each model gets its own.
        latency: measure. Saved reports are never measured.
        effort: "quick", "normal", "thorough": 1.5, 5, 15 seconds of sampling for each model.
        max_seconds: seconds of sampling for all together.
        margin: ratios whose interval lies within so much of 1 are called the same.

    Raises:
        InputError: fewer than two models, or something that is none.
        ModelLoadError: an address or a file cannot be loaded.
        ForwardError: a model rejected its input; the message names the layer.
    """
    if not isinstance(models, Mapping) or len(models) < 2:
        raise InputError(
            f"compare takes a dict of at least two models by name, got {_given(models)}",
            hint='flopscope.compare({"a": model, "b": other}, (1, 3, 224, 224))',
        )
    if not 0 <= margin < 1:
        raise InputError(f"margin must lie in [0, 1), got {margin}", hint="0.02 calls 2 % the same")
    settings = settings_of(
        device=device, dtype=dtype, threads=threads, channels_last=channels_last, train=train,
        latency=latency, effort=effort, max_seconds=max_seconds, seed=seed,
    )  # fmt: skip
    step = training_step(settings, loss, optimizer)
    entrants = [
        dataclasses.replace(_entrant(str(name), given, inputs, settings), step=step)
        for name, given in models.items()
    ]
    live = sum(entrant.model is not None for entrant in entrants)
    seconds = max_seconds or timing.SECONDS[effort] * live
    with shown(progress) as told, timing.without_collection(), room_to_nest():
        return contested(entrants, seconds=seconds, progress=told, margin=margin)


def opened(address: str | os.PathLike[str], **keywords: Any) -> tuple[nn.Module | Report, Any]:
    """What an address gives: a module and the inputs that its source knows, or a saved report.

    Raises:
        ModelLoadError: it gives neither.
    """
    found = open_address(address, **keywords)
    if found.kind == "report":
        return load(str(found.path)), None
    if found.model is None:
        raise ModelLoadError(
            f"{found.path} is an exported graph (.pt2), which is counted but not compared",
            hint=f"save its report first:  flopscope report {found.path} -o report.json",
        )
    return found.model, None if found.default_inputs is None else Inputs(*found.default_inputs)


def _entrant(name: str, given: Any, inputs: Any, settings: Settings) -> Entrant:
    """One side, from whatever stands for it.

    Raises:
        InputError: it is no model.
    """
    own = inputs
    if isinstance(given, tuple) and len(given) == 2:
        given, own = given
    title = None
    if isinstance(given, str | os.PathLike):
        title = os.fspath(given)
        given, default = opened(given)
        own = default if own is None else own
    if isinstance(given, Report):
        return Entrant(name, report=given)
    if not isinstance(given, nn.Module):
        raise InputError(
            f"{name!r} is a {type(given).__name__}, which cannot be compared",
            hint="give a torch.nn.Module, an address, a saved report, or (model, inputs)",
        )
    return Entrant(name, given, own, settings, title=title)


def _given(models: Any) -> str:
    return f"{len(models)}" if isinstance(models, Mapping) else type(models).__name__
