"""The name of an argument and the leading input -> what that argument may be."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

from flopscope.inputs.entries import Entry, entries
from flopscope.inputs.specs import Spec

_SQUARE_MASKS = ("attn_mask", "src_mask", "tgt_mask", "memory_mask", "causal_mask")
_STEPS = re.compile(r"^(t|ts|steps?|time|timesteps?|time_steps?|sigmas?|noise_levels?)$")
_CLASSES = re.compile(r"^(y|label|labels|class_labels?|classes)$")
_ROWS = re.compile(r"((^|_)(ids|tokens?|idx|indices|text|texts|captions?|words|sentences?))$")
_PICTURES = re.compile(r"^(image|img|picture|frame|rgb|pixel)")


def companion(
    name: str, lead: Spec, *, model: nn.Module, spec_of: Callable[[Entry, nn.Module], Spec]
) -> Spec:
    """Choose an argument by its name, to go with the leading one; else one like it.

    `spec_of` gives the input that a layer takes. Masks have the lead's batch and length, steps
    and class labels one number per item, `edge_index` its 2 x E pairs; an argument that is
    called like a layer gets what that layer takes.
    """
    batch, length = _batch_and_length(lead)
    own = own_layer(name, model)
    if "mask" in name:
        return _mask(name, lead)
    if name == "edge_index":
        return Spec((2, 4 * batch), "int64", high=max(batch, 1))
    if name in ("edge_weight", "edge_weights"):
        return Spec((4 * batch,))
    if name == "batch":
        return Spec((batch,), "int64", high=1)
    if _STEPS.match(name):
        return Spec((batch,), "int64")
    if re.search(r"(^|_)(lengths?|lens)$", name):
        return Spec((batch,), "int64", low=length, high=length + 1)
    if own is not None:
        return spec_of(own, model)
    has_tables = any(found.role == "indices" for found in entries(model))
    if _CLASSES.match(name) and has_tables:
        return Spec((batch,), "int64")
    if _ROWS.search(name) and has_tables and lead.dtype != "int64":
        return Spec((batch, 128), "int64")
    return lead


def own_layer(name: str, model: nn.Module) -> Entry | None:
    """The first layer whose path begins with an argument's name, if there are others besides.

    `image`, `img` and `pixel...` mean the first convolution over two dimensions.
    """
    known = list(entries(model))
    if _PICTURES.match(name):
        return next((found for found in known if found.role == "channels" and found.spatial == 2), None)
    stem = re.sub(r"(_ids?|_index|_?[0-9]+|s)$", "", name.lower())
    if len(stem) < 3 or stem in ("input", "inp", "data"):
        return None
    return next((found for found in known if _begins(found.path, stem)), None)


def _begins(path: str, stem: str) -> bool:
    return re.split(r"[._]", path.lower(), maxsplit=1)[0] == stem


def _mask(name: str, lead: Spec) -> Spec:
    if len(lead.shape) >= 4:  # an image: one flag per pixel
        return Spec((lead.shape[0], *lead.shape[2:]), "bool")
    batch, length = _batch_and_length(lead)
    if name in _SQUARE_MASKS:
        return Spec((length, length), "bool")
    return Spec((batch, length), "int64" if name.endswith("attention_mask") else "bool")


def _batch_and_length(lead: Spec) -> tuple[int, int]:
    """Read the first two axes; a batch of one behind a longer axis is torch's time-first order."""
    first, second = (*lead.shape, 1, 1)[:2]
    return (second, first) if len(lead.shape) == 3 and second == 1 < first else (first, second)
