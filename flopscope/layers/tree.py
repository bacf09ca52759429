"""`Trace` and costs -> the module tree: one inclusive row per module, root first."""

from __future__ import annotations

from collections.abc import Sequence

from flopscope.records import Layer, Module, OpCost, Parameter, Trace

from .geometry import describe
from .ownership import ancestors
from .partition import assignment, kind_of_layer
from .rows import first_shapes, row


def tree(
    trace: Trace, costs: Sequence[OpCost], *, kinds: Sequence[str], layers: Sequence[Layer]
) -> tuple[Layer, ...]:
    """Make one row for each module that ran or has parameters below it, in registration order.

    Rows are inclusive: an op counts for every module in its chain of calls, once even where a
    module runs inside itself. A module that only holds others (a ModuleList) and never runs has
    what those did. Parameters are the distinct ones below a module. A module's kind is its
    layer's; a container's is what all layers inside have in common, else "other".

    Args:
        trace: what was run.
        costs: one price per op.
        kinds: one kind per op.
        layers: the partition of the same run.
    """
    ops = _ops_below(trace)
    parameters = _parameters_below(trace)
    calls: dict[str, list[int]] = {}
    for index, call in enumerate(trace.calls):
        calls.setdefault(call.path, []).append(index)
    naming = _Naming(trace, costs, kinds, layers)
    rows = []
    for module in trace.modules:
        if module.path in ops or module.path in parameters:
            below = tuple(sorted(ops.get(module.path, ())))
            called = calls.get(module.path, [])
            kind, detail, formula_bytes = naming.of(module, below, ran=bool(called))
            rows.append(
                row(
                    (module.path, module.type),
                    trace,
                    costs,
                    kind=kind,
                    calls=len(called),
                    ops=below,
                    shapes=first_shapes(trace, called),
                    parameters=parameters.get(module.path, ()),
                    detail=detail,
                    formula_bytes=formula_bytes,
                )
            )
    return tuple(rows)


def labels_of(modules: Sequence[Module], called: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each called path, the rows that its calls count for: its own, and those of holders.

    A holder is a module above it, by the dots of its path, that never runs itself.
    """
    ran = set(called)
    holders = {module.path for module in modules} - ran
    return {path: (path, *(above for above in ancestors(path) if above in holders)) for path in ran}


def _ops_below(trace: Trace) -> dict[str, list[int]]:
    """The ops of every row, each once; rows of modules that ran without ops are empty."""
    labels = labels_of(trace.modules, [call.path for call in trace.calls])
    below: list[list[int]] = [[] for _ in trace.calls]
    for index, op in enumerate(trace.ops):
        below[op.call].append(index)
    for index in range(len(trace.calls) - 1, 0, -1):
        parent = trace.calls[index].parent
        if parent is not None:
            below[parent] += below[index]
    found: dict[str, list[int]] = {}
    for index, opened in _openings(trace, labels):
        for label in opened:
            found.setdefault(label, []).extend(below[index])
    return found


def _openings(trace: Trace, labels: dict[str, tuple[str, ...]]) -> list[tuple[int, list[str]]]:
    """For each call, the rows that are not open already in a call round it."""
    running: dict[str, int] = {}
    stack: list[int] = []
    openings = []
    for index, call in enumerate(trace.calls):
        while stack and stack[-1] != call.parent:
            for label in labels[trace.calls[stack.pop()].path]:
                running[label] -= 1
        own = labels[call.path]
        openings.append((index, [label for label in own if not running.get(label)]))
        for label in own:
            running[label] = running.get(label, 0) + 1
        stack.append(index)
    return openings


def _parameters_below(trace: Trace) -> dict[str, list[Parameter]]:
    found: dict[str, list[Parameter]] = {}
    for parameter in trace.parameters:
        for path in (parameter.owner, *ancestors(parameter.owner)):
            found.setdefault(path, []).append(parameter)
    return found


class _Naming:
    """Says of a module what kind of row it is, with its geometry and its published bytes."""

    def __init__(
        self, trace: Trace, costs: Sequence[OpCost], kinds: Sequence[str], layers: Sequence[Layer]
    ) -> None:
        self._ops, self._costs, self._kinds = trace.ops, costs, kinds
        self._layers = {(layer.path, layer.type): layer for layer in layers}
        self._kind_at = [layers[index].kind for index in assignment(layers, len(trace.ops))]
        self._parents = {trace.calls[call.parent].path for call in trace.calls if call.parent is not None}

    def of(self, module: Module, ops: Sequence[int], *, ran: bool) -> tuple[str, str, int | None]:
        """A layer's own; a leaf's inside a block by its ops; a container's if all inside agree."""
        layer = self._layers.get((module.path, module.type))
        if layer:
            return (layer.kind, layer.detail, layer.formula_bytes)
        if ran and module.path not in self._parents:
            shown = [at for at in ops if self._ops[at].phase != "backward"] or ops
            kinds, costs = [self._kinds[at] for at in shown], [self._costs[at] for at in shown]
            kind = kind_of_layer(kinds, costs)
            return (kind, describe(kind, [self._ops[at] for at in shown], kinds, costs), None)
        inside = {self._kind_at[at] for at in ops if not self._ops[at].outside}
        return (inside.pop() if len(inside) == 1 else "other", "", None)
