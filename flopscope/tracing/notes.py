"""What is noted while a model runs: small mutable things, turned into records after the run."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from .operators import Plan

GONE = -1  # in place of the op after which a storage died: it did so before what is recorded

# Of an op in a training step: its phase, the layer outside the model that it belongs to ("" for none),
# and the forward op whose gradient it computes.
Mark = tuple[str, str, int | None]
FORWARD: Mark = ("forward", "", None)


class Layout:
    """Shape, strides and dtype of a tensor; one object per distinct combination."""

    __slots__ = ("dtype", "shape", "strides")

    def __init__(self, dtype: torch.dtype, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.shape = shape
        self.strides = strides


class Seen:
    """One tensor of the run: its layout and the storage that it looks at."""

    __slots__ = ("layout", "offset", "original", "real", "spec", "storage")

    def __init__(self, layout: Layout, storage: int, offset: int, *, real: bool = False) -> None:
        self.layout = layout
        self.storage = storage
        self.offset = offset
        self.real = real
        self.original: Any = None
        self.spec: Any = None


class Block:
    """A storage of the run: its size, role and life. `ref` is a weak reference to it."""

    __slots__ = ("born", "died", "name", "nbytes", "ref", "role", "saved")

    def __init__(self, nbytes: int, role: str, name: str | None, born: int) -> None:
        self.nbytes = nbytes
        self.role = role
        self.name = name
        self.born = born
        self.died: int | None = None
        self.saved = False
        self.ref: Any = None


class Signature:
    """One operator with one set of arguments: everything that its calls share."""

    __slots__ = ("arguments", "index", "layouts", "memo", "plan", "single", "written")

    def __init__(
        self, index: int, operator: Plan, arguments: dict[str, Any], written: tuple[int, ...]
    ) -> None:
        self.index = index
        self.plan = operator
        self.arguments = arguments
        self.written = written
        self.memo = False
        self.layouts: tuple[Layout, ...] = ()
        self.single = False


class Dispatch:
    """One operator on its way: what came in, and what is known of it."""

    __slots__ = ("args", "func", "key", "kwargs", "plan", "signature", "tensors")

    def __init__(self, func: Any, operator: Plan, args: Any, kwargs: dict[str, Any]) -> None:
        self.func = func
        self.plan = operator
        self.args = args
        self.kwargs = kwargs
        self.key: list[Any] = []
        self.tensors: list[Seen] = []
        self.signature: Signature | None = None


class Call:
    """One execution of a module, as noted while it ran."""

    __slots__ = ("end_op", "first_op", "inputs", "module", "outputs", "parent")

    def __init__(self, module: int, parent: int | None, first_op: int) -> None:
        self.module = module
        self.parent = parent
        self.first_op = first_op
        self.end_op = first_op
        self.inputs: tuple[tuple[int, ...], ...] = ()
        self.outputs: tuple[tuple[int, ...], ...] = ()


class End(weakref.ref[Any]):
    """A weak reference to a storage that knows whose life it marks the end of."""

    __slots__ = ("block", "key")
    block: Block
    key: int
