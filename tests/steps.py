"""Training steps of small nets, recorded on either route, and what their layers come to."""

from __future__ import annotations

import copy
from collections import Counter

import torch

from flopscope import costs, layers, recognition, tracing
from flopscope.subjects import copy_without_data


def recorded(net, *args, meta=True, loss=None, optimizer=None, private=None):
    """The trace of one training step of a copy of `net`, on no data or for real."""
    if private is None:
        private = copy_without_data(net) if meta else copy.deepcopy(net)
    given = tuple(torch.empty_like(item, device="meta") if meta else item.clone() for item in args)
    return tracing.trace_step(
        private,
        given,
        {},
        keep=costs.has_formula,
        loss=loss,
        optimizer=tracing.optimizer_for(private, net, optimizer),
        meta=meta,
    )


def on_both_routes(net, *args, **named):
    """The same step without data and for real."""
    return recorded(net, *args, meta=True, **named), recorded(net, *args, meta=False, **named)


def macs_by_phase(trace):
    """Multiply-adds of forward, loss, backward and optimizer."""
    total = Counter()
    for op, price in zip(trace.ops, costs.price_all(trace.ops), strict=True):
        total[op.phase] += price.cost.macs
    return {phase: macs for phase, macs in total.items() if macs}


def total_of(trace):
    return layers.total(trace, costs.price_all(trace.ops))


def uncosted(trace):
    """The operators that have no price."""
    prices = costs.price_all(trace.ops)
    return sorted(op.op for op, price in zip(trace.ops, prices, strict=True) if price.priced_by == "uncosted")


def partitioned(trace):
    """The layers of a trace, and the tree; every op is checked to belong to exactly one layer."""
    prices = costs.price_all(trace.ops)
    kinds = recognition.kinds(trace)
    blocks = recognition.blocks(trace, kinds=kinds)
    rows = layers.partition(trace, prices, kinds=kinds, blocks=blocks)
    assert sorted(op for row in rows for op in row.ops) == list(range(len(trace.ops)))
    tree = layers.tree(trace, prices, kinds=kinds, layers=rows)
    assert (tree[0].macs, tree[0].flops) == (sum(row.macs for row in rows), sum(row.flops for row in rows))
    return rows, tree


def summary(trace):
    """What two routes must agree on, op by op: all but the layout of memory."""
    return [
        (op.op, op.call, op.phase, op.outside, op.source, _shapes(op.inputs), _shapes(op.outputs))
        for op in trace.ops
    ]


def _shapes(specs):
    return [spec.shape for spec in specs]
