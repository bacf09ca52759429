"""Pictures in characters: lengths in proportion, one scale, every width, and what is missing is said."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from command_lines import CommandLine
from hypothesis import given
from hypothesis import strategies as st
from made_reports import add, conv, depthwise, explained, layer, report, roofs

from flopscope.comparison import Comparison, compared
from flopscope.errors import InputError
from flopscope.records import Peak, Quality, Ratio, Side
from flopscope.render import Options, render
from flopscope.render.compared import plotted as plotted_comparison
from flopscope.render.plot import thick, thin

ASCII = Options(blocks=False)


def plotted(made: object, **given: object) -> list[str]:
    return render(made, "plot", Options(**given)).splitlines()  # type: ignore[arg-type]


def bare(line: str) -> str:
    return re.sub("\x1b\\[\\d+m", "", line)


def test_bars_are_in_proportion() -> None:
    """A half of 10 columns is 5; 0.33 of 10 columns are 3.3: 6.6 halves, 26.4 eighths."""
    assert thin(0.5, 10, Options()) == "━" * 5
    assert thin(0.33, 10, Options()) == "━━━╸"
    assert thick(0.33, 10, Options()) == "███▎"
    assert thick(1.0, 3, Options()) == "███"
    assert thin(0.33, 10, ASCII) == "----"
    assert thick(0.33, 10, ASCII) == "###"


def test_what_is_little_is_seen_and_what_is_nothing_is_not() -> None:
    for options in (Options(), ASCII):
        assert len(thin(1e-9, 10, options)) == len(thick(1e-9, 10, options)) == 1
        assert thin(0.0, 10, options) == thick(0.0, 10, options) == ""


@given(st.floats(0, 1), st.integers(1, 150), st.booleans())
def test_no_bar_is_longer_than_its_room(share: float, room: int, blocks: bool) -> None:
    options = Options(blocks=blocks)
    assert len(thin(share, room, options)) <= room
    assert len(thick(share, room, options)) <= room


def test_flops_stand_above_time_on_one_scale() -> None:
    """600, 200 and 200 of 1000 FLOPs; 2, 6 and 2 of 10 µs: the longest bars of both are equally long.

    80 columns less 14 of the longest name, less 28 of what stands round a bar, are 38; 20 % against 60 are a
    third of them: 12.67 columns.
    """
    lines = plotted(explained(), width=80)
    start = lines.index("FLOPs are not time: what share of both each kind has")
    rows = lines[start + 1 : start + 7]
    assert [row.split()[0] for row in rows[::2]] == ["depthwise_conv", "conv", "elementwise"]
    assert [row.count("━") for row in rows[::2]] == [12, 38, 12]
    assert [row.count("█") for row in rows[1::2]] == [38, 12, 12]
    assert [row.count("╸") for row in rows[::2]] == [1, 0, 1]
    assert rows[0].endswith("20.0 %")
    assert rows[1].endswith("60.0 %  3.0x !")
    assert rows[3].endswith("20.0 %  0.3x")


def test_small_kinds_are_added_up_in_a_line() -> None:
    """1 of 1001 FLOPs and 0.01 of 10.01 µs are below half a percent of both."""
    small = layer("p", "Pool", "pooling", flops=1, latency_s=1e-8)
    lines = plotted(report(conv(latency_s=2e-6), depthwise(latency_s=6e-6), add(latency_s=2e-6), small))
    assert "1 more: 0.1 % of the FLOPs, 0.1 % of the time" in lines
    assert not any(line.startswith("pooling") for line in lines)


def test_disturbed_times_are_marked() -> None:
    doubt = replace(explained(), quality=Quality("disturbed", ("others ran",)))
    marked = replace(doubt, layers=tuple(replace(item, quality=None) for item in doubt.layers))
    lines = plotted(marked)
    assert any(line.endswith("~60.0 %  3.0x !") for line in lines)
    assert any(line.startswith("warning: timing is disturbed: others ran") for line in lines)


def test_the_five_parts_are_those_of_the_bars() -> None:
    lines = plotted(explained(), width=80)
    start = lines.index("What the time consists of, by kind")
    assert (
        lines[start + 1 :][:4] == render(explained(), "bars", Options(by="kind", width=80)).splitlines()[:4]
    )


def test_layers_stand_under_the_roof_of_their_dtype() -> None:
    """600 FLOPs in 2 µs at 6 FLOP/B, 200 in 6 µs at 1: each has its kind's letter."""
    peaks = (Peak("float32", 1e11), Peak("int8", 1e12))
    lines = plotted(replace(explained(), machine=roofs(peaks=peaks)), width=80)
    start = next(place for place, line in enumerate(lines) if line.startswith("Roofline"))
    assert lines[start].startswith("Roofline (float32 100 GFLOP/s): each letter a layer")
    picture = lines[start + 2 :]
    end = next(place for place, line in enumerate(picture) if "└" in line)
    places = {
        letter: (row, column)
        for row, line in enumerate(picture[:end])
        for column, letter in enumerate(line[8:60])
        if letter in "CDE"
    }
    assert set(places) == set("CDE")
    assert places["C"][0] < places["D"][0]  # 300 MFLOP/s against 33
    assert places["C"][1] > places["D"][1] > places["E"][1]  # 6, 1 and 2/3 FLOP/B
    assert "int8" not in "\n".join(lines)
    assert "D depthwise_conv   C conv   E elementwise" in lines


def test_layers_below_one_percent_have_small_letters() -> None:
    """0.05 of 10.05 µs."""
    small = layer("s", "Linear", "linear", macs=50, flops=100, bytes_read=100, latency_s=5e-8)
    made = report(conv(latency_s=1e-5), small, machine=roofs(), quality=Quality("good"))
    lines = plotted(made)
    assert any(" l " in line or line.rstrip().endswith("l") for line in lines if "│" in line)
    assert "C conv   L linear" in lines


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ({"quality": Quality("void", ("busy",))}, "nothing can be said of rates where timing is void"),
        ({"machine": None}, "the roofs of the machine are not known (flopscope machine)"),
        ({"machine": replace(roofs(form="sheet"), name="A100")}, "does not run under the roofs of A100"),
        ({"machine": roofs(peaks=(Peak("int8", 1e12),))}, "no roof is known for float32"),
    ],
)
def test_it_is_said_why_there_is_no_roofline(given_: dict[str, object], reason: str) -> None:
    text = "\n".join(plotted(replace(explained(), **given_)))  # type: ignore[arg-type]
    assert f"No roofline: {reason}" in text or reason in text
    assert "Roofline (" not in text


def test_without_latency_flops_alone_are_drawn() -> None:
    """600 and 200 of 800 FLOPs; 80 - 14 - 10 are 56 columns."""
    lines = plotted(report(conv(), depthwise()), width=80)
    start = lines.index("FLOPs: what share each kind has. Time was not measured")
    assert lines[start + 1 :] == [
        f"conv            {'━' * 56}  75.0 %",
        f"depthwise_conv  {'━' * 18}╸{' ' * 37}  25.0 %",
    ]


def test_a_model_without_flops_has_a_header_alone() -> None:
    (line, *_) = plotted(report(layer("a", "Identity", "other")))
    assert line.startswith("flopscope 0.1.0   net.py:Net")


@pytest.mark.parametrize("width", [50, 60, 80, 120, 200])
@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("color", [True, False])
def test_it_fits(width: int, blocks: bool, color: bool) -> None:
    named = layer("x", "A" * 50, "transposed_conv", macs=10, flops=20, bytes_read=9, latency_s=1e-6)
    made = explained(layers=(*explained().layers, named))
    for by in ("kind", "type"):
        lines = plotted(made, width=width, blocks=blocks, color=color, by=by)
        assert max(len(bare(line)) for line in lines) <= min(width, 120)
        text = "\n".join(lines)
        assert text.isascii() == (not blocks)
        assert ("\x1b" in text) == color
        assert text.count("\x1b[0m") == len(re.findall("\x1b\\[3\\d", text))


def test_colours_change_nothing_else() -> None:
    assert [bare(line) for line in plotted(explained(), color=True)] == plotted(explained())


def test_eighty_columns_where_nobody_says() -> None:
    assert plotted(explained()) == plotted(explained(), width=80)


def test_pictures_are_of_kinds_or_types() -> None:
    for options in (Options(by="op"), Options(depth=1)):
        with pytest.raises(InputError, match="by kind or by type"):
            render(explained(), "plot", options)
    assert explained().table("plot", by="type", top=1).count(" FLOPs ") == 1


# --------------------------------------------------------------------------- comparisons


def a_comparison(*ratios: Ratio) -> Comparison:
    """The first side, and one for each ratio; of two, `b` without its depthwise layer."""
    others = tuple(Side(name, measured=True) for name in "bcdefg"[: len(ratios)])
    less = explained(layers=explained().layers[::2], evidence=())
    made = compared(
        [Side("a", measured=True), *others], [explained(), *(less for _ in others)], turns=[range(3)] * 7
    )
    return replace(made, ratios=(None, *ratios))


@pytest.fixture
def sides() -> Comparison:
    halved, doubled = Ratio(0.5, 0.5, 0.5, "faster", 9), Ratio(2.0, 2.0, 2.0, "slower", 9)
    return a_comparison(halved, doubled, Ratio(1.0, 0.5, 2.0, "unclear", 9))


def test_a_ratio_lies_as_far_from_one_as_its_inverse(sides: Comparison) -> None:
    lines = sides.table("plot", width=80).splitlines()
    start = lines.index("time as a multiple of that of a, with its interval")
    halved, doubled, both, axis = lines[start + 1 : start + 5]
    one = axis.index("1")
    assert halved[one] == doubled[one] == "│"
    assert abs((one - halved.index("●")) - (doubled.index("●") - one)) <= 1
    assert (both.index("├"), both.index("┤")) == (halved.index("●"), doubled.index("●"))
    assert both[one] == "●"
    assert halved.endswith("0.5x  faster")


def test_kinds_stand_side_by_side() -> None:
    """Of 2, 6 and 2 µs the other side lacks the 6."""
    lines = a_comparison(Ratio(0.4, 0.4, 0.4, "faster", 9)).table("plot", width=80).splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("by kind: ms"))
    rows = [line.split() for line in lines[start + 1 : start + 7]]
    assert [row[0] for row in rows[::2]] == ["depthwise_conv", "conv", "elementwise"]
    assert rows[0][-1] == "0.006"
    assert rows[1] == ["b", "0.000"]
    assert len(rows[0][2]) == pytest.approx(3 * len(rows[2][2]), abs=2)


def test_without_latencies_kinds_are_compared_by_macs() -> None:
    made = compared([Side("a"), Side("b")], [report(conv()), report(depthwise())])
    text = made.table("plot")
    assert "by kind: MACs; not all sides were measured" in text
    assert "multiple" not in text


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("blocks", [True, False])
def test_pictures_of_a_comparison_fit(width: int, blocks: bool, sides: Comparison) -> None:
    long = replace(sides, sides=tuple(replace(side, name=side.name * 40) for side in sides.sides))
    for made in (sides, long):
        text = plotted_comparison(made, Options(width=width, blocks=blocks, color=True))
        assert max(len(bare(line)) for line in text.splitlines()) <= min(width, 120)
        assert text.isascii() == (not blocks)
        assert "\x1b[32m" in text


# --------------------------------------------------------------------------- on the command line


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    explained().save(path)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def test_view_plots(saved: Path, run: CommandLine) -> None:
    for command in ("view", "report"):
        found = run(command, saved, "--plot")
        assert found.code == 0
        assert found.out == render(explained(), "plot") + "\n"
    assert "warning: one" in found.err


def test_colours_are_asked_for(saved: Path, run: CommandLine) -> None:
    assert "\x1b[33m" in run("view", saved, "--plot", "--color", "always").out


def test_what_does_not_go_with_pictures(saved: Path, run: CommandLine) -> None:
    for words in (["--csv"], ["--json"], ["--by", "op"], ["--depth", "2"]):
        assert run("view", saved, "--plot", *words).code == 2
    found = run("view", saved, "--plot", "--sort", "macs")
    assert found.code == 0
    assert "--sort had no effect on the pictures" in found.err


def test_compare_plots(saved: Path, run: CommandLine) -> None:
    found = run("compare", saved, saved, "--plot")
    assert found.code == 0
    assert "by kind: ms of the layers" in found.out
    assert "no verdict on latency" in found.err
    assert run("compare", saved, saved, "--plot", "--csv").code == 2
