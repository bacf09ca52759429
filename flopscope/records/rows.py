"""What a report holds: layers, ops, terms of the whole, settings and environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .runs import Shape


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of a report: what a stretch of the model costs and takes.

    In `Report.layers` rows partition the run; in `Report.tree` they are inclusive. `depth` is
    the level in the module tree (the root's is 0). `ops` indexes `Report.ops`. Of a training step,
    `backward_s` is the backward's part of `latency_s`. What was not measured is None.
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
    backward_s: float | None = None

    @property
    def label(self) -> str:
        """What the layer is called: its path, and its type where the path does not say what it is."""
        return label_of(self.path, self.type)

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


def label_of(path: str, kind: str) -> str:
    """A path, and a type where it stands in brackets or there is no path."""
    return " ".join(word for word in (path, kind if kind.startswith("(") or not path else "") if word)


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
class Phase:
    """One phase of a training step: "forward", "loss", "backward" or "optimizer".

    `latency_s` is the median over the bare steps; medians of parts do not quite add up to that of the whole.
    """

    name: str
    macs: int
    flops: int
    bytes_read: int
    bytes_written: int
    latency_s: float | None = None


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
    train: bool = False
    machine: str | None = None


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
