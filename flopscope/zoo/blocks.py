"""Widths, strides and activations -> the blocks that several families of networks share.

Conv + BN + activation, squeeze-and-excitation, drop path, and the inverted residual in its forms:
plain (MobileNetV2, V3), MBConv (EfficientNet) and Fused-MBConv (EfficientNetV2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]

# In place, as the implementations in torch that are run do it: one activation less is allocated.
SILU: Activation = partial(nn.SiLU, inplace=True)


def round8(channels: float, *, guard: bool = True) -> int:
    """Round a scaled width to the multiple of 8 nearest to it, ties up, at least 8.

    With the `guard` of MobileNetV2 and EfficientNet, 8 is added where the result is below 90 % of
    `channels`; EfficientNetV2 scales without it.
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if guard and rounded < 0.9 * channels else rounded


def drop_path_rates(rate: float, count: int) -> list[float]:
    """Rates of stochastic depth that grow linearly with depth: `rate * index / count`.

    Source: Huang et al., arXiv 1603.09382, section 3, as TF's EfficientNet indexes it (from 0).
    """
    return [rate * index / count for index in range(count)]


def initialise(model: nn.Module) -> None:
    """Fill the weights as the mobile families do, in place.

    Convolutions: normal with variance 2 / fan_out, fan_out = k² · cout / groups (He et al.,
    arXiv 1502.01852); batch norms 1 and 0; linear layers uniform within ± 1/√out; biases 0.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        elif isinstance(module, nn.Linear):
            bound = 1.0 / math.sqrt(module.out_features)
            nn.init.uniform_(module.weight, -bound, bound)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            nn.init.zeros_(bias)


class ConvNormAct(nn.Sequential):
    """Convolution without bias, padded by k//2; batch norm; activation (None: none)."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        activation: Activation | None,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(cout, eps=eps, momentum=momentum)
        if activation is not None:
            self.act = activation()


class SqueezeExcitation(nn.Module):
    """Weigh each channel by what all channels hold on average (Hu et al., arXiv 1709.01507).

    Global mean -> 1x1 conv to `squeezed` -> activation -> 1x1 conv back -> gate -> multiply.
    """

    def __init__(
        self, channels: int, squeezed: int, *, activation: Activation = nn.ReLU, gate: Activation = nn.Sigmoid
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = activation()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        weights: Tensor = self.gate(self.expand(self.act(self.reduce(self.pool(x)))))
        return x * weights


class DropPath(nn.Module):
    """Stochastic depth: in training, drop a residual branch for each sample with probability `rate`.

    What is kept is scaled by 1 / (1 - rate); in eval mode, or at rate 0, it is the exact identity.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"a drop path rate lies in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        kept = torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(1.0 - self.rate)
        return x * kept / (1.0 - self.rate)

    def extra_repr(self) -> str:
        """Show the rate where the module is printed."""
        return f"rate={self.rate:g}"


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter depthwise, project by 1x1: narrow outside, wide inside.

    1x1 conv to `expanded` (omitted when that is `cin`), BN, act -> depthwise kxk, BN, act -> SE (if
    `squeezed`) -> 1x1 conv to `cout`, BN, no activation. The input is added when the stride is 1 and
    `cin == cout`. Sources: arXiv 1801.04381, section 3.3; with SE, arXiv 1905.02244, section 3.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int,
        stride: int = 1,
        *,
        expanded: int,
        activation: Activation,
        squeezed: int | None = None,
        se_activation: Activation = nn.ReLU,
        se_gate: Activation = nn.Sigmoid,
        drop_path: float = 0.0,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if expanded != cin:
            self.expand: nn.Module | None = ConvNormAct(
                cin, expanded, 1, activation=activation, eps=eps, momentum=momentum
            )
        else:
            self.expand = None
        self.depthwise = ConvNormAct(
            expanded, expanded, kernel, stride, expanded, activation=activation, eps=eps, momentum=momentum
        )
        self.se: nn.Module | None = None
        if squeezed is not None:
            self.se = SqueezeExcitation(expanded, squeezed, activation=se_activation, gate=se_gate)
        self.project = ConvNormAct(expanded, cout, 1, activation=None, eps=eps, momentum=momentum)
        self.residual = stride == 1 and cin == cout
        self.drop_path = DropPath(drop_path) if self.residual and drop_path else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, ⌈H/stride⌉, ⌈W/stride⌉)."""
        y: Tensor = self.depthwise(x if self.expand is None else self.expand(x))
        y = y if self.se is None else self.se(y)
        y = self.project(y)
        y = y if self.drop_path is None else self.drop_path(y)
        return x + y if self.residual else y


class MBConv(InvertedResidual):
    """The inverted residual of EfficientNet: SiLU, and an SE of a quarter of the block's input.

    The SE squeezes to max(1, int(cin / 4)), not to a quarter of the expanded width
    (arXiv 1905.11946, released code).
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int,
        stride: int = 1,
        *,
        expansion: int,
        drop_path: float = 0.0,
        eps: float = 1e-3,
        momentum: float = 0.1,
    ) -> None:
        super().__init__(
            cin,
            cout,
            kernel,
            stride,
            expanded=cin * expansion,
            activation=SILU,
            squeezed=max(1, cin // 4),
            se_activation=SILU,
            drop_path=drop_path,
            eps=eps,
            momentum=momentum,
        )


class FusedMBConv(nn.Module):
    """MBConv with its expansion and depthwise conv fused into one regular kxk conv.

    kxk conv to `expansion * cin`, BN, SiLU -> SE (if `se`) -> 1x1 conv to `cout`, BN, no activation;
    with expansion 1 (SE, if `se` ->) a single kxk conv to `cout`, BN, SiLU. Residual as in MBConv.
    Source: arXiv 2104.00298, Figure 2, which draws an SE that EfficientNetV2's own table and code do
    not have; for expansion 1, the released code.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int,
        stride: int = 1,
        *,
        expansion: int,
        se: bool = False,
        drop_path: float = 0.0,
        eps: float = 1e-3,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        wide = cin * expansion
        first = wide if expansion > 1 else cout
        self.fused = ConvNormAct(cin, first, kernel, stride, activation=SILU, eps=eps, momentum=momentum)
        self.se = SqueezeExcitation(wide, max(1, cin // 4), activation=SILU) if se else None
        self.project: nn.Module | None = None
        if expansion > 1:
            self.project = ConvNormAct(wide, cout, 1, activation=None, eps=eps, momentum=momentum)
        self.residual = stride == 1 and cin == cout
        self.drop_path = DropPath(drop_path) if self.residual and drop_path else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, ⌈H/stride⌉, ⌈W/stride⌉)."""
        y: Tensor
        if self.project is None:
            y = self.fused(x if self.se is None else self.se(x))
        else:
            y = self.fused(x)
            y = self.project(y if self.se is None else self.se(y))
        y = y if self.drop_path is None else self.drop_path(y)
        return x + y if self.residual else y
