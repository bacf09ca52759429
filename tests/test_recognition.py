"""Kinds of single ops and of attention, on records made by hand."""

from __future__ import annotations

import pytest
from traces import Run

from flopscope.recognition import kind_of_op, kinds
from flopscope.records import KINDS, Input


def _convolution(weight: tuple[int, ...], channels: int, **settings: object) -> str:
    run = Run()
    image = run.input(1, channels, *(8,) * (len(weight) - 2))
    run.conv(image, run.parameter("conv.weight", *weight), **settings)  # type: ignore[arg-type]
    return kind_of_op(run.ops[0])


@pytest.mark.parametrize(
    ("weight", "channels", "settings", "kind"),
    [
        ((16, 8, 3, 3), 8, {}, "conv"),
        ((8, 1, 3, 3), 8, {"groups": 8}, "depthwise_conv"),
        ((16, 1, 3, 3), 8, {"groups": 8}, "depthwise_conv"),  # two filters for each channel
        ((8, 1, 1, 1), 8, {"groups": 8}, "depthwise_conv"),
        ((16, 2, 3, 3), 8, {"groups": 4}, "group_conv"),
        ((16, 2, 1, 1), 8, {"groups": 4}, "group_conv"),
        ((16, 8, 1, 1), 8, {}, "pointwise_conv"),
        ((16, 8, 1, 1), 8, {"stride": 2}, "pointwise_conv"),
        ((16, 8, 1, 3), 8, {}, "conv"),
        ((4, 1, 3, 3), 1, {}, "conv"),  # one group of one channel is dense
        ((16, 8, 1), 8, {}, "pointwise_conv"),
        ((8, 1, 3, 3, 3), 8, {"groups": 8}, "depthwise_conv"),
        ((8, 16, 2, 2), 8, {"transposed": True}, "transposed_conv"),
        ((8, 1, 2, 2), 8, {"transposed": True, "groups": 8}, "transposed_conv"),
    ],
)
def test_convolutions_are_told_apart_by_geometry(weight, channels, settings, kind) -> None:
    assert _convolution(weight, channels, **settings) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::linear", "linear"),
        ("aten::bilinear", "linear"),
        ("aten::bmm", "matmul"),
        ("aten::scaled_dot_product_attention", "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::_native_multi_head_attention", "attention"),
        ("aten::_transformer_encoder_layer_fwd", "attention"),
        ("aten::lstm", "recurrent"),
        ("aten::mkldnn_rnn_layer", "recurrent"),
        ("aten::batch_norm", "batch_norm"),
        ("aten::_native_batch_norm_legit_no_training", "batch_norm"),
        ("aten::native_batch_norm_backward", "batch_norm"),
        ("aten::layer_norm", "norm"),
        ("aten::native_group_norm", "norm"),
        ("aten::relu_", "activation"),
        ("aten::_softmax", "activation"),
        ("aten::threshold_backward", "activation"),
        ("aten::adaptive_avg_pool2d", "pooling"),
        ("aten::max_pool2d_with_indices", "pooling"),
        ("aten::upsample_bilinear2d", "resampling"),
        ("aten::embedding", "embedding"),
        ("aten::add_", "elementwise"),
        ("aten::mean", "reduction"),
        ("aten::cat", "data_movement"),
        ("aten::_to_copy", "data_movement"),
        ("aten::copy_", "data_movement"),
        ("torchvision::nms", "other"),
        ("mylib::frobnicate", "other"),
    ],
)
def test_families_by_name(name, kind) -> None:
    run = Run()
    run.op(name, run.input(2, 2))
    assert kind_of_op(run.ops[0]) == kind
    assert kind in KINDS


@pytest.mark.parametrize(
    ("tag", "kind"), [("pointwise", "elementwise"), ("reduction", "reduction"), ("core", "other")]
)
def test_unknown_ops_go_by_torchs_tags(tag, kind) -> None:
    run = Run()
    run.op("mylib::frobnicate", run.input(2, 2), tags=(tag,))
    assert kind_of_op(run.ops[0]) == kind


def test_a_view_moves_nothing_whatever_its_name() -> None:
    run = Run()
    run.view("aten::dropout", run.input(2, 2), (2, 2))
    assert kind_of_op(run.ops[0]) == "data_movement"


def test_a_product_with_a_weight_is_linear() -> None:
    run = Run()
    tokens, weight = run.input(5, 4), run.parameter("head.weight", 4, 3)
    bias = run.parameter("head.bias", 3)
    run.op("aten::mm", tokens, weight, out=(5, 3))
    run.op("aten::addmm", bias, tokens, weight, out=(5, 3), self=Input(0), mat1=Input(1), mat2=Input(2))
    run.op("aten::mm", tokens, tokens, out=(5, 5))
    scores = run.op("aten::mm", tokens, tokens, out=(5, 3))
    run.op("aten::addmm", bias, tokens, scores, out=(5, 3), self=Input(0), mat1=Input(1), mat2=Input(2))
    assert kinds(run.trace()) == ("linear", "linear", "matmul", "matmul", "matmul")


def test_two_products_round_a_softmax_are_attention() -> None:
    run = Run()
    query, key, value = run.input(2, 5, 4), run.input(2, 4, 5), run.input(2, 5, 4)
    scores = run.op("aten::bmm", query, key, out=(2, 5, 5))
    scaled = run.op("aten::mul", scores)
    masked = run.write("aten::add_", scaled, run.parameter("bias", 1, 5, 5))
    weights = run.op("aten::_softmax", masked)
    run.op("aten::bmm", run.view("aten::view", weights, (2, 5, 5)), value, out=(2, 5, 4))
    run.op("aten::bmm", query, key, out=(2, 5, 5))  # has no softmax behind it
    found = kinds(run.trace())
    assert found == (
        "attention", "elementwise", "elementwise", "activation", "data_movement", "attention", "matmul"
    )  # fmt: skip


def test_attention_is_seen_through_the_guard_of_a_safe_softmax() -> None:
    """Decomposed graphs put zeros where a whole row was masked: `where(dead, zeros, softmax)`."""
    run = Run()
    query, key, value = run.input(2, 5, 4), run.input(2, 4, 5), run.input(2, 5, 4)
    scores = run.op("aten::bmm", query, key, out=(2, 5, 5))
    weights = run.op("aten::_softmax", scores)
    dead = run.op("aten::any", run.op("aten::eq", scores), out=(2, 5, 1))
    run.op("aten::bmm", run.op("aten::where", dead, run.op("aten::zeros_like", weights), weights), value)
    assert [kinds(run.trace())[at] for at in (0, 6)] == ["attention", "attention"]


def test_softmax_over_a_learned_routing_is_no_attention() -> None:
    run = Run()
    tokens = run.input(6, 4)
    weights = run.op("aten::softmax", run.op("aten::mm", tokens, run.parameter("router", 4, 3), out=(6, 3)))
    experts = run.op("aten::relu", run.input(3, 4))
    run.op("aten::mm", weights, experts, out=(6, 4))
    assert kinds(run.trace()) == ("linear", "activation", "activation", "matmul")
