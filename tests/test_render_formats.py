"""Formats for files and papers: nothing is read as markup, nothing as a number that is a name."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from made_reports import conv, depthwise, layer, report

from flopscope.render import RENDERERS, Options, render, renderer
from flopscope.render.latex import escape as latex
from flopscope.render.markdown import escape as markdown
from flopscope.render.rows import COLUMNS
from flopscope.reports import Report

NASTY = r"a_b%c&d#e|f<g>\h$i{j}~k^l"


def nasty() -> Report:
    return report(replace(conv(), path=NASTY))


@pytest.mark.parametrize("name", ["text", "markdown", "latex", "html", "csv", "tsv"])
def test_a_layer_called_1e5_stays_so(name: str) -> None:
    text = report(replace(conv(), path="1e5"), replace(depthwise(), path="007")).table(name)
    assert "1e5" in text
    assert "007" in text
    assert "100000" not in text


# --------------------------------------------------------------------------- csv and tsv


def test_csv_is_plain() -> None:
    shown = report(
        conv(latency_s=0.25, verdicts=("no-gemm", "low-intensity")),
        layer("s", "Sum", "reduction", output_shape=()),
    )
    first, second = csv.DictReader(io.StringIO(shown.to_csv()))
    assert tuple(first) == COLUMNS
    assert first["macs"] == "300"
    assert first["output_shape"] == "1x4x2x2"
    assert first["latency_s"] == "0.25"
    assert first["verdicts"] == "no-gemm low-intensity"
    assert first["samples"] == ""  # Not measured ...
    assert second["macs"] == "0"  # ... and really zero.
    assert second["output_shape"] == "scalar"
    assert second["latency_s"] == ""


def test_csv_columns_add_up_to_the_total() -> None:
    rows = list(csv.DictReader(io.StringIO(report().to_csv())))
    for name in ("params", "macs", "flops", "bytes_read", "bytes_written"):
        assert sum(int(row[name]) for row in rows) == getattr(report().total, name)


def test_csv_quotes_and_tsv_tabs() -> None:
    odd = report(replace(conv(), path='a,"b"'))
    assert next(csv.DictReader(io.StringIO(odd.to_csv())))["path"] == 'a,"b"'
    tsv = odd.table("tsv", columns=["path", "macs"])
    assert next(csv.DictReader(io.StringIO(tsv), delimiter="\t"))["path"] == 'a,"b"'
    assert tsv.splitlines()[0] == "path\tmacs"


def test_csv_by_kind_and_of_the_tree() -> None:
    first = next(csv.DictReader(io.StringIO(report().table("csv", by="kind"))))
    assert (first["kind"], first["layers"], first["flops"]) == ("depthwise_conv", "1", "200")
    rows = list(csv.DictReader(io.StringIO(report().table("csv", depth=1))))
    assert [(row["path"], row["depth"]) for row in rows] == [("", "0"), ("a", "1"), ("a", "0")]


# --------------------------------------------------------------------------- markdown


def test_markdown_table() -> None:
    lines = report().table("markdown", columns=["path", "macs"]).splitlines()
    assert lines == [
        "| layer   |   MACs |",
        "|:--------|-------:|",
        "| a.conv  |    300 |",
        "| a.dw    |    100 |",
        "| a (ops) |      0 |",
        "| total   |    400 |",
    ]


def test_markdown_escapes_what_it_would_read_as_markup() -> None:
    assert markdown("a|b") == r"a\|b"
    assert markdown("layer_1_x") == "layer_1_x"  # Inside a word an underscore is plain.
    assert markdown("_x_ *y* `z` <b> [l]") == r"\_x\_ \*y\* \`z\` \<b> \[l\]"
    (row,) = (line for line in nasty().to_markdown().splitlines() if "a_b%c" in line)
    unescaped = row.replace(r"\|", "")
    assert unescaped.count("|") == len(nasty().to_markdown().splitlines()[0].replace(" ", "").split("|")) - 1


# --------------------------------------------------------------------------- latex


def test_latex_table() -> None:
    assert report().table("latex", columns=["path", "flops_share"]).splitlines() == [
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r" layer   &   FLOPs \% \\",
        r"\midrule",
        r" a.conv  &       60.0 \\",
        r" a.dw    &       20.0 \\",
        r" a (ops) &       20.0 \\",
        r"\midrule",
        r" total   &        100 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_latex_escapes_every_special_character() -> None:
    assert latex("a_b%c&d#e") == r"a\_b\%c\&d\#e"
    assert latex(r"\h$i{j}") == r"\textbackslash{}h\$i\{j\}"
    assert latex("~^<>|") == (r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}")
    # After the line break of the row above, a bracket would be read as its argument.
    assert latex("[x]") == "{[}x{]}"
    assert latex("≥ 3 µs") == r"$\geq$ 3 $\mu$s"
    assert latex(NASTY) in nasty().to_latex()


# --------------------------------------------------------------------------- html


class Cells(HTMLParser):
    """Collects tags, and the texts of table cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data


def parsed(html: str) -> Cells:
    cells = Cells()
    cells.feed(html)
    return cells


def test_html_escapes_and_brings_nothing_along() -> None:
    script = report(replace(conv(), path="<script>alert(1)</script>"), model="<b>m</b>", notes=("<i>",))
    for html in (script.table("html"), script._repr_html_()):
        assert parsed(html).tags <= {"table", "thead", "tbody", "tr", "th", "td", "p", "b", "img"}
        assert "http" not in html
        assert "<script>alert(1)</script>" in [text.strip() for text in parsed(html).texts]
    assert "<b>&lt;b&gt;m&lt;/b&gt;</b>" in script._repr_html_()


def test_html_holds_the_cells() -> None:
    texts = [text.strip() for text in parsed(report().table("html", columns=["path", "macs"])).texts]
    assert texts == ["layer", "MACs", "a.conv", "300", "a.dw", "100", "a (ops)", "0", "total", "400"]


def test_a_notebook_shows_what_the_terminal_does() -> None:
    html = report()._repr_html_()
    assert "depthwise_conv: 20.0 % of the FLOPs, 60.0 % of the time" in html
    assert "whole model 0.011 ms = layers 0.010 + interference 0.001" in html
    assert "warning: one" in html


# --------------------------------------------------------------------------- the registry


def test_a_taken_name_is_refused_with_its_holder() -> None:
    with pytest.raises(ValueError, match=r"'text' is rendered by flopscope\.render\.text\.render_text"):
        renderer("text")(lambda report, options: "")


def test_a_new_format_can_be_entered() -> None:
    try:
        renderer("shout")(lambda report, options: report.model.upper())
        assert report().table("shout") == "NET.PY:NET"
        assert render(report(), "shout", Options()) == "NET.PY:NET"
    finally:
        RENDERERS.pop("shout", None)


@pytest.mark.parametrize("name", ["text", "markdown", "latex", "html", "notebook", "csv", "tsv", "json"])
def test_every_format_takes_a_report_without_layers(name: str) -> None:
    nothing = report(conv())
    nothing = replace(nothing, layers=(), tree=(), ops=(), total=layer("", "Net", "other"))
    assert render(nothing, name)
