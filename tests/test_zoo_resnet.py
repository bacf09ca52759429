"""ResNet: exact counts of v1 and v1.5, and torchvision's networks with copied weights."""

from __future__ import annotations

import re

import pytest
import torch
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

REPEATS = {
    "18": (2, 2, 2, 2),
    "34": (3, 4, 6, 3),
    "50": (3, 4, 6, 3),
    "101": (3, 4, 23, 3),
    "152": (3, 8, 36, 3),
}
NAMES = [f"resnet{depth}" for depth in REPEATS] + [f"resnet{depth}_v1" for depth in ("50", "101", "152")]

# params, MACs; and where the reference has them, params with BN folded and multiplications with Winograd.
KNOWN = {
    "resnet18": (11689512, 1814073344, 11684712, 979144704),
    "resnet50": (25557032, 4089184256, 25530472, None),
    "resnet50_v1": (25557032, 3857973248, 25530472, 2830368768),
    "resnet101": (44549160, 7801405440, 44496488, None),
    "resnet101_v1": (44549160, 7570194432, 44496488, 5450760192),
}


def convolutions_of(name):
    """(cin, cout, kernel, side of the output) of every convolution of the stage table."""
    yield 3, 64, 7, 112
    depth, _, version = name.removeprefix("resnet").partition("_")
    cin, side = 64, 56
    for stage, count in enumerate(REPEATS[depth]):
        width = 64 * 2**stage
        for index in range(count):
            before, side = side, 56 // 2**stage
            cout = width if depth in ("18", "34") else 4 * width
            if depth in ("18", "34"):
                yield from ((cin, width, 3, side), (width, width, 3, side))
            else:
                yield cin, width, 1, side if version == "v1" else before  # v1 strides here, v1.5 at the 3x3
                yield from ((width, width, 3, side), (width, cout, 1, side))
            if index == 0 and (stage or cin != cout):
                yield cin, cout, 1, side
            cin = cout


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_exact(name):
    layers = list(convolutions_of(name))
    last = layers[-1][1]
    params = sum(cin * cout * k * k + 2 * cout for cin, cout, k, _ in layers) + 1000 * last + 1000
    macs = sum(cin * cout * k * k * side**2 for cin, cout, k, side in layers) + 1000 * last
    report, entry = report_of(name), zoo.find(name)
    assert (report.total.params, report.total.macs) == (params, macs) == (entry.params, entry.macs)
    if name in KNOWN:
        known = KNOWN[name]
        assert (params, macs, report.conventions["params_folded"]) == known[:3]
        assert known[3] in (None, report.conventions["winograd_muls"])


@pytest.mark.parametrize("name", NAMES)
def test_kinds(name):
    layers = list(convolutions_of(name))
    pointwise = sum(k == 1 for _, _, k, _ in layers)
    assert kinds_of(report_of(name)) == {
        "conv": len(layers) - pointwise,
        "pointwise_conv": pointwise,
        "linear": 1,
    }


def test_output_shapes_of_the_stages():
    paths = ("stem", "maxpool", "stages.0", "stages.1", "stages.2", "stages.3", "")
    sides = ((112, 112), (56, 56), (56, 56), (28, 28), (14, 14), (7, 7), ())
    for name, widths in {
        "resnet34": (64, 64, 64, 128, 256, 512, 1000),
        "resnet50": (64, 64, 256, 512, 1024, 2048, 1000),
        "resnet50_v1": (64, 64, 256, 512, 1024, 2048, 1000),
    }.items():
        expected = [(1, width, *side) for width, side in zip(widths, sides, strict=True)]
        assert shapes_of(report_of(name), *paths) == expected


def test_v1_and_v1_5_differ_first_where_the_stride_is():
    """Equal params; the first 1x1 of stage 2 gives 28x28 in v1 and 56x56 in v1.5."""
    old, new = report_of("resnet50_v1"), report_of("resnet50")
    assert old.total.params == new.total.params
    pairs = zip(old.layers, new.layers, strict=True)
    first = next((a, b) for a, b in pairs if a.output_shape != b.output_shape)
    assert {layer.path for layer in first} == {"stages.1.0.branch.0.conv"}
    assert [layer.output_shape for layer in first] == [(1, 128, 28, 28), (1, 128, 56, 56)]


@pytest.mark.parametrize("name", NAMES)
def test_published_figures(name):
    report = report_of(name)
    for printed in zoo.find(name).published:
        folded = printed.convention == "MAC, BN folded"
        params = report.conventions["params_folded"] if folded else report.total.params
        macs = report.conventions["fvcore_like"] if printed.convention == "fvcore" else report.total.macs
        assert as_printed(params / 1e6, printed.params_m)
        assert as_printed(macs / 1e9, printed.macs_g)


@pytest.mark.parametrize("name", ["resnet18", "resnet50_v1"])
def test_one_training_step_reaches_every_parameter(name):
    assert after_training_step(lambda: zoo.build(name, num_classes=10), 64) == []


def test_names_are_stable():
    with torch.device("meta"):
        assert names_digest(zoo.build("resnet18")) == "9d3a72bf9dbd099d"
        assert names_digest(zoo.build("resnet50")) == "87501015a092b141"
        assert names_digest(zoo.build("resnet50_v1")) == "87501015a092b141"


def as_ours(name):
    """Translate torchvision's name of an entry into ours."""
    name = re.sub(r"^(conv|bn)1\.", lambda match: f"stem.{match[1]}.", name)
    name = re.sub(r"^layer(\d)\.", lambda match: f"stages.{int(match[1]) - 1}.", name)
    name = re.sub(r"\.(conv|bn)(\d)\.", lambda match: f".branch.{int(match[2]) - 1}.{match[1]}.", name)
    for theirs, ours in {
        "downsample.0": "shortcut.conv",
        "downsample.1": "shortcut.norm",
        "fc.": "classifier.",
    }.items():
        name = name.replace(theirs, ours)
    return name.replace(".bn.", ".norm.")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_agreement_with_torchvision(name):
    torchvision = pytest.importorskip("torchvision")
    theirs = trained_like(torchvision.models.get_model(name, weights=None).double())
    ours = load_renamed(zoo.build(name).double(), theirs.state_dict(), as_ours)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        expected, got = theirs(x), ours(x)
    assert (got - expected).abs().max() <= 1e-10 * expected.abs().max()
    counts = [flopscope.count(model, (1, 3, 224, 224)).total for model in (ours, theirs)]
    assert (counts[0].macs, counts[0].params) == (counts[1].macs, counts[1].params)


@pytest.mark.parametrize("name", ["resnet34", "resnet101", "resnet152"])
def test_counts_agree_with_torchvision(name):
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        theirs = flopscope.count(torchvision.models.get_model(name, weights=None), (1, 3, 224, 224)).total
    ours = report_of(name).total
    assert (ours.params, ours.macs) == (theirs.params, theirs.macs)
