"""VGG16: exact counts, and torchvision's network with copied weights."""

from __future__ import annotations

import pytest
import torch
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
from flopscope.zoo.vgg import VGG, D

CONVOLUTIONS = ((3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256),
                (256, 512), (512, 512), (512, 512), (512, 512), (512, 512), (512, 512))  # fmt: skip
SIDES = (224, 224, 112, 112, 56, 56, 56, 28, 28, 28, 14, 14, 14)


@pytest.mark.parametrize(("name", "norms"), [("vgg16", 0), ("vgg16_bn", 2 * 4224)])
def test_counts_are_exact(name, norms):
    """With batch norm 2·4224 params more: 4224 = 2·64 + 2·128 + 3·256 + 6·512 channels."""
    report, entry = report_of(name), zoo.find(name)
    assert (report.total.params, report.total.macs) == (entry.params, entry.macs)
    assert entry.params == 138_357_544 + norms
    assert entry.macs == 15_470_264_320
    assert report.conventions["winograd_muls"] == 6_944_358_400
    assert report.conventions["params_folded"] == 138_357_544


def test_counts_follow_from_the_table():
    linear = [25088 * 4096, 4096 * 4096, 4096 * 1000]
    kernels = [9 * cin * cout for cin, cout in CONVOLUTIONS]
    biases = sum(cout for _, cout in CONVOLUTIONS) + 4096 + 4096 + 1000
    macs = sum(kernel * side**2 for kernel, side in zip(kernels, SIDES, strict=True))
    assert (sum(kernels) + sum(linear) + biases, macs + sum(linear)) == (138_357_544, 15_470_264_320)


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_kinds_and_shapes(name):
    report = report_of(name)
    assert kinds_of(report) == {"conv": 13, "linear": 3}
    pools = [layer.output_shape for layer in report.layers if layer.kind == "pooling"]
    assert pools == [(1, 64, 112, 112), (1, 128, 56, 56), (1, 256, 28, 28), (1, 512, 14, 14), (1, 512, 7, 7)]
    assert shapes_of(report, "features", "flatten", "") == [(1, 512, 7, 7), (1, 25088), (1, 1000)]


def test_published_figures():
    report = report_of("vgg16")
    for printed in zoo.find("vgg16").published:
        assert as_printed(report.total.params / 1e6, printed.params_m)
        assert as_printed(report.total.macs / 1e9, printed.macs_g)


def test_one_training_step_reaches_every_parameter():
    assert after_training_step(lambda: zoo.build("vgg16_bn", num_classes=10), 224, batch=1) == []


def test_names_are_stable():
    with torch.device("meta"):
        assert names_digest(zoo.build("vgg16")) == "35c4623e0cd4a39d"
        assert names_digest(zoo.build("vgg16_bn")) == "347371586a8ea365"


def test_agreement_with_torchvision():
    """Both have the same names. torchvision's adaptive pool is the identity at 224."""
    torchvision = pytest.importorskip("torchvision")
    theirs = trained_like(torchvision.models.get_model("vgg16", weights=None, init_weights=False))
    ours = load_renamed(zoo.build("vgg16"), theirs.state_dict(), str)
    x = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        expected, got = theirs(x), ours(x)
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_features_with_batch_norm_agree_with_torchvision():
    models = pytest.importorskip("torchvision").models
    with torch.device("meta"):  # without filling 120 million weights of the classifiers
        theirs, ours = models.vgg16_bn(weights=None).features, VGG(D, batch_norm=True).features
    theirs.to_empty(device="cpu").double()
    for module in theirs:
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    theirs = trained_like(theirs)
    ours = load_renamed(ours.to_empty(device="cpu").double(), theirs.state_dict(), str)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        expected, got = theirs(x), ours(x)
    assert (got - expected).abs().max() <= 1e-10 * expected.abs().max()


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_counts_agree_with_torchvision(name):
    models = pytest.importorskip("torchvision").models
    with torch.device("meta"):
        theirs = flopscope.count(models.get_model(name, weights=None), (1, 3, 224, 224)).total
    ours = report_of(name).total
    assert (ours.params, ours.macs) == (theirs.params, theirs.macs)
