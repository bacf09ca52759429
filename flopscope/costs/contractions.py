"""Convolutions, matrix products and whatever else is a sum of products, in multiply-adds.

A bias is the value that an accumulator starts from and costs nothing, so FLOPs are 2 * MACs. A
complex multiply-add is 4 real ones. Padded taps count like all others.
"""

from __future__ import annotations

from flopscope.costs import einsum
from flopscope.costs.operands import MissingOperandError, broadcast, operand, product, real_multiplies, result
from flopscope.costs.registry import Work, formula, in_aten
from flopscope.costs.table import PER_OUTPUT, TERM
from flopscope.costs.traffic import bytes_read, indices_of
from flopscope.records import OpCall, Shape, TensorSpec

_CONVOLUTIONS = in_aten("""
    convolution _convolution convolution_overrideable conv1d conv2d conv3d mkldnn_convolution
    cudnn_convolution miopen_convolution miopen_depthwise_convolution thnn_conv2d slow_conv3d
    slow_conv3d_forward _slow_conv2d_forward _conv_depthwise2d conv_depthwise3d slow_conv_dilated2d
    slow_conv_dilated3d _mps_convolution
""")
_TRANSPOSED = in_aten("""
    conv_transpose1d conv_transpose2d conv_transpose3d cudnn_convolution_transpose
    miopen_convolution_transpose slow_conv_transpose2d slow_conv_transpose3d _mps_convolution_transpose
""")


def convolution_macs(data: TensorSpec, weight: TensorSpec, answer: TensorSpec, *, transposed: bool) -> int:
    """MACs of a convolution of any rank, dense or grouped, batched or not.

    Forward, weight [C_out, C_in / groups, *k]: output elements * C_in / groups * prod(k).
    Transposed, weight [C_in, C_out / groups, *k]: each input element is spread over
    C_out / groups * prod(k) outputs. In both the weight's sizes after the first are the factor.
    """
    spread = data if transposed else answer
    return spread.numel * product(weight.shape[1:])


@formula(*_CONVOLUTIONS)
def _convolution(op: OpCall) -> Work:
    return Work(macs=_convolution_of(op, transposed=bool(op.value("transposed", False))))


@formula(*_TRANSPOSED)
def _transposed_convolution(op: OpCall) -> Work:
    return Work(macs=_convolution_of(op, transposed=True))


@formula("aten::cudnn_convolution_relu", "aten::miopen_convolution_relu")
def _convolution_relu(op: OpCall) -> Work:
    relu = PER_OUTPUT["relu"] * result(op).numel
    return Work(macs=_convolution_of(op, transposed=False), other_flops=relu)


@formula("aten::cudnn_convolution_add_relu", "aten::miopen_convolution_add_relu")
def _convolution_add_relu(op: OpCall) -> Work:
    after = (PER_OUTPUT["add"] + PER_OUTPUT["relu"]) * result(op).numel
    return Work(macs=_convolution_of(op, transposed=False), other_flops=after)


def _convolution_of(op: OpCall, *, transposed: bool) -> int:
    data, weight = operand(op, "input", "self"), operand(op, "weight")
    return real_multiplies(op) * convolution_macs(data, weight, result(op), transposed=transposed)


@formula("aten::linear", "aten::mkldnn_linear")
def _linear(op: OpCall) -> Work:
    """Rows [..., in] times weight [out, in] (or [in]): input elements * out."""
    data, weight = operand(op, "input", "self"), operand(op, "weight")
    return Work(macs=real_multiplies(op) * data.numel * product(weight.shape[:-1]))


@formula("aten::mm", "aten::_int_mm", "aten::_scaled_mm")
def _mm(op: OpCall) -> Work:
    return Work(macs=_product_macs(op, operand(op, "self"), operand(op, "mat2")))


@formula("aten::bmm")
def _bmm(op: OpCall) -> Work:
    return Work(macs=_product_macs(op, operand(op, "self"), operand(op, "mat2")))


@formula("aten::matmul", whole=False)
def _matmul(op: OpCall) -> Work:
    """Vectors, matrices and batches of them, broadcast: batch * rows * inner * columns."""
    left, right = operand(op, "self").shape, operand(op, "other").shape
    left = (1, *left) if len(left) == 1 else left
    right = (*right, 1) if len(right) == 1 else right
    batch = product(broadcast(left[:-2], right[:-2]))
    return Work(macs=real_multiplies(op) * batch * left[-2] * left[-1] * right[-1])


@formula("aten::addmm", "aten::addmv")
def _addmm(op: OpCall) -> Work:
    return _added(op, operand(op, "mat1", "mat"), operand(op, "mat2", "vec"))


@formula("aten::baddbmm", "aten::addbmm")
def _baddbmm(op: OpCall) -> Work:
    return _added(op, operand(op, "batch1"), operand(op, "batch2"))


@formula("aten::_addmm_activation")
def _addmm_activation(op: OpCall) -> Work:
    work = _added(op, operand(op, "mat1"), operand(op, "mat2"))
    per_element = PER_OUTPUT["gelu" if op.value("use_gelu", False) else "relu"]
    return Work(work.macs, work.other_flops + per_element * result(op).numel, bytes_read=work.bytes_read)


@formula("aten::addr")
def _addr(op: OpCall) -> Work:
    """One rank-1 update, self + outer(v1, v2): one multiply-add per element of the result."""
    return _scaled_sum(op, real_multiplies(op) * result(op).numel)


@formula("aten::mv", "aten::dot", "aten::vdot")
def _mv(op: OpCall) -> Work:
    """Matrix [n, m] or vector [m] times vector [m]: as many multiply-adds as the first has elements."""
    return Work(macs=real_multiplies(op) * operand(op, "self").numel)


@formula("aten::_grouped_mm", "aten::_scaled_grouped_mm")
def _grouped_mm(op: OpCall) -> Work:
    """Rows, columns or inner dimension are split among the groups; together they are all there.

    [M, K] x [G, K, N]: each row meets one group's matrix, M * K * N. [G, M, K] x [G, K, N] is a
    batch. [G, M, K] x [K, N] and [M, K] x [K, N] split the columns or the inner dimension.
    """
    left, right = operand(op, "self").shape, operand(op, "mat2").shape
    batch = left[0] if len(left) == len(right) == 3 else 1
    return Work(macs=batch * left[-2] * left[-1] * right[-1])


@formula("aten::_weight_int8pack_mm", "aten::_weight_int4pack_mm", "aten::_dyn_quant_matmul_4bit")
def _packed_weight_mm(op: OpCall) -> Work:
    """Rows [M, K] times a packed weight: input elements * output columns."""
    return Work(macs=operand(op, "self", "inp").numel * result(op).shape[-1])


@formula("aten::bilinear")
def _bilinear(op: OpCall) -> Work:
    """y[n, o] = sum_ij x1[n, i] w[o, i, j] x2[n, j], as `_trilinear` computes it.

    First x1 with w, n * o * i * j multiply-adds, then with x2, n * o * j.
    """
    outs, first, second = operand(op, "weight").shape
    rows = operand(op, "input1").numel // first if first else 0
    return Work(macs=real_multiplies(op) * rows * outs * (first + 1) * second)


@formula("aten::_trilinear")
def _trilinear(op: OpCall) -> Work:
    """A sum over `sumdim` of i1 * i2 * i3, each with `expandN` dimensions inserted.

    i1 meets i2, summed over what i3 lacks; the remainder meets i3. With bilinear's arguments
    this is the count of `_bilinear`.
    """
    factors = [_inserted(operand(op, f"i{n}").shape, op.value(f"expand{n}", ())) for n in (1, 2, 3)]
    early = set(op.value("sumdim", ())) & set(op.value("expand3", ()))
    pair = product(broadcast(factors[0], factors[1]))
    everything = broadcast(*factors)
    rest = product([size for dim, size in enumerate(everything) if dim not in early])
    return Work(macs=real_multiplies(op) * (pair + rest))


@formula("aten::tensordot", whole=False)
def _tensordot(op: OpCall) -> Work:
    """Left elements times those dimensions of the right operand that are not summed over."""
    left, right = operand(op, "self"), operand(op, "other").shape
    summed = {dim % len(right) for dim in op.value("dims_other", ())}
    kept = [size for dim, size in enumerate(right) if dim not in summed]
    return Work(macs=real_multiplies(op) * left.numel * product(kept))


@formula("aten::inner", whole=False)
def _inner(op: OpCall) -> Work:
    """Over the last dimension of both: left elements times the rows of the right operand."""
    rows = product(operand(op, "other").shape[:-1])
    return Work(macs=real_multiplies(op) * operand(op, "self").numel * rows)


@formula("aten::einsum", whole=False)
def _einsum(op: OpCall) -> Work:
    shapes = [spec.shape for spec in op.tensors("tensors")]
    equation = op.value("equation")
    if not isinstance(equation, str) or not shapes:
        raise MissingOperandError("aten::einsum without its equation or tensors")
    work = einsum.work(equation, shapes, op.value("path"))
    return Work(real_multiplies(op) * work.macs, work.other_flops)


@formula("torchvision::deform_conv2d")
def _deform_conv2d(op: OpCall) -> Work:
    """A convolution whose every tap is sampled bilinearly first (Dai et al. 2017, eq. 2)."""
    data, weight = operand(op, "input"), operand(op, "weight")
    macs = convolution_macs(data, weight, result(op), transposed=False)
    return Work(macs, _deformed_sampling(op))


def _deformed_sampling(op: OpCall) -> int:
    """One interpolation per channel, tap and output position; coordinates once per offset group."""
    batch, channels = operand(op, "input").shape[:2]
    taps = product(operand(op, "weight").shape[2:])
    positions = batch * taps * product(result(op).shape[2:])
    per_sample = TERM["bilinear interpolation"] + bool(op.value("use_mask", False))
    per_location = TERM["deformed sample, per location"] * int(op.value("offset_groups", 1))
    return positions * (channels * per_sample + per_location)


def _product_macs(op: OpCall, left: TensorSpec, right: TensorSpec) -> int:
    """[..., n, m] x [..., m, p] or x [..., m]: left elements * p."""
    columns = right.shape[-1] if len(right.shape) == len(left.shape) else 1
    return real_multiplies(op) * left.numel * columns


def _added(op: OpCall, left: TensorSpec, right: TensorSpec) -> Work:
    return _scaled_sum(op, _product_macs(op, left, right))


def _scaled_sum(op: OpCall, macs: int) -> Work:
    """In beta * self + alpha * product a factor other than 0 and 1 costs one FLOP per output."""
    factors = (op.value("beta", 1), op.value("alpha", 1))
    scalings = sum(factor not in (0, 1) for factor in factors)
    unread = indices_of(op, "self") if factors[0] == 0 else ()
    return Work(macs, scalings * result(op).numel, bytes_read=bytes_read(op, unread=unread))


def _inserted(shape: Shape, positions: tuple[int, ...]) -> Shape:
    """The shape with a dimension of size 1 inserted at each of `positions`, in their order."""
    sizes = list(shape)
    for position in positions:
        sizes.insert(position, 1)
    return tuple(sizes)
