"""Report -> verdicts: every rule asked of every measured layer, the strongest finding first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flopscope.diagnosis.cases import Case, cases
from flopscope.diagnosis.registry import RULES, Rule, load_third_parties
from flopscope.records import Verdict

if TYPE_CHECKING:
    from flopscope.reports import Report


def verdicts(report: Report) -> tuple[tuple[Verdict, ...], ...]:
    """The findings of each layer, parallel to `Report.layers`; none where nothing was measured."""
    load_third_parties()
    found: list[tuple[Verdict, ...]] = [()] * len(report.layers)
    for place, case in cases(report):
        found[place] = judged(case)
    return tuple(found)


def with_verdicts(report: Report) -> Report:
    """The same report with the codes of its findings in `Layer.verdicts`, the strongest first."""
    layers = [
        replace(layer, verdicts=tuple([finding.code for finding in findings]))
        for layer, findings in zip(report.layers, verdicts(report), strict=True)
    ]
    return replace(report, layers=tuple(layers))


def judged(case: Case) -> tuple[Verdict, ...]:
    """All findings of one layer; of a void measurement nothing but that it is void."""
    void = "void" in (case.layer.quality, case.quality.word if case.quality else None)
    first = [entry for entry in RULES.values() if not entry.last and (not void or entry.code == "disturbed")]
    found = _asked(first, case)
    if not void:
        explained = frozenset(part for entry, _ in found for part in entry.explains)
        found += _asked([entry for entry in RULES.values() if entry.last], replace(case, explained=explained))
    return tuple([finding for _, finding in sorted(found, key=_strength)])


def _asked(entries: list[Rule], case: Case) -> list[tuple[Rule, Verdict]]:
    answers = [(entry, entry.judge(case)) for entry in entries]
    return [(entry, answer) for entry, answer in answers if answer is not None]


def _strength(found: tuple[Rule, Verdict]) -> tuple[bool, bool, float]:
    """Causes by the seconds they account for, then that it was disturbed, last what takes no time by itself.

    A cause is taken from the undisturbed time, and stands whatever else was lost.
    """
    entry, finding = found
    return (entry.informative, entry.code == "disturbed", -(finding.seconds or 0.0))
