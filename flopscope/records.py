"""The hall: every noun of flopscope, as frozen records of plain Python values.

No tensor, module or display string lives here. Counts are `int` in base units, times `float` seconds,
what is unknown `None`. In order: what was run, what it costs, what it takes, what is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

Shape = tuple[int, ...]

KINDS = (
    "conv", "pointwise_conv", "depthwise_conv", "group_conv", "transposed_conv", "pconv", "se", "linear",
    "matmul", "attention", "recurrent", "batch_norm", "norm", "activation", "pooling", "resampling",
    "embedding", "elementwise", "reduction", "data_movement", "other",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor as an operator saw it: its layout, and the storage that it looks at.

    `strides` and `offset` are in elements; `storage` indexes `Trace.storages`.
    """

    shape: Shape
    dtype: str
    itemsize: int
    strides: Shape
    offset: int
    storage: int

    @property
    def numel(self) -> int:
        """Elements by shape; an expanded dimension counts in full."""
        return prod(self.shape)

    @property
    def distinct_bytes(self) -> int:
        """Bytes of memory that the tensor really covers: an expanded dimension counts once."""
        if 0 in self.shape:
            return 0
        spread = [(size, stride) for size, stride in zip(self.shape, self.strides, strict=True) if stride]
        reach = 1 + sum(abs(stride) * (size - 1) for size, stride in spread)
        return min(prod(size for size, _ in spread), reach) * self.itemsize


@dataclass(frozen=True, slots=True)
class Storage:
    """A block of memory that tensors look at, and when it lived.

    `role` is "parameter", "buffer", "input", "activation" or "constant"; `born` is the op that made
    it (-1: there before the run), `died` the first op after it was freed (None: it outlived the run).
    """

    nbytes: int
    role: str
    name: str | None = None
    born: int = -1
    died: int | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter or buffer of the model, listed once however many modules share it."""

    path: str
    owner: str
    shape: Shape
    dtype: str
    numel: int
    nbytes: int
    trainable: bool = True


@dataclass(frozen=True, slots=True)
class Module:
    """A registered module, whether it ran or not; in `named_modules` order, root first."""

    path: str
    type: str


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One execution of one module. `parent` indexes `Trace.calls`; the root's is None.

    Shapes are those of all tensors in the arguments and in the result, in order. The ops that ran
    inside it are `ops[first_op:end_op]`.
    """

    path: str
    type: str
    parent: int | None
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    first_op: int
    end_op: int


@dataclass(frozen=True, slots=True)
class Input:
    """Stands in `OpCall.arguments` where the call had a tensor: `OpCall.inputs[index]`."""

    index: int


@dataclass(frozen=True, slots=True)
class OpCall:
    """One aten operator as the dispatcher saw it.

    `arguments` maps the schema's argument names to values, with every tensor replaced by an
    `Input` (a list of tensors by a tuple of them). `written` lists the inputs that were changed
    in place, `out=` targets included. `view` is true where the call only returned aliases of its
    inputs and computed nothing. `tags` holds torch's own ("pointwise", "reduction"). Two calls
    with the same `signature` have the same operator, arguments, layouts and aliasing, and so
    the same cost.
    """

    op: str
    call: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    arguments: Mapping[str, Any]
    signature: int
    written: tuple[int, ...] = ()
    view: bool = False
    tags: frozenset[str] = frozenset()
    phase: str = "forward"

    def value(self, name: str, default: Any = None) -> Any:
        """The argument called `name`, or `default` where the schema or the call lacks it."""
        return self.arguments.get(name, default)

    def tensor(self, name: str) -> TensorSpec | None:
        """The tensor given as `name`, or None."""
        given = self.arguments.get(name)
        return self.inputs[given.index] if isinstance(given, Input) else None

    def tensors(self, name: str) -> tuple[TensorSpec, ...]:
        """The tensors of the list given as `name`; a single tensor gives a tuple of one."""
        given = self.arguments.get(name)
        items = given if isinstance(given, tuple) else (given,)
        return tuple(self.inputs[item.index] for item in items if isinstance(item, Input))

    @property
    def fresh_outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs that are new memory, each storage once: not aliases of an input."""
        held = {spec.storage for spec in self.inputs}
        fresh = {spec.storage: spec for spec in reversed(self.outputs) if spec.storage not in held}
        return tuple(reversed(fresh.values()))


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that one run of a model did, without its data.

    `route` says how it was obtained: "meta" (no data), "real" (executed) or "exported" (read
    from a .pt2 file). `calls[0]` is the root's call.
    """

    modules: tuple[Module, ...]
    calls: tuple[ModuleCall, ...]
    ops: tuple[OpCall, ...]
    storages: tuple[Storage, ...]
    parameters: tuple[Parameter, ...]
    buffers: tuple[Parameter, ...]
    route: str
    device: str
    torch_version: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """What an op costs by arithmetic: counts, not rates. Adds up with `+`."""

    macs: int = 0
    flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    def __add__(self, other: Cost) -> Cost:
        read, written = self.bytes_read + other.bytes_read, self.bytes_written + other.bytes_written
        return Cost(self.macs + other.macs, self.flops + other.flops, read, written)


@dataclass(frozen=True, slots=True)
class OpCost:
    """The price of one op and where it came from.

    `priced_by` is "formula" (the op has its own), "rule" (torch's pointwise or reduction tag),
    "zero" (a view or metadata: nothing moves) or "uncosted" (bytes are counted, FLOPs unknown).
    `fvcore_flops` is what fvcore's convention charges for the op, in MACs.
    """

    cost: Cost
    priced_by: str
    fvcore_flops: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of the run that is recognised as one thing: a PConv or an SE.

    `path` is its module's, or that of the container in whose forward it stands inline; `ops` indexes
    `Trace.ops`; `formula_bytes` is the published formula's.
    """

    kind: str
    path: str
    type: str
    inline: bool
    ops: tuple[int, ...]
    formula_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class MemoryPeak:
    """When most activation memory was alive: in `Trace.ops[op]` of module `path`; what was, by size."""

    nbytes: int
    op: int | None
    path: str
    alive: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """Repeated measurements of one thing, in seconds, in the order in which they were taken."""

    samples: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Timings:
    """Measured times: the bare model, and the stretches between module boundaries.

    `boundaries` is the order in which modules were entered ("+path") and left ("-path") in every
    instrumented round; `stretches[k]` holds, by round, the time between boundaries k and k+1.
    `instrument_s` estimates what the instrument added to a round.
    """

    bare: Latency
    instrumented: Latency
    boundaries: tuple[str, ...]
    stretches: tuple[tuple[float, ...], ...]
    warmup_rounds: int
    stop_reason: str
    threads: int
    device: str
    instrument_s: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of a report: what a stretch of the model costs and takes.

    In `Report.layers` rows partition the run; in `Report.tree` they are inclusive. `depth` is
    the level in the module tree (the root's is 0). `ops` indexes `Report.ops`. What was not
    measured is None.
    """

    path: str
    type: str
    kind: str
    calls: int
    input_shape: Shape | None
    output_shape: Shape | None
    dtype: str | None
    params: int
    param_bytes: int
    macs: int
    flops: int
    bytes_read: int
    bytes_written: int
    depth: int = 0
    detail: str = ""
    formula_bytes: int | None = None
    uncosted_ops: int = 0
    ops: tuple[int, ...] = ()
    latency_s: float | None = None
    latency_floor_s: float | None = None
    latency_low_s: float | None = None
    latency_high_s: float | None = None
    samples: int | None = None
    compute_s: float | None = None
    kernel_s: float | None = None
    overhead_s: float | None = None
    allocation_s: float | None = None
    memory_s: float | None = None
    limit: str | None = None
    headroom: float | None = None
    verdicts: tuple[str, ...] = ()
    quality: str | None = None

    @property
    def arithmetic_intensity(self) -> float | None:
        """FLOPs per byte moved; None where nothing moves."""
        moved = self.bytes_read + self.bytes_written
        return self.flops / moved if moved else None

    @property
    def flops_per_s(self) -> float | None:
        """Achieved rate, by the undisturbed latency where there is one."""
        return self._per_second(self.flops)

    @property
    def bytes_per_s(self) -> float | None:
        """Achieved traffic, by the undisturbed latency where there is one."""
        return self._per_second(self.bytes_read + self.bytes_written)

    def _per_second(self, amount: int) -> float | None:
        seconds = self.latency_floor_s or self.latency_s
        return amount / seconds if seconds and seconds > 1e-12 else None  # less is no clock's reading


@dataclass(frozen=True, slots=True)
class OpRow:
    """One op call in a report."""

    index: int
    op: str
    path: str
    call: int
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    dtype: str | None
    macs: int
    flops: int
    bytes_read: int
    bytes_written: int
    priced_by: str


@dataclass(frozen=True, slots=True)
class WholeRow:
    """One term of the whole's latency: the layers' sum, the instrument, the interference."""

    name: str
    latency_s: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """The share that was priced, each in 0..1; `time` is None without a measurement."""

    ops: float
    bytes: float
    time: float | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """A budget that a report does not keep: `metric` was `actual`, `limit` was allowed."""

    budget: str
    metric: str
    actual: float
    limit: float


@dataclass(frozen=True, slots=True)
class Settings:
    """How a report was made: every keyword of `profile`, as it was in force."""

    inputs: str = ""
    device: str | None = None
    dtype: str | None = None
    threads: int | None = None
    channels_last: bool = False
    latency: bool = True
    effort: str = "normal"
    max_seconds: float | None = None
    seed: int = 0
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a report was made: enough to say whether two latencies may be compared."""

    flopscope: str
    python: str
    torch: str
    platform: str
    cpu: str
    cores: int
    capability: str
    threads: int
    allocator: str
    date: str
    other: Mapping[str, str] = field(default_factory=dict)
