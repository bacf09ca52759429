"""The module stacks written on a graph's nodes -> module calls, each with the ops that ran in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flopscope.records import Module, ModuleCall, Shape

Entry = tuple[str, str, str]
"""Key of one execution (`L__self___lin@1`: the second), path and class of the module."""

Shapes = tuple[tuple[Shape, ...], tuple[Shape, ...]]

MAX_DEPTH = 500


@dataclass(slots=True)
class Call:
    """One execution of a module, while the graph is read."""

    key: str
    path: str
    type: str
    parent: int | None
    first_op: int
    end_op: int = 0


@dataclass(slots=True)
class CallBook:
    """Follows the stacks node by node. `calls[0]` is the root's."""

    calls: list[Call] = field(default_factory=lambda: [Call("", "", "Module", None, 0)])
    _open: list[int] = field(default_factory=lambda: [0])

    def enter(self, text: str, op: int) -> int:
        """Close and open calls until the stack is the one given; return the innermost.

        Args:
            text: `key,path,class;...`, outermost first; "" leaves everything as it is.
            op: index of the op that comes next.
        """
        if not text:
            return self._open[-1]
        entries = list(_entries(text))
        if entries and not entries[0][1]:
            self.calls[0].type = class_name(entries.pop(0)[2])
        kept = 1
        for entry in entries:
            if kept < len(self._open) and self.calls[self._open[kept]].key == entry[0]:
                kept += 1
            else:
                break
        self._close(kept, op)
        for key, path, kind in entries[kept - 1 :][:MAX_DEPTH]:
            self.calls.append(Call(key, path, class_name(kind), self._open[-1], op))
            self._open.append(len(self.calls) - 1)
        return self._open[-1]

    def finish(self, ops: int) -> None:
        """Close every call."""
        self._close(0, ops)

    def _close(self, kept: int, op: int) -> None:
        for index in self._open[kept:]:
            self.calls[index].end_op = op
        del self._open[kept:]

    def modules(self, listed: Iterable[str]) -> tuple[Module, ...]:
        """Every module: those that the file lists, in its order, and those that ran besides."""
        kinds = {call.path: call.type for call in self.calls}
        paths = dict.fromkeys(["", *listed, *kinds])
        return tuple(Module(path, kinds.get(path, "Module")) for path in paths)

    def records(self, shapes: Iterable[Shapes]) -> tuple[ModuleCall, ...]:
        """The calls as records, with the shapes of what went into each and what came out."""
        return tuple(
            ModuleCall(call.path, call.type, call.parent, into, out, call.first_op, call.end_op)
            for call, (into, out) in zip(self.calls, shapes, strict=True)
        )


def class_name(dotted: str) -> str:
    """The class in a dotted path: "torch.nn.modules.linear.Linear" -> "Linear"."""
    return dotted.partition("[")[0].rpartition(".")[2] or "Module"


def stack_of(node: Mapping[str, Any]) -> str:
    """The module stack that is written on a node."""
    return str(node.get("metadata", {}).get("nn_module_stack", ""))


def _entries(text: str) -> Iterable[Entry]:
    for item in text.split(";"):
        key, _, rest = item.partition(",")
        path, _, kind = rest.partition(",")
        yield key, path, kind
