"""A name -> a reference network with its published figures.

The networks are written from their papers, on torch alone, so that what papers claim can be
examined on any machine. `networks()` lists them, `build("repvgg_a0", deploy=True)` makes one.
`operator_kinds()` lists the operators that papers time alone, `operator("pconv", channels=96)` stacks one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from flopscope.zoo.registry import Network, Published, build_network, find, network, registered

__all__ = ["Network", "Published", "build", "find", "network", "networks", "operator", "operator_kinds"]

# One module per family. Importing it registers its networks.
FAMILIES = (
    "efficientnet",
    "efficientnetv2",
    "mobilenetv2",
    "mobilenetv3",
    "fasternet",
    "repvgg",
    "vgg",
    "resnet",
    "shufflenetv2",
    "mobilevit",
    "swin",
    "convnext",
)


def networks() -> Mapping[str, Network]:
    """All entries of the zoo by name, family by family, whichever was imported first."""
    homes = [import_module(f"flopscope.zoo.{family}").__name__ for family in FAMILIES]
    entries = registered().items()
    ordered = sorted(entries, key=lambda item: homes.index(item[1].build.__module__))
    return MappingProxyType(dict(ordered))


def build(name: str, **options: Any) -> Any:
    """Construct the network called `name`, untrained.

    Args:
        name: one of `networks()`.
        options: keywords of its constructor, such as `num_classes` or `deploy`.

    Raises:
        ModelLoadError: there is no such network; the hint names close matches.
        InputError: it has no such option.
    """
    networks()
    return build_network(find(name), **options)


def operator(
    kind: str, /, *, channels: int = 64, size: int = 56, layers: int = 10, batch: int = 1, **options: Any
) -> Any:
    """Stack `layers` operators of one kind on maps of (batch, channels, size, size), untrained.

    Args:
        kind: one of `operator_kinds()`, such as "pconv".
        channels: channels of the map.
        size: its height and width.
        layers: how many, one behind the other.
        batch: maps in the input that is inferred for it.
        options: those of the kind, such as `kernel` or `groups`.

    Returns:
        A `flopscope.zoo.operators.OperatorStack`.

    Raises:
        ModelLoadError: there is no such kind; the hint names close matches, and all.
        InputError: the kind has no such option, or a value does not fit it.
    """
    stacks = import_module("flopscope.zoo.operators")
    return stacks.operator(kind, channels=channels, size=size, layers=layers, batch=batch, **options)


def operator_kinds() -> Mapping[str, Any]:
    """All operators by name, each with its one-line `description`, its `options` and its `source`."""
    kinds: Mapping[str, Any] = import_module("flopscope.zoo.operators").operators()
    return kinds
