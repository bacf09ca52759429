"""`Trace` -> who made what each op reads: the data flow, through views and in-place writes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flopscope.records import TensorSpec, Trace

_MOST_OPS = 32  # a gate or an activation is a handful of ops; a longer walk has left the block


@dataclass(frozen=True, slots=True)
class Cone:
    """What lies behind a tensor: the ops passed through, and those at which the walk ended.

    An end of -1 stands for the model's input; parameters and constants are no ends.
    """

    inside: tuple[int, ...]
    ends: tuple[int, ...]
    complete: bool


class Flow:
    """Answers who produced a tensor. A view has no producer of its own: its storage's has."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._writers: dict[int, list[int]] = {}
        self._readers: dict[int, list[int]] | None = None
        self._views: dict[TensorSpec, list[int]] | None = None
        for index, op in enumerate(trace.ops):
            for position in op.written:
                self._writers.setdefault(op.inputs[position].storage, []).append(index)

    def producer(self, before: int, spec: TensorSpec) -> int:
        """The last op before op `before` that wrote the storage of `spec`; -1 where none did."""
        writers = self._writers.get(spec.storage)
        if writers:
            at = bisect_left(writers, before)
            if at:
                return writers[at - 1]
        return self.trace.storages[spec.storage].born

    def writers(self, storage: int) -> Sequence[int]:
        """The ops that wrote to `storage` in place, in order; the op that made it is not among them."""
        return self._writers.get(storage, ())

    def readers(self, storage: int) -> Sequence[int]:
        """The ops, views excepted, that have a tensor of `storage` among their inputs."""
        if self._readers is None:
            self._readers = {}
            for index, op in enumerate(self.trace.ops):
                if not op.view:
                    for held in {spec.storage for spec in op.inputs}:
                        self._readers.setdefault(held, []).append(index)
        return self._readers.get(storage, ())

    def views(self, before: int, spec: TensorSpec) -> list[int]:
        """The view ops that lead to `spec`, last first; empty where it is a fresh tensor."""
        if self._views is None:
            self._views = {}
            for index, op in enumerate(self.trace.ops):
                if op.view:
                    held = {spec.storage for spec in op.inputs}
                    for output in op.outputs:
                        if output.storage in held:
                            self._views.setdefault(output, []).append(index)
        path: list[int] = []
        made = self.trace.storages[spec.storage].born
        while made < 0 or spec not in self.trace.ops[made].outputs:
            known = self._views.get(spec, ())
            at = bisect_left(known, before)
            if not at:
                break
            before = known[at - 1]
            path.append(before)
            spec = next(item for item in self.trace.ops[before].inputs if item.storage == spec.storage)
        return path

    def same_value(self, first: int, one: TensorSpec, second: int, other: TensorSpec) -> bool:
        """Tell whether op `first` and op `second` read the same elements, whatever their shape."""
        same_region = (one.storage, one.offset, one.numel) == (other.storage, other.offset, other.numel)
        return same_region and self.producer(first, one) == self.producer(second, other)

    def cone(self, before: int, spec: TensorSpec, *, through: Collection[str], kinds: Sequence[str]) -> Cone:
        """Walk back from `spec`, as read by op `before`, through all ops of the given kinds."""
        inside: set[int] = set()
        ends: set[int] = set()
        pending = [(before, spec)]
        while pending:
            at, wanted = pending.pop()
            made = self.producer(at, wanted)
            if made < 0:
                if self.trace.storages[wanted.storage].role in ("input", "activation"):
                    ends.add(-1)
            elif kinds[made] not in through:
                ends.add(made)
            elif made not in inside:
                inside.add(made)
                if len(inside) > _MOST_OPS:
                    return Cone((), (), complete=False)
                pending.extend((made, item) for item in self.trace.ops[made].inputs)
        return Cone(tuple(sorted(inside)), tuple(sorted(ends)), complete=True)
