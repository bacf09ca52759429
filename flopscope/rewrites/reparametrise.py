"""A model with parallel convolution branches -> a copy with one convolution in place of each bundle.

Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", arXiv 2101.03697, section 3.3: batch norm
in eval mode is affine, so convolution + norm is a convolution with a bias; a small kernel is a large
one with zeros around it; the identity is a kernel too; and parallel convolutions add up.

The functions on tensors compute in float64 whatever they are given, for the sums of a fold lose
digits; `reparametrise` rounds once, to the dtype of the block's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from flopscope.errors import InputError
from flopscope.rewrites.surgery import in_training, private

PURPOSE = "it is re-parameterised"


class Kernel(NamedTuple):
    """A convolution's numbers: `weight` (cout, cin / groups, kh, kw) and `bias` (cout)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Branch:
    """One of the parallel ways through a block: a convolution, a norm, both, or (None, None) the input."""

    convolution: nn.Conv2d | None
    norm: nn.BatchNorm2d | None = None


@runtime_checkable
class Reparametrisable(Protocol):
    """A block that adds up branches, and knows itself with one convolution in their place."""

    def branches(self) -> Sequence[Branch]:
        """The branches whose sum the block computes first; the one with the largest kernel leads."""
        ...

    def deployed(self, convolution: nn.Conv2d) -> nn.Module:
        """The block with `convolution` in place of its branches, and all else (SE, activation) kept."""
        ...


def reparametrise(model: nn.Module) -> nn.Module:
    """Copy a model, each `Reparametrisable` block of it with one convolution in place of its branches.

    Args:
        model: in eval mode; it is left as it is. Hooks on the replaced blocks are not carried over.

    Returns:
        The copy. A block that stands in two places is replaced by one block in both.

    Raises:
        InputError: the model has no such block, is in training mode (batch norm is then no affine
            map), or has branches that cannot be added up.
    """
    copied = private(model, PURPOSE)
    if not blocks(copied):
        raise InputError(
            f"{type(model).__name__} has no block to re-parameterise",
            hint="a block takes part by the methods branches() and deployed(convolution); "
            "a model already in its deploy form has none left",
        )
    return deploy(copied)


def blocks(model: nn.Module) -> tuple[str, ...]:
    """The paths of the blocks of a model that tell their branches, each block once."""
    found = []
    for path, module in model.named_modules():
        if isinstance(module, Reparametrisable) and module.branches():
            found.append(path)
    return tuple(found)


def deploy(model: nn.Module) -> nn.Module:
    """Replace the `Reparametrisable` blocks of a model in place; the model may be one itself.

    Raises:
        InputError: a block is in training mode, or its branches cannot be added up.
    """
    return _rewritten(model, "", {})


def merge(branches: Sequence[Branch]) -> nn.Conv2d:
    """The one convolution, with a bias, that computes the sum of `branches`.

    It has the leading (largest) kernel's size, stride and padding, and is in eval mode.

    Raises:
        InputError: the branches do not agree in widths, stride or groups, a kernel does not fit
            into the leading one, or a norm has no statistics of its own.
    """
    lead = _lead(branches)
    kernels = [_kernel(branch, lead) for branch in branches]
    weight = torch.stack([kernel.weight for kernel in kernels]).sum(0).to(lead.weight)
    bias = torch.stack([kernel.bias for kernel in kernels]).sum(0).to(lead.weight)
    # Made on the meta device: its own initial values would draw from the global random numbers.
    merged = nn.Conv2d(
        lead.in_channels,
        lead.out_channels,
        _pair(lead.kernel_size),
        stride=_pair(lead.stride),
        padding=_padding(lead),
        dilation=_pair(lead.dilation),
        groups=lead.groups,
        padding_mode=lead.padding_mode,
        device="meta",
    )
    trainable = lead.weight.requires_grad
    merged.weight = nn.Parameter(weight, requires_grad=trainable)
    merged.bias = nn.Parameter(bias, requires_grad=trainable)
    return merged.eval()


def fold_norm(weight: Tensor, norm: _BatchNorm, *, bias: Tensor | None = None) -> Kernel:
    """Draw a batch norm into the convolution or linear layer before it.

    W' = W γ / √(σ² + ε) and b' = β + (b − μ) γ / √(σ² + ε), per output channel (arXiv 2101.03697,
    eq. 2 and 3, with the ε that the printed ones leave out).

    Args:
        weight: (cout, ...): (cout, cin / groups, kh, kw) of a convolution over images.
        norm: over cout channels, with running statistics μ and σ²; γ and β are 1 and 0 if it has none.
        bias: b, (cout); None for zero.

    Raises:
        InputError: the norm keeps no running statistics.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise InputError(
            "a batch norm without running statistics cannot be folded: it is no fixed affine map",
            hint="build it with track_running_stats=True",
        )
    mean, variance = _precise(norm.running_mean), _precise(norm.running_var)
    scale = torch.rsqrt(variance + norm.eps)
    if norm.affine:
        scale = scale * _precise(norm.weight)
    shift = -mean if bias is None else _precise(bias) - mean
    folded = shift * scale
    if norm.affine:
        folded = folded + _precise(norm.bias)
    return Kernel(_precise(weight) * scale.reshape(-1, *[1] * (weight.dim() - 1)), folded)


def pad_kernel(weight: Tensor, size: tuple[int, int], *, at: tuple[int, int]) -> Tensor:
    """Lay a kernel into one of zeros: (cout, cin / groups, kh, kw) -> (cout, cin / groups, *size).

    Args:
        weight: the small kernel.
        size: height and width of the large one.
        at: row and column at which the small one begins. A kernel of padding p computes the same
            inside one of padding P if it begins at P − p: a 1x1 without padding at the centre of
            a 3x3 with padding 1. What is around it is zero, not one.

    Raises:
        InputError: it does not fit.
    """
    below, right = size[0] - at[0] - weight.shape[2], size[1] - at[1] - weight.shape[3]
    if min(*at, below, right) < 0:
        raise InputError(
            f"a kernel of {weight.shape[2]}x{weight.shape[3]} at {at} does not fit into {size[0]}x{size[1]}",
            hint="a branch may look at no pixel that the leading kernel does not see",
        )
    return nn.functional.pad(_precise(weight), (at[1], right, at[0], below))


def identity_kernel(channels: int, *, groups: int = 1, device: torch.device | str | None = None) -> Tensor:
    """The 1x1 kernel that hands every channel through: (channels, channels / groups, 1, 1), float64.

    Output i reads input i, which is the (i mod channels / groups)-th of its group.
    """
    each = torch.eye(channels // groups, dtype=torch.float64, device=device)
    return each.repeat(groups, 1)[:, :, None, None]


def _rewritten(module: nn.Module, path: str, done: dict[nn.Module, nn.Module]) -> nn.Module:
    """Replace the blocks of `module` in place, or give the replacement of `module` itself."""
    if module in done:
        return done[module]
    if isinstance(module, Reparametrisable) and (branches := module.branches()):
        if module.training or any(branch.norm is not None and branch.norm.training for branch in branches):
            raise in_training(f"the block {path!r}", PURPOSE)
        done[module] = module.deployed(merge(branches)).eval()
        return done[module]
    for name, child in list(module._modules.items()):  # named_children() leaves repeated ones out
        if child is not None:
            module.add_module(name, _rewritten(child, f"{path}.{name}".lstrip("."), done))
    return module


def _lead(branches: Sequence[Branch]) -> nn.Conv2d:
    """The convolution with the largest kernel."""
    convolutions = [branch.convolution for branch in branches if branch.convolution is not None]
    if not convolutions:
        raise InputError(
            "none of the branches has a convolution", hint="one at least must have one, to be merged into"
        )
    return max(convolutions, key=lambda convolution: convolution.kernel_size)


def _kernel(branch: Branch, lead: nn.Conv2d) -> Kernel:
    """The kernel that computes `branch` in the place of the leading convolution."""
    convolution = branch.convolution
    if convolution is None:
        _check_identity(lead)
        weight = identity_kernel(lead.in_channels, groups=lead.groups, device=_device(lead.weight))
        own, padding = None, (0, 0)
    else:
        _check_agreement(convolution, lead)
        weight, own, padding = convolution.weight, convolution.bias, _padding(convolution)
    if branch.norm is not None and not isinstance(branch.norm, nn.Identity):
        weight, bias = fold_norm(weight, branch.norm, bias=own)
    else:  # none, or folded already: an identity is left in its place
        bias = _precise(lead.weight.new_zeros(lead.out_channels) if own is None else own)
    at = _place(padding, lead)
    padded = pad_kernel(weight, _pair(lead.kernel_size), at=at)
    _check_size(weight, lead, at=at)
    return Kernel(padded, bias)


def _place(padding: tuple[int, int], lead: nn.Conv2d) -> tuple[int, int]:
    """Row and column of the leading kernel at which a kernel with `padding` begins."""
    places = [
        divmod(own - other, step)
        for own, other, step in zip(_padding(lead), padding, _pair(lead.dilation), strict=True)
    ]
    if any(rest for _, rest in places):
        raise InputError(
            f"padding {padding} does not fall on a point of a kernel dilated by {lead.dilation}",
            hint="the branches of a block have to look at the same pixels",
        )
    return places[0][0], places[1][0]


def _check_size(weight: Tensor, lead: nn.Conv2d, *, at: tuple[int, int]) -> None:
    """Refuse a kernel off the leading one's centre: its output is larger or smaller, the sum a broadcast."""
    if any(
        large - small != 2 * edge
        for large, small, edge in zip(lead.kernel_size, weight.shape[2:], at, strict=True)
    ):
        raise InputError(
            f"a kernel of {weight.shape[2]}x{weight.shape[3]} at {at} is not at the centre of one of "
            f"{lead.kernel_size[0]}x{lead.kernel_size[1]}",
            hint="the branches of a block have to put out the same height and width",
        )


def _check_identity(lead: nn.Conv2d) -> None:
    if any(step != 1 for step in lead.stride) or lead.in_channels != lead.out_channels:
        raise InputError(
            f"an identity branch beside a convolution {lead.in_channels} -> {lead.out_channels} "
            f"of stride {lead.stride[0]}",
            hint="an identity can be added only where the stride is 1 and the widths are equal",
        )


def _check_agreement(convolution: nn.Conv2d, lead: nn.Conv2d) -> None:
    """Refuse a convolution that no kernel in the leading one's place can compute."""
    padded = any(_padding(convolution))
    for name in ("in_channels", "out_channels", "stride", "groups", *(("padding_mode",) if padded else ())):
        given, expected = getattr(convolution, name), getattr(lead, name)
        if given != expected:
            raise InputError(
                f"branches of {name} {given} and {expected} cannot be added into one convolution",
                hint="parallel convolutions have to agree in widths, stride, groups and padding mode",
            )
    if convolution.dilation != lead.dilation and convolution.kernel_size != (1, 1):
        raise InputError(
            f"branches of dilation {convolution.dilation} and {lead.dilation} cannot be added",
            hint="only a 1x1 kernel may stand beside one of another dilation",
        )


def _padding(convolution: nn.Conv2d) -> tuple[int, int]:
    if isinstance(convolution.padding, str):
        raise InputError(
            f"a branch with padding={convolution.padding!r}", hint="give the padding in pixels, as numbers"
        )
    return _pair(convolution.padding)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    height, width = values
    return height, width


def _precise(tensor: Tensor) -> Tensor:
    return tensor.detach().to(device=_device(tensor), dtype=torch.float64)


def _device(tensor: Tensor) -> torch.device:
    """Where to compute with `tensor` in float64: where it is, but for Apple's GPU, which has none."""
    return torch.device("cpu") if tensor.device.type == "mps" else tensor.device
