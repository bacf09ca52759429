"""Tensors of a graph, one by one -> values with storages: who shares memory, and how long it lives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from flopscope.records import Shape, Storage, TensorSpec

from .graphs import Tensor

FOREVER = 2**62
"""Last use of what outlives the run."""


@dataclass(slots=True)
class Value:
    """A tensor of the run: its spec, the op that made it (-1: none) and the last op that used it."""

    spec: TensorSpec
    made: int
    used: int


@dataclass(slots=True)
class Block:
    """A storage while the graph is read."""

    role: str
    name: str | None
    born: int
    nbytes: int = 0
    used: int = -1


@dataclass(slots=True)
class Ledger:
    """All storages and values of a run."""

    blocks: list[Block] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    def open(self, role: str, *, name: str | None = None, born: int = -1) -> int:
        """Open a new storage and return its index."""
        self.blocks.append(Block(role, name, born, used=born))
        return len(self.blocks) - 1

    def add(self, tensor: Tensor, storage: int, *, made: int = -1) -> int:
        """Add a tensor that looks at a storage, and return the value's index."""
        spec = TensorSpec(tensor.shape, tensor.dtype, tensor.itemsize, tensor.strides, tensor.offset, storage)
        block = self.blocks[storage]
        block.nbytes = max(block.nbytes, extent(tensor))
        self.values.append(Value(spec, made, made))
        return len(self.values) - 1

    def use(self, values: Iterable[int], op: int) -> tuple[TensorSpec, ...]:
        """Note that an op looks at values, and give their specs."""
        specs = []
        for index in values:
            value = self.values[index]
            value.used = max(value.used, op)
            block = self.blocks[value.spec.storage]
            block.used = max(block.used, op)
            specs.append(value.spec)
        return tuple(specs)

    def hold(self, values: Iterable[int], op: int) -> None:
        """Note that values are held in memory until an op has run, whether it looks at them or not."""
        for index in values:
            block = self.blocks[self.values[index].spec.storage]
            block.used = max(block.used, op)

    def shapes(self, values: Iterable[int]) -> tuple[Shape, ...]:
        """The shapes of values."""
        return tuple(self.values[index].spec.shape for index in values)

    def storages(self, ops: int) -> tuple[Storage, ...]:
        """The storages as records. What the run made dies after its last use."""
        return tuple(
            Storage(block.nbytes, block.role, block.name, block.born, self._death(block, ops))
            for block in self.blocks
        )

    @staticmethod
    def _death(block: Block, ops: int) -> int | None:
        return block.used + 1 if block.role == "activation" and block.used + 1 < ops else None


def extent(tensor: Tensor) -> int:
    """Bytes from the start of the storage to the tensor's last element."""
    if 0 in tensor.shape:
        return tensor.offset * tensor.itemsize
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))
    return (tensor.offset + reach + 1) * tensor.itemsize
