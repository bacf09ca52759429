"""OpCall and Machine -> what one call of it takes at least, and what it takes for being a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flopscope.convolutions import convolution_of
from flopscope.records import Machine, OpCall, OpCost, Replay, Storage, TensorSpec, Trace

from .geometry import executed_flops

_REAL_PARTS = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}
_INTEGERS = {"quint8": "int8", "qint8": "int8", "uint8": "int8"}


@dataclass(frozen=True, slots=True)
class OpBounds:
    """One op call against the roofs, in seconds; None where the machine has no such roof.

    `overhead_s` is what a call of it costs whatever its size, where it stands: its tiny twin's time after
    other work, else that of its family on this machine; `hot_overhead_s` the same, call after call.
    `copied_bytes` are its bytes where it only moves them.
    """

    flops: int
    moved_bytes: int
    copied_bytes: int
    working_set_bytes: int
    compute_s: float | None
    memory_s: float | None
    overhead_s: float | None
    replay: Replay | None = None
    hot_overhead_s: float | None = None

    @property
    def least_s(self) -> float:
        """The greater of both bounds; one that is not known bounds nothing."""
        return max(self.compute_s or 0.0, self.memory_s or 0.0)


def bounds_by_signature(
    trace: Trace, prices: Sequence[OpCost], *, machine: Machine | None, replays: Mapping[int, Replay]
) -> dict[int, OpBounds]:
    """The bounds of every kind of call in the trace that moves or computes anything."""
    found: dict[int, OpBounds] = {}
    for op, priced in zip(trace.ops, prices, strict=True):
        if op.signature not in found and not op.view and priced.priced_by != "zero":
            replay = replays.get(op.signature)
            found[op.signature] = bounds(op, priced, storages=trace.storages, machine=machine, replay=replay)
    return found


def bounds(
    op: OpCall,
    priced: OpCost,
    *,
    storages: Sequence[Storage],
    machine: Machine | None,
    replay: Replay | None = None,
) -> OpBounds:
    """Relate one call to the roofs: executed FLOPs / peak, and bytes / bandwidth at its working set."""
    cost = priced.cost
    flops, moved = executed_flops(op, priced), cost.bytes_read + cost.bytes_written
    working_set = min(_covered_bytes(op, storages), moved)
    peak = machine.peak(dtype_of(op)) if machine else None
    bandwidth = machine.bytes_per_s(working_set) if machine else None
    only_moves = priced.priced_by == "formula" and not cost.flops and cost.bytes_read > 0
    hot = replay.tiny_s if replay else None
    cold = replay.tiny_cold_s if replay and replay.tiny_cold_s is not None else hot
    return OpBounds(
        flops=flops,
        moved_bytes=moved,
        copied_bytes=moved if only_moves else 0,
        working_set_bytes=working_set,
        compute_s=_seconds(flops, peak, machine),
        memory_s=_seconds(moved, bandwidth, machine),
        overhead_s=_call_s(op, priced, machine) if cold is None else max(cold, hot or 0.0),
        replay=replay,
        hot_overhead_s=_call_s(op, priced, machine) if hot is None else hot,
    )


def dtype_of(op: OpCall) -> str | None:
    """The dtype whose peak bounds an op: of its first floating output, else input, else of any.

    A complex number's arithmetic is that of its real parts; a quantised one's is "int8".
    """
    specs = (*op.outputs, *op.inputs)
    if op.op.startswith(("quantized::", "onednn::q")):
        return "int8"
    for spec in specs:
        if spec.dtype in _REAL_PARTS:
            return _REAL_PARTS[spec.dtype]
        if spec.dtype.startswith(("float", "bfloat")):
            return spec.dtype
    whole = next((spec.dtype for spec in reversed(specs)), None)
    return _INTEGERS.get(whole, whole) if whole else None


def _seconds(amount: int, per_s: float | None, machine: Machine | None) -> float | None:
    """`amount / per_s`; nothing takes no time on whatever machine."""
    if machine is not None and not amount:
        return 0.0
    return amount / per_s if per_s else None


def _call_s(op: OpCall, priced: OpCost, machine: Machine | None) -> float | None:
    """What a call of such an op costs on this machine: as a convolution, a product, or any other."""
    if machine is None:
        return None
    family = "matmul" if priced.cost.macs else "op"
    if convolution_of(op) is not None:
        family = "convolution"
    return machine.overheads_s.get(family, machine.overheads_s.get("op"))


def _covered_bytes(op: OpCall, storages: Sequence[Storage]) -> int:
    """Bytes of memory that inputs and outputs cover, of each storage no more than it has."""
    by_storage: dict[int, set[TensorSpec]] = {}
    for spec in (*op.inputs, *op.outputs):
        by_storage.setdefault(spec.storage, set()).add(spec)
    return sum(
        min(sum(spec.distinct_bytes for spec in specs), storages[storage].nbytes)
        for storage, specs in by_storage.items()
    )
