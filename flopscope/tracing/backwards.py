"""A loss before its backward -> the nodes of its graph, whose each is, and a word as each begins.

For measuring a backward pass layer by layer: between the beginnings of two nodes the earlier one runs,
together with what the engine does to hand its gradients on. The order is the same from step to step.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from .steps import ACCUMULATES, next_number

__all__ = ["next_number", "nodes", "paths_of", "told"]


def nodes(loss: torch.Tensor) -> list[Any]:
    """All nodes of a graph, those that add to the gradients of parameters included.

    A checkpoint of the reentrant kind is one node: what it recomputes has a graph of its own later.
    """
    found: dict[Any, None] = {}
    pending = [loss.grad_fn]
    while pending:
        node = pending.pop()
        if node is not None and node not in found:
            found[node] = None
            pending.extend(following for following, _ in node.next_functions)
    return list(found)


def paths_of(
    found: Sequence[Any], turns: Sequence[tuple[int, str]], owners: Mapping[int, str], *, outside: str
) -> list[str]:
    """The module that each node belongs to.

    Args:
        found: the nodes.
        turns: at each boundary of the forward `next_number()`, and the path of the innermost module that
            is open from there on; in order, and with `outside` where the model was left.
        owners: id of every parameter -> the path of the module that its gradient is given to.
        outside: the answer for what belongs to no module, the loss.
    """
    answers = []
    for node in found:
        number = node._sequence_nr()
        if number == ACCUMULATES:
            answers.append(owners.get(id(node.variable), outside))
        else:
            at = bisect_right(turns, number, key=lambda turn: turn[0]) - 1
            answers.append(turns[at][1] if at >= 0 else outside)
    return answers


@contextmanager
def told(found: Sequence[Any], note: Callable[[int], object]) -> Iterator[None]:
    """Call `note` with a node's index as that node begins, while the context is open."""

    def telling(index: int) -> Callable[[Any], None]:
        def begins(_gradients: Any) -> None:
            note(index)

        return begins

    handles = [node.register_prehook(telling(index)) for index, node in enumerate(found)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
