"""OpCall -> OpCost: by the op's formula, else by torch's tags, else by its bytes alone."""

from __future__ import annotations

from collections.abc import Sequence

from flopscope.costs.operands import MissingOperandError, result, works_on_complex, works_on_floats
from flopscope.costs.registry import NOTHING, Formula, Work, formula_of
from flopscope.costs.traffic import bytes_read, bytes_written
from flopscope.errors import FlopscopeError
from flopscope.records import Cost, OpCall, OpCost

_ZERO = OpCost(Cost(), "zero")

# What a built-in formula runs into where a call lacks an operand, or has one of another rank than
# its schema promises (nested and packed tensors). Such a call is listed, and stops nothing.
_UNREADABLE = (MissingOperandError, IndexError, ValueError, ZeroDivisionError)


def price_all(ops: Sequence[OpCall]) -> tuple[OpCost, ...]:
    """The price of every op, in order; ops of equal signature share one `OpCost`."""
    priced: dict[int, OpCost] = {}
    for op in ops:
        if op.signature not in priced:
            priced[op.signature] = price(op)
    return tuple(priced[op.signature] for op in ops)


def price(op: OpCall) -> OpCost:
    """What one op costs, and where the price came from.

    Raises:
        FlopscopeError: the op's formula returned something that is no price.
    """
    if op.view or _only_aliases(op):
        return _ZERO
    function = formula_of(op.op)
    if function is not None:
        return _by_formula(op, function)
    if "pointwise" in op.tags:
        return _by_rule(op, result(op).numel if op.outputs or op.written else 0)
    if "reduction" in op.tags:
        return _by_rule(op, op.inputs[0].numel if op.inputs else 0)
    return _by_bytes_alone(op)


def _only_aliases(op: OpCall) -> bool:
    return bool(op.outputs) and not op.written and not op.fresh_outputs


def _by_formula(op: OpCall, function: Formula) -> OpCost:
    try:
        answer = function(op)
    except _UNREADABLE:
        if not function.__module__.startswith(__package__):
            raise
        answer = None
    if answer is None:
        return _by_bytes_alone(op)
    if answer is NOTHING:
        return _ZERO
    if isinstance(answer, Cost):
        return OpCost(answer, "formula", answer.macs)
    if isinstance(answer, int) and not isinstance(answer, bool):
        answer = Work(macs=answer)
    if not isinstance(answer, Work):
        raise FlopscopeError(
            f"the formula of {op.op} returned {answer!r}, neither a Cost, a Work, an int nor None",
            hint="Return the MACs as an int, or a Cost(macs, flops, bytes_read, bytes_written).",
        )
    return _completed(op, answer)


def _completed(op: OpCall, work: Work) -> OpCost:
    """Fill in by default what the formula left open."""
    cost = Cost(
        macs=work.macs,
        flops=2 * work.macs + work.other_flops,
        bytes_read=bytes_read(op) if work.bytes_read is None else work.bytes_read,
        bytes_written=bytes_written(op) if work.bytes_written is None else work.bytes_written,
    )
    return OpCost(cost, "formula", work.macs if work.fvcore_flops is None else work.fvcore_flops)


def _by_rule(op: OpCall, elements: int) -> OpCost:
    """One FLOP per element, two where it is complex, none where nothing is floating point."""
    per_element = (2 if works_on_complex(op) else 1) if works_on_floats(op) else 0
    cost = Cost(0, per_element * elements, bytes_read(op), bytes_written(op))
    return OpCost(cost, "rule")


def _by_bytes_alone(op: OpCall) -> OpCost:
    return OpCost(Cost(0, 0, bytes_read(op), bytes_written(op)), "uncosted")
