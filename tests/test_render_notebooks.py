"""What a notebook shows of comparisons, explanations and machines: whole without styles, escaped, small."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import unescape

import made_reports as made
import pytest

from flopscope.comparison import Comparison
from flopscope.records import Match, Ratio, Side

FASTER = Ratio(0.5, 0.4, 0.6, "faster", 20)
HOSTILE = "<script>alert('1')</script>&\""


def comparison(name: str = "new", ratio: Ratio | None = FASTER) -> Comparison:
    report = made.report()
    matches = tuple(Match((row, row), "path") for row in range(3))
    sides = (Side("old", measured=True), Side(name, measured=True))
    return Comparison(sides=sides, reports=(report, report), ratios=(None, ratio), matches=matches)


def shown() -> dict[str, str]:
    report = made.report(model=HOSTILE, machine=replace(made.roofs(), name=HOSTILE))
    assert report.machine is not None
    return {
        "comparison": comparison(HOSTILE)._repr_html_(),
        "why of a layer": report.why("a.dw")._repr_html_(),
        "why of all": report.why()._repr_html_(),
        "machine": report.machine._repr_html_(),
    }


@pytest.mark.parametrize("what", list(shown()))
def test_it_is_text_without_scripts_and_styles(what: str) -> None:
    html = shown()[what]
    assert not re.search(r"<script|<style|class=|<svg", html)
    assert len(html) < 60_000
    tags = re.findall(r"<(/?)([a-z]+)[^>]*>", html)
    for tag in {name for _, name in tags} - {"img"}:
        assert tags.count(("", tag)) == tags.count(("/", tag)), tag


def test_a_comparison_shows_its_ratio_as_picture_and_table() -> None:
    html = comparison()._repr_html_()
    coded = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert coded is not None
    svg = base64.b64decode(coded[1]).decode()
    assert "0.5 (0.4 to 0.6) faster" in "".join(ET.fromstring(svg).itertext())
    assert "<table" in html
    assert "base64" not in comparison(ratio=None)._repr_html_()


def test_a_machine_shows_its_roofs() -> None:
    html = made.roofs()._repr_html_()
    assert html.count("<table") >= 2
    assert "float32" in html
    assert "data:image/svg+xml" in html


def test_an_explanation_is_what_the_terminal_says() -> None:
    why = made.report().why("a.dw")
    first, *rest = why.text.splitlines()
    html = unescape(why._repr_html_())
    assert f"<p><b>{first}</b></p>" in html
    assert rest
    for line in rest:
        assert line in html
