"""A run -> who made and who reads each value, which op is what, and which module ran it alone.

A value is a block of memory between two writes: an activation in place makes another value of the same
memory. Views make no value of their own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection

from flopscope.records import ModuleCall, OpCall, TensorSpec, Trace

CONVOLUTIONS = ("convolution", "_convolution", "convolution_overrideable", "conv2d")
NORMS = ("batch_norm", "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
PADS = ("constant_pad_nd", "pad")
KEPT = ("parameter", "buffer", "constant")  # roles of what an op reads beside data


class Flow:
    """Answers who makes, reads and ran what; ops are told by their index in `Trace.ops`."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._writers: dict[int, list[int]] = defaultdict(list)
        self._readers: dict[int, list[int]] = defaultdict(list)
        self._calls: dict[str, list[ModuleCall]] = defaultdict(list)
        for index, op in enumerate(trace.ops):
            for position in op.written:
                self._writers[op.inputs[position].storage].append(index)
            if not op.view:
                for storage in {spec.storage for spec in op.inputs}:
                    self._readers[storage].append(index)
        for call in trace.calls:
            self._calls[call.path].append(call)

    def producer(self, before: int, storage: int) -> int:
        """The last op before op `before` that made or wrote `storage`; negative where none did."""
        writers = self._writers.get(storage, [])
        at = bisect_left(writers, before)
        return writers[at - 1] if at else self.trace.storages[storage].born

    def readers(self, made: int) -> list[int]:
        """The ops that read the value that op `made` put out."""
        storage = self.trace.ops[made].outputs[0].storage
        later = [index for index in self._writers.get(storage, []) if index > made]
        last = later[0] if later else len(self.trace.ops)
        return [index for index in self._readers.get(storage, []) if made < index <= last]

    def data(self, op: OpCall) -> list[TensorSpec]:
        """What an op reads beside parameters, buffers and constants."""
        return [spec for spec in op.inputs if self.trace.storages[spec.storage].role not in KEPT]

    def home(self, ops: Collection[int]) -> ModuleCall:
        """The innermost module call that all of `ops` ran in: calls are numbered in order of entry."""
        calls = {self.trace.ops[index].call for index in ops}
        while len(calls) > 1:
            latest = max(calls)
            calls.remove(latest)
            calls.add(self.trace.calls[latest].parent or 0)
        return self.trace.calls[calls.pop()]

    def path(self, index: int) -> str:
        """The path of the module whose forward ran op `index`."""
        return self.trace.calls[self.trace.ops[index].call].path

    def calls(self, path: str) -> list[ModuleCall]:
        """All calls of the module at `path`."""
        return self._calls.get(path, [])

    def computing(self, call: ModuleCall) -> list[int]:
        """The ops of a module call that are no views."""
        return [index for index in range(call.first_op, call.end_op) if not self.trace.ops[index].view]

    def outlives(self, made: int) -> bool:
        """Whether what op `made` put out is still held after the run, as an output of the model is."""
        return self.trace.storages[self.trace.ops[made].outputs[0].storage].died is None


def name(op: OpCall) -> str:
    """The operator's name without namespace, overload and the underscore of what works in place."""
    base = op.op.rpartition("::")[2].partition(".")[0]
    return base[:-1] if base.endswith("_") and not base.startswith("_") else base


def is_convolution(op: OpCall) -> bool:
    """Whether an op is a plain convolution of images."""
    return name(op) in CONVOLUTIONS and len(op.inputs[0].shape) == 4 and op.value("transposed") is not True


def is_depthwise(op: OpCall) -> bool:
    """Whether an op convolves each of several channels by itself."""
    channels = op.inputs[0].shape[1] if is_convolution(op) else 0
    return channels > 1 and op.value("groups", 1) == channels


def is_pointwise(op: OpCall) -> bool:
    """Whether an op mixes channels pixel by pixel: a 1x1 convolution of one group and stride 1."""
    return (
        is_convolution(op)
        and op.inputs[1].shape[2:] == (1, 1)
        and op.value("groups", 1) == 1
        and op.inputs[0].shape[2:] == op.outputs[0].shape[2:]
    )
