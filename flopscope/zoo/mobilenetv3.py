"""A table of rows and a width -> MobileNetV3 Large and Small, 1.0, 0.75 and minimalistic.

Howard et al., "Searching for MobileNetV3", arXiv 1905.02244, Tables 1 and 2. The released code
(tensorflow/models, research/slim) tells what the paper leaves open:

- 0.75 is the network of the released code, whose expanded width follows from the scaled *input* of
  the row, and whose penultimate FC is not scaled. torchvision's width multiplier 0.75 makes another
  network, which scales the expanded width itself and the FC too.
- Minimalistic has the same widths, but neither 5x5, nor SE, nor h-swish.
- Batch norms have eps 1e-3; torch's momentum is 0.01.
- It pads as TensorFlow does; sizes and counts are those of k//2 on both sides, which is used here.

The README's figures of Small are still those of the first arXiv version's Small.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from flopscope.zoo.blocks import (
    Activation,
    ConvNormAct,
    InvertedResidual,
    drop_path_rates,
    initialise,
    round8,
)
from flopscope.zoo.registry import Published, network

RE: Activation = partial(nn.ReLU, inplace=True)
HS: Activation = partial(nn.Hardswish, inplace=True)
SE, NO_SE = True, False


class Row(NamedTuple):
    """A block: kernel, expanded width, channels, squeeze-and-excitation, activation, stride."""

    kernel: int
    expanded: int
    channels: int
    se: bool
    activation: Activation
    stride: int


# Tables 1 and 2, between conv3x3 of stride 2 to 16 channels and conv1x1, pool, FC, FC.
STEM = 16
LARGE = (
    Row(3, 16, 16, NO_SE, RE, 1),
    Row(3, 64, 24, NO_SE, RE, 2),
    Row(3, 72, 24, NO_SE, RE, 1),
    Row(5, 72, 40, SE, RE, 2),
    Row(5, 120, 40, SE, RE, 1),
    Row(5, 120, 40, SE, RE, 1),
    Row(3, 240, 80, NO_SE, HS, 2),
    Row(3, 200, 80, NO_SE, HS, 1),
    Row(3, 184, 80, NO_SE, HS, 1),
    Row(3, 184, 80, NO_SE, HS, 1),
    Row(3, 480, 112, SE, HS, 1),
    Row(3, 672, 112, SE, HS, 1),
    Row(5, 672, 160, SE, HS, 2),
    Row(5, 960, 160, SE, HS, 1),
    Row(5, 960, 160, SE, HS, 1),
)
SMALL = (
    Row(3, 16, 16, SE, RE, 2),
    Row(3, 72, 24, NO_SE, RE, 2),
    Row(3, 88, 24, NO_SE, RE, 1),
    Row(5, 96, 40, SE, HS, 2),
    Row(5, 240, 40, SE, HS, 1),
    Row(5, 240, 40, SE, HS, 1),
    Row(5, 120, 48, SE, HS, 1),
    Row(5, 144, 48, SE, HS, 1),
    Row(5, 288, 96, SE, HS, 2),
    Row(5, 576, 96, SE, HS, 1),
    Row(5, 576, 96, SE, HS, 1),
)
EPS, MOMENTUM = 1e-3, 0.01


class MobileNetV3(nn.Module):
    """Stem conv3x3 of stride 2 -> inverted residuals -> conv1x1, pool, FC, dropout, FC.

    Args:
        rows: the table.
        penultimate: outputs of the first FC, at any width.
        width: multiplies the channels; the expanded widths keep their ratio to the row's input.
        minimalistic: 3x3 for 5x5, no SE, ReLU for h-swish.
        num_classes: outputs of the last FC.
        drop_rate: dropout before the last FC.
        stochastic_depth: the drop path rate that grows from 0 at the first block towards this.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        penultimate: int,
        *,
        width: float,
        minimalistic: bool,
        num_classes: int,
        drop_rate: float,
        stochastic_depth: float,
    ) -> None:
        super().__init__()
        last = RE if minimalistic else HS
        rows = [_minimalistic(row) for row in rows] if minimalistic else rows
        norm = partial(ConvNormAct, activation=last, eps=EPS, momentum=MOMENTUM)
        plain, cin = STEM, round8(width * STEM)
        self.stem = norm(3, cin, 3, 2)
        self.blocks = nn.Sequential()
        for row, rate in zip(rows, drop_path_rates(stochastic_depth, len(rows)), strict=True):
            expanded, cout = round8(row.expanded * cin / plain), round8(width * row.channels)
            self.blocks.append(_block(row, cin, cout, expanded, drop_path=rate))
            plain, cin = row.channels, cout
        self.head = norm(cin, 6 * cin, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.penultimate = nn.Linear(6 * cin, penultimate)
        self.act = last()
        self.dropout = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(penultimate, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        x = self.pool(self.head(self.blocks(self.stem(x)))).flatten(1)
        y: Tensor = self.classifier(self.dropout(self.act(self.penultimate(x))))
        return y


PAPER = "arXiv 1905.02244, Table {}"
FIRST_SMALL = "stale: of the Small of the first arXiv version"


def _readme(params_m: float, macs_g: float, *, reason: str = "") -> Published:
    source = "tensorflow/models, research/slim/nets/mobilenet/README.md"
    return Published(source, params_m, macs_g, reason=reason)


@network(
    "mobilenetv3_large",
    family="MobileNetV3",
    resolution=224,
    paper=PAPER.format(1),
    params=5_483_032,
    macs=216_589_760,
    published=(_readme(5.4, 0.217, reason="params printed truncated"),),
)
def mobilenetv3_large(
    num_classes: int = 1000, *, drop_rate: float = 0.2, stochastic_depth: float = 0.0
) -> MobileNetV3:
    """Large 1.0."""
    return _network(LARGE, 1280, num_classes, drop_rate, stochastic_depth)


@network(
    "mobilenetv3_large_075",
    family="MobileNetV3",
    resolution=224,
    paper=PAPER.format(1),
    params=3_993_528,
    macs=154_560_624,
    published=(_readme(4.0, 0.155),),
)
def mobilenetv3_large_075(
    num_classes: int = 1000, *, drop_rate: float = 0.2, stochastic_depth: float = 0.0
) -> MobileNetV3:
    """Large with 0.75 of the channels, as released; not the one of torchvision's multiplier."""
    return _network(LARGE, 1280, num_classes, drop_rate, stochastic_depth, width=0.75)


@network(
    "mobilenetv3_large_minimalistic",
    family="MobileNetV3",
    resolution=224,
    paper=PAPER.format(1),
    params=3_924_288,
    macs=209_136_704,
    published=(_readme(3.9, 0.209),),
)
def mobilenetv3_large_minimalistic(
    num_classes: int = 1000, *, drop_rate: float = 0.2, stochastic_depth: float = 0.0
) -> MobileNetV3:
    """Large with 3x3, without SE, with ReLU throughout."""
    return _network(LARGE, 1280, num_classes, drop_rate, stochastic_depth, minimalistic=True)


@network(
    "mobilenetv3_small",
    family="MobileNetV3",
    resolution=224,
    paper=PAPER.format(2),
    params=2_542_856,
    macs=56_510_400,
    published=(_readme(2.9, 0.066, reason=FIRST_SMALL),),
)
def mobilenetv3_small(
    num_classes: int = 1000, *, drop_rate: float = 0.2, stochastic_depth: float = 0.0
) -> MobileNetV3:
    """Small 1.0."""
    return _network(SMALL, 1024, num_classes, drop_rate, stochastic_depth)


@network(
    "mobilenetv3_small_075",
    family="MobileNetV3",
    resolution=224,
    paper=PAPER.format(2),
    params=2_041_872,
    macs=43_399_344,
    published=(_readme(2.4, 0.044, reason=FIRST_SMALL),),
)
def mobilenetv3_small_075(
    num_classes: int = 1000, *, drop_rate: float = 0.2, stochastic_depth: float = 0.0
) -> MobileNetV3:
    """Small with 0.75 of the channels, as released; not the one of torchvision's multiplier."""
    return _network(SMALL, 1024, num_classes, drop_rate, stochastic_depth, width=0.75)


@network(
    "mobilenetv3_small_minimalistic",
    family="MobileNetV3",
    resolution=224,
    paper=PAPER.format(2),
    params=2_044_736,
    macs=52_288_448,
    published=(_readme(2.0, 0.065, reason=FIRST_SMALL),),
)
def mobilenetv3_small_minimalistic(
    num_classes: int = 1000, *, drop_rate: float = 0.2, stochastic_depth: float = 0.0
) -> MobileNetV3:
    """Small with 3x3, without SE, with ReLU throughout."""
    return _network(SMALL, 1024, num_classes, drop_rate, stochastic_depth, minimalistic=True)


def _network(
    rows: Sequence[Row],
    penultimate: int,
    num_classes: int,
    drop_rate: float,
    stochastic_depth: float,
    *,
    width: float = 1.0,
    minimalistic: bool = False,
) -> MobileNetV3:
    return MobileNetV3(
        rows,
        penultimate,
        width=width,
        minimalistic=minimalistic,
        num_classes=num_classes,
        drop_rate=drop_rate,
        stochastic_depth=stochastic_depth,
    )


def _minimalistic(row: Row) -> Row:
    return row._replace(kernel=3, se=False, activation=RE)


def _block(row: Row, cin: int, cout: int, expanded: int, *, drop_path: float) -> InvertedResidual:
    return InvertedResidual(
        cin,
        cout,
        row.kernel,
        row.stride,
        expanded=expanded,
        activation=row.activation,
        squeezed=round8(expanded / 4) if row.se else None,
        se_activation=nn.ReLU,
        se_gate=nn.Hardsigmoid,
        drop_path=drop_path,
        eps=EPS,
        momentum=MOMENTUM,
    )
