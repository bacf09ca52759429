"""Why, of many layers -> sections of its text: summary, terms, kinds, what stands out, what could be won."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flopscope.diagnosis.wholes import NOTICEABLE
from flopscope.records import Fact, Verdict
from flopscope.render.findings import TITLES, Figures
from flopscope.render.phrases import as_float, filled, milliseconds
from flopscope.render.why_lines import Table
from flopscope.units import giga_text, milliseconds_text, share_text

if TYPE_CHECKING:
    from flopscope.diagnosis import Why

_LISTED = 10
"""So many layers are listed at most, by whoever lists them."""
LEAST = 0.005
"""What could be won below this share of the time is not listed."""
SHOWN = 8
"""Rows of a table; the others are counted."""


def where(why: Why, width: int | None) -> str:
    """The kinds that take most, and what the roofs leave to be won: two lines of the summary."""
    most = [Figures(fact) for fact in _facts(why, "kind")[:3]]
    named = [
        f"{its.text('kind')} {its.share('latency_share')} (FLOPs: {its.share('flops_share')})" for its in most
    ]
    lines = [f"Where    of the whole model's time {', '.join(named)}"] if named else []
    lines += _to_win(why)
    return "\n".join(filled(line, width, 9) for line in lines)


def _to_win(why: Why) -> list[str]:
    """The sum of what could be won in the layers that are listed, called the bound that it is."""
    gains, whole = [fact.seconds or 0.0 for fact in _worth(why)], why.summary.seconds
    if not gains or not whole:
        return []
    count = "the layer" if len(gains) == 1 else f"the {len(gains)} layers"
    return [
        f"To win   at most {milliseconds(sum(gains))} of {milliseconds(whole)} "
        f"({share_text(sum(gains) / whole)} %) in {count} listed under Recoverable, by the roofs: "
        "a bound that nothing reaches, not a forecast"
    ]


def kinds(why: Why) -> Table:
    """Shares and rates of each kind, and the findings that its time comes from."""
    found = _facts(why, "kind")
    shown = [fact for fact in found if (as_float(fact.numbers.get("latency_share")) or 0.0) >= NOTICEABLE]
    names = ("kind", "time", "of time", "of FLOPs", "GFLOP/s", "GB/s", "mostly")
    sides = ("left", "right", "right", "right", "right", "right", "left")
    rest = len(found) - len(shown)
    lines = (f"… {rest} more, each below 1 % of the time",) if rest else ()
    spare = ("mostly", "GB/s", "time", "GFLOP/s")
    heading = "Kinds: shares of the whole model, time as observed, rates by the undisturbed time"
    return Table(heading, names, sides, [_kind(fact) for fact in shown], spare, lines=lines)


def _kind(fact: Fact) -> list[str]:
    its = Figures(fact)
    rates = [as_float(fact.numbers.get(name)) for name in ("flops_per_s", "bytes_per_s")]
    shown = ["-" if not rate else giga_text(rate) for rate in rates]
    shares = its.share("latency_share"), its.share("flops_share")
    return [its.text("kind"), milliseconds(fact.seconds), *shares, *shown, _codes(its)]


def out_of_proportion(why: Why) -> Table:
    """Layers whose share of the time is at least twice that of the FLOPs."""
    found = _facts(why, "out-of-proportion")
    rows = [
        [its.text("path"), milliseconds(fact.seconds), its.share("latency_share"), its.share("flops_share"),
         _codes(its)]
        for fact in found
        if (its := Figures(fact))
    ]  # fmt: skip
    heading = (
        f"Out of proportion: at least twice the share of the time that they have of the FLOPs{_cut(rows)}"
    )
    names, sides = ("layer", "time", "of time", "of FLOPs", "findings"), ("left", *3 * ["right"], "left")
    return Table(heading, names, sides, rows, ("findings", "time"))


def recoverable(why: Why) -> Table:
    """What could be won at most, the largest first."""
    rows = [
        [its.text("path"), its.text("kind"), milliseconds(as_float(fact.numbers.get("latency_s"))),
         milliseconds(as_float(fact.numbers.get("least_s")) or None).replace("?", "-"),
         milliseconds(fact.seconds), its.text("limit")]
        for fact in _worth(why)
        if (its := Figures(fact))
    ]  # fmt: skip
    rest = len(_facts(why, "recoverable")) - len(rows)
    lines = (f"… {rest} more, each below {share_text(LEAST)} % of the time",) if rest else ()
    heading = f"Recoverable at most, by the roofs: a bound, not a forecast{_cut(rows)}"
    names = ("layer", "kind", "takes", "least by roofs", "at most", "limit")
    sides = ("left", "left", "right", "right", "right", "left")
    spare = ("kind", "limit", "least by roofs")
    return Table(heading, names, sides, rows, spare, lines=lines)


def findings(why: Why) -> Table:
    """The findings by code, what they account for, and where most of it is."""
    names = ("finding", "what", "layers", "accounts for", "their time", "most in")
    sides = ("left", "left", "right", "right", "right", "left")
    rows = [_finding(finding) for finding in why.reasons]
    heading = "Findings: what they account for where that is known; they overlap and do not add up"
    spare, hidden = ("what", "most in", "their time"), max(0, len(rows) - SHOWN)
    return Table(heading, names, sides, rows[:SHOWN], spare, cut_front=False, hidden=hidden)


def terms(why: Why, width: int | None) -> str:
    """The terms that add up to the whole's latency, and that sum."""
    found = _facts(why, "term")
    if not found:
        return ""
    line = f"whole model {milliseconds(as_float(why.summary.numbers.get('whole_s')))} ="
    for place, fact in enumerate(found):
        seconds = fact.seconds or 0.0
        sign = " -" if seconds < 0 else " +" if place else ""
        line += f"{sign} {fact.numbers.get('name')} {milliseconds_text(abs(seconds)) if seconds else '0'}"
    text = f"Sum      {line}; the parts are of the layers' undisturbed {milliseconds(why.summary.seconds)}"
    return filled(text, width, 9)


def _worth(why: Why) -> list[Fact]:
    """Layers of which something notable could be won."""
    whole = why.summary.seconds or 0.0
    return [fact for fact in _facts(why, "recoverable") if (fact.seconds or 0.0) >= LEAST * whole]


def _facts(why: Why, code: str) -> list[Fact]:
    return [fact for fact in why.evidence if fact.code == code]


def _cut(rows: Sequence[object]) -> str:
    return f" (the {len(rows)} largest)" if len(rows) >= _LISTED else ""


def _codes(its: Figures) -> str:
    """The findings besides "disturbed", which the head of the text tells of."""
    codes = its.text("because").split() if its.known("because") else []
    return ", ".join(code for code in codes if code != "disturbed") or "-"


def _finding(finding: Verdict) -> list[str]:
    its, seconds = Figures(finding), finding.seconds
    accounts = milliseconds(seconds) if seconds else "-"
    time = milliseconds(as_float(finding.numbers.get("latency_s")))
    return [finding.code, TITLES.get(finding.code, ""), its.text("layers"), accounts, time, its.text("most")]
