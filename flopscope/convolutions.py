"""OpCall -> the geometry of its convolution, and what it multiplies: arithmetic on recorded shapes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from flopscope.records import Convolution, OpCall, Shape, TensorSpec


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
    dilation = spread(op.value("dilation"), rank, 1)
    return Convolution(
        batch=data.shape[0] if len(data.shape) == rank + 2 else 1,
        in_channels=data.shape[-rank - 1],
        out_channels=weight.shape[1] * groups if transposed else weight.shape[0],
        groups=groups,
        input_size=data.shape[-rank:],
        output_size=answer.shape[-rank:],
        kernel=weight.shape[2:],
        stride=spread(op.value("stride"), rank, 1),
        padding=_padding(op.value("padding"), weight.shape[2:], dilation),
        dilation=dilation,
        dtype=data.dtype,
        channels_last=_tells_channels_last(data) or _tells_channels_last(weight),
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


def _tells_channels_last(spec: TensorSpec) -> bool:
    """Whether it is channels_last, and not only fits that format too: of one channel, or one place."""
    return is_channels_last(spec) and spec.shape[1] > 1 and prod(spec.shape[2:]) > 1


def _padding(given: object, kernel: Shape, dilation: Shape) -> Shape:
    """Padding before the data; "same" puts half of dilation * (kernel - 1), rounded down, there."""
    if given == "same":
        return tuple(step * (size - 1) // 2 for size, step in zip(kernel, dilation, strict=True))
    return spread(given, len(kernel), 0)  # "valid" is none
