"""What tests of rewrites share: models as training leaves them, traces, and what must not change."""

from __future__ import annotations

import copy
import hashlib

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from flopscope import costs, rewrites, tracing
from flopscope.rewrites.checking import difference


class Free(nn.Module):
    """Modules called as `run(self, x)` says, whatever order they are registered in."""

    def __init__(self, run, **modules):
        super().__init__()
        self.run = run
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.run(self, x)


def shaken(model):
    """In float64 and eval mode, every norm with random statistics and parameters, as after training."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            if module.track_running_stats:
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2.0)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.double().eval()


def traced(model, *args, meta=True):
    """The trace of one call, without data where the model can do without."""
    device = "meta" if meta else "cpu"
    args = tuple(value.to(device) for value in args)
    private = copy.deepcopy(model).to(device)
    return tracing.trace(private, args, {}, keep=costs.has_formula, meta=meta)


def rewritten(name, model, *args):
    """Rewrite, and check that the copy computes the same, is a copy, and the model is as it was."""
    before = state_hash(model)
    done = rewrites.find(name).apply(model, traced(model, *args), None)
    assert state_hash(model) == before
    assert not {id(p) for p in model.parameters()} & {id(p) for p in done.model.parameters()}
    assert not done.model.training
    assert difference(model, done.model, args, {}).relative <= 1e-10
    return done


def state_hash(model):
    """A digest of every byte of a state_dict."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def image(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def params(model):
    return sum(parameter.numel() for parameter in model.parameters())


def norms(model):
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]
