"""A graph's nodes, one by one -> `OpCall`s, with signatures and the memory that they look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flopscope.records import Input, OpCall, TensorSpec

from . import graphs, schemas
from .callbook import CallBook
from .ledger import Ledger

MAX_OPS = 1_000_000


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of a graph.

    `arguments` have `Input(i)` for the tensor `held[i]`, a value of the ledger; `wanted` are the
    results as the graph describes them; `call` is the module call it belongs to.
    """

    target: graphs.Target
    schema: schemas.Schema
    arguments: dict[str, Any]
    held: tuple[int, ...]
    wanted: tuple[graphs.Tensor, ...]
    call: int


@dataclass(slots=True)
class Recording:
    """What has been read so far. `used[i]` are the values that `ops[i]` took and gave."""

    ledger: Ledger = field(default_factory=Ledger)
    book: CallBook = field(default_factory=CallBook)
    ops: list[OpCall] = field(default_factory=list)
    used: list[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    _signatures: dict[Any, int] = field(default_factory=dict)

    def add(self, node: Node, *, storage_of: Callable[[int], int | None] | None = None) -> list[int]:
        """Record a node as one op, and return the values of its results.

        Args:
            node: the operator.
            storage_of: number of a result -> the storage it looks at (None: new memory); by
                default, what the schema says.
        """
        source = _first(node, node.schema.written) or _first(node, node.schema.aliased)
        shared = None if source is None else self.ledger.values[node.held[source.index]].spec.storage
        op = len(self.ops)
        made = []
        for number, tensor in enumerate(node.wanted):
            storage = shared if storage_of is None else storage_of(number)
            if storage is None:
                storage = self.ledger.open("activation", born=op)
            made.append(self.ledger.add(tensor, storage, made=op))
        self._append(node, tuple(made))
        return made

    def role(self, value: int) -> str:
        """The role of the storage that a value looks at."""
        return self.ledger.blocks[self.ledger.values[value].spec.storage].role

    def _append(self, node: Node, made: tuple[int, ...]) -> None:
        op = len(self.ops)
        if op >= MAX_OPS:
            raise ValueError(f"more than {MAX_OPS} operators")
        name = schemas.op_name(node.target.op)
        arguments = {key: _plain(value) for key, value in node.arguments.items()}
        if name == "aten::convolution" and node.target.name != "convolution":
            arguments["transposed"] = node.target.op in schemas.TRANSPOSED
        inputs = self.ledger.use(node.held, op)
        outputs = self.ledger.use(made, op)
        written = tuple(
            item.index for key in sorted(node.schema.written) for item in inputs_in(arguments.get(key))
        )
        alias = {spec.storage for spec in inputs}
        mark = (name, node.target.overload, repr(arguments), _layouts((*inputs, *outputs)), len(inputs))
        self.ops.append(
            OpCall(
                op=name,
                call=node.call,
                inputs=inputs,
                outputs=outputs,
                arguments=arguments,
                signature=self._signatures.setdefault(mark, len(self._signatures)),
                written=written,
                view=bool(outputs) and not written and all(spec.storage in alias for spec in outputs),
                tags=node.schema.tags,
            )
        )
        self.used.append((node.held, made))


def numbered(given: Mapping[str, Any], env: Mapping[str, int]) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Arguments with `Input(i)` for each tensor, and the values that those are."""
    held: list[int] = []

    def number(value: Any) -> Any:
        if isinstance(value, graphs.Ref):
            held.append(env[value.name])
            return Input(len(held) - 1)
        return tuple(number(item) for item in value) if isinstance(value, tuple) else value

    arguments = {name: number(value) for name, value in given.items()}
    return arguments, tuple(held)


def inputs_in(value: Any) -> list[Input]:
    """The tensors in an argument."""
    if isinstance(value, Input):
        return [value]
    return [found for item in value for found in inputs_in(item)] if isinstance(value, tuple) else []


def _first(node: Node, names: Iterable[str]) -> Input | None:
    return next((item for name in sorted(names) for item in inputs_in(node.arguments.get(name))), None)


def _plain(value: Any) -> Any:
    if isinstance(value, graphs.Symbol):
        return value.text
    return tuple(_plain(item) for item in value) if isinstance(value, tuple) else value


def _layouts(specs: tuple[TensorSpec, ...]) -> tuple[Any, ...]:
    """Layouts and who shares memory with whom: what two calls with one price have in common."""
    seen: dict[int, int] = {}
    return tuple(
        (spec.shape, spec.dtype, spec.strides, seen.setdefault(spec.storage, len(seen))) for spec in specs
    )
