"""MobileNetV3 Large and Small, 1.0, 0.75 and minimalistic, against the tables, torchvision and timm."""

from __future__ import annotations

import pytest
import torch
from mobile_nets import (
    SEPARATE,
    assert_figures_fit_or_say_why,
    assert_same_outputs,
    assert_trains,
    by_position,
    chain_cost,
    fingerprint,
    kinds_of,
    output_shapes,
    parts_of,
    renaming,
    report_of,
    scramble,
    totals_of,
    without_data,
)
from torch import nn

import flopscope
from flopscope.zoo import find

# Of each row: kernel, stride, and whether it has an SE. Then by width: channels, expanded widths, and
# squeezed widths: a quarter of the expanded, to a multiple of 8, ties up, 8 more where that is below
# 90 %: 72 / 4 = 18 -> 16 < 16.2 -> 24; 120 / 4 = 30 -> 32; 528 / 4 = 132 -> 136; 720 / 4 = 180 -> 184.
KERNELS = {"large": (3, 3, 3, 5, 5, 5, 3, 3, 3, 3, 3, 3, 5, 5, 5), "small": (3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5)}
STRIDES = {"large": (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1), "small": (2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1)}
FULL = {
    "large": (
        (16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160),
        (16, 64, 72, 72, 120, 120, 240, 200, 184, 184, 480, 672, 672, 960, 960),
        (0, 0, 0, 24, 32, 32, 0, 0, 0, 0, 120, 168, 168, 240, 240),
    ),
    "small": (
        (16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96),
        (16, 72, 88, 96, 240, 240, 120, 144, 288, 576, 576),
        (8, 0, 0, 24, 64, 64, 32, 40, 72, 144, 144),
    ),
}
NARROW = {
    "large": (
        (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 88, 88, 120, 120, 120),
        (16, 64, 72, 72, 96, 96, 192, 160, 144, 144, 384, 528, 528, 720, 720),
        (0, 0, 0, 24, 24, 24, 0, 0, 0, 0, 96, 136, 136, 184, 184),
    ),
    "small": (
        (16, 24, 24, 32, 32, 32, 40, 40, 72, 72, 72),
        (16, 72, 88, 96, 192, 192, 96, 120, 240, 432, 432),
        (8, 0, 0, 24, 48, 48, 24, 32, 64, 112, 112),
    ),
}
PENULTIMATE = {"large": 1280, "small": 1024}
EXACT = {
    ("large", ""): (5_483_032, 216_589_760),
    ("small", ""): (2_542_856, 56_510_400),
    ("large", "_minimalistic"): (3_924_288, 209_136_704),
    ("small", "_minimalistic"): (2_044_736, 52_288_448),
    # by the arithmetic of this file
    ("large", "_075"): (3_993_528, 154_560_624),
    ("small", "_075"): (2_041_872, 43_399_344),
}
NAMES = [f"mobilenetv3_{size}{form}" for size, form in EXACT]


def _table(size, form):
    """Rows of kernel, stride, channels, expanded, squeezed."""
    widths = NARROW[size] if form == "_075" else FULL[size]
    rows = zip(KERNELS[size], STRIDES[size], *widths, strict=True)
    if form == "_minimalistic":
        return [(3, stride, cout, expanded, 0) for _, stride, cout, expanded, _ in rows]
    return list(rows)


def _blocks(size, form):
    cin = 16
    for kernel, stride, cout, expanded, squeezed in _table(size, form):
        yield cin, cout, expanded, kernel, stride, squeezed, SEPARATE
        cin = cout


@pytest.mark.parametrize(("size", "form"), EXACT)
def test_counts_are_exact_and_follow_from_the_table(size, form):
    blocks = list(_blocks(size, form))
    head, fcs = 6 * blocks[-1][1], [PENULTIMATE[size], 1000]
    exact, entry = EXACT[size, form], find(f"mobilenetv3_{size}{form}")
    assert chain_cost(blocks, stem=16, head=head, fcs=fcs, side=224) == exact
    assert totals_of(entry.name) == exact == (entry.params, entry.macs)


@pytest.mark.parametrize(("size", "form"), EXACT)
def test_every_block_has_its_shape(size, form):
    report, side = report_of(f"mobilenetv3_{size}{form}"), 112
    expected = [(1, 16, side, side)]
    for _, stride, cout, _, _ in _table(size, form):
        side //= stride
        expected.append((1, cout, side, side))
    assert side == 7
    expected += [(1, 6 * cout, 7, 7), (1, PENULTIMATE[size]), (1, 1000)]
    paths = ["stem", *(f"blocks.{i}" for i in range(len(expected) - 4)), "head", "penultimate", "classifier"]
    assert output_shapes(report, paths) == expected


@pytest.mark.parametrize(("size", "form"), EXACT)
def test_every_block_is_what_it_is(size, form):
    blocks = list(_blocks(size, form))
    count = len(blocks)
    expanding = sum(cin != expanded for cin, _, expanded, *_ in blocks)
    squeezing = sum(squeezed > 0 for *_, squeezed, _ in blocks)
    residuals = sum(cin == cout and stride == 1 for cin, cout, _, _, stride, _, _ in blocks)
    report = report_of(f"mobilenetv3_{size}{form}")
    expected = {
        "conv": 1,
        "depthwise_conv": count,
        "pointwise_conv": expanding + count + 1,
        "se": squeezing,
        "batch_norm": 1 + expanding + 2 * count + 1,
        "activation": 1 + expanding + count + 1 + 1,
        "elementwise": residuals,
        "pooling": 1,
        "linear": 2,
        "data_movement": 2,  # flatten, and the dropout that does nothing
    }
    assert kinds_of(report) == {kind: number for kind, number in expected.items() if number}
    found = {layer.path for layer in report.layers if layer.kind == "se"}
    assert found == {f"blocks.{index}.se" for index, block in enumerate(blocks) if block[5]}


def test_by_hand_large_has_8_squeezes_and_10_shortcuts():
    kinds = kinds_of(report_of("mobilenetv3_large"))
    assert (kinds["se"], kinds["elementwise"]) == (8, 10)
    kinds = kinds_of(report_of("mobilenetv3_small"))
    assert (kinds["se"], kinds["elementwise"]) == (9, 6)


def test_activations_follow_the_table():
    def types(name):
        blocks = without_data(name).blocks
        return [type(block.depthwise.act) for block in blocks]

    assert types("mobilenetv3_large") == [nn.ReLU] * 6 + [nn.Hardswish] * 9
    assert types("mobilenetv3_small") == [nn.ReLU] * 3 + [nn.Hardswish] * 8
    minimalistic = without_data("mobilenetv3_small_minimalistic")
    assert not any(isinstance(module, (nn.Hardswish, nn.Hardsigmoid)) for module in minimalistic.modules())


def test_a_lost_stride_leaves_params_and_multiplies_macs():
    # A published listing accepts a stride and never passes it on: the right 5,483,032 params, and
    # 72,020,223,872 MACs, 332.5 times as many.
    model = without_data("mobilenetv3_large")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    total = flopscope.count(model, (1, 3, 224, 224)).total
    assert (total.params, total.macs) == (5_483_032, 72_020_223_872)
    assert round(total.macs / 216_589_760, 1) == 332.5


@pytest.mark.parametrize("name", ["mobilenetv3_small", "mobilenetv3_small_minimalistic"])
def test_a_training_step_reaches_every_parameter(name):
    assert_trains(name, 48)


def test_names_are_stable():
    state = list(without_data("mobilenetv3_large").state_dict())
    assert state[:2] == ["stem.conv.weight", "stem.norm.weight"]
    assert "blocks.0.depthwise.conv.weight" in state
    assert "blocks.14.se.expand.bias" in state
    assert state[-4:] == ["penultimate.weight", "penultimate.bias", "classifier.weight", "classifier.bias"]
    assert fingerprint(without_data("mobilenetv3_large")) == "ca6dc51c4903be2f"


@pytest.mark.parametrize("name", NAMES)
def test_published_figures_fit_or_say_why(name):
    assert_figures_fit_or_say_why(find(name))


def _torchvision_renaming(model):
    places = {
        f"blocks.{index}.{part}": f"features.{index + 1}.block.{place}"
        for index, block in enumerate(model.blocks)
        for place, part in enumerate(parts_of(block))
    }
    head = f"features.{len(model.blocks) + 1}"
    return renaming(
        places
        | {"stem": "features.0", "head": head, "penultimate": "classifier.0", "classifier": "classifier.3"}
    )


@pytest.mark.parametrize("size", ["large", "small"])
def test_same_outputs_as_torchvision(size):
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    theirs = scramble(models.get_model(f"mobilenet_v3_{size}", weights=None), eps=1e-3)
    ours = without_data(f"mobilenetv3_{size}")
    assert_same_outputs(ours, theirs, _torchvision_renaming(ours), side=40)
    weights = models.get_model_weights(f"mobilenet_v3_{size}").DEFAULT
    assert weights.meta["num_params"] == EXACT[size, ""][0]
    assert f"{weights.meta['_ops']:.3f}" == f"{EXACT[size, ''][1] / 1e9:.3f}"


@pytest.mark.parametrize("size", ["large", "small"])
def test_075_is_not_torchvisions_width_multiplier(size):
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    with torch.device("meta"):
        theirs = models.get_model(f"mobilenet_v3_{size}", weights=None, width_mult=0.75)
    total = flopscope.count(theirs, (1, 3, 224, 224)).total
    assert total.params < EXACT[size, "_075"][0]
    assert total.macs < EXACT[size, "_075"][1]


def test_075_gives_timms_outputs():
    timm = pytest.importorskip("timm", reason="timm is not installed")
    theirs = scramble(timm.create_model("mobilenetv3_large_075"), eps=1e-3)
    ours = without_data("mobilenetv3_large_075")
    assert_same_outputs(ours, theirs, by_position(ours, theirs), side=40)


@pytest.mark.parametrize(
    ("size", "form"), [("small", "_075"), ("large", "_minimalistic"), ("small", "_minimalistic")]
)
def test_counts_of_timm(size, form):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        theirs = timm.create_model(f"tf_mobilenetv3_{size}{form.replace('istic', '_100')}")
    total = flopscope.count(theirs, (1, 3, 224, 224)).total
    assert (total.params, total.macs) == EXACT[size, form]
