"""OpCall -> Convolution, and the multiply-adds of a contraction: arithmetic on recorded shapes."""

from __future__ import annotations

from collections.abc import Sequence

from flopscope import convolutions
from flopscope.convolutions import convolution_macs
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
    """The geometry of a forward convolution, plain or transposed; None for every other operator."""
    return convolutions.convolution_of(op) if op.op in _CONVOLUTIONS else None


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
