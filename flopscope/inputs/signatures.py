"""A model -> the names of its forward's arguments, and whether a call fits them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from inspect import Parameter
from typing import Any

from torch import nn

_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_OPEN = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DataParallel, DDP or torch.compile, whose forward tells the arguments."""
    for attribute in ("module", "_orig_mod"):
        inner = model._modules.get(attribute)
        if inner is not None and len(model._modules) == 1 and not _closed(model):
            return unwrapped(inner)
    return model


def parameters(model: nn.Module) -> list[Parameter]:
    """The arguments of forward without self; [] where there are none or Python cannot tell."""
    known = _signature(unwrapped(model))
    return list(known.parameters.values()) if known is not None else []


def takes_nothing(model: nn.Module) -> bool:
    """Tell whether forward has no arguments at all."""
    known = _signature(unwrapped(model))
    return known is not None and not known.parameters


def required(model: nn.Module) -> list[Parameter]:
    """The arguments of forward that have no default, in order."""
    return [item for item in parameters(model) if item.default is Parameter.empty and item.kind not in _OPEN]


def by_place(model: nn.Module) -> list[str]:
    """The names of the arguments that may be given by place, in order."""
    return [item.name for item in parameters(model) if item.kind in _BY_PLACE]


def is_by_place(parameter: Parameter) -> bool:
    """Tell whether an argument may be given by place."""
    return parameter.kind in _BY_PLACE


def takes_keyword(model: nn.Module, name: str) -> bool:
    """Tell whether forward takes an argument of this name, or any name at all."""
    return any(item.name == name or item.kind is Parameter.VAR_KEYWORD for item in parameters(model))


def missing(model: nn.Module, count: int, names: Mapping[str, Any]) -> list[str]:
    """The required arguments that `count` positional ones and these keywords do not give."""
    given = {*by_place(model)[:count], *names}
    return [item.name for item in required(model) if item.name not in given]


def unexpected(model: nn.Module, names: Mapping[str, Any]) -> list[str]:
    """The keywords that forward does not take."""
    return [name for name in names if not takes_keyword(model, name)] if _signature(unwrapped(model)) else []


def doubled(model: nn.Module, count: int, names: Mapping[str, Any]) -> list[str]:
    """The arguments that are given both by place and by name."""
    return [name for name in by_place(model)[:count] if name in names]


def surplus(model: nn.Module, count: int) -> int:
    """How many of `count` positional arguments are too many."""
    known = _signature(unwrapped(model))
    if known is None or any(item.kind is Parameter.VAR_POSITIONAL for item in known.parameters.values()):
        return 0
    return max(0, count - len(by_place(model)))


def text(model: nn.Module) -> str:
    """Write the signature as "forward(x, mask, scale=None)", cut after eight arguments."""
    shown = [_shown(item) for item in parameters(model)[:8]]
    if len(parameters(model)) > 8:
        shown.append("...")
    return f"forward({', '.join(shown)})"


def _shown(item: Parameter) -> str:
    if item.kind in _OPEN:
        return ("*" if item.kind is Parameter.VAR_POSITIONAL else "**") + item.name
    if item.default is Parameter.empty:
        return item.name
    default = repr(item.default)
    return f"{item.name}={default if len(default) <= 16 else '...'}"


def _closed(model: nn.Module) -> bool:
    """Whether forward names its own arguments instead of passing on whatever it gets."""
    known = _signature(model)
    return known is None or any(item.kind not in _OPEN for item in known.parameters.values())


def _signature(model: nn.Module) -> inspect.Signature | None:
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):  # a built-in without a signature
        return None
