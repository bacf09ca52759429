"""A tool's name -> how its users ask it for the MACs of a model: one adapter per tool.

Each adapter makes the documented call and returns the MACs it is told (half the FLOPs, where a
tool counts 2 per MAC), or None where the tool does not say.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Tool:
    """A tool, the package that it needs, the device it is asked on, and the call."""

    name: str
    package: str
    device: str
    macs: Callable[[nn.Module, torch.Tensor], int]

    @property
    def is_here(self) -> bool:
        """Whether its package is installed."""
        return importlib.util.find_spec(self.package) is not None


def _flopscope(model: nn.Module, x: torch.Tensor) -> int:
    import flopscope

    return flopscope.count(model, x, progress=False).total.macs


def _flop_counter(model: nn.Module, x: torch.Tensor) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as mode, torch.inference_mode():
        model(x)
    return int(mode.get_total_flops()) // 2


def _fvcore(model: nn.Module, x: torch.Tensor) -> int:
    from fvcore.nn import FlopCountAnalysis

    with torch.no_grad():
        return int(FlopCountAnalysis(model, x).total())


def _ptflops(backend: str) -> Callable[[nn.Module, torch.Tensor], int]:
    def macs(model: nn.Module, x: torch.Tensor) -> int:
        from ptflops import get_model_complexity_info

        told = get_model_complexity_info(
            model, tuple(x.shape[1:]), as_strings=False, print_per_layer_stat=False, backend=backend
        )
        return int(told[0])

    return macs


def _thop(model: nn.Module, x: torch.Tensor) -> int:
    import thop

    return int(thop.profile(model, inputs=(x,), verbose=False)[0])


def _torchinfo(model: nn.Module, x: torch.Tensor) -> int:
    import torchinfo

    told = torchinfo.summary(model, input_data=[x], device=x.device, verbose=0)
    str(told)
    return int(told.total_mult_adds)


def _torchprofile(model: nn.Module, x: torch.Tensor) -> int:
    from torchprofile import profile_macs

    return int(profile_macs(model, x))


def _deepspeed(model: nn.Module, x: torch.Tensor) -> int:
    from deepspeed.profiling.flops_profiler import get_model_profile

    told = get_model_profile(
        model, input_shape=tuple(x.shape), print_profile=False, detailed=False, as_string=False, warm_up=0
    )
    return int(told[1])


TOOLS = (
    Tool("flopscope", "flopscope", "meta", _flopscope),
    Tool("flopscope", "flopscope", "cpu", _flopscope),
    Tool("torch FlopCounterMode", "torch", "meta", _flop_counter),
    Tool("torch FlopCounterMode", "torch", "cpu", _flop_counter),
    Tool("torchinfo", "torchinfo", "meta", _torchinfo),
    Tool("torchinfo", "torchinfo", "cpu", _torchinfo),
    Tool("fvcore", "fvcore", "cpu", _fvcore),
    Tool("ptflops, pytorch engine", "ptflops", "cpu", _ptflops("pytorch")),
    Tool("ptflops, aten engine", "ptflops", "cpu", _ptflops("aten")),
    Tool("thop", "thop", "cpu", _thop),
    Tool("torchprofile", "torchprofile", "cpu", _torchprofile),
    Tool("DeepSpeed", "deepspeed", "cpu", _deepspeed),
)


def true_macs(model: nn.Module, x: torch.Tensor) -> int:
    """The MACs by an independent count: torch's counter on meta, attention in its parts."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        return _flop_counter(model, x)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let tools that print, warn and log do so into nothing."""
    logging.disable(logging.CRITICAL)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        yield


def tool(name: str, device: str) -> Tool:
    """The adapter of that name and device."""
    return next(item for item in TOOLS if (item.name, item.device) == (name, device))


def versions() -> dict[str, str]:
    """The versions of the packages that are here."""
    import importlib.metadata as metadata

    found: dict[str, Any] = {}
    for package in dict.fromkeys(item.package for item in TOOLS if item.is_here):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
