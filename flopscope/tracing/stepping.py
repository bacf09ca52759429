"""A model, the arguments of one call, a loss and an optimizer -> Trace of one training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from flopscope.records import Trace

from .borrowing import borrowed
from .building import build
from .composites import composites_as_on_cpu
from .faults import TraceError
from .inventory import Inventory, inventory
from .nests import flat_tensors
from .routes import listening, paths, settle_torch
from .steps import StepRecorder

Loss = Callable[[Any], torch.Tensor]


def trace_step(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    keep: Callable[[str], bool],
    loss: Loss | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    meta: bool = True,
    device: str = "cpu",
    warnings: tuple[str, ...] = (),
) -> Trace:
    """Record one training step of `model`: forward in train mode, loss, backward, optimizer step.

    With an optimizer a step goes before the one that is recorded, for the first one makes the state
    that all others find. Generators are given back as they were.

    Args:
        model: a private copy, which is trained: its weights, gradients and statistics change. On
            the meta route all its parameters and buffers are on the meta device.
        args: positional arguments of the call; on the meta route tensors on the meta device.
        kwargs: keyword arguments of the call.
        keep: tells of an operator name whether it is priced as a whole.
        loss: makes a scalar of the model's output; `mean_loss` by default.
        optimizer: one over this model's parameters (see `optimizer_for`); None for no step.
        meta: run without data.
        device: the device that the bytes are counted for.
        warnings: carried into the trace.

    Raises:
        TraceError: the model, the loss, the backward pass or the optimizer raised; its `stage` says
            which, and its cause is the exception.
    """
    named = torch.device(device).type
    settle_torch()
    listed = inventory(model)
    recorder = _recorder(listed, optimizer, keep=keep, meta=meta, device=named)
    for tensor in flat_tensors((args, dict(kwargs))):
        recorder.expect(tensor)
    try:
        with listening(recorder), borrowed(model, evaluating=False), _differentiating(recorder, meta, named):
            for final in (False, True) if optimizer is not None else (True,):
                _drop_gradients(listed)
                recorder.restart()
                held = run_step(model, args, kwargs, loss=loss, optimizer=optimizer, at=_Stages(recorder))
                if final:
                    recorder.close()
                del held
                recorder.name("gradient", _gradients(listed))
                recorder.name("optimizer", _state(listed, optimizer))
    except Exception as failure:
        place = next((where for known, where in recorder.failures if known is failure), 0)
        raise TraceError(listed.modules[place].path, stage=recorder.stage) from failure
    finally:
        _drop_gradients(listed)
        for _, tensor in _state(listed, optimizer):
            tensor.__dict__.pop("_flopscope", None)  # it may run again, for another recorder
    return build(recorder, listed, route="meta" if meta else "real", device=named, warnings=warnings)


def run_step(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    loss: Loss | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    at: Callable[[str], Any] | None = None,
) -> Any:
    """Do one training step, as a training loop does it: what is counted is also what is timed.

    Gradients are dropped first, as `zero_grad()` does, and the model is put in train mode.

    Args:
        model: is trained.
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.
        loss: makes a scalar of the model's output; `mean_loss` by default.
        optimizer: steps at the end, where there is one.
        at: called with "forward", "loss", "backward" and "optimizer" as each begins, and with "end". A
            context manager that it returns is open during that stage.

    Returns:
        The model's output and the loss, as a loop holds them until its next round.
    """
    model.train()
    for parameter in model.parameters():
        parameter.grad = None
    with _entered(at, "forward"):
        output = model(*args, **kwargs)
    with _entered(at, "loss"):
        value = (loss or mean_loss)(output)
    with _entered(at, "backward"):
        value.backward()
    if optimizer is not None:
        with _entered(at, "optimizer"):
            optimizer.step()
    with _entered(at, "end"):
        return output, value


def mean_loss(output: Any) -> torch.Tensor:
    """The mean of the model's floating output; of several, the sum of their means.

    Raises:
        TypeError: nothing in the output is floating point.
    """
    means = [tensor.mean() for tensor in flat_tensors(output) if tensor.is_floating_point()]
    if not means:
        raise TypeError("the model returned no floating-point tensor, so it needs a loss function of its own")
    value = means[0]
    for mean in means[1:]:
        value = value + mean
    return value


def _recorder(
    listed: Inventory,
    optimizer: torch.optim.Optimizer | None,
    *,
    keep: Callable[[str], bool],
    meta: bool,
    device: str,
) -> StepRecorder:
    """A recorder that knows the model, and the optimizer's state as its own to change."""
    state, owners = listed.roles(), _owners(listed)
    recorder = StepRecorder(listed.places, state=state, keep=keep, meta=meta, device=device, owners=owners)
    for _, tensor in _state(listed, optimizer):
        recorder.own(tensor)
    return recorder


@contextmanager
def _differentiating(recorder: StepRecorder, meta: bool, device: str) -> Iterator[None]:
    """Record with gradients enabled, whatever mode the caller is in."""
    as_on_cpu = composites_as_on_cpu() if meta and device == "cpu" else nullcontext()
    route = paths(recorder, meta=meta, device=device)
    with torch.inference_mode(False), torch.enable_grad(), route, as_on_cpu, recorder:
        yield


class _Stages:
    """Tells the recorder which stage begins, and watches what the forward and the loss save."""

    def __init__(self, recorder: StepRecorder) -> None:
        self._recorder = recorder

    def __call__(self, stage: str) -> Any:
        if stage == "end":
            return None
        if stage != "forward":
            self._recorder.begin(stage)
        saving = stage in ("forward", "loss")
        return self._recorder.watching_what_is_saved() if saving else None


@contextmanager
def _entered(at: Callable[[str], Any] | None, stage: str) -> Iterator[None]:
    """Be in a stage: tell `at`, and keep open what it answers with."""
    opened = at(stage) if at is not None else None
    with nullcontext() if opened is None else opened:
        yield


def _owners(listed: Inventory) -> dict[int, tuple[int, ...]]:
    """By a parameter's id, the indices of the modules round it, innermost first."""
    places = {module.path: index for index, module in enumerate(listed.modules)}
    found = {}
    for identity, (path, _) in listed.parameters.items():
        parts = path.split(".")
        round_it = (".".join(parts[:count]) for count in range(len(parts) - 1, -1, -1))
        found[identity] = tuple(places[owner] for owner in round_it if owner in places)
    return found


def _gradients(listed: Inventory) -> Iterator[tuple[str, torch.Tensor]]:
    return ((path, tensor.grad) for path, tensor in listed.parameters.values() if tensor.grad is not None)


def _state(listed: Inventory, optimizer: torch.optim.Optimizer | None) -> Iterator[tuple[str, torch.Tensor]]:
    """What an optimizer keeps, each tensor by the path of its parameter."""
    for parameter, kept in (optimizer.state if optimizer is not None else {}).items():
        path, _ = listed.parameters.get(id(parameter), ("", parameter))
        for tensor in flat_tensors(kept):
            yield path, tensor


def _drop_gradients(listed: Inventory) -> None:
    for _, tensor in listed.parameters.values():
        tensor.grad = None
