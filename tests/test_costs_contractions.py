"""Multiply-adds of contractions, by hand and by brute force."""

from __future__ import annotations

from itertools import product as grid
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opcalls import call, tensor

from flopscope.costs import has_formula, price


def macs(*given_call, **arguments):
    return price(call(*given_call, **arguments)).cost.macs


def convolution(data, weight, answer, *, transposed=False, name="aten::convolution"):
    return price(
        call(
            name,
            tensor(*answer),
            input=tensor(*data),
            weight=tensor(*weight),
            bias=None,
            transposed=transposed,
        )
    )


# ----------------------------------------------------------------- convolutions, by hand


@pytest.mark.parametrize(
    ("data", "weight", "answer", "expected"),
    [
        # dense 3x3 on 64 -> 64, 56x56: 64 * 3136 outputs, 64 * 9 taps each
        ((1, 64, 56, 56), (64, 64, 3, 3), (1, 64, 56, 56), 64 * 3136 * 64 * 9),
        # depthwise 3x3 on 64: 64 * 3136 outputs, 9 taps each
        ((1, 64, 56, 56), (64, 1, 3, 3), (1, 64, 56, 56), 64 * 3136 * 9),
        # 4 groups, 8 -> 12: 12 * 25 outputs, 2 channels * 9 taps
        ((1, 8, 5, 5), (12, 2, 3, 3), (1, 12, 5, 5), 12 * 25 * 2 * 9),
        # 1d, batch 2, stride 2, 10 -> 5 positions
        ((2, 3, 10), (6, 3, 3), (2, 6, 5), 2 * 6 * 5 * 3 * 3),
        # 3d, 2x2x2 kernel
        ((1, 2, 4, 4, 4), (3, 2, 2, 2, 2), (1, 3, 3, 3, 3), 3 * 27 * 2 * 8),
        # unbatched
        ((3, 8, 8), (4, 3, 1, 1), (4, 8, 8), 4 * 64 * 3),
        # empty batch
        ((0, 3, 8, 8), (4, 3, 1, 1), (0, 4, 8, 8), 0),
    ],
)
def test_convolution(data, weight, answer, expected):
    cost = convolution(data, weight, answer)
    assert cost.cost.macs == expected
    assert cost.cost.flops == 2 * expected
    assert cost.fvcore_flops == expected
    assert cost.priced_by == "formula"


@pytest.mark.parametrize(
    ("data", "weight", "answer", "expected"),
    [
        # 2x2 stride 2, 4 -> 6 channels: each of 4 * 9 inputs meets 6 * 4 weights
        ((1, 4, 3, 3), (4, 6, 2, 2), (1, 6, 6, 6), 4 * 9 * 6 * 4),
        # depthwise, 4 groups: each input meets 1 * 16 weights
        ((1, 4, 3, 3), (4, 1, 4, 4), (1, 4, 12, 12), 4 * 9 * 16),
        # 2 groups, 4 -> 6: each input meets 3 * 4 weights
        ((1, 4, 3, 3), (4, 3, 2, 2), (1, 6, 6, 6), 4 * 9 * 3 * 4),
    ],
)
def test_transposed_convolution(data, weight, answer, expected):
    assert convolution(data, weight, answer, transposed=True).cost.macs == expected
    assert convolution(data, weight, answer, name="aten::conv_transpose2d").cost.macs == expected


def test_a_bias_costs_no_flop():
    operands = {"input": tensor(1, 3, 8, 8), "weight": tensor(4, 3, 3, 3)}
    bare = price(call("aten::conv2d", tensor(1, 4, 8, 8), **operands, bias=None))
    biased = price(call("aten::conv2d", tensor(1, 4, 8, 8), **operands, bias=tensor(4)))
    assert biased.cost.flops == bare.cost.flops == 2 * bare.cost.macs
    assert biased.cost.bytes_read == bare.cost.bytes_read + 16


@pytest.mark.parametrize("first", ["input", "self"])
@pytest.mark.parametrize(
    "name", ["aten::_convolution", "aten::mkldnn_convolution", "aten::cudnn_convolution", "aten::conv1d"]
)
def test_other_names_of_a_convolution(name, first):
    data, weight = tensor(1, 3, 10), tensor(2, 3, 3)
    assert macs(name, tensor(1, 2, 8), **{first: data}, weight=weight) == 2 * 8 * 9


def test_convolution_with_relu_counts_the_relu():
    # 2 * 8 outputs of 9 taps and a maximum each
    cost = price(
        call(
            "aten::cudnn_convolution_relu",
            tensor(1, 2, 8),
            self=tensor(1, 3, 10),
            weight=tensor(2, 3, 3),
        )
    ).cost
    assert (cost.macs, cost.flops) == (144, 2 * 144 + 16)


def test_complex_multiply_adds_are_four_real_ones():
    # (a + bi)(c + di): 4 products; 8 FLOPs with the additions
    operands = {"self": tensor(2, 3, dtype="complex64"), "mat2": tensor(3, 5, dtype="complex64")}
    cost = price(call("aten::mm", tensor(2, 5, dtype="complex64"), **operands)).cost
    assert (cost.macs, cost.flops) == (4 * 30, 8 * 30)


# ----------------------------------------------------------------- convolutions, by brute force

sizes = st.integers(1, 3)


@st.composite
def convolutions(draw):
    """One dimension or two: batch, groups, channels per group in and out, and per dimension the rest."""
    rank = draw(st.integers(1, 2))
    dims = [
        (
            draw(st.integers(3, 6)),
            draw(sizes),
            draw(st.integers(1, 2)),
            draw(st.integers(0, 2)),
            draw(st.integers(1, 2)),
        )
        for _ in range(rank)
    ]
    dims = [d for d in dims if d[0] + 2 * d[3] >= d[4] * (d[1] - 1) + 1]
    return draw(sizes), draw(sizes), draw(sizes), draw(sizes), dims or [(4, 3, 1, 1, 1)]


@given(convolutions())
def test_convolution_equals_counted_taps(drawn):
    batch, groups, ins, outs, dims = drawn
    extents = [
        (length + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for length, kernel, stride, pad, dilation in dims
    ]
    kernels = [dim[1] for dim in dims]
    # Walk over every output element of every group and count the taps that it sums, padded ones too.
    counted = 0
    for _ in grid(range(batch), range(groups), range(outs), *map(range, extents)):
        counted += sum(1 for _ in grid(range(ins), *map(range, kernels)))
    data = (batch, groups * ins, *(dim[0] for dim in dims))
    cost = convolution(data, (groups * outs, ins, *kernels), (batch, groups * outs, *extents))
    assert cost.cost.macs == counted


@given(convolutions())
def test_transposed_convolution_equals_the_scattered_products(drawn):
    batch, groups, ins, outs, dims = drawn
    lengths = [dim[0] for dim in dims]
    kernels = [dim[1] for dim in dims]
    extents = [(length - 1) * stride + dilation * (k - 1) + 1 for length, k, stride, _, dilation in dims]
    # Each input element adds a product to one output per kernel tap and output channel of its group.
    counted = 0
    for _ in grid(range(batch), range(groups), range(ins), *map(range, lengths)):
        counted += sum(1 for _ in grid(range(outs), *map(range, kernels)))
    data, weight = (batch, groups * ins, *lengths), (groups * ins, outs, *kernels)
    cost = convolution(data, weight, (batch, groups * outs, *extents), transposed=True)
    assert cost.cost.macs == counted


@settings(deadline=None, max_examples=50)
@given(convolutions())
def test_unpadded_convolution_equals_what_torch_sums(drawn):
    # With ones everywhere and no padding, the sum of the outputs is the number of products.
    torch = pytest.importorskip("torch")
    batch, groups, ins, outs, dims = drawn
    lengths = [dim[4] * (dim[1] - 1) + dim[0] for dim in dims]
    kernels, strides, dilations = [d[1] for d in dims], [d[2] for d in dims], [d[4] for d in dims]
    run = torch.nn.functional.conv1d if len(dims) == 1 else torch.nn.functional.conv2d
    data = torch.ones(batch, groups * ins, *lengths, dtype=torch.float64)
    weight = torch.ones(groups * outs, ins, *kernels, dtype=torch.float64)
    answer = run(data, weight, stride=strides, dilation=dilations, groups=groups)
    cost = convolution(tuple(data.shape), tuple(weight.shape), tuple(answer.shape))
    assert cost.cost.macs == int(answer.sum())


# ----------------------------------------------------------------- matrix products


@given(st.lists(sizes, min_size=0, max_size=3), sizes, sizes)
def test_linear_equals_rows_times_weights(batch, ins, outs):
    data, weight = tensor(*batch, ins), tensor(outs, ins)
    assert macs("aten::linear", tensor(*batch, outs), input=data, weight=weight) == prod(batch) * ins * outs


def test_linear_with_a_vector_of_weights():
    assert macs("aten::linear", tensor(5), input=tensor(5, 7), weight=tensor(7)) == 35


@given(sizes, sizes, sizes, sizes)
def test_matrix_products_equal_the_triple_loop(batch, rows, inner, columns):
    counted = sum(1 for _ in grid(range(rows), range(columns), range(inner)))
    left, right, answer = tensor(rows, inner), tensor(inner, columns), tensor(rows, columns)
    assert macs("aten::mm", answer, self=left, mat2=right) == counted
    assert macs("aten::addmm", answer, self=tensor(columns), mat1=left, mat2=right) == counted
    lefts, rights = tensor(batch, rows, inner), tensor(batch, inner, columns)
    answers = tensor(batch, rows, columns)
    assert macs("aten::bmm", answers, self=lefts, mat2=rights) == batch * counted
    assert (
        macs("aten::baddbmm", answers, self=tensor(rows, columns), batch1=lefts, batch2=rights)
        == batch * counted
    )
    assert (
        macs("aten::addbmm", answer, self=tensor(rows, columns), batch1=lefts, batch2=rights)
        == batch * counted
    )


@settings(deadline=None)
@given(st.lists(sizes, max_size=2), st.lists(sizes, max_size=2), sizes, sizes, sizes)
def test_matmul_equals_a_loop_over_numpys_broadcast(left_batch, right_batch, rows, inner, columns):
    numpy = pytest.importorskip("numpy")
    left, right = numpy.ones((*left_batch, rows, inner)), numpy.ones((*right_batch, inner, columns))
    try:
        counted = int((left @ right).sum())
    except ValueError:  # the batches do not broadcast
        return
    operands = {"self": tensor(*left.shape), "other": tensor(*right.shape)}
    assert macs("aten::matmul", tensor(*(left @ right).shape), **operands) == counted


@pytest.mark.parametrize(
    ("name", "answer", "operands", "expected"),
    [
        ("aten::mv", (3,), {"self": tensor(3, 5), "vec": tensor(5)}, 15),
        ("aten::addmv", (3,), {"self": tensor(3), "mat": tensor(3, 5), "vec": tensor(5)}, 15),
        ("aten::dot", (), {"self": tensor(5), "tensor": tensor(5)}, 5),
        ("aten::vdot", (), {"self": tensor(5), "other": tensor(5)}, 5),
        ("aten::addr", (3, 5), {"self": tensor(3, 5), "vec1": tensor(3), "vec2": tensor(5)}, 15),
        ("aten::matmul", (), {"self": tensor(5), "other": tensor(5)}, 5),
        ("aten::matmul", (2, 3), {"self": tensor(2, 3, 5), "other": tensor(5)}, 30),
        (
            "aten::_int_mm",
            (3, 4),
            {"self": tensor(3, 5, dtype="int8"), "mat2": tensor(5, 4, dtype="int8")},
            60,
        ),
        # three rows each meet one of two experts' 5 x 4 matrices
        ("aten::_grouped_mm", (3, 4), {"self": tensor(3, 5), "mat2": tensor(2, 5, 4)}, 60),
        ("aten::_grouped_mm", (2, 3, 4), {"self": tensor(2, 3, 5), "mat2": tensor(2, 5, 4)}, 120),
        ("aten::_weight_int8pack_mm", (3, 4), {"self": tensor(3, 5), "mat2": tensor(4, 5, dtype="int8")}, 60),
        (
            "aten::tensordot",
            (2, 4),
            {"self": tensor(2, 3, 5), "other": tensor(3, 5, 4), "dims_other": [0, 1]},
            120,
        ),
        ("aten::inner", (2, 4), {"self": tensor(2, 3), "other": tensor(4, 3)}, 24),
    ],
)
def test_other_products(name, answer, operands, expected):
    assert macs(name, tensor(*answer), **operands) == expected


@pytest.mark.parametrize(
    ("factors", "extra"), [({}, 0), ({"beta": 0}, 0), ({"alpha": 2}, 6), ({"beta": 3, "alpha": 2}, 12)]
)
def test_factors_of_addmm_cost_one_flop_per_output(factors, extra):
    operands = {"self": tensor(2, 3), "mat1": tensor(2, 5), "mat2": tensor(5, 3)}
    cost = price(call("aten::addmm", tensor(2, 3), **operands, **factors)).cost
    assert cost.flops == 2 * 30 + extra
    # mat1 40 bytes, mat2 60, and self 24 unless beta is 0
    assert cost.bytes_read == 100 + (0 if factors.get("beta") == 0 else 24)


def test_addmm_with_activation():
    operands = {"self": tensor(3), "mat1": tensor(2, 5), "mat2": tensor(5, 3)}
    relu = price(call("aten::_addmm_activation", tensor(2, 3), **operands)).cost
    gelu = price(call("aten::_addmm_activation", tensor(2, 3), **operands, use_gelu=True)).cost
    assert (relu.flops, gelu.flops) == (60 + 6, 60 + 5 * 6)


# ----------------------------------------------------------------- bilinear, einsum, deformable


def test_bilinear_counts_both_products():
    # 3 rows, w [7, 5, 6]: x1 w takes 3 * 7 * 5 * 6 = 630, times x2 another 3 * 7 * 6 = 126
    operands = {"input1": tensor(3, 5), "input2": tensor(3, 6), "weight": tensor(7, 5, 6)}
    assert macs("aten::bilinear", tensor(3, 7), **operands) == 756


def test_trilinear_with_the_arguments_of_bilinear_is_the_same():
    arguments = {"expand1": (1, 3), "expand2": (0,), "expand3": (1, 2), "sumdim": (2, 3), "unroll_dim": 1}
    operands = {"i1": tensor(3, 5), "i2": tensor(7, 5, 6), "i3": tensor(3, 6)}
    assert macs("aten::_trilinear", tensor(3, 7), **operands, **arguments) == 756


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("ij,jk->ik", [(2, 3), (3, 5)], 30),
        ("ij,jk", [(2, 3), (3, 5)], 30),
        ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)], 2 * 3 * 4 * 6 * 5),
        ("...ij,jk->...ik", [(2, 7, 3, 4), (4, 5)], 2 * 7 * 3 * 4 * 5),
        ("ii,ij->j", [(3, 3), (3, 4)], 12),
        # from the left: 2*30*5, then 2*5*70
        ("ij,jk,kl->il", [(2, 30), (30, 5), (5, 70)], 300 + 700),
        # k is summed away in the second operand before the product over j
        ("ij,kj->i", [(2, 3), (5, 3)], 6),
        # nothing is summed: products, but no multiply-adds
        ("i,j->ij", [(3,), (4,)], 0),
        ("bi,bi->bi", [(2, 3), (2, 3)], 0),
    ],
)
def test_einsum(equation, shapes, expected):
    operands = [tensor(*shape) for shape in shapes]
    assert macs("aten::einsum", tensor(1), equation=equation, tensors=operands) == expected


def test_einsum_follows_the_given_path():
    # (jk, kl) first: 30*5*70, then with ij: 2*30*70
    operands = [tensor(2, 30), tensor(30, 5), tensor(5, 70)]
    counted = macs(
        "aten::einsum", tensor(2, 70), equation="ij,jk,kl->il", tensors=operands, path=(1, 2, 0, 1)
    )
    assert counted == 30 * 5 * 70 + 2 * 30 * 70


def test_deformable_convolution_is_a_convolution_of_sampled_taps():
    # 2 -> 4 channels, 3x3, 5x5 outputs, one offset group, with a mask
    cost = price(
        call(
            "torchvision::deform_conv2d",
            tensor(1, 4, 5, 5),
            input=tensor(1, 2, 5, 5),
            weight=tensor(4, 2, 3, 3),
            offset=tensor(1, 18, 5, 5),
            mask=tensor(1, 9, 5, 5),
            offset_groups=1,
            use_mask=True,
        )
    ).cost
    assert cost.macs == 4 * 25 * 2 * 9
    # 9 * 25 places: 12 for their coordinates, and per channel 7 to interpolate and 1 for the mask
    assert cost.flops == 2 * cost.macs + 9 * 25 * (12 + 2 * (7 + 1))


@pytest.mark.parametrize(
    "name", ["aten::matmul", "aten::einsum", "aten::tensordot", "aten::inner", "aten::outer"]
)
def test_composites_are_left_to_be_decomposed(name):
    assert not has_formula(name)


# ----------------------------------------------------------------- quantised


def test_quantised_layers_need_the_shape_of_their_packed_weight():
    data = tensor(2, 8, dtype="quint8")
    known = price(call("quantized::linear", tensor(2, 3, dtype="quint8"), X=data, weight_shape=(3, 8)))
    assert known.cost.macs == 2 * 8 * 3
    assert known.cost.bytes_read == 16 + 24  # a byte per input and per weight
    hidden = price(call("quantized::linear", tensor(2, 3, dtype="quint8"), X=data))
    assert (hidden.priced_by, hidden.cost.macs, hidden.cost.bytes_read) == ("uncosted", 0, 16)


def test_quantised_convolutions():
    data, answer = tensor(1, 4, 6, 6, dtype="quint8"), tensor(1, 8, 6, 6, dtype="quint8")
    assert macs("quantized::conv2d_relu", answer, qx=data, weight_shape=(8, 2, 3, 3)) == 8 * 36 * 18
    assert macs("quantized::conv_transpose2d", answer, qx=data, weight_shape=(4, 8, 2, 2)) == 4 * 36 * 32
    weight = tensor(8, 2, 3, 3, dtype="int8")
    assert macs("onednn::qconv2d_pointwise", answer, qx=data, qw=weight) == 8 * 36 * 18
