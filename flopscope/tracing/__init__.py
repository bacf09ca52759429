"""A model and the arguments of one call -> Trace: every module call and operator of that call.

Global module hooks tell which module is running, a dispatch mode sees every operator. On the
"meta" route nothing is computed and no weight is read; on the "real" route the call is executed.
Both run under inference mode, so that the operators are the same whatever state the caller or
the model was in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    _global_forward_hooks_with_kwargs,
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from flopscope.records import Trace

from .borrowing import borrowed, fused_paths_on_meta, watched_autocast
from .building import build, parameter
from .inventory import inventory
from .nests import flat_tensors
from .recorder import Recorder

__all__ = ["TraceError", "borrowed", "run_once", "trace"]


class TraceError(Exception):
    """The model raised while it was traced. `path` names the innermost module that did."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


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
    _settle_torch()
    listed = inventory(model)
    recorder = Recorder(listed.places, state=listed.roles(), keep=keep, meta=meta, device=named)
    for tensor in flat_tensors((args, dict(kwargs))):
        recorder.expect(tensor)
    handles = [
        register_module_forward_pre_hook(recorder.enter),
        register_module_forward_hook(recorder.leave, with_kwargs=True, always_call=True),
    ]
    try:
        with borrowed(model), torch.inference_mode(), _paths(recorder, meta, named), recorder:
            output = model(*args, **kwargs)
            recorder.close()
        del output
    except Exception as failure:
        place = next((where for known, where in recorder.failures if known is failure), 0)
        raise TraceError(listed.modules[place].path) from failure
    finally:
        for handle in handles:
            handle.remove()
            _global_forward_hooks_with_kwargs.pop(handle.id, None)  # torch forgets this one
        recorder.close()
    return build(
        recorder,
        modules=tuple(listed.modules),
        parameters=tuple(parameter(path, tensor) for path, tensor in listed.parameters.values()),
        buffers=tuple(parameter(path, tensor) for path, tensor in listed.buffers.values()),
        route="meta" if meta else "real",
        device=named,
        warnings=warnings,
    )


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


@cache
def _settle_torch() -> None:
    """Run torch's meta kernels once before anything is noted.

    Their first use imports much of torch, and an import that fails on the way and is caught leaves
    frames behind that keep the tensors of the operator, and of the model's forward, alive.
    """
    with torch.inference_mode():
        image, channel = torch.empty(1, 1, 2, 2, device="meta"), torch.empty(1, device="meta")
        image = torch.relu(torch.conv2d(image, image))
        torch.batch_norm(image, channel, channel, channel, channel, False, 0.1, 1e-5, False)
        torch.addmm(image[0, 0], image[0, 0], image[0, 0])


@contextmanager
def _paths(recorder: Recorder, meta: bool, device: str) -> Iterator[None]:
    """Let a run without data take the paths of a real one."""
    with ExitStack() as stack:
        if meta:
            stack.enter_context(watched_autocast(recorder.heed_autocast))
        if meta and device in ("cpu", "cuda"):
            stack.enter_context(fused_paths_on_meta())
        yield
