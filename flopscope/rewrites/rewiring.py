"""A module and a graph -> the same module with that graph as its forward.

Only the forward is exchanged, by a class of its own below the module's: its other methods, attributes,
hooks and children stay, it passes for an instance of its old class, and it can be copied and pickled.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from torch import fx, nn


def rewire(module: nn.Module, graph: fx.Graph) -> None:
    """Give a module, in place, the forward that a graph of it describes."""
    graph.lint()
    if isinstance(module, fx.GraphModule):  # has a graph already, and copies itself by it
        module.graph = graph
        return
    code = graph.python_code("self")
    names = {
        name: _Imported(value.__name__) if isinstance(value, ModuleType) else value
        for name, value in code.globals.items()
    }
    kind = _base(type(module))
    module.__class__ = _rewired(kind, code.src, names)


class _Imported(str):
    """A Python module by its name, for modules cannot be pickled."""

    __slots__ = ()


def _base(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of a module before it was rewired, if it was."""
    before: type[nn.Module] = vars(kind).get("_rewired_from", kind)
    return before


def _rewired(kind: type[nn.Module], source: str, names: dict[str, Any]) -> type[nn.Module]:
    """The class `kind` with the function in `source`, which uses `names`, as its forward."""
    scope = {
        name: import_module(value) if isinstance(value, _Imported) else value for name, value in names.items()
    }
    exec(compile(source, f"<{kind.__name__}, rewired>", "exec"), scope)

    def reduced(self: nn.Module) -> tuple[Any, ...]:
        return _revived, (kind, source, names), self.__dict__

    body = {
        "forward": scope["forward"],
        "__reduce__": reduced,
        "__reduce_ex__": lambda self, _: reduced(self),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "_rewired_from": kind,
    }
    return type(kind.__name__, (kind,), body)


def _revived(kind: type[nn.Module], source: str, names: dict[str, Any]) -> nn.Module:
    """An empty instance of the class, for a copy or an unpickled module to be filled into."""
    rewired = _rewired(kind, source, names)
    return rewired.__new__(rewired)
