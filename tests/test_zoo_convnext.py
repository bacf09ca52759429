"""ConvNeXt: totals from its table by arithmetic, shapes, kinds, training, torchvision's weights in ours."""

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
    one_thread,
    shapes_of,
    totals,
    unfilled,
)

from flopscope import zoo
from flopscope.zoo.convnext import ConvNeXt

# arXiv 2201.03545, section 3: blocks per stage, width per stage
TABLE = {
    "convnext_t": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_s": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_b": ((3, 3, 27, 3), (128, 256, 512, 1024)),
}
KNOWN = {  # exact totals of the official networks
    "convnext_t": (28_589_128, 4_455_531_264),
    "convnext_s": (50_223_688, 8_683_712_256),
}


def by_hand(depths, widths):
    """(params, macs) at 224."""
    side, before = 224 // 4, widths[0]
    params = 4 * 4 * 3 * before + before + 2 * before  # stem: weight, bias; layer norm
    macs = side**2 * 4 * 4 * 3 * before
    for depth, c in zip(depths, widths, strict=True):
        if c != before:
            side //= 2
            params += 2 * before + 2 * 2 * before * c + c  # layer norm; conv2x2 with bias
            macs += side**2 * 2 * 2 * before * c
        # depthwise 7x7, norm, linear to 4c, linear to c, layer scale
        params += depth * ((49 * c + c) + 2 * c + (4 * c * c + 4 * c) + (4 * c * c + c) + c)
        macs += depth * side**2 * (49 * c + 8 * c * c)
        before = c
    return params + 2 * c + c * 1000 + 1000, macs + c * 1000


@pytest.mark.parametrize("name", TABLE)
def test_totals_follow_from_the_table(name):
    expected = by_hand(*TABLE[name])
    entry = zoo.networks()[name]
    assert totals(count_of(name)) == expected == (entry.params, entry.macs)
    assert expected == KNOWN.get(name, expected)


def test_a_larger_image_has_the_macs_of_its_maps():
    assert totals(count_of("convnext_t", 288)) == (28_589_128, 7_364_764_416)
    assert totals(count_of("convnext_t", 384)) == (28_589_128, 13_092_317_184)


@pytest.mark.parametrize("name", TABLE)
def test_shapes_of_the_stages(name):
    widths = TABLE[name][1]
    shapes = shapes_of(on_meta(name), 224)
    assert shapes["stem"] == (1, widths[0], 56, 56)
    for stage, side in enumerate((56, 28, 14, 7)):
        assert shapes[f"stages.{stage}"] == (1, widths[stage], side, side)
    assert shapes["classifier"] == (1, 1000)


@pytest.mark.parametrize("name", TABLE)
def test_kinds(name):
    blocks = sum(TABLE[name][0])
    found = kinds(count_of(name))
    assert found["depthwise_conv"] == blocks
    assert found["linear"] == 2 * blocks + 1
    assert found["norm"] == blocks + 1 + 3 + 1  # one a block; stem; three downsamplings; last
    assert found["activation"] == blocks
    assert found["conv"] == 4  # stem and downsamplings
    assert not {"pointwise_conv", "group_conv", "attention", "batch_norm"} & set(found)


def test_it_trains():
    assert_trains(ConvNeXt((3, 3, 9, 3), (24, 48, 96, 192), 10), 64)


def test_layer_scale_starts_at_a_millionth():
    with unfilled():
        model = zoo.build("convnext_t")
    assert torch.equal(model.stages[3][1].scale, torch.full((768,), 1e-6))


@one_thread()
def test_stochastic_depth_rises_to_its_rate_and_rests_in_eval():
    torch.manual_seed(0)
    model = ConvNeXt((3, 3, 9, 3), (8, 16, 32, 64), 10, stochastic_depth=0.4)
    rates = [module.rate for module in model.modules() if type(module).__name__ == "DropPath"]
    # 18 blocks: from 0 by equal steps to 0.4.
    assert rates == pytest.approx([0.4 * index / 17 for index in range(18)])
    x = torch.randn(4, 3, 32, 32)
    fill_scale(model, 1.0)
    with torch.no_grad():
        assert not torch.equal(model.train()(x), model(x))
        assert torch.equal(model.eval()(x), model(x))


def fill_scale(model, value):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".scale"):
                parameter.fill_(value)


def test_names_of_the_state():
    names = list(on_meta("convnext_t").state_dict())
    assert len(names) == 182
    assert names[:3] == ["stem.0.weight", "stem.0.bias", "stem.1.weight"]
    assert "stages.2.9.depthwise.weight" in names
    assert names[-1] == "classifier.bias"


PARTS = {
    "block.0": "depthwise",
    "block.2": "norm",
    "block.3": "expand",
    "block.5": "project",
    "layer_scale": "scale",
}


def ours_for_torchvision(name):
    name = name.replace("features.0.", "stem.")
    name = name.replace("classifier.0.", "norm.").replace("classifier.2.", "classifier.")
    # torchvision numbers downsamplings and stages in one row: 1 stage, 2 downsampling, 3 stage ...
    name = re.sub(r"^features\.([246])\.0", lambda found: f"stages.{int(found[1]) // 2}.0.norm", name)
    name = re.sub(r"^features\.([246])\.1", lambda found: f"stages.{int(found[1]) // 2}.0.conv", name)
    block = re.match(r"^features\.([1357])\.(\d+)\.(block\.\d|layer_scale)(.*)", name)
    if block is None:
        return name
    stage, place, part, rest = block.groups()
    # Our stages after the first begin with their downsampling.
    return f"stages.{int(stage) // 2}.{int(place) + (stage != '1')}.{PARTS[part]}{rest}"


def test_torchvision_gives_the_same_outputs():
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    with unfilled():
        theirs, ours = models.convnext_tiny(weights=None), zoo.build("convnext_t")
    with torch.no_grad():
        fill(theirs)
    state = copied(theirs.state_dict(), ours_for_torchvision)
    ours.load_state_dict({name: state[name].view(value.shape) for name, value in ours.state_dict().items()})
    assert_same_outputs(ours, theirs, 64)


def test_torchvision_has_the_same_totals_for_small_and_base():
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    for name, theirs in (("convnext_s", "convnext_small"), ("convnext_b", "convnext_base")):
        entry, meta = zoo.networks()[name], models.get_model_weights(theirs).IMAGENET1K_V1.meta
        assert (entry.params, round(entry.macs / 1e9, 3)) == (meta["num_params"], meta["_ops"])
