"""FasterNet T0-L: partial convolution, then two pointwise ones, in an inverted residual.

Chen et al., "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks", CVPR 2023, arXiv
2303.03667 v3: Figure 4 and Table 8. The released code (JierunChen/FasterNet) is the same network; its
`slicing` clones first, since the erratum said so (below, `convolve_in_place`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from flopscope.errors import InputError
from flopscope.zoo.blocks import Activation, ConvNormAct, DropPath
from flopscope.zoo.registry import Published, network

PAPER = "arXiv 2303.03667 v3, Table 8"
GELU: Activation = nn.GELU
RELU: Activation = partial(nn.ReLU, inplace=True)


@dataclass(frozen=True, slots=True)
class Size:
    """A column of Table 8: width of stage 1, blocks of the four stages, activation, drop path."""

    width: int
    blocks: tuple[int, int, int, int]
    activation: Activation
    drop_path: float


T0 = Size(40, (1, 2, 8, 2), GELU, 0.0)
T1 = Size(64, (1, 2, 8, 2), GELU, 0.02)
T2 = Size(96, (1, 2, 8, 2), RELU, 0.05)
S = Size(128, (1, 2, 13, 2), RELU, 0.1)
M = Size(144, (3, 4, 18, 3), RELU, 0.2)
L = Size(192, (3, 4, 18, 3), RELU, 0.3)


def convolve_split(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """`split_cat`: convolve the first channels, join them with the others. All channels are written anew."""
    touched = convolution.in_channels
    first, others = torch.split(x, [touched, x.shape[1] - touched], dim=1)
    convolved: Tensor = convolution(first)
    return torch.cat((convolved, others), 1)


def convolve_clone(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """`slicing`: copy the input, write the convolved first channels over those of the copy.

    The released code reads the copy's channels too, which moves as much but cannot be trained.
    """
    touched = convolution.in_channels
    y = x.clone()
    y[:, :touched] = convolution(x[:, :touched])
    return y


def convolve_in_place(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """`in_place`: write over the first channels of the input itself. WRONG in a residual block, on purpose.

    Version 1 of the paper timed this: it moves the least memory, but the block then adds the
    overwritten tensor in place of its input. The authors' erratum (README of their detection code)
    says so; it is here so that those timings can be examined. Inference only: autograd refuses
    the overwritten input in backward.
    """
    touched = convolution.in_channels
    x[:, :touched] = convolution(x[:, :touched])
    return x


FORMS: dict[str, Callable[[Tensor, nn.Conv2d], Tensor]] = {
    "split_cat": convolve_split,
    "slicing": convolve_clone,
    "in_place": convolve_in_place,
}


class PartialConv(nn.Module):
    """A 3x3 convolution on the first `channels // divisor` channels; the others pass through (section 3.3).

    No bias, norm or activation. `form` is one of `FORMS`; `in_place` changes its argument.
    """

    def __init__(self, channels: int, *, divisor: int = 4, form: str = "split_cat") -> None:
        super().__init__()
        if form not in FORMS:
            raise InputError(
                f"a partial convolution has no form {form!r}", hint=f"give one of {', '.join(FORMS)}"
            )
        touched = channels // divisor
        self.conv = nn.Conv2d(touched, touched, 3, padding=1, bias=False)
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        return FORMS[self.form](x, self.conv)

    def extra_repr(self) -> str:
        """Show the form where the module is printed."""
        return f"form={self.form}"


class FasterNetBlock(nn.Module):
    """PConv -> 1x1 to 2c, BN, activation -> 1x1 back to c; the input is added (Figure 4)."""

    def __init__(
        self, channels: int, *, activation: Activation, drop_path: float, form: str, divisor: int = 4
    ) -> None:
        super().__init__()
        self.pconv = PartialConv(channels, divisor=divisor, form=form)
        self.expand = ConvNormAct(channels, 2 * channels, 1, activation=activation)
        self.project = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        y: Tensor = self.drop_path(self.project(self.expand(self.pconv(x))))
        return x + y


class Patches(nn.Sequential):
    """Embedding and merging: patches of `side` x `side` pixels to one each, BN, no activation."""

    def __init__(self, cin: int, cout: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, side, side, bias=False)
        self.norm = nn.BatchNorm2d(cout)


class FasterNet(nn.Module):
    """Embedding by 4; four stages at c, 2c, 4c, 8c with merging by 2 between; head of 1280."""

    def __init__(
        self,
        size: Size,
        *,
        num_classes: int = 1000,
        form: str = "split_cat",
        divisor: int = 4,
        stochastic_depth: float | None = None,
    ) -> None:
        super().__init__()
        rate = size.drop_path if stochastic_depth is None else stochastic_depth
        rates = iter([rate * index / (sum(size.blocks) - 1) for index in range(sum(size.blocks))])
        block = partial(FasterNetBlock, activation=size.activation, form=form, divisor=divisor)
        self.embedding = Patches(3, size.width, 4)
        self.stages = nn.Sequential()
        width = size.width
        for stage, count in enumerate(size.blocks):
            merging = [Patches(width // 2, width, 2)] if stage else []
            blocks = [block(width, drop_path=next(rates)) for _ in range(count)]
            self.stages.add_module(str(stage), nn.Sequential(*merging, *blocks))
            width *= 2
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Conv2d(width // 2, 1280, 1, bias=False)
        self.act = size.activation()
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(1280, num_classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        y = self.act(self.head(self.pool(self.stages(self.embedding(x)))))
        logits: Tensor = self.classifier(self.flatten(y))
        return logits


def _initialise(model: nn.Module) -> None:
    """Truncated normals of σ = 0.02, biases 0, as the released code does; batch norms are 1 and 0 already."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _printed(
    table3: tuple[float, float], readme: tuple[float, float], *, truncated: bool = False
) -> tuple[Published, Published]:
    """Params in millions and 10^9 operations: Table 3 prints fvcore's count, Table 8 and the README MACs."""
    reason = "params are truncated, not rounded" if truncated else ""
    return (
        Published("arXiv 2303.03667 v3, Table 3", *table3, convention="fvcore", reason=reason),
        Published(
            "arXiv 2303.03667 v3, Table 8 and README", *readme, convention="MAC, BN folded", reason=reason
        ),
    )


_entry = partial(network, family="FasterNet", resolution=224, paper=PAPER)


@_entry(
    "fasternet_t0",
    params=3_905_500,
    macs=335_422_720,
    published=_printed((3.9, 0.34), (3.9, 0.34)),
)
def fasternet_t0(
    num_classes: int = 1000, *, form: str = "split_cat", stochastic_depth: float | None = None
) -> FasterNet:
    """T0: 40 channels, GELU, no drop path."""
    return FasterNet(T0, num_classes=num_classes, form=form, stochastic_depth=stochastic_depth)


@_entry(
    "fasternet_t1",
    params=7_595_368,
    macs=850_511_872,
    published=_printed((7.6, 0.85), (7.6, 0.85)),
)
def fasternet_t1(
    num_classes: int = 1000, *, form: str = "split_cat", stochastic_depth: float | None = None
) -> FasterNet:
    """T1: 64 channels, GELU."""
    return FasterNet(T1, num_classes=num_classes, form=form, stochastic_depth=stochastic_depth)


@_entry(
    "fasternet_t2",
    params=14_982_888,
    macs=1_904_334_848,
    published=_printed((15.0, 1.91), (15.0, 1.9)),
)
def fasternet_t2(
    num_classes: int = 1000, *, form: str = "split_cat", stochastic_depth: float | None = None
) -> FasterNet:
    """T2: 96 channels, ReLU."""
    return FasterNet(T2, num_classes=num_classes, form=form, stochastic_depth=stochastic_depth)


@_entry(
    "fasternet_s",
    params=31_181_032,
    macs=4_549_740_544,
    published=_printed((31.1, 4.56), (31.1, 4.55), truncated=True),
)
def fasternet_s(
    num_classes: int = 1000, *, form: str = "split_cat", stochastic_depth: float | None = None
) -> FasterNet:
    """S: 128 channels, ReLU."""
    return FasterNet(S, num_classes=num_classes, form=form, stochastic_depth=stochastic_depth)


@_entry(
    "fasternet_m",
    params=53_521_464,
    macs=8_721_938_432,
    published=_printed((53.5, 8.74), (53.5, 8.72)),
)
def fasternet_m(
    num_classes: int = 1000, *, form: str = "split_cat", stochastic_depth: float | None = None
) -> FasterNet:
    """M: 144 channels, ReLU."""
    return FasterNet(M, num_classes=num_classes, form=form, stochastic_depth=stochastic_depth)


@_entry(
    "fasternet_l",
    params=93_465_192,
    macs=15_494_383_616,
    published=_printed((93.5, 15.52), (93.4, 15.49)),
)
def fasternet_l(
    num_classes: int = 1000, *, form: str = "split_cat", stochastic_depth: float | None = None
) -> FasterNet:
    """L: 192 channels, ReLU."""
    return FasterNet(L, num_classes=num_classes, form=form, stochastic_depth=stochastic_depth)
