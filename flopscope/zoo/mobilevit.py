"""Widths -> MobileViT-XXS, -XS and -S: transformers between convolutions, on unfolded patches of 2x2.

Mehta and Rastegari, "MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer",
arXiv 2110.02178, Table 4 and Figure 1b. For images of 256x256. The map of another size
may not divide into patches (7x7 at 224): it is resized for the transformer and back, as in the
released code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from flopscope.zoo.attention import MLP, SelfAttention, initialise_normal
from flopscope.zoo.blocks import SILU, ConvNormAct, InvertedResidual, initialise
from flopscope.zoo.registry import Published, network

PAPER = "arXiv 2110.02178, Table 4"
ZOO = "apple/ml-cvnets@7771756 README-model-zoo"
FASTERNET = "FasterNet, arXiv 2303.03667v3, Table 3"
FVCORE = "fvcore counts batch norms (2 per element), layer norms (5) and the final pool on top of MACs"
CLAIM = "arXiv 2110.02178, as quoted in apple/ml-cvnets issue #68"
CLAIM_REASON = "not reproducible at 256 (others measure 0.986 to 1.028 G); 0.772 G is what 224 gives"

PATCH = 2
HEADS = 4
# size: expansion of the MobileNetV2 blocks; stem; widths of L1 to L5; transformer widths of L3 to L5
VARIANTS = {
    "xxs": (2, 16, (16, 24, 48, 64, 80), (64, 80, 96)),
    "xs": (4, 16, (32, 48, 64, 80, 96), (96, 120, 144)),
    "s": (4, 16, (32, 64, 96, 128, 160), (144, 192, 240)),
}
# transformer layers of L3 to L5
LAYERS = (2, 4, 3)


class MobileViT(nn.Module):
    """Stem, two stages of MobileNetV2 blocks, three that end in a MobileViT block, head."""

    def __init__(
        self,
        expansion: int,
        stem: int,
        widths: tuple[int, ...],
        inner: tuple[int, ...],
        num_classes: int = 1000,
        *,
        drop_rate: float = 0.1,
    ) -> None:
        super().__init__()

        def block(cin: int, cout: int, stride: int) -> InvertedResidual:
            return InvertedResidual(cin, cout, 3, stride, expanded=cin * expansion, activation=SILU)

        first, second, *later = widths
        self.stem = ConvNormAct(3, stem, 3, 2, activation=SILU)
        self.stages = nn.Sequential(
            nn.Sequential(block(stem, first, 1)),
            nn.Sequential(block(first, second, 2), block(second, second, 1), block(second, second, 1)),
        )
        before = second
        for width, transformer, layers in zip(later, inner, LAYERS, strict=True):
            self.stages.append(
                nn.Sequential(block(before, width, 2), MobileViTBlock(width, transformer, layers))
            )
            before = width
        self.head = ConvNormAct(before, 4 * before, 1, activation=SILU)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(4 * before, num_classes)
        initialise(self)
        initialise_normal(self, (nn.Linear,))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        x = self.pool(self.head(self.stages(self.stem(x)))).flatten(1)
        y: Tensor = self.classifier(self.dropout(x))
        return y


class MobileViTBlock(nn.Module):
    """Local convolutions -> transformer over patches, for each place in a patch -> fusion with the input.

    conv3x3, BN, SiLU -> 1x1 to `inner` (no BN, no bias) -> transformer layers, layer norm -> 1x1 back,
    BN, SiLU -> beside the block's input -> conv3x3, BN, SiLU (Figure 1b).
    """

    def __init__(self, width: int, inner: int, layers: int) -> None:
        super().__init__()
        self.local = ConvNormAct(width, width, 3, activation=SILU)
        self.widen = nn.Conv2d(width, inner, 1, bias=False)
        self.layers = nn.Sequential(*[TransformerLayer(inner) for _ in range(layers)])
        self.norm = nn.LayerNorm(inner)
        self.narrow = ConvNormAct(inner, width, 1, activation=SILU)
        self.fusion = ConvNormAct(2 * width, width, 3, activation=SILU)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        y = self.widen(self.local(x))
        height, width = y.shape[2:]
        whole = (height + -height % PATCH, width + -width % PATCH)
        if whole != (height, width):
            y = functional.interpolate(y, whole, mode="bilinear", align_corners=False)
        y = folded(self.norm(self.layers(unfolded(y))), *whole)
        if whole != (height, width):
            y = functional.interpolate(y, (height, width), mode="bilinear", align_corners=False)
        return self._fused(x, self.narrow(y))

    def _fused(self, x: Tensor, y: Tensor) -> Tensor:
        fused: Tensor = self.fusion(torch.cat((x, y), dim=1))
        return fused


class TransformerLayer(nn.Module):
    """Pre-norm self-attention with 4 heads, pre-norm MLP of twice the width with SiLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width, HEADS)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, 2 * width, SILU)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, width) -> the same shape."""
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


def unfolded(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N · 4, H · W / 4, C): for each place in a patch a sequence of the patches."""
    n, channels, height, width = x.shape
    x = x.reshape(n, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return x.permute(0, 3, 5, 2, 4, 1).reshape(n * PATCH**2, -1, channels)


def folded(x: Tensor, height: int, width: int) -> Tensor:
    """(N · 4, H · W / 4, C) -> (N, C, H, W): the inverse of `unfolded`."""
    x = x.view(-1, PATCH, PATCH, height // PATCH, width // PATCH, x.shape[-1])
    return x.permute(0, 5, 3, 1, 4, 2).reshape(x.shape[0], x.shape[-1], height, width)


@network(
    "mobilevit_xxs",
    family="MobileViT",
    resolution=256,
    paper=PAPER,
    params=1_272_024,
    macs=407_364_096,
    published=[
        Published(ZOO, params_m=1.3),
        Published(FASTERNET, params_m=1.3, macs_g=0.42, convention="fvcore", reason=FVCORE),
    ],
)
def mobilevit_xxs(num_classes: int = 1000, *, drop_rate: float = 0.1) -> MobileViT:
    """MobileViT-XXS."""
    return MobileViT(*VARIANTS["xxs"], num_classes, drop_rate=drop_rate)


@network(
    "mobilevit_xs",
    family="MobileViT",
    resolution=256,
    paper=PAPER,
    params=2_317_848,
    macs=1_025_911_808,
    published=[
        Published(CLAIM, params_m=2.3, macs_g=0.7, reason=CLAIM_REASON),
        Published(FASTERNET, params_m=2.3, macs_g=1.05, convention="fvcore", reason=FVCORE),
    ],
)
def mobilevit_xs(num_classes: int = 1000, *, drop_rate: float = 0.1) -> MobileViT:
    """MobileViT-XS."""
    return MobileViT(*VARIANTS["xs"], num_classes, drop_rate=drop_rate)


@network(
    "mobilevit_s",
    family="MobileViT",
    resolution=256,
    paper=PAPER,
    params=5_578_632,
    macs=2_000_831_488,
    published=[
        Published(ZOO, params_m=5.6),
        Published(FASTERNET, params_m=5.6, macs_g=2.03, convention="fvcore", reason=FVCORE),
    ],
)
def mobilevit_s(num_classes: int = 1000, *, drop_rate: float = 0.1) -> MobileViT:
    """MobileViT-S."""
    return MobileViT(*VARIANTS["s"], num_classes, drop_rate=drop_rate)
