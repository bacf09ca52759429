"""RepVGG A0-B3, g2, g4 and D2se, in the form that is trained and the form that is deployed.

Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", arXiv 2101.03697: Table 2 (A, B) and
section 3.4 (widths, groups); D2se is of the released code (DingXiaoH/RepVGG), which trains it at 224
and tests it at 320. The identity branch is there only where stride is 1 *and* the widths are equal:
A1 and B0 go 64 -> 64 with stride 2. `flopscope.rewrites.reparametrise` turns the trained form into the
deployed one; `deploy=True` builds the latter directly, with the same names and shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from flopscope.errors import InputError
from flopscope.rewrites.reparametrise import Branch
from flopscope.zoo.blocks import ConvNormAct, SqueezeExcitation, initialise
from flopscope.zoo.registry import Published, network

PAPER = "arXiv 2101.03697"
TRUNCATED = "params are truncated, not rounded"
BRANCHES = {"both": ("1x1", "identity"), "1x1": ("1x1",), "identity": ("identity",), "none": ()}


@dataclass(frozen=True, slots=True)
class Size:
    """Layers of stages 0 to 4, multipliers of widths, groups of every second layer, SE or not."""

    layers: tuple[int, int, int, int, int]
    a: float
    b: float
    groups: int = 1
    se: bool = False

    @property
    def widths(self) -> tuple[int, ...]:
        """min(64, 64a), 64a, 128a, 256a, 512b, truncated (section 3.4)."""
        a, b = self.a, self.b
        return int(min(64, 64 * a)), int(64 * a), int(128 * a), int(256 * a), int(512 * b)


A, B, D = (1, 2, 4, 14, 1), (1, 4, 6, 16, 1), (1, 8, 14, 24, 1)

A0 = Size(A, 0.75, 2.5)
A1 = Size(A, 1, 2.5)
A2 = Size(A, 1.5, 2.75)
B0 = Size(B, 1, 2.5)
B1 = Size(B, 2, 4)
B1G2 = Size(B, 2, 4, groups=2)
B1G4 = Size(B, 2, 4, groups=4)
B2 = Size(B, 2.5, 5)
B2G2 = Size(B, 2.5, 5, groups=2)
B2G4 = Size(B, 2.5, 5, groups=4)
B3 = Size(B, 3, 5)
B3G2 = Size(B, 3, 5, groups=2)
B3G4 = Size(B, 3, 5, groups=4)
D2SE = Size(D, 2.5, 5, se=True)


class RepVGGBlock(nn.Module):
    """The block as it is trained: 3x3 and 1x1 convolutions and the identity, each with BN; sum; (SE); ReLU.

    The identity branch exists only if stride is 1 and cin == cout. `branches` chooses those beside the
    3x3: one of `BRANCHES`, for the ablation of Table 6.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        *,
        stride: int = 1,
        groups: int = 1,
        se: bool = False,
        branches: str = "both",
    ) -> None:
        super().__init__()
        self.conv3x3 = ConvNormAct(cin, cout, 3, stride, groups, activation=None)
        self.conv1x1: ConvNormAct | None = None
        self.identity: nn.BatchNorm2d | None = None
        chosen = BRANCHES[branches]
        if "1x1" in chosen:
            self.conv1x1 = ConvNormAct(cin, cout, 1, stride, groups, activation=None)
        if "identity" in chosen and stride == 1 and cin == cout:
            self.identity = nn.BatchNorm2d(cout)
        self.se = SqueezeExcitation(cout, cout // 16) if se else None
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, ⌈H/stride⌉, ⌈W/stride⌉)."""
        y: Tensor = self.conv3x3(x)
        if self.conv1x1 is not None:
            y = y + self.conv1x1(x)
        if self.identity is not None:
            y = y + self.identity(x)
        y = y if self.se is None else self.se(y)
        activated: Tensor = self.act(y)
        return activated

    def branches(self) -> Sequence[Branch]:
        """What is added up before SE and ReLU; the 3x3 convolution leads."""
        pairs = [pair for pair in (self.conv3x3, self.conv1x1) if pair is not None]
        found = [Branch(pair.conv, pair.norm) for pair in pairs]
        return found if self.identity is None else [*found, Branch(None, self.identity)]

    def deployed(self, convolution: nn.Conv2d) -> RepVGGDeployBlock:
        """The block with one convolution in place of its branches."""
        return RepVGGDeployBlock(convolution, self.se)


class RepVGGDeployBlock(nn.Module):
    """The block as it is deployed: one 3x3 convolution with bias; (SE); ReLU."""

    def __init__(self, convolution: nn.Conv2d, se: nn.Module | None) -> None:
        super().__init__()
        self.conv = convolution
        self.se = se
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, ⌈H/stride⌉, ⌈W/stride⌉)."""
        y: Tensor = self.conv(x)
        y = y if self.se is None else self.se(y)
        activated: Tensor = self.act(y)
        return activated


class RepVGG(nn.Module):
    """Five stages of blocks, each begun with stride 2; global pool; FC. No max-pool."""

    def __init__(
        self, size: Size, *, num_classes: int = 1000, deploy: bool = False, branches: str = "both"
    ) -> None:
        super().__init__()
        if branches not in BRANCHES:
            raise InputError(
                f"RepVGG has no branches {branches!r}", hint=f"give one of {', '.join(BRANCHES)}"
            )
        self.stages = nn.Sequential()
        cin, layer = 3, 0
        for stage, (count, width) in enumerate(zip(size.layers, size.widths, strict=True)):
            blocks: list[nn.Module] = []
            for index in range(count):
                # Layers 2, 4, ..., 26, counted from 1 at the first of stage 1: stage 0 is layer 0.
                groups = size.groups if layer > 0 and layer % 2 == 0 else 1
                stride = 2 if index == 0 else 1
                blocks.append(
                    _block(cin, width, stride, groups, se=size.se, deploy=deploy, branches=branches)
                )
                cin, layer = width, layer + 1
            self.stages.add_module(str(stage), nn.Sequential(*blocks))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(cin, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        logits: Tensor = self.classifier(self.flatten(self.pool(self.stages(x))))
        return logits


def _block(
    cin: int, cout: int, stride: int, groups: int, *, se: bool, deploy: bool, branches: str
) -> nn.Module:
    if not deploy:
        return RepVGGBlock(cin, cout, stride=stride, groups=groups, se=se, branches=branches)
    convolution = nn.Conv2d(cin, cout, 3, stride, 1, groups=groups)
    return RepVGGDeployBlock(convolution, SqueezeExcitation(cout, cout // 16) if se else None)


_entry = partial(network, family="RepVGG", resolution=224, paper=f"{PAPER}, Table 2")


def _printed(
    *, train: tuple[float, float], deploy: tuple[float, float], table: int = 4, truncated: bool = True
) -> tuple[Published, Published]:
    """Params in millions and 10^9 operations, as the paper prints them (deploy) and mmcv counts them."""
    return (
        Published(
            f"{PAPER}, Table {table}",
            params_m=deploy[0],
            macs_g=deploy[1],
            convention="MAC, BN folded",
            options={"deploy": True},
            reason=TRUNCATED if truncated else "",
        ),
        Published("MMClassification, RepVGG README", *train, convention="mmcv: MAC + BN + bias + ReLU"),
    )


@_entry(
    "repvgg_a0",
    params=9_108_968,
    macs=1_512_581_120,
    variants={"deploy=true": (8_309_384, 1_361_451_008)},
    published=_printed(train=(9.11, 1.52), deploy=(8.3, 1.4)),
)
def repvgg_a0(num_classes: int = 1000, *, deploy: bool = False) -> RepVGG:
    """A0: a = 0.75, b = 2.5."""
    return RepVGG(A0, num_classes=num_classes, deploy=deploy)


@_entry(
    "repvgg_a1",
    params=14_092_264,
    macs=2_626_488_320,
    variants={"deploy=true": (12_789_864, 2_363_967_488)},
    published=_printed(train=(14.09, 2.64), deploy=(12.78, 2.4)),
)
def repvgg_a1(num_classes: int = 1000, *, deploy: bool = False) -> RepVGG:
    """A1: a = 1, b = 2.5."""
    return RepVGG(A1, num_classes=num_classes, deploy=deploy)


@_entry(
    "repvgg_a2",
    params=28_210_600,
    macs=5_685_345_280,
    variants={"deploy=true": (25_499_944, 5_116_951_552)},
    published=_printed(train=(28.21, 5.7), deploy=(25.49, 5.1)),
)
def repvgg_a2(num_classes: int = 1000, *, deploy: bool = False) -> RepVGG:
    """A2: a = 1.5, b = 2.75."""
    return RepVGG(A2, num_classes=num_classes, deploy=deploy)


@_entry(
    "repvgg_b0",
    params=15_817_960,
    macs=3_397_191_680,
    variants={
        "deploy=true": (14_339_048, 3_057_600_512),
        "branches=1x1": (15_808_616, 3_397_191_680),
        "branches=identity": (14_354_856, 3_057_600_512),
        "branches=none": (14_345_512, 3_057_600_512),
    },
    published=_printed(train=(15.82, 3.42), deploy=(14.33, 3.1)),
)
def repvgg_b0(num_classes: int = 1000, *, deploy: bool = False, branches: str | None = "both") -> RepVGG:
    """B0: a = 1, b = 2.5; with `branches` of Table 6 ("both", "1x1", "identity", "none" or None)."""
    # `zoo:repvgg_b0?branches=none` arrives as None, as a literal in an address does.
    return RepVGG(B0, num_classes=num_classes, deploy=deploy, branches=branches or "none")


@_entry(
    "repvgg_b1",
    params=57_415_016,
    macs=13_128_089_600,
    variants={"deploy=true": (51_829_480, 11_815_485_440)},
    published=_printed(train=(57.42, 13.16), deploy=(51.82, 11.8)),
)
def repvgg_b1(num_classes: int = 1000, *, deploy: bool = False) -> RepVGG:
    """B1: a = 2, b = 4."""
    return RepVGG(B1, num_classes=num_classes, deploy=deploy)


@_entry(
    "repvgg_b1g2",
    params=45_782_376,
    macs=9_788_375_040,
    variants={"deploy=true": (41_360_104, 8_809_742_336)},
    published=_printed(train=(45.78, 9.82), deploy=(41.36, 8.8), truncated=False),
)
def repvgg_b1g2(num_classes: int = 1000, *, deploy: bool = False) -> RepVGG:
    """B1g2: B1 with two groups in every second layer."""
    return RepVGG(B1G2, num_classes=num_classes, deploy=deploy)


@_entry(
    "repvgg_b1g4",
    params=39_966_056,
    macs=8_118_517_760,
    variants={"deploy=true": (36_125_416, 7_306_870_784)},
    published=_printed(train=(39.97, 8.15), deploy=(36.12, 7.3)),
)
def repvgg_b1g4(num_classes: int = 1000, *, deploy: bool = False) -> RepVGG:
    """B1g4: B1 with four groups in every second layer."""
    return RepVGG(B1G4, num_classes=num_classes, deploy=deploy)


@_entry(
    "repvgg_b2",
    params=89_022_376,
    macs=20_418_170_880,
    variants={"deploy=true": (80_315_112, 18_376_609_792)},
    published=_printed(train=(89.02, 20.46), deploy=(80.31, 18.4)),
)
def repvgg_b2(num_classes: int = 1000, *, deploy: bool = False) -> RepVGG:
    """B2: a = 2.5, b = 5."""
    return RepVGG(B2, num_classes=num_classes, deploy=deploy)


@_entry(
    "repvgg_b2g2",
    params=70_846_376,
    macs=15_199_866_880,
    variants={"deploy=true": (63_956_712, 13_680_136_192)},
)
def repvgg_b2g2(num_classes: int = 1000, *, deploy: bool = False) -> RepVGG:
    """B2g2: B2 with two groups in every second layer."""
    return RepVGG(B2G2, num_classes=num_classes, deploy=deploy)


@_entry(
    "repvgg_b2g4",
    params=61_758_376,
    macs=12_590_714_880,
    variants={"deploy=true": (55_777_512, 11_331_899_392)},
    published=_printed(train=(61.76, 12.63), deploy=(55.77, 11.3)),
)
def repvgg_b2g4(num_classes: int = 1000, *, deploy: bool = False) -> RepVGG:
    """B2g4: B2 with four groups in every second layer."""
    return RepVGG(B2G4, num_classes=num_classes, deploy=deploy)


@_entry(
    "repvgg_b3",
    params=123_085_288,
    macs=29_120_696_320,
    variants={"deploy=true": (110_960_872, 26_208_882_688)},
    published=_printed(train=(123.09, 29.17), deploy=(110.96, 26.2), table=5, truncated=False),
)
def repvgg_b3(num_classes: int = 1000, *, deploy: bool = False) -> RepVGG:
    """B3: a = 3, b = 5."""
    return RepVGG(B3, num_classes=num_classes, deploy=deploy)


@_entry(
    "repvgg_b3g2",
    params=96_911_848,
    macs=21_606_338_560,
    variants={"deploy=true": (87_404_776, 19_445_960_704)},
)
def repvgg_b3g2(num_classes: int = 1000, *, deploy: bool = False) -> RepVGG:
    """B3g2: B3 with two groups in every second layer."""
    return RepVGG(B3G2, num_classes=num_classes, deploy=deploy)


@_entry(
    "repvgg_b3g4",
    params=83_825_128,
    macs=17_849_159_680,
    variants={"deploy=true": (75_626_728, 16_064_499_712)},
    published=_printed(train=(83.83, 17.9), deploy=(75.62, 16.1), table=5),
)
def repvgg_b3g4(num_classes: int = 1000, *, deploy: bool = False) -> RepVGG:
    """B3g4: B3 with four groups in every second layer."""
    return RepVGG(B3G4, num_classes=num_classes, deploy=deploy)


@_entry(
    "repvgg_d2se",
    params=133_334_836,
    macs=36_476_744_192,
    variants={"deploy=true": (120_387_572, 32_829_551_104)},
)
def repvgg_d2se(num_classes: int = 1000, *, deploy: bool = False) -> RepVGG:
    """D2se: deeper than B2, with SE between sum and ReLU."""
    return RepVGG(D2SE, num_classes=num_classes, deploy=deploy)
