"""OpCall -> Convolution, and the multiply-adds of a contraction: arithmetic on recorded shapes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from flopscope.records import Convolution, OpCall, Shape, TensorSpec

BACKWARD = "aten::convolution_backward"
_TRANSPOSED = frozenset(
    {f"aten::conv_transpose{n}d" for n in (1, 2, 3)}
    | {"aten::slow_conv_transpose2d", "aten::slow_conv_transpose3d", "aten::mkldnn_convolution_transpose"}
)
_CONVOLUTIONS = (
    frozenset(
        f"aten::{name}"
        for name in (
            *("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution", "conv1d"),
            *("conv2d", "conv3d", "thnn_conv2d", "_slow_conv2d_forward", "_conv_depthwise2d"),
        )
    )
    | _TRANSPOSED
)

# Operator -> the names of its two factors.
PRODUCTS = {
    "aten::linear": ("input", "weight"),
    "aten::mm": ("self", "mat2"),
    "aten::bmm": ("self", "mat2"),
    "aten::matmul": ("self", "other"),
    "aten::addmm": ("mat1", "mat2"),
    "aten::baddbmm": ("batch1", "batch2"),
}


def convolution_of(op: OpCall) -> Convolution | None:
    """The geometry of a forward convolution, plain or transposed; None for every other operator.

    An input without a batch dimension has a batch of one.
    """
    if op.op not in _CONVOLUTIONS or not op.outputs:
        return None
    return geometry(op, op.outputs[0].shape)


def geometry(op: OpCall, output: Shape) -> Convolution | None:
    """The geometry of an operator that has a convolution's arguments and this output."""
    source = op.tensor("input") or op.tensor("self")
    weight = op.tensor("weight")
    if source is None or weight is None or len(weight.shape) < 3:
        return None
    rank = len(weight.shape) - 2
    if len(source.shape) not in (rank + 1, rank + 2) or len(output) != len(source.shape):
        return None
    transposed = bool(op.value("transposed", False)) or op.op in _TRANSPOSED
    groups = int(op.value("groups", 1))
    return Convolution(
        batch=source.shape[0] if len(source.shape) == rank + 2 else 1,
        in_channels=source.shape[-rank - 1],
        out_channels=output[-rank - 1],
        groups=groups,
        input_size=source.shape[-rank:],
        output_size=output[-rank:],
        kernel=weight.shape[2:],
        stride=spread(op.value("stride"), rank, 1),
        padding=spread(op.value("padding"), rank, 0),
        dilation=spread(op.value("dilation"), rank, 1),
        dtype=source.dtype,
        channels_last=is_channels_last(source) or is_channels_last(weight),
        transposed=transposed,
        bias=op.tensor("bias") is not None or bool(op.value("bias_sizes")),
    )


def convolution_macs(shape: Convolution) -> int:
    """Multiply-adds: N·Cout·prod(output)·Cin/groups·prod(kernel).

    Transposed, every input element meets the kernel: N·Cin·prod(input)·Cout/groups·prod(kernel).
    """
    outer, inner, size = shape.out_channels, shape.in_channels, shape.output_size
    if shape.transposed:
        outer, inner, size = shape.in_channels, shape.out_channels, shape.input_size
    return shape.batch * outer * prod(size) * (inner // shape.groups) * prod(shape.kernel)


def contraction_macs(op: OpCall) -> int | None:
    """Multiply-adds of a convolution or a matrix product; None for every other operator.

    A product's are its output's elements times the inner dimension.
    """
    shape = convolution_of(op)
    if shape is not None:
        return convolution_macs(shape)
    left = op.tensor(PRODUCTS[op.op][0]) if op.op in PRODUCTS else None
    if left is None or not left.shape or not op.outputs:
        return None
    return op.outputs[0].numel * left.shape[-1]


def spread(value: object, rank: int, default: int) -> Shape:
    """A setting as given (nothing, a number, one number for all dimensions) -> one per dimension."""
    if value is None or value == ():
        return (default,) * rank
    if isinstance(value, Sequence) and not isinstance(value, str):
        given = tuple(int(item) for item in value)
        return given * rank if len(given) == 1 else given
    return (int(value) if isinstance(value, int) else default,) * rank


def is_channels_last(spec: TensorSpec) -> bool:
    """Whether torch would call the tensor channels_last rather than contiguous, by its strides.

    torch's own rule (c10, `is_channels_last_strides`): channels lie innermost, then width to batch,
    none overlapping the one before; where both layouts fit, contiguous wins.
    """
    rank = len(spec.shape)
    if rank not in (4, 5) or spec.strides[1] == 0:
        return False
    least = 0
    for place in (1, *range(rank - 1, 1, -1), 0):
        stride, size = spec.strides[place], spec.shape[place]
        if size == 0 or stride < least or (place == 0 and least == spec.strides[1]):
            return False
        least = stride * size if size > 1 else stride
    return True


def packed(spec: TensorSpec, shape: Shape) -> TensorSpec:
    """The same kind of tensor in another shape of the same rank: dense, dimensions nested as before.

    A channels_last tensor stays one; a transposed matrix stays transposed.
    """
    nesting = sorted(range(len(shape)), key=lambda place: -spec.strides[place])
    return laid_out(spec, shape, nesting)


def laid_out(spec: TensorSpec, shape: Shape, nesting: Sequence[int]) -> TensorSpec:
    """A dense tensor of this shape, its dimensions nested in this order, outermost first."""
    strides = [1] * len(shape)
    width = 1
    for place in reversed(nesting):
        strides[place] = width
        width *= max(shape[place], 1)
    return TensorSpec(tuple(shape), spec.dtype, spec.itemsize, tuple(strides), 0, spec.storage)


def in_channels_last(spec: TensorSpec) -> TensorSpec:
    """A dense channels_last tensor of the same shape."""
    return laid_out(spec, spec.shape, (0, *range(2, len(spec.shape)), 1))


def in_order(spec: TensorSpec) -> TensorSpec:
    """A dense contiguous tensor of the same shape."""
    return laid_out(spec, spec.shape, range(len(spec.shape)))
