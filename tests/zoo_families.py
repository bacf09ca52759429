"""What the tests of several families of the zoo share: counts, shapes, a training step, copied weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor, nn

import flopscope
from flopscope import zoo

# The totals of a network by hand: (params, macs), added up piece by piece.
Totals = tuple[int, int]


def on_meta(name: str, **options):
    """A network of the zoo that has shapes and no data."""
    with torch.device("meta"):
        return zoo.build(name, **options)


def count_of(name: str, size: int | None = None, **options):
    """The report of a network at its own resolution, or at another; every op has a price."""
    size = size or zoo.networks()[name].resolution
    report = flopscope.count(on_meta(name, **options), (1, 3, size, size))
    assert report.uncosted == {}
    assert report.route == "meta"
    return report


def totals(report) -> Totals:
    return report.total.params, report.total.macs


def kinds(report) -> Counter[str]:
    """How many rows there are of each kind."""
    return Counter(layer.kind for layer in report.layers)


@contextmanager
def unfilled():
    """Build networks without filling their weights, which takes most of the time that building takes."""
    fillers = ("trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "normal_", "uniform_")
    with ExitStack() as stack:
        for name in fillers:
            stack.enter_context(mock.patch.object(nn.init, name, lambda tensor, *_, **__: tensor))
        yield


@contextmanager
def one_thread():
    """Small networks are faster so, above all where other programs run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def shapes_of(model: nn.Module, size: int) -> dict[str, tuple[int, ...]]:
    """Output shape of each child, and of each child of `stages`, by name."""
    found: dict[str, tuple[int, ...]] = {}
    named = [
        *model.named_children(),
        *((f"stages.{name}", part) for name, part in model.stages.named_children()),
    ]
    hooks = [
        module.register_forward_hook(lambda _, __, y, name=name: found.__setitem__(name, tuple(y.shape)))
        for name, module in named
    ]
    model.eval()(torch.empty(1, 3, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    return found


@one_thread()
def assert_trains(model: nn.Module, size: int) -> None:
    """One step on two images: finite outputs, and a gradient that is not all zero for every parameter."""
    torch.manual_seed(0)
    output = model.train()(torch.randn(2, 3, size, size))
    assert torch.isfinite(output).all()
    (output * torch.randn_like(output)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def fill(model: nn.Module) -> None:
    """Random weights and batch statistics, of a size that keeps activations near 1."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim > 1:
            fan_in = tensor[0].numel()
            tensor.normal_(0, fan_in**-0.5, generator=generator)
        else:
            tensor.normal_(1.0 if name.endswith("weight") else 0.0, 0.2, generator=generator)


def copied(theirs: Mapping[str, Tensor], rename: Callable[[str], str]) -> dict[str, Tensor]:
    """Another library's weights under our names."""
    renamed = {rename(name): tensor for name, tensor in theirs.items()}
    assert len(renamed) == len(theirs)
    return renamed


@one_thread()
def assert_same_outputs(ours: nn.Module, theirs: nn.Module, size: int) -> None:
    """In double precision, to 1e-10 of the largest output."""
    x = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        y, z = ours.double().eval()(x), theirs.double().eval()(x)
    assert z.abs().max() > 1e-3
    assert (y - z).abs().max() <= 1e-10 * z.abs().max()
