"""Bars of text: every cell is given, in proportion, and a letter stands in where a block cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_reports import explained, report

from flopscope.errors import InputError
from flopscope.records import Quality
from flopscope.render import Options, render
from flopscope.render.bars import apportioned, stacked
from flopscope.render.parts import PARTS, Parts

EVEN = Parts(dict(zip(PARTS, (4.0, 3.0, 2.0, 1.0, 0.0), strict=True)))


def test_cells_are_in_proportion() -> None:
    assert stacked(EVEN, 10, blocks=False) == "CCCCKKKOOA"
    assert stacked(EVEN, 10) == "████▓▓▓▒▒░"
    # 4, 3, 2, 1 of 10 in 5 cells: 2, 1.5, 1, 0.5; the fractions are equal and the first is rounded up.
    assert stacked(EVEN, 5, blocks=False) == "CCKKO"
    assert stacked(EVEN, 0) == ""


@given(
    st.lists(st.floats(0, 1e6), min_size=5, max_size=5).filter(lambda x: sum(x) > 1e-3), st.integers(0, 200)
)
def test_all_cells_are_given_and_none_is_off_by_more_than_one(amounts: list[float], cells: int) -> None:
    given_ = apportioned(amounts, cells)
    assert sum(given_) == cells
    for amount, count in zip(amounts, given_, strict=True):
        assert abs(count - cells * amount / sum(amounts)) <= 1 + 1e-6


def test_the_whole() -> None:
    # 19, 32, 27, 5 and 17 % of 60 cells: 11.4, 19.2, 16.2, 3.0, 10.2; the one cell left goes to .4.
    title, bar, first, second = render(explained(), "bars", Options(width=60)).splitlines()
    assert title == "undisturbed time of the layers, 0.010 ms"
    assert len(bar) == 60
    assert [bar.count(sign) for sign in "█▓▒░·"] == [12, 19, 16, 3, 10]
    assert first == "█ compute 19.0 %   ▓ kernel 32.0 %   ▒ overhead 27.0 %"
    assert second == "░ allocation 5.0 %   · memory 17.0 %"


def test_letters_where_blocks_cannot_be_shown() -> None:
    text = render(explained(), "bars", Options(width=40, blocks=False))
    assert text.isascii()
    assert "\nCCCC" in text
    assert "C compute 19.0 %   K kernel 32.0 %" in text
    assert render(explained(), "text", Options(blocks=False)).isascii()


def test_kinds_have_bars_as_long_as_their_time() -> None:
    text = render(explained(), "bars", Options(by="kind", width=80, blocks=False))
    rows = [line.split() for line in text.splitlines()]
    assert [row[:3] for row in rows[:3]] == [
        ["depthwise_conv", "0.006", "ms"],
        ["conv", "0.002", "ms"],
        ["elementwise", "0.002", "ms"],
    ]
    # 80 - 14 for labels - 5 for numbers - 7 between are 54 cells for 6 µs, 18 for 2 µs.
    assert [len(row[3]) for row in rows[:3]] == [54, 18, 18]
    # 70, 10, 10, 0, 10 % of 18 cells: 12.6, 1.8, 1.8, 0, 1.8; the three left go to the three of .8.
    assert rows[1][3] == "C" * 12 + "K" * 2 + "O" * 2 + "M" * 2
    assert text.splitlines()[3] == "C compute   K kernel   O overhead   A allocation   M memory"


def test_nothing_to_draw() -> None:
    assert render(report(), "bars") == "no time was taken apart"
    assert render(report(), "bars", Options(by="type")) == "no time was taken apart"
    assert render(explained(quality=Quality("void")), "bars") == "no time was taken apart"


def test_what_has_no_parts_has_no_bars() -> None:
    for options in (Options(by="op"), Options(depth=1)):
        with pytest.raises(InputError, match="bars are drawn of"):
            render(explained(), "bars", options)


def test_a_remainder_is_not_called_a_kernel() -> None:
    made = explained()
    cheap = replace(made, evidence=tuple(replace(item, form="cheap") for item in made.evidence))
    text = render(cheap, "bars")
    assert "0.010 ms, by roofs alone" in text
    assert "▓ unexplained 32.0 %" in text
