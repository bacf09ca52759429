"""Nets and conditions whose cause of slowness is known by construction, each beside a twin without it.

A `Case` names the finding that must be made of one layer of the planted side, and must not be made of the
control's; `why` says by which construction the cause is there. Sizes come from processors of today: a
buffer "beyond cache" has 64 MB, one within a cache 256 kB.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

PROCESSORS = -1
"""As many threads as the process may use processors."""
TOO_MANY = -4
"""Four times as many threads as that."""
POOLED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
"""With these glibc keeps what it once got: no mapping of its own for a large block, nothing handed back."""
OLD_PROCESSOR = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
"""With these torch and oneDNN use no instruction that came after AVX2: none for 16-bit floats."""


@dataclass(frozen=True)
class Side:
    """One run: a net, its input, and the conditions in which it is profiled in a process of its own.

    `path` is the layer's, where it is not the case's; `company` is a foreign process beside it ("spin",
    "stream"); `own_roofs` asks for roofs measured under the same environment.
    """

    net: Callable[[], nn.Module]
    inputs: Any
    path: str | None = None
    threads: int = 1
    dtype: str | None = None
    channels_last: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    company: str = ""
    onednn: bool = True
    own_roofs: bool = False


@dataclass(frozen=True)
class Case:
    """A cause by construction: `code` must be named of the layer `path` when planted, and not in the twin.

    `told_by` is "layer", or "report" where the word of the whole report is meant.
    """

    name: str
    code: str
    path: str
    planted: Side
    control: Side
    why: str
    told_by: str = "layer"


# --------------------------------------------------------------------------- nets


def row(**layers: nn.Module) -> nn.Module:
    """Layers one after the other, by name."""
    return nn.Sequential(OrderedDict(layers))


def conv(inside: int, outside: int, kernel: int, groups: int = 1) -> nn.Conv2d:
    """A convolution of stride 1 that keeps the size."""
    return nn.Conv2d(inside, outside, kernel, padding=kernel // 2, groups=groups)


class Doing(nn.Module):
    """A container whose own operators are `what`, after a layer that leaves its data in the cache."""

    def __init__(self, what: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.what = nn.ReLU(), what

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The first layer, then the container's own."""
        return self.what(self.first(x))


class PartialConv(nn.Module):
    """FasterNet's partial convolution as it is trained: a quarter is convolved, all is put together anew."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.part = channels // 4
        self.partial_conv3 = nn.Conv2d(self.part, self.part, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Split, convolve, cat."""
        first, rest = torch.split(x, [self.part, x.shape[1] - self.part], 1)
        return torch.cat((self.partial_conv3(first), rest), 1)


class AfterFlood(nn.Module):
    """A linear layer before whose every run 64 MB of other data are written; or hardly any are."""

    def __init__(self, flood: int) -> None:
        super().__init__()
        self.fc = nn.Linear(512, 512)
        self.flood = nn.Hardtanh(inplace=True)
        self.register_buffer("other", torch.ones(flood), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The flood, then the layer."""
        self.flood(self.other)
        return self.fc(x)


class Waiting(nn.Module):
    """Python that computes nothing."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Wait."""
        _busy(self.seconds)
        return x


def _busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _slow_double(x: torch.Tensor) -> torch.Tensor:
    _busy(300e-6)
    return x * 2.0


def denormal(layer: nn.Linear) -> nn.Linear:
    """The same layer with weights so small that each product takes the processor's slow path."""
    with torch.no_grad():
        layer.weight.fill_(1e-39)
    return layer


# --------------------------------------------------------------------------- cases

IMAGE, SMALL, WIDE = (1, 64, 56, 56), (1, 64, 7, 7), (1, 64, 28, 28)
DEPTHWISE = Side(lambda: row(layer=conv(64, 64, 3, 64)), (1, 64, 112, 112))
DENSE = Side(lambda: row(layer=conv(64, 64, 3)), IMAGE)
FLAT = (16, 1_000_000)  # 64 MB
RELU = Side(lambda: row(first=nn.ReLU(), layer=nn.ReLU()), (64, 1024))

CASES = (
    Case(
        "foreign-busy", "disturbed", "layer", Side(DENSE.net, IMAGE, company="spin"), DENSE,
        "another process computes all the time: one of the processors is never free", told_by="report",
    ),
    Case(
        "foreign-stream", "disturbed", "layer", Side(DENSE.net, IMAGE, company="stream"), DENSE,
        "another process streams main memory all the time", told_by="report",
    ),
    Case(
        "fresh-buffers", "page-faults", "layer",
        Side(lambda: row(first=nn.ReLU(), layer=nn.ReLU()), (12, 64, 112, 112)),
        Side(lambda: row(first=nn.ReLU(), layer=nn.ReLU()), (12, 64, 112, 112), env=POOLED),
        "glibc maps each block above 32 MB anew and unmaps it when freed; the control's malloc keeps them",
    ),
    Case(
        "nchw-depthwise", "layout-reorder", "layer",
        DEPTHWISE, Side(DEPTHWISE.net, DEPTHWISE.inputs, channels_last=True),
        "oneDNN's depthwise kernels compute in layouts with channels innermost; the control's tensors are so",
    ),
    Case(
        "depthwise", "no-gemm", "layer", DEPTHWISE, DENSE,
        "one channel in a group is a product of a matrix with one column; the control has one group",
    ),
    Case(
        "tiny-tensors", "dispatch-overhead", "layer",
        Side(lambda: row(first=nn.ReLU(), layer=nn.ReLU()), (1, 16)),
        Side(RELU.net, (8, 64, 56, 56), env=POOLED),
        "16 numbers: nothing to compute or move beside the call itself; the control has 1.6 million",
    ),
    Case(
        "python-alone", "dispatch-overhead", "layer",
        Side(lambda: row(first=nn.ReLU(), wait=Waiting(300e-6), layer=nn.ReLU()), (64, 1024)),
        Side(lambda: row(first=nn.ReLU(), layer=nn.ReLU()), (2048, 1024), env=POOLED),
        "300 µs of Python in a module without operators, before the layer; the control has 8 MB and no wait",
    ),
    Case(
        "python-amid", "unknown", "(ops)",
        Side(lambda: Doing(_slow_double), (64, 1024)), Side(lambda: Doing(lambda x: x * 2.0), (64, 1024)),
        "300 µs of Python beside an operator: nothing tells the two apart, and nothing else may be blamed",
    ),
    Case(
        "one-row", "matrix-vector", "layer",
        Side(lambda: row(layer=nn.Linear(2048, 2048)), (1, 2048)),
        Side(lambda: row(layer=nn.Linear(2048, 2048)), (256, 2048)),
        "16.8 MB of weights are read to multiply one row; the control's 256 rows use each weight as often",
    ),
    Case(
        "one-pixel", "matrix-vector", "layer",
        Side(lambda: row(layer=conv(2048, 1024, 1)), (1, 2048, 1, 1)),
        Side(lambda: row(layer=conv(256, 256, 1)), (1, 256, 28, 28)),
        "a 1x1 convolution of one pixel uses each weight once; the control's 784 pixels",
    ),
    Case(
        "odd-groups", "fallback-kernel", "layer",
        Side(lambda: row(layer=conv(51, 51, 3, 3)), (4, 51, 28, 28)),
        Side(lambda: row(layer=conv(64, 64, 3)), (4, 64, 28, 28)),
        "blocked layouts hold no groups of 17 channels, so that im2col runs; the control has one group of 64",
    ),
    Case(
        "odd-channels", "channel-misaligned", "layer",
        Side(lambda: row(layer=conv(33, 33, 3)), (4, 33, 28, 28)),
        Side(lambda: row(layer=conv(64, 64, 3)), (4, 64, 28, 28)),
        "33 channels: one more than two vectors of 16 hold; the control's 64 fill four",
    ),
    Case(
        "no-onednn", "fallback-kernel", "layer",
        Side(lambda: row(layer=conv(64, 64, 3, 8)), IMAGE, onednn=False),
        Side(lambda: row(layer=conv(64, 64, 3, 8)), IMAGE),
        "oneDNN is switched off, so that torch's own im2col convolution runs; the control has it",
    ),
    Case(
        "cat-heavy", "copy-only", "(ops)",
        Side(lambda: Doing(lambda x: torch.cat((x, x, x, x), 1)), (1, 64, 56, 56)),
        Side(lambda: Doing(lambda x: x * 2.0), (1, 64, 56, 56)),
        "the block's own operator is a cat of four tensors; the control's is a multiplication",
    ),
    Case(
        "copying-view", "copy-only", "(ops)",
        Side(lambda: Doing(lambda x: x.transpose(1, 2).contiguous()), (1, 512, 1024)),
        Side(lambda: Doing(lambda x: x.transpose(1, 2)), (1, 512, 1024)),
        "a transposed tensor is made contiguous; the control's is only looked at the other way",
    ),
    Case(
        "partial-conv", "copy-only", "layer",
        Side(lambda: row(layer=PartialConv(64)), (4, 64, 56, 56), env=POOLED),
        Side(lambda: row(layer=conv(64, 64, 3)), (4, 64, 56, 56), env=POOLED),
        "PConv's cat copies all channels though a quarter is computed; the control convolves all of them",
    ),
    Case(
        "beyond-cache", "beyond-cache", "layer",
        Side(lambda: row(first=nn.ReLU(), layer=nn.ReLU()), FLAT, env=POOLED),
        Side(lambda: row(first=nn.ReLU(), layer=nn.ReLU()), (64, 1024), env=POOLED),
        "128 MB are read and written in one call; in the control half a megabyte. Both: a pooled allocator",
    ),
    Case(
        "element-wise", "low-intensity", "layer",
        Side(lambda: row(first=nn.ReLU(), layer=nn.ReLU()), FLAT, env=POOLED),
        Side(lambda: row(first=nn.ReLU(), layer=nn.Linear(1024, 1024)), (1024, 1024), env=POOLED),
        "a ReLU does one FLOP for eight bytes; the control's product of matrices 170 for each byte",
    ),
    Case(
        "after-flood", "cold-data", "fc",
        Side(lambda: AfterFlood(16_000_000), (16, 512)), Side(lambda: AfterFlood(1000), (16, 512)),
        "64 MB of other data are written before each run of a layer with 1 MB of weights; in the twin 4 kB",
    ),
    Case(
        "in-cache", "cache-resident", "layer",
        Side(lambda: row(first=nn.ReLU(), layer=nn.ReLU()), (64, 1024), env=POOLED),
        Side(lambda: row(first=nn.ReLU(), layer=nn.ReLU()), FLAT, env=POOLED),
        "half a megabyte is still in the cache from the layer before; the control moves 128 MB",
    ),
    Case(
        "old-processor", "slow-dtype", "layer",
        Side(lambda: row(layer=conv(32, 32, 3)), (1, 32, 28, 28), dtype="bfloat16", env=OLD_PROCESSOR,
             own_roofs=True),
        Side(lambda: row(layer=conv(32, 32, 3)), (1, 32, 28, 28), env=OLD_PROCESSOR, own_roofs=True),
        "torch is kept from all instructions after AVX2, which has none for bfloat16; the control is float32",
    ),
    Case(
        "too-many-threads", "oversubscribed", "layer", Side(DENSE.net, IMAGE, threads=TOO_MANY), DENSE,
        "four times as many threads as processors; the control has one",
    ),
    Case(
        "too-small", "too-small-for-threads", "layer",
        Side(lambda: row(first=nn.ReLU(), layer=conv(8, 8, 3)), (1, 8, 7, 7), threads=PROCESSORS),
        Side(lambda: row(first=nn.ReLU(), layer=conv(64, 64, 3)), IMAGE, threads=PROCESSORS),
        "56 kFLOP are less than it takes to hand them out to threads; the control has 230 MFLOP",
    ),
    Case(
        "small-map", "padding-share", "layer",
        Side(lambda: row(layer=conv(64, 64, 3)), SMALL), DENSE,
        "at 7x7 a 3x3 kernel meets padding in 80 of 441 taps (18 %); at 56x56 in 2.4 %",
    ),
    Case(
        "batch-norm", "unfused", "bn",
        Side(lambda: row(conv=conv(64, 64, 1), bn=nn.BatchNorm2d(64)), IMAGE),
        Side(lambda: row(bn=nn.BatchNorm2d(64), conv=conv(64, 64, 1)), IMAGE),
        "batch norm directly after a convolution can be folded into it; in the control nothing is before it",
    ),
    Case(
        "large-weights", "weights-reordered", "layer",
        Side(lambda: row(layer=conv(512, 512, 3)), (1, 512, 7, 7)), DENSE,
        "oneDNN lays plain weights out anew in each call: 9.4 MB for 49 pixels; in the twin 0.15 MB for 3136",
    ),
    Case(
        "gelu", "transcendental", "layer",
        Side(lambda: row(first=nn.ReLU(), layer=nn.GELU()), (64, 1024)), RELU,
        "erf for each element, of data that are in the cache; the control compares with 0",
    ),
    Case(
        "denormals", "unknown", "layer",
        Side(lambda: row(layer=denormal(nn.Linear(256, 256))), (256, 256)),
        Side(lambda: row(layer=nn.Linear(256, 256)), (256, 256)),
        "weights of 1e-39 make the processor assist in each product, and no rule knows: unknown must say so",
    ),
)  # fmt: skip
