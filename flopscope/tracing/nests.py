"""Nests of tuples, lists, mappings and dataclasses: the tensors in them, and their shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch


def shapes(value: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of all tensors in a nest of tuples, lists, mappings and dataclasses."""
    if isinstance(value, torch.Tensor):
        return ((value.numel(),),) if value.is_nested else (tuple(value.shape),)
    return tuple(shape for tensor in flat_tensors(value) for shape in shapes(tensor))


def flat_tensors(value: Any) -> list[torch.Tensor]:
    """All tensors in a nest of tuples, lists, mappings and dataclasses, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in flat_tensors(item)]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in flat_tensors(item)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [
            tensor for item in dataclasses.fields(value) for tensor in flat_tensors(getattr(value, item.name))
        ]
    return []


def mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same nest of tuples and lists with every tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple) and value:
        return type(value)(mapped(item, change) for item in value)
    return value
