"""Two models and the arguments of one call -> how far their outputs are apart."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flopscope.errors import InputError

Leaves = list[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest difference between two outputs.

    `relative` is in units of the largest output; `precise_relative` is the same in float64, where the
    rounding of the model's own type does not hide anything, or None where the model cannot run in it.
    """

    absolute: float
    relative: float
    precise_relative: float | None


def difference(
    before: nn.Module, after: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Difference:
    """Run two models on the same arguments, in eval mode, and compare their outputs leaf by leaf.

    Args:
        before: the reference; left as it is.
        after: its rewritten copy; left as it is.
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.

    Raises:
        InputError: the outputs have other structures or shapes; the first that differs is named.
    """
    absolute, relative = _compared(
        _output(copy.deepcopy(before), args, kwargs), _output(copy.deepcopy(after), args, kwargs)
    )
    return Difference(absolute, relative, _precise(before, after, args, kwargs))


def _precise(
    before: nn.Module, after: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> float | None:
    """The relative difference in float64, or None where one of the two does not run in it."""
    wide_args, wide_kwargs = _doubled(args), _doubled(dict(kwargs))
    try:
        outputs = [
            _output(copy.deepcopy(model).double(), wide_args, wide_kwargs) for model in (before, after)
        ]
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return None
    return _compared(*outputs)[1]


def _output(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    with torch.inference_mode():
        return model.eval()(*_cloned(args), **_cloned(dict(kwargs)))


def _compared(a: Any, b: Any) -> tuple[float, float]:
    """The largest absolute difference, and the largest of the leaves' relative ones."""
    before, after = _leaves(a), _leaves(b)
    for (place, x), (other, y) in zip(before, after, strict=False):
        if place != other or isinstance(x, Tensor) != isinstance(y, Tensor):
            raise _unlike(f"at {place or 'the top'} with one of {_described(x)} and one of {_described(y)}")
        if isinstance(x, Tensor) and x.shape != y.shape:
            raise _unlike(f"at {place or 'the top'}: of shape {tuple(x.shape)} and {tuple(y.shape)}")
        if not isinstance(x, Tensor) and type(x) is not type(y):
            raise _unlike(f"at {place or 'the top'}: {_described(x)} and {_described(y)}")
    if len(before) != len(after):
        raise _unlike(f"in the number of their parts: {len(before)} and {len(after)}")
    apart = [_apart(x, y) for (_, x), (_, y) in zip(before, after, strict=True) if isinstance(x, Tensor)] or [
        (0.0, 0.0)
    ]
    return max(absolute for absolute, _ in apart), max(relative for _, relative in apart)


def _apart(x: Tensor, y: Tensor) -> tuple[float, float]:
    """The absolute and the relative difference of two tensors of one shape."""
    if x.numel() == 0 or x.is_meta:
        return 0.0, 0.0
    wide = torch.complex128 if x.is_complex() or y.is_complex() else torch.float64
    a, b = x.detach().cpu().to(wide), y.detach().cpu().to(wide)
    same = (a == b) | (a.isnan() & b.isnan())  # equal infinities have no difference
    gap = torch.where(same, torch.zeros_like(a), a - b).abs().max().item()
    largest = a.abs().max().item()
    return gap, gap / largest if largest else (0.0 if gap == 0 else float("inf"))


def _leaves(value: Any, place: str = "") -> Leaves:
    """All parts of an output that have no parts of their own, each with its place."""
    if isinstance(value, Mapping):
        items = [(f"{place}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(f"{place}[{index}]", item) for index, item in enumerate(value)]
    elif is_dataclass(value) and not isinstance(value, type):
        items = [(f"{place}.{part.name}", getattr(value, part.name)) for part in fields(value)]
    else:
        return [(place, value)]
    return [leaf for where, item in items for leaf in _leaves(item, where)]


def _doubled(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    return _mapped(value, _doubled)


def _cloned(value: Any) -> Any:
    """A copy of all tensors: a model may change its arguments."""
    return value.clone() if isinstance(value, Tensor) else _mapped(value, _cloned)


def _mapped(value: Any, change: Any) -> Any:
    """Apply `change` to the items of plain containers; all else stays as it is."""
    if type(value) is dict:
        return {key: change(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(change(item) for item in value)
    return value


def _described(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _unlike(how: str) -> InputError:
    return InputError(
        f"the outputs of the two models differ {how}",
        hint="only models that give the same structure of tensors can be compared",
    )
