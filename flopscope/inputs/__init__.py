"""A user's description of inputs -> the arguments of one call, guessed or explained where need be.

The rooms of this package that touch torch are opened on first use, so that the command line can
parse its `-i` options without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flopscope.inputs.parsing import parse, parse_all
from flopscope.inputs.specs import (
    Inputs,
    Made,
    Spec,
    command_line,
    describe,
    is_leaf,
    leaves,
    rebuilt,
    text,
)

if TYPE_CHECKING:
    from flopscope.inputs.explaining import explain
    from flopscope.inputs.faults import needs_values
    from flopscope.inputs.inferring import infer
    from flopscope.inputs.making import make

__all__ = [
    "Inputs",
    "Made",
    "Spec",
    "command_line",
    "describe",
    "explain",
    "infer",
    "is_leaf",
    "leaves",
    "make",
    "needs_values",
    "parse",
    "parse_all",
    "rebuilt",
    "text",
]

_WET = {
    "explain": "flopscope.inputs.explaining",
    "infer": "flopscope.inputs.inferring",
    "make": "flopscope.inputs.making",
    "needs_values": "flopscope.inputs.faults",
}


def __getattr__(name: str) -> Any:
    if name not in _WET:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WET[name]), name)
