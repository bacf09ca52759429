"""MobileNetV2 1.0, 0.5 and 1.4, against the table, torchvision and timm."""

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

from flopscope.zoo import find

# Expansion, repeats and stride of the rows of Table 2; channels of stem, rows and head by width:
# 0.5 x 24 = 12 -> 16 (a tie), 1.4 x 16 = 22.4 -> 24, 1.4 x 96 = 134.4 -> 136, 1.4 x 1280 = 1792.
ROWS = ((1, 1, 1), (6, 2, 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1))
WIDTHS = {
    "mobilenetv2": (32, (16, 24, 32, 64, 96, 160, 320), 1280),
    "mobilenetv2_050": (16, (8, 16, 16, 32, 48, 80, 160), 1280),
    "mobilenetv2_140": (48, (24, 32, 48, 88, 136, 224, 448), 1792),
}
EXACT = {
    "mobilenetv2": (3_504_872, 300_774_272),
    "mobilenetv2_050": (1_968_680, 97_131_840),
    "mobilenetv2_140": (6_108_776, 582_195_824),
}


def _blocks(name):
    cin, widths, _ = WIDTHS[name]
    for (expansion, count, stride), cout in zip(ROWS, widths, strict=True):
        for index in range(count):
            yield cin, cout, cin * expansion, 3, 1 if index else stride, 0, SEPARATE
            cin = cout


@pytest.mark.parametrize("name", WIDTHS)
def test_counts_are_exact_and_follow_from_the_table(name):
    stem, _, head = WIDTHS[name]
    assert chain_cost(list(_blocks(name)), stem=stem, head=head, fcs=[1000], side=224) == EXACT[name]
    assert totals_of(name) == EXACT[name] == (find(name).params, find(name).macs)


@pytest.mark.parametrize("name", WIDTHS)
def test_every_stage_has_its_shape(name):
    stem, widths, head = WIDTHS[name]
    sides = (112, 56, 28, 14, 14, 7, 7)
    expected = [(1, width, side, side) for width, side in zip(widths, sides, strict=True)]
    paths = ["stem", *(f"stages.{index}" for index in range(7)), "head", "classifier"]
    shapes = [(1, stem, 112, 112), *expected, (1, head, 7, 7), (1, 1000)]
    assert output_shapes(report_of(name), paths) == shapes


@pytest.mark.parametrize(("name", "twins"), [("mobilenetv2", 0), ("mobilenetv2_050", 1)])
def test_every_block_is_what_it_is(name, twins):
    # 17 blocks, of which 16 expand. 1 + 2 + 3 + 2 + 2 = 10 repeat a width at stride 1; at 0.5 rows 2
    # and 3 are both 16 wide, but the stride of 2 between them allows no shortcut either.
    assert twins == sum(a == b for a, b in zip(WIDTHS[name][1], WIDTHS[name][1][1:], strict=False))
    assert kinds_of(report_of(name)) == {
        "conv": 1,
        "depthwise_conv": 17,
        "pointwise_conv": 16 + 17 + 1,
        "batch_norm": 1 + 16 + 17 + 17 + 1,
        "activation": 1 + 16 + 17 + 1,
        "elementwise": 10,
        "pooling": 1,
        "linear": 1,
        "data_movement": 2,  # flatten, and the dropout that does nothing
    }


def test_a_training_step_reaches_every_parameter():
    assert_trains("mobilenetv2_050", 48)


def test_stochastic_depth_is_off_unless_asked_for():
    assert not [module for module in without_data("mobilenetv2").modules() if hasattr(module, "rate")]
    model = without_data("mobilenetv2", stochastic_depth=0.17)
    # The rate grows by 0.17 / 17 from block to block; the 10 residual ones are these, from 0.
    rates = [module.rate for module in model.modules() if hasattr(module, "rate")]
    assert rates == pytest.approx([0.01 * index for index in (2, 4, 5, 7, 8, 9, 11, 12, 14, 15)])


def test_names_are_stable():
    state = list(without_data("mobilenetv2").state_dict())
    assert state[:2] == ["stem.conv.weight", "stem.norm.weight"]
    assert "stages.0.0.depthwise.conv.weight" in state
    assert "stages.6.0.project.norm.running_var" in state
    assert state[-2:] == ["classifier.weight", "classifier.bias"]
    assert fingerprint(without_data("mobilenetv2")) == "07fdfb7fa7076ded"


@pytest.mark.parametrize("name", WIDTHS)
def test_published_figures_fit_or_say_why(name):
    assert_figures_fit_or_say_why(find(name))


def _torchvision_renaming(model):
    """torchvision numbers all blocks through, and does not wrap the conv and norm of the projection."""
    places = {"stem": "features.0", "head": "features.18", "classifier": "classifier.1"}
    blocks = [
        (f"stages.{s}.{b}", block) for s, stage in enumerate(model.stages) for b, block in enumerate(stage)
    ]
    for number, (path, block) in enumerate(blocks, start=1):
        *wrapped, project = parts_of(block)
        assert project == "project"
        places |= {f"{path}.{part}": f"features.{number}.conv.{place}" for place, part in enumerate(wrapped)}
        places[f"{path}.project.conv"] = f"features.{number}.conv.{len(wrapped)}"
        places[f"{path}.project.norm"] = f"features.{number}.conv.{len(wrapped) + 1}"
    return renaming(places)


def test_same_outputs_as_torchvision():
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    theirs = scramble(models.mobilenet_v2(weights=None), eps=1e-5)
    ours = without_data("mobilenetv2")
    assert_same_outputs(ours, theirs, _torchvision_renaming(ours), side=40)
    weights = models.MobileNet_V2_Weights.DEFAULT
    assert weights.meta["num_params"] == EXACT["mobilenetv2"][0]
    assert weights.meta["_ops"] == 0.301


@pytest.mark.parametrize("name", ["mobilenetv2_050", "mobilenetv2_140"])
def test_same_outputs_as_timm(name):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    theirs = scramble(timm.create_model(name), eps=1e-5)
    ours = without_data(name)
    assert_same_outputs(ours, theirs, by_position(ours, theirs), side=40)


def test_weights_need_no_data_and_no_device():
    assert all(
        parameter.device == torch.device("meta") for parameter in without_data("mobilenetv2").parameters()
    )
