"""One composite operator of an exported graph -> the ops of a run, recorded with their memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from flopscope.records import Input

from . import graphs, replays, schemas
from .ledger import Ledger
from .recording import Node, Recording

_ALIAS_NAMES = (
    "reshape contiguous flatten to type_as expand_as dropout unflatten alpha_dropout feature_dropout"
)

_ALIAS_OR_COPY = frozenset(f"aten::{name}" for name in _ALIAS_NAMES.split())


def expand(recording: Recording, node: Node, keep: Callable[[str], bool]) -> list[int] | None:
    """Record what a composite operator consists of, and return the values of its results.

    Where a run would give back its input or a copy of it, one op is recorded that says which.
    None where the operator is to be recorded as it stands.

    Args:
        recording: what was read so far.
        node: the operator.
        keep: tells of an operator name whether it is left whole.
    """
    op = node.target.op
    alias_or_copy = op in _ALIAS_OR_COPY or (bool(node.schema.aliased) and not node.schema.lists)
    if not alias_or_copy and not _splits(op, node.schema, keep):
        return None
    twins = _Twins(recording.ledger, node.held)
    parts: list[replays.Part] = []
    try:
        live = {name: twins.live(value) for name, value in node.arguments.items()}
        if alias_or_copy:
            results = replays.run_whole(node.schema.func, live)
        else:
            results, parts = replays.replay(
                node.schema.func, live, splits=lambda name, schema: _splits(name, schema, keep)
            )
    except replays.NotReplayedError:
        return None
    if tuple(tuple(result.shape) for result in results) != tuple(tensor.shape for tensor in node.wanted):
        return None
    if alias_or_copy:
        return recording.add(node, storage_of=lambda number: twins.storage_of(results[number]))
    for part in parts:
        _record(recording, twins, part, node.call)
    return [twins.value(result) for result in results]


def _splits(op: str, schema: schemas.Schema, keep: Callable[[str], bool]) -> bool:
    """Tell whether an operator is taken apart."""
    name = schemas.op_name(op)
    if not schema.composite or name == "aten::convolution":
        return schema.composite  # of convolutions, only padding="same" is: what it pads shows in its parts
    if op in _ALIAS_OR_COPY or keep(name):
        return False
    return not schema.tags & {"pointwise", "reduction"} and not schema.aliased


class _Twins:
    """Tensors on the meta device that stand for values of the ledger, storage for storage."""

    def __init__(self, ledger: Ledger, held: tuple[int, ...]) -> None:
        self._ledger = ledger
        self._held = held
        self._blocks: dict[int, torch.UntypedStorage] = {}
        self._storages: dict[int, int] = {}
        # Tensors are kept, so that no other gets the same id.
        self._values: dict[int, tuple[int, torch.Tensor]] = {}

    def live(self, value: Any) -> Any:
        """An argument of a node as torch wants it."""
        if isinstance(value, Input):
            return self._twin(self._held[value.index])
        if isinstance(value, graphs.Symbol):
            return torch.device("meta") if value.kind == "device" else getattr(torch, value.text)
        if isinstance(value, tuple):
            return [self.live(item) for item in value]
        return value

    def _twin(self, value: int) -> torch.Tensor:
        spec = self._ledger.values[value].spec
        if spec.storage not in self._blocks:
            nbytes = self._ledger.blocks[spec.storage].nbytes
            self._blocks[spec.storage] = torch.UntypedStorage(nbytes, device="meta")
        twin = torch.empty(0, dtype=getattr(torch, spec.dtype), device="meta")
        twin.set_(self._blocks[spec.storage], spec.offset, spec.shape, spec.strides)
        self._storages[_place(twin)] = spec.storage
        self._values[id(twin)] = (value, twin)
        return twin

    def storage_of(self, tensor: torch.Tensor) -> int | None:
        """The storage that a tensor looks at, if it is one of the ledger's."""
        return self._storages.get(_place(tensor))

    def value(self, tensor: torch.Tensor) -> int:
        """The value that a tensor stands for; one that no op gave is a constant."""
        known = self._values.get(id(tensor))
        if known is not None:
            return known[0]
        storage = self.storage_of(tensor)
        if storage is None:
            storage = self._ledger.open("constant")
        value = self._ledger.add(described(tensor), storage)
        self.adopt(tensor, value)
        return value

    def adopt(self, tensor: torch.Tensor, value: int) -> None:
        """Let a tensor stand for a value."""
        self._storages[_place(tensor)] = self._ledger.values[value].spec.storage
        self._values[id(tensor)] = (value, tensor)


def _record(recording: Recording, twins: _Twins, part: replays.Part, call: int) -> None:
    held: list[int] = []

    def number(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            held.append(twins.value(value))
            return Input(len(held) - 1)
        if isinstance(value, (list, tuple)):
            return tuple(number(item) for item in value)
        if isinstance(value, (torch.dtype, torch.device, torch.layout, torch.memory_format)):
            return str(value).removeprefix("torch.")
        return value

    arguments = {name: number(value) for name, value in part.arguments.items()}
    wanted = tuple(described(result) for result in part.results)
    node = Node(part.target, part.schema, arguments, tuple(held), wanted, call)
    made = recording.add(node, storage_of=lambda number: twins.storage_of(part.results[number]))
    for value, result in zip(made, part.results, strict=True):
        twins.adopt(result, value)


def described(tensor: torch.Tensor) -> graphs.Tensor:
    """A tensor as the graph would describe it."""
    return graphs.Tensor(
        shape=tuple(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        itemsize=tensor.dtype.itemsize,
        strides=tuple(tensor.stride()),
        offset=int(tensor.storage_offset()),
        device="meta",
        trainable=False,
    )


def _place(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
