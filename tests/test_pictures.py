"""Pictures: geometry by hand, texts escaped, whole without styles, colours that can be told apart."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import made_reports as made
import pytest

import flopscope
from flopscope import pictures
from flopscope.errors import InputError
from flopscope.pictures.memory import ticks
from flopscope.pictures.palette import COLOURS, GROUND, INK, LINE, MUTED, PARTS
from flopscope.pictures.rooflines import lay_out
from flopscope.pictures.tiles import sheet
from flopscope.records import KINDS, MemoryPeak, Quality

SPACE = "{http://www.w3.org/2000/svg}"
HOSTILE = "x\"'><script>alert(1)</script>&\x00"


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def timed(**given: Any) -> flopscope.Report:
    """conv 600 FLOPs and 2 µs, depthwise 200 FLOPs and 6 µs, add 200 FLOPs and 2 µs, all taken apart."""
    layers = (
        made.conv(**made.parts(1, 0, 1, 0, 0)),
        made.depthwise(**made.parts(0.5, 2.5, 2, 0.5, 0.5)),
        made.add(**made.parts(0, 0, 1, 0, 1)),
    )
    return made.report(*layers, **{"machine": made.roofs(), "quality": Quality("good"), **given})


def drawings(report: flopscope.Report, *, static: bool) -> dict[str, str]:
    return {
        "icicles": pictures.icicles(report, static=static),
        "kinds": pictures.breakdown(report, static=static),
        "layers": pictures.breakdown(report, by="layer", static=static),
        "roofline": pictures.roofline(report, static=static),
        "memory": pictures.memory(report, static=static),
    }


# --------------------------------------------------------------------------- tiles


def test_tiles_are_shares_in_the_order_of_execution() -> None:
    leaves = {tile.path + tile.name: tile for tile in sheet(timed()).leaves}
    assert leaves["a.convconv"].flops == pytest.approx((0.0, 0.6))  # 600 of 1000 FLOPs
    assert leaves["a.dwdw"].flops == pytest.approx((0.6, 0.8))
    assert leaves["a(ops)"].flops == pytest.approx((0.8, 1.0))
    assert leaves["a.convconv"].time == pytest.approx((0.0, 0.2))  # 2 of 10 µs
    assert leaves["a.dwdw"].time == pytest.approx((0.2, 0.8))
    assert leaves["a(ops)"].time == pytest.approx((0.8, 1.0))


def test_a_container_is_as_wide_as_what_it_holds() -> None:
    layers = [
        made.layer("s.b0.conv", "Conv2d", "conv", flops=100, latency_s=1e-6),
        made.layer("s.b0.bn", "BatchNorm2d", "batch_norm", flops=100, latency_s=2e-6),
        made.layer("s.b1.conv", "Conv2d", "conv", flops=200, latency_s=1e-6),
        made.layer("head", "Linear", "linear", flops=100, latency_s=1e-6),
    ]
    boxes = {tile.path: tile for tile in sheet(made.report(*layers)).boxes}
    assert set(boxes) == {"", "s", "s.b0"}  # s.b1 holds one thing only: its place is the layer's
    assert boxes["s.b0"].flops == pytest.approx((0.0, 0.4))
    assert boxes["s"].time == pytest.approx((0.0, 0.8))
    assert boxes[""].level == 0
    assert boxes["s.b0"].level == 2
    alone = next(tile for tile in sheet(made.report(*layers)).leaves if tile.row == 2)
    assert (alone.name, alone.level) == ("b1.conv", 2)


def test_a_model_of_one_layer_fills_both_rows() -> None:
    only = made.report(made.layer("", "Linear", "linear", flops=8, latency_s=1e-6))
    (leaf,) = sheet(only).leaves
    assert leaf.flops == (0.0, 1.0)
    assert leaf.time == (0.0, 1.0)


def test_without_flops_or_times_nothing_is_made_up() -> None:
    idle = made.report(made.layer("flat", "Flatten", "data_movement", latency_s=1e-6))
    (leaf,) = sheet(idle).leaves
    assert leaf.flops == (0.0, 0.0)
    (leaf, *_) = sheet(made.report(made.conv())).leaves
    assert leaf.time is None


def test_containers_are_drawn_to_a_depth_and_layers_below_it_too() -> None:
    deep = ".".join("abcdefghij")
    layers = [made.layer(f"{deep}.{end}", "Conv2d", "conv", flops=1, latency_s=1e-6) for end in ("x", "y")]
    layers += [
        made.layer(f"{deep[:size]}.z", "ReLU", "activation", flops=1) for size in (1, 3, 5, 7, 9, 11, 13)
    ]
    drawn = sheet(made.report(*layers))
    assert drawn.levels == 6  # the root and five levels
    assert len(drawn.leaves) == 9


# --------------------------------------------------------------------------- icicles


def widths(svg: str, colour: str) -> list[float]:
    """Of the rectangles in groups of a colour."""
    groups = [group for group in parsed(svg).iter(f"{SPACE}g") if group.get("fill") == colour]
    return [float(item.get("width", 0)) for group in groups for item in group.iter(f"{SPACE}rect")]


def test_a_depthwise_layer_is_thin_above_and_fat_below() -> None:
    svg = pictures.icicles(timed(), width=1020, static=True)  # 1000 units between the edges
    assert widths(svg, COLOURS["conv"].light) == pytest.approx([600, 200])
    assert widths(svg, COLOURS["depthwise_conv"].light) == pytest.approx([200, 600])


def test_the_legend_has_both_shares_of_each_kind() -> None:
    words = "".join(parsed(pictures.icicles(timed(), static=True)).itertext())
    assert "depthwise conv20.0 % of FLOPs, 60.0 % of time" in words
    assert "conv60.0 % of FLOPs, 20.0 % of time" in words


def test_a_tile_tells_what_it_is() -> None:
    titles = [item.text for item in parsed(pictures.icicles(timed(), static=True)).iter(f"{SPACE}title")]
    assert "a.dw\ndepthwise_conv, Conv2d 3x3 g4\n200 FLOPs, 20.0 %\n6.00 µs, 60.0 % of the time" in titles
    assert "a\n100 % of the FLOPs, 100 % of the time" in titles


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"quality": Quality("void", ("stolen",))},
            "the measurement is void: these times are not to be trusted",
        ),
        ({"quality": Quality("disturbed", ("busy",))}, "the measurement is disturbed"),
    ],
)
def test_doubts_are_part_of_the_picture(given: dict[str, Any], words: str) -> None:
    assert words in pictures.icicles(timed(**given), static=True)


def test_without_latencies_the_upper_half_is_drawn_and_says_so() -> None:
    svg = pictures.icicles(made.report(made.conv(), made.depthwise()), width=1020, static=True)
    assert widths(svg, COLOURS["conv"].light) == pytest.approx([750])  # 600 of 800, once
    assert "Time was not measured." in svg


def test_uncosted_ops_make_the_total_a_lower_bound() -> None:
    assert "FLOPs: ≥ 1.00 k" in pictures.icicles(timed(uncosted={"my::op": 1}), static=True)


# --------------------------------------------------------------------------- parts, roofs, memory


def test_bars_are_split_into_the_five_parts() -> None:
    svg = pictures.breakdown(timed(), width=1400, static=True)  # 1000 units for the longest bar
    root = parsed(svg)
    depthwise = next(
        g for g in root.iter(f"{SPACE}g") if (g.findtext(f"{SPACE}title") or "").startswith("depthwise")
    )
    bars = {item.get("fill"): float(item.get("width", 0)) for item in depthwise.iter(f"{SPACE}rect")}
    assert bars[PARTS["kernel"].light] == pytest.approx(1000 * 2.5 / 6, abs=0.01)
    assert bars[PARTS["compute"].light] == pytest.approx(1000 * 0.5 / 6, abs=0.01)
    assert "0.006 ms, 60.0 %" in "".join(depthwise.itertext())


def test_bars_of_a_void_measurement_are_withheld() -> None:
    assert pictures.breakdown(timed(quality=Quality("void"))) == ""
    with pytest.raises(ValueError, match="'kind' or 'layer'"):
        pictures.breakdown(timed(), by="op")


def test_a_roofline_has_the_roofs_and_a_point_for_each_layer() -> None:
    report = timed()
    assert report.machine is not None
    plan = lay_out(report.machine, report)
    assert plan is not None
    assert dict(plan.peaks)["float32"] == 1e11
    assert dict(plan.slopes) == {"cache": 8e10, "largest": 2e10}  # the curve still falls where it ends
    points = {point.label: point for point in plan.points}
    assert points["a.conv"].intensity == pytest.approx(6.0)  # 600 FLOPs over 60 + 40 bytes
    assert points["a.conv"].flops_per_s == pytest.approx(3e8)  # in 2 µs
    assert points["a.dw"].share == pytest.approx(0.6)
    assert [point.row for point in plan.points] == [1, 0, 2]
    svg = pictures.roofline(report, static=True)
    dots = [item for item in parsed(svg).iter(f"{SPACE}circle") if item.get("fill-opacity")]
    assert len(dots) == 3  # and one in the legend for each kind
    assert "depthwise conv 60.0 %" in "".join(parsed(svg).itertext())
    assert "cache 80.0 GB/s" in svg


def test_time_without_flops_is_told_below_a_roofline() -> None:
    moved = made.layer("cat", "Cat", "data_movement", bytes_read=8, latency_s=10e-6)
    report = made.report(made.conv(latency_s=10e-6), moved, machine=made.roofs())
    assert "50.0 % of the time is in layers without FLOPs" in pictures.roofline(report)


def test_a_roofline_needs_roofs_and_latencies() -> None:
    assert pictures.roofline(made.report()) == ""
    assert pictures.roofline(made.report(made.conv(), machine=made.roofs())) == ""
    assert pictures.machine_roofline(replace(made.roofs(), peaks=())) == ""
    assert "100 GFLOP/s" in pictures.machine_roofline(made.roofs(), static=True)


def test_memory_marks_the_peak_over_the_run() -> None:
    peak = MemoryPeak(
        4096, 1, "a.dw", (("input", 1024), ("a.dw aten::convolution", 3072)), (1024, 4096, 2048)
    )
    svg = pictures.memory(made.report(peak=peak), width=1000, static=True)
    assert "peak 4.10 kB at a.dw" in svg
    assert "held at the peak:1.02 kB  input3.07 kB  a.dw aten::convolution" in "".join(parsed(svg).itertext())
    (shape,) = parsed(svg).iter(f"{SPACE}path")
    heights = [float(value) for value in re.findall(r"V([\d.]+)h", shape.get("d") or "")]
    assert heights == pytest.approx([184 - 150 / 4, 184 - 150, 184 - 150 / 2])
    assert pictures.memory(made.report()) == ""  # a file of before the run was kept


def test_ticks_are_round() -> None:
    assert ticks(7_830_000) == [0, 2e6, 4e6, 6e6]
    assert ticks(1000) == [0, 200, 400, 600, 800, 1000]
    assert ticks(1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_a_count_holds_the_memory_over_its_run() -> None:
    import torch
    from torch import nn

    report = flopscope.count(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), (2, 4))
    # input 2x4 and result 2x8 floats are 32 + 64 bytes; the input stays, the ReLU's result is 64 more.
    assert report.peak.over_run[0] == 96
    assert max(report.peak.over_run) == report.peak.nbytes == 160
    assert len(report.peak.over_run) == len(report.ops)
    assert torch.is_grad_enabled()


def test_files_of_before_the_run_was_kept_are_read(tmp_path: Any) -> None:
    report = timed()
    top = json.loads(report.to_json())
    del top["peak"]["over_run"]
    (tmp_path / "old.json").write_text(json.dumps(top), encoding="utf-8")
    assert flopscope.load(tmp_path / "old.json") == report


# --------------------------------------------------------------------------- any picture


@pytest.mark.parametrize("static", [True, False])
def test_names_of_anybodys_making_are_text(static: bool) -> None:
    five = made.parts(1, 1, 1, 1, 1)
    layers = [made.layer(f"{HOSTILE}.{k}", HOSTILE, "conv", flops=9, bytes_read=3, **five) for k in "ab"]
    peak = MemoryPeak(9, 0, HOSTILE, ((HOSTILE, 9),), (9, 3))
    report = made.report(*layers, model=HOSTILE, machine=replace(made.roofs(), name=HOSTILE), peak=peak)
    for name, svg in drawings(report, static=static).items():
        assert svg, name
        assert "<script" not in svg, name
        assert "\x00" not in svg, name
        parsed(svg if static else svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))


def test_a_static_picture_needs_no_style_and_a_page_finds_its_rows() -> None:
    for name, svg in drawings(timed(), static=True).items():
        assert not re.search(r"<style|class=|var\(|style=|data-row", svg), name
    page = pictures.icicles(timed())
    assert re.findall(r'data-row="(\d)" tabindex="0"', page) == ["0", "1", "2"]
    assert "var(--kind-depthwise_conv,#" in page


def test_a_thousand_layers_stay_small() -> None:
    layers = [
        made.layer(f"stage{k // 100}.block{k // 10}.conv{k}", "Conv2d", "conv", flops=k + 1, latency_s=1e-6)
        for k in range(1000)
    ]
    svg = pictures.icicles(made.report(*layers))
    assert len(svg) < 600_000
    assert svg.count("data-row=") == 1000


def test_a_report_without_layers_has_no_picture() -> None:
    empty = replace(timed(), layers=(), evidence=())
    assert pictures.icicles(empty) == ""
    with pytest.raises(InputError, match="without layers"):
        empty.to_svg()
    with pytest.raises(InputError, match="without layers"):
        empty.plot_icicle()


def test_a_notebook_gets_the_picture_as_an_image_and_no_svg_of_its_own() -> None:
    shown = timed()._repr_html_()
    assert 'src="data:image/svg+xml;base64,' in shown
    assert "<svg" not in shown
    assert "<table" in shown


# --------------------------------------------------------------------------- matplotlib


def test_matplotlib_draws_the_same_widths(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_hex
    from matplotlib.patches import Rectangle

    axes = timed().plot_icicle(tmp_path / "icicle.pdf")
    bars: dict[str, list[float]] = {}
    for patch in axes.patches:
        if isinstance(patch, Rectangle):
            bars.setdefault(to_hex(patch.get_facecolor()), []).append(patch.get_width())
    assert bars[COLOURS["depthwise_conv"].light] == pytest.approx([0.2, 0.6])
    assert (tmp_path / "icicle.pdf").read_bytes().startswith(b"%PDF")
    axes = timed().plot_roofline(tmp_path / "roof.svg")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert {"depthwise conv", "conv", "elementwise"} == {
        text.get_text() for text in axes.get_legend().get_texts()
    }


def test_a_plot_without_roofs_or_place_says_so(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(InputError, match="needs measured roofs"):
        made.report().plot_roofline()
    with pytest.raises(InputError, match="cannot write"):
        timed().plot_icicle(tmp_path / "none" / "a.pdf")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="matplotlib is not installed") as caught:
        timed().plot_icicle()
    assert "[plots]" in (caught.value.hint or "")


# --------------------------------------------------------------------------- colours

_DEUTAN = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
_PROTAN = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
"""Machado, Oliveira and Fernandes 2009, severity 1.0."""
_NORMAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
MAIN = ("conv", "pointwise_conv", "depthwise_conv", "pconv", "se", "batch_norm", "activation")


def linear(colour: str) -> list[float]:
    values = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""
    lights = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (linear(one), linear(other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def lab(colour: str, seen: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    """CIELAB of a colour as an eye sees it."""
    r, g, b = (
        min(1.0, max(0.0, sum(m * c for m, c in zip(row, linear(colour), strict=True)))) for row in seen
    )
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_contrast_is_known_from_an_example() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # WCAG's usual example


def test_every_kind_has_a_colour_that_can_be_seen_on_its_ground() -> None:
    assert set(COLOURS) == set(KINDS)
    for name, colour in {**COLOURS, **PARTS}.items():
        assert contrast(colour.light, GROUND.light) >= 3, name
        assert contrast(colour.dark, GROUND.dark) >= 3, name


def test_texts_have_the_contrast_of_texts() -> None:
    for ink in (INK, MUTED):
        assert contrast(ink.light, GROUND.light) >= 4.5
        assert contrast(ink.dark, GROUND.dark) >= 4.5
    assert contrast(LINE.light, GROUND.light) < 3  # a grid stays behind


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("seen", [_NORMAL, _DEUTAN, _PROTAN], ids=["normal", "deutan", "protan"])
def test_the_main_kinds_stay_apart(theme: str, seen: tuple[tuple[float, ...], ...]) -> None:
    for one, other in itertools.combinations(MAIN, 2):
        pair = [lab(getattr(COLOURS[kind], theme), seen) for kind in (one, other)]
        distance = sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) ** 0.5
        assert distance >= 10, (one, other)  # 2.3 is just noticeable
