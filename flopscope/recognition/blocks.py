"""`Trace` -> Blocks: the PConv and SE blocks of a run, and the module call that each of them is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from flopscope.records import Block, Trace

from .flow import Flow
from .kinds import kinds as kinds_of
from .pconv import find_pconvs
from .se import find_ses
from .sighting import Sighting


def blocks(trace: Trace, *, kinds: Sequence[str] | None = None) -> tuple[Block, ...]:
    """Recognise PConv and SE blocks by data flow; one Block per execution, in order.

    Where a module call holds the block's ops and nothing else that computes, the block is that
    module (the smallest such). Where the enclosing call does more, the block is `inline`: it has
    the container's path, and its type is "(pconv)" or "(se)".

    Args:
        trace: what was run.
        kinds: `recognition.kinds(trace)`, where the caller already has it.
    """
    known = kinds_of(trace) if kinds is None else kinds
    flow = Flow(trace)
    taken: set[int] = set()
    found = []
    for sighting in (*find_pconvs(flow, known), *find_ses(flow, known)):
        if not taken.intersection(sighting.core):
            block = _placed(trace, sighting, known)
            taken.update(block.ops)
            found.append(block)
    return tuple(sorted(found, key=lambda block: block.ops[0]))


def _placed(trace: Trace, sighting: Sighting, kinds: Sequence[str]) -> Block:
    """Find the module call that a sighting is, or the container that it is written in."""
    call = _common_call(trace, sighting.core)
    home = trace.calls[call]
    optional = {index for index in sighting.around if home.first_op <= index < home.end_op}
    whole = range(home.first_op, home.end_op)
    if not _others_compute(trace, whole, sighting.core, kinds):
        return Block(sighting.kind, home.path, home.type, False, tuple(whole), sighting.formula_bytes)
    ops = tuple(sorted(optional | set(sighting.core)))
    return Block(sighting.kind, home.path, f"({sighting.kind})", True, ops, sighting.formula_bytes)


def _common_call(trace: Trace, ops: Collection[int]) -> int:
    """The innermost call that all of `ops` ran in: calls are numbered in order of entry."""
    calls = {trace.ops[index].call for index in ops}
    while len(calls) > 1:
        latest = max(calls)
        calls.remove(latest)
        calls.add(trace.calls[latest].parent or 0)
    return calls.pop()


def _others_compute(trace: Trace, indices: range, core: Collection[int], kinds: Sequence[str]) -> bool:
    """Tell whether a stretch of the run computes anything besides `core`."""
    return any(
        index not in core and not trace.ops[index].view and kinds[index] != "data_movement"
        for index in indices
    )
