"""`why`: of a layer, a container, the whole; by path, label or suffix; from a report that was saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import made_reports
import pytest
from diagnosed import MB, PAIRS, US, made, moving, other

import flopscope
from flopscope.diagnosis import Why, why
from flopscope.errors import InputError
from flopscope.records import Evidence, Fact, Quality
from flopscope.reports import Report

GOOD = {"quality": Quality("good")}


def facts(explained: Why, code: str) -> list[Fact]:
    return [fact for fact in explained.evidence if fact.code == code]


def reordered(**given: Any) -> Report:
    """The layer of the pair for layout-reorder: kernel 40, overhead 20, compute 40 µs; 1/11 of the time."""
    cause = PAIRS["layout-reorder"][0]
    known = {"compute_s": 40 * US, "memory_s": 10 * US, "least_s": 40 * US, **given}
    layer = moving(800_000, flops=4 * 10**6, macs=2 * 10**6)
    return replace(cause, evidence={**cause.evidence, **known}, layer=layer, given=GOOD).report()


# --------------------------------------------------------------------------- one layer


def test_the_summary_sets_the_time_against_both_roofs() -> None:
    summary = why(reordered(), "net.one").summary
    assert (summary.code, summary.seconds) == ("below-both-roofs", pytest.approx(100 * US))
    numbers = summary.numbers
    assert numbers["times_compute"] == pytest.approx(2.5)  # 100 / 40
    assert numbers["times_memory"] == pytest.approx(10)
    assert numbers["latency_share"] == pytest.approx(1 / 11)
    assert numbers["flops_share"] == pytest.approx(4 / 14)  # the other layer has 10 MFLOP
    assert numbers["flops_per_s"] == pytest.approx(4e10)


@pytest.mark.parametrize(
    ("evidence", "code"),
    [({"compute_s": 60 * US}, "near-compute-roof"), ({"memory_s": 60 * US}, "near-bandwidth"),
     ({"compute_s": 59 * US, "memory_s": 59 * US}, "below-both-roofs")],
)  # fmt: skip
def test_near_a_roof_is_said_from_three_fifths(evidence: dict[str, float], code: str) -> None:
    assert why(reordered(**evidence), "net.one").summary.code == code


def test_reasons_are_the_verdicts_and_evidence_what_is_behind_them() -> None:
    explained = why(reordered(hot_s=90 * US, overhead_s=20 * US, backend="Mkldnn", faults=3.0), "net.one")
    assert [verdict.code for verdict in explained.reasons] == ["layout-reorder"]
    codes = [fact.code for fact in explained.evidence]
    assert codes == ["flops-at-roof", "bytes-at-bandwidth", "measured", "hot-replay", "tiny-twin", "backend",
                     "log-step", "log-step", "log-step", "allocator"]  # fmt: skip
    # 800 kB at 80 GB/s are 10 µs; 4 MFLOP at 100 GFLOP/s are 40 µs.
    assert facts(explained, "bytes-at-bandwidth")[0].numbers["bytes_per_s"] == pytest.approx(8e10)
    assert facts(explained, "flops-at-roof")[0].numbers["flops_per_s"] == pytest.approx(1e11)
    assert facts(explained, "allocator")[0].numbers["state"] == "steady"


def test_the_allocator_is_told_where_pages_are_faulted_in() -> None:
    explained = why(PAIRS["page-faults"][0].report(), "net.one")
    assert facts(explained, "allocator")[0].numbers["state"] == "faulting"
    small = why(made("compute 100", evidence={"faults": 0.0}).report(), "net.one")
    assert facts(small, "allocator") == []


def test_advice_is_measured_where_it_can_be_and_else_estimated() -> None:
    estimated = why(reordered(), "net.one").advice
    assert [(fact.code, fact.numbers["basis"]) for fact in estimated] == [("channels-last", "estimated")]
    assert estimated[0].seconds == pytest.approx(40 * US)
    # 30 of 60 µs less; half of the 100 µs in place would be more than was seen to be saved
    measured = why(reordered(counterfactuals=(other("channels-last", 30, 60),)), "net.one").advice
    assert [(fact.code, fact.numbers["basis"]) for fact in measured] == [("channels-last", "measured")]
    assert measured[0].seconds == pytest.approx(30 * US)
    assert measured[0].numbers["times"] == pytest.approx(2)


def test_what_was_tried_and_won_nothing_is_not_advised() -> None:
    unsure = replace(other("channels-last", 50, 60), low=0.6, high=1.1)
    tried = (unsure, other("contiguous", 56, 60), other("one-thread", 58, 60))
    explained = why(reordered(counterfactuals=tried), "net.one")
    # 56 of 60 µs are 6.7 % less, 58 of 60 only 3.3 %; and the ratio 1.1 lies within what was measured.
    assert [fact.code for fact in explained.advice] == ["contiguous"]
    assert explained.counterfactuals == tried


def test_another_allocator_wins_no_more_than_page_faults_cost() -> None:
    tried = {"counterfactuals": (other("pooled-allocator", 20, 100),)}
    quiet = why(reordered(**tried), "net.one")
    assert "pooled-allocator" not in [fact.code for fact in quiet.advice]
    cause = PAIRS["page-faults"][0]
    faulting = why(replace(cause, evidence={**cause.evidence, **tried}).report(), "net.one")
    assert [fact.code for fact in faulting.advice] == ["pooled-allocator"]
    assert faulting.advice[0].seconds == pytest.approx(40 * US)  # 80 µs were won alone, 40 are faults here


def test_another_function_is_compared_and_only_advised_by_a_finding() -> None:
    partial = other("pconv", 30, 60, same=False)
    assert [f.code for f in why(reordered(counterfactuals=(partial,)), "net.one").advice] == ["channels-last"]
    cause = PAIRS["no-gemm"][0]
    evidence = {**cause.evidence, "counterfactuals": (partial,)}
    found = why(replace(cause, evidence=evidence).report(), "net.one").advice
    assert [(fact.code, fact.numbers["same_function"]) for fact in found] == [("dw-to-pconv", 0)]


@pytest.mark.parametrize(
    ("evidence", "layer", "word", "doubts"),
    [
        ({}, {}, "high", ()),
        ({"form": "cheap"}, {}, "medium", ("cheap",)),
        ({"form": "cheap"}, {"samples": 3}, "low", ("cheap", "few-samples")),
        ({"clamped": True}, {}, "low", ("clamped",)),
        ({}, {"quality": "disturbed"}, "medium", ("disturbed",)),
        ({}, {"quality": "brief"}, "medium", ("brief",)),
        ({}, {"quality": "few"}, "medium", ("few-samples",)),
        ({}, {"limit": None}, "low", ("not-taken-apart",)),
    ],
)  # fmt: skip
def test_confidence_follows_a_rule(
    evidence: dict[str, Any], layer: dict[str, Any], word: str, doubts: tuple[str, ...]
) -> None:
    explained = why(made("compute 100", evidence=evidence, layer=layer, given=GOOD).report(), "net.one")
    assert (explained.confidence, explained.doubts) == (word, doubts)


def test_unknown_is_low_confidence() -> None:
    explained = why(PAIRS["unknown"][0].report(), "net.one")
    assert (explained.confidence, explained.doubts) == ("low", ("unknown",))


def test_void_withholds_reasons_and_advice() -> None:
    cause = PAIRS["layout-reorder"][0]
    report = replace(cause, given={"quality": Quality("void", ("busy",))}).report()
    explained = why(report, "net.one")
    assert explained.summary.code == "void"
    assert [verdict.code for verdict in explained.reasons] == ["disturbed"]
    assert (explained.advice, explained.confidence) == ((), "low")
    whole = why(report)
    assert (whole.summary.code, whole.advice, whole.confidence) == ("void", (), "low")
    assert not facts(whole, "recoverable") + facts(whole, "out-of-proportion")


def test_what_was_not_measured_is_named() -> None:
    bare = made_reports.report()
    assert why(bare, "a.dw").not_measured == (
        "roofs", "hot-replays", "page-faults", "waits", "counterfactuals", "cache-misses",
    )  # fmt: skip
    # A log of kernels is missed only where there is a convolution to be logged.
    assert "kernel-log" in why(PAIRS["no-gemm"][0].report(), "net.one").not_measured
    full = reordered(faults=0.0, waits=0.0, counterfactuals=(other("channels-last", 30, 60),))
    assert why(full, "net.one").not_measured == ("cache-misses",)


# --------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("asked", "scope", "path"),
    [
        ("a.dw", "layer", "a.dw"),
        ("dw", "layer", "a.dw"),
        (" a.dw ", "layer", "a.dw"),
        ("a", "container", "a"),
        ("a (ops)", "layer", "a (ops)"),
        ("", "whole", ""),
    ],
)
def test_a_layer_is_found_by_path_label_or_suffix(asked: str, scope: str, path: str) -> None:
    explained = why(made_reports.report(), asked)
    assert (explained.scope, explained.path) == (scope, path)


def test_a_container_is_the_sum_of_what_is_in_it() -> None:
    outside = made_reports.layer("b", "ReLU", "activation", flops=50, latency_s=10e-6)
    inside = (
        made_reports.conv(latency_s=2e-6),
        made_reports.depthwise(latency_s=6e-6),
        made_reports.add(latency_s=2e-6),
    )
    explained = why(made_reports.report(*inside, outside), "a")
    assert explained.layer.latency_s == pytest.approx(10e-6)
    assert explained.layer.flops == 1000  # 600 + 200 + 200
    assert explained.summary.numbers["layers"] == 3
    assert explained.summary.numbers["latency_share"] == pytest.approx(0.5)
    assert not facts(explained, "term")


@pytest.mark.parametrize(
    ("asked", "hint"), [("a.dv", "a.dw"), ("A.DW", "a.dw"), ("nothing-alike", "lists all layers")]
)
def test_an_unknown_name_is_answered_with_near_ones(asked: str, hint: str) -> None:
    with pytest.raises(InputError, match="no layer is called") as raised:
        why(made_reports.report(), asked)
    assert hint in raised.value.hint


def test_an_end_that_several_have_is_refused() -> None:
    two = (made_reports.conv(latency_s=2e-6), replace(made_reports.conv(latency_s=2e-6), path="b.conv"))
    with pytest.raises(InputError, match="the end of 2 names") as raised:
        why(made_reports.report(*two), "conv")
    assert "a.conv or b.conv" in raised.value.hint


def test_without_latencies_there_is_nothing_to_explain() -> None:
    with pytest.raises(InputError, match="no latencies") as raised:
        why(made_reports.report(made_reports.conv()))
    assert "latency" in raised.value.hint


def test_a_layer_that_did_not_run_cannot_be_explained() -> None:
    idle = made_reports.layer("b", "ReLU", "activation", calls=0)
    with pytest.raises(InputError, match="b was not measured"):
        why(made_reports.report(made_reports.conv(latency_s=1e-6), idle), "b")


# --------------------------------------------------------------------------- the whole


def two(**given: Any) -> Report:
    """A dense layer of 100 µs with 9 MFLOP, and a depthwise one of 100 µs with 1 MFLOP."""
    known = {"latency_s": 100e-6, "latency_floor_s": 100e-6}
    dense = made_reports.conv(**known, compute_s=90e-6, kernel_s=10e-6, limit="compute")
    narrow = made_reports.depthwise(
        **known, compute_s=10e-6, kernel_s=60e-6, overhead_s=30e-6, limit="kernel"
    )
    layers = (replace(dense, macs=45 * 10**5, flops=9 * MB), replace(narrow, macs=5 * 10**5, flops=MB))
    cause = PAIRS["no-gemm"][0]
    evidence = (
        Evidence(form="replayed", compute_s=90e-6, memory_s=1e-6, least_s=90e-6),
        Evidence(**{"form": "replayed", "compute_s": 10e-6, "memory_s": 20e-6, "least_s": 20e-6,
                    **cause.evidence}),
    )  # fmt: skip
    return made_reports.report(*layers, **{"evidence": evidence, **GOOD, **given})


def test_the_whole_adds_the_parts_up() -> None:
    explained = why(two())
    layer = explained.layer
    assert (layer.compute_s, layer.kernel_s) == (pytest.approx(100e-6), pytest.approx(70e-6))
    assert (layer.limit, explained.summary.code) == ("compute", "sum")
    assert explained.summary.numbers["limit_share"] == pytest.approx(0.5)
    assert explained.summary.numbers["taken_apart_share"] == pytest.approx(1)


def test_layers_are_out_of_proportion_from_twice_their_share() -> None:
    # depthwise: half of the time, a tenth of the FLOPs; dense: half of the time, nine tenths
    found = facts(why(two()), "out-of-proportion")
    assert [fact.numbers["path"] for fact in found] == ["a.dw"]
    assert found[0].numbers["latency_share"] == pytest.approx(0.5)
    assert found[0].numbers["because"] == "no-gemm"


def test_what_could_be_won_is_ranked_and_bounded_by_the_roofs() -> None:
    found = facts(why(two()), "recoverable")
    assert [fact.numbers["path"] for fact in found] == ["a.dw", "a.conv"]
    assert [fact.seconds for fact in found] == [pytest.approx(80e-6), pytest.approx(10e-6)]


def test_kinds_stand_beside_the_one_with_the_most_macs() -> None:
    kinds = {fact.numbers["kind"]: fact.numbers for fact in facts(why(two()), "kind")}
    narrow = kinds["depthwise_conv"]
    assert (narrow["against"], narrow["because"]) == ("conv", "no-gemm")
    assert narrow["flops_per_s"] == pytest.approx(1e10)  # 1 MFLOP in 100 µs
    assert narrow["against_flops_per_s"] == pytest.approx(9e10)
    assert kinds["conv"]["against"] is None


def test_findings_are_added_up_by_code() -> None:
    report = two()
    both = replace(report, evidence=(replace(report.evidence[1], least_s=None), report.evidence[1]))
    layers = (replace(report.layers[0], kernel_s=50e-6), report.layers[1])
    found = {verdict.code: verdict for verdict in why(replace(both, layers=layers)).reasons}
    assert found["no-gemm"].numbers["layers"] == 2
    assert found["no-gemm"].numbers["latency_s"] == pytest.approx(200e-6)
    assert found["no-gemm"].seconds is None


def test_measured_and_estimated_gains_stay_apart() -> None:
    report = two()
    kernels = PAIRS["layout-reorder"][0].evidence["kernels"]
    tried = replace(report.evidence[1], kernels=kernels, counterfactuals=(other("channels-last", 50, 100),))
    guessed = replace(report.evidence[1], kernels=kernels)
    gains = why(replace(report, evidence=(guessed, tried))).advice
    by_basis = {fact.numbers["basis"]: fact for fact in gains if fact.code == "channels-last"}
    assert by_basis["measured"].seconds == pytest.approx(50e-6)  # half of 100 µs
    assert by_basis["estimated"].seconds == pytest.approx(
        50e-6
    )  # half of the log, of 100 µs without overhead


def test_terms_are_those_of_the_report() -> None:
    assert [fact.numbers["name"] for fact in facts(why(made_reports.report()), "term")] == [
        "layers", "interference",
    ]  # fmt: skip


def test_a_saved_report_is_explained_alike(tmp_path: Path) -> None:
    report = reordered(counterfactuals=(other("channels-last", 30, 60),))
    report.save(tmp_path / "r.json")
    again = flopscope.load(tmp_path / "r.json")
    assert why(again, "net.one") == why(report, "net.one")
    assert why(again) == why(report)
