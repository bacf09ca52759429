"""`flopscope zoo`: the list in all formats, a family, the check; `zoo:NAME` as a MODEL."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import subprocess
import sys

import pytest
from command_lines import CommandLine

from flopscope import zoo
from flopscope.zoo.figures import figures


@pytest.fixture
def flop(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def test_every_network_and_figure_is_listed(flop: CommandLine) -> None:
    rows = list(csv.DictReader(io.StringIO(flop("zoo", "--csv").out)))
    expected = [figure.name for entry in zoo.networks().values() for figure in figures(entry)]
    assert [row["name"] for row in rows] == expected
    of_l = next(row for row in rows if row["name"] == "efficientnetv2_l")
    assert [of_l[key] for key in ("family", "resolution", "params", "macs")] == [
        "EfficientNetV2", "480", "118515272", "56079699008",
    ]  # fmt: skip
    # 119.5 printed, 118.515272 built: 0.831 % too much.
    assert of_l["published_params_m"] == "119.5"
    assert of_l["params_deviation_percent"] == "0.831"
    assert "misprint" in of_l["reason"]


def test_the_formats_agree(flop: CommandLine) -> None:
    records = json.loads(flop("zoo", "--family", "fasternet", "--json").out)
    assert records[0]["params"] == 3_905_500
    rows = list(csv.DictReader(io.StringIO(flop("zoo", "--family", "FasterNet", "--csv").out)))
    assert [
        {key: "" if value is None else str(value) for key, value in record.items()} for record in records
    ] == rows
    table = flop("zoo", "--family", "FasterNet", "--md").out.splitlines()
    assert len(table) == 2 + len(rows)
    assert table[0].startswith("| name")


def test_the_table_gives_each_reason_once(flop: CommandLine) -> None:
    said = flop("zoo", "--family", "MobileViT")
    assert said.code == 0
    lines = said.out.splitlines()
    assert "1,272,024" in lines[2]
    assert "407,364,096" in lines[2]
    assert sum(line.startswith("[") for line in lines) == 2
    assert "-31.8 %" in said.out
    assert any(line.startswith("[2] not reproducible at 256") for line in lines)


def test_the_check_counts_again(flop: CommandLine) -> None:
    said = flop("zoo", "--check", "--family", "ShuffleNetV2", "--json")
    assert said.code == 0
    rows = json.loads(said.out)
    assert len(rows) == 8
    assert {row["equal"] for row in rows} == {"yes"}
    assert rows[3]["name"] == "shufflenetv2_x1_0?torchvision_form=true"
    assert (rows[3]["counted_params"], rows[3]["counted_macs"]) == (2_278_604, 144_907_992)
    assert "8 networks and forms have exactly the counts" in said.err


def test_the_check_fails_where_a_count_is_another(flop: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    right = zoo.networks()["vgg16"]
    wrong = dataclasses.replace(right, macs=right.macs + 1)
    monkeypatch.setattr(zoo, "networks", lambda: {"vgg16": wrong})
    said = flop("zoo", "--check", "--csv")
    assert said.code == 1
    assert said.out.splitlines()[1].endswith("15470264321,15470264320,NO")
    assert "1 of 1 differ from what is on record: vgg16" in said.err


def test_misuse(flop: CommandLine) -> None:
    said = flop("zoo", "--family", "swim")
    assert (said.code, said.out) == (2, "")
    assert "did you mean Swin?" in said.err
    assert flop("zoo", "--csv", "--json").code == 2
    assert flop("zoo", "repvgg_a0").code == 2


def test_a_network_is_a_model_for_other_commands(flop: CommandLine) -> None:
    for words in (("zoo:repvgg_a0?deploy=true",), ("zoo:repvgg_a0", "--arg", "deploy=true")):
        said = flop("report", *words, "--no-latency", "--json")
        assert said.code == 0, said.err
        report = json.loads(said.out)
        assert (report["total"]["params"], report["total"]["macs"]) == (8_309_384, 1_361_451_008)
    assert flop("check", "zoo:mobilevit_xxs", "--budget", "macs==407364096").code == 0
    said = flop("report", "zoo:repvgg_ao", "--no-latency")
    assert said.code == 3
    assert "repvgg_a0" in said.err
    assert flop("report", "zoo:repvgg_a0?deploi=1", "--no-latency").code == 2


def test_its_help_needs_no_torch() -> None:
    script = (
        "import sys; from flopscope.commands.porch import porch\n"
        "try: porch(['zoo', '--help'], prog_name='flopscope')\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--family" in done.stdout
