"""Attention and recurrent layers: multiply-adds and FLOPs by hand."""

from __future__ import annotations

import pytest
from opcalls import call, tensor

from flopscope.costs import price

BY_HEAD = [
    "scaled_dot_product_attention",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
    "_scaled_dot_product_attention_math",
]


def attention(name, query, key, value, answer=(2, 3, 5, 8), **more):
    return price(
        call(
            f"aten::{name}",
            tensor(*answer),
            query=tensor(*query),
            key=tensor(*key),
            value=tensor(*value),
            **more,
        )
    )


@pytest.mark.parametrize("name", BY_HEAD)
def test_attention_in_all_its_names(name):
    # 2 batches, 3 heads, 5 queries, 7 keys, 4 wide, values 8 wide: 210 scores
    cost = attention(name, (2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 8))
    assert cost.cost.macs == 210 * (4 + 8)
    assert cost.cost.flops == 2 * 210 * 12 + 210 * 6
    assert cost.fvcore_flops == cost.cost.macs
    # q 120, k 168, v 336 elements; no matrix of scores
    assert cost.cost.bytes_read == 4 * (120 + 168 + 336)
    assert cost.cost.bytes_written == 4 * 240


def test_a_causal_mask_counts_in_full():
    shapes = [(1, 2, 6, 4)] * 3
    causal = attention(BY_HEAD[0], *shapes, answer=(1, 2, 6, 4), is_causal=True)
    assert causal.cost == attention(BY_HEAD[0], *shapes, answer=(1, 2, 6, 4)).cost


def test_a_mask_tensor_is_added_to_each_score_and_read():
    shapes = [(1, 2, 6, 4)] * 3
    bare = attention(BY_HEAD[0], *shapes, answer=(1, 2, 6, 4)).cost
    masked = attention(BY_HEAD[0], *shapes, answer=(1, 2, 6, 4), attn_mask=tensor(6, 6)).cost
    assert masked.flops == bare.flops + 2 * 36
    assert masked.bytes_read == bare.bytes_read + 4 * 36


def test_grouped_keys_count_the_heads_of_the_query():
    # 8 query heads share 2 key heads
    cost = attention(
        BY_HEAD[0], (1, 8, 5, 4), (1, 2, 7, 4), (1, 2, 7, 4), answer=(1, 8, 5, 4), enable_gqa=True
    )
    assert cost.cost.macs == 8 * 5 * 7 * 8


def test_batches_broadcast():
    cost = attention(BY_HEAD[0], (1, 3, 5, 4), (2, 1, 7, 4), (2, 1, 7, 4), answer=(2, 3, 5, 4))
    assert cost.cost.macs == 2 * 3 * 5 * 7 * 8


def test_without_heads():
    assert attention(BY_HEAD[0], (5, 4), (7, 4), (7, 4), answer=(5, 4)).cost.macs == 5 * 7 * 8


@pytest.mark.parametrize("name", ["_flash_attention_forward", "_efficient_attention_forward"])
def test_kernels_with_heads_inside(name):
    # [B, L, H, E]: 2 batches, 5 queries, 7 keys, 3 heads
    cost = attention(name, (2, 5, 3, 4), (2, 7, 3, 4), (2, 7, 3, 4), answer=(2, 5, 3, 4))
    assert cost.cost.macs == 2 * 3 * 5 * 7 * 8


def test_a_packed_batch_counts_as_if_padded():
    # three sequences in 12 tokens, the longest 6: 3 * 6 * 6 scores a head
    cost = attention(
        "_flash_attention_forward",
        (12, 2, 4),
        (12, 2, 4),
        (12, 2, 4),
        answer=(12, 2, 4),
        cum_seq_q=tensor(4, dtype="int64"),
        cum_seq_k=tensor(4, dtype="int64"),
        max_q=6,
        max_k=6,
    )
    assert cost.cost.macs == 3 * 2 * 36 * 8


def test_a_nested_tensor_of_unknown_shape_is_listed():
    assert attention(BY_HEAD[1], (96,), (96,), (96,), answer=(96,)).priced_by == "uncosted"


def test_fused_multi_head_attention():
    # 2 sequences of 10, 64 wide, 4 heads: 20 tokens meet 4 * 64 * 64 weights; 2 * 4 * 100 scores of 16 + 16
    source = tensor(2, 10, 64)
    weights = {"qkv_weight": tensor(192, 64), "proj_weight": tensor(64, 64)}
    cost = price(
        call(
            "aten::_native_multi_head_attention",
            tensor(2, 10, 64),
            query=source,
            key=source,
            value=source,
            embed_dim=64,
            num_head=4,
            need_weights=False,
            **weights,
        )
    ).cost
    assert cost.macs == 20 * 4 * 4096 + 800 * 32 == 353_280
    assert cost.flops == 2 * 353_280 + 800 * 6
    # query, key and value are one tensor: read once
    assert cost.bytes_read == 4 * (1280 + 4 * 4096)


def test_fused_encoder_layer():
    # as above, and 20 tokens through 64 -> 128 -> 64
    cost = price(
        call(
            "aten::_transformer_encoder_layer_fwd",
            tensor(2, 10, 64),
            src=tensor(2, 10, 64),
            num_heads=4,
            ffn_weight_1=tensor(128, 64),
            ffn_weight_2=tensor(64, 128),
            use_gelu=False,
        )
    ).cost
    assert cost.macs == 353_280 + 20 * 2 * 64 * 128 == 680_960
    # scores 6 each; two norms of 7 and two additions per element; a relu per hidden element
    assert cost.flops == 2 * cost.macs + 800 * 6 + 1280 * 2 * (7 + 1) + 20 * 128


# ----------------------------------------------------------------- recurrent


def stack(gates, inputs, units, *, layers=1, directions=1, projected=0):
    """Parameters in torch's order: w_ih, w_hh, b_ih, b_hh, and w_hr where projected."""
    parameters = []
    state = projected or units
    for layer in range(layers):
        width = inputs if layer == 0 else state * directions
        for _ in range(directions):
            parameters += [tensor(gates * units, width), tensor(gates * units, state)]
            parameters += [tensor(gates * units), tensor(gates * units)]
            parameters += [tensor(projected, units)] if projected else []
    return parameters


def recurrent(name, parameters, tokens=(5, 2), inputs=8, **more):
    data = {"data" if len(tokens) == 1 else "input": tensor(*tokens, inputs)}
    answer = tensor(*tokens, 16)
    return price(
        call(name, answer, **data, hx=[tensor(1, 2, 16)], params=parameters, has_biases=True, **more)
    ).cost


@pytest.mark.parametrize(
    ("name", "gates", "per_unit"),
    [("aten::lstm", 4, 18), ("aten::gru", 3, 14), ("aten::rnn_tanh", 1, 1), ("aten::rnn_relu", 1, 1)],
)
def test_gates(name, gates, per_unit):
    # 10 tokens; each gate has 16 * 8 input and 16 * 16 recurrent weights
    cost = recurrent(name, stack(gates, 8, 16), num_layers=1, bidirectional=False)
    assert cost.macs == 10 * gates * (128 + 256)
    assert cost.flops == 2 * cost.macs + 10 * 16 * per_unit


def test_layers_and_directions():
    # layer 1: 2 * 4 * 16 * (8 + 16); layer 2 reads both directions: 2 * 4 * 16 * (32 + 16)
    parameters = stack(4, 8, 16, layers=2, directions=2)
    cost = recurrent("aten::lstm", parameters, num_layers=2, bidirectional=True)
    assert cost.macs == 10 * (2 * 64 * 24 + 2 * 64 * 48)
    assert cost.flops == 2 * cost.macs + 10 * 16 * 18 * 4


def test_projection():
    # R = 4: 64 * (8 + 4) gate weights and 4 * 16 for the projection
    cost = recurrent("aten::lstm", stack(4, 8, 16, projected=4), num_layers=1, bidirectional=False)
    assert cost.macs == 10 * (64 * 12 + 64)


def test_packed_sequences_count_their_tokens():
    cost = recurrent("aten::gru", stack(3, 8, 16), tokens=(7,), num_layers=1, bidirectional=False)
    assert cost.macs == 7 * 48 * 24


def test_weights_are_read_once_per_call():
    cost = recurrent("aten::lstm", stack(4, 8, 16), num_layers=1, bidirectional=False)
    # input 80, state 32, weights 64 * 24, biases 128
    assert cost.bytes_read == 4 * (80 + 32 + 64 * 24 + 128)


def test_one_layer_of_onednn():
    weights = {f"weight{n}": w for n, w in enumerate(stack(4, 8, 16))}
    cost = price(
        call("aten::mkldnn_rnn_layer", tensor(5, 2, 16), input=tensor(5, 2, 8), **weights, mode=2)
    ).cost
    assert cost.macs == 10 * 64 * 24
    assert cost.flops == 2 * cost.macs + 10 * 16 * 18


def test_cudnn_takes_all_weights_at_once():
    weights = stack(3, 8, 16, layers=2)
    cost = price(
        call(
            "aten::_cudnn_rnn", tensor(5, 2, 16), input=tensor(5, 2, 8), weight=weights, mode=3, num_layers=2
        )
    ).cost
    assert cost.macs == 10 * (48 * 24 + 48 * 32)


@pytest.mark.parametrize(("name", "gates", "per_unit"), [("lstm", 4, 18), ("gru", 3, 14), ("rnn_tanh", 1, 1)])
def test_cells(name, gates, per_unit):
    parts = {"w_ih": tensor(gates * 16, 8), "w_hh": tensor(gates * 16, 16)}
    cost = price(
        call(f"aten::{name}_cell", tensor(2, 16), input=tensor(2, 8), hx=tensor(2, 16), **parts)
    ).cost
    assert cost.macs == 2 * gates * 16 * 24
    assert cost.flops == 2 * cost.macs + 2 * 16 * per_unit


# ----------------------------------------------------------------- gradients


def test_the_gradient_of_a_convolution_is_twice_the_forward():
    # depthwise, where counting without groups goes wrong: 64 * 3136 * 9 forward
    cost = price(
        call(
            "aten::convolution_backward",
            [tensor(1, 64, 56, 56), tensor(64, 1, 3, 3)],
            grad_output=tensor(1, 64, 56, 56),
            input=tensor(1, 64, 56, 56),
            weight=tensor(64, 1, 3, 3),
            transposed=False,
            output_mask=(True, True, False),
        )
    ).cost
    assert cost.macs == 2 * 64 * 3136 * 9
    assert cost.flops == 2 * cost.macs


def test_the_gradient_of_attention_is_five_products():
    shapes = {name: tensor(1, 2, 6, 4) for name in ("grad_out", "query", "key", "value", "out")}
    name = "aten::_scaled_dot_product_flash_attention_for_cpu_backward"
    cost = price(call(name, [tensor(1, 2, 6, 4)] * 3, **shapes)).cost
    assert cost.macs == 72 * 5 * 4
