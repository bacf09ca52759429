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
    PLAIN,
    TINY,
    US,
    found,
    made,
    moving,
    other,
    step,
)  # fmt: skip

from flopscope.diagnosis import RULES, verdicts, with_verdicts
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
    assert MACHINE.knee_bytes() == pytest.approx(8 * MB * 2**0.5)
    flat = replace(MACHINE, bandwidth=MACHINE.bandwidth[:2])
    assert flat.knee_bytes() is None
    assert replace(MACHINE, bandwidth=()).knee_bytes() is None


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
    # 400 kB take 20 µs even at 20 GB/s; 90 µs are more than 4 times that, 79 µs are not.
    evidence = {"memory_s": 5 * US, "compute_s": 0.0, "least_s": 5 * US}
    more = {"layer": moving(400_000, flops=1000), "evidence": evidence}
    codes = made("memory 90 overhead 10", **more).findings()
    assert "cold-data" not in codes
    assert codes["unknown"].numbers["part"] == "memory"
    assert codes["unknown"].numbers["far_s"] == pytest.approx(20 * US)
    assert set(made("memory 79 overhead 21", **more).findings()) == {"cold-data"}
    # More than ten times as long is no waiting for data.
    assert codes["unknown"].numbers["no_data"] == 0
    long = made("memory 201 overhead 10", **more).findings()
    assert long["unknown"].numbers["no_data"] == 1


def test_data_that_fit_in_part_can_be_cold_too() -> None:
    # 12 MB are beyond the knee of 11.3 MB. At W(12 MB) = 80 - 60·log2(12/8) = 44.9 GB/s they take 267 µs,
    # from main memory 600 µs; 16 MB have nothing nearer than that.
    evidence = {"memory_s": 267 * US, "compute_s": 0.0, "least_s": 267 * US}
    part = made("memory 700 overhead 50", layer=moving(12 * MB, flops=1000), evidence=evidence).findings()
    assert part["cold-data"].seconds == pytest.approx((700 - 267) * US)
    far = {"memory_s": 800 * US, "compute_s": 0.0, "least_s": 800 * US}
    none = made("memory 1600 overhead 50", layer=moving(16 * MB, flops=1000), evidence=far)
    assert "cold-data" not in none.findings()


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


def test_a_dense_1x1_is_a_matrix_product_and_no_fallback() -> None:
    one = replace(DENSE, kernel=(1, 1), padding=(0, 0))
    slow = {"backend": "ConvBackend.Slow2d"}
    fires = [
        "fallback-kernel" in made("kernel 60 compute 40", evidence={"convolution": shape, **slow}).findings()
        for shape in (one, replace(one, stride=(2, 2)), replace(one, groups=2), replace(one, padding=(1, 1)))
    ]
    assert fires == [False, True, True, True]  # a stride, groups or padding make im2col copy
    log = {"convolution": one, "kernels": (step("convolution", "", 80, "x64:gemm:jit"),)}
    assert "fallback-kernel" not in made("kernel 60 compute 40", evidence=log).findings()
    reference = {"convolution": one, "kernels": (step("convolution", "", 80, "ref:any"),)}
    assert "fallback-kernel" in made("kernel 60 compute 40", evidence=reference).findings()


def test_a_log_of_another_library_than_ran_says_nothing() -> None:
    weights = (step("reorder", "weights", 20), *LOG)
    onednn = made("kernel 60 compute 40", evidence={"convolution": DENSE, "kernels": weights})
    assert {"layout-reorder", "weights-reordered"} <= set(onednn.findings())
    own = replace(onednn, evidence={**onednn.evidence, "backend": "Slow2d"})
    assert set(own.findings()) == {"fallback-kernel"}


def test_vectors_of_a_fallback_kernel_do_not_run_over_channels() -> None:
    cause = PAIRS["channel-misaligned"][0]
    own = replace(cause, evidence={**cause.evidence, "backend": "Slow2d"})
    assert "channel-misaligned" not in own.findings()


def test_weights_in_a_convolutions_twin_are_no_price_of_the_call() -> None:
    # 4 MB of weights at 80 GB/s are 50 µs, so 20 of the 70 µs are the call's; of a linear layer all 70 are.
    pixel = replace(DENSE, kernel=(1, 1), padding=(0, 0), output_size=(1, 1))
    layer = moving(4 * MB, flops=2 * MB, param_bytes=4 * MB)
    case = made("overhead 70 memory 30", layer=layer, evidence={"convolution": pixel})
    assert "dispatch-overhead" not in case.findings()
    assert case.findings()["matrix-vector"].seconds == pytest.approx(80 * US)  # 30 + 50
    linear = made("overhead 70 memory 30", layer=layer)
    assert linear.findings()["dispatch-overhead"].seconds == pytest.approx(70 * US)
    # Laying them out takes 15 µs more by the log, of 5 that are left to the call.
    log = {"convolution": pixel, "kernels": (step("reorder", "weights", 15), *PLAIN)}
    relaid = made("overhead 70 memory 30", layer=layer, evidence=log)
    assert relaid.findings()["matrix-vector"].seconds == pytest.approx(95 * US)
    # 15 of 95 logged µs, of all 100 µs but 5
    assert relaid.findings()["weights-reordered"].seconds == pytest.approx(95 * US * 15 / 95)


def test_what_is_all_overhead_is_too_small_however_long_it_takes() -> None:
    evidence = {"compute_s": 4 * US, "memory_s": 2 * US}
    assert "too-small-for-threads" in made("overhead 800 kernel 20", **TINY, evidence=evidence).findings()
    assert "too-small-for-threads" not in made("kernel 800 overhead 20", **TINY, evidence=evidence).findings()


def test_a_disturbance_explains_up_to_three_quarters() -> None:
    disturbed = {"layer": {"quality": "disturbed"}}
    assert set(made("kernel 74 compute 26", **disturbed).findings()) == {"disturbed"}
    assert set(made("kernel 75 compute 25", **disturbed).findings()) == {"disturbed", "unknown"}


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
    # page faults 40 µs; reorders half of the 40 µs that are neither overhead nor allocation; what has no
    # seconds; then the doubt, for causes are those of the undisturbed time; and last what only informs
    assert [verdict.code for verdict in verdicts(case.report())[1]] == [
        "page-faults", "layout-reorder", "no-gemm", "disturbed", "padding-share",
    ]  # fmt: skip


def test_codes_go_into_the_layers() -> None:
    report = PAIRS["page-faults"][0].report()
    explained = with_verdicts(report)
    assert [layer.verdicts for layer in explained.layers] == [(), ("page-faults",)]
    assert explained.total == report.total


def test_a_report_without_evidence_or_machine_has_no_findings_of_them() -> None:
    assert verdicts(made_reports.report()) == ((), (), ())
