"""What a notebook shows of comparisons, explanations and machines: whole without styles, escaped, small."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import unescape

import made_reports as made
import pytest
from diagnosed import PAIRS

from flopscope.comparison import Comparison
from flopscope.records import Match, Ratio, Side
from flopscope.render.why_documents import why_markdown

FASTER = Ratio(0.5, 0.4, 0.6, "faster", 20)
HOSTILE = "<script>alert('1')</script>&\""


def comparison(name: str = "new", ratio: Ratio | None = FASTER) -> Comparison:
    report = made.report()
    matches = tuple(Match((row, row), "path") for row in range(3))
    sides = (Side("old", measured=True), Side(name, measured=True))
    return Comparison(sides=sides, reports=(report, report), ratios=(None, ratio), matches=matches)


def shown() -> dict[str, str]:
    hostile = replace(made.depthwise(latency_s=6e-6), path=f"a.{HOSTILE}")
    report = made.report(
        made.conv(latency_s=2e-6), hostile, model=HOSTILE, machine=replace(made.roofs(), name=HOSTILE)
    )
    assert report.machine is not None
    return {
        "comparison": comparison(HOSTILE)._repr_html_(),
        "why of a layer": report.why(f"a.{HOSTILE}")._repr_html_(),
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
    assert html.index("net.py:Net") < html.index("<img") < html.index("<table")
    assert "base64" not in comparison(ratio=None)._repr_html_()


def test_a_machine_shows_its_roofs() -> None:
    html = made.roofs()._repr_html_()
    assert html.count("<table") >= 2
    assert "float32" in html
    assert "data:image/svg+xml" in html


@pytest.mark.parametrize("path", ["a.dw", ""])
def test_an_explanation_says_what_the_terminal_says(path: str) -> None:
    why = made.report().why(path)
    html = why._repr_html_()
    told = set(words(unescape(re.sub(r"<[^>]+>", " ", html))))
    # Numbers of a list, signs of a bar, and the rules of tables are the terminal's own.
    own = re.compile(r"\d+\.|[^\w\s]*|\[.*\]|-+")
    missing = {word for word in words(why.text) if word not in told and not own.fullmatch(word)}
    assert not missing
    assert "<table" in html
    assert "<p><b>Verdict</b> " in html


def words(text: str) -> list[str]:
    return [word.strip(".:;,") for word in text.split()]


def test_the_parts_of_an_explanation_are_a_table_and_causes_a_list() -> None:
    layer = next(iter(PAIRS.values()))[0].report().why("net.one")
    html = layer._repr_html_()
    parts = re.search(r"<b>Parts</b></p>\s*(<table>.*?</table>)", html, re.DOTALL)
    assert parts is not None
    names = [cell.text for row in ET.fromstring(parts[1]).iter("tr") for cell in list(row)[:1]]
    assert [name and name.strip() for name in names] == [
        "part", "compute", "kernel", "overhead", "allocation", "memory",
    ]  # fmt: skip
    assert layer.reasons
    assert html.count("<li>") >= len(layer.reasons)


def test_an_explanation_as_markdown_escapes_what_it_was_given() -> None:
    hostile = replace(made.depthwise(latency_s=6e-6), path="a|*b*")
    text = why_markdown(made.report(made.conv(latency_s=2e-6), hostile).why("a|*b*"))
    assert text.startswith("# a\\|\\*b\\* · ")
    assert "a|" not in text
    measured = next(iter(PAIRS.values()))[0].report().why("net.one")
    assert "\n## Parts\n\n| part" in why_markdown(measured)
