"""Report -> its page: what stands in which section."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from flopscope import pictures
from flopscope.pages import commands, embedded, explained, layers, sheets, summary
from flopscope.pages.documents import document
from flopscope.pages.inking import inked
from flopscope.render.closing import closing, sentences
from flopscope.render.json_text import FORMAT
from flopscope.units import share_text
from flopscope.version import __version__

if TYPE_CHECKING:
    from flopscope.reports import Report

EXPLANATIONS = "flopscope-explanations"
"""The name under which a page carries the explanations that stand in it in short."""


def report_page(report: Report) -> str:
    """One HTML document with the whole report."""
    told = explained.explained(report)
    table = layers.layer_table(report)
    drawn, looks = _drawn(report)
    return document(
        "report.html.j2",
        what="report",
        style=layers.alignment(table) + looks,
        carried=_carried(report, told),
        report=report,
        title=report.model or report.total.type,
        measured=report.total.latency_s is not None,
        badge=summary.badge(report),
        facts=summary.facts(report),
        cards=summary.cards(report),
        drawn=drawn,
        sentences=sentences(report),
        closing=[line.replace("   ", " · ") for line in closing(report)],
        table=table,
        kinds=sorted({layer.kind for layer in report.layers}),
        told=told,
        share=share_text(told.share),
        sums=sheets.sums(report),
        **_won(report, told),
        phases=sheets.phases(report),
        held=sheets.held(report),
        alive=sheets.alive(report),
        conventions=sheets.conventions(report),
        uncosted=sheets.uncosted(report),
        coverage=_coverage(report),
        idle=[layer.path for layer in report.tree if not layer.calls],
        environment=summary.environment(report),
        settings=summary.settings(report),
        roofs=sheets.roofs(report),
        command=commands.reproduced(report),
        version=__version__,
    )


def _carried(report: Report, told: explained.Explained) -> dict[str, str]:
    """The report itself, and the explanations for which there was no room."""
    carried = {FORMAT: embedded.report_text(report)}
    if any(told.texts):
        carried[EXPLANATIONS] = json.dumps(told.texts, ensure_ascii=False)
    return carried


def _drawn(report: Report) -> tuple[dict[str, Markup], str]:
    """The pictures by name, "" where there is nothing to draw, and the rules of their looks."""
    pictured = {
        "icicles": pictures.icicles(report),
        "kinds": pictures.breakdown(report, by="kind"),
        "layers": pictures.breakdown(report, by="layer"),
        "roofline": pictures.roofline(report),
        "memory": pictures.memory(report),
    }
    drawn, looks = inked(pictured)
    return {
        name: Markup(svg) for name, svg in drawn.items()
    }, looks  # texts were escaped where they were drawn


def _won(report: Report, told: explained.Explained) -> dict[str, Any]:
    """What could be won, by layer, by remedy and by finding."""
    why = sheets.explained_whole(report)
    if why is None:
        return {"to_win": None, "advice": [], "found": None}
    return {
        "to_win": sheets.to_win(report, why, told),
        "advice": sheets.advice(why),
        "found": sheets.found(report, why),
    }


def _coverage(report: Report) -> list[tuple[str, str]]:
    known = report.coverage
    shares = [("operator calls", known.ops), ("bytes", known.bytes), ("time", known.time)]
    return [(name, "not measured" if share is None else f"{share_text(share)} %") for name, share in shares]
