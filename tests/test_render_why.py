"""`why` in words: what stands where, honest about rates, whole at any width; and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import made_reports
import pytest
from diagnosed import DEPTHWISE, LOG, PAIRS, US, made, moving, other

from flopscope.diagnosis import Why, why
from flopscope.records import Counterfactual, Quality
from flopscope.render.why import BAR, why_json, why_text


def explained() -> Why:
    """A depthwise layer of 160 µs: compute 40, kernel 70, overhead 30, memory 20."""
    made_up = made(
        "compute 40 kernel 70 overhead 30 memory 20",
        layer=moving(
            1_600_000, kind="depthwise_conv", detail="3x3 64>64 g64", flops=4 * 10**6, macs=2 * 10**6
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
                other("channels-last", 80, 160),
                Counterfactual("dense", "dense 3x3", 1600 * US, 160 * US, 128 * 10**6, 256 * 10**6),
            ),
        },
        given={"quality": Quality("good")},
    )
    return why(made_up.report(), "net.one")


def test_a_layer_from_verdict_to_confidence() -> None:
    text = explained().text
    parts = [
        "net.one   Conv2d 3x3 64>64 g64",
        "Verdict: below both roofs: 4.00x as long as its FLOPs at this machine's peak.",  # 160 / 40
        "kernel takes most of it, 43.8 %.",  # 70 / 160
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
        "docs/findings/layout-reorder.md",
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
        ["measured", "25.0 GFLOP/s, 10.0 GB/s", "0.160 ms"],
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
    assert "what the roofs do not explain takes most of it, 60.0 %." in text


def test_alternatives_stand_beside_what_they_were_measured_with() -> None:
    lines = [" ".join(line.split()) for line in explained().text.splitlines()]
    assert "this layer 2.00 M 4.00 M 0.160 25.0" in lines
    assert "channels-last - - 0.080 - 0.500x the time" in lines
    # 256 / 4 MFLOP, 1600 / 160 µs
    assert "dense 3x3 128 M 256 M 1.600 160 64.0x the FLOPs, 10.0x the time, another function" in lines


def test_gains_are_labelled() -> None:
    assert "measured alone, 0.080 ms less (2.00x as fast)" in explained().text
    estimated = why(PAIRS["layout-reorder"][0].report(), "net.one").text
    assert "estimated, at most 0.040 ms less" in estimated
    opened = why(PAIRS["no-gemm"][0].report(), "net.one").text
    assert "gain not measured" in " ".join(opened.split())


def test_of_a_void_measurement_no_cause_is_given() -> None:
    void = replace(PAIRS["layout-reorder"][0], given={"quality": Quality("void", ("load 9",), "stop it")})
    text = why(void.report(), "net.one").text
    assert "Verdict: void: the measurement does not allow one." in text
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
    assert "Verdict: compute takes most of its time (40.0 %), of the 9.1 % that were taken apart." in text
    assert "conv: 0 % of the FLOPs, 9.1 % of the time; because: tensors are laid out anew" in text
    assert "Out of proportion" in text
    assert "Findings: what they account for" in text
    assert "Try      --channels-last (the memory format): estimated, at most 0.040 ms less in 1 layer" in text


def test_what_could_be_won_is_called_a_bound() -> None:
    cause = PAIRS["low-intensity"][0]
    text = why(cause.report()).text
    assert "Recoverable at most, by the roofs: a bound, not a forecast" in text
    assert "0.050 ms" in text  # 100 µs - max(10, 50)


def test_a_report_of_latencies_alone_is_told_as_such() -> None:
    text = why(made_reports.report()).text
    assert "Verdict: its time was not taken apart." in text
    assert "whole model 0.011 ms = layers 0.010 + interference 0.001" in text
    assert "this machine's roofs" in text
    assert "Parts" not in text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_sentences_keep_to_the_width(width: int) -> None:
    lines = why_text(explained(), width=width).splitlines()
    because = lines[lines.index("Because") : next(k for k, line in enumerate(lines) if "Parts" in line)]
    assert max(map(len, because)) <= width
    assert why_text(explained(), width=None).count("\n") < len(lines)


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
