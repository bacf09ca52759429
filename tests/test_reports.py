"""Reports from ten-line records: frames, budgets, files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_reports import SHAPE, conv, depthwise, evidence, explained, report, roofs

from flopscope import reports
from flopscope.errors import BudgetError, InputError, ModelLoadError
from flopscope.records import (
    KINDS,
    Bandwidth,
    Convolution,
    Counterfactual,
    Coverage,
    Environment,
    Evidence,
    Kernel,
    Latency,
    Layer,
    Machine,
    MemoryPeak,
    OpRow,
    Peak,
    Quality,
    Settings,
    WholeRow,
)
from flopscope.render.rows import COLUMNS, OP_COLUMNS
from flopscope.reports import Report, load

SCHEMA = Path(reports.__file__).parent / "schema" / "report.schema.json"

# --------------------------------------------------------------------------- the object


def test_a_report_is_frozen_and_compares_by_value() -> None:
    assert report() == report()
    assert report() != report(model="other")
    with pytest.raises(FrozenInstanceError):
        report().model = "x"  # type: ignore[misc]


def test_repr_is_one_line() -> None:
    # 40 + 10 params; 300 + 100 MACs; 600 + 200 + 200 FLOPs; the bare model's 11 µs.
    assert repr(report()) == (
        "<Report of 'net.py:Net': 50 params, 400 MACs, 1.00 k FLOPs, 11.0 µs, 3 layers>"
    )
    assert "≥ 400 MACs" in repr(report(uncosted={"my::op": 1}))


def test_str_is_the_table_with_the_messages() -> None:
    shown = report()
    assert str(shown) == shown.table() + "\n\nwarning: one\nnote: two"


def test_peak_activation_bytes() -> None:
    assert report().peak_activation_bytes == 4096


# --------------------------------------------------------------------------- data frames


def test_df_has_the_columns_of_the_contract() -> None:
    frame = report(conv(), depthwise(samples=3)).df
    assert tuple(frame.columns) == COLUMNS
    assert list(frame["macs"]) == [300, 100]
    assert str(frame["macs"].dtype) == "Int64"
    assert str(frame["samples"].dtype) == "Int64"
    assert frame["samples"].isna().tolist() == [True, False]
    assert frame["latency_s"].isna().all()
    assert frame["output_shape"][0] == SHAPE
    assert frame["flops_share"].tolist() == [600 / 800, 200 / 800]


def test_shares_and_rates_in_df() -> None:
    frame = report().df
    assert frame["latency_share"].tolist() == pytest.approx([0.2, 0.6, 0.2])  # of 2 + 6 + 2 µs
    assert frame["flops_share"].tolist() == [0.6, 0.2, 0.2]
    assert frame["flops_per_s"].tolist() == pytest.approx([600 / 2e-6, 200 / 6e-6, 200 / 2e-6])
    assert frame["arithmetic_intensity"].tolist() == pytest.approx([6.0, 1.0, 200 / 300])


def test_tree_df_and_ops_df() -> None:
    assert tuple(report().tree_df.columns) == (*COLUMNS, "depth")
    assert report().tree_df["depth"].tolist() == [0, 1, 2, 2, 0]
    frame = report().ops_df
    assert tuple(frame.columns) == OP_COLUMNS
    assert frame["op"].tolist() == ["aten::convolution", "aten::convolution", "aten::add.Tensor"]
    assert str(frame["flops"].dtype) == "Int64"


def test_df_of_nothing_keeps_its_columns() -> None:
    assert tuple(report(ops=()).ops_df.columns) == OP_COLUMNS


# --------------------------------------------------------------------------- budgets


@pytest.mark.parametrize(
    ("budget", "actual"),
    [
        ("macs<=399", 400),
        ("flops < 1k", 1000),
        ("params==51", 50),
        ("params>50", 50),
        ("bytes<=599B", 600),  # 60 + 40 + 120 + 80 + 200 + 100
        ("buffer_bytes>=17", 16),
        ("peak_activation_bytes<=4kB", 4096),
        ("latency<=10.9us", 11e-6),
        ("fvcore_like<=409", 410),
        ("depthwise_conv.macs<=99", 100),
        ("depthwise_conv.latency<5.9us", 6e-6),
    ],
)
def test_budgets_that_are_not_kept(budget: str, actual: float) -> None:
    (violation,) = report().check(budget)
    assert violation.actual == actual
    assert violation.budget == budget


def test_budgets_that_are_kept() -> None:
    kept = ("macs<=400", "macs>=400", "macs==400", "latency<12us", "params<51", "conv.macs<=300")
    assert report().check(*kept) == []


@pytest.mark.parametrize(
    ("budget", "message", "hint"),
    [
        ("mac<=1", "unknown metric 'mac'", "macs"),
        ("conv.buffer_bytes<=1", "unknown metric", "macs"),
        ("gizmo.macs<=1", "unknown kind 'gizmo'", "conv, pointwise_conv, depthwise_conv"),
        ("recurrent.macs<=1", "no layer of kind 'recurrent'", "conv, depthwise_conv, elementwise"),
        ("macs", "not a budget", "macs<=600M"),
        ("macs<=lots", "not a quantity", "600M"),
        ("macs<=600m", "fractions", "600M"),
        ("latency<=5MB", "in s was expected", "5ms"),
    ],
)
def test_budgets_that_cannot_be_read(budget: str, message: str, hint: str) -> None:
    with pytest.raises(BudgetError, match=message) as caught:
        report().check(budget)
    assert hint in caught.value.hint


def test_a_budget_on_what_was_not_measured() -> None:
    with pytest.raises(BudgetError, match="latency was not measured"):
        report(conv()).check("latency<=5ms")


# --------------------------------------------------------------------------- files


def test_a_saved_report_is_read_back_as_it_was(tmp_path: Path) -> None:
    saved = report(uncosted={"my::op": 2}, machine=Machine("cpu", "cpu", 1, (Peak("float32", 1e11),)))
    saved.save(tmp_path / "r.json")
    read = load(tmp_path / "r.json")
    assert read == saved
    assert isinstance(read.ops[0].input_shapes[1], tuple)
    assert isinstance(read.peak.alive[0], tuple)
    assert read.table() == saved.table()


def test_what_explains_a_latency_is_read_back_as_it_was(tmp_path: Path) -> None:
    saved = explained(settings=Settings(inputs="1x4x2x2", train=True, machine="sheet.toml"))
    saved.save(tmp_path / "r.json")
    read = load(tmp_path / "r.json")
    assert read == saved
    assert read.machine == roofs()
    assert read.machine.bytes_per_s(1_000_000) == 8e10
    assert read.evidence[1] == evidence()
    assert isinstance(read.evidence[1].counterfactuals[0], Counterfactual)
    assert read.evidence[1].convolution is not None
    assert read.evidence[1].convolution.kernel == (3, 3)
    assert read.evidence[2].convolution is None
    assert (str(read), read.to_csv()) == (str(saved), saved.to_csv())


def test_a_report_from_before_there_was_evidence(tmp_path: Path) -> None:
    """Version 1 without the members that came later: nothing is known of them."""
    top = json.loads(report().to_json())
    del top["quality"], top["evidence"], top["settings"]["train"], top["settings"]["machine"]
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(top)
    (tmp_path / "r.json").write_text(json.dumps(top), encoding="utf-8")
    read = load(tmp_path / "r.json")
    assert read == report()
    assert (read.quality, read.evidence, read.machine) == (None, (), None)


numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
some_layers = st.lists(
    st.builds(
        replace,
        st.just(conv()),
        path=st.text(),
        kind=st.sampled_from(KINDS),
        output_shape=st.none() | st.lists(st.integers(0, 9)).map(tuple),
        macs=st.integers(0, 10**30),
        latency_s=numbers,
        verdicts=st.lists(st.text(max_size=3)).map(tuple),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=40, deadline=None)
@given(some_layers, st.text(), st.dictionaries(st.text(), st.integers(0)))
def test_any_report_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, layers: list[Layer], note: str, uncosted: dict[str, int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    saved = report(layers=tuple(layers), notes=(note,), uncosted=uncosted)
    saved.save(path)
    assert load(path) == saved


def test_json_keeps_to_its_schema() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    checker = jsonschema.Draft202012Validator(schema)
    checker.check_schema(schema)
    checker.validate(json.loads(report().to_json()))
    checker.validate(json.loads(report(conv()).to_json()))
    checker.validate(json.loads(explained().to_json()))
    broken = json.loads(report().to_json())
    broken["layers"][0]["macs"] = "300"
    with pytest.raises(jsonschema.ValidationError):
        checker.validate(broken)
    broken = json.loads(explained().to_json())
    broken["evidence"][0]["convolution"]["groups"] = "4"
    with pytest.raises(jsonschema.ValidationError):
        checker.validate(broken)


@pytest.mark.parametrize(
    "record",
    [
        *(Layer, OpRow, Settings, Environment, Coverage, MemoryPeak, WholeRow, Latency),
        *(Machine, Peak, Bandwidth, Quality, Evidence, Convolution, Kernel, Counterfactual),
    ],
)
def test_the_schema_knows_every_field(record: type) -> None:
    described = json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"][record.__name__]["properties"]
    assert {item.name for item in fields(record)} <= set(described)


def test_the_schema_knows_every_member_of_a_report() -> None:
    described = json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"]
    assert set(described) == {"format", "version", *(item.name for item in fields(Report))}


def test_json_names_itself_first_and_holds_all_columns() -> None:
    top = json.loads(report().to_json())
    assert list(top)[:2] == ["format", "version"]
    assert top["format"] == "flopscope-report"
    assert list(top)[2:] == [item.name for item in fields(Report)]
    assert tuple(top["layers"][0])[: len(COLUMNS)] == COLUMNS
    assert top["layers"][0]["flops_share"] == 0.6


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        report(conv(latency_s=float("nan"))).save(tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


def changed(**members: Any) -> str:
    top = json.loads(report().to_json())
    top.update(members)
    return json.dumps({name: value for name, value in top.items() if value != "gone"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a saved report"),
        ("{}", "not a saved report"),
        ('{"name": "flopscope-report"}', "not a saved report"),
        (report().to_json()[:-200], "damaged"),
        (changed(version=0), "version: expected 1, got 0"),
        (changed(version=2), "format version 2, this flopscope reads up to 1"),
        (changed(total="gone"), "total is missing"),
        (changed(param_bytes="many"), r"report.param_bytes: expected int, got 'many'"),
        (changed(param_bytes=True), "report.param_bytes"),
        (changed(param_bytes=None), "report.param_bytes"),
        (changed(layers=[{}]), r"report.layers\[0\]: path is missing"),
        (changed(layers=[7]), r"report.layers\[0\]: expected an object, got 7"),
        (changed(param_bytes=float("nan")), "NaN"),
        ('{"format": "flopscope-report", "version": ' + "[" * 100_000, "damaged"),
    ],
)
def test_what_is_no_report(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelLoadError, match=message) as caught:
        load(path)
    assert caught.value.hint


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="No such file"):
        load(tmp_path / "r.json")


def test_binary_files_are_no_reports(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"PK\x03\x04\xff\xfe")
    assert not reports.is_report(tmp_path / "m.pt")
    report().save(tmp_path / "r.json")
    assert reports.is_report(tmp_path / "r.json")


def test_older_readers_meet_new_members(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(changed(later={"a": 1}, notes="gone"), encoding="utf-8")
    assert load(path) == report(notes=())


def test_to_csv_returns_and_writes(tmp_path: Path) -> None:
    text = report().to_csv(tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_bytes() == text.encode()
    assert report().to_csv() == text
    assert report().to_markdown(tmp_path / "r.md") == (tmp_path / "r.md").read_text(encoding="utf-8")
    assert report().to_latex(tmp_path / "r.tex") == (tmp_path / "r.tex").read_text(encoding="utf-8")


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.csv"
    path.write_text("old")

    def interrupt(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        report().to_csv(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_follows_a_link_and_names_a_missing_directory(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    report().to_csv(tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == report().to_csv()
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "none" / "r.csv"))):
        report().to_csv(tmp_path / "none" / "r.csv")
    with pytest.raises(InputError):
        report().to_csv(tmp_path)


def test_loading_and_showing_need_neither_torch_nor_pandas(tmp_path: Path) -> None:
    report().save(tmp_path / "r.json")
    program = (
        "import sys, flopscope.reports as reports\n"
        "found = reports.load(sys.argv[1])\n"
        "str(found), repr(found), found.check('macs<=1'), found.to_csv(), found.to_latex()\n"
        "found.to_markdown(), found.table('html'), found.to_json()\n"
        "print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "r.json")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_no_rate_follows_from_less_time_than_a_clock_can_tell(tmp_path: Path) -> None:
    """600 FLOP in 2e-311 s would be an infinite rate, which JSON cannot hold."""
    made = report(conv(latency_s=2e-311))
    assert made.layers[0].flops_per_s is None
    made.save(tmp_path / "report.json")
    assert load(tmp_path / "report.json") == made
