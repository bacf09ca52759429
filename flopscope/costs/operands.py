"""OpCall -> the numbers that formulas are made of: operands, sizes, dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from flopscope.records import OpCall, Shape, TensorSpec

_FLOATING = ("float", "bfloat", "double", "half", "complex", "cfloat", "cdouble")


class MissingOperandError(LookupError):
    """The call lacks what its formula needs; the op is listed as uncosted."""


def operand(op: OpCall, *names: str) -> TensorSpec:
    """The first tensor argument that is there under one of `names`.

    Raises:
        MissingOperandError: none of them is a tensor.
    """
    for name in names:
        spec = op.tensor(name)
        if spec is not None:
            return spec
    raise MissingOperandError(f"{op.op} has no tensor argument {' or '.join(names)}")


def result(op: OpCall) -> TensorSpec:
    """The first tensor that the call returned, or changed where it returned none.

    Raises:
        MissingOperandError: there is neither.
    """
    if op.outputs:
        return op.outputs[0]
    if op.written:
        return op.inputs[op.written[0]]
    raise MissingOperandError(f"{op.op} has no result")


def product(sizes: Sequence[int]) -> int:
    """The number of elements of a shape; 1 for the empty shape."""
    return prod(sizes)


def broadcast(*shapes: Shape) -> Shape:
    """The common shape of `shapes`, sizes of 1 stretched; aligned at the right."""
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(0 if 0 in sizes else max(sizes) for sizes in zip(*padded, strict=True))


def is_floating(dtype: str) -> bool:
    """Whether numbers of this dtype are floating point, real or complex."""
    return dtype.removeprefix("torch.").startswith(_FLOATING)


def is_complex(dtype: str) -> bool:
    """Whether numbers of this dtype are complex."""
    return dtype.removeprefix("torch.").startswith(("complex", "cfloat", "cdouble"))


def works_on_floats(op: OpCall) -> bool:
    """Whether any tensor of the call is floating point; index arithmetic is no FLOP."""
    return any(is_floating(spec.dtype) for spec in (*op.inputs, *op.outputs))


def works_on_complex(op: OpCall) -> bool:
    """Whether any tensor of the call is complex."""
    return any(is_complex(spec.dtype) for spec in (*op.inputs, *op.outputs))


def real_multiplies(op: OpCall) -> int:
    """Real multiply-adds per multiply-add: (a+bi)(c+di) added to an accumulator takes 4."""
    return 4 if works_on_complex(op) else 1
