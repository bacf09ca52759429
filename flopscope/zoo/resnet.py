"""ResNet-18, -34, -50, -101 and -152; of those with bottlenecks both v1 and v1.5.

He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, Table 1. v1 is the paper's:
where the size halves, the stride is on the first 1x1 convolution of the bottleneck. v1.5 has it on the
3x3, as torchvision, timm and NVIDIA do: equal parameters, more MACs. `resnet50` is v1.5, for that is what
the name means in torch; `resnet50_v1` is the paper's. Basic blocks know no such difference.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from flopscope.zoo.blocks import Activation, ConvNormAct, initialise
from flopscope.zoo.registry import Published, network

PAPER = "arXiv 1512.03385, Table 1"
WIDTHS = (64, 128, 256, 512)
RELU: Activation = partial(nn.ReLU, inplace=True)


class Residual(nn.Module):
    """ReLU(branch(x) + shortcut(x)); the shortcut is 1x1 conv + BN where stride or widths change."""

    def __init__(self, branch: nn.Module, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut: ConvNormAct | None = None
        if stride != 1 or cin != cout:
            self.shortcut = ConvNormAct(cin, cout, 1, stride, activation=None)
        self.act = RELU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, ⌈H/stride⌉, ⌈W/stride⌉)."""
        carried = x if self.shortcut is None else self.shortcut(x)
        activated: Tensor = self.act(self.branch(x) + carried)
        return activated


class BasicBlock(Residual):
    """3x3 (stride) -> 3x3 (Figure 5, left)."""

    expansion: ClassVar[int] = 1

    def __init__(self, cin: int, width: int, stride: int) -> None:
        branch = nn.Sequential(
            ConvNormAct(cin, width, 3, stride, activation=RELU),
            ConvNormAct(width, width, 3, activation=None),
        )
        super().__init__(branch, cin, width, stride)


class Bottleneck(Residual):
    """1x1 -> 3x3 (stride) -> 1x1 to four times the width (Figure 5, right), as v1.5 strides."""

    expansion: ClassVar[int] = 4

    def __init__(self, cin: int, width: int, stride: int) -> None:
        super().__init__(_bottleneck(cin, width, 1, stride), cin, 4 * width, stride)


class BottleneckV1(Residual):
    """1x1 (stride) -> 3x3 -> 1x1 to four times the width, as the paper strides."""

    expansion: ClassVar[int] = 4

    def __init__(self, cin: int, width: int, stride: int) -> None:
        super().__init__(_bottleneck(cin, width, stride, 1), cin, 4 * width, stride)


def _bottleneck(cin: int, width: int, stride_1x1: int, stride_3x3: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNormAct(cin, width, 1, stride_1x1, activation=RELU),
        ConvNormAct(width, width, 3, stride_3x3, activation=RELU),
        ConvNormAct(width, 4 * width, 1, activation=None),
    )


class ResNet(nn.Module):
    """7x7 convolution and max-pool, both of stride 2; four stages; global pool; FC."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck] | type[BottleneckV1],
        repeats: tuple[int, int, int, int],
        *,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 64, 7, 2, activation=RELU)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.stages = nn.Sequential()
        cin = 64
        for stage, (count, width) in enumerate(zip(repeats, WIDTHS, strict=True)):
            blocks = []
            for index in range(count):
                blocks.append(block(cin, width, 2 if stage and not index else 1))
                cin = width * block.expansion
            self.stages.add_module(str(stage), nn.Sequential(*blocks))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(cin, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        logits: Tensor = self.classifier(self.flatten(self.pool(self.stages(self.maxpool(self.stem(x))))))
        return logits


_entry = partial(network, family="ResNet", resolution=224, paper=PAPER)


def _repvgg_table(params_m: float, macs_g: float, *, reason: str = "") -> Published:
    """A row of RepVGG's Table 4, whose ResNets are v1 and have their BN folded."""
    source = "RepVGG, arXiv 2101.03697, Table 4"
    return Published(source, params_m, macs_g, convention="MAC, BN folded", reason=reason)


def _torchvision(params_m: float, macs_g: float) -> Published:
    return Published("torchvision 0.29.1, weights' metadata", params_m, macs_g)


FASTERNET50 = Published("FasterNet, arXiv 2303.03667 v3, Table 3", 25.6, 4.11, convention="fvcore")
TRUNCATED = "params are truncated, not rounded"


@_entry(
    "resnet18",
    params=11_689_512,
    macs=1_814_073_344,
    published=(_repvgg_table(11.68, 1.8), _torchvision(11.689512, 1.814)),
)
def resnet18(num_classes: int = 1000) -> ResNet:
    """ResNet-18."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes=num_classes)


@_entry(
    "resnet34",
    params=21_797_672,
    macs=3_663_761_408,
    published=(_repvgg_table(21.78, 3.7, reason=TRUNCATED),),
)
def resnet34(num_classes: int = 1000) -> ResNet:
    """ResNet-34."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes=num_classes)


@_entry(
    "resnet50", params=25_557_032, macs=4_089_184_256, published=(FASTERNET50, _torchvision(25.557032, 4.089))
)
def resnet50(num_classes: int = 1000) -> ResNet:
    """ResNet-50 v1.5."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes=num_classes)


@_entry("resnet50_v1", params=25_557_032, macs=3_857_973_248, published=(_repvgg_table(25.53, 3.9),))
def resnet50_v1(num_classes: int = 1000) -> ResNet:
    """ResNet-50 v1, the paper's."""
    return ResNet(BottleneckV1, (3, 4, 6, 3), num_classes=num_classes)


@_entry("resnet101", params=44_549_160, macs=7_801_405_440, published=(_torchvision(44.549160, 7.801),))
def resnet101(num_classes: int = 1000) -> ResNet:
    """ResNet-101 v1.5."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes=num_classes)


@_entry(
    "resnet101_v1",
    params=44_549_160,
    macs=7_570_194_432,
    published=(_repvgg_table(44.49, 7.6, reason=TRUNCATED),),
)
def resnet101_v1(num_classes: int = 1000) -> ResNet:
    """ResNet-101 v1, the paper's."""
    return ResNet(BottleneckV1, (3, 4, 23, 3), num_classes=num_classes)


@_entry("resnet152", params=60_192_808, macs=11_513_626_624)
def resnet152(num_classes: int = 1000) -> ResNet:
    """ResNet-152 v1.5."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes=num_classes)


@_entry(
    "resnet152_v1",
    params=60_192_808,
    macs=11_282_415_616,
    published=(_repvgg_table(60.11, 11.3, reason=TRUNCATED),),
)
def resnet152_v1(num_classes: int = 1000) -> ResNet:
    """ResNet-152 v1, the paper's."""
    return ResNet(BottleneckV1, (3, 8, 36, 3), num_classes=num_classes)
