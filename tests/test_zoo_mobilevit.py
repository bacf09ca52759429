"""MobileViT: totals from its table by arithmetic, shapes, kinds, training, and timm's weights in ours."""

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
)

from flopscope import zoo
from flopscope.zoo.mobilevit import folded, unfolded

# arXiv 2110.02178, Table 4: expansion; widths of L1 to L5; widths of the transformers of L3 to L5
TABLE_4 = {
    "mobilevit_xxs": (2, (16, 24, 48, 64, 80), (64, 80, 96)),
    "mobilevit_xs": (4, (32, 48, 64, 80, 96), (96, 120, 144)),
    "mobilevit_s": (4, (32, 64, 96, 128, 160), (144, 192, 240)),
}
KNOWN = {  # exact totals at 256 and at 224
    "mobilevit_xxs": (1_272_024, 407_364_096, 301_495_296),
    "mobilevit_xs": (2_317_848, 1_025_911_808, 772_340_288),
    "mobilevit_s": (5_578_632, 2_000_831_488, 1_521_507_328),
}


class Sum:
    """Params and MACs, added up; a convolution is followed by a batch norm unless it is bare."""

    def __init__(self):
        self.params = self.macs = 0

    def conv(self, cin, cout, k, side, groups=1, bare=False):
        weights = cin // groups * cout * k * k
        self.params += weights + (0 if bare else 2 * cout)
        self.macs += weights * side**2

    def inverted(self, cin, cout, expansion, side, stride):
        wide = cin * expansion
        self.conv(cin, wide, 1, side)
        self.conv(wide, wide, 3, side // stride, groups=wide)
        self.conv(wide, cout, 1, side // stride)

    def mobilevit(self, c, d, layers, side):
        inner = side + side % 2  # resized where it does not divide into patches of 2x2
        self.conv(c, c, 3, side)
        self.conv(c, d, 1, side, bare=True)
        weights = 4 * d * d + 4 * d * d  # qkv and projection; the MLP of twice the width
        self.params += layers * (weights + 4 * d + 3 * d + 4 * d) + 2 * d  # biases, two norms; last norm
        # Each pixel attends to those at its own place in the patches, a quarter of all: two products.
        self.macs += layers * inner**2 * (weights + 2 * (inner**2 // 4) * d)
        self.conv(d, c, 1, side)
        self.conv(2 * c, c, 3, side)


def by_hand(expansion, widths, inner, size):
    total, (first, second, *later) = Sum(), widths
    total.conv(3, 16, 3, size // 2)
    total.inverted(16, first, expansion, size // 2, 1)
    total.inverted(first, second, expansion, size // 2, 2)
    for _ in range(2):
        total.inverted(second, second, expansion, size // 4, 1)
    before, side = second, size // 4
    for c, d, layers in zip(later, inner, (2, 4, 3), strict=True):
        total.inverted(before, c, expansion, side, 2)
        side //= 2
        total.mobilevit(c, d, layers, side)
        before = c
    total.conv(before, 4 * before, 1, side)
    return total.params + 4 * before * 1000 + 1000, total.macs + 4 * before * 1000


@pytest.mark.parametrize("name", TABLE_4)
def test_totals_follow_from_the_table(name):
    params, at_256, at_224 = KNOWN[name]
    entry = zoo.networks()[name]
    assert by_hand(*TABLE_4[name], 256) == (params, at_256) == (entry.params, entry.macs)
    assert by_hand(*TABLE_4[name], 224) == (params, at_224)
    assert totals(count_of(name)) == (params, at_256)
    assert totals(count_of(name, 224)) == (params, at_224)


@pytest.mark.parametrize("name", TABLE_4)
def test_shapes_of_the_stages(name):
    widths = TABLE_4[name][1]
    shapes = shapes_of(on_meta(name), 256)
    assert shapes["stem"] == (1, 16, 128, 128)
    for stage, side in enumerate((128, 64, 32, 16, 8)):
        assert shapes[f"stages.{stage}"] == (1, widths[stage], side, side)
    assert shapes["head"] == (1, 4 * widths[-1], 8, 8)
    assert shapes["classifier"] == (1, 1000)


@pytest.mark.parametrize("name", TABLE_4)
def test_kinds(name):
    found = kinds(count_of(name))
    inverted, blocks, layers = 1 + 3 + 3, 3, 2 + 4 + 3
    assert found["depthwise_conv"] == inverted
    assert found["pointwise_conv"] == 2 * inverted + 2 * blocks + 1  # and the head
    assert found["conv"] == 1 + 2 * blocks
    assert found["attention"] == layers
    assert found["linear"] == 4 * layers + 1
    assert found["norm"] == 2 * layers + blocks
    assert found["batch_norm"] == 1 + 3 * inverted + 3 * blocks + 1
    assert not {"matmul", "group_conv", "se"} & set(found)


def test_unfolding_puts_the_same_place_of_every_patch_into_a_sequence():
    x = torch.arange(16).view(1, 1, 4, 4)
    sequences = unfolded(x)
    # 2x2 patches of a 4x4 image: the upper left pixels are 0, 2, 8, 10; the lower right 5, 7, 13, 15.
    assert sequences.shape == (4, 4, 1)
    assert sequences[0].flatten().tolist() == [0, 2, 8, 10]
    assert sequences[3].flatten().tolist() == [5, 7, 13, 15]
    y = torch.randn(2, 3, 6, 8)
    assert torch.equal(folded(unfolded(y), 6, 8), y)


def test_it_trains():
    assert_trains(zoo.build("mobilevit_xxs"), 64)


def test_names_of_the_state():
    names = list(on_meta("mobilevit_xxs").state_dict())
    assert names[:2] == ["stem.conv.weight", "stem.norm.weight"]
    assert "stages.4.1.layers.2.attention.qkv.weight" in names
    assert names[-1] == "classifier.bias"


PARTS = {
    "conv1_1x1": "expand", "conv2_kxk": "depthwise", "conv3_1x1": "project", "conv_kxk": "local",
    "conv_1x1": "widen", "transformer": "layers", "conv_proj": "narrow", "conv_fusion": "fusion",
    "bn": "norm", "attn": "attention", "proj": "project", "fc1": "expand", "fc2": "project",
    "final_conv": "head",
}  # fmt: skip


def ours_for_timm(name):
    name = re.sub(r"^head\.fc\.", "classifier.", name)
    return ".".join(PARTS.get(part, part) for part in name.split("."))


@pytest.mark.parametrize("size", [256, 224])
def test_timm_gives_the_same_outputs(size):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    theirs = timm.create_model("mobilevit_xxs", pretrained=False)
    with torch.no_grad():
        fill(theirs)
    ours = zoo.build("mobilevit_xxs")
    ours.load_state_dict(copied(theirs.state_dict(), ours_for_timm))
    assert_same_outputs(ours, theirs, size)


@pytest.mark.parametrize("name", TABLE_4)
def test_timm_has_the_same_parameters(name):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        theirs = timm.create_model(name, pretrained=False)
    assert sum(parameter.numel() for parameter in theirs.parameters()) == zoo.networks()[name].params
