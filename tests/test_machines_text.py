"""A machine as text: its tables, the knee of its bandwidth, and the roofline picture."""

from __future__ import annotations

import pytest

from flopscope.records import Bandwidth, Machine, Peak
from flopscope.render.machines import knee_bytes, levels, machine_text, roofline_picture

CURVE = (
    Bandwidth(2**15, 90e9), Bandwidth(2**18, 100e9), Bandwidth(2**21, 50e9), Bandwidth(2**24, 22e9, 0.1),
    Bandwidth(2**28, 20e9),
)  # fmt: skip


def made_machine(**given: object) -> Machine:
    fields: dict[str, object] = {
        "name": "Processor", "device": "cpu", "threads": 1, "cores": 4, "passes": 3, "bandwidth": CURVE,
        "peaks": (Peak("float32", 200e9, 0.02, "mm 512"), Peak("bfloat16", 1e12, 0.0, "mm 1024")),
        "overheads_s": {"op": 2e-6, "convolution": 4e-5}, "fault_s": 9e-7, "spreads": {"op": 0.125},
        "absent": {"float16": "no fast path"}, "date": "2025-01-01", "torch": "2.14.1",
    }  # fmt: skip
    return Machine(**{**fields, **given})  # type: ignore[arg-type]


def test_levels_are_the_fastest_point_and_the_end_of_the_curve() -> None:
    assert levels(made_machine()) == (("cache", CURVE[1]), ("DRAM", CURVE[4]))


def test_the_knee_is_the_last_point_before_the_curve_is_half_way_down() -> None:
    """Half way from 100 to 20 GB/s is 60: 100 GB/s at 256 KiB is above it, 50 at 2 MiB is not.

    The findings name the place between them where the curve crosses it: 0.8 of the way, by logarithms.
    """
    assert made_machine().knee_bytes() == pytest.approx(2**18 * 8**0.8)
    assert knee_bytes(made_machine()) == 2**18


def test_a_flat_curve_has_one_level_and_no_knee() -> None:
    flat = made_machine(bandwidth=(Bandwidth(2**15, 25e9), Bandwidth(2**28, 20e9)))
    assert levels(flat) == (("DRAM", Bandwidth(2**28, 20e9)),)
    assert knee_bytes(flat) is None
    assert levels(made_machine(bandwidth=())) == ()


def test_a_curve_that_still_falls_is_not_called_dram() -> None:
    """From 50 to 30 GB/s is 40 %: the largest working set was still half in the cache."""
    falling = made_machine(bandwidth=(Bandwidth(1, 100e9), Bandwidth(2, 50e9), Bandwidth(3, 30e9)))
    assert [name for name, _ in levels(falling)] == ["cache", "largest"]


def test_the_text_has_every_roof_with_its_spread_and_its_ridge() -> None:
    text = str(made_machine())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "Processor cpu 1 thread of 4 cores torch 2.14.1" in lines
    # 200 GFLOP/s: 2 FLOP/B at 100 GB/s, 10 at 20; 1 TFLOP/s: 10 and 50.
    assert "float32 200 2.0 2.00 10.0 mm 512" in lines
    assert "bfloat16 1000 0 10.0 50.0 mm 1024" in lines
    assert "float16 has no roof: no fast path" in lines
    assert "262 kB 100 0 cache knee" in lines
    assert "2.10 MB 50.0 0" in lines
    assert "element-wise operator 2.00 µs 12.5" in lines
    assert "page fault of 4096 bytes 900 ns -" in lines


def test_a_sheet_is_called_an_estimate() -> None:
    text = machine_text(made_machine(form="sheet", source="a manual", overheads_s={}, fault_s=None))
    assert "not measured: what follows from it is an estimate" in text
    assert "a manual" in text
    assert "passes" not in text


def test_warnings_end_the_text() -> None:
    assert machine_text(made_machine(warnings=("busy\x1b[2J",))).endswith(r"busy\x1b[2J")


def test_ascii_is_ascii() -> None:
    text = machine_text(made_machine(), plain=True)
    assert text.isascii()
    assert "2.00 us" in text


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(("width", "height"), [(40, 12), (80, 20), (120, 30)])
def test_the_picture_fits(width: int, height: int, plain: bool) -> None:
    lines = roofline_picture(made_machine(), width=width, height=height, plain=plain).splitlines()
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert lines[-1].endswith(" FLOP/B")
    assert ("bfloat16 1.00 T" in "\n".join(lines)) == (width >= 60)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(("intensity", "rate", "below", "beside"), [
    (1.0, 10e9, "1", "10 G"), (10.0, 10e9, "10", "10 G"), (10.0, 100e9, "10", "100 G"),
])  # fmt: skip
def test_a_dot_stands_above_its_intensity_and_beside_its_rate(
    intensity: float, rate: float, below: str, beside: str, plain: bool
) -> None:
    """Both numbers are powers of ten, so that ticks mark their column and their row."""
    lines = roofline_picture(made_machine(), [("dot", intensity, rate)], plain=plain).splitlines()
    sign = "+" if plain else "┴"
    lines = [line.replace("DRAM", "dram") for line in lines]
    (row,) = [place for place, line in enumerate(lines[:-1]) if "A" in line]
    axis = next(place for place, line in enumerate(lines) if line.count(sign) >= 2)
    assert lines[row][:7].strip() == beside
    column = lines[row].index("A", 8)
    assert lines[axis][column] == sign
    assert lines[axis + 1][column:].split()[0] == below
    assert lines[-1].startswith("A dot   ")


def test_a_dot_on_a_roof_replaces_the_line_there() -> None:
    """10 FLOP/B at 200 GFLOP/s is where DRAM's slope meets float32's ceiling."""
    bare = roofline_picture(made_machine(), plain=True).splitlines()
    with_dot = roofline_picture(made_machine(), [("x", 10.0, 199e9)], plain=True).splitlines()
    changed = [
        (row, column)
        for row, line in enumerate(bare[:-2])
        for column, char in enumerate(line)
        if with_dot[row][column] != char
    ]
    assert len(changed) == 1
    row, column = changed[0]
    assert bare[row][column] in "/-"
    assert with_dot[row][column] == "A"


def test_dots_far_away_widen_the_axes_and_dots_without_a_place_are_left_out() -> None:
    picture = roofline_picture(made_machine(), [("far", 0.001, 1e6), ("nowhere", 0.0, 1e9)], plain=True)
    assert "A far   0.00100 FLOP/B   1.00 MFLOP/s" in picture
    assert "nowhere" not in picture
    assert "   1 M |" in picture


def test_slopes_rise_by_a_decade_a_decade_and_ceilings_are_flat() -> None:
    lines = roofline_picture(made_machine(), plain=True, width=100, height=30).splitlines()
    (ceiling,) = [line for line in lines if line.endswith("float32 200 G")]
    flat = ceiling[: ceiling.rindex(" float32")].rstrip()
    assert flat.endswith("-" * 20)
    assert "cache" in "\n".join(lines)
    assert "DRAM 20.0 GB/s" in "\n".join(lines)


def test_no_picture_without_peaks_or_bandwidth() -> None:
    assert roofline_picture(made_machine(peaks=())) == ""
    assert roofline_picture(made_machine(bandwidth=())) == ""
