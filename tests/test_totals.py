"""Totals by other conventions, on records made by hand."""

from __future__ import annotations

import pytest
from traces import Run

from flopscope.conventions import totals
from flopscope.records import Input, TensorSpec


def _counted(run: Run) -> dict[str, int]:
    return totals(run.trace(), run.costs)


def _norm(run: Run, source: TensorSpec, path: str, channels: int) -> TensorSpec:
    weight, bias = run.parameter(f"{path}.weight", channels), run.parameter(f"{path}.bias", channels)
    names = {"input": Input(0), "weight": Input(1), "bias": Input(2)}
    return run.op("aten::batch_norm", source, weight, bias, **names)


@pytest.mark.parametrize(
    ("shape", "settings", "share"),
    [
        ((8, 8, 3, 3), {}, (4, 9)),
        ((8, 1, 3, 3), {"groups": 8}, (4, 9)),
        ((8, 8, 3, 3), {"stride": 2}, (1, 1)),
        ((8, 8, 1, 1), {}, (1, 1)),
        ((8, 8, 5, 5), {}, (1, 1)),
        ((8, 8, 3, 3), {"transposed": True}, (1, 1)),
        ((8, 8, 3), {}, (1, 1)),
    ],
)
def test_winograd_saves_five_ninths_of_3x3_convolutions_of_stride_1(shape, settings, share) -> None:
    run = Run()
    run.conv(run.input(1, 8, *(6,) * (len(shape) - 2)), run.parameter("weight", *shape), **settings)
    counted = _counted(run)
    assert counted["winograd_muls"] * share[1] == counted["macs"] * share[0]


def test_macs_flops_and_fvcore_are_sums() -> None:
    run = Run()
    run.op("aten::mm", run.input(2, 2), macs=8, fvcore=8)
    run.op("aten::layer_norm", run.input(2, 2), flops=20, fvcore=20)
    counted = _counted(run)
    assert (counted["macs"], counted["flops"], counted["fvcore_like"]) == (8, 36, 28)


@pytest.mark.parametrize(("bias", "left"), [(False, 8), (True, 8)])
def test_a_norm_after_a_convolution_folds_into_weight_and_one_bias(bias, left) -> None:
    run = Run()
    weight = run.parameter("conv.weight", 8, 4, 1, 1)
    given = run.parameter("conv.bias", 8) if bias else None
    _norm(run, run.conv(run.input(1, 4, 4, 4), weight, given), "bn", 8)
    # 32 weights stay; bias (if any) 8, norm 16: of all these one bias of 8 is left
    assert _counted(run)["params_folded"] == 32 + left


def test_a_shared_pair_folds_once() -> None:
    run = Run()
    seen = run.input(1, 4, 4, 4)
    for _ in range(2):
        seen = _norm(run, run.conv(seen, run.parameter("conv.weight", 4, 4, 1, 1)), "bn", 4)
    assert _counted(run)["params_folded"] == 16 + 4


def test_a_norm_folds_into_linear_through_a_view() -> None:
    run = Run()
    seen = run.linear(run.input(2, 3, 4), run.parameter("fc.weight", 5, 4))
    _norm(run, run.view("aten::flatten", seen, (6, 5)), "bn", 5)
    assert _counted(run)["params_folded"] == 20 + 5


def test_a_norm_does_not_fold_across_an_activation_or_a_second_reader() -> None:
    run = Run()
    first = run.conv(run.input(1, 4, 4, 4), run.parameter("a.weight", 4, 4, 1, 1))
    seen = _norm(run, run.write("aten::relu_", first), "bn1", 4)
    second = run.conv(seen, run.parameter("b.weight", 4, 4, 1, 1))
    run.op("aten::add", _norm(run, second, "bn2", 4), second)
    _norm(run, run.input(1, 4, 4, 4), "bn3", 4)
    assert _counted(run)["params_folded"] == 2 * 16 + 3 * 8
