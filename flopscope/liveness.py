"""`Trace` -> `MemoryPeak`: when the most activation memory is alive, and what it is.

A storage is alive from the op that makes it until the first op that runs after it was freed, as
eager execution holds it: while an op runs, its inputs and its outputs are both there. The model's
inputs are there from the start. Parameters, buffers, gradients of parameters and an optimizer's state are
not activations; they count only where that is asked for.
"""

from __future__ import annotations

from itertools import accumulate

from flopscope.records import MemoryPeak, Shape, Storage, Trace

_STATE = ("parameter", "buffer", "gradient", "optimizer")


def peak(trace: Trace, *, state: bool = False) -> MemoryPeak:
    """Find the first op at which the most activation bytes are alive, and the tensors held then.

    With `state` everything counts that the run holds: parameters, buffers, gradients, optimizer state.
    """
    alive = timeline(trace, state=state)
    left_out = () if state else _STATE
    if not alive:
        held = [index for index, storage in enumerate(trace.storages) if storage.role not in left_out]
        return MemoryPeak(sum(trace.storages[index].nbytes for index in held), None, "", _listed(trace, held))
    op = alive.index(max(alive))
    held = [
        index
        for index, storage in enumerate(trace.storages)
        if storage.role not in left_out and _is_alive(storage, op)
    ]
    return MemoryPeak(alive[op], op, trace.calls[trace.ops[op].call].path, _listed(trace, held), alive)


def saved(trace: Trace) -> int:
    """The bytes of activations that autograd keeps from the forward for the backward of a training step.

    Storages are counted once and whole, the model's input included; parameters and buffers are not.
    What was dropped before the backward, or recomputed in it, is not kept.
    """
    start = next((index for index, op in enumerate(trace.ops) if op.phase == "backward"), len(trace.ops))
    return sum(
        storage.nbytes
        for storage in trace.storages
        if storage.saved
        and storage.role not in _STATE
        and storage.born < start
        and (storage.died is None or storage.died >= start)
    )


def held(trace: Trace) -> dict[str, int]:
    """The bytes that a training step leaves behind, by role: parameters, buffers, gradients, optimizer."""
    of_roles = dict.fromkeys(_STATE, 0)
    for storage in trace.storages:
        if storage.role in ("gradient", "optimizer") and storage.died is None:
            of_roles[storage.role] += storage.nbytes
    of_roles["parameter"] = sum(parameter.nbytes for parameter in trace.parameters)
    of_roles["buffer"] = sum(buffer.nbytes for buffer in trace.buffers)
    return of_roles


def timeline(trace: Trace, *, state: bool = False) -> tuple[int, ...]:
    """The bytes of activations alive while each op runs, in the order of `trace.ops`.

    With `state` those of everything else are added; parameters that no op looked at are there too.
    """
    count = len(trace.ops)
    change = [0] * (count + 1)
    for storage in trace.storages:
        born = max(storage.born, 0)
        died = count if storage.died is None else storage.died
        counts = storage.role not in (("parameter", "buffer") if state else _STATE)
        if counts and born < min(died, count):
            change[born] += storage.nbytes
            change[min(died, count)] -= storage.nbytes
    resting = sum(item.nbytes for item in (*trace.parameters, *trace.buffers)) if state else 0
    return tuple(resting + alive for alive in accumulate(change[:count]))


def _is_alive(storage: Storage, op: int) -> bool:
    ended = storage.died is not None and storage.died <= op
    return storage.born <= op and not ended


def _listed(trace: Trace, held: list[int]) -> tuple[tuple[str, int], ...]:
    """Name the storages, largest first: by the module and op that made each, and its shape."""
    shapes = _shapes(trace, set(held))
    named = [(_name(trace, index, shapes.get(index)), trace.storages[index].nbytes) for index in held]
    return tuple(sorted(named, key=lambda item: -item[1]))


def _name(trace: Trace, index: int, shape: Shape | None) -> str:
    storage = trace.storages[index]
    size = "" if shape is None else " " + ("x".join(str(length) for length in shape) or "scalar")
    if storage.born < 0:
        return f"{storage.role} {storage.name}{size}" if storage.name else f"{storage.role}{size}"
    op = trace.ops[storage.born]
    return f"{trace.calls[op.call].path} {op.op}{size}".lstrip()


def _shapes(trace: Trace, wanted: set[int]) -> dict[int, Shape]:
    """The shape of the first tensor seen on each storage."""
    found: dict[int, Shape] = {}
    for op in trace.ops:
        for spec in (*op.inputs, *op.outputs):
            if spec.storage in wanted:
                found.setdefault(spec.storage, spec.shape)
        if len(found) == len(wanted):
            break
    return found
