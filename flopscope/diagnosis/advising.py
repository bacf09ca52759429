"""Findings and measured alternatives of a layer -> advice: what to try, and what it would win."""

from __future__ import annotations

from collections.abc import Sequence

from flopscope.diagnosis.cases import Case
from flopscope.records import Counterfactual, Fact, Number, Verdict

WORTH_TRYING = 0.05
"""A measured alternative is advised where it takes at least this share less."""

_CODES = {
    "dw-to-pconv": ("dw-to-pconv", "pconv"),
    "pooled-allocator": ("pooled-allocator", "pooled"),
    "threads=1": ("threads=1", "one-thread", "1-thread", "single-thread"),
}
"""A remedy, and the codes under which its counterfactual may stand."""


def advice_for(case: Case, reasons: Sequence[Verdict]) -> tuple[Fact, ...]:
    """Remedies of the findings, and alternatives that compute the same and were measured to be faster.

    A fact's seconds are those to be won, None where nothing says how many; its number "basis" is
    "measured", "estimated" (at most so much, by what the finding accounts for) or "open". What
    was tried and won nothing is not advised.
    """
    advised = []
    taken = set()
    for remedy in dict.fromkeys(finding.remedy for finding in reasons if finding.remedy):
        tried = case.counterfactual(*_codes(remedy))
        if tried is not None:
            taken.add(tried.code)
            if _gain(tried) >= WORTH_TRYING:
                advised.append(_measured(case, remedy, tried))
            continue
        known = [finding.seconds for finding in reasons if finding.remedy == remedy and finding.seconds]
        basis = {"basis": "estimated" if known else "open"}
        advised.append(Fact(remedy, max(known, default=None), basis))
    for found in case.evidence.counterfactuals:
        # Whether pages are faulted in here only this process's faults tell: the alternative runs in another.
        apt = found.same_function and found.code not in ("pooled-allocator", *taken)
        if apt and _gain(found) >= WORTH_TRYING:
            advised.append(_measured(case, found.code, found))
    return tuple(
        sorted(advised, key=lambda fact: (fact.numbers["basis"] != "measured", -(fact.seconds or 0.0)))
    )


def _codes(remedy: str) -> tuple[str, ...]:
    """The codes of the counterfactuals that try a remedy out."""
    return ("aligned-channels",) if remedy.startswith("channels=") else _CODES.get(remedy, (remedy,))


def _gain(found: Counterfactual) -> float:
    """The share of the time that the alternative saves; nothing where its interval does not exclude that."""
    if not found.this_s or (found.high is not None and found.high >= 1):
        return 0.0
    return 1 - found.latency_s / found.this_s


def _measured(case: Case, remedy: str, found: Counterfactual) -> Fact:
    """The seconds that were saved alone, of all calls; and no larger share of what they take in place."""
    saved = (found.this_s - found.latency_s) * max(case.layer.calls, 1)
    saved = min(saved, _gain(found) * case.seconds)
    if remedy == "pooled-allocator":
        saved = min(saved, case.part("allocation"))
    numbers: dict[str, Number] = {
        "basis": "measured",
        "times": None,
        "same_function": int(found.same_function),
    }
    if found.latency_s:
        numbers["times"] = found.this_s / found.latency_s
    return Fact(remedy, saved, numbers)
