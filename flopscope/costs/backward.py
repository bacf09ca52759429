"""Gradients: a contraction's costs as much as the contraction for each operand that wants one."""

from __future__ import annotations

from flopscope.costs.attention import Scores, scores_by_head, scores_by_token
from flopscope.costs.contractions import convolution_macs
from flopscope.costs.operands import operand, product, real_multiplies
from flopscope.costs.registry import Formula, Work, formula
from flopscope.records import OpCall

PER_GRADIENT = {
    "sigmoid_backward": 3,
    "tanh_backward": 3,
    "leaky_relu_backward": 2,
    "hardtanh_backward": 2,
    "elu_backward": 4,
    "hardsigmoid_backward": 3,
    "hardswish_backward": 5,
    "silu_backward": 9,
    "gelu_backward": 11,
    "softplus_backward": 5,
    "_softmax_backward_data": 4,
    "_log_softmax_backward_data": 4,
    "glu_backward": 9,
    "mse_loss_backward": 3,
    "nll_loss_backward": 0,
    "native_batch_norm_backward": 9,
    "cudnn_batch_norm_backward": 9,
    "batch_norm_backward": 9,
    "native_layer_norm_backward": 12,
    "native_group_norm_backward": 12,
    "max_pool2d_with_indices_backward": 1,
    "max_pool3d_with_indices_backward": 1,
    "adaptive_max_pool2d_backward": 1,
    "_adaptive_avg_pool2d_backward": 1,
    "upsample_nearest2d_backward": 1,
    "upsample_bilinear2d_backward": 8,
    "upsample_bicubic2d_backward": 32,
    "embedding_dense_backward": 1,
}
"""FLOPs per element of the incoming gradient."""

_SCORE_BACKWARD = 6


@formula("aten::convolution_backward", "aten::convolution_backward_overrideable")
def _convolution_backward(op: OpCall) -> Work:
    """The forward count for the gradient of the input, again for the weight's; a sum for the bias."""
    gradient, data, weight = operand(op, "grad_output"), operand(op, "input"), operand(op, "weight")
    transposed = bool(op.value("transposed", False))
    once = real_multiplies(op) * convolution_macs(data, weight, gradient, transposed=transposed)
    return _by_mask(op, once, gradient.numel)


@formula("aten::linear_backward", "aten::mkldnn_linear_backward")
def _linear_backward(op: OpCall) -> Work:
    gradient, weight = operand(op, "grad_output"), operand(op, "weight")
    once = real_multiplies(op) * gradient.numel * weight.shape[-1]
    return _by_mask(op, once, gradient.numel)


@formula(
    "aten::_scaled_dot_product_flash_attention_backward",
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
    "aten::_scaled_dot_product_efficient_attention_backward",
    "aten::_scaled_dot_product_cudnn_attention_backward",
    "aten::_scaled_dot_product_fused_attention_overrideable_backward",
)
def _attention_backward(op: OpCall) -> Work:
    """Five products: scores anew, gradients of V, P, Q and K (Dao et al. 2022, algorithm 4)."""
    return _five_products(scores_by_head(op))


@formula("aten::_flash_attention_backward", "aten::_efficient_attention_backward")
def _attention_by_token_backward(op: OpCall) -> Work:
    return _five_products(scores_by_token(op))


def _per_gradient(name: str) -> Formula:
    def price_gradient(op: OpCall) -> Work:
        """Elements of the incoming gradient times the table's number."""
        gradient = operand(op, "grad_output", "grad_out", "grad")
        return Work(other_flops=PER_GRADIENT[name] * gradient.numel)

    return price_gradient


for _name in PER_GRADIENT:
    formula(f"aten::{_name}")(_per_gradient(_name))


@formula("aten::avg_pool2d_backward", "aten::avg_pool3d_backward")
def _average_pool_backward(op: OpCall) -> Work:
    """Each gradient is spread over its window."""
    return Work(other_flops=operand(op, "grad_output").numel * product(op.value("kernel_size", ())))


def _by_mask(op: OpCall, once: int, bias_flops: int) -> Work:
    """`output_mask` says which gradients of (input, weight, bias) are wanted."""
    wanted = tuple(op.value("output_mask", (True, True, True)))
    return Work(once * (bool(wanted[0]) + bool(wanted[1])), bias_flops if wanted[2] else 0)


def _five_products(scores: Scores) -> Work:
    macs = scores.pairs * (3 * scores.query_dim + 2 * scores.value_dim)
    return Work(macs, _SCORE_BACKWARD * scores.pairs)
