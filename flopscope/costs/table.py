"""How many FLOPs an element costs: the one table of numbers, printed in docs/conventions.md.

Counted are the elementary real operations of the definition, one each: + - * / negate, absolute
value, maximum, compare-and-select, round, square root and its inverse, exp, log, pow, sin, erf,
tanh. A window or reduction of n values counts n.
"""

from __future__ import annotations

from collections.abc import Mapping


def _each(flops: int, words: str) -> Mapping[str, int]:
    return dict.fromkeys(words.split(), flops)


PER_OUTPUT: Mapping[str, int] = {
    **_each(1, "abs add sub rsub mul div neg exp log sqrt rsqrt reciprocal pow square sin cos tanh erf"),
    **_each(1, "maximum minimum clamp_min clamp_max relu threshold"),
    **_each(2, "leaky_relu prelu _prelu_kernel rrelu rrelu_with_noise hardtanh relu6 hardshrink"),
    **_each(2, "xlogy dequantize"),
    **_each(3, "softshrink lerp logit linalg_cross"),
    **_each(4, "sigmoid hardsigmoid elu polar"),
    **_each(5, "silu hardswish celu selu mish glu gelu quantize_per_tensor quantize_per_channel"),
    **_each(6, "softplus"),
    **_each(7, "log_sigmoid log_sigmoid_forward"),
    **_each(8, "logaddexp logaddexp2"),
}
"""FLOPs per output element of point-wise ops; what is not named and has torch's tag counts 1."""

PER_INPUT: Mapping[str, int] = {
    **_each(1, "sum mean prod amax amin max min nansum cumsum cumprod cummax cummin col2im"),
    **_each(3, "_weight_norm_interface"),
    **_each(4, "var std var_mean std_mean logsumexp"),
    **_each(5, "softmax _softmax _safe_softmax log_softmax _log_softmax"),
    **_each(6, "_masked_softmax"),
    **_each(8, "logcumsumexp"),
}
"""FLOPs per element of the first input; reductions that are not named count 1 by torch's tag."""

PER_PAIR: Mapping[str, int] = {
    "mse_loss": 2,
    "smooth_l1_loss": 6,
    "huber_loss": 6,
    "binary_cross_entropy": 7,
    "binary_cross_entropy_with_logits": 10,
}
"""FLOPs per element of a loss, and 1 more where it is reduced."""

PER_OUTPUT_COMPLEX: Mapping[str, int] = {
    "add": 2,
    "sub": 2,
    "rsub": 2,
    "mul": 6,
    "div": 11,
    "abs": 4,
    "polar": 4,
}
"""FLOPs per complex output element; other ops count twice their real number."""

TERM: Mapping[str, int] = {
    "batch norm with running statistics": 2,
    "normalisation by own statistics": 5,
    "its weight": 1,
    "its bias": 1,
    "rms norm": 3,
    "rms norm, per row": 2,
    "dropout in training": 2,
    "attention score": 6,
    "attention score, masked": 1,
    "lstm unit": 18,
    "gru unit": 14,
    "rnn unit": 1,
    "gelu by tanh": 9,
    "fake quantize": 7,
    "linear interpolation": 3,
    "bilinear interpolation": 7,
    "trilinear interpolation": 15,
    "bicubic interpolation": 31,
    "nearest interpolation": 0,
    "grid sample, per 2d location": 18,
    "grid sample, per 3d location": 37,
    "deformed sample, per location": 12,
    "region sample": 8,
}
"""FLOPs per element, score, unit, sample or location of everything else."""
