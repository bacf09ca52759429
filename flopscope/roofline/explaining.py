"""Layers with latencies, prices, replays and roofs -> layers taken apart, and the evidence of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from flopscope.convolutions import convolution_of
from flopscope.records import Evidence, Kernel, Layer, Machine, OpCall, OpCost, Replay, Trace

from .bounds import OpBounds, bounds_by_signature
from .parts import Parts, Terms, taken_apart

METHOD = "1"
"""The version of the decomposition: another order or another formula is another number."""

_REPLAYED = 0.9  # share of a layer's expected time that replays must cover
_MINOR = 0.05  # share of a layer's FLOPs that may lack a roof


@dataclass(frozen=True, slots=True)
class _Work:
    """The op calls of one layer that move or compute anything: calls, prices and bounds alike by index."""

    ops: tuple[OpCall, ...]
    prices: tuple[OpCost, ...]
    bounds: tuple[OpBounds, ...]

    @property
    def compute_s(self) -> float | None:
        """Σ F/P; None where more than a small share of the FLOPs has no roof."""
        flops = sum(bound.flops for bound in self.bounds)
        without = sum(bound.flops for bound in self.bounds if bound.compute_s is None)
        return None if without > _MINOR * flops else sum(bound.compute_s or 0.0 for bound in self.bounds)

    @property
    def memory_s(self) -> float | None:
        """Σ B/W; None where there is no bandwidth."""
        return _sum_if_all(bound.memory_s for bound in self.bounds)

    @property
    def overhead_s(self) -> float | None:
        """Σ o; None where no call's is known."""
        known = [bound.overhead_s for bound in self.bounds if bound.overhead_s is not None]
        return sum(known) if known or not self.bounds else None


def explained(
    layers: Sequence[Layer],
    *,
    trace: Trace,
    prices: Sequence[OpCost],
    machine: Machine | None,
    replays: Mapping[int, Replay],
    faults: Sequence[float | None],
    waits: Sequence[float | None],
    idle_s: Sequence[float | None],
    withheld: bool = False,
) -> tuple[tuple[Layer, ...], tuple[Evidence, ...]]:
    """Take the undisturbed time of every layer apart, and gather what is known of it.

    Args:
        layers: the partition of the run; `ops` indexes `trace.ops`.
        trace: the run.
        prices: by op of the trace.
        machine: the roofs for the device and threads of the run; None where there are none.
        replays: hot replays and tiny twins, by `OpCall.signature`.
        faults: page faults in place, by layer; None where they could not be counted.
        waits: the share of passes in which a thread waited for a processor, by layer.
        idle_s: seconds in which no op of the layer ran, by layer.
        withheld: the measurement is not to be explained: parts stay None, evidence is gathered.

    Returns:
        The layers with `compute_s` ... `memory_s`, `limit` and `headroom`, which stay None without
        `latency_floor_s` or a machine; and their evidence, alike by index.
    """
    known = bounds_by_signature(trace, prices, machine=machine, replays=replays)
    fault_s = machine.fault_s or 0.0 if machine else 0.0
    made: list[tuple[Layer, Evidence]] = []
    for layer, count, waited, idle in zip(layers, faults, waits, idle_s, strict=True):
        at = [index for index in layer.ops if trace.ops[index].signature in known]
        ops = tuple(trace.ops[index] for index in at)
        work = _Work(ops, tuple(prices[index] for index in at), tuple(known[op.signature] for op in ops))
        evidence = replace(_gathered(work, fault_s), faults=count, waits=waited, idle_s=idle)
        if layer.latency_floor_s is None or layer.latency_floor_s < 0 or machine is None or withheld:
            made.append((layer, evidence))
            continue
        replayed = _is_replayed(work.bounds, any_replays=bool(replays))
        terms = _terms(work, evidence, fault_s, replayed=replayed)
        if not work.bounds:  # nothing was moved: it cannot have waited for data
            terms = replace(terms, overhead_s=layer.latency_floor_s)
        parts = taken_apart(layer.latency_floor_s, terms)
        form = "replayed" if replayed else "cheap"
        made.append(
            (_with_parts(layer, parts, evidence), replace(evidence, form=form, clamped=parts.clamped))
        )
    return tuple(layer for layer, _ in made), tuple(evidence for _, evidence in made)


def _terms(work: _Work, evidence: Evidence, fault_s: float, *, replayed: bool) -> Terms:
    """What the causes of this layer's time would take; what is not known takes nothing."""
    return Terms(
        compute_s=sum(bound.compute_s or 0.0 for bound in work.bounds),
        least_s=sum(bound.least_s for bound in work.bounds),
        overhead_s=(evidence.overhead_s or 0.0) + (evidence.idle_s or 0.0),
        faults_s=(evidence.faults or 0.0) * fault_s,
        hot_loss_s=_hot_loss_s(work.bounds, fault_s) if replayed else None,
    )


def _hot_loss_s(bounds: Iterable[OpBounds], fault_s: float) -> float:
    """Σ h - o - max(F/P, B/W) over the calls that were replayed; of the others nothing is known."""
    return sum(
        _hot_s(bound.replay, fault_s) - (bound.hot_overhead_s or 0.0) - bound.least_s
        for bound in bounds
        if bound.replay is not None
    )


def _hot_s(replay: Replay, fault_s: float) -> float:
    """A replay without what its page faults cost."""
    return max(0.0, replay.hot_s - replay.hot_faults * fault_s)


def _is_replayed(bounds: Sequence[OpBounds], *, any_replays: bool) -> bool:
    """Whether the replayed calls hold nine tenths of what the layer's calls would take at least.

    A call's weight is its bound by the roofs and its overhead. A layer without any call has
    nothing to be replayed: it is in the form of the others.
    """
    if not bounds:
        return any_replays
    weights = [bound.least_s + (bound.overhead_s or 0.0) for bound in bounds]
    if not any(weights):
        return all(bound.replay for bound in bounds)
    held = sum(weight for weight, bound in zip(weights, bounds, strict=True) if bound.replay)
    return held >= _REPLAYED * sum(weights)


def _with_parts(layer: Layer, parts: Parts, evidence: Evidence) -> Layer:
    floor, least = layer.latency_floor_s, evidence.least_s
    return replace(
        layer,
        compute_s=parts.compute_s,
        kernel_s=parts.kernel_s,
        overhead_s=parts.overhead_s,
        allocation_s=parts.allocation_s,
        memory_s=parts.memory_s,
        limit=parts.limit,
        headroom=floor / least if floor is not None and least else None,
    )


def _gathered(work: _Work, fault_s: float) -> Evidence:
    """All that does not depend on the layer's own time."""
    compute, memory = work.compute_s, work.memory_s
    main = _main_convolution(work)
    replays = [bound.replay for bound in work.bounds if bound.replay]
    first = work.bounds[main].replay if main is not None else None
    return Evidence(
        hot_s=sum(_hot_s(replay, fault_s) for replay in replays) if replays else None,
        overhead_s=work.overhead_s,
        compute_s=compute,
        memory_s=memory,
        least_s=None if None in (compute, memory) else sum(bound.least_s for bound in work.bounds),
        working_set_bytes=max((bound.working_set_bytes for bound in work.bounds), default=None),
        executed_flops=sum(bound.flops for bound in work.bounds),
        copied_bytes=sum(bound.copied_bytes for bound in work.bounds),
        op_calls=len(work.ops),
        convolution=convolution_of(work.ops[main]) if main is not None else None,
        backend=next((replay.backend for replay in (first, *replays) if replay and replay.backend), None),
        kernels=_kernels(work),
    )


def _main_convolution(work: _Work) -> int | None:
    """The convolution with the most MACs; a forward one, where there is one, before a gradient's."""
    found = [at for at, op in enumerate(work.ops) if convolution_of(op) is not None]
    return max(
        found,
        key=lambda at: (work.ops[at].phase == "forward", work.prices[at].cost.macs),
        default=None,
    )


def _kernels(work: _Work) -> tuple[Kernel, ...]:
    """The logged steps of every kind of call, times its calls."""
    calls = Counter(op.signature for op in work.ops)
    replays = {op.signature: bound.replay for op, bound in zip(work.ops, work.bounds, strict=True)}
    return tuple(
        replace(
            kernel,
            latency_s=count * kernel.latency_s,
            nbytes=None if kernel.nbytes is None else count * kernel.nbytes,
        )
        for signature, count in calls.items()
        for kernel in getattr(replays[signature], "kernels", ())
    )


def _sum_if_all(values: Iterable[float | None]) -> float | None:
    terms = list(values)
    return None if None in terms else sum(term for term in terms if term is not None)
