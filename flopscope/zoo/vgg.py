"""VGG16 without and with batch norm.

Simonyan and Zisserman, arXiv 1409.1556, Table 1, column D. Batch norm came later; torchvision's
`vgg16_bn` puts it between each convolution, which keeps its bias, and its ReLU. torchvision also has
an adaptive average pool to 7x7 before the classifier, which at 224 changes nothing; the paper has none.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from flopscope.zoo.blocks import initialise
from flopscope.zoo.registry import Published, network

PAPER = "arXiv 1409.1556, Table 1 (D)"

# Widths of the 3x3 convolutions; "M" is a max-pool 2x2 of stride 2.
D = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
CLASSIFIER = (512 * 7 * 7, 4096, 4096)


class VGG(nn.Module):
    """3x3 convolutions with bias, (BN,) ReLU; max-pools; three fully connected layers."""

    def __init__(
        self,
        table: tuple[int | str, ...],
        *,
        num_classes: int = 1000,
        batch_norm: bool = False,
        drop_rate: float = 0.5,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(*_features(table, batch_norm=batch_norm))
        self.flatten = nn.Flatten()
        hidden: list[nn.Module] = []
        for cin, cout in pairwise(CLASSIFIER):
            hidden += [nn.Linear(cin, cout), nn.ReLU(inplace=True), nn.Dropout(drop_rate)]
        self.classifier = nn.Sequential(*hidden, nn.Linear(CLASSIFIER[-1], num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 224, 224) -> (N, num_classes)."""
        logits: Tensor = self.classifier(self.flatten(self.features(x)))
        return logits


def _features(table: tuple[int | str, ...], *, batch_norm: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    cin = 3
    for entry in table:
        if isinstance(entry, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(cin, entry, 3, padding=1))
        layers += [nn.BatchNorm2d(entry)] if batch_norm else []
        layers.append(nn.ReLU(inplace=True))
        cin = entry
    return layers


@network(
    "vgg16",
    family="VGG",
    resolution=224,
    paper=PAPER,
    params=138_357_544,
    macs=15_470_264_320,
    published=(
        Published(
            "RepVGG, arXiv 2101.03697, Table 4",
            params_m=138.35,
            macs_g=15.5,
            reason="params are truncated, not rounded",
        ),
        Published("torchvision 0.29.1, weights' metadata", params_m=138.357544, macs_g=15.47),
    ),
)
def vgg16(num_classes: int = 1000, *, drop_rate: float = 0.5) -> VGG:
    """VGG16 as in the paper, without batch norm."""
    return VGG(D, num_classes=num_classes, drop_rate=drop_rate)


@network("vgg16_bn", family="VGG", resolution=224, paper=PAPER, params=138_365_992, macs=15_470_264_320)
def vgg16_bn(num_classes: int = 1000, *, drop_rate: float = 0.5) -> VGG:
    """VGG16 with a batch norm behind every convolution."""
    return VGG(D, num_classes=num_classes, batch_norm=True, drop_rate=drop_rate)
