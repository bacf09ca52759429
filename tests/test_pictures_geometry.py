"""Pictures: tiles too narrow to see, names that find room, images for notebooks, files of their own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_reports as made
import pytest
from test_pictures import SPACE, contrast, parsed, timed, widths

import flopscope
from flopscope import pictures
from flopscope.commands.outputs import OF_COMPARISONS, is_ours, write, writer_of
from flopscope.comparison import Comparison
from flopscope.errors import InputError
from flopscope.pictures.labels import Spot, placed
from flopscope.pictures.palette import COLOURS, PARTS
from flopscope.pictures.rooflines import lay_out
from flopscope.pictures.shapes import fitting, length
from flopscope.pictures.tiles import Tile, joined
from flopscope.records import MemoryPeak, Quality, Ratio, Settings, Side
from flopscope.render import Options


def many(count: int, **given: Any) -> flopscope.Report:
    """So many equal convolutions in blocks of ten, with memory over their run."""
    layers = [
        made.layer(f"stage{k // 100}.block{k // 10}.conv{k}", "Conv2d", "conv", flops=5, latency_s=1e-6)
        for k in range(count)
    ]
    return made.report(*layers, **given)


# --------------------------------------------------------------------------- tiles too narrow to see


def leaf(row: int, flops: tuple[float, float], time: tuple[float, float], level: int = 1) -> Tile:
    return Tile(f"l{row}", f"l{row}", level, row, flops, time)


def test_narrow_neighbours_are_joined_until_they_can_be_seen() -> None:
    leaves = [
        leaf(0, (0.0, 0.5), (0.0, 0.1)),
        leaf(1, (0.5, 0.502), (0.1, 0.104), level=3),
        leaf(2, (0.502, 0.505), (0.104, 0.105), level=2),
        leaf(3, (0.505, 0.509), (0.105, 0.110)),
        leaf(4, (0.509, 0.511), (0.110, 0.112)),
        leaf(5, (0.511, 1.0), (0.112, 1.0)),
    ]
    first, three, rest, last = joined(leaves, 0.009)
    assert (first, last) == (leaves[0], leaves[5])
    assert three == replace(leaves[3], flops=(0.5, 0.509), time=(0.1, 0.11), level=1, more=2)  # 0.01 of time
    assert rest == leaves[4]  # what is left before a wide one stays by itself


def test_a_net_of_thousands_of_layers_has_every_part_of_its_width() -> None:
    svg = pictures.icicles(many(8000), width=1020, static=True)  # 0.125 units for each layer
    drawn = widths(svg, COLOURS["conv"].light)
    assert sum(drawn) == pytest.approx(2 * 1000, rel=0.02)  # 0.375 is written as 0.38
    assert len(drawn) == 2 * 2667  # three of 0.125 are seen; 8000 = 2666 times three and two more
    assert "and 2 neighbours, too narrow to be seen apart" in svg


def test_tiles_of_both_rows_fill_the_width() -> None:
    svg = pictures.icicles(timed(), width=1220, static=True)
    both = [
        wide
        for kind in ("conv", "depthwise_conv", "elementwise")
        for wide in widths(svg, COLOURS[kind].light)
    ]
    assert sum(both) == pytest.approx(2 * 1200)


def test_a_model_without_flops_says_so() -> None:
    idle = made.report(made.layer("flat", "Flatten", "data_movement", latency_s=1e-6))
    words = "".join(parsed(pictures.icicles(idle, width=1020, static=True)).itertext())
    assert "no layer has FLOPs" in words
    assert "data movement0 % of FLOPs, 100 % of time" in words
    assert widths(pictures.icicles(idle, width=1020, static=True), COLOURS["data_movement"].light) == [1000]


def test_a_wide_tile_says_its_kind_and_share_in_what_can_be_read_on_it() -> None:
    svg = pictures.icicles(timed(), static=True)
    texts = {item.text: item.get("fill") for item in parsed(svg).iter(f"{SPACE}text")}
    assert texts["depthwise"] == COLOURS["depthwise_conv"].text.light == "#ffffff"
    for colour in (*COLOURS.values(), *PARTS.values()):
        assert contrast(colour.light, colour.text.light) >= 4.5
        assert contrast(colour.dark, colour.text.dark) >= 4.5


def test_a_training_step_and_names_of_any_script_are_drawn() -> None:
    report = timed(model="模型 Ω", settings=Settings(inputs="1x4x2x2", train=True))
    words = "".join(parsed(pictures.icicles(report, static=True)).itertext())
    assert "FLOPs are not time: 模型 Ω" in words
    assert "one training step" in words


# --------------------------------------------------------------------------- images


def test_an_image_has_the_same_tiles_without_titles() -> None:
    svg = pictures.icicles(timed(), width=1020, static=True, titles=False)
    assert "<title>" not in svg
    fill = COLOURS["depthwise_conv"].light
    (group,) = (item for item in parsed(svg).iter(f"{SPACE}g") if item.get("fill") == fill)
    tiles, band = (item.get("d") or "" for item in group.iter(f"{SPACE}path"))
    assert re.findall(r"M([\d.]+) [\d.]+h([\d.]+)v", tiles) == [("610", "200"), ("210", "600")]  # x, width
    assert band.startswith("M610 ")


def test_what_a_notebook_shows_of_500_layers_stays_small() -> None:
    shown = many(500, machine=made.roofs())._repr_html_()
    assert len(shown) < 200_000
    coded = re.search(r'<img alt="([^"]*)" src="data:image/svg\+xml;base64,([^"]+)"', shown)
    assert coded is not None
    assert coded[1] == "FLOPs are not time: net.py:Net. conv: 100 % of FLOPs, 100 % of time"
    ET.fromstring(b64decode(coded[2]))


# --------------------------------------------------------------------------- names and their room


FRAME = (0.0, 0.0, 200.0, 100.0)


def test_a_name_stands_beside_its_dot() -> None:
    (label,) = placed([Spot(50, 50, 5, "abc")], FRAME, size=10, most=3)
    assert (label.name, label.x) == ("abc", 59)  # radius 5, and 4 between
    assert label.y == pytest.approx(50 + 6 - 2.5)  # half of 1.2 lines down, a quarter of one up to the base
    assert label.leader is None


def test_a_name_goes_where_no_edge_no_dot_and_no_line_is() -> None:
    wide = length("abc", 10)
    (at_edge,) = placed([Spot(195, 50, 4, "abc")], FRAME, size=10, most=3)
    assert at_edge.x == pytest.approx(195 - 4 - 4 - wide)
    (crowded,) = placed([Spot(100, 50, 4, "abc"), Spot(112, 50, 6)], FRAME, size=10, most=3)
    assert crowded.x == pytest.approx(100 - 4 - 4 - wide)
    (lined,) = placed([Spot(100, 50, 4, "abc")], FRAME, size=10, most=3, lines=[(0, 50, 200, 50)])
    assert lined.x == pytest.approx(100 - wide / 2)  # above it
    assert lined.y < 46


def test_a_name_that_stands_apart_is_led_to_its_dot() -> None:
    around = [Spot(100 + x, 50 + y, 3) for x in (-10, 0, 10) for y in (-10, 0, 10) if x or y]
    (label,) = placed([Spot(100, 50, 2, "abc"), *around], FRAME, size=10, most=1)
    assert label.leader is not None
    x, y, _, _ = label.leader
    assert (x - 100) ** 2 + (y - 50) ** 2 == pytest.approx(4)  # it begins at the dot's edge


def test_two_dots_on_one_place_have_one_name_and_no_more_names_than_asked_for() -> None:
    twins = [
        Spot(50, 50, 5, "first"),
        Spot(52, 50, 3, "second"),
        Spot(150, 20, 3, "third"),
        Spot(20, 80, 3, "fourth"),
    ]
    assert [label.name for label in placed(twins, FRAME, size=10, most=2)] == ["first", "third"]
    assert placed([Spot(50, 50, 5, "a name that is wider than the frame is")], FRAME, size=10, most=2) == ()


def test_a_text_is_cut_to_its_room_and_keeps_its_number() -> None:
    assert fitting("block", 100) == "block"
    cut = fitting("encoder_layer_11", 70, 10)
    assert re.fullmatch(r"encode\w*…11", cut)
    assert length(cut, 10) <= 70
    # d, o, w, n, s are 0.64, 0.64, 0.84, 0.64, 0.53 font sizes wide, a 0.64, the sign of the cut 1.
    assert fitting("downsample", 45, 10) == "downs…"
    assert fitting("classifier", 12, 10) == ""


def test_every_dot_stands_within_the_axes() -> None:
    slow = made.layer("slow", "Softmax", "activation", flops=10, bytes_read=4000, latency_s=1e-3)
    report = made.report(made.conv(latency_s=1e-6), slow, machine=made.roofs())
    assert report.machine is not None
    plan = lay_out(report.machine, report)
    assert plan is not None
    for point in plan.points:
        assert 10 ** plan.up[0] < point.flops_per_s < 10 ** plan.up[1]
        assert 10 ** plan.across[0] < point.intensity < 10 ** plan.across[1]


def test_layers_without_a_dot_are_told_by_kind() -> None:
    moved = made.layer("cat", "Cat", "data_movement", bytes_read=8, latency_s=3e-6)
    views = made.layer("view", "View", "other", latency_s=1e-6)
    report = made.report(made.conv(latency_s=6e-6), views, moved, machine=made.roofs())
    assert (
        "40.0 % of the time is in layers without FLOPs, which have no dot: data movement 30.0 %, other 10.0 %"
        in pictures.roofline(report, static=True)
    )


# --------------------------------------------------------------------------- bars


def test_bars_say_their_shares_their_scale_and_what_a_layer_is() -> None:
    words = "".join(parsed(pictures.breakdown(timed(), by="layer", static=True)).itertext())
    assert "by layer; on a scale of their own: the longest is 0.006 ms" in words
    assert "41.7 %" in words  # 2.5 of the 6 µs of the depthwise layer
    assert "0.006 ms, 60.0 %, depthwise conv" in words


def test_a_side_that_was_not_timed_has_no_bar() -> None:
    sides = tuple(Side(name, measured=name != "c") for name in "abc")
    found = Comparison(
        sides=sides,
        reports=(timed(),) * 3,
        ratios=(None, Ratio(0.5, 0.4, 0.6, "faster", 20), None),
        matches=(),
    )
    svg = parsed(pictures.ratios(found, static=True, width=718))  # 718 - 250 - 360 units for 1.08
    bars = [float(item.get("width", 0)) for item in svg.iter(f"{SPACE}rect") if item.get("fill-opacity")]
    assert bars == pytest.approx([100, 50])
    assert "time, as a multiple of a's" in "".join(svg.itertext())


# --------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "writer"),
    [
        ("x.svg", "svg"),
        ("roofline.svg", "roofline-svg"),
        ("net.Roofline.SVG", "roofline-svg"),
        ("parts.svg", "parts-svg"),
        ("a.b.memory.svg", "memory-svg"),
        ("myroofline.svg", "svg"),
        ("trace.json", "json"),
    ],
)
def test_the_name_of_a_file_decides_which_picture_it_is(name: str, writer: str) -> None:
    assert writer_of(Path(name)) == writer
    assert writer_of(Path("roofline.svg"), OF_COMPARISONS) == "svg"


def test_pictures_are_files_of_their_own_and_known_again(tmp_path: Path) -> None:
    report = timed(peak=MemoryPeak(9, 0, "a.conv", (("input", 9),), (9, 3)))
    titles = {
        "x.svg": "FLOPs are not time: net.py:Net",
        "roofline.svg": "Roofline: net.py:Net",
        "x.parts.svg": "Where the time goes: net.py:Net",
        "memory.svg": "Activation memory: net.py:Net",
    }
    paths = [str(tmp_path / name) for name in titles]
    write(report, paths, Options())
    for path, title in zip(paths, titles.values(), strict=True):
        assert is_ours(Path(path))
        assert title in [item.text for item in ET.parse(path).getroot().iter(f"{SPACE}text")]
    (tmp_path / "theirs.svg").write_text("<svg/>", encoding="utf-8")
    assert not is_ours(tmp_path / "theirs.svg")


@pytest.mark.parametrize("picture", ["parts", "roofline", "memory"])
def test_a_picture_of_what_a_report_does_not_hold_is_refused(picture: str) -> None:
    bare = made.report(made.conv())
    with pytest.raises(InputError) as caught:
        bare.to_svg(picture=picture)
    assert caught.value.hint
    with pytest.raises(InputError, match="void"):
        timed(quality=Quality("void")).to_svg(picture="parts")


# --------------------------------------------------------------------------- matplotlib


def test_names_are_no_formulas_for_matplotlib(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    layers = [
        made.layer(rf"$\frac$.{k}", "Conv2d", "conv", flops=9, bytes_read=3, latency_s=1e-6) for k in "ab"
    ]
    report = made.report(*layers, model=r"$\frac$", machine=made.roofs())
    report.plot_icicle(tmp_path / "a.svg")
    report.plot_roofline(tmp_path / "b.svg")
    assert (tmp_path / "b.svg").stat().st_size > 1000


def test_pictures_are_drawn_into_axes_of_ones_own() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    left, right = Figure(figsize=(8, 3)).subplots(1, 2)
    assert timed().plot_roofline(ax=left) is left
    assert timed().plot_icicle(ax=right) is right
    named = {item.get_text() for item in left.texts}
    assert {"a.conv", "a.dw"} <= named
    assert "float32 100 GFLOP/s" in named
