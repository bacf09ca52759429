"""A model -> what is registered in it: modules, parameters and buffers, each once, in one walk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from flopscope.records import Module


@dataclass(slots=True)
class Inventory:
    """What is registered in a model, in the order of `named_modules`; what is shared stands once.

    `places` gives the index of a module by its id.
    """

    modules: list[Module] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    parameters: dict[int, tuple[str, torch.Tensor]] = field(default_factory=dict)
    buffers: dict[int, tuple[str, torch.Tensor]] = field(default_factory=dict)

    def roles(self) -> dict[int, tuple[str, str]]:
        """By a tensor's id: "parameter" or "buffer", and its path."""
        found = {identity: ("buffer", path) for identity, (path, _) in self.buffers.items()}
        return found | {identity: ("parameter", path) for identity, (path, _) in self.parameters.items()}


def inventory(model: nn.Module) -> Inventory:
    """List what is registered in a model.

    `named_modules`, `named_parameters` and `named_buffers` give the same, in several walks.
    """
    found = Inventory()
    for path, module in model.named_modules():
        found.places[id(module)] = len(found.modules)
        found.modules.append(Module(path, type(module).__name__))
        prefix = f"{path}." if path else ""
        _list(module._parameters, prefix, found.parameters)
        _list(module._buffers, prefix, found.buffers)
    return found


def _list(held: Mapping[str, Any], prefix: str, found: dict[int, tuple[str, torch.Tensor]]) -> None:
    for name, tensor in held.items():
        if tensor is not None and id(tensor) not in found:
            found[id(tensor)] = (prefix + name, tensor)
