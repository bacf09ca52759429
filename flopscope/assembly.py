"""Trace, Timings -> Report: price every op, recognise blocks, divide the run into layers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from flopscope import conventions, costs, layers, liveness, recognition
from flopscope.errors import MeasurementError
from flopscope.records import (
    Coverage,
    Environment,
    Latency,
    Layer,
    OpCost,
    OpRow,
    Settings,
    Timings,
    Trace,
    WholeRow,
)
from flopscope.reports import Report


def assemble(
    trace: Trace,
    *,
    model: str,
    settings: Settings,
    environment: Environment,
    timings: Timings | None = None,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    loaded_by: str = "object",
) -> Report:
    """Make the report of a trace, and of the timings of the same model where there are any.

    Raises:
        MeasurementError: the settings are strict, and an op has no price.
    """
    prices = costs.price_all(trace.ops)
    uncosted = Counter(
        op.op for op, price in zip(trace.ops, prices, strict=True) if price.priced_by == "uncosted"
    )
    if settings.strict and uncosted:
        raise _without_price(uncosted, len(trace.ops))
    kinds = recognition.kinds(trace)
    rows = layers.partition(trace, prices, kinds=kinds, blocks=recognition.blocks(trace, kinds=kinds))
    tree = layers.tree(trace, prices, kinds=kinds, layers=rows)
    total = layers.total(trace, prices)
    whole: tuple[WholeRow, ...] = ()
    said = [*trace.warnings, *warnings]
    if timings is not None:
        times = layers.by_layer(rows, timings, trace=trace, costs=prices)
        rows = layers.with_latency(rows, times)
        tree = layers.tree_with_latency(tree, timings, trace=trace)
        whole = layers.rows_of_the_whole(rows, timings)
        latency_s = sum(row.latency_s for row in whole)
        total = dataclasses.replace(total, latency_s=latency_s, samples=len(timings.bare.samples))
        said += [*timings.warnings, *times.warnings]
    return Report(
        model=model,
        layers=rows,
        tree=tree,
        ops=tuple(_op_row(index, trace, price) for index, price in enumerate(prices)),
        total=total,
        conventions=conventions.totals(trace, prices),
        uncosted=dict(uncosted),
        coverage=_coverage(prices, rows),
        peak=liveness.peak(trace),
        param_bytes=sum(parameter.nbytes for parameter in trace.parameters),
        buffer_bytes=sum(buffer.nbytes for buffer in trace.buffers),
        environment=environment,
        settings=settings,
        warnings=tuple(dict.fromkeys(said)),
        notes=tuple(dict.fromkeys(notes)),
        whole=None if timings is None else Latency(timings.bare.samples),
        rows_of_the_whole=whole,
        route=trace.route,
        loaded_by=loaded_by,
    )


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
