"""The operators that counters are asked about, each with its MACs worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


class Call(nn.Module):
    """A net whose forward is a function of (net, input); it has a convolution to its name where asked."""

    def __init__(self, function: Callable[..., torch.Tensor], **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.rand(shape)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


@dataclass(frozen=True)
class Case:
    """A model, its input, its MACs, and over how many elements the rest is spread."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    macs: int
    elements: int = 1

    def input(self) -> torch.Tensor:
        return torch.rand(self.shape)


class First(nn.Module):
    """A module of which only the first output is wanted."""

    def __init__(self, inner: nn.Module, *, thrice: bool = False) -> None:
        super().__init__()
        self.inner, self.thrice = inner, thrice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = (self.inner(x, x, x) if self.thrice else self.inner(x))[0]
        return out


class Shared(nn.Module):
    """One convolution under two parents, each run once."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False))
        self.two = nn.Sequential(self.one[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.two(self.one(x))
        return out


class OwnConv2d(nn.Conv2d):
    """A subclass that changes nothing."""


IMAGE, MAP, TOKENS = (1, 3, 8, 8), (1, 8, 8, 8), (1, 16, 32)
_ATTENTION = 2 * 16 * 16 * 32  # scores and weighted values, all heads together
_PROJECTIONS = 4 * 16 * 32 * 32

CONTRACTIONS = (
    Case("3x3 convolution", lambda: nn.Conv2d(3, 8, 3, padding=1, bias=False), IMAGE, 8 * 64 * 27),
    Case("depthwise 3x3", lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), MAP, 8 * 64 * 9),
    Case(
        "a subclass of `nn.Conv2d`",
        lambda: OwnConv2d(3, 8, 3, padding=1, bias=False),
        IMAGE,
        8 * 64 * 27,
    ),
    Case('`padding="same"`', lambda: nn.Conv2d(3, 8, 3, padding="same", bias=False), IMAGE, 8 * 64 * 27),
    Case(
        "`F.conv2d`",
        lambda: Call(lambda net, x: functional.conv2d(x, net.w, padding=1), w=(8, 3, 3, 3)),
        IMAGE,
        8 * 64 * 27,
    ),
    Case(
        "transposed 4x4, stride 2",
        lambda: nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1, bias=False),
        MAP,
        8 * 64 * 8 * 16,  # each input meets 8 outputs' worth of 16 taps
    ),
    Case("linear on (1, 16, 32)", lambda: nn.Linear(32, 64, bias=False), TOKENS, 16 * 32 * 64),
    Case("`x @ w`", lambda: Call(lambda net, x: x @ net.w, w=(32, 64)), TOKENS, 16 * 32 * 64),
    Case(
        "`torch.bmm`", lambda: Call(lambda net, x: torch.bmm(x, net.w), w=(1, 32, 64)), TOKENS, 16 * 32 * 64
    ),
    Case(
        "`torch.einsum`",
        lambda: Call(lambda net, x: torch.einsum("btc,cd->btd", x, net.w), w=(32, 64)),
        TOKENS,
        16 * 32 * 64,
    ),
    Case(
        "`F.scaled_dot_product_attention`",
        lambda: Call(lambda net, x: functional.scaled_dot_product_attention(x * net.w, x, x), w=(1,)),
        (1, 1, 16, 32),
        _ATTENTION,
    ),
    Case(
        "`nn.MultiheadAttention`",
        lambda: First(nn.MultiheadAttention(32, 4, batch_first=True), thrice=True),
        TOKENS,
        _PROJECTIONS + _ATTENTION,
    ),
    Case(
        "`nn.TransformerEncoderLayer`",
        lambda: nn.TransformerEncoderLayer(32, 4, 64, batch_first=True),
        TOKENS,
        _PROJECTIONS + _ATTENTION + 2 * 16 * 32 * 64,
    ),
    Case(
        "`nn.LSTM`",
        lambda: First(nn.LSTM(32, 32, bias=False, batch_first=True)),
        TOKENS,
        16 * 2 * 4 * 32 * 32,
    ),
    Case("a module under two parents", Shared, MAP, 2 * 64 * 8 * 8),
)


def _after(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A 1x1 convolution of 64 * 8 * 8 MACs, since some tools refuse models without parameters; then these."""
    return lambda: nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), *(layer() for layer in layers))


def _rest(name: str, *layers: Callable[[], nn.Module], elements: int = 512) -> Case:
    return Case(name, _after(*layers), MAP, 64 * 8 * 8, elements)


REST = (
    Case("bias of a convolution", lambda: nn.Conv2d(8, 8, 1), MAP, 64 * 8 * 8, 512),
    Case("bias of a linear layer", lambda: nn.Linear(32, 64), (1, 1, 32), 32 * 64, 64),
    _rest("batch norm", lambda: nn.BatchNorm2d(8)),
    _rest("layer norm", lambda: nn.LayerNorm((8, 8, 8))),
    _rest("ReLU", nn.ReLU),
    _rest("GELU", nn.GELU),
    _rest("sigmoid", nn.Sigmoid),
    _rest("softmax", lambda: nn.Softmax(1)),
    _rest("`x + x`", lambda: Call(lambda net, x: x + x)),
    _rest("max pool 2x2", lambda: nn.MaxPool2d(2)),
    _rest("average pool 2x2", lambda: nn.AvgPool2d(2)),
    _rest("global average pool", lambda: nn.AdaptiveAvgPool2d(1)),
    _rest("bilinear x2", lambda: nn.Upsample(scale_factor=2, mode="bilinear"), elements=4 * 512),
)
