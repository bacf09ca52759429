"""OpCall -> the geometry of its convolution, and the FLOPs that are really executed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from flopscope.records import Convolution, OpCall, OpCost, Shape, TensorSpec


def convolution_of(op: OpCall) -> Convolution | None:
    """Read the geometry of a convolution, transposed or not, or of its gradient; None for other ops.

    The data are [N, C_in, *size] or [C_in, *size] (then the batch is 1), the weight
    [C_out, C_in / groups, *kernel], or [C_in, C_out / groups, *kernel] where it is transposed. Of
    padding given as a word, `padding` is what stands before the data.
    """
    name = op.op.removeprefix("aten::")
    data, weight = op.tensor("input") or op.tensor("self"), op.tensor("weight")
    answer = op.tensor("grad_output") or next(iter(op.outputs), None)
    if name == op.op or "conv" not in name or name == "conv_tbc":
        return None
    if data is None or weight is None or answer is None:
        return None
    rank = len(weight.shape) - 2
    if rank < 1 or not rank < len(data.shape) <= rank + 2 or len(answer.shape) != len(data.shape):
        return None
    transposed = bool(op.value("transposed", False)) or "transpose" in name
    groups = op.value("groups", 1) or 1
    dilation = _each(op.value("dilation", 1), rank)
    return Convolution(
        batch=data.shape[0] if len(data.shape) == rank + 2 else 1,
        in_channels=data.shape[-rank - 1],
        out_channels=weight.shape[1] * groups if transposed else weight.shape[0],
        groups=groups,
        input_size=data.shape[-rank:],
        output_size=answer.shape[-rank:],
        kernel=weight.shape[2:],
        stride=_each(op.value("stride", 1), rank),
        padding=_padding(op.value("padding", 0), weight.shape[2:], dilation),
        dilation=dilation,
        dtype=data.dtype,
        channels_last=_is_channels_last(data) or _is_channels_last(weight),
        transposed=transposed,
        bias=op.tensor("bias") is not None or bool(op.value("bias_sizes")),
    )


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


def _each(value: int | Sequence[int], rank: int) -> Shape:
    """A setting for every dimension, where it may be given once for all."""
    sizes = (value,) if isinstance(value, int) else tuple(value)
    return sizes * rank if len(sizes) == 1 else sizes


def _padding(given: int | str | Sequence[int], kernel: Shape, dilation: Shape) -> Shape:
    """Padding before the data; "same" puts half of dilation * (kernel - 1), rounded down, there."""
    if not isinstance(given, str):
        return _each(given, len(kernel))
    if given == "valid":
        return (0,) * len(kernel)
    return tuple(step * (size - 1) // 2 for size, step in zip(kernel, dilation, strict=True))


def _is_channels_last(spec: TensorSpec) -> bool:
    """Whether channels lie next to each other though there are several, and several places too."""
    if len(spec.shape) < 4:
        return False
    return spec.shape[1] > 1 and spec.strides[1] == 1 and prod(spec.shape[2:]) > 1
