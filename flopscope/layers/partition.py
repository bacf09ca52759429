"""`Trace`, costs, kinds and blocks -> the partition: layers to which every op belongs once."""

from __future__ import annotations

from collections.abc import Sequence

from flopscope.records import Block, Cost, Layer, OpCost, Parameter, Shape, Trace

from .geometry import describe, named_ops, published_bytes
from .ownership import OPS, Key, Ownership, owners
from .rows import first_shapes, row


def partition(
    trace: Trace, costs: Sequence[OpCost], *, kinds: Sequence[str], blocks: Sequence[Block] = ()
) -> tuple[Layer, ...]:
    """Make the layers of a run, in order of first execution; modules that never ran come last.

    Every op belongs to exactly one layer and every parameter too, so each count adds up to the
    total's. A layer is a leaf (a module none of whose calls ran another module), a recognised
    block with all that it holds, or a container's own "(ops)".

    Args:
        trace: what was run.
        costs: one price per op, in the order of `trace.ops`.
        kinds: one kind per op, as `recognition.kinds` gives them.
        blocks: what `recognition.blocks` found.
    """
    held = _Holdings(trace, owners(trace, blocks), blocks)
    return tuple(held.layer(key, costs, kinds) for key in held.in_order())


def assignment(layers: Sequence[Layer], ops: int) -> tuple[int, ...]:
    """For each of `ops` op calls, the index of its layer in a partition."""
    found = [0] * ops
    for index, layer in enumerate(layers):
        for op in layer.ops:
            found[op] = index
    return tuple(found)


def total(trace: Trace, costs: Sequence[OpCost]) -> Layer:
    """The whole model as one layer: every op, and every parameter once."""
    root = trace.calls[0] if trace.calls else None
    called = sum(call.path == "" for call in trace.calls)
    indices = tuple(range(len(trace.ops)))
    return row(
        ("", root.type if root else (trace.modules[0].type if trace.modules else "")),
        trace,
        costs,
        kind="other",
        calls=called,
        ops=indices,
        shapes=first_shapes(trace, [0] if root else []),
        parameters=trace.parameters,
    )


def kind_of_layer(kinds: Sequence[str], costs: Sequence[OpCost], *, functional: bool = False) -> str:
    """Name a stretch of ops by the kind that does most of it: by MACs, else FLOPs, else bytes.

    Attention inside makes it attention, whatever its projections cost. A container's own ops
    (`functional`) are named by their MACs; where they have none, and nothing but a normalisation
    computes, by that; else "elementwise" where they compute, else "data_movement". A stretch
    without ops is "other".
    """
    if "attention" in kinds:
        return "attention"
    if not kinds:
        return "data_movement" if functional else "other"
    by_kind: dict[str, Cost] = {}
    for kind, priced in zip(kinds, costs, strict=True):
        by_kind[kind] = by_kind[kind] + priced.cost if kind in by_kind else priced.cost
    most = max(by_kind, key=lambda kind: _weight(by_kind[kind]))
    if not functional or by_kind[most].macs:
        return most
    computing = [kind for kind, cost in by_kind.items() if cost.flops]
    if computing in (["batch_norm"], ["norm"]):
        return most
    return "elementwise" if computing else "data_movement"


def _weight(cost: Cost) -> tuple[int, int, int]:
    return (cost.macs, cost.flops, cost.bytes_read + cost.bytes_written)


class _Holdings:
    """What each key holds: ops, calls, blocks and parameters."""

    def __init__(self, trace: Trace, ownership: Ownership, blocks: Sequence[Block]) -> None:
        self._trace = trace
        self._idle = ownership.idle
        self._ops: dict[Key, list[int]] = {}
        self._calls: dict[Key, list[int]] = {}
        self._blocks: dict[Key, list[Block]] = {}
        self._parameters: dict[Key, list[Parameter]] = {}
        for index, key in enumerate(ownership.ops):
            self._ops.setdefault(key, []).append(index)
        for parameter, key in zip(trace.parameters, ownership.parameters, strict=True):
            self._parameters.setdefault(key, []).append(parameter)
        for block in blocks:
            self._blocks.setdefault((block.path, block.type), []).append(block)
        for index, (call, key) in enumerate(zip(trace.calls, ownership.calls, strict=True)):
            if call.path == key[0] and (key[1] in (OPS, call.type)):
                self._calls.setdefault(key, []).append(index)

    def in_order(self) -> list[Key]:
        """The keys that make a layer: those that ran by first execution, then the idle ones."""
        found = dict.fromkeys((*self._ops, *self._calls, *self._parameters))
        running = [key for key in found if key not in self._idle and self._makes_a_layer(key)]
        return [*sorted(running, key=self._first), *self._idle]

    def _makes_a_layer(self, key: Key) -> bool:
        """A container without ops or parameters of its own has no "(ops)" layer."""
        return key[1] != OPS or key in self._ops or key in self._parameters

    def _first(self, key: Key) -> tuple[int, int, int]:
        """Where a layer begins: at an op, or, where it ran none, just before the next one."""
        call = self._calls[key][0] if key in self._calls else 0
        if key in self._ops:
            return (self._ops[key][0], 1, call)
        return (self._trace.calls[call].first_op, 0, call)

    def layer(self, key: Key, costs: Sequence[OpCost], kinds: Sequence[str]) -> Layer:
        """Make the row of one key."""
        ops = tuple(self._ops.get(key, ()))
        blocks = self._blocks.get(key, [])
        calls = self._calls.get(key, [])
        inline = bool(blocks) and blocks[0].inline
        shown = self._shown(ops)
        held = [kinds[index] for index in shown]
        priced = [costs[index] for index in shown]
        calculated = [self._trace.ops[index] for index in shown]
        functional = key[1] == OPS or any(op.outside for op in calculated)
        kind = blocks[0].kind if blocks else kind_of_layer(held, priced, functional=functional)
        if key in self._idle:
            kind = "other"
        formulas = [block.formula_bytes for block in blocks]
        return row(
            key,
            self._trace,
            costs,
            kind=kind,
            calls=len(blocks) if inline else len(calls) or int(any(op.outside for op in calculated)),
            ops=ops,
            shapes=_inline_shapes(self._trace, blocks[0]) if inline else first_shapes(self._trace, calls),
            parameters=self._parameters.get(key, ()),
            detail=describe(kind, calculated, held, priced) or (named_ops(calculated) if functional else ""),
            formula_bytes=_all_of(formulas) if blocks else published_bytes(kind, calculated, held),
        )

    def _shown(self, ops: tuple[int, ...]) -> tuple[int, ...]:
        """What a layer is called after: its forward, or all that it does where it has none."""
        return tuple(index for index in ops if self._trace.ops[index].phase != "backward") or ops


def _inline_shapes(trace: Trace, block: Block) -> tuple[Shape | None, Shape | None]:
    """The feature map that a block is applied to; PConv and SE give back its shape."""
    candidates = (*trace.ops[block.ops[0]].inputs[:1], *trace.ops[block.ops[-1]].outputs)
    largest = max(candidates, key=lambda spec: (len(spec.shape) > 2, spec.numel))
    return (largest.shape, largest.shape)


def _all_of(amounts: Sequence[int | None]) -> int | None:
    """The sum, or None where one of them is unknown."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None
