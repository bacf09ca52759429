"""EfficientNetV2 S to XL and B0 to B3, against the tables, torchvision and timm."""

from __future__ import annotations

import pytest
import torch
from mobile_nets import (
    assert_figures_fit_or_say_why,
    assert_same_outputs,
    assert_trains,
    chain_cost,
    efficientnet_renaming,
    fingerprint,
    kinds_of,
    output_shapes,
    report_of,
    scramble,
    totals_of,
    without_data,
)

import flopscope
from flopscope.zoo import find

# repeats, fused, stride, expansion, channels of the stages; the B models after scaling and rounding
# (B1: repeats x 1.1, B2: channels x 1.1, repeats x 1.2, B3: x 1.2, x 1.4; without the 90 % guard,
# with which 1.2 x 16 = 19.2 -> 16 would become 24).
TABLES = {
    "s": "2F11-24 4F24-48 4F24-64 6M24-128 9M16-160 15M26-256",
    "m": "3F11-24 5F24-48 5F24-80 7M24-160 14M16-176 18M26-304 5M16-512",
    "l": "4F11-32 7F24-64 7F24-96 10M24-192 19M16-224 25M26-384 7M16-640",
    "xl": "4F11-32 8F24-64 8F24-96 16M24-192 24M16-256 32M26-512 8M16-640",
    "b0": "1F11-16 2F24-32 2F24-48 3M24-96 5M16-112 8M26-192",
    "b1": "2F11-16 3F24-32 3F24-48 4M24-96 6M16-112 9M26-192",
    "b2": "2F11-16 3F24-32 3F24-56 4M24-104 6M16-120 10M26-208",
    "b3": "2F11-16 3F24-40 3F24-56 5M24-112 7M16-136 12M26-232",
}
STEM = {"s": 24, "m": 24, "l": 32, "xl": 32, "b0": 32, "b1": 32, "b2": 32, "b3": 40}
HEAD = {"b2": 1408, "b3": 1536}  # 1280 of all others
EXACT = {
    ("s", 384): (21_458_488, 8_365_617_152),
    ("s", 300): (21_458_488, 5_307_561_248),
    ("m", 480): (54_139_356, 24_582_460_384),
    ("m", 384): (54_139_356, 15_736_775_680),
    ("l", 480): (118_515_272, 56_079_699_008),
    ("l", 384): (118_515_272, 35_899_418_624),
    ("xl", 512): (208_119_808, 93_353_451_520),
    ("xl", 384): (208_119_808, 52_529_254_400),
    # by the arithmetic of this file
    ("b0", 224): (7_139_704, 718_086_176),
    ("b1", 240): (8_141_052, 1_196_819_360),
    ("b2", 260): (10_096_086, 1_697_542_832),
    ("b3", 300): (14_358_406, 3_011_458_816),
}


def _rows(table):
    for cell in table.split():
        shape, channels = cell.split("-")
        fused = "F" in shape
        count, (stride, expansion) = int(shape.replace("M", "F").split("F")[0]), shape[-2:]
        yield count, fused, int(stride), int(expansion), int(channels)


def _blocks(table, stem):
    cin = stem
    for count, fused, stride, expansion, cout in _rows(table):
        for index in range(count):
            squeezed = 0 if fused else cin // 4
            yield cin, cout, cin * expansion, 3, 1 if index else stride, squeezed, fused
            cin = cout


@pytest.mark.parametrize(("size", "side"), EXACT)
def test_counts_are_exact_and_follow_from_the_table(size, side):
    name, stem, head = f"efficientnetv2_{size}", STEM[size], HEAD.get(size, 1280)
    blocks = list(_blocks(TABLES[size], stem))
    assert chain_cost(blocks, stem=stem, head=head, fcs=[1000], side=side) == EXACT[size, side]
    assert totals_of(name, side) == EXACT[size, side]
    if side == find(name).resolution:
        assert (find(name).params, find(name).macs) == EXACT[size, side]


def test_entries_stand_at_their_evaluation_size():
    sides = {size: find(f"efficientnetv2_{size}").resolution for size in TABLES}
    assert sides == {"s": 384, "m": 480, "l": 480, "xl": 512, "b0": 224, "b1": 240, "b2": 260, "b3": 300}


def test_version_1_of_the_paper_is_a_variant_of_s():
    table = TABLES["s"].replace("256", "272")
    exact = (23_940_048, 8_597_814_784)
    assert chain_cost(list(_blocks(table, 24)), stem=24, head=1792, fcs=[1000], side=384) == exact
    assert totals_of("efficientnetv2_s", paper_v1=True) == exact
    assert find("efficientnetv2_s").variants == {"paper_v1=true": exact}
    # 272 with a head of 1280, and 256 with one of 1792, are neither version.
    mixed = chain_cost(list(_blocks(table, 24)), stem=24, head=1280, fcs=[1000], side=384)
    assert mixed == (23_287_760, 8_577_248_768)
    mixed = chain_cost(list(_blocks(TABLES["s"], 24)), stem=24, head=1792, fcs=[1000], side=384)
    assert mixed == (22_102_584, 8_385_003_520)


@pytest.mark.parametrize("size", TABLES)
def test_every_stage_has_its_shape(size):
    name = f"efficientnetv2_{size}"
    report, side = report_of(name), -(-find(name).resolution // 2)
    expected = [(1, STEM[size], side, side)]
    for _, _, stride, _, channels in _rows(TABLES[size]):
        side = -(-side // stride)
        expected.append((1, channels, side, side))
    expected += [(1, HEAD.get(size, 1280), side, side), (1, 1000)]
    stages = [f"stages.{index}" for index in range(len(expected) - 3)]
    assert output_shapes(report, ["stem", *stages, "head", "classifier"]) == expected


@pytest.mark.parametrize("size", ["s", "b0"])
def test_every_block_is_what_it_is(size):
    rows = list(_rows(TABLES[size]))
    fused_1 = sum(count for count, fused, _, expansion, _ in rows if fused and expansion == 1)
    fused_4 = sum(count for count, fused, _, expansion, _ in rows if fused and expansion > 1)
    plain = sum(count for count, fused, _, _, _ in rows if not fused)
    widths = [STEM[size], *(row[4] for row in rows)]
    # The first block of a stage is a residual only where the width stays: stage 1 of S, 24 -> 24.
    residuals = fused_1 + fused_4 + plain - len(rows) + (widths[0] == widths[1])
    assert kinds_of(report_of(f"efficientnetv2_{size}")) == {
        "conv": 1 + fused_1 + fused_4,
        "depthwise_conv": plain,
        "pointwise_conv": fused_4 + 2 * plain + 1,
        "se": plain,
        "batch_norm": 1 + fused_1 + 2 * fused_4 + 3 * plain + 1,
        "activation": 1 + fused_1 + fused_4 + 2 * plain + 1,
        "elementwise": residuals,
        "pooling": 1,
        "linear": 1,
        "data_movement": 2,  # flatten, and the dropout that does nothing
    }


def test_fused_stages_have_no_squeeze():
    report = report_of("efficientnetv2_s")
    paths = {layer.path for layer in report.layers if layer.kind in ("se", "depthwise_conv")}
    assert {path.split(".")[1] for path in paths} == {"3", "4", "5"}


def test_stochastic_depth_ends_below_its_rate():
    model = without_data("efficientnetv2_s", stochastic_depth=0.2)
    rates = [module.rate for module in model.modules() if hasattr(module, "rate")]
    # 40 blocks; index 0 has rate 0 and needs no drop path, index 39 is 0.2 * 39 / 40.
    assert rates[0] == pytest.approx(0.2 / 40)
    assert rates[-1] == pytest.approx(0.195)
    assert rates == sorted(rates)


def test_a_training_step_reaches_every_parameter():
    assert_trains("efficientnetv2_b0", 48)


def test_names_are_stable():
    state = list(without_data("efficientnetv2_s").state_dict())
    assert state[:2] == ["stem.conv.weight", "stem.norm.weight"]
    assert "stages.0.0.fused.conv.weight" in state
    assert "stages.1.0.project.conv.weight" in state
    assert "stages.5.14.se.expand.bias" in state
    assert state[-2:] == ["classifier.weight", "classifier.bias"]
    assert fingerprint(without_data("efficientnetv2_s")) == "7c463491e2825d91"


@pytest.mark.parametrize("size", TABLES)
def test_published_figures_fit_or_say_why(size):
    assert_figures_fit_or_say_why(find(f"efficientnetv2_{size}"))


def test_s_gives_torchvisions_outputs():
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    theirs = scramble(models.efficientnet_v2_s(weights=None), eps=1e-3)
    ours = without_data("efficientnetv2_s")
    assert_same_outputs(ours, theirs, efficientnet_renaming(ours), side=40)


@pytest.mark.parametrize("size", ["s", "m", "l"])
def test_counts_of_torchvision(size):
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    weights = models.get_model_weights(f"efficientnet_v2_{size}").DEFAULT
    params, macs = totals_of(f"efficientnetv2_{size}", weights.transforms().crop_size[0])
    assert params == weights.meta["num_params"]
    assert f"{macs / 1e9:.3f}" == f"{weights.meta['_ops']:.3f}"


@pytest.mark.parametrize("size", ["b0", "b1", "b2", "b3", "xl"])
def test_counts_of_timm(size):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    entry = find(f"efficientnetv2_{size}")
    with torch.device("meta"):
        theirs = timm.create_model(f"tf_{entry.name}")
    total = flopscope.count(theirs, (1, 3, entry.resolution, entry.resolution)).total
    assert (total.params, total.macs) == (entry.params, entry.macs)


def test_the_variant_is_an_option_like_any_other():
    assert without_data("efficientnetv2_s", paper_v1=True, num_classes=2).classifier.in_features == 1792
