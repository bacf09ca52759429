"""A model -> what its layers take: channels, features or indices, told by their attributes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

_POSITIONS = ("pos", "wpe", "relative", "bias")
_TYPES = ("token_type", "segment", "type_emb")


@dataclass(frozen=True, slots=True)
class Entry:
    """What one layer takes.

    `role` is "channels" (`size` of them on axis 1, then `spatial` dimensions), "features" (the
    last axes are `tail`, their product is `size`) or "indices" (below `size`). `sequence` says
    where a layer over time has its batch: "batch_first", "time_first", or "" where it has no
    time axis. `grows` marks a transposed convolution, whose input is small.
    """

    path: str
    type: str
    role: str
    size: int
    spatial: int = 0
    tail: tuple[int, ...] = ()
    sequence: str = ""
    grows: bool = False
    width: int = 0


def entry(path: str, module: nn.Module) -> Entry | None:
    """What a layer takes, or None where its attributes do not tell.

    Goes by attributes rather than by class wherever a leaf has them, so that a user's own or a
    quantised layer is understood too.
    """
    kind = type(module).__name__
    if isinstance(module, nn.RNNBase):
        order = "batch_first" if module.batch_first else "time_first"
        return Entry(path, kind, "features", module.input_size, tail=(module.input_size,), sequence=order)
    if isinstance(module, nn.MultiheadAttention):
        order = "batch_first" if module.batch_first else "time_first"
        return Entry(path, kind, "features", module.embed_dim, tail=(module.embed_dim,), sequence=order)
    if {name for name, _ in module.named_children()} - {"parametrizations"}:
        return None
    if isinstance(module, _NormBase):
        digit = re.search(r"([123])d", " ".join(base.__name__ for base in type(module).__mro__))
        return Entry(path, kind, "channels", module.num_features, spatial=int(digit[1]) if digit else 2)
    return _by_attributes(path, kind, module)


def entries(model: nn.Module) -> Iterator[Entry]:
    """What each layer of a model takes, in order of registration."""
    for path, module in model.named_modules():
        found = entry(path, module)
        if found is not None:
            yield found


def first_entry(model: nn.Module) -> Entry | None:
    """What the first layer takes; tables of positions do not count, for they take no input."""
    positions = None
    for found in entries(model):
        if family(found.path) != "position" or found.role != "indices":
            return found
        positions = positions or found
    return positions


def family(path: str) -> str:
    """What a table of embeddings (or an argument) is about by its name: position, type or token."""
    name = path.lower()
    if any(word in name for word in _TYPES):
        return "type"
    return "position" if any(word in name for word in _POSITIONS) else "token"


def _by_attributes(path: str, kind: str, module: nn.Module) -> Entry | None:
    held = vars(module)  # a miss in getattr is dear on a module, and there are many
    channels, kernel = _whole(held, "in_channels"), held.get("kernel_size")
    if channels is not None and isinstance(kernel, (tuple, list)):
        grows = bool(held.get("transposed", False))
        return Entry(path, kind, "channels", channels, spatial=len(kernel), grows=grows)
    rows, width = _whole(held, "num_embeddings"), _whole(held, "embedding_dim")
    if rows is not None and width is not None:
        return Entry(path, kind, "indices", rows, width=width)
    channels = _whole(held, "num_channels")
    if channels is not None and _whole(held, "num_groups") is not None:
        return Entry(path, kind, "channels", channels, spatial=2)
    tail = held.get("normalized_shape")
    if isinstance(tail, (tuple, list)) and tail:
        return Entry(path, kind, "features", math.prod(tail), tail=tuple(tail), sequence="batch_first")
    features = _whole(held, "in_features") or _whole(held, "in1_features")
    if features is None and isinstance(module, nn.RNNCellBase):
        features = module.input_size
    return Entry(path, kind, "features", features, tail=(features,)) if features else None


def _whole(held: dict[str, Any], name: str) -> int | None:
    value = held.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
