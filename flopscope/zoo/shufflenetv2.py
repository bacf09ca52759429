"""Widths -> ShuffleNetV2 0.5x to 2.0x: split the channels, work on one half, shuffle.

Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", arXiv 1807.11164,
Table 5 and Figure 3 (c, d). Two networks carry this name. The authors' (default):
the first branch of a stride-2 unit keeps the input's width and the second emits the rest, and the
classifier has no bias. torchvision's (`torchvision_form`): both branches emit half of the unit's
width, and the classifier has a bias. The authors' code shuffles at the start of the next unit
instead of the end of this one; that only permutes channels.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from flopscope.zoo.blocks import Activation, ConvNormAct, initialise
from flopscope.zoo.registry import Published, network

PAPER = "arXiv 1807.11164, Table 5"
TABLE = "arXiv 1807.11164, Table 5 (= megvii-model/ShuffleNet-Series README)"
TORCHVISION = "torchvision 0.29.1 weights metadata"
FASTERNET = "FasterNet, arXiv 2303.03667v3, Table 3"
FVCORE = "fvcore counts batch norms (2 per element) on top of MACs; fits torchvision's network"

# units per stage; the first of each has stride 2
UNITS = (4, 8, 4)
STEM = 24
RELU: Activation = partial(nn.ReLU, inplace=True)
# size: widths of the three stages, width of the last convolution
VARIANTS = {
    "0.5x": ((48, 96, 192), 1024),
    "1.0x": ((116, 232, 464), 1024),
    "1.5x": ((176, 352, 704), 1024),
    "2.0x": ((244, 488, 976), 2048),
}


class ShuffleNetV2(nn.Module):
    """Convolution and max-pool, three stages of units, convolution, pool, classifier."""

    def __init__(
        self,
        widths: tuple[int, ...],
        last: int,
        num_classes: int = 1000,
        *,
        torchvision_form: bool = False,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, STEM, 3, 2, activation=RELU)
        self.max_pool = nn.MaxPool2d(3, 2, 1)
        self.stages = nn.Sequential()
        before = STEM
        for units, width in zip(UNITS, widths, strict=True):
            kept = width // 2 if torchvision_form else before
            rest = [ShuffleUnit(width) for _ in range(units - 1)]
            self.stages.append(nn.Sequential(DownsamplingUnit(before, width, kept), *rest))
            before = width
        self.head = ConvNormAct(before, last, 1, activation=RELU)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(last, num_classes, bias=torchvision_form)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        x = self.stages(self.max_pool(self.stem(x)))
        x = self.pool(self.head(x)).flatten(1)
        y: Tensor = self.classifier(self.dropout(x))
        return y


class ShuffleUnit(nn.Module):
    """Stride 1 (Figure 3c): one half of the channels passes, the other is worked on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = _branch(width // 2, width // 2, width // 2, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        passed, worked = x.chunk(2, dim=1)
        return shuffled(torch.cat((passed, self.branch(worked)), dim=1))


class DownsamplingUnit(nn.Module):
    """Stride 2 (Figure 3d): both branches see the whole input.

    The shortcut emits `kept` channels, the branch the rest of `cout`.
    """

    def __init__(self, cin: int, cout: int, kept: int) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(
            ConvNormAct(cin, cin, 3, 2, cin, activation=None),
            ConvNormAct(cin, kept, 1, activation=RELU),
        )
        self.branch = _branch(cin, cout // 2, cout - kept, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H/2, W/2)."""
        return shuffled(torch.cat((self.shortcut(x), self.branch(x)), dim=1))


def shuffled(x: Tensor) -> Tensor:
    """Interleave the two halves of the channels: 0, C/2, 1, C/2 + 1, ..."""
    n, channels, height, width = x.shape
    return x.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(n, channels, height, width)


def _branch(cin: int, middle: int, cout: int, *, stride: int) -> nn.Sequential:
    """1x1, BN, ReLU -> depthwise 3x3, BN -> 1x1, BN, ReLU."""
    return nn.Sequential(
        ConvNormAct(cin, middle, 1, activation=RELU),
        ConvNormAct(middle, middle, 3, stride, middle, activation=None),
        ConvNormAct(middle, cout, 1, activation=RELU),
    )


@network(
    "shufflenetv2_x0_5",
    family="ShuffleNetV2",
    resolution=224,
    paper=PAPER,
    params=1_365_792,
    macs=40_476_448,
    published=[
        Published(TABLE, params_m=1.4, macs_g=0.041, reason="40.476 M printed as 41 M"),
        Published(TORCHVISION, params_m=1.366792, macs_g=0.04, options={"torchvision_form": True}),
    ],
    variants={"torchvision_form=true": (1_366_792, 40_476_448)},
)
def shufflenetv2_x0_5(
    num_classes: int = 1000, *, torchvision_form: bool = False, drop_rate: float = 0.0
) -> ShuffleNetV2:
    """ShuffleNetV2 0.5x."""
    return _made("0.5x", num_classes, torchvision_form, drop_rate)


@network(
    "shufflenetv2_x1_0",
    family="ShuffleNetV2",
    resolution=224,
    paper=PAPER,
    params=2_278_760,
    macs=145_814_296,
    published=[
        Published(TABLE, params_m=2.3, macs_g=0.146),
        Published(TORCHVISION, params_m=2.278604, macs_g=0.145, options={"torchvision_form": True}),
    ],
    variants={"torchvision_form=true": (2_278_604, 144_907_992)},
)
def shufflenetv2_x1_0(
    num_classes: int = 1000, *, torchvision_form: bool = False, drop_rate: float = 0.0
) -> ShuffleNetV2:
    """ShuffleNetV2 1.0x."""
    return _made("1.0x", num_classes, torchvision_form, drop_rate)


@network(
    "shufflenetv2_x1_5",
    family="ShuffleNetV2",
    resolution=224,
    paper=PAPER,
    params=3_506_720,
    macs=298_970_656,
    published=[
        Published(TABLE, params_m=3.5, macs_g=0.299),
        Published(
            FASTERNET,
            params_m=3.5,
            macs_g=0.30,
            convention="fvcore",
            options={"torchvision_form": True},
            reason=FVCORE,
        ),
    ],
    variants={"torchvision_form=true": (3_503_624, 295_759_392)},
)
def shufflenetv2_x1_5(
    num_classes: int = 1000, *, torchvision_form: bool = False, drop_rate: float = 0.0
) -> ShuffleNetV2:
    """ShuffleNetV2 1.5x."""
    return _made("1.5x", num_classes, torchvision_form, drop_rate)


@network(
    "shufflenetv2_x2_0",
    family="ShuffleNetV2",
    resolution=224,
    paper=PAPER,
    params=7_402_600,
    macs=590_783_000,
    published=[
        Published(TABLE, params_m=7.4, macs_g=0.591),
        Published(
            FASTERNET,
            params_m=7.4,
            macs_g=0.59,
            convention="fvcore",
            options={"torchvision_form": True},
            reason=FVCORE,
        ),
    ],
    variants={"torchvision_form=true": (7_393_996, 583_253_464)},
)
def shufflenetv2_x2_0(
    num_classes: int = 1000, *, torchvision_form: bool = False, drop_rate: float = 0.2
) -> ShuffleNetV2:
    """ShuffleNetV2 2.0x; the authors' code puts dropout before the classifier of this size only."""
    return _made("2.0x", num_classes, torchvision_form, drop_rate)


def _made(size: str, num_classes: int, torchvision_form: bool, drop_rate: float) -> ShuffleNetV2:
    return ShuffleNetV2(*VARIANTS[size], num_classes, torchvision_form=torchvision_form, drop_rate=drop_rate)
