"""FasterNet: exact counts, both ways of counting that the paper prints, and the three forms of PConv."""

from __future__ import annotations

import re

import pytest
import torch
from counting import counted
from torch import nn
from zoo_checks import (
    after_training_step,
    as_printed,
    kinds_of,
    load_renamed,
    names_digest,
    report_of,
    shapes_of,
    trained_like,
)

import flopscope
from flopscope import zoo
from flopscope.errors import InputError
from flopscope.zoo.fasternet import FasterNetBlock, PartialConv, S

# name: width, blocks per stage; params, MACs, fvcore's count and BN-folded params of the official code.
OFFICIAL = {
    "fasternet_t0": (40, (1, 2, 8, 2), 3905500, 335422720, 338041280, 3900660),
    "fasternet_t1": (64, (1, 2, 8, 2), 7595368, 850511872, 854701568, 7587624),
    "fasternet_t2": (96, (1, 2, 8, 2), 14982888, 1904334848, 1910619392, 14971272),
    "fasternet_s": (128, (1, 2, 13, 2), 31181032, 4549740544, 4560126976, 31160424),
    "fasternet_m": (144, (3, 4, 18, 3), 53521464, 8721938432, 8741525888, 53488488),
    "fasternet_l": (192, (3, 4, 18, 3), 93465192, 15494383616, 15520500224, 93421224),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_counts_are_those_of_the_official_code(name):
    _, _, params, macs, fvcore, folded = OFFICIAL[name]
    report, entry = report_of(name), zoo.find(name)
    assert (report.total.params, report.total.macs) == (params, macs) == (entry.params, entry.macs)
    assert report.conventions["fvcore_like"] == fvcore
    assert report.conventions["params_folded"] == folded


@pytest.mark.parametrize("name", OFFICIAL)
def test_counts_follow_from_the_stage_table(name):
    width, blocks, params, macs, _, _ = OFFICIAL[name]
    total_params = 48 * width + 2 * width  # 4x4 convolution of 3 channels; BN
    total_macs = 48 * width * 56**2
    for stage, count in enumerate(blocks):
        c, area = width * 2**stage, (56 // 2**stage) ** 2
        if stage:
            total_params += 4 * (c // 2) * c + 2 * c
            total_macs += 4 * (c // 2) * c * area
        convolved = 9 * (c // 4) ** 2 + 2 * c * c + 2 * c * c
        total_params += count * (convolved + 2 * 2 * c)  # BN behind the first 1x1 only
        total_macs += count * convolved * area
    head = 8 * width * 1280 + 1280 * 1000
    assert (total_params + head + 1000, total_macs + head) == (params, macs)


@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.parametrize("form", ["split_cat", "slicing", "in_place"])
def test_every_block_has_one_pconv(name, form):
    blocks = sum(OFFICIAL[name][1])
    report = report_of(name, f"form={form}")
    # Embedding and three mergings; two pointwise convolutions a block, and that of the head; the classifier.
    assert kinds_of(report) == {"conv": 4, "pointwise_conv": 2 * blocks + 1, "pconv": blocks, "linear": 1}
    assert {layer.type for layer in report.layers if layer.kind == "pconv"} == {"PartialConv"}
    pconvs = [layer.path for layer in report.layers if layer.kind == "pconv"]
    assert pconvs == [layer.path for layer in report.tree if layer.type == "PartialConv"]


def test_output_shapes_of_the_stages():
    paths = ("embedding", "stages.0", "stages.1", "stages.2", "stages.3", "head", "")
    assert shapes_of(report_of("fasternet_t0"), *paths) == [
        (1, 40, 56, 56),
        (1, 40, 56, 56), (1, 80, 28, 28), (1, 160, 14, 14), (1, 320, 7, 7),
        (1, 1280, 1, 1), (1, 1000),
    ]  # fmt: skip


@pytest.mark.parametrize("name", OFFICIAL)
def test_published_figures(name):
    report = report_of(name)
    table3, readme = zoo.find(name).published
    assert as_printed(report.total.params / 1e6, table3.params_m)
    assert as_printed(report.conventions["fvcore_like"] / 1e9, table3.macs_g)
    assert as_printed(report.conventions["params_folded"] / 1e6, readme.params_m)
    assert as_printed(report.total.macs / 1e9, readme.macs_g)


def test_bytes_of_the_three_forms():
    """64x56x56 in float32: a quarter of the map is 16·56·56·4 = 200,704 bytes, the weights 16·16·9·4 = 9,216.

    The published formula (eq. 5, with the weights): read and write that quarter, 410,624 bytes. Executed:
    the convolution moves that; `split_cat` then reads and writes all four quarters; `slicing` first copies
    them and then writes one back; `in_place` only writes one back.
    """
    quarter, formula = 200_704, 2 * 200_704 + 9_216
    expected = {
        "split_cat": formula + 8 * quarter,
        "slicing": formula + 8 * quarter + 2 * quarter,
        "in_place": formula + 2 * quarter,
    }
    for form, moved in expected.items():
        report = counted(PartialConv(64, form=form), (1, 64, 56, 56))
        (layer,) = [layer for layer in report.layers if layer.macs]
        assert (layer.kind, layer.formula_bytes) == ("pconv", formula)
        assert layer.bytes_read + layer.bytes_written == moved
        assert layer.macs == 9 * 16 * 16 * 56 * 56


def test_slicing_computes_what_split_cat_does_and_in_place_does_not():
    x = torch.randn(2, 16, 9, 9, dtype=torch.float64)
    keywords = {"activation": nn.ReLU, "drop_path": 0.0}
    blocks = {
        form: FasterNetBlock(16, form=form, **keywords) for form in ("split_cat", "slicing", "in_place")
    }
    trained_like(blocks["split_cat"])
    outputs = {}
    for form, block in blocks.items():
        block.load_state_dict(blocks["split_cat"].state_dict())
        given = x.clone()
        with torch.no_grad():
            outputs[form] = block.double().eval()(given)
        assert torch.equal(given, x) == (form != "in_place")
    assert torch.equal(outputs["slicing"], outputs["split_cat"])
    # What is wrong is the residual alone: the first quarter is the convolved map instead of the input.
    off = outputs["in_place"] - outputs["split_cat"]
    assert off[:, :4].abs().max() > 0.1
    torch.testing.assert_close(off, blocks["split_cat"].pconv(x).detach() - x)


def test_in_place_is_for_inference_only():
    model = zoo.build("fasternet_t0", form="in_place", num_classes=10).train()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        model(torch.randn(2, 3, 64, 64)).sum().backward()


def test_an_unknown_form_is_refused():
    with pytest.raises(InputError, match="no form 'inplace'") as caught:
        zoo.build("fasternet_t0", form="inplace")
    assert "split_cat, slicing, in_place" in caught.value.hint


@pytest.mark.parametrize("form", ["split_cat", "slicing"])
def test_one_training_step_reaches_every_parameter(form):
    assert after_training_step(lambda: zoo.build("fasternet_t0", form=form, num_classes=10), 64) == []


def test_drop_path_grows_with_depth_and_is_off_in_eval():
    with torch.device("meta"):
        rates = [
            block.drop_path.rate
            for block in zoo.build("fasternet_s").modules()
            if isinstance(block, FasterNetBlock)
        ]
    assert rates == pytest.approx([S.drop_path * index / 17 for index in range(18)])  # 1 + 2 + 13 + 2 blocks
    model = zoo.build("fasternet_t0", stochastic_depth=0.9, num_classes=10)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), model(x))
        assert not torch.equal(model.train()(x), model(x))


def test_names_are_stable():
    with torch.device("meta"):
        assert names_digest(zoo.build("fasternet_t0")) == "eeebdd7375aa0520"
        assert names_digest(zoo.build("fasternet_t0", form="slicing")) == "eeebdd7375aa0520"


def as_ours(name):
    """Translate timm's name of an entry into ours: a stage's merging is the first of its modules here."""

    def block(match):
        stage, index = int(match[1]), int(match[2])
        return f"stages.{stage}.{index + (stage > 0)}."

    name = re.sub(r"^stages\.(\d)\.blocks\.(\d+)\.", block, name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", r"stages.\1.0.", name)
    for theirs, ours in {
        "patch_embed.proj": "embedding.conv",
        "patch_embed.norm": "embedding.norm",
        ".0.reduction": ".0.conv",
        "spatial_mixing.partial_conv3": "pconv.conv",
        "mlp.0": "expand.conv",
        "mlp.1": "expand.norm",
        "mlp.3": "project",
        "conv_head": "head",
    }.items():
        name = name.replace(theirs, ours)
    return name


def test_agreement_with_timm():
    timm = pytest.importorskip("timm")
    theirs = trained_like(timm.create_model("fasternet_t0").double())
    ours = load_renamed(zoo.build("fasternet_t0").double(), theirs.state_dict(), as_ours)
    x = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-10)
    counts = [flopscope.count(model, (1, 3, 224, 224)).total for model in (ours, theirs)]
    assert (counts[0].macs, counts[0].params) == (counts[1].macs, counts[1].params)


def test_a_saved_model_loads_without_trust(tmp_path):
    model = zoo.build("fasternet_t0", num_classes=10).eval()
    torch.save(model, tmp_path / "model.pt")
    loaded = flopscope.load_model(str(tmp_path / "model.pt"))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(x), model(x))
