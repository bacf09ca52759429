"""Layers above a roof, the time that the roofs allow, and the dots of the picture."""

from __future__ import annotations

import pytest
from made_reports import add, conv, depthwise, layer

from flopscope.records import Bandwidth, Convolution, Evidence, Machine, Peak
from flopscope.roofline import Dot, attainable_s, dots, exceeded, exceeds

KB = 1000
MACHINE = Machine(
    "made", "cpu", 1, (Peak("float32", 1e9),),
    bandwidth=(Bandwidth(8 * KB, 4e9), Bandwidth(16 * KB, 1e9), Bandwidth(64 * KB, 1e9)),
)  # fmt: skip


def _geometry(kernel: int = 3, stride: int = 1, groups: int = 1) -> Convolution:
    return Convolution(
        1, 8, 8, groups, (9, 9), (9, 9), (kernel,) * 2, (stride,) * 2, (1, 1), (1, 1), "float32"
    )


def _exceeded(**given: object) -> str | None:
    """A layer of 100 µs against this evidence."""
    found = layer("a", "Conv2d", "conv", latency_floor_s=100e-6)
    evidence = Evidence(**given)  # type: ignore[arg-type]
    named = exceeded(found, evidence, MACHINE)
    assert exceeds(found, evidence, MACHINE) is (named is not None)
    return named


@pytest.mark.parametrize(("least", "named"), [(99e-6, None), (104e-6, None), (106e-6, "compute")])
def test_five_percent_above_a_peak_void_it(least: float, named: str | None) -> None:
    assert _exceeded(compute_s=least, memory_s=0.0) == named


@pytest.mark.parametrize(
    ("geometry", "named"),
    [
        (_geometry(), None),
        (_geometry(kernel=5), "compute"),
        (_geometry(stride=2), "compute"),
        (_geometry(groups=8), "compute"),
        (None, "compute"),
    ],
)
def test_winograd_explains_up_to_four_times(geometry: Convolution | None, named: str | None) -> None:
    assert _exceeded(compute_s=400e-6, convolution=geometry) == named
    assert _exceeded(compute_s=430e-6, convolution=geometry) == "compute"


@pytest.mark.parametrize(
    ("working_set", "least", "named"),
    [
        (64 * KB, 150e-6, None),  # half of it passes as slowly: 1.05 x 1.5 = 1.575 is the line
        (64 * KB, 160e-6, "memory"),
        (16 * KB, 600e-6, None),  # half of it passes at 4 B/ns, four times as fast: 6.3
        (16 * KB, 640e-6, "memory"),
    ],
)
def test_bytes_above_the_bandwidth(working_set: int, least: float, named: str | None) -> None:
    assert _exceeded(compute_s=0.0, memory_s=least, working_set_bytes=working_set) == named


def test_without_a_time_or_a_roof_nothing_is_exceeded() -> None:
    assert not exceeds(layer("a", "Conv2d", "conv"), Evidence(compute_s=1.0), MACHINE)
    assert not exceeds(layer("a", "Conv2d", "conv", latency_floor_s=0.0), Evidence(compute_s=1.0), MACHINE)
    assert _exceeded() is None


def test_the_attainable_time_is_the_sum_of_the_bounds() -> None:
    assert attainable_s([Evidence(least_s=2.0), Evidence(least_s=0.0), Evidence(least_s=0.5)]) == 2.5
    assert attainable_s([Evidence(least_s=2.0), Evidence()]) is None
    assert attainable_s([]) is None


def test_dots_of_what_computes_and_was_timed() -> None:
    """conv: 600 FLOPs in 100 bytes, 2 µs of 10; depthwise 200 in 200, 6 µs; add 200 in 300, 2 µs."""
    timed = (conv(latency_s=2e-6), depthwise(latency_s=6e-6), add(latency_s=2e-6))
    moved = layer("v", "View", "data_movement", latency_s=0.0)
    found = dots((*timed, moved, conv()))
    assert [(dot.label, dot.kind) for dot in found] == [
        ("a.dw", "depthwise_conv"),
        ("a.conv", "conv"),
        ("a (ops)", "elementwise"),
    ]
    assert found[1] == Dot("a.conv", "conv", 6.0, pytest.approx(3e8), pytest.approx(0.2))
    assert found[2].intensity == pytest.approx(2 / 3)


def test_rates_are_those_of_the_undisturbed_time() -> None:
    [dot] = dots([conv(latency_s=4e-6, latency_floor_s=3e-6)])
    assert dot.flops_per_s == pytest.approx(2e8)
    assert dot.share == 1.0


def test_a_dot_has_a_label() -> None:
    root = layer("", "Net", "conv", flops=10, bytes_read=10, latency_s=1.0)
    inline = layer("", "(ops)", "elementwise", flops=10, bytes_read=10, latency_s=1.0)
    assert [dot.label for dot in dots([root, inline])] == ["Net", "(ops)"]
