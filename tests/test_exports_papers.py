"""For papers and trackers: the set-up in words, tables with booktabs, flat metrics."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_reports import add, conv, depthwise, explained, report, roofs

from flopscope.comparison import Comparison, compared
from flopscope.errors import InputError
from flopscope.records import Latency, Phase, Quality, Rewrote, Side
from flopscope.reports import Report


def set_up(made: Report, **other: str) -> str:
    here = replace(made.environment, other={"stop_reason": "steady", **other})
    return replace(made, environment=here).methods_text()


def timed(seconds: float, turns: int = 8) -> Report:
    made = explained()
    total = replace(made.total, latency_s=seconds)
    return replace(made, whole=Latency((seconds,) * turns), total=total)


def two_sides(**given: object) -> Comparison:
    """One takes 10 ms, the other 15, eight times each."""
    sides = [Side("a_1", measured=True), Side("b", measured=True)]
    return compared(sides, [timed(0.010), timed(0.015)], turns=[range(8), range(8)])


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d[\d,.]*\d|\d", text))


# --------------------------------------------------------------------------- methods


def test_counts_alone_say_nothing_of_times() -> None:
    text = report(conv(), depthwise()).methods_text()
    assert text == (
        "net.py:Net (50 parameters, 200 B) was profiled with flopscope 0.1.0 on an input of 1x4x2x2 in"
        " float32. Counted without data, from shapes alone, one forward pass in evaluation mode takes 400"
        " multiply-accumulates (MACs) and 800 FLOPs, where one MAC is two FLOPs and element-wise"
        " operations and reductions are counted too. Its operators, as executed, read 180 B and write 120"
        " B; at most 4.10 kB of activations are alive at once.\n"
    )


def test_what_has_no_price_is_said() -> None:
    text = report(conv(), uncosted={"mylib::foo": 3}).methods_text()
    assert "takes at least 300 multiply-accumulates (MACs) and at least 600 FLOPs" in text
    assert "not in these counts: mylib::foo (3)." in text


def test_a_measured_report_says_where_and_how() -> None:
    text = set_up(explained(), warmup_rounds="6", epochs="5", processes="1", page_faults_per_pass="12")
    _, place, how, roof = text.split("\n\n")
    assert place == (
        "Latencies were measured on Some CPU (2 processors, AVX512, Linux) with 1 thread, PyTorch"
        " 2.14.1, Python 3.11.7 and glibc as allocator, on 2025-01-01. A pass took 12 page faults, in the"
        " median."
    )
    assert "after 6 warm-up passes, in 3 rounds spread over 5 epochs; sampling ended when the medians" in how
    assert "on inputs made with seed 0" in how
    assert "is the median of the bare ones, 0.011 ms." in how
    assert "the whole is the sum of layers 0.010 ms, interference 0.001 ms" in how
    assert how.endswith("the timing is good (no interference seen).")
    assert "processes" not in how
    assert roof == (
        "The roofs of the machine were measured in 3 passes: 100 GFLOP/s in float32, 80.0 GB/s over a"
        " working set of 1.00 MB, 20.0 GB/s over a working set of 256 MB. Latencies were taken apart by"
        " these roofs and by running operators alone (3 of 3 layers).\n"
    )


def test_what_the_report_does_not_hold_is_not_claimed() -> None:
    """No warm-up, no epochs, no reason to stop, no interval, no roofs, no quality: none is mentioned."""
    text = report().methods_text()
    for word in ("warm-up", "epoch", "ended", "percentile", "roof", "page faults", "judge", "is good"):
        assert word not in text
    assert text.count("\n\n") == 2


def test_every_number_is_one_of_the_report() -> None:
    """All but those of definitions: the 10 % and 10th of the interval, one pass, one MAC."""
    made = explained()
    total = replace(made.total, latency_floor_s=9e-6, latency_low_s=8e-6, latency_high_s=12e-6, samples=40)
    text = set_up(replace(made, total=total), warmup_rounds="6")
    known = {"0.1.0", "50", "200", "1x4x2x2", "32", "400", "1,000", "4.10", "380", "220", "2", "512", "1"}
    known |= {"2.14.1", "3.11.7", "2025", "01", "6", "40", "0", "0.011", "0.009", "0.008", "0.012", "10"}
    known |= {"0.010", "0.001", "3", "100", "80.0", "1.00", "20.0", "256", "4"}
    assert numbers(text) <= known
    assert "0.009 ms (0.008 ms to 0.012 ms: the range of the 10th percentiles" in text


def test_a_training_step_has_its_phases() -> None:
    phases = (Phase("forward", 1, 2, 3, 4, 2e-6), Phase("backward", 1, 2, 3, 4, 5e-6))
    made = report(phases=phases, settings=replace(report().settings, train=True))
    text = made.methods_text()
    assert "one training step (forward, backward) takes" in text
    assert "Training steps were timed" in text
    assert "The phases take, each in its median, forward 0.002 ms, backward 0.005 ms." in text


def test_other_conditions_are_named() -> None:
    settings = replace(report().settings, channels_last=True, dtype="bfloat16", device="cuda:0", threads=4)
    text = set_up(report(settings=settings), processes="3")
    assert "in bfloat16 in channels-last memory format" in text
    assert "device cuda:0 with 4 threads" in text
    assert "in 3 rounds and in 3 processes" in text
    sheet = report(machine=roofs(form="sheet")).methods_text()
    assert "Estimates of attainable time rest on the data sheet of Some CPU" in sheet
    void = report(quality=Quality("void", ("busy.",))).methods_text()
    assert "the timing is void (busy)." in void


def test_latex_is_escaped_and_shapes_have_crosses() -> None:
    made = replace(explained(), model="my_net:8x8%{}\ue001\\end")
    text = made.methods_text("latex")
    assert text.startswith(r"\texttt{my\_net:8x8\%\{\}\textbackslash{}ue001\textbackslash{}end} (50 param")
    assert r"an input of $1 \times 4 \times 2 \times 2$ in" in text
    assert "0.011~ms" in text
    assert "80.0~GB/s" in text
    assert not re.search(r"[\ue000-\uf8ff]", text)
    assert not re.search(r"(?<!\\)[_%&#]", text)


def test_there_are_two_styles() -> None:
    for made in (report(), two_sides()):
        with pytest.raises(InputError, match="no style 'html'"):
            made.methods_text("html")


def test_a_comparison_in_turns_is_a_paired_design() -> None:
    """15 over 10 ms in each of eight turns."""
    text = two_sides().methods_text()
    assert "a_1 (net.py:Net) has 50 parameters and takes 400 MACs and 1.00 k FLOPs on 1x4x2x2." in text
    assert "The design is paired: in each of 8 turns of one run every model took" in text
    assert (
        "divided by that of a_1 in the same turn; its 95 % interval comes of drawing 8 whole blocks" in text
    )
    assert "b takes 1.5 times (1.5 to 1.5; slower) as long as a_1." in text
    assert "within 2 % of 1" in text
    assert "Some CPU" in text
    assert r"\texttt{a\_1}" in two_sides().methods_text("latex")


def test_reports_of_two_runs_have_no_ratio() -> None:
    apart = compared([Side("a"), Side("b")], [timed(0.010), timed(0.015)])
    assert (
        "Latencies were not measured in turns of one run; no ratio of them is given." in apart.methods_text()
    )
    counts = compared([Side("a"), Side("b")], [report(conv()), report(depthwise())])
    assert "atenc" not in counts.methods_text()


def test_another_function_is_called_so() -> None:
    sides = [Side("a"), Side("b", rewrote=Rewrote(("drop-se",), "changed"))]
    text = compared(sides, [report(conv()), report(depthwise())]).methods_text()
    assert "b (net.py:Net), another function with fresh weights, has 10 parameters" in text


# --------------------------------------------------------------------------- tables


def test_a_table_floats_with_caption_and_label(tmp_path: Path) -> None:
    path = tmp_path / "table.tex"
    text = explained().to_latex(path, caption="50 % of a_1", label="tab:a", by="kind", top=1)
    assert path.read_text(encoding="utf-8") == text
    assert text.splitlines()[:4] == [
        r"\begin{table}", r"\centering", r"\caption{50 \% of a\_1}", r"\label{tab:a}",
    ]  # fmt: skip
    assert text.rstrip().endswith("\\end{tabular}\n\\end{table}")
    assert "depthwise\\_conv" in text
    assert explained().to_latex() == explained().table("latex")


def test_a_comparison_has_booktabs() -> None:
    lines = two_sides().table("latex").splitlines()
    assert lines[0] == r"% \usepackage{booktabs}"
    assert [lines.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [2, 2, 2]
    assert sum("tabular}" in line for line in lines) == 4
    assert any(line.lstrip().startswith(r"a\_1 &") for line in lines)
    assert not any("_" in line.replace(r"\_", "") for line in lines if not line.startswith("%"))
    assert lines[-1].startswith("% time: latency over that of a_1, in 8 turns of one run")


# --------------------------------------------------------------------------- metrics


def test_metrics_are_flat_and_in_base_units() -> None:
    """6 of 10 µs are the depthwise layer's; 2.7 µs overhead are 27 %."""
    found = explained().metrics()
    assert found["params"] == 50
    assert found["macs"] == 400
    assert found["latency_s"] == 11e-6
    assert found["peak_activation_bytes"] == 4096
    assert found["kind/depthwise_conv/latency_share"] == pytest.approx(0.6)
    assert found["kind/depthwise_conv/flops_share"] == pytest.approx(0.2)
    assert found["kind/elementwise/bytes"] == 300
    assert found["part/overhead_s"] == pytest.approx(2.7e-6)
    assert found["part/overhead_share"] == pytest.approx(0.27)
    assert all(type(value) in (int, float) for value in found.values())


def test_metrics_leave_out_what_is_not_known() -> None:
    found = report(conv(), add()).metrics()
    assert found["kind/conv/flops_share"] == pytest.approx(600 / 800)
    assert not any("latency" in name or name.startswith("part/") for name in found)
    void = replace(explained(), quality=Quality("void"))
    assert not any(name.startswith("part/") for name in void.metrics())


def test_metrics_of_a_training_step() -> None:
    phases = (Phase("backward", 1, 2, 3, 4, 5e-6),)
    found = report(phases=phases, held_bytes={"saved": 77}).metrics()
    assert (found["phase/backward/macs"], found["phase/backward/latency_s"]) == (1, 5e-6)
    assert found["saved_activation_bytes"] == 77
