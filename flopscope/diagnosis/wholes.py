"""Many layers -> the facts about them together: sums, kinds, what is out of proportion, what could be won."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flopscope.diagnosis.advising import advice_for
from flopscope.diagnosis.cases import cases, evidence_of, seconds_of
from flopscope.diagnosis.judging import judged
from flopscope.diagnosis.registry import RULES
from flopscope.records import Evidence, Fact, Layer, Number, Verdict

if TYPE_CHECKING:
    from flopscope.reports import Report

Findings = Sequence[Sequence[Verdict]]

OUT_OF_PROPORTION = 2.0
"""A layer is out of proportion where its share of the time is this many times its share of the FLOPs."""
NOTICEABLE = 0.01
"""What takes less than this share of the time is neither marked nor listed: nothing would be won there."""
MOST = 10
_PARTS = ("compute_s", "kernel_s", "overhead_s", "allocation_s", "memory_s")
_COUNTS = ("calls", "params", "param_bytes", "macs", "flops", "bytes_read", "bytes_written")


def part_of(report: Report, places: Sequence[int]) -> Layer:
    """One row with the sums of these layers, and the largest of the five parts as its limit."""
    layers = [report.layers[place] for place in places]
    known: dict[str, Any] = {name: sum(getattr(layer, name) for layer in layers) for name in _COUNTS}
    known["latency_s"] = sum(layer.latency_s or 0.0 for layer in layers)
    known["latency_floor_s"] = sum(seconds_of(layer) for layer in layers)
    if any(layer.limit is not None for layer in layers):
        known |= {name: sum(getattr(layer, name) or 0.0 for layer in layers) for name in _PARTS}
        known["limit"] = max(_PARTS, key=lambda name: float(known[name])).removesuffix("_s")
    word = report.quality.word if report.quality else None
    blank = replace(report.total, detail="", ops=(), samples=None, verdicts=(), quality=word)
    return replace(blank, latency_low_s=None, latency_high_s=None, headroom=None, **known)


def summary(report: Report, places: Sequence[int], part: Layer) -> Fact:
    """Shares of the whole, rates, and the part that takes most."""
    whole_s, floor = _whole_s(report), seconds_of(part)
    void = report.quality is not None and report.quality.word == "void"
    limit = getattr(part, f"{part.limit}_s") if part.limit else None
    apart = sum(getattr(part, name) or 0.0 for name in _PARTS)
    numbers: dict[str, Number] = {
        "layers": sum(report.layers[place].latency_s is not None for place in places),
        "whole_s": report.total.latency_s,
        "latency_s": part.latency_s,
        "latency_share": (part.latency_s or 0.0) / whole_s if whole_s else None,
        "flops_share": part.flops / report.total.flops if report.total.flops else None,
        "flops_per_s": part.flops / floor if part.flops and floor else None,
        "bytes_per_s": (part.bytes_read + part.bytes_written) / floor if floor else None,
        "limit": part.limit,
        "limit_share": limit / apart if limit is not None and apart else None,
        "taken_apart_share": apart / floor if floor else None,
    }
    return Fact("void" if void else "sum" if part.limit else "not-taken-apart", floor, numbers)


def findings(report: Report, places: Sequence[int], found: Findings) -> tuple[Verdict, ...]:
    """The findings of these layers added up by code; by known seconds, then by the layers' own time."""
    groups: dict[str, list[tuple[Layer, Verdict]]] = {}
    for place in places:
        for verdict in found[place]:
            groups.setdefault(verdict.code, []).append((report.layers[place], verdict))
    added = []
    for code, members in groups.items():
        known = [verdict.seconds for _, verdict in members if verdict.seconds is not None]
        most = max(members, key=lambda pair: (pair[1].seconds or 0.0, seconds_of(pair[0])))
        latency = sum(seconds_of(layer) for layer, _ in members)
        numbers: dict[str, Number] = {"layers": len(members), "latency_s": latency, "most": most[0].label}
        added.append(Verdict(code, sum(known) if known else None, numbers, most[1].remedy))
    return tuple(
        sorted(added, key=lambda one: (-(one.seconds or 0.0), -float(one.numbers["latency_s"] or 0)))
    )


def facts(report: Report, places: Sequence[int], found: Findings) -> tuple[Fact, ...]:
    """Kinds, layers out of proportion, what could be won (not of a void report), terms of the whole."""
    terms = []
    if len(places) == len(report.layers):
        terms = [Fact("term", row.latency_s, {"name": row.name}) for row in report.rows_of_the_whole]
    if report.quality is not None and report.quality.word == "void":
        return (*_kinds(report, places, found), *terms)
    return (
        *_kinds(report, places, found),
        *_out_of_proportion(report, places, found),
        *_recoverable(report, places),
        *terms,
    )


def advice(report: Report, places: Sequence[int]) -> tuple[Fact, ...]:
    """What the layers' advice comes to by remedy: measured and estimated gains apart, the largest first."""
    sums: dict[tuple[str, str], list[float]] = {}
    chosen = set(places)
    for place, case in cases(report):
        if place in chosen:
            for fact in advice_for(case, judged(case)):
                if fact.seconds is not None:
                    key = (fact.code, str(fact.numbers["basis"]))
                    sums.setdefault(key, []).append(fact.seconds)
    gains = [
        Fact(remedy, sum(seconds), {"basis": basis, "layers": len(seconds)})
        for (remedy, basis), seconds in sums.items()
    ]
    return tuple(sorted(gains, key=lambda fact: -(fact.seconds or 0.0)))


def not_measured(evidence: Iterable[Evidence], report: Report | None) -> tuple[str, ...]:
    """Codes of what nobody measured of any of these layers."""
    held = list(evidence)
    missing = ["roofs"] if report is not None and report.machine is None else []
    lacking = {
        "hot-replays": all(item.form != "replayed" for item in held),
        "page-faults": all(item.faults is None for item in held),
        "waits": all(item.waits is None for item in held),
        "counterfactuals": not any(item.counterfactuals for item in held),
        "kernel-log": not any(item.kernels for item in held),
    }
    return (*missing, *(name for name, so in lacking.items() if so), "cache-misses")


def confidence(report: Report, places: Sequence[int], found: Findings) -> tuple[str, tuple[str, ...]]:
    """By the share of the time that is doubtful: half is low, a fifth medium; a void report is low."""
    whole = sum(seconds_of(report.layers[place]) for place in places) or 1.0
    shares: dict[str, float] = {"not-taken-apart": 0.0, "clamped": 0.0, "unknown": 0.0, "cheap": 0.0}
    for place in places:
        share, evidence = seconds_of(report.layers[place]) / whole, evidence_of(report, place)
        shares["not-taken-apart"] += share * (report.layers[place].limit is None)
        shares["clamped"] += share * evidence.clamped
        shares["unknown"] += share * any(finding.code == "unknown" for finding in found[place])
        shares["cheap"] += share * (evidence.form == "cheap")
    word = report.quality.word if report.quality else "good"
    doubts = [name for name, share in shares.items() if share >= 0.2]
    if word != "good":
        doubts.insert(0, word)
    low = word == "void" or any(share >= 0.5 for name, share in shares.items() if name != "cheap")
    return ("low" if low else "medium" if doubts else "high"), tuple(doubts)


def _whole_s(report: Report) -> float:
    return sum(layer.latency_s or 0.0 for layer in report.layers)


def _kinds(report: Report, places: Sequence[int], found: Findings) -> list[Fact]:
    """Each kind's shares and rates beside those of the kind with the most MACs, and its main findings."""
    groups: dict[str, list[int]] = {}
    for place in places:
        if report.layers[place].latency_s is not None:
            groups.setdefault(report.layers[place].kind, []).append(place)
    sums = {kind: part_of(report, members) for kind, members in groups.items()}
    ranked = sorted(sums, key=lambda kind: -(sums[kind].latency_s or 0.0))
    return [_kind(report, kind, sums, findings(report, groups[kind], found)) for kind in ranked]


def _kind(report: Report, kind: str, sums: dict[str, Layer], found: Sequence[Verdict]) -> Fact:
    part, whole_s = sums[kind], _whole_s(report)
    most: str | None = max(sums, key=lambda name: sums[name].macs)
    most = most if most != kind and most and sums[most].macs else None
    costly = [
        verdict.code for verdict in found if verdict.code in RULES and not RULES[verdict.code].informative
    ]
    numbers: dict[str, Number] = {
        "kind": kind,
        "flops_share": part.flops / report.total.flops if report.total.flops else None,
        "latency_share": (part.latency_s or 0.0) / whole_s if whole_s else None,
        "nbytes": part.bytes_read + part.bytes_written,
        "flops_per_s": part.flops_per_s if part.macs else None,
        "bytes_per_s": part.bytes_per_s,
        "against": most,
        "against_flops_per_s": sums[most].flops_per_s if most else None,
        "limit": part.limit,
        "because": " ".join(costly[:2]),
    }
    return Fact("kind", part.latency_s, numbers)


def _out_of_proportion(report: Report, places: Sequence[int], found: Findings) -> list[Fact]:
    """Layers whose share of the time is at least twice that of the FLOPs, and 1 %: the costliest first."""
    whole_s, flops = _whole_s(report), report.total.flops
    rows = []
    for place in places:
        layer = report.layers[place]
        time = (layer.latency_s or 0.0) / whole_s if whole_s else 0.0
        share = layer.flops / flops if flops else 0.0
        if time >= NOTICEABLE and time >= OUT_OF_PROPORTION * share:
            codes = " ".join(verdict.code for verdict in found[place][:2])
            numbers: dict[str, Number] = {"path": layer.label, "kind": layer.kind, "latency_share": time}
            numbers |= {"flops_share": share, "because": codes}
            rows.append(Fact("out-of-proportion", layer.latency_s, numbers))
    return sorted(rows, key=lambda fact: -(fact.seconds or 0.0))[:MOST]


def _recoverable(report: Report, places: Sequence[int]) -> list[Fact]:
    """Floor − least time by the roofs: what could be won at most, where both are known."""
    rows = []
    for place in places:
        layer, evidence = report.layers[place], evidence_of(report, place)
        if layer.latency_s is None or evidence.least_s is None:
            continue
        gain = seconds_of(layer) - evidence.least_s
        if gain > 0:
            numbers: dict[str, Number] = {"path": layer.label, "kind": layer.kind, "limit": layer.limit}
            numbers |= {"latency_s": seconds_of(layer), "least_s": evidence.least_s}
            rows.append(Fact("recoverable", gain, numbers))
    return sorted(rows, key=lambda fact: -(fact.seconds or 0.0))[:MOST]
