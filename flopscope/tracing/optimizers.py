"""A user's optimizer -> the same optimizer for a copy of the user's model."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from flopscope.errors import InputError

from .nests import flat_tensors

Factory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
_HINT = "give torch.optim.SGD, lambda params: torch.optim.Adam(params, lr=1e-3), or an optimizer of the model"
# What hangs on an optimizer and would reach the user's own: schedulers put a bound `step` on it.
_BOUND = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)


def optimizer_for(
    private: nn.Module, model: nn.Module, optimizer: torch.optim.Optimizer | Factory | None
) -> torch.optim.Optimizer | None:
    """Make an optimizer over the parameters of `private`, a copy of `model`.

    Args:
        private: a copy of the model, with data or without.
        model: the user's model, whose parameters the user's optimizer holds.
        optimizer: the user's optimizer, which is copied with its settings and state and left alone; or
            what makes one out of parameters, a class or a function; or None.

    Raises:
        InputError: it is neither, it fails, or it holds no parameter of the model.
    """
    if optimizer is None:
        return None
    if isinstance(optimizer, torch.optim.Optimizer):
        return _copied(private, model, optimizer)
    if not callable(optimizer):
        raise InputError(f"an optimizer cannot be a {type(optimizer).__name__}", hint=_HINT)
    wanted = [parameter for parameter in private.parameters() if parameter.requires_grad]
    try:
        made = optimizer(wanted)
    except (TypeError, ValueError, RuntimeError) as reason:
        raise InputError(f"the optimizer could not be made: {reason}", hint=_HINT) from reason
    if not callable(getattr(made, "step", None)) or not hasattr(made, "state"):
        raise InputError(f"an optimizer was expected, and a {type(made).__name__} was made", hint=_HINT)
    return made


def _copied(private: nn.Module, model: nn.Module, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """A deep copy in which every parameter of the model is the copy's of the same name."""
    twins: dict[str, nn.Parameter] = dict(private.named_parameters(remove_duplicate=False))
    paths = {id(parameter): path for path, parameter in model.named_parameters(remove_duplicate=False)}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    known = [parameter for parameter in held if id(parameter) in paths]
    if not known:
        raise InputError("the optimizer holds no parameter of this model", hint=_HINT)
    memo: dict[int, Any] = {id(parameter): twins[paths[id(parameter)]] for parameter in known}
    for parameter in known:
        _without_data(memo[id(parameter)], optimizer.state.get(parameter, {}), memo)
    # Parameters of other models have no gradients here, and an optimizer passes over them.
    memo |= {id(other): nn.Parameter(torch.empty(0)) for other in held if id(other) not in paths}
    with torch.inference_mode(False):
        made = copy.deepcopy(optimizer, memo)
        for name, value in optimizer.__dict__.items():
            if name not in made.__dict__ and not isinstance(value, _BOUND):
                made.__dict__[name] = copy.deepcopy(value, memo)
    return made


def _without_data(parameter: nn.Parameter, state: Any, memo: dict[int, Any]) -> None:
    """Stand-ins for the state of a parameter that has no data; numbers of steps keep theirs."""
    if not parameter.is_meta:
        return
    for tensor in flat_tensors(state):
        if tensor.dim():
            memo[id(tensor)] = torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta"
            )
