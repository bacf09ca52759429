"""Depths and widths -> ConvNeXt-T, -S and -B: a residual network made over with what transformers do.

Liu et al., "A ConvNet for the 2020s", arXiv 2201.03545, section 3 and Figure 4. As in the released code
the two pointwise convolutions of a block are linear layers on a channels-last map, which is faster.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flopscope.zoo.attention import initialise_normal, rising_rates
from flopscope.zoo.blocks import DropPath
from flopscope.zoo.registry import Published, network

PAPER = "arXiv 2201.03545, section 3"
README = "facebookresearch/ConvNeXt README"
FASTERNET = "FasterNet, arXiv 2303.03667v3, Table 3"
FVCORE = "fvcore counts layer norms (5 per element) and the final pool on top of MACs"

# blocks per stage, width per stage
VARIANTS = {
    "t": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "s": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "b": ((3, 3, 27, 3), (128, 256, 512, 1024)),
}


class ConvNeXt(nn.Module):
    """Patches of 4x4 -> four stages, each but the first after a 2x2 convolution -> pool, norm, classifier."""

    def __init__(
        self,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        num_classes: int = 1000,
        *,
        stochastic_depth: float = 0.0,
        layer_scale: float = 1e-6,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), LayerNorm2d(widths[0]))
        rates = iter(rising_rates(stochastic_depth, sum(depths)))
        self.stages = nn.Sequential()
        before = widths[0]
        for depth, width in zip(depths, widths, strict=True):
            stage = nn.Sequential()
            if width != before:
                stage.append(Downsampling(before, width))
            for _ in range(depth):
                stage.append(ConvNeXtBlock(width, next(rates), layer_scale))
            self.stages.append(stage)
            before = width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = nn.LayerNorm(before, eps=1e-6)
        self.classifier = nn.Linear(before, num_classes)
        initialise_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        x = self.pool(self.stages(self.stem(x))).flatten(1)
        y: Tensor = self.classifier(self.norm(x))
        return y


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7 -> layer norm -> linear to 4C -> GELU -> linear to C -> layer scale; residual.

    Figure 4. Layer scale: one factor per channel, from 1e-6 on (arXiv 2103.17239).
    """

    def __init__(self, width: int, drop_path: float, layer_scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.project = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), layer_scale))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.project(self.act(self.expand(y)))
        z: Tensor = x + self.drop_path(y.permute(0, 3, 1, 2))
        return z


class Downsampling(nn.Module):
    """Layer norm, then a 2x2 convolution with stride 2 and bias (section 2.6)."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.norm = LayerNorm2d(cin)
        self.conv = nn.Conv2d(cin, cout, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H/2, W/2)."""
        y: Tensor = self.conv(self.norm(x))
        return y


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of an image, at each pixel."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@network(
    "convnext_t",
    family="ConvNeXt",
    resolution=224,
    paper=PAPER,
    params=28_589_128,
    macs=4_455_531_264,
    published=[
        Published(README, params_m=28, macs_g=4.5, reason="28.59 M printed truncated"),
        Published(FASTERNET, params_m=28.6, macs_g=4.47, convention="fvcore", reason=FVCORE),
    ],
)
def convnext_t(num_classes: int = 1000, *, stochastic_depth: float = 0.1) -> ConvNeXt:
    """ConvNeXt-T."""
    return ConvNeXt(*VARIANTS["t"], num_classes, stochastic_depth=stochastic_depth)


@network(
    "convnext_s",
    family="ConvNeXt",
    resolution=224,
    paper=PAPER,
    params=50_223_688,
    macs=8_683_712_256,
    published=[Published(FASTERNET, params_m=50.2, macs_g=8.71, convention="fvcore", reason=FVCORE)],
)
def convnext_s(num_classes: int = 1000, *, stochastic_depth: float = 0.4) -> ConvNeXt:
    """ConvNeXt-S."""
    return ConvNeXt(*VARIANTS["s"], num_classes, stochastic_depth=stochastic_depth)


@network(
    "convnext_b",
    family="ConvNeXt",
    resolution=224,
    paper=PAPER,
    params=88_591_464,
    macs=15_354_729_472,
    published=[
        Published(README, params_m=89, macs_g=15.4),
        Published(FASTERNET, params_m=88.6, macs_g=15.38, convention="fvcore", reason=FVCORE),
    ],
)
def convnext_b(num_classes: int = 1000, *, stochastic_depth: float = 0.5) -> ConvNeXt:
    """ConvNeXt-B."""
    return ConvNeXt(*VARIANTS["b"], num_classes, stochastic_depth=stochastic_depth)
