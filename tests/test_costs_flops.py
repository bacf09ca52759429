"""FLOPs beside the multiply-adds: element-wise work, normalisation, pooling, interpolation, transforms."""

from __future__ import annotations

import pytest
from opcalls import call, tensor

from flopscope.costs import price


def flops(*given_call, **arguments):
    return price(call(*given_call, **arguments)).cost.flops


# ----------------------------------------------------------------- element-wise


@pytest.mark.parametrize(
    ("name", "per_element"),
    [
        ("relu", 1),
        ("relu6", 2),
        ("hardtanh", 2),
        ("leaky_relu", 2),
        ("sigmoid", 4),  # negate, exp, add, divide
        ("silu", 5),  # and multiply
        ("hardswish", 5),
        ("gelu", 5),
        ("elu", 4),
        ("mish", 5),
        ("softplus", 6),
        ("tanh", 1),
        ("exp", 1),
        ("softmax", 5),  # maximum, subtract, exp, sum, divide
        ("_softmax", 5),
        ("_log_softmax", 5),
        ("cumsum", 1),
        ("var", 4),
    ],
)
def test_per_element(name, per_element):
    assert flops(f"aten::{name}", tensor(3, 7), self=tensor(3, 7)) == 21 * per_element


def test_arguments_decide():
    pair = {"self": tensor(3, 7), "other": tensor(7)}
    assert flops("aten::add", tensor(3, 7), **pair) == 21
    assert flops("aten::add", tensor(3, 7), **pair, alpha=2) == 42
    assert flops("aten::gelu", tensor(3, 7), self=tensor(3, 7), approximate="tanh") == 9 * 21
    assert flops("aten::clamp", tensor(3, 7), self=tensor(3, 7), min=0, max=None) == 21
    assert flops("aten::clamp", tensor(3, 7), self=tensor(3, 7), min=0, max=1) == 42
    assert flops("aten::linalg_vector_norm", tensor(), self=tensor(21), ord=2) == 42
    assert flops("aten::linalg_vector_norm", tensor(), self=tensor(21), ord=3) == 63
    assert flops("aten::max", tensor(), self=tensor(21)) == 21
    assert flops("aten::max", tensor(3, 7), self=tensor(7), other=tensor(3, 7)) == 21


def test_dropout_counts_in_training_only():
    assert flops("aten::dropout", tensor(21), input=tensor(21), p=0.5, train=True) == 42
    assert flops("aten::dropout", tensor(21), input=tensor(21), p=0.5, train=False) == 0


def test_in_place_costs_what_its_base_costs():
    target = tensor(21)
    assert flops("aten::silu_", target, self=target, written=["self"]) == 5 * 21


def test_tags_price_what_no_formula_names():
    point = price(call("aten::digamma", tensor(3, 7), self=tensor(7), tags=["pointwise"]))
    assert (point.priced_by, point.cost.flops) == ("rule", 21)
    reduced = price(call("aten::aminmax", tensor(3), self=tensor(3, 7), tags=["reduction"]))
    assert (reduced.priced_by, reduced.cost.flops) == ("rule", 21)


def test_integer_arithmetic_is_no_floating_point_work():
    whole = {"self": tensor(21, dtype="int64"), "other": tensor(21, dtype="int64")}
    assert flops("aten::add", tensor(21, dtype="int64"), **whole) == 0
    assert flops("aten::eq", tensor(21, dtype="bool"), **whole, tags=["pointwise"]) == 0
    assert flops("aten::sum", tensor(dtype="int64"), self=tensor(21, dtype="int64")) == 0
    # a comparison of floating point numbers is
    assert flops("aten::gt", tensor(21, dtype="bool"), self=tensor(21), other=0, tags=["pointwise"]) == 21


@pytest.mark.parametrize(("name", "expected"), [("add", 2), ("mul", 6), ("div", 11), ("abs", 4), ("exp", 2)])
def test_complex_numbers(name, expected):
    operand = tensor(10, dtype="complex64")
    answer = tensor(10) if name == "abs" else tensor(10, dtype="complex64")
    assert flops(f"aten::{name}", answer, self=operand, other=operand) == 10 * expected


@pytest.mark.parametrize(
    "name", ["clone", "cat", "_to_copy", "masked_fill", "where", "constant_pad_nd", "sort", "topk"]
)
def test_copies_and_selections_count_no_flop(name):
    priced = price(call(f"aten::{name}", tensor(21), self=tensor(21)))
    assert (priced.priced_by, priced.cost.flops) == ("formula", 0)
    assert priced.cost.bytes_read == priced.cost.bytes_written == 84


def test_losses():
    pair = {"self": tensor(3, 7), "target": tensor(3, 7)}
    assert flops("aten::mse_loss", tensor(), **pair, reduction=1) == 3 * 21
    assert flops("aten::mse_loss", tensor(3, 7), **pair, reduction=0) == 2 * 21


def test_distances_of_all_pairs():
    # 4 * 5 pairs of 3 coordinates: subtract, square, add; and a square root
    assert flops("aten::cdist", tensor(4, 5), x1=tensor(4, 3), x2=tensor(5, 3), p=2.0) == 20 * (3 * 3 + 1)


# ----------------------------------------------------------------- normalisation


def test_batch_norm():
    statistics = {name: tensor(8) for name in ("weight", "bias", "running_mean", "running_var")}
    answer, data = tensor(2, 8, 4, 4), tensor(2, 8, 4, 4)
    evaluated = price(call("aten::batch_norm", answer, input=data, **statistics, training=False))
    assert (evaluated.cost.flops, evaluated.fvcore_flops) == (2 * 256, 2 * 256)
    trained = price(call("aten::batch_norm", answer, input=data, **statistics, training=True))
    assert (trained.cost.flops, trained.fvcore_flops) == (7 * 256, 5 * 256)
    plain = price(call("aten::batch_norm", answer, input=data, training=False))
    assert (plain.cost.flops, plain.fvcore_flops) == (2 * 256, 256)


@pytest.mark.parametrize("name", ["layer_norm", "native_layer_norm", "group_norm", "native_group_norm"])
def test_norms_by_own_statistics(name):
    affine = price(call(f"aten::{name}", tensor(4, 8), input=tensor(4, 8), weight=tensor(8), bias=tensor(8)))
    assert (affine.cost.flops, affine.fvcore_flops) == (7 * 32, 5 * 32)
    plain = price(call(f"aten::{name}", tensor(4, 8), input=tensor(4, 8)))
    assert (plain.cost.flops, plain.fvcore_flops) == (5 * 32, 4 * 32)


def test_rms_norm_equals_the_single_operators_that_a_cpu_runs():
    fused = flops("aten::rms_norm", tensor(4, 8), input=tensor(4, 8), normalized_shape=(8,), weight=tensor(8))
    single = [
        flops("aten::pow", tensor(4, 8), self=tensor(4, 8), exponent=2),
        flops("aten::mean", tensor(4, 1), self=tensor(4, 8), dim=(-1,)),
        flops("aten::add", tensor(4, 1), self=tensor(4, 1), other=1e-6),
        flops("aten::rsqrt", tensor(4, 1), self=tensor(4, 1)),
        flops("aten::mul", tensor(4, 8), self=tensor(4, 8), other=tensor(4, 1)),
        flops("aten::mul", tensor(4, 8), self=tensor(4, 8), other=tensor(8)),
    ]
    assert fused == sum(single) == 4 * 32 + 2 * 4


# ----------------------------------------------------------------- pooling, interpolation


@pytest.mark.parametrize("window", [(3, 3), (3,), 3])
@pytest.mark.parametrize("name", ["max_pool2d", "max_pool2d_with_indices", "avg_pool2d"])
def test_pools_count_their_window(name, window):
    assert (
        flops(f"aten::{name}", tensor(2, 4, 5, 5), self=tensor(2, 4, 10, 10), kernel_size=window) == 200 * 9
    )


def test_pools_of_other_ranks():
    assert flops("aten::avg_pool1d", tensor(4, 5), self=tensor(4, 10), kernel_size=(2,)) == 40
    answer = tensor(2, 5, 5, 5)
    assert flops("aten::max_pool3d", answer, self=tensor(2, 10, 10, 10), kernel_size=(2, 2, 2)) == 250 * 8


def test_adaptive_pools_count_the_values_in_their_windows():
    once = price(call("aten::adaptive_avg_pool2d", tensor(2, 4, 1, 1), self=tensor(2, 4, 7, 7)))
    assert (once.cost.flops, once.fvcore_flops) == (8 * 49, 8 * 49)
    # 7 -> 3: windows 0..3, 2..5, 4..7 hold 3 values each, 9 a dimension
    overlapping = price(call("aten::adaptive_avg_pool2d", tensor(2, 4, 3, 3), self=tensor(2, 4, 7, 7)))
    assert (overlapping.cost.flops, overlapping.fvcore_flops) == (8 * 81, 8 * 49)


@pytest.mark.parametrize(
    ("name", "per_output", "by_fvcore"),
    [
        ("upsample_nearest2d", 0, 1),
        ("_upsample_nearest_exact2d", 0, 0),
        ("upsample_bilinear2d", 7, 4),
        ("upsample_bicubic2d", 31, 0),
    ],
)
def test_interpolation(name, per_output, by_fvcore):
    priced = price(call(f"aten::{name}", tensor(1, 3, 8, 8), input=tensor(1, 3, 4, 4)))
    assert (priced.cost.flops, priced.fvcore_flops) == (192 * per_output, 192 * by_fvcore)


def test_antialiased_interpolation_runs_two_passes():
    # 8 -> 4 both ways: 2 * 2 = 4 values, 7 FLOPs; 3 maps of 8 x 4, then of 4 x 4
    data, answer = tensor(1, 3, 8, 8), tensor(1, 3, 4, 4)
    assert flops("aten::_upsample_bilinear2d_aa", answer, self=data) == 7 * 3 * (32 + 16)


def test_grid_sampling():
    # 25 locations; 3 * 25 outputs
    parts = {"input": tensor(1, 3, 8, 8), "grid": tensor(1, 5, 5, 2)}
    priced = price(call("aten::grid_sampler", tensor(1, 3, 5, 5), **parts, interpolation_mode=0))
    assert priced.cost.flops == 25 * 18 + 75 * 7
    assert priced.fvcore_flops == 75 * 4


def test_regions_with_an_adaptive_ratio_are_listed():
    parts = {"input": tensor(1, 3, 8, 8), "rois": tensor(2, 5)}
    known = price(call("torchvision::roi_align", tensor(2, 3, 7, 7), **parts, sampling_ratio=2))
    assert known.cost.flops == 2 * 3 * 49 * 4 * 8
    unknown = price(call("torchvision::roi_align", tensor(2, 3, 7, 7), **parts, sampling_ratio=-1))
    assert unknown.priced_by == "uncosted"


# ----------------------------------------------------------------- transforms


def test_fourier_transforms():
    # 5 N log2 N with N = 8: 120 a transform, 3 of them; a real one half
    data = tensor(3, 8, dtype="complex64")
    assert flops("aten::_fft_c2c", data, self=data, dim=(1,)) == 0  # nothing new comes back: a view
    assert flops("aten::_fft_c2c", tensor(3, 8, dtype="complex64"), self=data, dim=(1,)) == 3 * 120
    assert flops("aten::_fft_r2c", tensor(3, 5, dtype="complex64"), self=tensor(3, 8), dim=(1,)) == 3 * 60
    assert flops("aten::_fft_c2r", tensor(3, 8), self=tensor(3, 5, dtype="complex64"), dim=(1,)) == 3 * 60


def test_linear_algebra():
    square, right = tensor(2, 6, 6), tensor(2, 6, 3)
    assert flops("aten::linalg_cholesky_ex", tensor(2, 6, 6), self=square) == 2 * 72
    assert flops("aten::linalg_lu_factor_ex", tensor(2, 6, 6), A=square) == 2 * 144
    assert flops("aten::linalg_inv_ex", tensor(2, 6, 6), A=square) == 2 * 432
    assert flops("aten::_linalg_solve_ex", tensor(2, 6, 3), A=square, B=right) == 2 * (144 + 2 * 36 * 3)
    assert flops("aten::linalg_solve_triangular", tensor(2, 6, 3), self=square, B=right) == 2 * 36 * 3
