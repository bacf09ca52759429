"""A model and the arguments of one call -> Trace: every module call and operator of that call.

Global module hooks tell which module is running, a dispatch mode sees every operator. On the
"meta" route nothing is computed and no weight is read; on the "real" route the call is executed.
Both run under inference mode, so that the operators are the same whatever state the caller or
the model was in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from flopscope.records import Trace

from .borrowing import borrowed
from .building import build
from .faults import TraceError
from .inventory import inventory
from .nests import flat_tensors
from .optimizers import optimizer_for
from .recorder import Recorder
from .routes import listening, paths, settle_torch
from .stepping import mean_loss, run_step, trace_step

__all__ = [
    "TraceError",
    "borrowed",
    "mean_loss",
    "optimizer_for",
    "run_once",
    "run_step",
    "trace",
    "trace_step",
]


def trace(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    keep: Callable[[str], bool],
    meta: bool = True,
    device: str = "cpu",
    warnings: tuple[str, ...] = (),
) -> Trace:
    """Record one forward call of `model` in eval mode.

    Args:
        model: left exactly as it was, also after an exception.
        args: positional arguments of the call; on the meta route tensors on the meta device.
        kwargs: keyword arguments of the call.
        keep: tells of an operator name whether it is priced as a whole; other composite
            operators are recorded in parts.
        meta: run without data. Otherwise the call is executed on `model` as it stands, which
            may change what its forward changes: give it a private copy.
        device: the device that the bytes are counted for.
        warnings: carried into the trace.

    Raises:
        TraceError: the model raised; the model's own exception is the cause.
    """
    named = torch.device(device).type
    settle_torch()
    listed = inventory(model)
    recorder = Recorder(listed.places, state=listed.roles(), keep=keep, meta=meta, device=named)
    for tensor in flat_tensors((args, dict(kwargs))):
        recorder.expect(tensor)
    route = paths(recorder, meta=meta, device=named)
    try:
        with listening(recorder), borrowed(model), torch.inference_mode(), route, recorder:
            output = model(*args, **kwargs)
            recorder.close()
        del output
    except Exception as failure:
        place = next((where for known, where in recorder.failures if known is failure), 0)
        raise TraceError(listed.modules[place].path) from failure
    return build(recorder, listed, route="meta" if meta else "real", device=named, warnings=warnings)


def run_once(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Run a private copy for what its first call settles: the shapes of lazy parameters.

    Raises:
        TraceError: the model raised.
    """
    try:
        with torch.no_grad():
            model(*args, **kwargs)
    except Exception as failure:
        raise TraceError("") from failure
