"""A width -> MobileNetV2.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381, Table 2.
The released code rounds scaled widths to multiples of 8, and never makes the head narrower than 1280.
It pads as TensorFlow does; sizes and counts are those of k//2 on both sides, which is used here.
"""

from __future__ import annotations

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

RELU6: Activation = partial(nn.ReLU6, inplace=True)


class Stage(NamedTuple):
    """A row of Table 2: t, c, n, s; the first of the `repeats` blocks has the `stride`."""

    expansion: int
    channels: int
    repeats: int
    stride: int


# Table 2, between conv3x3 of stride 2 to 32 channels and conv1x1 to 1280, pool, FC.
STEM, HEAD = 32, 1280
STAGES = (
    # expansion channels repeats stride
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)


class MobileNetV2(nn.Module):
    """Stem conv3x3 of stride 2 -> stages of inverted residuals -> conv1x1, pool, dropout, FC.

    Args:
        width: multiplies the channels of all but the head, which is widened from 1.0 on.
        num_classes: outputs of the FC.
        drop_rate: dropout before the FC.
        stochastic_depth: the drop path rate that grows from 0 at the first block towards this.
    """

    def __init__(self, width: float, *, num_classes: int, drop_rate: float, stochastic_depth: float) -> None:
        super().__init__()
        rates = iter(drop_path_rates(stochastic_depth, sum(stage.repeats for stage in STAGES)))
        cin = round8(width * STEM)
        self.stem = ConvNormAct(3, cin, 3, 2, activation=RELU6)
        self.stages = nn.Sequential()
        for stage in STAGES:
            blocks, cout = nn.Sequential(), round8(width * stage.channels)
            for index in range(stage.repeats):
                stride, expanded = stage.stride if index == 0 else 1, cin * stage.expansion
                blocks.append(
                    InvertedResidual(
                        cin, cout, 3, stride, expanded=expanded, activation=RELU6, drop_path=next(rates)
                    )
                )
                cin = cout
            self.stages.append(blocks)
        head = round8(HEAD * max(1.0, width))
        self.head = ConvNormAct(cin, head, 1, activation=RELU6)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(head, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        x = self.head(self.stages(self.stem(x)))
        y: Tensor = self.classifier(self.dropout(self.pool(x).flatten(1)))
        return y


PAPER = "arXiv 1801.04381, Table 2"
FASTERNET = "arXiv 2303.03667v3, Table 3"
NORMS = "fvcore counts batch norm and pooling too: {}"


def _readme(params_m: float, macs_g: float, *, reason: str = "") -> Published:
    source = "tensorflow/models, research/slim/nets/mobilenet/README.md"
    low = "params printed 1 % below what the network has"
    return Published(source, params_m, macs_g, reason=f"{low}; {reason}" if reason else low)


@network(
    "mobilenetv2",
    family="MobileNetV2",
    resolution=224,
    paper=PAPER,
    params=3_504_872,
    macs=300_774_272,
    published=(
        _readme(3.47, 0.300, reason="MACs printed truncated"),
        Published(FASTERNET, 3.5, 0.31, "fvcore", reason=NORMS.format("314,193,216")),
    ),
)
def mobilenetv2(
    num_classes: int = 1000, *, drop_rate: float = 0.2, stochastic_depth: float = 0.0
) -> MobileNetV2:
    """MobileNetV2 1.0."""
    return MobileNetV2(1.0, num_classes=num_classes, drop_rate=drop_rate, stochastic_depth=stochastic_depth)


@network(
    "mobilenetv2_050",
    family="MobileNetV2",
    resolution=224,
    paper=PAPER,
    params=1_968_680,
    macs=97_131_840,
    published=(_readme(1.95, 0.097),),
)
def mobilenetv2_050(
    num_classes: int = 1000, *, drop_rate: float = 0.2, stochastic_depth: float = 0.0
) -> MobileNetV2:
    """MobileNetV2 0.5: half the channels, but for the head."""
    return MobileNetV2(0.5, num_classes=num_classes, drop_rate=drop_rate, stochastic_depth=stochastic_depth)


@network(
    "mobilenetv2_140",
    family="MobileNetV2",
    resolution=224,
    paper=PAPER,
    params=6_108_776,
    macs=582_195_824,
    published=(
        _readme(6.06, 0.582),
        Published(FASTERNET, 6.1, 0.60, "fvcore", reason=NORMS.format("601,430,480")),
    ),
)
def mobilenetv2_140(
    num_classes: int = 1000, *, drop_rate: float = 0.2, stochastic_depth: float = 0.0
) -> MobileNetV2:
    """MobileNetV2 1.4: 1.4 times the channels, a head of 1792."""
    return MobileNetV2(1.4, num_classes=num_classes, drop_rate=drop_rate, stochastic_depth=stochastic_depth)
