"""Swin: totals from Table 7 by arithmetic, shapes, kinds, training, and torchvision's weights in ours."""

from __future__ import annotations

import re

import pytest
import torch
from zoo_families import (
    assert_same_outputs,
    assert_trains,
    copied,
    count_of,
    fill,
    kinds,
    on_meta,
    shapes_of,
    totals,
    unfilled,
)

from flopscope import zoo
from flopscope.zoo.swin import Stage, Swin, shift_mask

# arXiv 2103.14030, Table 7: width of the first stage, blocks per stage, heads per stage
TABLE_7 = {
    "swin_t": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "swin_s": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "swin_b": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
}
KNOWN = {  # exact totals of the official networks
    "swin_t": (28_288_354, 4_490_566_656),
    "swin_s": (49_606_258, 8_740_875_264),
}


def by_hand(width, depths, heads):
    """(params, macs) at 224, where every map is a whole number of windows."""
    side = 224 // 4
    params = 4 * 4 * 3 * width + width + 2 * width  # patches: weight, bias; layer norm
    macs = side**2 * 4 * 4 * 3 * width
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        c = width * 2**stage
        if stage:
            side //= 2
            params += 2 * (2 * c) + 2 * c * c  # norm of 4 (c/2) channels; 4 (c/2) -> c, no bias
            macs += side**2 * 2 * c * c
        weights = 3 * c * c + c * c + 4 * c * c + 4 * c * c  # qkv, projection, the two of the MLP
        biases = 3 * c + c + 4 * c + c
        params += depth * (weights + biases + 2 * (2 * c) + 13**2 * count)  # two norms; position bias
        macs += depth * side**2 * (weights + 2 * 49 * c)  # each pixel with the 49 of its window, twice
    return params + 2 * c + c * 1000 + 1000, macs + c * 1000


@pytest.mark.parametrize("name", TABLE_7)
def test_totals_follow_from_the_table(name):
    expected = by_hand(*TABLE_7[name])
    entry = zoo.networks()[name]
    assert totals(count_of(name)) == expected == (entry.params, entry.macs)
    assert expected == KNOWN.get(name, expected)


@pytest.mark.parametrize("name", TABLE_7)
def test_shapes_of_the_stages(name):
    width = TABLE_7[name][0]
    shapes = shapes_of(on_meta(name), 224)
    assert shapes["patches"] == (1, 56, 56, width)
    sides = (56, 28, 14, 7)
    for stage, side in enumerate(sides):
        assert shapes[f"stages.{stage}"] == (1, side, side, width * 2**stage)
    assert shapes["classifier"] == (1, 1000)


@pytest.mark.parametrize("name", TABLE_7)
def test_kinds(name):
    blocks = sum(TABLE_7[name][1])
    found = kinds(count_of(name))
    assert found["attention"] == blocks
    assert found["linear"] == 4 * blocks + 3 + 1  # qkv, projection, MLP; three mergings; classifier
    assert found["norm"] == 2 * blocks + 1 + 3 + 1  # two a block; patches; mergings; last
    assert found["activation"] == blocks
    assert found["conv"] == 1
    assert not {"pointwise_conv", "depthwise_conv", "matmul"} & set(found)


def test_attention_costs_two_products_per_window():
    report = count_of("swin_t")
    first = next(layer for layer in report.layers if layer.kind == "attention")
    # 64 windows; scores and their use: 2 products of 49 x 49 pixels over 96 channels.
    assert first.macs == 64 * 2 * 49 * 49 * 96


def test_a_shifted_block_reaches_across_windows_and_not_across_the_image():
    torch.manual_seed(0)
    stage = Stage(96, 6, [0.0, 0.0], merges=False).eval()
    x = torch.zeros(1, 14, 14, 96)
    mask = shift_mask(x, 3)

    def reached(block, row, column, *shift):
        """First and last row and column that change with one pixel."""
        y = x.clone()
        y[0, row, column] = torch.randn(96)
        with torch.inference_mode():
            changed = (block(y, *shift) - block(x, *shift)).abs().sum(-1)[0].nonzero()
        return (*changed.min(0).values.tolist(), *changed.max(0).values.tolist())

    # Without a shift, 6 belongs to the window 0..6. With a shift of 3 windows are 3..9 and 10..13 with
    # 0..2 rolled behind it, which the mask keeps apart.
    assert reached(stage.blocks[0], 6, 6) == (0, 0, 6, 6)
    assert reached(stage.blocks[1], 6, 6, 3, mask) == (3, 3, 9, 9)
    assert reached(stage.blocks[1], 13, 6, 3, mask) == (10, 3, 13, 9)
    assert reached(stage.blocks[1], 0, 0, 3, mask) == (0, 0, 2, 2)


def test_maps_are_padded_to_whole_windows():
    shapes = shapes_of(on_meta("swin_t"), 160)
    assert [shapes[f"stages.{stage}"][1] for stage in range(4)] == [40, 20, 10, 5]


def test_it_trains():
    assert_trains(Swin(24, (2, 2, 2, 2), (1, 2, 4, 8), 10), 64)


def test_names_of_the_state():
    names = list(on_meta("swin_t").state_dict())
    assert len(names) == 185
    assert names[:3] == ["patches.conv.weight", "patches.conv.bias", "patches.norm.weight"]
    assert "stages.2.blocks.5.attention.position_bias" in names
    assert names[-1] == "classifier.bias"


def ours_for_torchvision(name):
    name = re.sub(r"^head\.", "classifier.", name)
    name = name.replace("features.0.0.", "patches.conv.").replace("features.0.2.", "patches.norm.")
    # torchvision numbers stages and mergings in one row: 1 stage, 2 merging, 3 stage ...
    name = re.sub(r"^features\.([1357])\.", lambda found: f"stages.{int(found[1]) // 2}.blocks.", name)
    name = re.sub(r"^features\.([246])\.", lambda found: f"stages.{int(found[1]) // 2}.merging.", name)
    name = name.replace("relative_position_bias_table", "position_bias")
    name = name.replace("relative_position_index", "position_index")
    name = name.replace("merging.reduction", "merging.reduce")
    name = name.replace(".attn.qkv.", ".attention.attention.qkv.")
    name = name.replace(".attn.proj.", ".attention.attention.project.").replace(".attn.", ".attention.")
    return name.replace(".mlp.0.", ".mlp.expand.").replace(".mlp.3.", ".mlp.project.")


def test_torchvision_gives_the_same_outputs():
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    with unfilled():
        theirs, ours = models.swin_t(weights=None), zoo.build("swin_t")
    with torch.no_grad():
        fill(theirs)
    ours.load_state_dict(copied(theirs.state_dict(), ours_for_torchvision))
    # Maps of 28, 14, 7 and 4: several windows with and without a shift, one window, a padded one.
    assert_same_outputs(ours, theirs, 112)


def test_torchvision_has_the_same_totals_for_base():
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    entry = zoo.networks()["swin_b"]
    meta = models.Swin_B_Weights.IMAGENET1K_V1.meta
    assert (entry.params, round(entry.macs / 1e9, 3)) == (meta["num_params"], meta["_ops"])
