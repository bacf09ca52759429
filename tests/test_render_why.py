"""`why` in words: what stands where, honest about rates, whole at any width; and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import made_reports
import pytest
from diagnosed import DEPTHWISE, LOG, PAIRS, US, made, moving, other

from flopscope.diagnosis import Why, why
from flopscope.records import Counterfactual, Fact, Quality, Verdict
from flopscope.render.phrases import filled
from flopscope.render.why import BAR, why_json, why_text
from flopscope.render.why_lines import Table, pieces, table_text


def explained() -> Why:
    """A depthwise layer of 160 µs: compute 40, kernel 70, overhead 30, memory 20."""
    made_up = made(
        "compute 40 kernel 70 overhead 30 memory 20",
        layer=moving(
            1_600_000,
            kind="depthwise_conv",
            detail="3x3 64>64 g64",
            flops=4 * 10**6,
            macs=2 * 10**6,
            latency_low_s=150 * US,
            latency_high_s=180 * US,
        ),
        evidence={
            "convolution": DEPTHWISE,
            "kernels": LOG,
            "compute_s": 40 * US,
            "memory_s": 20 * US,
            "least_s": 40 * US,
            "faults": 0.0,
            "waits": 0.0,
            "counterfactuals": (
                replace(
                    other("channels-last", 80, 160), low=0.45, high=0.56, note="alone; converting left out"
                ),
                Counterfactual(
                    "dense", "dense 3x3", 1700 * US, 170 * US, 128 * 10**6, 256 * 10**6, note="alone"
                ),
            ),
        },
        given={"quality": Quality("good")},
    )
    return why(made_up.report(), "net.one")


def test_a_layer_from_verdict_to_confidence() -> None:
    text = explained().text
    parts = [
        "net.one   Conv2d 3x3 64>64 g64",
        "0.160 ms (0.150-0.180) undisturbed   0.160 ms observed",
        "Verdict  below both roofs: 4.00x as long as its FLOPs at this machine's peak.",  # 160 / 40
        "kernel, 43.8 %.",  # 70 / 160
        "its FLOPs at the compute roof",
        "its bytes at the bandwidth",
        "measured",
        "Because",
        "1. layout-reorder",
        "2. no-gemm",
        "Parts    [",
        "Memory   glibc",
        "Compared on this machine",
        "Try      --channels-last",
        "Not measured: cache misses",
        "Confidence: high.",
        "More in docs/findings/: layout-reorder.md",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_flops_bytes_and_time_stand_side_by_side() -> None:
    lines = explained().text.splitlines()
    roofs = [line.split("  ") for line in lines if line.startswith(("  its ", "  measured"))]
    shown = [[cell.strip() for cell in line if cell.strip()] for line in roofs]
    assert shown == [
        ["its FLOPs at the compute roof", "4.00 MFLOP / 100 GFLOP/s", "0.040 ms"],
        ["its bytes at the bandwidth", "1.60 MB / 80.0 GB/s", "0.020 ms"],
        ["measured, undisturbed", "25.0 GFLOP/s, 10.0 GB/s", "0.160 ms"],
    ]


def test_low_rates_are_never_called_slow() -> None:
    for cause, control in PAIRS.values():
        for case in (cause, control):
            for path in ("net.one", ""):
                text = why(case.report(), path).text.lower().replace("slow2d", "").replace("slow-dtype", "")
                assert "slow" not in text


def test_the_bar_is_the_parts() -> None:
    text = why_text(explained(), blocks=False)
    bar = text[text.index("Parts    [") + 10 :].partition("]")[0]
    # 40, 70, 30, 20 of 160 in 50 characters: 12.5, 21.875, 9.375, 6.25 -> 12 + 21 + 9 + 6 = 48, and the two
    # largest remainders, .875 and .5, get one more.
    assert bar == "C" * 13 + "K" * 22 + "O" * 9 + "M" * 6
    assert len(bar) == BAR
    assert "K kernel 0.070 ms (43.8 %)" in text
    assert "█" * 13 + "▓" * 22 + "▒" * 9 + "·" * 6 in explained().text


def test_without_replays_the_kernel_part_is_called_unexplained() -> None:
    cheap = made("compute 40 kernel 60", evidence={"form": "cheap"})
    text = why(cheap.report(), "net.one").text
    assert "unexplained 0.060 ms (60.0 %)" in text
    assert "▓ unexplained" in text
    assert "kernel 0.060" not in text
    assert "The largest part is what the roofs do not explain, 60.0 %." in " ".join(text.split())
    assert "memory 0 ms (0 %)" in text  # not 0.000 ms


def test_alternatives_stand_beside_what_they_were_measured_with() -> None:
    lines = [" ".join(line.split()) for line in why_text(explained(), width=None).splitlines()]
    assert "alternative MACs FLOPs GFLOP/s ms this ms FLOPs x time x see" in lines
    # 4 MFLOP in 170 and in 160 µs: the range of both pairs.
    assert "this layer 2.00 M 4.00 M 23.5-25.0 0.160-0.170" in lines
    assert "channels-last - - - 0.080 0.160 - 0.50 (0.45-0.56) a" in lines
    # 256 / 4 MFLOP, 1700 / 170 µs; 256 MFLOP in 1700 µs are 150.6 GFLOP/s
    assert "dense 3x3 128 M 256 M 151 1.700 0.170 64.0 10.0 b" in lines
    notes = lines[lines.index("a converting left out") :]
    assert notes[:3] == ["a converting left out", "b computes another function", "All: alone"]


def test_the_counts_are_those_of_what_was_measured() -> None:
    """Of a layer of several operators the costliest is, and ratios are to that one."""
    found = Counterfactual(
        "dense", "dense", 30 * US, 15 * US, 6 * 10**6, 12 * 10**6, this_macs=10**6, this_flops=2 * 10**6,
        subject="aten::linear -> 8x8",
    )  # fmt: skip
    text = " ".join(why_text(replace(explained(), counterfactuals=(found,)), width=140).split())
    assert "this is the layer's costliest operator, aten::linear -> 8x8" in text
    assert "this operator 1.00 M 2.00 M 133 0.015" in text  # 2 MFLOP in 15 µs
    assert "dense 6.00 M 12.0 M 400 0.030 0.015 6.00 2.00" in text


def test_gains_are_labelled() -> None:
    assert "measured, alone: 0.080 ms less (2.00x as fast)" in explained().text
    estimated = why(PAIRS["layout-reorder"][0].report(), "net.one").text
    assert "estimated: at most 0.040 ms less" in estimated
    opened = why(PAIRS["no-gemm"][0].report(), "net.one").text
    assert "gain not measured" in " ".join(opened.split())


def gain(remedy: str, microseconds: float | None, basis: str, layers: int) -> Fact:
    seconds = None if microseconds is None else microseconds * US
    return Fact(remedy, seconds, {"basis": basis, "layers": layers})


def test_remedies_are_grouped_and_sums_are_called_sums() -> None:
    facts = (
        gain("fold-bn", 300, "estimated", 9),
        gain("channels-last", 200, "estimated", 4),
        gain("channels-last", 100, "measured", 2),
        gain("prepack", 1, "estimated", 1),  # below half a percent of the 1100 µs of all layers
        gain("batch=N", 50, "estimated", 3),
        gain("compile", 40, "estimated", 3),
    )
    whole = replace(why(PAIRS["no-gemm"][0].report()), advice=facts)
    text = why_text(whole, width=None)
    tried = text[text.index("Try ") :].splitlines()
    assert tried[0].split(maxsplit=1)[1] == (
        "--channels-last (the memory format): measured, alone: 0.100 ms less in 2 layers, 9.1 % of the time; "
        "estimated: at most 0.200 ms less in 4 layers, 18.2 % of the time"
    )
    assert "fold the batch norm" in tried[1]  # measured ones come first, though they are less
    assert "at most 0.050 ms less per item in 3 layers" in tried[2]
    assert tried[3].strip() == "… 2 more (--json has all)"
    assert tried[4].strip().startswith("Gains are those of single layers, added up: the whole was not run so")
    assert tried[4].endswith("Measured:  flopscope whatif MODEL channels-last fold-bn")


def test_of_a_void_measurement_no_cause_is_given() -> None:
    void = replace(PAIRS["layout-reorder"][0], given={"quality": Quality("void", ("load 9",), "stop it")})
    text = why(void.report(), "net.one").text
    assert "Verdict  void: the measurement does not allow one." in text
    assert "(load 9). stop it" in text
    assert "layout-reorder" not in text
    assert "Try" not in text


def test_a_layer_near_its_roof_needs_no_cause() -> None:
    near = made("compute 95 kernel 5", evidence={"compute_s": 95 * US, "least_s": 95 * US})
    text = why(near.report(), "net.one").text
    assert "near the compute roof: 1.05x as long as its FLOPs" in text
    assert "this is what its work takes here." in text


def test_the_whole_in_sections() -> None:
    report = PAIRS["layout-reorder"][0].report()
    report = replace(report, layers=(replace(report.layers[0], kind="linear"), report.layers[1]))
    text = why(report).text
    joined = " ".join(text.split())
    assert (
        "Verdict the largest part of its time is compute, 40.0 % of the 9.1 % that were taken apart."
        in joined
    )
    # 1000 and 100 of 1100 µs
    assert "Where of the whole model's time linear 90.9 % (FLOPs: 100 %), conv 9.1 % (FLOPs: 0 %)" in joined
    assert "conv 0.100 ms 9.1 % 0 % - - layout-reorder" in joined
    assert "Out of proportion" in text
    assert "Findings: what they account for" in text
    assert (
        "--channels-last (the memory format): estimated: at most 0.040 ms less in 1 layer, 3.6 % of" in joined
    )
    sections = ["Verdict", "Parts", "Where", "Try", "Kinds", "Out of prop", "Findings", "Not measured"]
    places = [text.index(section) for section in sections]
    assert places == sorted(places)  # the summary before the tables


def test_what_could_be_won_is_called_a_bound() -> None:
    cause = PAIRS["low-intensity"][0]
    text = why(cause.report()).text
    assert "Recoverable at most, by the roofs: a bound, not a forecast" in text
    # 100 µs - max(10, 50), of 1100 µs
    assert "To win   at most 0.050 ms of 1.100 ms (4.5 %) in the layer listed under Recoverable" in text
    assert "One layer in full: flopscope why MODEL net.one" in text


def test_long_tables_are_cut_and_say_so() -> None:
    whole = why(PAIRS["no-gemm"][0].report())
    many = tuple(
        Verdict(f"finding-{n}", n * US, {"layers": 1, "latency_s": n * US, "most": "a"}) for n in range(11)
    )
    text = why_text(replace(whole, reasons=many), width=None)
    assert "finding-7 " in text
    assert "finding-8 " not in text
    assert "… 3 more" in text
    little = Fact("recoverable", 1 * US, {"path": "x", "kind": "norm", "latency_s": 1 * US, "least_s": 0.0})
    more = Fact("recoverable", 90 * US, {"path": "y", "kind": "norm", "latency_s": 91 * US, "least_s": 0.0})
    text = why_text(replace(whole, evidence=(more, little)), width=None)
    assert "… 1 more, each below 0.5 % of the time" in text  # 1 of 1100 µs
    assert "0.000 ms" not in text


def test_a_report_of_latencies_alone_is_told_as_such() -> None:
    text = why(made_reports.report()).text
    assert "Verdict  its time was not taken apart." in text
    assert "whole model 0.011 ms = layers 0.010 + interference 0.001" in text
    assert "this machine's roofs" in text
    assert "Parts" not in text


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    explanations = [
        explained(),
        *(why(cause.report(), path) for cause, _ in PAIRS.values() for path in ("net.one", "")),
    ]
    for explanation in explanations:
        lines = why_text(explanation, width=width).splitlines()
        assert max(map(len, lines)) <= width, max(lines, key=len)
    assert why_text(explained(), width=None).count("\n") <= why_text(explained(), width=width).count("\n")


def test_columns_give_way_and_it_is_said() -> None:
    wide, narrow = (why_text(explained(), width=width) for width in (100, 60))
    assert "no room" not in wide
    assert "(no room for MACs, this ms, FLOPs, ms; --json has all)" in narrow
    assert "0.50 (0.45-0.56)" in narrow


def test_labels_are_cut_where_all_else_has_given_way() -> None:
    table = Table("Heading", ("layer", "time"), ("left", "right"), [["a.very.long.path.indeed", "1.000 ms"]])
    assert (
        table_text(table, 24).splitlines()[-1] == "…g.path.indeed  1.000 ms"
    )  # 23 + 2 + 8 - 24 = 9 too many: 14 left
    cut = table_text(replace(table, cut_front=False), 24).splitlines()[-1]
    assert cut == "a.very.long.p…  1.000 ms"


def test_nothing_is_zero_point_zero() -> None:
    whole = why(PAIRS["no-gemm"][0].report())
    nothing = Verdict("disturbed", 0.0, {"layers": 1, "latency_s": 1e-4, "most": "a"})
    sums = (Fact("term", 1.1e-3, {"name": "layers"}), Fact("term", 0.0, {"name": "instrumentation"}))
    text = why_text(replace(whole, reasons=(nothing,), evidence=sums), width=None)
    assert "0.000" not in text
    assert "layers 1.100 + instrumentation 0;" in text


def test_words_stay_whole_on_their_lines() -> None:
    assert pieces(["one two", "three", "", "four"], 16, 2) == "one two   three\n  four"
    assert pieces(["one", "two"], None) == "one   two"
    assert (
        filled("of the time it takes 12.3 % in 4.56 ms", 25, 0) == "of the time it takes\n12.3 % in 4.56 ms"
    )


def test_in_one_line() -> None:
    assert repr(explained()) == (
        "<Why of 'net.one' in 'net.py:Net': kernel; layout-reorder, no-gemm, cache-resident; confidence high>"
    )


def test_names_cannot_paint_the_terminal() -> None:
    cause = PAIRS["page-faults"][0]
    evil = replace(cause, layer={"path": "net.\x1b[31mone"})
    assert "\x1b" not in why(evil.report(), "net.\x1b[31mone").text
    assert "\x1b" not in why(evil.report()).text


def test_json_is_codes_and_numbers() -> None:
    top = json.loads(why_json(explained()))
    assert (top["format"], top["version"], top["scope"]) == ("flopscope-why", 1, "layer")
    assert top["summary"]["code"] == "below-both-roofs"
    assert [item["code"] for item in top["reasons"][:2]] == ["layout-reorder", "no-gemm"]
    assert top["reasons"][1]["numbers"]["dense_uses"] == 576
    assert top["layer"]["kernel_s"] == pytest.approx(70 * US)
    assert top["counterfactuals"][0]["latency_s"] == pytest.approx(80 * US)


def test_every_pair_can_be_told_and_saved() -> None:
    for cause, _ in PAIRS.values():
        for path in ("net.one", "net", ""):
            result = why(cause.report(), path)
            assert result.text == str(result)
            json.loads(why_json(result))
