"""A convolution -> one of other widths in its place, with fresh weights; a partial convolution of it.

Fresh weights come from a random generator of their own, with a fixed seed: the global ones are not touched.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

SEED = 0


class Weights:
    """Makes fresh weights for the modules of one model, like those that they replace.

    Normal with variance 2 / fan_in (He et al., arXiv 1502.01852), which keeps the size of activations.
    """

    def __init__(self, model: nn.Module) -> None:
        self._generator = torch.Generator().manual_seed(SEED)
        self._channels_last = any(_is_channels_last(weight) for weight in model.parameters())

    def resize(self, convolution: nn.Conv2d, cin: int, cout: int) -> None:
        """Make a convolution one of `cin` -> `cout` channels and one group, in place.

        Its class, kernel, stride, padding, dilation, hooks and mode stay; its bias stays where the number
        of output channels does.
        """
        convolution.weight = self._parameter(convolution.weight, (cout, cin, *convolution.kernel_size))
        convolution.in_channels, convolution.groups = cin, 1
        if convolution.bias is not None and cout != convolution.out_channels:
            convolution.bias = nn.Parameter(
                convolution.bias.detach()[:cout].clone(), requires_grad=convolution.bias.requires_grad
            )
        convolution.out_channels = cout

    def _parameter(self, old: Tensor, shape: tuple[int, ...]) -> nn.Parameter:
        if old.is_meta:
            new = torch.empty(shape, dtype=old.dtype, device="meta")
        else:
            spread = math.sqrt(2.0 / math.prod(shape[1:]))
            new = (torch.randn(shape, generator=self._generator) * spread).to(old)
        layout = torch.channels_last if self._channels_last else torch.contiguous_format
        return nn.Parameter(new.contiguous(memory_format=layout), requires_grad=old.requires_grad)


class PartialConv2d(nn.Module):
    """A convolution on the first channels; the others pass through (arXiv 2303.03667, section 3.3).

    No bias, norm or activation. The form is split and concatenate: all channels are written anew.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.conv = convolution

    @classmethod
    def replacing(cls, depthwise: nn.Conv2d, divisor: int, weights: Weights) -> PartialConv2d:
        """A partial convolution with the kernel and padding of a depthwise one.

        Args:
            depthwise: as many channels out as in; it is left as it is.
            divisor: of the channels, the first one in `divisor` is convolved.
            weights: makes the new ones.
        """
        inner = copy.deepcopy(depthwise)
        inner.bias = None
        touched = depthwise.in_channels // divisor
        weights.resize(inner, touched, touched)
        made = cls(inner)
        made.training = depthwise.training
        return made

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        touched = self.conv.in_channels
        first, others = torch.split(x, [touched, x.shape[1] - touched], dim=1)
        return torch.cat((self.conv(first), others), 1)


def _is_channels_last(weight: Tensor) -> bool:
    """By strides: is_contiguous() takes a 1x1 or depthwise weight for both."""
    if weight.dim() != 4 or weight.shape[1:].numel() == 1:
        return False
    _, channels, height, width = weight.shape
    return weight.stride() == (channels * height * width, 1, width * channels, channels) != (
        channels * height * width, height * width, width, 1,
    )  # fmt: skip
