"""OpCall and its price -> the FLOPs that are really executed."""

from __future__ import annotations

from math import prod

from flopscope.convolutions import convolution_of
from flopscope.records import Convolution, OpCall, OpCost


def executed_flops(op: OpCall, priced: OpCost) -> int:
    """FLOPs of an op without those that no kernel need execute.

    Of a convolution: MACs whose tap falls on padding (in a transposed one: outside of the output).
    Of causal attention: what belongs to scores above the diagonal.
    """
    flops, macs = priced.cost.flops, priced.cost.macs
    geometry = convolution_of(op)
    if geometry is not None:
        executed, every = taps(geometry)
        return flops - 2 * (macs * (every - executed) // every if every else 0)
    if op.value("is_causal", False) and "scaled_dot_product" in op.op:
        visible, pairs = _causal_pairs(op)
        return flops * visible // pairs if pairs else flops
    return flops


def taps(geometry: Convolution) -> tuple[int, int]:
    """Pairs of (position, tap) that hit a value, and all pairs; products over the dimensions.

    A position is one of the output, and a hit lies in the input. In a transposed convolution, which
    spreads each input over the output, it is the other way round. With kernel 3, stride 1 and padding 1
    on n positions the executed share is (3n - 2) / 3n per dimension.
    """
    positions, reached = geometry.output_size, geometry.input_size
    if geometry.transposed:
        positions, reached = reached, positions
    rows = zip(
        positions,
        reached,
        geometry.kernel,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        strict=True,
    )
    executed = prod(_hits(*row) for row in rows)
    return executed, prod(positions) * prod(geometry.kernel)


def _hits(positions: int, reached: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Count 0 <= stride * p - padding + dilation * t < reached over positions p and taps t."""
    count = 0
    for tap in range(kernel):
        before = padding - dilation * tap
        lowest = max(0, -(-before // stride))
        highest = min(positions - 1, (reached - 1 + before) // stride)
        count += max(0, highest - lowest + 1)
    return count


def _causal_pairs(op: OpCall) -> tuple[int, int]:
    """Pairs of query q and key k with k <= q, and all pairs, of one head; (0, 0) where not known."""
    query, key = op.tensor("query"), op.tensor("key")
    if query is None or key is None or min(len(query.shape), len(key.shape)) < 2:
        return (0, 0)
    queries, keys = query.shape[-2], key.shape[-2]
    below = min(queries, keys)
    return (below * (below + 1) // 2 + (queries - below) * keys, queries * keys)
