"""docs/columns: a page for every column, with its unit, its heading and its source as the code has them."""

from __future__ import annotations

import re
from pathlib import Path

import made_reports as made
import pytest

import flopscope
from flopscope.render.cells import CATALOGUE
from flopscope.render.rows import COLUMNS, ON_REQUEST, OP_COLUMNS

ROOT = Path(flopscope.__file__).parent.parent
PAGES = ROOT / "docs" / "columns"
EVERY = (*COLUMNS, *ON_REQUEST)
FURTHER = ("operators", "signs", "sums")
TIMES = [name for name in EVERY if name.endswith("_s") and not name.endswith("_per_s")]

pytestmark = pytest.mark.skipif(not PAGES.is_dir(), reason="the documentation is in the checkout only")


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def facts(name: str) -> dict[str, str]:
    """The little table at the head of a page."""
    rows = re.findall(r"^\| ([a-z ]+) \| (.+) \|$", page(name).split("\n## ")[0], flags=re.MULTILINE)
    return dict(rows)


def index() -> dict[str, tuple[str, str, str]]:
    """Column -> heading, unit and words, as the index lists them."""
    rows = re.findall(
        r"^\| \[`(\w+)`\]\((\w+)\.md\) \| (.*?) \| (.*?) \| (.*?) \|$", page("index"), re.MULTILINE
    )
    assert all(name == file for name, file, *_ in rows)
    return {name: (heading, unit, words) for name, _, heading, unit, words in rows}


def test_there_is_a_page_for_every_column_and_for_nothing_else() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {*EVERY, *FURTHER, "index"}


def test_the_index_lists_them_in_the_order_of_the_data_frame() -> None:
    assert list(index()) == list(EVERY)
    for name in FURTHER:
        assert f"({name}.md)" in page("index")


@pytest.mark.parametrize("name", EVERY)
def test_a_page_has_the_unit_that_the_index_has_and_the_title_too(name: str) -> None:
    _, unit, words = index()[name]
    assert page(name).startswith(f"# `{name}`: {words}\n")
    assert facts(name)["unit"] in (unit, f"none ({unit})")


@pytest.mark.parametrize("name", EVERY)
def test_a_page_names_the_heading_that_tables_have(name: str) -> None:
    heading = {"path": "layer", "detail": "type"}.get(name) or CATALOGUE[name].heading
    assert f"`{heading}`" in facts(name)["heading"]


@pytest.mark.parametrize("name", EVERY)
def test_a_page_names_a_source_that_is_there(name: str) -> None:
    assert (ROOT / facts(name)["computed in"].strip("`")).exists()


@pytest.mark.parametrize("name", EVERY)
def test_a_page_has_its_parts_in_order_and_is_short(name: str) -> None:
    text = page(name)
    parts = [part for part in re.findall(r"^## (.*)$", text, flags=re.MULTILINE) if part != "Other tools"]
    assert parts == ["How it is computed", "How to read it", "A trap", "Related"]
    assert len(text.splitlines()) <= 45


def test_units_are_those_that_names_promise() -> None:
    units = {name: unit for name, (_, unit, _) in index().items()}
    assert {units[name] for name in TIMES} == {"s"}
    counted = [name for name in EVERY if name.startswith("bytes_") or name.endswith("_bytes")]
    assert {units[name] for name in counted if not name.endswith("_per_s")} == {"B"}
    assert {units[name] for name in EVERY if name.endswith("_share")} == {"0…1 (in tables percent)"}
    assert units["flops_per_s"].startswith("FLOP/s")
    assert units["bytes_per_s"].startswith("B/s")


def test_what_is_never_empty_has_a_value_in_every_row() -> None:
    """Of a measured layer, of one that never ran, and of one that moves nothing."""
    idle = made.layer("idle", "Linear", "other", calls=0, input_shape=None, output_shape=None, dtype=None)
    report = made.report(made.conv(latency_s=2e-6), made.layer("a.view", "Flatten", "data_movement"), idle)
    never = [name for name in COLUMNS if facts(name)["empty"].startswith("never")]
    assert {"path", "kind", "calls", "macs", "bytes_read", "verdicts"} <= {*never}
    for name in never:
        assert not report.df[name].isna().any(), name


def test_what_adds_up_adds_up_to_the_total() -> None:
    """Counts of conv, depthwise and add: made so that the totals are round (1000 FLOPs, 10 µs)."""
    report = made.report()
    for name in COLUMNS:
        if facts(name)["adds up over layers"].startswith("yes, to 1"):
            assert report.df[name].sum() == pytest.approx(1.0), name
    assert report.df["flops"].sum() == 1000
    assert report.df["latency_s"].sum() == pytest.approx(10e-6)
    summed = {name for name in COLUMNS if facts(name)["adds up over layers"] == "yes"}
    assert {"latency_floor_s", "headroom", "samples", "arithmetic_intensity", "flops_per_s"}.isdisjoint(
        summed
    )


def test_operator_rows_are_all_told() -> None:
    told = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", page("operators"), re.MULTILINE)))
    assert told == list(OP_COLUMNS)


def test_signs_are_those_that_tables_print() -> None:
    """A disturbed layer, operators without a price, a layer that never ran, and one that was not timed."""
    rough = made.conv(latency_s=6e-6, quality="disturbed", uncosted_ops=1)
    again = made.layer("b", "ReLU", "activation", calls=3, flops=10, bytes_read=9, bytes_written=9)
    idle = made.layer("idle", "Linear", "other", calls=0, output_shape=None, params=4)
    text = made.report(rough, again, idle, uncosted={"aten::x": 1}).table(top=0)
    for sign in ("~", "≥", "?", "x3", "(not run)"):
        assert sign in text, sign
        assert f"`{sign}`" in page("signs"), sign
