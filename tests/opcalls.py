"""Op calls made by hand, for tests of what needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from math import prod
from typing import Any

from flopscope.records import Input, OpCall, TensorSpec

ITEMSIZE = {
    "float64": 8,
    "float32": 4,
    "bfloat16": 2,
    "int64": 8,
    "bool": 1,
    "quint8": 1,
    "int8": 1,
    "complex64": 8,
}
_storages = count()
_signatures = count()


def tensor(
    *shape: int,
    dtype: str = "float32",
    strides: tuple[int, ...] | None = None,
    offset: int = 0,
    of: TensorSpec | None = None,
) -> TensorSpec:
    """A tensor in memory of its own, or in that of another (`of`); contiguous unless told."""
    if strides is None:
        strides = tuple(prod(shape[dim + 1 :]) for dim in range(len(shape)))
    storage = next(_storages) if of is None else of.storage
    return TensorSpec(shape, dtype, ITEMSIZE[dtype], strides, offset, storage)


def call(
    op: str,
    result: TensorSpec | Sequence[TensorSpec] = (),
    /,
    *,
    written: Sequence[str] = (),
    view: bool = False,
    tags: Sequence[str] = (),
    signature: int | None = None,
    **arguments: Any,
) -> OpCall:
    """A call of `op` returning `result`; tensors among the arguments become its inputs in order.

    Args:
        op: name such as "aten::linear".
        result: one output or several.
        written: names of the arguments that are changed in place.
        view: whether only aliases came back.
        tags: torch's tags.
        signature: a new one unless told.
        **arguments: by the schema's names. An argument called "self" is as good as any other.
    """
    inputs: list[TensorSpec] = []
    changed: list[int] = []

    def placed(value: Any, name: str) -> Any:
        if isinstance(value, TensorSpec):
            inputs.append(value)
            if name in written:
                changed.append(len(inputs) - 1)
            return Input(len(inputs) - 1)
        if isinstance(value, list | tuple):
            return tuple(placed(item, name) for item in value)
        return value

    plain = {name: placed(value, name) for name, value in arguments.items()}
    return OpCall(
        op=op,
        call=0,
        inputs=tuple(inputs),
        outputs=(result,) if isinstance(result, TensorSpec) else tuple(result),
        arguments=plain,
        signature=next(_signatures) if signature is None else signature,
        written=tuple(changed),
        view=view,
        tags=frozenset(tags),
    )
