"""What tests of networks share: a count on the meta device, trained-like norms, one training step."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import lru_cache

import torch
from counting import counted
from torch import nn

from flopscope import zoo


@lru_cache(maxsize=64)
def report_of(name, query="", resolution=None):
    """The report of a network built on the meta device; `query` as in an address ("deploy=true")."""
    with torch.device("meta"):
        model = zoo.build(name, **options_of(query))
    side = resolution or zoo.find(name).resolution
    return counted(model, (1, 3, side, side))


def options_of(query):
    """`deploy=true&branches=none` -> the constructor's keywords."""
    pairs = [pair.split("=") for pair in query.split("&") if pair]
    return {key: value == "true" if value in ("true", "false") else value for key, value in pairs}


def kinds_of(report):
    """How many layers there are of each kind that computes MACs or is a recognised block."""
    contracting = (
        "conv",
        "pointwise_conv",
        "depthwise_conv",
        "group_conv",
        "pconv",
        "se",
        "linear",
        "matmul",
    )
    counts = Counter(layer.kind for layer in report.layers)
    return {kind: counts[kind] for kind in (*contracting, "attention") if counts[kind]}


def shapes_of(report, *paths):
    """The output shapes of modules, by path, from the tree."""
    found = {layer.path: layer.output_shape for layer in report.tree}
    return [found[path] for path in paths]


def trained_like(model, *, seed=0):
    """Give every batch norm random statistics and affine parameters, as training leaves them; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
            ):
                tensor.copy_(torch.empty(tensor.shape).uniform_(low, high, generator=generator))
    return model.eval()


def after_training_step(build, side, *, batch=2):
    """Names of parameters that one training step leaves without a finite gradient other than zero."""
    torch.manual_seed(0)
    model = build().train()
    logits = model(torch.randn(batch, 3, side, side))
    assert torch.isfinite(logits).all()
    nn.functional.cross_entropy(logits, torch.arange(batch)).backward()
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None
        or not torch.isfinite(parameter.grad).all()
        or not parameter.grad.abs().sum() > 0
    ]


def names_digest(model):
    """A digest of the names and shapes of a state_dict: it changes when saved weights no longer load."""
    lines = "\n".join(f"{name} {tuple(value.shape)}" for name, value in model.state_dict().items())
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def load_renamed(model, weights, rename):
    """Load another library's weights, each name passed through `rename`; every entry must find its place."""
    model.load_state_dict({rename(name): value for name, value in weights.items()}, strict=True)
    return model.eval()


def as_printed(ours, printed):
    """Whether `ours` rounds or truncates to `printed`, in the decimals that `printed` shows."""
    decimals = len(repr(float(printed)).partition(".")[2])
    return abs(ours - printed) < 10.0**-decimals
