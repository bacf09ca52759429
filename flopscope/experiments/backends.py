"""A convolution -> the name of the backend that torch selects for it. The place for that private name."""

from __future__ import annotations

from typing import Any

import torch

from flopscope.convolutions import spread
from flopscope.records import OpCall

from .entries import REFUSALS
from .rebuilding import UnbuildableError, arguments_of, untouched

_SELECTED = frozenset({"aten::convolution", "aten::_convolution", "aten::convolution_backward"})


def backend_of(op: OpCall) -> str | None:
    """The backend by torch's name ("Mkldnn", "Slow2d"); None for other operators, or where torch hides it.

    The choice depends on the number of threads at the time of asking.
    """
    choose: Any = getattr(torch._C, "_select_conv_backend", None)
    if choose is None or op.op not in _SELECTED:
        return None
    try:
        given = arguments_of(op, untouched(op))
        weight = given["weight"]
        rank = weight.dim() - 2
        source = given["input"] if given["input"].dim() == rank + 2 else given["input"][None]
        settings = [list(spread(given.get(name), rank, by)) for name, by in _SETTINGS]
        beyond = list(spread(given.get("output_padding"), rank, 0))
        transposed, groups = bool(given.get("transposed")), int(given.get("groups", 1))
        chosen = choose(source, weight, given.get("bias"), *settings, transposed, beyond, groups)
    except (*REFUSALS, UnbuildableError):
        return None
    return str(chosen.name)


_SETTINGS = (("stride", 1), ("padding", 0), ("dilation", 1))
