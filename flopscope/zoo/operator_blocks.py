"""Channels and options -> one layer of each operator that papers time alone.

Every function below makes one layer and is registered under the name by which `op:NAME` finds it. In
the formulas h w is the size of the map, k the side of the kernel, c the channels. There are no biases,
norms or activations except in the blocks that have them: `mbconv`, `fused-mbconv` (batch norm, SiLU)
and `bottleneck` (ReLU).

Weights are drawn so that values keep their size from layer to layer: a deep stack must not drift into
denormal numbers, which take a processor longer than others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from flopscope.errors import InputError
from flopscope.zoo.blocks import SILU, FusedMBConv, InvertedResidual
from flopscope.zoo.fasternet import PartialConv
from flopscope.zoo.operators import operator_kind

FASTERNET = "FasterNet, arXiv 2303.03667 v3"
SHUFFLENETV2 = "ShuffleNetV2, arXiv 1807.11164"
EFFICIENTNETV2 = "EfficientNetV2, arXiv 2104.00298"


def _divided(channels: int, by: int, name: str) -> int:
    """`channels / by`, refused where it is no whole number."""
    if channels % by:
        raise InputError(
            f"{channels} channels cannot be divided by {name}={by}",
            hint=f"give channels that are a multiple of {by}, or another {name}",
        )
    return channels // by


def _odd(kernel: int) -> None:
    if kernel % 2 == 0:
        raise InputError(
            f"kernel={kernel} is even; it does not keep the map's size", hint="give 1, 3, 5 or 7"
        )


def _conv(cin: int, cout: int, kernel: int = 1, *, groups: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size of the map, without bias: weights of variance 1 / fan_in."""
    _odd(kernel)
    _divided(cin, groups, "groups")
    conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, groups=groups, bias=False)
    nn.init.normal_(conv.weight, std=1 / math.sqrt(cin // groups * kernel**2))
    return conv


# --------------------------------------------------------------------------- FasterNet


@operator_kind("conv", source=f"{FASTERNET}, Table 1 and eq. 3; RepVGG, arXiv 2101.03697, Table 1")
def conv(channels: int, *, kernel: int = 3) -> nn.Module:
    """Convolution k x k: h w k² c² MACs.

    Args:
        channels: c.
        kernel: k, odd.
    """
    return _conv(channels, channels, kernel)


@operator_kind("gconv", source=f"{FASTERNET}, Table 1")
def gconv(channels: int, *, groups: int = 16, kernel: int = 3) -> nn.Module:
    """Convolution k x k in g groups: h w k² c² / g MACs.

    Args:
        channels: c, a multiple of `groups`.
        groups: g.
        kernel: k, odd.
    """
    return _conv(channels, channels, kernel, groups=groups)


def _expanded(channels: int, *, expansion: int, **_: Any) -> int:
    return channels * expansion


@operator_kind("dwconv", source=f"{FASTERNET}, Table 1 and eq. 2", width=_expanded)
def dwconv(channels: int, *, kernel: int = 3, expansion: int = 1) -> nn.Module:
    """Depthwise convolution k x k, widened to c' = expansion c: h w k² c' MACs.

    The maps of the stack have c' channels: the pointwise convolutions that would widen and narrow
    are not part of the operator, as in the paper's eq. 2.

    Args:
        channels: c.
        kernel: k, odd.
        expansion: c' / c.
    """
    wide = channels * expansion
    return _conv(wide, wide, kernel, groups=wide)


@operator_kind("pconv", source=f"{FASTERNET}, Table 1 and eq. 4")
def pconv(channels: int, *, divisor: int = 4, form: str = "split_cat") -> nn.Module:
    """Partial 3x3 convolution, of the first c_p = c / divisor channels: h w 9 c_p² MACs.

    Args:
        channels: c, a multiple of `divisor`.
        divisor: c / c_p.
        form: "split_cat", "slicing" or "in_place", which overwrites its input: the weights of that
            form are the identity, or the values would shrink or grow with every pass over the same input.
    """
    touched = _divided(channels, divisor, "divisor")
    partial = PartialConv(channels, divisor=divisor, form=form)
    if form == "in_place":
        nn.init.dirac_(partial.conv.weight)
    else:
        nn.init.normal_(partial.conv.weight, std=1 / math.sqrt(9 * touched))
    return partial


@operator_kind("pconv-pwconv", source=f"{FASTERNET}, eq. 7; issue #1 of its repository")
def pconv_pwconv(channels: int, *, divisor: int = 4, form: str = "split_cat") -> nn.Module:
    """Partial 3x3 convolution, then 1x1: h w (9 c_p² + c²) MACs.

    Args:
        channels: c, a multiple of `divisor`.
        divisor: c / c_p.
        form: of the partial convolution, as in `pconv`.
    """
    return nn.Sequential(pconv(channels, divisor=divisor, form=form), _conv(channels, channels))


@operator_kind("dwconv-pwconv", source=f"{FASTERNET}, Table 2; MobileNet, arXiv 1704.04861")
def dwconv_pwconv(channels: int, *, kernel: int = 3) -> nn.Module:
    """Depthwise k x k convolution, then 1x1 (depthwise separable): h w (k² c + c²) MACs.

    Args:
        channels: c.
        kernel: k, odd.
    """
    return nn.Sequential(dwconv(channels, kernel=kernel), _conv(channels, channels))


@operator_kind("gconv-pwconv", source=f"{FASTERNET}, Table 2")
def gconv_pwconv(channels: int, *, groups: int = 16, kernel: int = 3) -> nn.Module:
    """Convolution k x k in g groups, then 1x1: h w (k² c² / g + c²) MACs.

    Args:
        channels: c, a multiple of `groups`.
        groups: g.
        kernel: k, odd.
    """
    return nn.Sequential(gconv(channels, groups=groups, kernel=kernel), _conv(channels, channels))


class TShapedConv(nn.Module):
    """The T-shaped convolution (FasterNet, eq. 6): a kernel that is heavy in its centre.

    The first c_p channels are convolved k x k to all c, the other c - c_p pointwise to all c; the sum is
    what a k x k convolution gives whose kernel is 1x1 on those others.
    """

    def __init__(self, channels: int, touched: int, kernel: int) -> None:
        super().__init__()
        self.touched = touched
        self.conv = _conv(touched, channels, kernel)
        self.pointwise = _conv(channels - touched, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        first, others = torch.split(x, [self.touched, x.shape[1] - self.touched], dim=1)
        y: Tensor = self.conv(first) + self.pointwise(others)
        return y


@operator_kind("t-conv", source=f"{FASTERNET}, eq. 6")
def t_conv(channels: int, *, divisor: int = 4, kernel: int = 3) -> nn.Module:
    """T-shaped convolution: h w (k² c_p c + c (c - c_p)) MACs, c_p = c / divisor.

    Args:
        channels: c, a multiple of `divisor`.
        divisor: c / c_p, at least 2.
        kernel: k, odd.
    """
    if divisor == 1:
        raise InputError(
            "divisor=1 leaves no channels for the arms of the T", hint="give at least 2, or op:conv"
        )
    return TShapedConv(channels, _divided(channels, divisor, "divisor"), kernel)


# --------------------------------------------------------------------------- EfficientNet


@operator_kind("mbconv", source=f"{EFFICIENTNETV2}, Figure 2; EfficientNet, arXiv 1905.11946")
def mbconv(channels: int, *, expansion: int = 4, se: bool = True, kernel: int = 3) -> nn.Module:
    """MBConv of stride 1: h w (2 e c² + k² e c) MACs, SE 2 e c ⌊c/4⌋ besides; BN, SiLU, shortcut.

    Args:
        channels: c, in and out.
        expansion: e; with 1 there is no first 1x1.
        se: squeeze-and-excitation, of a quarter of c.
        kernel: k of the depthwise convolution, odd.
    """
    _odd(kernel)
    return InvertedResidual(
        channels,
        channels,
        kernel,
        expanded=channels * expansion,
        activation=SILU,
        squeezed=max(1, channels // 4) if se else None,
        se_activation=SILU,
        eps=1e-3,
    )


@operator_kind("fused-mbconv", source=f"{EFFICIENTNETV2}, Figure 2")
def fused_mbconv(channels: int, *, expansion: int = 4, kernel: int = 3, se: bool = False) -> nn.Module:
    """Fused-MBConv of stride 1: h w (k² e c² + e c²) MACs, SE 2 e c ⌊c/4⌋ besides; BN, SiLU, shortcut.

    Args:
        channels: c, in and out.
        expansion: e; with 1 there is no last 1x1.
        kernel: k, odd.
        se: squeeze-and-excitation, which Figure 2 draws and the paper's networks do not have.
    """
    _odd(kernel)
    return FusedMBConv(channels, channels, kernel, expansion=expansion, se=se)


# --------------------------------------------------------------------------- ShuffleNetV2


class Bottleneck(nn.Module):
    """1x1 -> k x k -> 1x1, narrow inside; ReLU behind each, and a shortcut, where they are wanted.

    With both, the last ReLU comes behind the addition, as in ResNet. No batch norm.
    """

    def __init__(self, channels: int, narrow: int, *, relu: bool, shortcut: bool) -> None:
        super().__init__()
        self.reduce = _conv(channels, narrow)
        self.conv = _conv(narrow, narrow, 3)
        self.expand = _conv(narrow, channels)
        self.act = nn.ReLU(inplace=True) if relu else None
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        y: Tensor = self._activated(self.conv(self._activated(self.reduce(x))))
        y = self.expand(y)
        return self._activated(x + y if self.shortcut else y)

    def _activated(self, x: Tensor) -> Tensor:
        return x if self.act is None else self.act(x)


@operator_kind("bottleneck", source=f"{SHUFFLENETV2}, Table 4 (G4)")
def bottleneck(channels: int, *, ratio: int = 4, relu: bool = True, shortcut: bool = True) -> nn.Module:
    """1x1, 3x3, 1x1 with c / r channels inside: h w (2 c² / r + 9 c² / r²) MACs; ReLU, shortcut.

    Args:
        channels: c, a multiple of `ratio`.
        ratio: r. 4 is ResNet's, and a choice of this file: the table does not give it.
        relu: ReLU behind each convolution, the last behind the addition.
        shortcut: add the input.
    """
    return Bottleneck(channels, _divided(channels, ratio, "ratio"), relu=relu, shortcut=shortcut)


class Fragments(nn.Module):
    """Convolutions of the same input, side by side, added."""

    def __init__(self, branches: Iterable[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        first, *others = self.branches
        y: Tensor = first(x)
        for branch in others:
            y = y + branch(x)
        return y


def _fragment_width(channels: int, *, count: int, width: int | None, **_: Any) -> int:
    """Width at which `count` 1x1 convolutions have the MACs of one at `channels`, to the nearest channel."""
    return width or max(1, round(channels / math.sqrt(count)))


@operator_kind("fragments", source=f"{SHUFFLENETV2}, Table 3 (G3)", width=_fragment_width)
def fragments(
    channels: int, *, count: int = 1, parallel: bool = False, width: int | None = None
) -> nn.Module:
    """1x1 convolutions, n in series or in parallel, with the MACs of one at c: h w c².

    Built so that the MACs stay: all maps have c / √n channels, rounded, in both arrangements, and
    parallel fragments are added. Both are choices of this file: the table gives neither the widths
    nor how parallel fragments are joined.

    Args:
        channels: c of the one convolution that this replaces.
        count: n; 1, 2 and 4 in the paper.
        parallel: side by side, added; otherwise one behind the other.
        width: channels of all maps, in place of c / √n.
    """
    wide = _fragment_width(channels, count=count, width=width)
    made = [_conv(wide, wide) for _ in range(count)]
    if count == 1:
        return made[0]
    if not parallel:
        return nn.Sequential(*made)
    for branch in made:  # the sum of n is to have the size of one
        branch.weight.data.div_(math.sqrt(count))
    return Fragments(made)


def _pair(channels: int, ratio: int, c1: int | None, c2: int | None) -> tuple[int, int]:
    if c1 is None and c2 is not None:
        raise InputError(f"c2={c2} was given without c1", hint="give c1 and c2, c1 and ratio, or ratio alone")
    first = c1 or max(1, math.isqrt(channels**2 // ratio))
    return first, c2 or ratio * first


def _pair_width(channels: int, *, ratio: int, c1: int | None, c2: int | None) -> int:
    return _pair(channels, ratio, c1, c2)[0]


@operator_kind("pw-pair", source=f"{SHUFFLENETV2}, Table 1 (G1)", width=_pair_width)
def pw_pair(channels: int, *, ratio: int = 1, c1: int | None = None, c2: int | None = None) -> nn.Module:
    """1x1 from c1 to c2 channels and 1x1 back, c1 : c2 = 1 : ratio: 2 h w c1 c2 MACs.

    c1 is ⌊c / √ratio⌋, so that c1 c2 stays close to c², and c2 is ratio c1. At c = 128 and ratios 1, 2, 6,
    12 these are the paper's (128, 128), (90, 180), (52, 312), (36, 432); its wider rows are these times 2
    and 4 and are had with `c1`.

    Args:
        channels: c, the width of two equal convolutions with as many MACs.
        ratio: c2 / c1.
        c1: width of the maps between the pairs; c is not used then.
        c2: width inside a pair; needs `c1`.
    """
    first, second = _pair(channels, ratio, c1, c2)
    return nn.Sequential(_conv(first, second), _conv(second, first))


@operator_kind("pw-group", source=f"{SHUFFLENETV2}, Table 2 (G2)")
def pw_group(channels: int, *, groups: int = 1) -> nn.Module:
    """1x1 convolution in g groups: h w c² / g MACs.

    Equal MACs need c ~ √g: the paper has c = 128, 180, 256, 360 for g = 1, 2, 4, 8.

    Args:
        channels: c, a multiple of `groups`.
        groups: g.
    """
    return _conv(channels, channels, groups=groups)
