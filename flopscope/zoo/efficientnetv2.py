"""Stage tables -> EfficientNetV2 S, M, L, XL and B0 to B3.

Tan and Le, "EfficientNetV2: Smaller Models and Faster Training", arXiv 2104.00298, Table 4 (S); the
released code (google/automl) for what the paper leaves open, and where the two differ:

- S ends in 256 channels and a head of 1280 in the code; version 1 of the paper had 272 and 1792,
  which is the S of many listings: `paper_v1=True`.
- A Fused-MBConv of expansion 1 is one conv3x3 with its activation: no 1x1 follows.
- The B models scale a base of their own, and round widths without the 90 % guard of EfficientNet:
  stage 1 of B3 has 16 channels, not 24.
- M, L and XL are not scaled from the base, although the code's comments say so: they have a 7th
  MBConv stage that it lacks.
- Batch norms have eps 1e-3 and keep 0.9 of the past, which torch calls momentum 0.1.

Trained at 300 (S), 384 (M, L, XL), 192 (B0, B1), 208 (B2), 240 (B3) and evaluated at the larger
`resolution` of each entry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from flopscope.zoo.blocks import round8
from flopscope.zoo.efficientnet import EfficientNet, Stage
from flopscope.zoo.registry import Published, network

# Every kernel is 3. A fused stage has no SE; the others squeeze to a quarter of the block's input.
_F = partial(Stage, 3, fused=True)
_M = partial(Stage, 3)

# stride, expansion, channels, repeats
S = (
    _F(1, 1, 24, 2),
    _F(2, 4, 48, 4),
    _F(2, 4, 64, 4),
    _M(2, 4, 128, 6),
    _M(1, 6, 160, 9),
    _M(2, 6, 256, 15),
)
M = (
    _F(1, 1, 24, 3),
    _F(2, 4, 48, 5),
    _F(2, 4, 80, 5),
    _M(2, 4, 160, 7),
    _M(1, 6, 176, 14),
    _M(2, 6, 304, 18),
    _M(1, 6, 512, 5),
)
L = (
    _F(1, 1, 32, 4),
    _F(2, 4, 64, 7),
    _F(2, 4, 96, 7),
    _M(2, 4, 192, 10),
    _M(1, 6, 224, 19),
    _M(2, 6, 384, 25),
    _M(1, 6, 640, 7),
)
XL = (
    _F(1, 1, 32, 4),
    _F(2, 4, 64, 8),
    _F(2, 4, 96, 8),
    _M(2, 4, 192, 16),
    _M(1, 6, 256, 24),
    _M(2, 6, 512, 32),
    _M(1, 6, 640, 8),
)
B = (
    _F(1, 1, 16, 1),
    _F(2, 4, 32, 2),
    _F(2, 4, 48, 2),
    _M(2, 4, 96, 3),
    _M(1, 6, 112, 5),
    _M(2, 6, 192, 8),
)

PAPER = "arXiv 2104.00298, Table 4"
CODE = "arXiv 2104.00298; google/automl"
COUNTER = "TensorFlow's counter lies about 0.5 % above the MACs"


# The README counts with TensorFlow, which shows in M and L alone.
def _readme(params_m: float, macs_g: float | None, *, reason: str = "") -> Published:
    return Published(
        "google/automl, efficientnetv2/README.md",
        params_m,
        macs_g,
        "TF count" if reason else "MAC",
        reason=reason,
    )


@network(
    "efficientnetv2_s",
    family="EfficientNetV2",
    resolution=384,
    paper=PAPER,
    params=21_458_488,
    macs=8_365_617_152,
    published=(
        _readme(21.5, 8.4),
        Published(
            "arXiv 2104.00298v1, Table 7, as quoted in google/automl",
            24,
            8.8,
            "TF count",
            options={"paper_v1": True},
            reason="TensorFlow's counter lies about 2 % above the MACs",
        ),
    ),
    variants={"paper_v1=true": (23_940_048, 8_597_814_784)},
)
def efficientnetv2_s(
    num_classes: int = 1000, *, drop_rate: float = 0.2, stochastic_depth: float = 0.2, paper_v1: bool = False
) -> EfficientNet:
    """The base, found by search; with `paper_v1` as version 1 of the paper has it: 272, head 1792."""
    stages = (*S[:-1], S[-1]._replace(channels=272)) if paper_v1 else S
    head = 1792 if paper_v1 else 1280
    return _network(stages, 24, num_classes, drop_rate, stochastic_depth, head=head)


@network(
    "efficientnetv2_m",
    family="EfficientNetV2",
    resolution=480,
    paper=CODE,
    params=54_139_356,
    macs=24_582_460_384,
    published=(_readme(54.1, 24.7, reason=COUNTER),),
)
def efficientnetv2_m(
    num_classes: int = 1000, *, drop_rate: float = 0.3, stochastic_depth: float = 0.2
) -> EfficientNet:
    """S scaled up, with a 7th stage."""
    return _network(M, 24, num_classes, drop_rate, stochastic_depth)


@network(
    "efficientnetv2_l",
    family="EfficientNetV2",
    resolution=480,
    paper=CODE,
    params=118_515_272,
    macs=56_079_699_008,
    published=(
        _readme(119.5, 56.3, reason=f"params: a misprint, every construction gives 118.5M; {COUNTER}"),
    ),
)
def efficientnetv2_l(
    num_classes: int = 1000, *, drop_rate: float = 0.4, stochastic_depth: float = 0.2
) -> EfficientNet:
    """S scaled up, with a 7th stage and a stem of 32."""
    return _network(L, 32, num_classes, drop_rate, stochastic_depth)


@network(
    "efficientnetv2_xl",
    family="EfficientNetV2",
    resolution=512,
    paper=CODE,
    params=208_119_808,
    macs=93_353_451_520,
    published=(_readme(208, None),),
)
def efficientnetv2_xl(
    num_classes: int = 1000, *, drop_rate: float = 0.4, stochastic_depth: float = 0.2
) -> EfficientNet:
    """S scaled up, with a 7th stage and a stem of 32."""
    return _network(XL, 32, num_classes, drop_rate, stochastic_depth)


@network(
    "efficientnetv2_b0",
    family="EfficientNetV2",
    resolution=224,
    paper=CODE,
    params=7_139_704,
    macs=718_086_176,
    published=(_readme(7.1, 0.72),),
)
def efficientnetv2_b0(
    num_classes: int = 1000, *, drop_rate: float = 0.2, stochastic_depth: float = 0.2
) -> EfficientNet:
    """The base of the B models."""
    return _scaled(1.0, 1.0, num_classes, drop_rate, stochastic_depth)


@network(
    "efficientnetv2_b1",
    family="EfficientNetV2",
    resolution=240,
    paper=CODE,
    params=8_141_052,
    macs=1_196_819_360,
    published=(_readme(8.1, 1.2),),
)
def efficientnetv2_b1(
    num_classes: int = 1000, *, drop_rate: float = 0.2, stochastic_depth: float = 0.2
) -> EfficientNet:
    """B0 scaled: width x 1.0, depth x 1.1."""
    return _scaled(1.0, 1.1, num_classes, drop_rate, stochastic_depth)


@network(
    "efficientnetv2_b2",
    family="EfficientNetV2",
    resolution=260,
    paper=CODE,
    params=10_096_086,
    macs=1_697_542_832,
    published=(_readme(10.1, 1.7),),
)
def efficientnetv2_b2(
    num_classes: int = 1000, *, drop_rate: float = 0.3, stochastic_depth: float = 0.2
) -> EfficientNet:
    """B0 scaled: width x 1.1, depth x 1.2."""
    return _scaled(1.1, 1.2, num_classes, drop_rate, stochastic_depth)


@network(
    "efficientnetv2_b3",
    family="EfficientNetV2",
    resolution=300,
    paper=CODE,
    params=14_358_406,
    macs=3_011_458_816,
    published=(_readme(14.4, 3.0),),
)
def efficientnetv2_b3(
    num_classes: int = 1000, *, drop_rate: float = 0.3, stochastic_depth: float = 0.2
) -> EfficientNet:
    """B0 scaled: width x 1.2, depth x 1.4."""
    return _scaled(1.2, 1.4, num_classes, drop_rate, stochastic_depth)


def _network(
    stages: Sequence[Stage],
    stem: int,
    num_classes: int,
    drop_rate: float,
    stochastic_depth: float,
    *,
    head: int = 1280,
) -> EfficientNet:
    return EfficientNet(
        stages,
        stem=stem,
        head=head,
        num_classes=num_classes,
        drop_rate=drop_rate,
        stochastic_depth=stochastic_depth,
        momentum=0.1,
    )


def _scaled(
    width: float, depth: float, num_classes: int, drop_rate: float, stochastic_depth: float
) -> EfficientNet:
    """Scale the B table: channels by `width`, rounded without the guard; repeats by `depth`, rounded up."""
    stages = [
        stage._replace(
            channels=round8(width * stage.channels, guard=False), repeats=math.ceil(depth * stage.repeats)
        )
        for stage in B
    ]
    stem, head = (round8(width * channels, guard=False) for channels in (32, 1280))
    return _network(stages, stem, num_classes, drop_rate, stochastic_depth, head=head)
