"""Every torchvision classification network against the figures that torchvision publishes for it.

`meta["_ops"]` holds the published multiply-adds in units of 1e9, to three decimals, and
`meta["num_params"]` the parameters. The networks are built without data, on the meta device, each
as its weights were made: at the weights' crop size, and with these exceptions:

- GoogLeNet's figures are those without its auxiliary heads; Inception's parameters are those with
  its head, whose work an evaluation does not do. Both skip an initialisation that takes minutes.
- A vision transformer has one image size, that of its weights.
- RegNet computes its widths with tensors, which hold no numbers under a meta context: that step
  alone is taken on the CPU.
"""

from __future__ import annotations

from contextlib import ExitStack
from unittest import mock

import pytest
import torch

import flopscope

torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
models = torchvision.models


def _entries():
    """(network, crop size) -> the weights published for it."""
    found = {}
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            crop = weights.transforms().crop_size
            found.setdefault((name, crop[0]), []).append(weights)
    return found


ENTRIES = _entries()


def _built(name, crop):
    keywords = {}
    if name == "googlenet":
        keywords = {"aux_logits": False, "init_weights": False}
    elif name == "inception_v3":
        keywords = {"aux_logits": True, "init_weights": False}
    elif name.startswith("vit_"):
        keywords = {"image_size": crop}
    with ExitStack() as stack:
        stack.enter_context(torch.device("meta"))
        if name.startswith("regnet"):
            stack.enter_context(_widths_on_cpu())
        return models.get_model(name, weights=None, **keywords)


def _widths_on_cpu():
    plan = models.regnet.BlockParams
    original = plan.from_init_params

    def from_init_params(*args, **kwargs):
        with torch.device("cpu"):
            return original(*args, **kwargs)

    return mock.patch.object(plan, "from_init_params", from_init_params)


def test_all_published_weights_are_covered():
    # torchvision 0.29 publishes 115 classification weights of 80 networks.
    assert sum(len(weights) for weights in ENTRIES.values()) >= 115
    assert len({name for name, _ in ENTRIES}) >= 80


@pytest.mark.parametrize(("name", "crop"), sorted(ENTRIES), ids=[f"{n}-{c}" for n, c in sorted(ENTRIES)])
def test_published_figures(name, crop):
    model = _built(name, crop)
    report = flopscope.count(model, (1, 3, crop, crop))
    for weights in ENTRIES[name, crop]:
        assert f"{report.total.macs / 1e9:.3f}" == f"{weights.meta['_ops']:.3f}", weights
        assert report.total.params == weights.meta["num_params"], weights
    assert sum(layer.macs for layer in report.layers) == report.total.macs
    assert sum(layer.params for layer in report.layers) == report.total.params
    assert report.uncosted == {}
    assert report.route == "meta"
    assert report.warnings == ()


def test_weights_of_one_network_differ_only_in_values():
    # The same network on ordinary weights gives the same counts as the one without data.
    real = flopscope.count(models.resnet18(weights=None), (1, 3, 224, 224)).total
    meta = flopscope.count(_built("resnet18", 224), (1, 3, 224, 224)).total
    assert (real.macs, real.flops, real.params) == (meta.macs, meta.flops, meta.params)
    # 1.814 GMAC and 11,689,512 parameters, as published.
    assert f"{real.macs / 1e9:.3f}" == "1.814"
    assert real.params == 11_689_512
