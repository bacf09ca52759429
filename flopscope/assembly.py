"""Trace, Timings, Replays, Machine -> Report: price every op, divide the run into layers, explain them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from flopscope import conventions, costs, diagnosis, layers, liveness, quality, recognition, roofline
from flopscope.errors import MeasurementError
from flopscope.layers import LayerTimes
from flopscope.records import (
    Cost,
    Coverage,
    Environment,
    Evidence,
    Latency,
    Layer,
    Machine,
    OpCall,
    OpCost,
    OpRow,
    Phase,
    Replay,
    Settings,
    Timings,
    Trace,
)
from flopscope.reports import Report

_LAUNCH_BOUND = 0.9


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """A run that is priced, divided and, where it was measured, timed; not yet explained."""

    trace: Trace
    prices: tuple[OpCost, ...]
    layers: tuple[Layer, ...]
    tree: tuple[Layer, ...]
    total: Layer
    uncosted: Mapping[str, int]
    timings: Timings | None = None
    times: LayerTimes | None = None

    def by_time(self) -> tuple[OpCall, ...]:
        """The op calls, those of the layers that take most first."""
        ranked = sorted(self.layers, key=lambda layer: -(layer.latency_s or 0.0))
        return tuple(self.trace.ops[index] for layer in ranked for index in layer.ops)


def draft(trace: Trace, *, settings: Settings, timings: Timings | None = None) -> Draft:
    """Price a trace, divide it into layers, and give them the timings of the same model.

    Raises:
        MeasurementError: the settings are strict, and an op has no price.
    """
    prices = tuple(costs.price_all(trace.ops))
    uncosted = Counter(
        op.op for op, price in zip(trace.ops, prices, strict=True) if price.priced_by == "uncosted"
    )
    if settings.strict and uncosted:
        raise _without_price(uncosted, len(trace.ops))
    kinds = recognition.kinds(trace)
    rows = layers.partition(trace, prices, kinds=kinds, blocks=recognition.blocks(trace, kinds=kinds))
    tree = layers.tree(trace, prices, kinds=kinds, layers=rows)
    total = layers.total(trace, prices)
    if timings is None:
        return Draft(trace, prices, rows, tree, total, dict(uncosted))
    times = layers.by_layer(rows, timings, trace=trace, costs=prices)
    return Draft(
        trace,
        prices,
        _with_quality(layers.with_latency(rows, times), times),
        layers.tree_with_latency(tree, timings, trace=trace),
        layers.with_latency_of_the_whole(total, timings),
        dict(uncosted),
        timings,
        times,
    )


def assemble(
    draft: Draft,
    *,
    model: str,
    settings: Settings,
    environment: Environment,
    machine: Machine | None = None,
    replays: Mapping[int, Replay] | None = None,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    loaded_by: str = "object",
) -> Report:
    """Make the report of a draft: the parts of every latency by the machine's roofs, and the findings."""
    trace, rows = draft.trace, draft.layers
    report = Report(
        model=model,
        layers=rows,
        tree=draft.tree,
        ops=tuple(_op_row(index, trace, price) for index, price in enumerate(draft.prices)),
        total=draft.total,
        conventions=conventions.totals(trace, draft.prices),
        uncosted=draft.uncosted,
        coverage=_coverage(draft.prices, rows),
        peak=liveness.peak(trace),
        param_bytes=sum(parameter.nbytes for parameter in trace.parameters),
        buffer_bytes=sum(buffer.nbytes for buffer in trace.buffers),
        environment=environment,
        settings=settings,
        warnings=tuple(dict.fromkeys([*trace.warnings, *warnings])),
        notes=tuple(dict.fromkeys(notes)),
        machine=machine,
        phases=_phases(draft),
        held_bytes=_held(trace),
        route=trace.route,
        loaded_by=loaded_by,
    )
    if draft.timings is not None:
        return _explained(report, draft, replays or {})
    return report if machine is None else dataclasses.replace(report, evidence=_bounds(draft, machine))


def _bounds(draft: Draft, machine: Machine) -> tuple[Evidence, ...]:
    """What every layer takes at least by these roofs; nothing was timed."""
    unknown = (None,) * len(draft.layers)
    return roofline.explained(
        draft.layers,
        trace=draft.trace,
        prices=draft.prices,
        machine=machine,
        replays={},
        faults=unknown,
        waits=unknown,
        idle_s=unknown,
        withheld=True,
    )[1]


def _explained(report: Report, draft: Draft, replays: Mapping[int, Replay]) -> Report:
    """Add what the measurement shows: how far it can be trusted, the parts of latencies, the findings."""
    timings, times = draft.timings, draft.times
    assert timings is not None
    assert times is not None
    judged = quality.assess(timings, report.machine)
    rows, evidence = roofline.explained(
        report.layers,
        trace=draft.trace,
        prices=draft.prices,
        machine=report.machine,
        replays=replays,
        faults=times.faults,
        waits=times.waits,
        idle_s=times.idle_s,
        # Latencies of this machine are not taken apart by the roofs of another.
        withheld=judged.word == "void" or (report.machine is not None and report.machine.form == "sheet"),
    )
    measured = dataclasses.replace(
        report,
        layers=rows,
        evidence=evidence,
        quality=judged,
        environment=_with_state(report.environment, timings),
        whole=Latency(timings.bare.samples),
        rows_of_the_whole=layers.rows_of_the_whole(rows, timings),
        warnings=tuple(dict.fromkeys([*report.warnings, *timings.warnings, *times.warnings])),
        notes=(*report.notes, *_launches(timings)),
    )
    return diagnosis.with_verdicts(measured)


def _launches(timings: Timings) -> tuple[str, ...]:
    """What share of a pass the host needs to issue it, where the device works off a queue."""
    if not timings.issued_s:
        return ()
    share = median(timings.issued_s) / median(timings.bare.samples)
    bound = "launches bound it; a larger batch costs little more" if share > _LAUNCH_BOUND else "it keeps up"
    return (
        f"the host issues a pass in {100 * share:.0f} % of the time that the device takes: {bound}. "
        "Layers were timed with their launches queued ahead, and do not hold the wait for them",
    )


def _phases(draft: Draft) -> tuple[Phase, ...]:
    """What each phase of a training step costs and takes; nothing of a forward pass alone."""
    names = tuple(dict.fromkeys(op.phase for op in draft.trace.ops))
    if names == ("forward",) or not names:
        return ()
    taken = draft.timings.phases if draft.timings is not None else {}
    sums = dict.fromkeys(names, Cost())
    for op, price in zip(draft.trace.ops, draft.prices, strict=True):
        sums[op.phase] += price.cost
    return tuple(
        Phase(
            name,
            cost.macs,
            cost.flops,
            cost.bytes_read,
            cost.bytes_written,
            median(taken[name].samples) if name in taken else None,
        )
        for name, cost in sums.items()
    )


def _held(trace: Trace) -> dict[str, int]:
    """Bytes that a training step holds besides its parameters: for its backward, and from step to step."""
    if all(op.phase == "forward" for op in trace.ops):
        return {}
    held = liveness.held(trace)
    return {"saved": liveness.saved(trace), "gradient": held["gradient"], "optimizer": held["optimizer"]}


def _with_quality(rows: Sequence[Layer], times: LayerTimes) -> tuple[Layer, ...]:
    """Say of every timed layer how far its latency can be trusted."""
    return tuple(
        dataclasses.replace(
            layer,
            quality=quality.layer_quality(
                seconds=seconds, floor_s=layer.latency_floor_s, waits=waits, epochs=times.epochs
            ),
        )
        if layer.latency_floor_s is not None
        else layer
        for layer, seconds, waits in zip(rows, times.seconds, times.waits, strict=True)
    )


def _with_state(environment: Environment, timings: Timings) -> Environment:
    """Add how the measurement went, and what it found the allocator to ask of the kernel in a pass."""
    seen = timings.witnesses
    other: dict[str, Any] = {
        **environment.other,
        "stop_reason": timings.stop_reason,
        "warmup_rounds": str(timings.warmup_rounds),
        "epochs": str(len(set(timings.epochs))),
        "processes": str(1 + len(timings.repeats)),
    }
    if seen is not None and seen.faults:
        other["page_faults_per_pass"] = f"{median(seen.faults):.0f}"
    return dataclasses.replace(environment, other=other)


def _without_price(uncosted: Counter[str], ops: int) -> MeasurementError:
    listed = ", ".join(f"{name} x{calls}" for name, calls in uncosted.most_common())
    return MeasurementError(
        f"{uncosted.total()} of {ops} op calls have no price: {listed}",
        hint="give them one with flopscope.register_formula, or leave strict out",
    )


def _op_row(index: int, trace: Trace, price: OpCost) -> OpRow:
    op = trace.ops[index]
    cost = price.cost
    typical = op.outputs or op.inputs
    return OpRow(
        index,
        op.op,
        trace.calls[op.call].path,
        op.call,
        tuple([spec.shape for spec in op.inputs]),
        tuple([spec.shape for spec in op.outputs]),
        typical[0].dtype if typical else None,
        cost.macs,
        cost.flops,
        cost.bytes_read,
        cost.bytes_written,
        price.priced_by,
    )


def _coverage(prices: Sequence[OpCost], rows: Sequence[Layer]) -> Coverage:
    """The share of op calls, bytes and time that have a price."""
    priced = [price for price in prices if price.priced_by != "uncosted"]
    moved = sum(price.cost.bytes_read + price.cost.bytes_written for price in prices)
    moved_priced = sum(price.cost.bytes_read + price.cost.bytes_written for price in priced)
    spent = sum(row.latency_s or 0.0 for row in rows)
    doubtful = sum(row.latency_s or 0.0 for row in rows if row.uncosted_ops)
    return Coverage(
        ops=len(priced) / len(prices) if prices else 1.0,
        bytes=moved_priced / moved if moved else 1.0,
        time=1.0 - doubtful / spent if spent else None,
    )
