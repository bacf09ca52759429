"""EfficientNet B0 to B7 and the fused forms of B4, against the table, torchvision and timm."""

from __future__ import annotations

import pytest
import torch
from mobile_nets import (
    FUSED,
    SEPARATE,
    assert_figures_fit_or_say_why,
    assert_same_outputs,
    assert_trains,
    chain_cost,
    efficientnet_renaming,
    fingerprint,
    fits,
    kinds_of,
    output_shapes,
    report_of,
    scramble,
    totals_of,
    without_data,
)

from flopscope.zoo import build, find

# kernel, stride, expansion of the seven stages; then of each network the side of its input, the
# channels of stem, stages and head, and the repeats, as scaling and rounding leave them.
SHAPES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
NETWORKS = {
    "b0": (224, 32, (16, 24, 40, 80, 112, 192, 320), 1280, (1, 2, 2, 3, 3, 4, 1)),
    "b1": (240, 32, (16, 24, 40, 80, 112, 192, 320), 1280, (2, 3, 3, 4, 4, 5, 2)),
    "b2": (260, 32, (16, 24, 48, 88, 120, 208, 352), 1408, (2, 3, 3, 4, 4, 5, 2)),
    "b3": (300, 40, (24, 32, 48, 96, 136, 232, 384), 1536, (2, 3, 3, 5, 5, 6, 2)),
    "b4": (380, 48, (24, 32, 56, 112, 160, 272, 448), 1792, (2, 4, 4, 6, 6, 8, 2)),
    "b5": (456, 48, (24, 40, 64, 128, 176, 304, 512), 2048, (3, 5, 5, 7, 7, 9, 3)),
    "b6": (528, 56, (32, 40, 72, 144, 200, 344, 576), 2304, (3, 6, 6, 8, 8, 11, 3)),
    "b7": (600, 64, (32, 48, 80, 160, 224, 384, 640), 2560, (4, 7, 7, 10, 10, 13, 4)),
}
EXACT = {
    "b0": (5_288_548, 385_814_752),
    "b1": (7_794_184, 686_802_832),
    "b2": (9_109_994, 993_561_872),
    "b3": (12_233_232, 1_827_141_392),
    "b4": (19_341_616, 4_393_771_024),
    "b5": (30_389_784, 10_266_384_752),  # by the arithmetic of this file
    "b6": (43_040_704, 19_067_593_536),
    "b7": (66_347_960, 37_745_884_192),
}
FUSED_B4 = {
    3: (19_990_168, 7_340_966_944),
    5: (43_201_192, 20_688_564_256),
    7: (131_794_672, 33_737_984_032),
}


def _blocks(size):
    _, cin, widths, _, repeats = NETWORKS[size]
    for (kernel, stride, expansion), cout, count in zip(SHAPES, widths, repeats, strict=True):
        for index in range(count):
            yield cin, cout, cin * expansion, kernel, 1 if index else stride, cin // 4, SEPARATE
            cin = cout


@pytest.mark.parametrize("size", NETWORKS)
def test_counts_are_exact_and_follow_from_the_table(size):
    side, stem, _, head, _ = NETWORKS[size]
    name = f"efficientnet_{size}"
    assert chain_cost(list(_blocks(size)), stem=stem, head=head, fcs=[1000], side=side) == EXACT[size]
    assert totals_of(name) == EXACT[size] == (find(name).params, find(name).macs)
    assert find(name).resolution == side


def test_b2_at_the_size_at_which_torchvision_evaluates_it():
    assert totals_of("efficientnet_b2", 288) == (9_109_994, 1_087_529_456)


@pytest.mark.parametrize("count", FUSED_B4)
def test_fused_b4_is_the_documented_fit(count):
    # Stage by stage: kernels 3 3 3 3 5 5 3 and an SE in all but the last two, where fused.
    kernels = (3, 3, 3, 3, 5, 5, 3)
    ends = [sum(NETWORKS["b4"][4][: stage + 1]) for stage in range(7)]
    blocks = []
    for index, block in enumerate(_blocks("b4")):
        stage = next(stage for stage, end in enumerate(ends) if index < end)
        if stage < count:
            cin, cout, expanded, _, stride, squeezed, _ = block
            block = (cin, cout, expanded, kernels[stage], stride, squeezed * (stage < 5), FUSED)
        blocks.append(block)
    name = f"efficientnet_b4_fused_1_{count}"
    assert chain_cost(blocks, stem=48, head=1792, fcs=[1000], side=380) == FUSED_B4[count]
    assert totals_of(name) == FUSED_B4[count] == (find(name).params, find(name).macs)
    # The fit's promise: params within 0.5 % of the table, MACs 1.02 to 1.03 times below the counter's.
    (figure,) = find(name).published
    assert abs(figure.params_m * 1e6 / FUSED_B4[count][0] - 1) < 0.005
    assert 1.015 < figure.macs_g * 1e9 / FUSED_B4[count][1] < 1.035
    assert "fit" in figure.reason


@pytest.mark.parametrize("size", NETWORKS)
def test_every_stage_has_its_shape(size):
    side, stem, widths, head, _ = NETWORKS[size]
    report = report_of(f"efficientnet_{size}")
    expected, side = [(1, stem, -(-side // 2), -(-side // 2))], -(-side // 2)
    for (_, stride, _), width in zip(SHAPES, widths, strict=True):
        side = -(-side // stride)
        expected.append((1, width, side, side))
    paths = ["stem", *(f"stages.{index}" for index in range(7)), "head", "classifier"]
    assert output_shapes(report, paths) == [*expected, (1, head, side, side), (1, 1000)]


def test_shapes_of_b0_as_its_table_prints_them():
    report = report_of("efficientnet_b0")
    sides = [shape[-1] for shape in output_shapes(report, [f"stages.{index}" for index in range(7)])]
    assert sides == [112, 56, 28, 14, 14, 7, 7]


@pytest.mark.parametrize("size", ["b0", "b4"])
def test_every_block_is_what_it_is(size):
    repeats = NETWORKS[size][4]
    blocks, residuals = sum(repeats), sum(repeats) - 7  # no stage keeps its width in its first block
    expanding = blocks - repeats[0]  # the first stage has expansion 1
    report = report_of(f"efficientnet_{size}")
    assert kinds_of(report) == {
        "conv": 1,
        "depthwise_conv": blocks,
        "pointwise_conv": expanding + blocks + 1,
        "se": blocks,
        "batch_norm": 1 + expanding + 2 * blocks + 1,
        "activation": 1 + expanding + blocks + 1,
        "elementwise": residuals,
        "pooling": 1,
        "linear": 1,
        "data_movement": 2,  # flatten, and the dropout that does nothing
    }
    kinds = {layer.path: layer.kind for layer in report.layers}
    for stage, count in enumerate(repeats):
        for index in range(count):
            assert kinds[f"stages.{stage}.{index}.depthwise.conv"] == "depthwise_conv"
            assert kinds[f"stages.{stage}.{index}.se"] == "se"
            assert kinds[f"stages.{stage}.{index}.project.conv"] == "pointwise_conv"


def test_fused_stages_have_no_depthwise_convolution():
    report = report_of("efficientnet_b4_fused_1_3")
    found = [layer.path for layer in report.layers if layer.kind == "depthwise_conv"]
    assert {path.split(".")[1] for path in found} == {"3", "4", "5", "6"}
    assert len(found) == 6 + 6 + 8 + 2
    assert kinds_of(report)["se"] == 32  # the fit keeps the SEs of the first five stages
    assert kinds_of(report_of("efficientnet_b4_fused_1_7"))["se"] == 2 + 4 + 4 + 6 + 6


def test_a_training_step_reaches_every_parameter():
    assert_trains("efficientnet_b0", 48)


def test_stochastic_depth_varies_in_training_and_never_in_eval():
    torch.manual_seed(0)
    model = build("efficientnet_b0", num_classes=4, drop_rate=0.0, stochastic_depth=0.9)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(model.train()(images), model(images))
        assert torch.equal(model.eval()(images), model(images))
    # 16 blocks, of which 9 are residual; the rate grows as 0.9 * index / 16, to block 14 (from 0).
    rates = [module.rate for module in model.modules() if hasattr(module, "rate")]
    assert rates == pytest.approx([0.9 * index / 16 for index in (2, 4, 6, 7, 9, 10, 12, 13, 14)])


def test_names_are_stable():
    state = list(without_data("efficientnet_b0").state_dict())
    assert state[:2] == ["stem.conv.weight", "stem.norm.weight"]
    assert "stages.1.0.expand.conv.weight" in state
    assert "stages.6.0.se.reduce.bias" in state
    assert state[-2:] == ["classifier.weight", "classifier.bias"]
    assert fingerprint(without_data("efficientnet_b0")) == "10e88890066608ea"
    assert fingerprint(without_data("efficientnet_b4_fused_1_7")) == "aeb6e29241db8423"


def test_published_figures_fit_or_say_why():
    for name in [f"efficientnet_{size}" for size in NETWORKS]:
        assert_figures_fit_or_say_why(find(name))


@pytest.mark.parametrize(
    ("printed", "exact", "fit"),
    [(5.3, 5_288_548, True), (9.2, 9_109_994, False), (66, 66_347_960, True), (65, 66_347_960, False)],
)
def test_a_figure_fits_by_the_digits_that_it_prints(printed, exact, fit):
    assert fits(printed, exact, 1e6) is fit


def test_b0_gives_torchvisions_outputs():
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    theirs = scramble(models.efficientnet_b0(weights=None), eps=1e-3)
    ours = without_data("efficientnet_b0")
    # 40 becomes 20, 10, 5, 3 and 2: strides meet even and odd sides.
    assert_same_outputs(ours, theirs, efficientnet_renaming(ours), side=40)


@pytest.mark.parametrize("size", ["b3", "b5", "b7"])
def test_counts_of_torchvision(size):
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    weights = models.get_model_weights(f"efficientnet_{size}").IMAGENET1K_V1
    params, macs = totals_of(f"efficientnet_{size}", weights.transforms().crop_size[0])
    assert params == weights.meta["num_params"]
    assert f"{macs / 1e9:.3f}" == f"{weights.meta['_ops']:.3f}"
