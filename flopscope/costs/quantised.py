"""Quantised linear layers and convolutions: their integer multiply-adds count as MACs.

Their weights hide in a packed object. A call prices if it comes with `weight_shape`, the shape of
the unpacked weight; else it is listed as uncosted. Weights are taken as one byte each.
"""

from __future__ import annotations

from flopscope.costs.operands import MissingOperandError, operand, product, result
from flopscope.costs.registry import Work, formula
from flopscope.costs.traffic import bytes_read
from flopscope.records import OpCall, Shape

_LINEAR = """
    linear linear_relu linear_leaky_relu linear_tanh linear_dynamic linear_relu_dynamic
    linear_dynamic_fp16 linear_relu_dynamic_fp16 linear_with_input_q_dq_qweight_dq_output_fp32
    linear_with_input_q_dq_qweight_dq_relu_output_fp32
"""
_CONVOLUTIONS = """
    conv1d conv2d conv3d conv1d_relu conv2d_relu conv3d_relu conv2d_add conv2d_add_relu
    conv1d_dynamic conv2d_dynamic conv3d_dynamic
"""
_TRANSPOSED = """
    conv_transpose1d conv_transpose2d conv_transpose3d conv_transpose1d_dynamic
    conv_transpose2d_dynamic conv_transpose3d_dynamic
"""
_ELEMENTWISE = """
    add add_relu mul mul_relu add_scalar add_scalar_relu mul_scalar mul_scalar_relu cat cat_relu
    batch_norm batch_norm1d batch_norm2d batch_norm3d batch_norm_relu batch_norm1d_relu
    batch_norm2d_relu batch_norm3d_relu relu6 leaky_relu hardswish sigmoid elu celu threshold
"""


@formula(*(f"quantized::{name}" for name in _LINEAR.split()))
def _linear(op: OpCall) -> Work:
    """Input elements times the weight's rows."""
    weight = _weight_shape(op)
    return _with_weight(op, operand(op, "X", "qx").numel * weight[0], weight)


@formula(*(f"quantized::{name}" for name in _CONVOLUTIONS.split()))
def _convolution(op: OpCall) -> Work:
    """Output elements * C_in / groups * prod(k), weight [C_out, C_in / groups, *k]."""
    weight = _weight_shape(op)
    return _with_weight(op, result(op).numel * product(weight[1:]), weight)


@formula(*(f"quantized::{name}" for name in _TRANSPOSED.split()))
def _transposed_convolution(op: OpCall) -> Work:
    """Input elements * C_out / groups * prod(k), weight [C_in, C_out / groups, *k]."""
    weight = _weight_shape(op)
    return _with_weight(op, operand(op, "qx").numel * product(weight[1:]), weight)


@formula("quantized::matmul")
def _matmul(op: OpCall) -> Work:
    return Work(macs=operand(op, "qa").numel * result(op).shape[-1])


@formula("onednn::qlinear_pointwise")
def _onednn_linear(op: OpCall) -> Work:
    """The prepacked weight may be transposed: the output tells the columns."""
    return Work(macs=operand(op, "qx").numel * result(op).shape[-1])


@formula(
    "onednn::qconv_pointwise",
    "onednn::qconv1d_pointwise",
    "onednn::qconv2d_pointwise",
    "onednn::qconv3d_pointwise",
)
def _onednn_convolution(op: OpCall) -> Work:
    """Each output element meets the weight of its channel."""
    weight, answer = operand(op, "qw"), result(op)
    return Work(macs=answer.numel * weight.numel // answer.shape[1])


@formula(*(f"quantized::{name}" for name in _ELEMENTWISE.split()))
def _integer_arithmetic(_: OpCall) -> Work:
    """Integers in, integers out: bytes, no FLOPs."""
    return Work()


def _weight_shape(op: OpCall) -> Shape:
    shape = op.value("weight_shape")
    if not shape:
        raise MissingOperandError(f"{op.op} came without the shape of its packed weight")
    return tuple(shape)


def _with_weight(op: OpCall, macs: int, weight: Shape) -> Work:
    return Work(macs, bytes_read=bytes_read(op) + product(weight))
