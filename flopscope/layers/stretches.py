"""A run's module calls -> which layer each stretch between two module boundaries belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from flopscope.records import Layer, OpCost, Trace

from .ownership import LOSS, OPS, OPTIMIZER, ancestors
from .partition import assignment

Share = tuple[int, float]
"""A layer, and its part of a stretch."""


def boundaries(trace: Trace) -> tuple[list[str], list[int]]:
    """The boundaries of the counted run, and how many ops had run at each."""
    names: list[str] = []
    positions: list[int] = []
    stack: list[int] = []

    def leave() -> None:
        call = trace.calls[stack.pop()]
        names.append(f"-{call.path}")
        positions.append(call.end_op)

    for index, call in enumerate(trace.calls):
        while stack and stack[-1] != call.parent:
            leave()
        stack.append(index)
        names.append(f"+{call.path}")
        positions.append(call.first_op)
    while stack:
        leave()
    return names, positions


def open_calls(trace: Trace) -> Iterator[int]:
    """For each stretch of the counted run, the innermost call that is open in it."""
    stack: list[int] = []
    for index, call in enumerate(trace.calls):
        while stack and stack[-1] != call.parent:
            stack.pop()
            if stack:
                yield stack[-1]
        stack.append(index)
        yield index
    while len(stack) > 1:
        stack.pop()
        yield stack[-1]


def shares_by_order(
    layers: Sequence[Layer], trace: Trace, costs: Sequence[OpCost], positions: Sequence[int]
) -> list[list[Share]]:
    """The layers of each stretch, by the ops that ran in it."""
    home = assignment(layers, len(trace.ops))
    owner = _owner_of_idle_time(layers)
    shares = []
    for stretch, call in enumerate(open_calls(trace)):
        ran = range(positions[stretch], positions[stretch + 1])
        found = {home[index] for index in ran}
        if len(found) > 1:
            shares.append(_by_bytes(ran, home, costs))
        elif found:
            shares.append([(found.pop(), 1.0)])
        else:
            shares.append([(_idle_owner(trace, call, owner, home, positions[stretch]), 1.0)])
    return shares


def _by_bytes(ran: Sequence[int], home: Sequence[int], costs: Sequence[OpCost]) -> list[Share]:
    """Split a stretch between its layers in proportion to the bytes that their ops move."""
    moved: dict[int, int] = {}
    for index in ran:
        cost = costs[index].cost
        moved[home[index]] = moved.get(home[index], 0) + cost.bytes_read + cost.bytes_written
    whole = sum(moved.values())
    return [(layer, amount / whole if whole else 1 / len(moved)) for layer, amount in moved.items()]


def _owner_of_idle_time(layers: Sequence[Layer]) -> Callable[[str], int | None]:
    """By path: a leaf's or block's own layer, else the container's "(ops)"."""
    whole = {layer.path: index for index, layer in enumerate(layers) if not layer.type.startswith("(")}
    own = {layer.path: index for index, layer in enumerate(layers) if layer.type == OPS}

    def find(path: str) -> int | None:
        return whole.get(path, own.get(path))

    return find


def _idle_owner(
    trace: Trace, call: int, owner: Callable[[str], int | None], home: Sequence[int], position: int
) -> int:
    """Whose a stretch without ops is: the open call's, one round it, the next op's, the last's."""
    above: int | None = call
    while above is not None:
        found = owner(trace.calls[above].path)
        if found is not None:
            return found
        above = trace.calls[above].parent
    return home[min(position, len(home) - 1)] if home else 0


def shares_of_the_rest(
    layers: Sequence[Layer], trace: Trace, costs: Sequence[OpCost], labels: Sequence[str]
) -> list[list[Share]]:
    """The layers of stretches after the forward's, each called by a path, the loss, or the optimizer.

    A path's stretches belong to the layers whose ops were run then on its account, by the bytes that
    these move; without such ops to the layer of the path, or to one round it.
    """
    home = assignment(layers, len(trace.ops))
    by_label: dict[str, list[int]] = {}
    for index, op in enumerate(trace.ops):
        if op.phase == "backward" and not op.outside:
            by_label.setdefault(trace.calls[op.call].path, []).append(index)
    owner = _owner_of_idle_time(layers)
    outside = {layer.type: index for index, layer in enumerate(layers) if layer.type in (LOSS, OPTIMIZER)}
    shares: dict[str, list[Share]] = {}
    for label in dict.fromkeys(labels):
        ran = by_label.get(label)
        if label in (LOSS, OPTIMIZER):
            shares[label] = [(outside.get(label, 0), 1.0)]
        elif ran:
            shares[label] = _by_bytes(ran, home, costs)
        else:
            found = (owner(path) for path in (label, *ancestors(label)))
            shares[label] = [(next((index for index in found if index is not None), 0), 1.0)]
    return [shares[label] for label in labels]


def shares_by_path(layers: Sequence[Layer], boundaries: Sequence[str]) -> list[list[Share]]:
    """The layer of each stretch by the innermost open path that has one."""
    owner = _owner_of_idle_time(layers)
    shares: list[list[Share]] = []
    for stack in _open_paths(boundaries):
        innermost = stack[-1] if stack else ""
        candidates = (owner(path) for path in (*reversed(stack), *ancestors(innermost)))
        shares.append([(next((found for found in candidates if found is not None), 0), 1.0)])
    return shares


def _open_paths(boundaries: Sequence[str]) -> Iterator[list[str]]:
    """For each stretch, the paths that are open in it, outermost first."""
    stack: list[str] = []
    for boundary in boundaries[:-1]:
        if boundary.startswith("+"):
            stack.append(boundary[1:])
        elif stack:
            stack.pop()
        yield stack
