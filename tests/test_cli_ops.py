"""`ops`: the list of prices, the operators of a model, the crosscheck."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from command_lines import NET, CommandLine

from flopscope import costs


@pytest.fixture
def flop(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET, encoding="utf-8")
    return CommandLine(capsys)


def test_every_op_with_a_formula_is_listed(flop: CommandLine) -> None:
    rows = list(csv.DictReader(io.StringIO(flop("ops", "--csv").out)))
    assert [row["op"] for row in rows] == list(costs.known_names())
    families = {row["op"]: row["family"] for row in rows}
    assert families["aten::convolution"] == "contractions"
    assert families["aten::scaled_dot_product_attention"] == "attention"
    assert json.loads(flop("ops", "--json").out) == rows
    said = flop("ops")
    assert said.out.splitlines()[0].split() == ["op", "family", "price"]
    assert "also priced" in said.err


def test_the_ops_of_a_model(flop: CommandLine) -> None:
    said = flop("ops", "net.py:build", "-i", "1,3,2,2", "--csv", "--sort", "macs")
    rows = list(csv.DictReader(io.StringIO(said.out)))
    # 1x1 convolutions on 2 x 2, dense 3 to 4 and depthwise 4: 3 * 4 * 4 + 4 * 4; the projection: 4 * 2.
    assert [(row["op"], row["calls"], row["macs"]) for row in rows[:2]] == [
        ("aten::convolution", "2", "64"),
        ("aten::linear", "1", "8"),
    ]


def test_the_crosscheck(flop: CommandLine) -> None:
    said = flop("ops", "--crosscheck", "net.py:build", "-i", "1,3,2,2", "--json")
    assert said.code == 0, said.err
    rows = {row["path"]: row for row in json.loads(said.out)}
    assert [rows[""][name] for name in ("macs", "torch_macs")] == [72, 72]
    assert "fvcore_macs" in flop("ops", "--crosscheck", "net.py:build", "-i", "1,3,2,2", "--csv").out


@pytest.mark.parametrize(
    "args",
    [
        ("--crosscheck",),
        ("--top", "3"),
        ("-o", "ops.csv"),
        ("--crosscheck", "net.py:build", "--sort", "macs"),
        ("--crosscheck", "net.py:build", "--dtype", "bfloat16"),
        ("net.py:build", "net.py:Two"),
    ],
)
def test_what_would_do_nothing_is_refused(flop: CommandLine, args: tuple[str, ...]) -> None:
    said = flop("ops", *args)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: ")
