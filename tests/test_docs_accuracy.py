"""docs/measuring.md tells the accuracy that benchmarks/results/accuracy.md holds."""

from __future__ import annotations

from pathlib import Path

import pytest

import flopscope

ROOT = Path(flopscope.__file__).parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="in the checkout only")

TOLD = [
    (
        "Σ layers / bare passes (fastest half of each), 1 thread",
        "ResNet-50 +6.1 %",
        "6.1 % (mobilenetv3_large 1.014",
    ),
    (
        "the same at 2 threads | within 10 %",
        "−1.1 to +4.2 %",
        "4.2 % (mobilenetv3_large 1.042, resnet50 0.989",
    ),
    ("instrument, per leaf", "7.4 µs", "7.36 µs"),
    (
        "instrument, of the whole",
        "0.7 to **2.0 %**",
        "resnet50 0.7 %, efficientnet_b0 1.9 %, fasternet_t0 2 %",
    ),
    ("floors of layers ≥ 1 % from process to process", "median 8.7 %, p90 43 %", "8.7 % (29 layers"),
    ("floors of layers ≥ 1 % from process to process", "median 8.7 %, p90 43 %", "42.8 % (29 layers"),
    ("rank correlation of layers", "0.988; 0.990", "0.988 (median 0.992"),
    ("another process's floor", "67 %", "67.2 % of"),
    ("beside a spinning process", "median 0.4 %, p90 8.2 %", "8.2 %"),
    ("beside a spinning process", "21.8 %", "21.8 %"),
    ("roofs from calibration to calibration, 1 thread", "peaks 8 %", "8.2 % (worst of 5: float32)"),
    ("roofs from calibration to calibration, 1 thread", "caches 14 %", "13.8 % (worst of 6"),
    ("roofs from calibration to calibration, 1 thread", "DRAM 17 %", "17.1 % (worst of 8"),
    ("roofs from calibration to calibration, 1 thread", "up to 68 %", "67.5 % (worst of 4"),
    ("the same at 2 threads | the same", "peaks 65 %", "65.3 % (worst of 5"),
    ("the same at 2 threads | the same", "caches 21 %", "20.8 % (worst of 7"),
    ("the same at 2 threads | the same", "DRAM 25 %", "25.3 % (worst of 7"),
    ("the same at 2 threads | the same", "overheads 33 %", "33.2 % (worst of 4"),
    ("MobileNetV3-Large, first time", "12.9 s", "12.9 s"),
    ("MobileNetV3-Large, first time", "22.3 s", "22.3 s"),
    ("the same with known roofs", "15.6 s; 8.2 s; 17.8 s", "17.8 s"),
]
"""The beginning of a row of the page, what it says, and the text of the results that it says it of."""


@pytest.mark.parametrize(
    ("row", "said", "measured"), TOLD, ids=[f"{row[:30]}: {said}" for row, said, _ in TOLD]
)
def test_the_page_tells_what_was_measured(row: str, said: str, measured: str) -> None:
    page = (ROOT / "docs" / "measuring.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith(f"| {row}")]
    assert any(said in line for line in lines)
    assert measured in (ROOT / "benchmarks" / "results" / "accuracy.md").read_text(encoding="utf-8")
