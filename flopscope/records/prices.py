"""What a run costs by arithmetic: counts, blocks, memory alive."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = (
    "conv", "pointwise_conv", "depthwise_conv", "group_conv", "transposed_conv", "pconv", "se", "linear",
    "matmul", "attention", "recurrent", "batch_norm", "norm", "activation", "pooling", "resampling",
    "embedding", "elementwise", "reduction", "data_movement", "other",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cost:
    """What an op costs by arithmetic: counts, not rates. Adds up with `+`."""

    macs: int = 0
    flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    def __add__(self, other: Cost) -> Cost:
        read, written = self.bytes_read + other.bytes_read, self.bytes_written + other.bytes_written
        return Cost(self.macs + other.macs, self.flops + other.flops, read, written)


@dataclass(frozen=True, slots=True)
class OpCost:
    """The price of one op and where it came from.

    `priced_by` is "formula" (the op has its own), "rule" (torch's pointwise or reduction tag),
    "zero" (a view or metadata: nothing moves) or "uncosted" (bytes are counted, FLOPs unknown).
    `fvcore_flops` is what fvcore's convention charges for the op, in MACs.
    """

    cost: Cost
    priced_by: str
    fvcore_flops: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of the run that is recognised as one thing: a PConv or an SE.

    `path` is its module's, or that of the container in whose forward it stands inline; `ops` indexes
    `Trace.ops`; `formula_bytes` is the published formula's.
    """

    kind: str
    path: str
    type: str
    inline: bool
    ops: tuple[int, ...]
    formula_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class MemoryPeak:
    """When most activation memory was alive: in `Trace.ops[op]` of module `path`; what was, by size.

    `over_run` holds the bytes alive while each op runs, in the order of the ops.
    """

    nbytes: int
    op: int | None
    path: str
    alive: tuple[tuple[str, int], ...] = ()
    over_run: tuple[int, ...] = ()
