"""The geometry of convolutions from their arguments, and the FLOPs that padding and masks leave out."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opcalls import call, tensor

from flopscope.records import Convolution, Cost, OpCall, OpCost
from flopscope.roofline import convolution_of, executed_flops


def _priced(macs: int, other: int = 0) -> OpCost:
    return OpCost(Cost(macs, 2 * macs + other), "formula")


def _plain(size: int, kernel: int, *, channels: int = 1, **settings: object) -> OpCall:
    data, weight = tensor(1, channels, size, size), tensor(channels, 1, kernel, kernel)
    settings = {"stride": (1, 1), "padding": (kernel // 2,) * 2, "groups": channels, **settings}
    made = tensor(1, channels, size, size)
    return call("aten::convolution", made, input=data, weight=weight, bias=None, **settings)


def test_every_field_of_a_convolution() -> None:
    data, weight = tensor(2, 8, 10, 9), tensor(16, 4, 3, 5)
    op = call(
        "aten::convolution", tensor(2, 16, 4, 9), input=data, weight=weight, bias=tensor(16),
        stride=(2, 1), padding=(0, 4), dilation=(1, 2), groups=2, transposed=False,
    )  # fmt: skip
    expected = Convolution(
        batch=2, in_channels=8, out_channels=16, groups=2, input_size=(10, 9), output_size=(4, 9),
        kernel=(3, 5), stride=(2, 1), padding=(0, 4), dilation=(1, 2), dtype="float32", bias=True,
    )  # fmt: skip
    assert convolution_of(op) == expected


def test_what_is_left_out_has_its_default() -> None:
    op = call("aten::convolution", tensor(1, 4, 6), input=tensor(1, 4, 8), weight=tensor(4, 4, 3))
    found = convolution_of(op)
    assert found is not None
    assert (found.stride, found.padding, found.dilation, found.groups) == ((1,), (0,), (1,), 1)
    assert [found.transposed, found.bias, found.channels_last] == [False] * 3


def test_one_number_serves_all_dimensions() -> None:
    op = call("aten::conv2d", tensor(1, 4, 4, 4), input=tensor(1, 4, 8, 8), weight=tensor(4, 4, 3, 3),
              stride=2, padding=(1,))  # fmt: skip
    found = convolution_of(op)
    assert found is not None
    assert (found.stride, found.padding) == ((2, 2), (1, 1))


def test_without_a_batch_it_is_one() -> None:
    op = call("aten::convolution", tensor(8, 6, 6), input=tensor(4, 8, 8), weight=tensor(8, 4, 3, 3))
    found = convolution_of(op)
    assert found is not None
    assert (found.batch, found.in_channels, found.output_size) == (1, 4, (6, 6))


@pytest.mark.parametrize("spelling", ["argument", "name"])
def test_transposed_channels_stand_the_other_way_round(spelling: str) -> None:
    given = {"transposed": True} if spelling == "argument" else {}
    name = "aten::convolution" if given else "aten::conv_transpose2d"
    op = call(name, tensor(1, 6, 8, 8), input=tensor(1, 4, 4, 4), weight=tensor(4, 3, 2, 2),
              stride=(2, 2), groups=2, **given)  # fmt: skip
    found = convolution_of(op)
    assert found is not None
    assert found.transposed
    assert (found.in_channels, found.out_channels) == (4, 6)  # 3 per group, 2 groups
    assert (found.input_size, found.output_size) == ((4, 4), (8, 8))


def test_the_gradient_of_a_convolution_has_its_geometry() -> None:
    data, weight, gradient = tensor(2, 4, 8, 8), tensor(6, 4, 3, 3), tensor(2, 6, 4, 4)
    op = call(
        "aten::convolution_backward", (tensor(2, 4, 8, 8), tensor(6, 4, 3, 3)), grad_output=gradient,
        input=data, weight=weight, bias_sizes=(6,), stride=(2, 2), padding=(1, 1), dilation=(1, 1),
        transposed=False, output_padding=(0, 0), groups=1, output_mask=(True, True, True),
    )  # fmt: skip
    found = convolution_of(op)
    assert found is not None
    assert (found.input_size, found.output_size, found.out_channels) == ((8, 8), (4, 4), 6)
    assert found.bias


def test_words_for_padding() -> None:
    given = {"input": tensor(1, 4, 9, 9), "weight": tensor(4, 4, 4, 3), "dilation": (1, 2)}
    same = convolution_of(call("aten::conv2d", tensor(1, 4, 9, 9), padding="same", **given))
    valid = convolution_of(call("aten::conv2d", tensor(1, 4, 6, 5), padding="valid", **given))
    assert same is not None
    assert valid is not None
    assert same.padding == (1, 2)  # 1 * 3 // 2, 2 * 2 // 2
    assert valid.padding == (0, 0)


@pytest.mark.parametrize(
    ("strides", "weight_strides", "expected"),
    [
        ((256, 64, 8, 1), (36, 9, 3, 1), False),
        ((256, 1, 32, 4), (36, 9, 3, 1), True),
        ((256, 64, 8, 1), (36, 1, 12, 4), True),
    ],
)
def test_channels_last_by_the_strides_of_data_or_weight(
    strides: tuple[int, ...], weight_strides: tuple[int, ...], expected: bool
) -> None:
    data, weight = tensor(2, 4, 8, 8, strides=strides), tensor(4, 4, 3, 3, strides=weight_strides)
    found = convolution_of(call("aten::convolution", tensor(2, 4, 6, 6), input=data, weight=weight))
    assert found is not None
    assert found.channels_last is expected


def test_what_fits_both_formats_is_not_channels_last() -> None:
    """One place per channel, or one channel: the strides say nothing."""
    pooled = call(
        "aten::convolution", tensor(1, 8, 1, 1), input=tensor(1, 4, 1, 1), weight=tensor(8, 4, 1, 1)
    )
    single = call(
        "aten::convolution", tensor(1, 8, 4, 4), input=tensor(1, 1, 4, 4, strides=(16, 1, 4, 1)),
        weight=tensor(8, 1, 1, 1),
    )  # fmt: skip
    for op in (pooled, single):
        found = convolution_of(op)
        assert found is not None
        assert not found.channels_last


def test_what_is_no_convolution() -> None:
    data, weight = tensor(4, 8), tensor(6, 8)
    assert convolution_of(call("aten::linear", tensor(4, 6), input=data, weight=weight)) is None
    reorder = call("aten::mkldnn_reorder_conv2d_weight", tensor(4, 4, 3, 3), self=tensor(4, 4, 3, 3))
    assert convolution_of(reorder) is None
    by_time = call("aten::conv_tbc", tensor(8, 1, 6), self=tensor(10, 1, 4), weight=tensor(3, 4, 6))
    assert convolution_of(by_time) is None
    deformed = call("torchvision::deform_conv2d", tensor(1, 4, 6, 6), input=tensor(1, 4, 8, 8),
                    weight=tensor(4, 4, 3, 3))  # fmt: skip
    assert convolution_of(deformed) is None


def test_padded_taps_of_a_3x3_on_7x7() -> None:
    """Per dimension (3 * 7 - 2) of 3 * 7 taps: 361 / 441 = 0.8186 of 9 * 49 = 441 MACs."""
    assert executed_flops(_plain(7, 3), _priced(441)) == 2 * 361
    # A depthwise layer of 10 channels has ten times as many, and so has every batch.
    assert executed_flops(_plain(7, 3, channels=10), _priced(4410)) == 2 * 3610


def test_padded_taps_of_a_3x3_on_56x56() -> None:
    """166² of 168²: 27556 / 28224 = 0.976."""
    assert executed_flops(_plain(56, 3), _priced(28224)) == 2 * 27556


def test_only_macs_are_left_out() -> None:
    """What an op does besides its MACs, say a fused ReLU of 49 FLOPs, is done in full."""
    assert executed_flops(_plain(7, 3), _priced(441, other=49)) == 722 + 49


def test_both_gradients_leave_out_the_same_taps() -> None:
    data, weight = tensor(1, 1, 7, 7), tensor(1, 1, 3, 3)
    op = call("aten::convolution_backward", (data, weight), grad_output=tensor(1, 1, 7, 7), input=data,
              weight=weight, padding=(1, 1), stride=(1, 1))  # fmt: skip
    assert executed_flops(op, _priced(2 * 441)) == 2 * 722


def test_a_1x1_with_padding_computes_nothing_on_the_rim() -> None:
    """5x5 outputs of 3x3 inputs: 9 of 25 taps hit."""
    op = call("aten::convolution", tensor(1, 1, 5, 5), input=tensor(1, 1, 3, 3), weight=tensor(1, 1, 1, 1),
              padding=(1, 1))  # fmt: skip
    assert executed_flops(op, _priced(25)) == 18


def _by_brute_force(op: OpCall) -> int:
    """Count pairs of positions and taps one by one."""
    found = convolution_of(op)
    assert found is not None
    per_dim = []
    sizes = (found.input_size, found.output_size)
    positions, reached = sizes if found.transposed else sizes[::-1]
    for dim, count in enumerate(positions):
        pairs = product(range(count), range(found.kernel[dim]))
        places = [p * found.stride[dim] - found.padding[dim] + t * found.dilation[dim] for p, t in pairs]
        per_dim.append(sum(0 <= place < reached[dim] for place in places))
    return per_dim[0] * per_dim[1]


_SMALL = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(
    size=_SMALL,
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    groups=st.sampled_from([1, 2]),
    transposed=st.booleans(),
)
def test_executed_taps_agree_with_counting_them(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    transposed: bool,
) -> None:
    dims = list(zip(size, kernel, stride, padding, dilation, strict=True))
    made = tuple(
        max(0, (n - 1) * s - 2 * p + d * (k - 1) + 1)
        if transposed
        else max(0, (n + 2 * p - d * (k - 1) - 1) // s + 1)
        for n, k, s, p, d in dims
    )
    op = call(
        "aten::convolution", tensor(1, groups, *made), input=tensor(1, groups, *size),
        weight=tensor(groups, 1, *kernel), stride=stride, padding=padding, dilation=dilation,
        groups=groups, transposed=transposed,
    )  # fmt: skip
    positions = size if transposed else made
    macs = groups * positions[0] * positions[1] * kernel[0] * kernel[1]
    assert executed_flops(op, _priced(macs)) == 2 * groups * _by_brute_force(op)


@pytest.mark.parametrize(("queries", "keys", "visible"), [(4, 4, 10), (2, 4, 3), (4, 2, 7)])
def test_causal_attention_leaves_out_what_lies_ahead(queries: int, keys: int, visible: int) -> None:
    """Row q sees min(q + 1, keys): 1+2+3+4 of 16; 1+2 of 8; 1+2+2+2 of 8."""
    query, key = tensor(1, 2, queries, 8), tensor(1, 2, keys, 8)
    given = {"query": query, "key": key, "value": tensor(1, 2, keys, 8)}
    causal = call("aten::scaled_dot_product_attention", tensor(1, 2, queries, 8), is_causal=True, **given)
    full = call("aten::scaled_dot_product_attention", tensor(1, 2, queries, 8), **given)
    pairs = queries * keys
    priced = OpCost(Cost(0, 100 * pairs), "formula")
    assert executed_flops(causal, priced) == 100 * visible
    assert executed_flops(full, priced) == 100 * pairs
