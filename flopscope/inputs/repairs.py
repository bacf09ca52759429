"""A call that a model rejected -> the calls nearest to it that the model may take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from flopscope.inputs.entries import Entry, first_entry
from flopscope.inputs.specs import FLOATS, INTEGERS, Inputs, Spec, is_leaf, leaf_dtype, leaves, rebuilt


def lead(call: Inputs) -> Any | None:
    """The first tensor or spec of a call."""
    return next(leaves(call), None)


def source(call: Inputs, got: Tensor) -> Any | None:
    """The argument that a tensor in the model may have come from: the first one of its shape."""
    same = [leaf for leaf in leaves(call) if tuple(leaf.shape) == tuple(got.shape)]
    if got.dtype.is_floating_point:
        same = [leaf for leaf in same if leaf_dtype(leaf) not in INTEGERS] or same
    return same[0] if same else None


def replaced(call: Inputs, old: Any, new: Spec, *, alike: bool = False) -> Inputs:
    """The call with one argument changed, wherever it stands; and with `alike`, all of its shape."""

    def change(leaf: Any) -> Any:
        same = alike and is_leaf(leaf) and tuple(leaf.shape) == tuple(old.shape)
        return new if leaf is old or same else leaf

    return Inputs(*rebuilt(call.args, change), **rebuilt(dict(call.kwargs), change))


def batched(call: Inputs, model: nn.Module) -> Inputs | None:
    """The call with a batch of one, where its first tensor lacks just that axis."""
    leading, first = lead(call), first_entry(model)
    if leading is None or first is None or first.role != "channels":
        return None
    shape = tuple(leading.shape)
    if len(shape) != first.spatial + 1 or (first.size and shape[0] != first.size):
        return None
    return replaced(call, leading, Spec((1, *shape), kept_dtype(leading)))


def corrected(takes: Entry, leading: Any) -> Iterator[Spec]:
    """Shapes like the given one that a layer takes: the channels moved, or their number changed."""
    shape, dtype = tuple(leading.shape), kept_dtype(leading)
    if takes.role == "features":
        kept = shape[: max(len(shape) - len(takes.tail), 1)]
        yield Spec((*kept, *takes.tail), dtype)
        return
    if "Norm" in takes.type and len(shape) >= 2:
        yield Spec((shape[0], takes.size, *shape[2:]), dtype)
    elif len(shape) == takes.spatial + 2:
        if shape[-1] == takes.size:  # channels last, as in images of numpy or TensorFlow
            yield Spec((shape[0], shape[-1], *shape[1:-1]), dtype)
        yield Spec((shape[0], takes.size, *shape[2:]), dtype)
    elif len(shape) == takes.spatial + 1:
        spatial = shape[:-1] if shape[-1] == takes.size else shape[1:]
        yield Spec((1, takes.size, *spatial), dtype)
    elif len(shape) == takes.spatial:
        yield Spec((1, takes.size, *shape), dtype)


def kept_dtype(leading: Any) -> str | None:
    """The dtype to repeat in a hint: what the user wrote, not what a tensor happens to have."""
    dtype = leaf_dtype(leading)
    return dtype if isinstance(leading, Spec) or dtype not in FLOATS else None
