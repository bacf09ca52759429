"""A composite operator on tensors without data -> the operators that it consists of.

An exported graph has `aten::matmul`; a run shows the `aten::bmm` and the copies in it. What those
are follows from shapes and strides alone, so torch's own operator is run on the meta device,
where a tensor has no memory, and watched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .graphs import Target
from .schemas import Schema, schema_of_func

MAX_PARTS = 20_000
"""Operators that one composite may consist of; an LSTM over 1,000 steps has 10,000."""

MAX_PIECES = 65_536
"""Sizes up to which an operator that returns a list of tensors is run."""


class NotReplayedError(Exception):
    """The operator cannot be taken apart without data, or is not worth it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One operator that ran inside: its schema, arguments (tensors on meta) and results."""

    target: Target
    schema: Schema
    arguments: dict[str, Any]
    results: tuple[torch.Tensor, ...]


def replay(
    func: Any, arguments: dict[str, Any], *, splits: Callable[[str, Schema], bool]
) -> tuple[tuple[torch.Tensor, ...], list[Part]]:
    """Run an operator on meta tensors and list what it consists of.

    Args:
        func: torch's operator.
        arguments: by the schema's names; tensors on the meta device.
        splits: tells of an inner operator whether it is taken apart in its turn.

    Raises:
        NotReplayedError: It needs data, refuses its arguments, or has too many parts.
    """
    watch = _Watch(splits)
    try:
        with torch.inference_mode(), watch:
            result = _parts_of(func, arguments)
    except (
        RuntimeError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise NotReplayedError(str(error)) from error
    return tuple(_tensors(result)), watch.parts


def run_whole(func: Any, arguments: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """Run an operator on meta tensors, to see whether its results share memory with its inputs."""
    try:
        with torch.inference_mode():
            args, kwargs = _bound(func, arguments)
            return tuple(_tensors(func(*args, **kwargs)))
    except (
        RuntimeError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise NotReplayedError(str(error)) from error


class _Watch(TorchDispatchMode):
    """Notes operators; takes composite ones apart."""

    def __init__(self, splits: Callable[[str, Schema], bool]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.parts: list[Part] = []
        self.splits = splits

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        schema = schema_of_func(func)
        arguments = {**dict(zip(schema.arguments, args, strict=False)), **(kwargs or {})}
        name = f"{func.namespace}::{func._opname}"
        if schema.lists and any(max(item.shape, default=0) > MAX_PIECES for item in _tensors(arguments)):
            raise NotReplayedError(f"{name} over more than {MAX_PIECES} pieces")
        if self.splits(name, schema):
            with self:
                return _parts_of(func, arguments)
        if len(self.parts) >= MAX_PARTS:
            raise NotReplayedError(f"more than {MAX_PARTS} operators")
        args, kwargs = _bound(func, arguments)
        result = func(*args, **kwargs)
        results = tuple(_tensors(result))
        if results or schema.written:
            target = Target(func.namespace, func._opname, func._overloadname)
            self.parts.append(Part(target, schema, arguments, results))
        return result


def _parts_of(func: Any, arguments: dict[str, Any]) -> Any:
    args, kwargs = _bound(func, arguments)
    return func.decompose(*args, **kwargs)


def _bound(func: Any, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments as the schema wants them, every device replaced: nothing is ever allocated."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for item in func._schema.arguments:
        if item.name == "device":
            kwargs["device"] = torch.device("meta")
        elif item.name not in arguments:
            continue
        elif item.kwarg_only or kwargs:
            kwargs[item.name] = arguments[item.name]
        else:
            args.append(arguments[item.name])
    return args, kwargs


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return []
