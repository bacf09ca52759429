"""A model and the arguments of one call -> Trace: every module call and operator of that call.

Global module hooks tell which module is running, a dispatch mode sees every operator. On the
"meta" route nothing is computed and no weight is read; on the "real" route the call is executed.
Both run under inference mode, so that the operators are the same whatever state the caller or
the model was in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedTensorMixin
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from flopscope.records import Module, Parameter, Trace

from .borrowing import borrowed, copy_without_data, fused_paths_on_meta
from .building import build, parameter
from .recorder import Recorder, flat_tensors

__all__ = ["TraceFailure", "borrowed", "copy_without_data", "device_of", "is_lazy", "on_meta", "trace"]


class TraceFailure(Exception):
    """The model raised while it was traced. `path` names the innermost module that did."""

    def __init__(self, path: str, type: str) -> None:
        super().__init__(path)
        self.path = path
        self.type = type


def trace(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    keep: Callable[[str], bool],
    meta: bool = True,
    device: str | None = None,
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
        device: the device that the bytes are counted for; the model's own by default.
        warnings: carried into the trace.

    Raises:
        TraceFailure: the model raised; the model's own exception is the cause.
    """
    named = torch.device(device or device_of(model)).type
    registered, modules = _modules(model)
    parameters, buffers, state = _state(model)
    recorder = Recorder(registered, state=state, keep=keep, meta=meta, asks_cpu=named == "cpu")
    for tensor in flat_tensors((args, dict(kwargs))):
        recorder.expect(tensor)
    handles = [
        register_module_forward_pre_hook(recorder.enter),
        register_module_forward_hook(recorder.leave, with_kwargs=True, always_call=True),  # type: ignore[arg-type]
    ]
    try:
        with borrowed(model), torch.inference_mode(), _paths(meta, named), recorder:
            output = model(*args, **kwargs)
            recorder.close(output)
    except Exception as failure:
        place = next((where for known, where in recorder.failures if known is failure), 0)
        raise TraceFailure(modules[place].path, modules[place].type) from failure
    finally:
        for handle in handles:
            handle.remove()
        recorder.close(None)
    return build(
        recorder,
        modules=modules,
        parameters=parameters,
        buffers=buffers,
        route="meta" if meta else "real",
        device=named,
        warnings=warnings,
    )


def _paths(meta: bool, device: str) -> Any:
    return fused_paths_on_meta() if meta and device in ("cpu", "cuda") else nullcontext()


def device_of(model: nn.Module, *, index: bool = False) -> str:
    """The device of the model's first parameter or buffer; the CPU for one built on meta."""
    for tensors in (model.parameters(), model.buffers()):
        for tensor in tensors:
            if tensor.device.type != "meta":
                return str(tensor.device) if index else tensor.device.type
    return "cpu"


def on_meta(model: nn.Module) -> bool:
    """Tell whether a parameter or buffer of the model has no data, so that it cannot run."""
    return any(tensor.is_meta for tensors in (model.parameters(), model.buffers()) for tensor in tensors)


def is_lazy(model: nn.Module) -> bool:
    """Tell whether the model has parameters whose shape its first call decides."""
    return any(
        isinstance(tensor, UninitializedTensorMixin)
        for tensors in (model.parameters(), model.buffers())
        for tensor in tensors
    )


def _modules(model: nn.Module) -> tuple[dict[int, int], tuple[Module, ...]]:
    places: dict[int, int] = {}
    modules: list[Module] = []
    for path, module in model.named_modules():
        places[id(module)] = len(modules)
        modules.append(Module(path, type(module).__name__))
    return places, tuple(modules)


def _state(model: nn.Module) -> tuple[tuple[Parameter, ...], tuple[Parameter, ...], dict[int, tuple[str, str]]]:
    state: dict[int, tuple[str, str]] = {}
    parameters, buffers = [], []
    for path, tensor in model.named_parameters():
        parameters.append(parameter(path, tensor))
        state[id(tensor)] = ("parameter", path)
    for path, tensor in model.named_buffers():
        buffers.append(parameter(path, tensor))
        state[id(tensor)] = ("buffer", path)
    return tuple(parameters), tuple(buffers), state
