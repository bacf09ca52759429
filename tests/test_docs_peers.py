"""What docs/conventions.md says of other counters: the truth is worked out by hand, and ours is the truth.

That the page shows the tables that were measured is tested in `test_docs_pictures.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import flopscope
from flopscope.costs import table

ROOT = Path(flopscope.__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
pytestmark = pytest.mark.skipif(
    not (ROOT / "benchmarks").is_dir(), reason="benchmarks are in the checkout only"
)

if (ROOT / "benchmarks").is_dir():
    from peers_cases import CONTRACTIONS, REST, Case

    CASES = (*CONTRACTIONS, *REST)
else:
    CONTRACTIONS = REST = CASES = ()


def rows(text: str) -> list[list[str]]:
    """The cells of the first table in a text, the rule below the headings left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [cells[0], *cells[2:]]


def measured(section: str) -> list[list[str]]:
    text = (ROOT / "benchmarks" / "results" / "peers.md").read_text(encoding="utf-8")
    return rows(text.split(f"## {section}\n")[1].split("\n## ")[0])


@pytest.mark.parametrize("cases", [CONTRACTIONS, REST], ids=["contractions", "rest"])
def test_the_cases_are_those_of_the_results(cases: tuple[Case, ...]) -> None:
    listed = [row[0] for row in measured("Contractions" if cases is CONTRACTIONS else "The rest")[1:]]
    assert listed == [case.name for case in cases]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_flopscope_sees_every_mac(case: Case) -> None:
    """Against the MACs that the case has by hand."""
    assert flopscope.count(case.build().eval(), case.input(), progress=False).total.macs == case.macs


def test_our_column_is_the_tables_of_conventions() -> None:
    """Batch norm 2, layer norm 5 and its weight and bias, an average over 4 of 4 values: 1 each."""
    ours = {row[0]: row[1] for row in measured("The rest")[1:]}
    term, each = table.TERM, table.PER_OUTPUT
    norm = term["normalisation by own statistics"] + term["its weight"] + term["its bias"]
    expected = {
        "bias of a convolution": 0,
        "batch norm": term["batch norm with running statistics"],
        "layer norm": norm,
        "ReLU": each["relu"],
        "GELU": each["gelu"],
        "sigmoid": each["sigmoid"],
        "softmax": table.PER_INPUT["softmax"],
        "average pool 2x2": 1,
        "bilinear x2": term["bilinear interpolation"],
    }
    assert {name: ours[name] for name in expected} == {name: str(number) for name, number in expected.items()}
    assert {row[1] for row in measured("Contractions")[1:]} == {"1"}
