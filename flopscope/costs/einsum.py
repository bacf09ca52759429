"""An einsum equation and the shapes of its tensors -> multiply-adds, pair by pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from flopscope.costs.operands import product
from flopscope.costs.registry import Work
from flopscope.records import Shape


def work(equation: str, shapes: Sequence[Shape], path: Sequence[int] | None = None) -> Work:
    """Multiply-adds of an einsum, contracted two operands at a time.

    A pair costs the product of the sizes of all indices that either of them has; an index that
    one operand has alone and nobody else wants is summed away before. A pair that shares no
    summed index is only multiplied: FLOPs, no MACs. So torch runs it, and so its `bmm` and `mul`
    calls count where the equation is decomposed.

    Args:
        equation: "bij,bjk->bik"; with or without an output, with or without an ellipsis.
        shapes: the operands' shapes.
        path: torch's flat contraction order, two positions a step; from the left by default.
    """
    terms, output = _indices(equation, [len(shape) for shape in shapes])
    sizes = _sizes(terms, shapes)
    operands = [frozenset(term) for term in terms]
    macs = multiplies = 0
    steps = iter(path or ())
    while len(operands) > 1:
        first, second = sorted((next(steps, 0), next(steps, 1)))
        right, left = operands.pop(second), operands.pop(first)
        wanted = frozenset(output).union(*operands)
        points = product([sizes[index] for index in _met(left, right, wanted)])
        if (left & right) - wanted:
            macs += points
        else:
            multiplies += points
        operands.insert(len(operands) if path else 0, (left | right) & wanted)
    return Work(macs, multiplies)


def _met(left: frozenset[str], right: frozenset[str], wanted: frozenset[str]) -> frozenset[str]:
    """The indices that a pair's product runs over."""
    return (left & right) | ((left | right) & wanted)


def _indices(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """Each operand's index names and the output's; ellipsis dimensions get numbered names."""
    written, arrow, answer = equation.replace(" ", "").partition("->")
    parts = written.split(",")
    terms = [_spelled(part, rank) for part, rank in zip(parts, ranks, strict=True)]
    if arrow:
        return terms, _spelled(
            answer, max(_ellipsis_rank(p, r) for p, r in zip(parts, ranks, strict=True)), True
        )
    uses = Counter(index for term in terms for index in term)
    return terms, [index for index, count in uses.items() if count == 1 or index.startswith(".")]


def _ellipsis_rank(part: str, rank: int) -> int:
    return rank - len(part.replace("...", "")) if "..." in part else 0


def _spelled(part: str, rank: int, is_output: bool = False) -> list[str]:
    """The names in `part`; its ellipsis becomes ".2", ".1", ".0", aligned at the right."""
    before, dots, after = part.partition("...")
    if not dots:
        return list(part)
    hidden = rank if is_output else rank - len(before) - len(after)
    return [*before, *(f".{place}" for place in reversed(range(hidden))), *after]


def _sizes(terms: Sequence[Sequence[str]], shapes: Sequence[Shape]) -> Mapping[str, int]:
    """The size of each index; a size of 1 is stretched by the others."""
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for index, size in zip(term, shape, strict=True):
            sizes[index] = size if sizes.get(index, 1) == 1 else sizes[index]
    return sizes
