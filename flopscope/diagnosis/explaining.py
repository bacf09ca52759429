"""Report, a layer's name -> Why: verdict, evidence, reasons, alternatives, advice, and what is not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flopscope.diagnosis import wholes
from flopscope.diagnosis.advising import advice_for
from flopscope.diagnosis.cases import Case, cases, evidence_of
from flopscope.diagnosis.judging import judged, verdicts
from flopscope.diagnosis.places import Place, find
from flopscope.diagnosis.registry import load_third_parties
from flopscope.errors import InputError
from flopscope.records import Counterfactual, Fact, Layer, Machine, Number, Verdict

if TYPE_CHECKING:
    from flopscope.reports import Report

PARTS = ("compute", "kernel", "overhead", "allocation", "memory")
NEAR_ROOF = 0.6
"""From this share of its time by a roof a layer is said to run near that roof."""
KEPT_BUFFER_BYTES = 128 * 1024
"""From this size on glibc's malloc takes a buffer from the system, at first (M_MMAP_THRESHOLD)."""


@dataclass(frozen=True, slots=True)
class Why:
    """Why a layer, a container or the whole model takes what it takes; codes and numbers, no wording.

    Attributes:
        model: The model's address or class.
        scope: "layer", "container" or "whole".
        path: What is explained; "" for the whole.
        layer: Its row; of a container or the whole, the sums.
        summary: The verdict: a code, the undisturbed seconds, shares and ratios.
        reasons: The findings, the strongest first; of several layers, added up by code.
        evidence: Facts behind them.
        counterfactuals: The same layer done otherwise, measured beside it.
        advice: What to try: a remedy, the seconds to be won, and on what basis that is said.
        not_measured: Codes of what nobody measured.
        confidence: "high", "medium" or "low".
        doubts: Codes of what lowers it.
        machine: Name of the machine and threads whose roofs are meant.
    """

    model: str
    scope: str
    path: str
    layer: Layer
    summary: Fact
    reasons: tuple[Verdict, ...]
    evidence: tuple[Fact, ...]
    counterfactuals: tuple[Counterfactual, ...]
    advice: tuple[Fact, ...]
    not_measured: tuple[str, ...]
    confidence: str
    doubts: tuple[str, ...] = ()
    machine: str = ""

    @property
    def text(self) -> str:
        """The explanation in words."""
        from flopscope.render.why import why_text

        return why_text(self)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        from flopscope.render.why_documents import why_html

        return why_html(self)

    def __repr__(self) -> str:
        name, limit = self.path or "the whole", self.layer.limit or "not taken apart"
        codes = ", ".join(finding.code for finding in self.reasons[:3]) or "no finding"
        return f"<Why of {name!r} in {self.model!r}: {limit}; {codes}; confidence {self.confidence}>"


def why(report: Report, path: str = "") -> Why:
    """Explain a layer, a container, or with "" the whole model.

    Args:
        report: A report with latencies, just made or saved.
        path: A layer's path, its label ("block (ops)"), a container's path, or an end that only one has.

    Raises:
        InputError: No layer is called so, or nothing was measured.
    """
    if all(layer.latency_s is None for layer in report.layers):
        raise InputError(
            f"the report of {report.model} holds no latencies, and why explains measured times",
            hint="profile the model with latency: without --no-latency, or latency=True",
        )
    place = find(report, path)
    if place.scope == "layer":
        return _of_layer(report, place)
    return _of_several(report, place)


def _of_layer(report: Report, place: Place) -> Why:
    load_third_parties()
    case = next((case for index, case in cases(report) if index == place.places[0]), None)
    if case is None:
        raise InputError(
            f"{place.path} was not measured: it did not run", hint="flopscope report shows what ran"
        )
    reasons = judged(case)
    confidence, doubts = _confidence(case, reasons)
    return Why(
        model=report.model,
        scope="layer",
        path=place.path,
        layer=case.layer,
        summary=_summary(case),
        reasons=reasons,
        evidence=_facts(case),
        counterfactuals=case.evidence.counterfactuals,
        advice=() if "void" in doubts else advice_for(case, reasons),
        not_measured=_not_measured(case),
        confidence=confidence,
        doubts=doubts,
        machine=_machine_name(report),
    )


def _of_several(report: Report, place: Place) -> Why:
    found = verdicts(report)
    part = wholes.part_of(report, place.places)
    confidence, doubts = wholes.confidence(report, place.places, found)
    return Why(
        model=report.model,
        scope=place.scope,
        path=place.path,
        layer=part,
        summary=wholes.summary(report, place.places, part),
        reasons=wholes.findings(report, place.places, found),
        evidence=wholes.facts(report, place.places, found),
        counterfactuals=(),
        advice=() if "void" in doubts else wholes.advice(report, place.places),
        not_measured=wholes.not_measured([evidence_of(report, index) for index in place.places], report),
        confidence=confidence,
        doubts=doubts,
        machine=_machine_name(report),
    )


def _summary(case: Case) -> Fact:
    """How the time stands to what FLOPs and bytes take at the roofs."""
    layer, evidence, seconds = case.layer, case.evidence, case.seconds
    compute, memory = evidence.compute_s, evidence.memory_s
    numbers: dict[str, Number] = {
        "latency_s": layer.latency_s,
        "latency_share": case.whole_share,
        "flops_share": layer.flops / case.total.flops if case.total.flops else None,
        "flops_per_s": layer.flops_per_s if layer.flops else None,
        "bytes_per_s": layer.bytes_per_s,
        "times_compute": seconds / compute if compute else None,
        "times_memory": seconds / memory if memory else None,
        "limit": layer.limit,
        "limit_share": case.share(case.part(layer.limit)) if layer.limit else None,
        "headroom": layer.headroom,
    }
    return Fact(_verdict(case), seconds, numbers)


def _verdict(case: Case) -> str:
    if "void" in (case.layer.quality, case.quality.word if case.quality else None):
        return "void"
    if case.layer.limit is None:
        return "not-taken-apart"
    if case.share(case.evidence.compute_s) >= NEAR_ROOF:
        return "near-compute-roof"
    return "near-bandwidth" if case.share(case.evidence.memory_s) >= NEAR_ROOF else "below-both-roofs"


def _facts(case: Case) -> tuple[Fact, ...]:
    layer, evidence, machine = case.layer, case.evidence, case.machine
    facts = [
        Fact("flops-at-roof", evidence.compute_s,
             {"flops": case.flops, "nominal_flops": layer.flops, "dtype": layer.dtype,
              "flops_per_s": machine.peak(layer.dtype) if machine else None}),
        Fact("bytes-at-bandwidth", evidence.memory_s,
             {"nbytes": case.nbytes, "working_set_bytes": case.working_set_bytes,
              "bytes_per_s": machine.bytes_per_s(case.working_set_bytes) if machine else None}),
        Fact("measured", case.seconds,
             {"latency_s": layer.latency_s, "low_s": layer.latency_low_s, "high_s": layer.latency_high_s,
              "samples": layer.samples, "calls": layer.calls, "form": evidence.form,
              "flops_per_s": layer.flops_per_s if layer.flops else None, "bytes_per_s": layer.bytes_per_s}),
    ]  # fmt: skip
    if evidence.hot_s is not None:
        facts.append(Fact("hot-replay", evidence.hot_s))
    if evidence.overhead_s is not None:
        facts.append(Fact("tiny-twin", evidence.overhead_s, {"op_calls": evidence.op_calls}))
    if evidence.backend:
        facts.append(Fact("backend", None, {"backend": evidence.backend}))
    for step in evidence.kernels[:12]:
        named: dict[str, Number] = {"primitive": step.primitive, "implementation": step.implementation}
        named |= {"operand": step.operand, "layout": step.layout, "nbytes": step.nbytes}
        facts.append(Fact("log-step", step.latency_s, named))
    return (*facts, *_allocator(case))


def _allocator(case: Case) -> list[Fact]:
    """The state of the allocator where it matters: pages were faulted in, or buffers are large enough."""
    faults, allocator = case.evidence.faults, case.environment.allocator
    buffer = case.layer.bytes_written // max(case.layer.calls, 1)
    if faults is None or (buffer < KEPT_BUFFER_BYTES and case.share(case.layer.allocation_s) < 0.05):
        return []
    state = "faulting" if case.share(case.layer.allocation_s) >= 0.05 else "steady"
    numbers: dict[str, Number] = {"allocator": allocator, "state": state, "faults": faults}
    return [Fact("allocator", case.layer.allocation_s, numbers)]


def _not_measured(case: Case) -> tuple[str, ...]:
    missing = [] if case.machine else ["roofs"]
    missing += wholes.not_measured([case.evidence], None)
    logged = case.evidence.convolution is not None
    return tuple([name for name in missing if logged or name != "kernel-log"])


def _confidence(case: Case, reasons: tuple[Verdict, ...]) -> tuple[str, tuple[str, ...]]:
    """Low where it is void, not taken apart, cut to fit, unknown, or doubtful twice; without a doubt high."""
    codes = {finding.code for finding in reasons}
    word = (case.layer.quality, case.quality.word if case.quality else None)
    machine = case.machine
    doubts = {
        "void": "void" in word,
        "not-taken-apart": case.layer.limit is None or case.evidence.form == "none",
        "clamped": case.evidence.clamped,
        "unknown": "unknown" in codes,
        "disturbed": "disturbed" in codes and "void" not in word,
        "cheap": case.evidence.form == "cheap",
        "roofs-unsure": machine is not None and (machine.form != "measured" or machine.quality != "good"),
        "few-samples": (case.layer.samples or 0) < 8 or case.layer.quality == "few",
        "brief": case.layer.quality == "brief",
    }
    held = tuple(name for name, so in doubts.items() if so)
    if {"void", "not-taken-apart", "clamped", "unknown"} & set(held) or len(held) > 1:
        return "low", held
    return ("medium" if held else "high"), held


def _machine_name(report: Report) -> str:
    machine: Machine | None = report.machine
    threads = report.settings.threads or report.environment.threads
    name = machine.name if machine and machine.name else report.environment.cpu
    return f"{name}, {threads} thread{'s' if threads != 1 else ''}"
