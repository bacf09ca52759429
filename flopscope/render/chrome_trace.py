"""Report -> one run as a Chrome trace, which Perfetto and chrome://tracing show.

Format: "Trace Event Format" (https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU):
"X" events with a beginning and a duration in microseconds, which of one thread must lie one in another.
All edges lie on eighths of a microsecond: those are exact in binary and in nanoseconds, so that edges still
meet where a viewer adds or converts them, and no slice is dropped for overlapping another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flopscope.render.registry import Options, renderer
from flopscope.render.timeline import Span, basis, timeline
from flopscope.units import bytes_text
from flopscope.version import __version__

if TYPE_CHECKING:
    from flopscope.reports import Report

_GRAIN_NS = 125
_THREAD = {"pid": 1, "tid": 1}


@renderer("chrome-trace")
def render_chrome_trace(report: Report, options: Options) -> str:
    """Layers in their modules as nested slices with their costs; activation memory as a counter.

    Raises:
        InputError: No latencies were measured.
    """
    del options
    spans = [span for outer in timeline(report, grain=_GRAIN_NS) for span in outer.walk()]
    slices = [_slice(report, span) for span in spans]
    events = [*_names(report), *slices, *_memory(report, spans), *_peak(report, spans)]
    lines = ",\n".join(json.dumps(event, allow_nan=False, ensure_ascii=False) for event in events)
    known = {
        "flopscope": __version__,
        "model": report.model,
        "inputs": report.settings.inputs,
        "processor": report.environment.cpu,
        "quality": report.quality.word if report.quality else "",
        "basis": basis(report),
    }
    rest = json.dumps(known, ensure_ascii=False)
    return f'{{"traceEvents": [\n{lines}\n],\n"displayTimeUnit": "ms",\n"otherData": {rest}}}\n'


def _names(report: Report) -> Iterator[dict[str, Any]]:
    """What the process and its thread are called; by the first of them the file is known as ours."""
    process = f"flopscope {__version__}   {report.model}"
    yield {"name": "process_name", "ph": "M", **_THREAD, "args": {"name": process}}
    yield {"name": "thread_name", "ph": "M", **_THREAD, "args": {"name": "a typical run"}}


def _slice(report: Report, span: Span) -> dict[str, Any]:
    layer = None if span.layer is None else report.layers[span.layer]
    return {
        "name": span.name,
        "cat": "module" if layer is None else layer.kind,
        "ph": "X",
        "ts": span.begin / 1000,
        "dur": (span.end - span.begin) / 1000,
        **_THREAD,
        "args": _arguments(report, span),
    }


def _arguments(report: Report, span: Span) -> dict[str, Any]:
    """Path, type and the costs of the operators in it; of a layer what it is, and what limits it."""
    ops = [report.ops[index] for index in span.ops]
    known: dict[str, Any] = {"path": span.path, "type": span.type}
    layer = None if span.layer is None else report.layers[span.layer]
    if layer is not None:
        known |= {"kind": layer.kind, "detail": layer.detail, "limit": layer.limit, "quality": layer.quality}
        known |= {"verdicts": " ".join(layer.verdicts)}
    if span.places > 1:
        known["share"] = f"one of {span.places} equal shares of the layer's latency"
    known |= {name: sum(getattr(op, name) for op in ops) for name in ("macs", "flops")}
    known["bytes"] = sum(op.bytes_read + op.bytes_written for op in ops)
    return {name: value for name, value in known.items() if value not in (None, "")}


def _memory(report: Report, spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
    """The most activation memory alive in each layer's place; nothing of reports that do not hold it."""
    curve = report.peak.over_run
    for span in spans:
        held = [curve[index] for index in span.ops if index < len(curve)]
        if span.layer is not None and held:
            args = {"bytes": max(held)}
            yield {"name": "activation memory", "ph": "C", "ts": span.begin / 1000, "pid": 1, "args": args}


def _peak(report: Report, spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
    """A mark where most activation memory was alive."""
    where = [span for span in spans if span.layer is not None and report.peak.op in span.ops]
    if where:
        name = f"peak of activation memory: {bytes_text(report.peak.nbytes)}"
        args = {"bytes": report.peak.nbytes, "path": report.peak.path}
        yield {"name": name, "ph": "i", "s": "t", "ts": where[0].begin / 1000, **_THREAD, "args": args}
