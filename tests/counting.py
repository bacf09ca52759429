"""What several tests of counts share: a count that checks itself, and how to find a row in it."""

from __future__ import annotations

import flopscope

ADDITIVE = ("params", "param_bytes", "macs", "flops", "bytes_read", "bytes_written")


def counted(model, inputs, *, uncosted=False, **keywords):
    """Count, and hold the report to promises 3 and 4: rows add up, nothing is silently free."""
    report = flopscope.count(model, inputs, **keywords)
    for column in ADDITIVE:
        assert sum(getattr(layer, column) for layer in report.layers) == getattr(report.total, column), column
    assert sorted(op for layer in report.layers for op in layer.ops) == list(range(len(report.ops)))
    for column in ("macs", "flops", "bytes_read", "bytes_written"):
        assert sum(getattr(op, column) for op in report.ops) == getattr(report.total, column), column
    assert bool(report.uncosted) == uncosted, report.uncosted
    return report


def macs_of(model, inputs, **keywords):
    """The multiply-adds of a whole model."""
    return counted(model, inputs, **keywords).total.macs


def row(report, path, kind_of_row=None):
    """The one layer with this path (and type, where several share the path)."""
    found = [layer for layer in report.layers if layer.path == path and kind_of_row in (None, layer.type)]
    assert len(found) == 1, [(layer.path, layer.type) for layer in report.layers]
    return found[0]
