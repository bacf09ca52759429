"""What was run: modules, their calls, operators and the tensors between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor as an operator saw it: its layout, and the storage that it looks at.

    `strides` and `offset` are in elements; `storage` indexes `Trace.storages`.
    """

    shape: Shape
    dtype: str
    itemsize: int
    strides: Shape
    offset: int
    storage: int

    @property
    def numel(self) -> int:
        """Elements by shape; an expanded dimension counts in full."""
        return prod(self.shape)

    @property
    def distinct_bytes(self) -> int:
        """Bytes of memory that the tensor really covers: an expanded dimension counts once."""
        if 0 in self.shape:
            return 0
        spread = [(size, stride) for size, stride in zip(self.shape, self.strides, strict=True) if stride]
        reach = 1 + sum(abs(stride) * (size - 1) for size, stride in spread)
        return min(prod(size for size, _ in spread), reach) * self.itemsize


@dataclass(frozen=True, slots=True)
class Storage:
    """A block of memory that tensors look at, and when it lived.

    `role` is "parameter", "buffer", "input", "activation" or "constant"; `born` is the op that made
    it (-1: there before the run), `died` the first op after it was freed (None: it outlived the run).
    In a training step "gradient" is what a parameter's gradient was left in, "optimizer" the optimizer's
    state, and `saved` tells that autograd kept the storage for the backward pass.
    """

    nbytes: int
    role: str
    name: str | None = None
    born: int = -1
    died: int | None = None
    saved: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter or buffer of the model, listed once however many modules share it."""

    path: str
    owner: str
    shape: Shape
    dtype: str
    numel: int
    nbytes: int
    trainable: bool = True


@dataclass(frozen=True, slots=True)
class Module:
    """A registered module, whether it ran or not; in `named_modules` order, root first."""

    path: str
    type: str


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One execution of one module. `parent` indexes `Trace.calls`; the root's is None.

    Shapes are those of all tensors in the arguments and in the result, in order. The ops that ran
    inside it are `ops[first_op:end_op]`.
    """

    path: str
    type: str
    parent: int | None
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    first_op: int
    end_op: int


@dataclass(frozen=True, slots=True)
class Input:
    """Stands in `OpCall.arguments` where the call had a tensor: `OpCall.inputs[index]`."""

    index: int


@dataclass(frozen=True, slots=True)
class OpCall:
    """One aten operator as the dispatcher saw it.

    `arguments` maps the schema's argument names to values, with every tensor replaced by an
    `Input` (a list of tensors by a tuple of them). `written` lists the inputs that were changed
    in place, `out=` targets included. `view` is true where the call only returned aliases of its
    inputs and computed nothing. `tags` holds torch's own ("pointwise", "reduction"). Two calls
    with the same `signature` have the same operator, arguments, layouts and aliasing, and so
    the same cost.

    In a training step `phase` is "forward", "loss", "backward" or "optimizer"; a backward op's `call` is
    the forward call that it differentiates, and `source` the forward op, where one is known. `outside` is
    "(loss)" or "(optimizer)" where the op belongs to no module.
    """

    op: str
    call: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    arguments: Mapping[str, Any]
    signature: int
    written: tuple[int, ...] = ()
    view: bool = False
    tags: frozenset[str] = frozenset()
    phase: str = "forward"
    outside: str = ""
    source: int | None = None

    def value(self, name: str, default: Any = None) -> Any:
        """The argument called `name`, or `default` where the schema or the call lacks it."""
        return self.arguments.get(name, default)

    def tensor(self, name: str) -> TensorSpec | None:
        """The tensor given as `name`, or None."""
        given = self.arguments.get(name)
        return self.inputs[given.index] if isinstance(given, Input) else None

    def tensors(self, name: str) -> tuple[TensorSpec, ...]:
        """The tensors of the list given as `name`; a single tensor gives a tuple of one."""
        given = self.arguments.get(name)
        items = given if isinstance(given, tuple) else (given,)
        return tuple(self.inputs[item.index] for item in items if isinstance(item, Input))

    @property
    def fresh_outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs that are new memory, each storage once: not aliases of an input."""
        held = {spec.storage for spec in self.inputs}
        fresh = {spec.storage: spec for spec in reversed(self.outputs) if spec.storage not in held}
        return tuple(reversed(fresh.values()))


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that one run of a model did, without its data.

    `route` says how it was obtained: "meta" (no data), "real" (executed) or "exported" (read
    from a .pt2 file). `calls[0]` is the root's call.
    """

    modules: tuple[Module, ...]
    calls: tuple[ModuleCall, ...]
    ops: tuple[OpCall, ...]
    storages: tuple[Storage, ...]
    parameters: tuple[Parameter, ...]
    buffers: tuple[Parameter, ...]
    route: str
    device: str
    torch_version: str
    warnings: tuple[str, ...] = ()
