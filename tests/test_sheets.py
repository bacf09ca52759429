"""Data sheets: estimates for hardware that is not there, never a measurement."""

from __future__ import annotations

import pytest
from torch import nn

import flopscope
from flopscope.records import Bandwidth, Machine, Peak

ABSENT = Machine("Absent", "cuda", 1, (Peak("float32", 1e9),), (Bandwidth(1_000_000, 1e6),), form="sheet")


def test_a_count_is_held_against_a_sheet() -> None:
    report = flopscope.count(nn.Linear(8, 4, bias=False), (2, 8))
    assert report.evidence == ()
    report = flopscope.profile(nn.Linear(8, 4, bias=False), (2, 8), latency=False, machine=ABSENT)
    # 2*2*8*4 = 128 FLOPs at 1 GFLOP/s: 0.128 µs; 4 * (16 + 32 + 8) = 224 bytes at 1 MB/s: 224 µs
    (seen,) = report.evidence
    assert seen.compute_s == pytest.approx(128e-9)
    assert seen.least_s == pytest.approx(224e-6)
    assert report.total.latency_s is None
    assert "attainable on Absent, an estimate from its data sheet: 0.224 ms" in str(report)


def test_latencies_of_this_machine_are_not_taken_apart_by_the_roofs_of_another() -> None:
    report = flopscope.profile(
        nn.Linear(8, 4), (2, 8), machine=ABSENT, effort="quick", max_seconds=0.1, threads=1
    )
    (layer,) = report.layers
    assert layer.latency_s is not None
    assert (layer.compute_s, layer.limit, layer.headroom) == (None, None, None)
    assert report.evidence[0].least_s is not None
