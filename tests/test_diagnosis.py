"""Rules: each fires on its cause and not on its control twin; figures, order, and what is withheld."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import made_reports
import pytest
from diagnosed import (
    BN,
    DENSE,
    DEPTHWISE,
    LOG,
    MACHINE,
    MB,
    PAIRS,
    TINY,
    US,
    found,
    made,
    moving,
    other,
    step,
)  # fmt: skip

from flopscope.diagnosis import RULES, verdicts, with_verdicts
from flopscope.diagnosis.cases import knee_bytes
from flopscope.records import Layer, Quality, Settings
from flopscope.reports import Report


@pytest.mark.parametrize("code", PAIRS)
def test_a_rule_names_its_cause(code: str) -> None:
    assert code in PAIRS[code][0].findings()


@pytest.mark.parametrize("code", PAIRS)
def test_a_rule_does_not_name_it_in_the_control(code: str) -> None:
    assert code not in PAIRS[code][1].findings()


def test_every_built_in_rule_has_a_pair() -> None:
    assert set(PAIRS) == set(RULES)


# --------------------------------------------------------------------------- figures


def test_the_knee_is_half_way_down() -> None:
    assert knee_bytes(MACHINE) == pytest.approx(8 * MB * 2**0.5)
    flat = replace(MACHINE, bandwidth=MACHINE.bandwidth[:2])
    assert knee_bytes(flat) is None
    assert knee_bytes(None) is None


def test_seconds_are_what_a_cause_accounts_for() -> None:
    assert found("low-intensity").seconds == pytest.approx(50 * US)
    assert found("beyond-cache").seconds == pytest.approx(750 * US)  # 1000 - 250
    assert found("cold-data").seconds == pytest.approx(55 * US)  # 80 - 25
    assert found("page-faults").seconds == pytest.approx(40 * US)
    assert found("copy-only").seconds == pytest.approx(80 * US)
    assert found("layout-reorder").seconds == pytest.approx(40 * US)
    assert found("weights-reordered").seconds == pytest.approx(20 * US)  # 20 of 100 logged µs, of 100 µs
    assert found("channel-misaligned").seconds == pytest.approx(40 * US * (1 / 0.5625 - 1))
    assert found("too-small-for-threads").seconds == pytest.approx(40 * US)  # half of 80
    assert found("no-gemm").seconds is None


def test_numbers_are_those_of_the_sentence() -> None:
    assert found("no-gemm").numbers["uses"] == 9  # 3·3 taps, one filter
    assert found("no-gemm").numbers["dense_uses"] == 576  # 3·3·64
    assert found("layout-reorder").numbers["nbytes"] == 1_600_000
    assert found("low-intensity").numbers["ridge_flop_per_byte"] == pytest.approx(1.25)
    assert found("page-faults").numbers["nbytes"] == 20 * 4096
    assert found("padding-share").numbers["share"] == pytest.approx(0.181)
    assert found("slow-dtype").numbers["other"] == "bfloat16"


def test_a_stride_uses_each_value_less_often() -> None:
    strided = replace(DEPTHWISE, stride=(2, 2))
    case = made("kernel 60 compute 40", evidence={"convolution": strided})
    assert case.findings()["no-gemm"].numbers["uses"] == pytest.approx(9 / 4)
    assert case.findings()["no-gemm"].remedy == ""  # a partial convolution keeps its size


@pytest.mark.parametrize(
    ("code", "remedy"),
    [("page-faults", "pooled-allocator"), ("layout-reorder", "channels-last"), ("unfused", "fold-bn"),
     ("too-small-for-threads", "threads=1"), ("oversubscribed", "threads=2"), ("no-gemm", "dw-to-pconv"),
     ("dispatch-overhead", "batch=N"), ("slow-dtype", "dtype=bfloat16"),
     ("channel-misaligned", "channels=32"),
     ("unknown", ""), ("disturbed", "")],
)  # fmt: skip
def test_remedies(code: str, remedy: str) -> None:
    assert found(code).remedy == remedy


# --------------------------------------------------------------------------- single rules


def test_reorders_without_a_log_are_told_by_channels_last_alone() -> None:
    known = {"convolution": DEPTHWISE, "backend": "Mkldnn"}
    slow = {**known, "counterfactuals": (other("channels-last", 50, 100),)}
    verdict = made("kernel 60 compute 40", evidence=slow).findings()["layout-reorder"]
    assert (verdict.numbers["witness"], verdict.seconds) == ("channels-last", pytest.approx(50 * US))
    assert "layout-reorder" not in made("kernel 60 compute 40", evidence=known).findings()
    even = {**known, "counterfactuals": (other("channels-last", 95, 100),)}
    assert "layout-reorder" not in made("kernel 60 compute 40", evidence=even).findings()


@pytest.mark.parametrize(
    ("name", "fires"),
    [("ref:any", True), ("x64:gemm:jit", True), ("gemm:ref", True), ("brgconv:avx512_core", False),
     ("jit_dw:avx512_core", False), ("brgemm_something:any", False)],
)  # fmt: skip
def test_a_reference_or_im2col_kernel_of_the_log_is_a_fallback(name: str, fires: bool) -> None:
    steps = (step("convolution", "", 80, name),)
    case = made("kernel 60 compute 40", evidence={"convolution": DENSE, "kernels": steps})
    assert ("fallback-kernel" in case.findings()) is fires


def test_small_layers_on_threads_without_a_counterfactual_are_an_estimate() -> None:
    evidence = {"compute_s": 4 * US, "memory_s": 2 * US}
    small = made("overhead 50 kernel 10 compute 20", **TINY, evidence=evidence).findings()
    assert small["too-small-for-threads"].numbers["witness"] == "estimated"
    busy = made("overhead 50 kernel 10 compute 20", **TINY, evidence={"compute_s": 40 * US})
    assert "too-small-for-threads" not in busy.findings()
    alone = made("overhead 50 kernel 10 compute 20", layer=TINY["layer"], evidence=evidence)
    assert "too-small-for-threads" not in alone.findings()


def test_batch_norm_is_not_folded_in_training() -> None:
    case = made("memory 80 overhead 20", **BN, given={"settings": Settings(train=True)})
    assert "unfused" not in case.findings()


def test_an_activation_counts_as_unfused_where_it_takes_time() -> None:
    activation = {**BN, "layer": {**BN["layer"], "kind": "activation"}}
    verdict = made("memory 50 overhead 20 kernel 30", **activation).findings()["unfused"]
    # Fused, its arithmetic stays: 50 + 20 of the 100 µs are the pass.
    assert (verdict.remedy, verdict.seconds) == ("compile", pytest.approx(70 * US))
    # 10 of 1010 µs
    assert "unfused" not in made("memory 8 overhead 2", **activation).findings()


def test_affinity_counts_before_cores() -> None:
    case = made("compute 60 kernel 40", given={"settings": Settings(threads=2)})
    report = case.report()
    bound = replace(report.environment, other={"affinity": "1"})
    assert "oversubscribed" in [v.code for v in verdicts(replace(report, environment=bound))[1]]


def test_a_cold_layer_that_main_memory_does_not_explain_is_unknown() -> None:
    # 1 MB takes 50 µs even at 20 GB/s; 90 µs are more than 1.5 times that.
    case = made("memory 90 overhead 10", layer=moving(MB, flops=1000),
                evidence={"memory_s": 12.5 * US, "compute_s": 0.0, "least_s": 12.5 * US})  # fmt: skip
    codes = case.findings()
    assert "cold-data" not in codes
    assert codes["unknown"].numbers["part"] == "memory"


def test_faster_than_the_roofs_is_unknown_too_but_for_winograd() -> None:
    evidence = {"compute_s": 150 * US, "memory_s": 0.0, "least_s": 150 * US}
    assert made("compute 100", evidence=evidence).findings()["unknown"].numbers["part"] == "roof"
    log = {**evidence, "kernels": (step("convolution", "", 90, "jit_wino_4x3:avx512_core"),)}
    assert not made("compute 100", evidence=log).findings()


def test_unknown_is_silent_where_a_rule_explains_the_part() -> None:
    assert "unknown" not in made("kernel 60 compute 40", evidence={"convolution": DEPTHWISE}).findings()
    # An explanation of one part is none of another.
    both = made("kernel 60 overhead 40", evidence={"convolution": DENSE}).findings()
    assert {"dispatch-overhead", "unknown"} <= set(both)


# --------------------------------------------------------------------------- all together


def test_of_a_void_measurement_nothing_is_said_but_that() -> None:
    for code, (cause, _) in PAIRS.items():
        void = replace(cause, given={**cause.given, "quality": Quality("void", ("busy",))})
        assert set(void.findings()) == {"disturbed"}, code
        # What was not measured has no findings at all, void or not.
        assert verdicts(replace(void.report(), layers=tuple(unmeasured(void.report())))) == ((), ())


def unmeasured(report: Report) -> Iterator[Layer]:
    for layer in report.layers:
        yield replace(layer, latency_s=None, latency_floor_s=None)


def test_the_strongest_finding_comes_first() -> None:
    case = made(
        "kernel 40 allocation 40 overhead 20",
        layer={"quality": "disturbed", "flops": 1000},
        evidence={"convolution": DEPTHWISE, "faults": 20.0, "kernels": LOG, "executed_flops": 800},
    )
    # doubts; page faults 40 µs; reorders half of the 40 µs that are neither overhead nor allocation; what has
    # no seconds; and last what only informs
    assert [verdict.code for verdict in verdicts(case.report())[1]] == [
        "disturbed", "page-faults", "layout-reorder", "no-gemm", "padding-share",
    ]  # fmt: skip


def test_codes_go_into_the_layers() -> None:
    report = PAIRS["page-faults"][0].report()
    explained = with_verdicts(report)
    assert [layer.verdicts for layer in explained.layers] == [(), ("page-faults",)]
    assert explained.total == report.total


def test_a_report_without_evidence_or_machine_has_no_findings_of_them() -> None:
    assert verdicts(made_reports.report()) == ((), (), ())
