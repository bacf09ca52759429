"""A name -> a reference network with its published figures.

The networks are written from their papers, on torch alone, so that what papers claim can be
examined on any machine. `networks()` lists them, `build("repvgg_a0", deploy=True)` makes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from flopscope.zoo.registry import Network, Published, build_network, find, network, registered

__all__ = ["Network", "Published", "build", "find", "network", "networks"]

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
