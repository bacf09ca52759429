"""`Trace` -> `MemoryPeak`: when the most activation memory is alive, and what it is.

A storage is alive from the op that makes it until the first op that runs after it was freed, as
eager execution holds it: while an op runs, its inputs and its outputs are both there. The model's
inputs are there from the start. Parameters and buffers are not activations and do not count.
"""

from __future__ import annotations

from itertools import accumulate

from flopscope.records import MemoryPeak, Shape, Storage, Trace

_STATE = ("parameter", "buffer")


def peak(trace: Trace) -> MemoryPeak:
    """Find the first op at which the most activation bytes are alive, and the tensors held then."""
    alive = timeline(trace)
    if not alive:
        held = [index for index, storage in enumerate(trace.storages) if storage.role not in _STATE]
        return MemoryPeak(sum(trace.storages[index].nbytes for index in held), None, "", _listed(trace, held))
    op = alive.index(max(alive))
    held = [index for index, storage in enumerate(trace.storages) if _is_alive(storage, op)]
    return MemoryPeak(alive[op], op, trace.calls[trace.ops[op].call].path, _listed(trace, held))


def timeline(trace: Trace) -> tuple[int, ...]:
    """The bytes of activations alive while each op runs, in the order of `trace.ops`."""
    count = len(trace.ops)
    change = [0] * (count + 1)
    for storage in trace.storages:
        born = max(storage.born, 0)
        died = count if storage.died is None else storage.died
        if storage.role not in _STATE and born < min(died, count):
            change[born] += storage.nbytes
            change[min(died, count)] -= storage.nbytes
    return tuple(accumulate(change[:count]))


def _is_alive(storage: Storage, op: int) -> bool:
    ended = storage.died is not None and storage.died <= op
    return storage.role not in _STATE and storage.born <= op and not ended


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
