"""Report -> one run for speedscope, as JSON of its own format.

Format: https://www.speedscope.app/file-format-schema.json, profiles of type "evented": frames are opened and
closed in order of time, and whichever was opened last is closed first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from flopscope.render.registry import Options, renderer
from flopscope.render.timeline import Span, basis, timeline
from flopscope.version import __version__

if TYPE_CHECKING:
    from flopscope.reports import Report

SCHEMA = "https://www.speedscope.app/file-format-schema.json"

_Event = tuple[str, str, str, int]
"""Open ("O") or close ("C"); a frame's name; the kind of its layer, "" of a container; when, in ns."""


@renderer("speedscope")
def render_speedscope(report: Report, options: Options) -> str:
    """Two profiles of the same run: layers in their modules, and layers in their kinds.

    Raises:
        InputError: No latencies were measured.
    """
    del options
    spans = timeline(report)
    runs = {"by module": list(_by_module(report, spans)), "by kind": list(_by_kind(report, spans))}
    frames = dict.fromkeys(event[1:3] for events in runs.values() for event in events)
    numbers = {frame: number for number, frame in enumerate(frames)}
    end = max(span.end for span in spans)
    top: dict[str, Any] = {
        "exporter": f"flopscope@{__version__}",
        "$schema": SCHEMA,
        "name": f"{report.model}. {basis(report)}",
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(name, kind) for name, kind in frames]},
        "profiles": [
            {
                "type": "evented",
                "name": f"{report.model}: a typical run, {how}",
                "unit": "seconds",
                "startValue": 0,
                "endValue": end / 1e9,
                "events": [
                    {"type": sort, "frame": numbers[name, kind], "at": at / 1e9}
                    for sort, name, kind, at in events
                ],
            }
            for how, events in runs.items()
        ],
    }
    return json.dumps(top, allow_nan=False, ensure_ascii=False) + "\n"


def _frame(name: str, kind: str) -> dict[str, str]:
    """A frame; in place of a file, by which speedscope colours, stands the kind of the layer."""
    return {"name": name, "file": kind} if kind else {"name": name}


def _by_module(report: Report, spans: Sequence[Span]) -> Iterator[_Event]:
    for span in spans:
        kind = "" if span.layer is None else report.layers[span.layer].kind
        yield ("O", span.name, kind, span.begin)
        yield from _by_module(report, span.inner)
        yield ("C", span.name, kind, span.end)


def _by_kind(report: Report, spans: Sequence[Span]) -> Iterator[_Event]:
    """Layers one after another, neighbours of one kind in one frame."""
    leaves = [
        (report.layers[span.layer].kind, span)
        for outer in spans
        for span in outer.walk()
        if span.layer is not None
    ]
    for kind, members in groupby(leaves, key=lambda pair: pair[0]):
        group = [span for _, span in members]
        yield ("O", kind, "", group[0].begin)
        for span in group:
            yield ("O", span.name, kind, span.begin)
            yield ("C", span.name, kind, span.end)
        yield ("C", kind, "", group[-1].end)
