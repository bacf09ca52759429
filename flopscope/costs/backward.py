"""Gradients: a contraction's costs as much as the contraction for each operand that wants one."""

from __future__ import annotations

from flopscope.costs.attention import Scores, scores_by_head, scores_by_token
from flopscope.costs.contractions import convolution_macs
from flopscope.costs.operands import operand, product, real_multiplies, result
from flopscope.costs.recurrent import layer_macs
from flopscope.costs.registry import Formula, Work, formula, in_aten
from flopscope.costs.resampling import windows
from flopscope.costs.traffic import bytes_read, indices_of
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
    "native_batch_norm_backward": 9,
    "cudnn_batch_norm_backward": 9,
    "batch_norm_backward": 9,
    "native_layer_norm_backward": 12,
    "native_group_norm_backward": 12,
    "max_pool2d_with_indices_backward": 1,
    "max_pool3d_with_indices_backward": 1,
    "mkldnn_max_pool2d_backward": 1,
    "mkldnn_max_pool3d_backward": 1,
    "fractional_max_pool2d_backward": 1,
    "fractional_max_pool3d_backward": 1,
    "adaptive_max_pool2d_backward": 1,
    "adaptive_max_pool3d_backward": 1,
    "upsample_nearest1d_backward": 1,
    "upsample_nearest2d_backward": 1,
    "upsample_nearest3d_backward": 1,
    "_upsample_nearest_exact1d_backward": 1,
    "_upsample_nearest_exact2d_backward": 1,
    "_upsample_nearest_exact3d_backward": 1,
    "upsample_linear1d_backward": 4,
    "upsample_bilinear2d_backward": 8,
    "upsample_trilinear3d_backward": 16,
    "upsample_bicubic2d_backward": 32,
    "embedding_dense_backward": 1,
    "reflection_pad1d_backward": 1,
    "reflection_pad2d_backward": 1,
    "reflection_pad3d_backward": 1,
    "replication_pad1d_backward": 1,
    "replication_pad2d_backward": 1,
    "replication_pad3d_backward": 1,
    "native_dropout_backward": 2,
    "hardshrink_backward": 2,
    "softshrink_backward": 2,
    "rrelu_with_noise_backward": 2,
    "_prelu_kernel_backward": 4,
    "_masked_softmax_backward": 4,
    "smooth_l1_loss_backward": 5,
    "huber_loss_backward": 5,
    "binary_cross_entropy_backward": 6,
    "_weight_norm_interface_backward": 6,
    "log_sigmoid_backward": 7,
    "_fused_rms_norm_backward": 9,
}
"""FLOPs per element of the incoming gradient; of a reduced loss's, per element of the result."""

# Arguments that lend nothing but their shape, or that a training step does not look at.
_UNREAD = {
    **dict.fromkeys(in_aten("max_pool2d_with_indices_backward max_pool3d_with_indices_backward"), ("self",)),
    **dict.fromkeys(in_aten("adaptive_max_pool2d_backward adaptive_max_pool3d_backward"), ("self",)),
    **dict.fromkeys((f"aten::{name}" for name in PER_GRADIENT if "_pad" in name), ("self",)),
    "aten::native_layer_norm_backward": ("bias",),
}
_SCORE_BACKWARD = 6

# Of a unit and step: tanh of the cell 1; output gate 1 + 3; the cell's gradient 5; input and candidate
# gate 1 + 3 each; forget gate 1 + 3; what goes on to the cell before 1.
LSTM_UNIT = 23


@formula("aten::convolution_backward", "aten::convolution_backward_overrideable")
def _convolution_backward(op: OpCall) -> Work:
    """The forward count for the gradient of the input, again for the weight's; a sum for the bias."""
    gradient, data, weight = operand(op, "grad_output"), operand(op, "input"), operand(op, "weight")
    transposed = bool(op.value("transposed", False))
    once = real_multiplies(op) * convolution_macs(data, weight, gradient, transposed=transposed)
    work = _by_mask(op, once, gradient.numel)
    of_input, of_weight, _ = op.value("output_mask", (True, True, True))
    unread = (
        *(() if of_input else indices_of(op, "weight")),
        *(() if of_weight else indices_of(op, "input")),
    )
    return Work(work.macs, work.other_flops, bytes_read=bytes_read(op, unread=unread))


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
        gradient = operand(op, "grad_output", "grad_out", "grad", "grad_w")
        elements = max(gradient.numel, result(op).numel) if "loss" in name else gradient.numel
        unread = [index for lender in _unread(op) for index in indices_of(op, lender)]
        return Work(other_flops=PER_GRADIENT[name] * elements, bytes_read=bytes_read(op, unread=unread))

    return price_gradient


for _name in PER_GRADIENT:
    formula(f"aten::{_name}")(_per_gradient(_name))


@formula("aten::avg_pool2d_backward", "aten::avg_pool3d_backward")
def _average_pool_backward(op: OpCall) -> Work:
    """Each gradient is spread over its window."""
    rank = int(op.op.partition("pool")[2][0])
    sizes = op.value("kernel_size", ())
    sizes = (sizes,) * rank if isinstance(sizes, int) else tuple(sizes) * (rank if len(sizes) == 1 else 1)
    spread = operand(op, "grad_output").numel * product(sizes)
    return Work(other_flops=spread, bytes_read=bytes_read(op, unread=indices_of(op, "self")))


@formula("aten::_adaptive_avg_pool2d_backward", "aten::_adaptive_avg_pool3d_backward")
def _adaptive_pool_backward(op: OpCall) -> Work:
    """Each gradient is spread over its window, whose sizes differ."""
    source, gradient = operand(op, "self"), operand(op, "grad_output")
    spread = windows(source.shape, gradient.shape, rank=int(op.op.partition("pool")[2][0]))
    return Work(other_flops=spread, bytes_read=bytes_read(op, unread=indices_of(op, "self")))


@formula("aten::nll_loss_backward", "aten::nll_loss2d_backward")
def _picked_backward(op: OpCall) -> Work:
    """One number per target; the log-probabilities lend only their shape."""
    targets = operand(op, "target").numel
    return Work(other_flops=targets, bytes_read=bytes_read(op, unread=indices_of(op, "self")))


@formula("aten::mkldnn_rnn_layer_backward")
def _lstm_layer_backward(op: OpCall) -> Work:
    """Twice the forward: both matrices meet the gates' gradients, and so do both their operands.

    The gradient of the input is computed, wanted or not. A bias has four sums per unit and step.
    """
    data, weights = operand(op, "input"), (operand(op, "weight1"), operand(op, "weight2"))
    tokens = product(data.shape[:-1])
    units = weights[0].shape[0] // 4
    biases = 4 if op.value("has_biases", True) else 0
    flops = (LSTM_UNIT + biases) * tokens * units
    read = bytes_read(op, unread=indices_of(op, "workspace"))  # of a size that only the library knows
    return Work(2 * layer_macs(tokens, weights), flops, bytes_read=read)


@formula("aten::_cudnn_rnn_backward", "aten::miopen_rnn_backward")
def _stacked_backward(op: OpCall) -> Work | None:
    """The forward's products for the input and, where wanted, again for the weights; LSTM only."""
    if op.value("mode") != 2:
        return None
    weights, data = op.tensors("weight"), operand(op, "input")
    tokens = product(data.shape[:-1])
    stacked = op.value("num_layers", 1) * (2 if op.value("bidirectional", False) else 1)
    once = layer_macs(tokens, weights)
    wanted = tuple(op.value("output_mask", (True, True, True, True)))
    return Work(once * (1 + bool(wanted[-1])), LSTM_UNIT * tokens * op.value("hidden_size", 0) * stacked)


def _unread(op: OpCall) -> tuple[str, ...]:
    """What the kernel does not look at; of batch norm the statistics that are not those in force."""
    if "batch_norm" in op.op:
        training = bool(op.value("train", True))
        return ("running_mean", "running_var") if training else ("save_mean", "save_invstd")
    return _UNREAD.get(op.op, ())


def _by_mask(op: OpCall, once: int, bias_flops: int) -> Work:
    """`output_mask` says which gradients of (input, weight, bias) are wanted."""
    wanted = tuple(op.value("output_mask", (True, True, True)))
    return Work(once * (bool(wanted[0]) + bool(wanted[1])), bias_flops if wanted[2] else 0)


def _five_products(scores: Scores) -> Work:
    macs = scores.pairs * (3 * scores.query_dim + 2 * scores.value_dim)
    return Work(macs, _SCORE_BACKWARD * scores.pairs)
