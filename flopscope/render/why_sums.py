"""Why, of many layers -> sections of its text: terms, kinds, what is out of proportion, what could be won."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flopscope.records import Fact, Verdict
from flopscope.render.findings import TITLES, Figures
from flopscope.render.grid import Grid, lay_out_ruled, printable
from flopscope.render.phrases import as_float, filled, milliseconds
from flopscope.units import milliseconds_text

if TYPE_CHECKING:
    from flopscope.diagnosis import Why

NOTICEABLE = 0.01
"""Kinds below this share of the time are not listed."""


def kinds(why: Why, width: int | None) -> str:
    """A sentence for each kind that takes a notable share of the time."""
    found = [fact for fact in why.evidence if fact.code == "kind"]
    shown = [fact for fact in found if (as_float(fact.numbers.get("latency_share")) or 0.0) >= NOTICEABLE]
    lines = [filled(f"  {_kind(fact)}", width, 4) for fact in shown]
    if len(found) > len(shown):
        lines.append(f"  … {len(found) - len(shown)} more, each below 1 % of the time")
    return "\n".join(["Kinds", *lines]) if found else ""


def _kind(fact: Fact) -> str:
    """Shares and rates beside the kind with the most FLOPs; what the findings say it comes from."""
    its = Figures(fact)
    share = f"{its.share('latency_share')} of the time"
    text = f"{its.text('kind')}: {its.share('flops_share')} of the FLOPs, {share}"
    rates = [its.rate("flops_per_s", "FLOP/s")] if its.known("flops_per_s") else []
    if rates and its.known("against_flops_per_s"):
        rates[0] += f" against {its.rate('against_flops_per_s', 'FLOP/s')} for {its.text('against')}"
    rates += [its.rate("bytes_per_s", "B/s")] if its.known("bytes_per_s") else []
    text += f"; {', '.join(rates)}" if rates else ""
    codes = [TITLES.get(code, code) for code in its.text("because").split()]
    text += f"; because: {'; '.join(codes)}" if codes else ""
    return printable(text)


def out_of_proportion(why: Why) -> str:
    """Layers whose share of the time is at least twice that of the FLOPs."""
    rows = [
        [printable(its.text("path")), milliseconds(fact.seconds), its.share("latency_share"),
         its.share("flops_share"), printable(its.text("because").replace(" ", ", "))]
        for fact in why.evidence
        if fact.code == "out-of-proportion" and (its := Figures(fact))
    ]  # fmt: skip
    heading = "Out of proportion: at least twice the share of the time that they have of the FLOPs"
    sides = ["left", "right", "right", "right", "left"]
    return _table(heading, ["layer", "time", "of time", "of FLOPs", "findings"], sides, rows)


def recoverable(why: Why) -> str:
    """What could be won at most, the largest first."""
    rows = [
        [printable(its.text("path")), its.text("kind"), milliseconds(as_float(fact.numbers.get("latency_s"))),
         milliseconds(as_float(fact.numbers.get("least_s"))), milliseconds(fact.seconds), its.text("limit")]
        for fact in why.evidence
        if fact.code == "recoverable" and (its := Figures(fact))
    ]  # fmt: skip
    heading = "Recoverable at most, by the roofs: a bound, not a forecast"
    names = ["layer", "kind", "takes", "least by roofs", "at most", "limit"]
    return _table(heading, names, ["left", "left", "right", "right", "right", "left"], rows)


def findings(why: Why, width: int | None) -> str:
    """The findings by code; without the column of words where that is too wide."""
    names = ["finding", "what", "layers", "accounts for", "their time", "most in"]
    sides = ["left", "left", "right", "right", "right", "left"]
    rows = [_finding(finding) for finding in why.reasons]
    heading = "Findings: what they account for where that is known; they overlap and do not add up"
    table = _table(heading, names, sides, rows)
    if width is None or max(map(len, table.splitlines()), default=0) <= width:
        return table
    short = [[row[0], *row[2:]] for row in rows]
    return _table(heading, [names[0], *names[2:]], [sides[0], *sides[2:]], short)


def _finding(finding: Verdict) -> list[str]:
    its, seconds = Figures(finding), finding.seconds
    accounts = "-" if seconds is None else milliseconds(seconds)
    time = milliseconds(as_float(finding.numbers.get("latency_s")))
    title = TITLES.get(finding.code, "")
    return [finding.code, title, its.text("layers"), accounts, time, printable(its.text("most"))]


def _table(heading: str, names: Sequence[str], sides: Sequence[str], rows: Sequence[list[str]]) -> str:
    return f"{heading}\n{lay_out_ruled(Grid(names, sides, rows))}" if rows else ""


def terms(why: Why, width: int | None) -> str:
    """The terms that add up to the whole's latency, and that sum."""
    found = [fact for fact in why.evidence if fact.code == "term"]
    if not found:
        return ""
    line = f"whole model {milliseconds(as_float(why.summary.numbers.get('whole_s')))} ="
    for place, fact in enumerate(found):
        sign = " -" if (fact.seconds or 0.0) < 0 else " +" if place else ""
        line += f"{sign} {fact.numbers.get('name')} {milliseconds_text(abs(fact.seconds or 0.0))}"
    undisturbed = milliseconds(why.summary.seconds)
    return filled(
        f"{printable(line)}; the parts above are of the layers' undisturbed {undisturbed}", width, 2
    )
