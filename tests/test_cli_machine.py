"""`flopscope machine`: what it prints, what it refuses, and its exit codes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import click.testing
import pytest

from flopscope import machines
from flopscope.commands.machine import machine as command
from flopscope.machines import children
from flopscope.machines.passes import Pass, Session


def run(*words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(command, list(words))


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stand-ins for the child process: three quiet passes; the numbers of threads that were asked for."""
    monkeypatch.setenv("FLOPSCOPE_CACHE", str(tmp_path))
    return stand_in(monkeypatch, waited=0.0)


def stand_in(monkeypatch: pytest.MonkeyPatch, *, waited: float) -> list[int]:
    asked: list[int] = []

    def session_of(threads: int, **given: Any) -> Session:
        asked.append(threads)
        curve = ((2**16, 90e9), (2**28, 15e9))
        one = Pass({"float32": 120e9}, curve, {"op": 2e-6}, 1e-6, 1.0, 1.0, waited)
        return Session(threads, (one,) * 3, {"float32": "mm 512"})

    monkeypatch.setattr(children, "session_of", session_of)
    return asked


def test_it_measures_once_and_shows_what_it_kept(asked: list[int]) -> None:
    first = run("--threads", "1")
    assert first.exit_code == 0
    assert "float32" in first.stdout
    assert "FLOP/B" in first.stdout
    assert run("--threads", "1").stdout == first.stdout
    assert asked == [1]
    run("--threads", "1", "--refresh")
    run("--threads", "2")
    assert asked == [1, 1, 2]


def test_json_is_the_machine_and_nothing_else(asked: list[int]) -> None:
    given = json.loads(run("--threads", "1", "--json").stdout)
    assert (given["format"], given["version"]) == ("flopscope-machine", 1)
    assert given["peaks"] == [
        {"dtype": "float32", "flops_per_s": 120e9, "spread": 0.0, "how": "mm 512"},
    ]
    assert given["overheads_s"] == {"op": 2e-06}


def test_a_disturbed_machine_is_refused_but_by_force(
    asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, waited=0.5)
    refused = run("--threads", "1")
    assert refused.exit_code == 5
    assert refused.stdout == ""
    assert "error: the machine was disturbed" in refused.stderr
    assert "waited 50 % of the time" in refused.stderr
    assert "hint:" in refused.stderr
    shown = run("--threads", "1", "--force")
    assert shown.exit_code == 0
    assert "disturbed" in shown.stdout
    assert machines.known("cpu", 1) is None


def test_a_sheet_is_shown_without_measuring(asked: list[int], tmp_path: Path) -> None:
    shown = run("--machine", "a100-40gb")
    assert shown.exit_code == 0
    assert "NVIDIA A100 40 GB" in shown.stdout
    assert "an estimate" in shown.stdout
    assert asked == []
    assert json.loads(run("--machine", "a100-40gb", "--json").stdout)["form"] == "sheet"


def test_a_machine_saved_as_json_is_shown_elsewhere(asked: list[int], tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text(run("--threads", "1", "--json").stdout, encoding="utf-8")
    shown = run("--machine", str(tmp_path / "there.json"))
    assert "measured elsewhere: there.json" in shown.stdout


def test_files_are_written_by_their_suffix_and_over_themselves(asked: list[int], tmp_path: Path) -> None:
    files = [tmp_path / f"roofs.{suffix}" for suffix in ("json", "svg", "txt")]
    for _ in range(2):
        said = run("--threads", "1", *(word for file in files for word in ("-o", str(file))))
        assert said.exit_code == 0, said.stderr
        assert "wrote " in said.stderr
    drawn = ET.fromstring(files[1].read_text(encoding="utf-8"))
    assert drawn.tag.endswith("svg")
    lines = files[2].read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("flopscope ")
    assert "\n".join(lines[2:]) + "\n" == said.stdout
    shown = run("--machine", str(files[0]), "--json")
    assert json.loads(shown.stdout)["peaks"] == json.loads(files[0].read_text(encoding="utf-8"))["peaks"]


def test_a_machine_without_roofs_is_not_drawn(asked: list[int], tmp_path: Path) -> None:
    sheet = json.loads(run("--machine", "t4", "--json").stdout)
    (tmp_path / "bare.json").write_text(json.dumps({**sheet, "peaks": []}), encoding="utf-8")
    refused = run("--machine", str(tmp_path / "bare.json"), "-o", str(tmp_path / "roofs.svg"))
    assert refused.exit_code == 2
    assert "no roofs to draw" in refused.stderr
    assert not (tmp_path / "roofs.svg").exists()


def test_files_of_others_and_the_sheet_itself_are_left_alone(asked: list[int], tmp_path: Path) -> None:
    mine, sheet = tmp_path / "mine.txt", tmp_path / "sheet.json"
    mine.write_text("my notes\n", encoding="utf-8")
    sheet.write_text(run("--machine", "t4", "--json").stdout, encoding="utf-8")
    before = sheet.read_bytes()
    refused = run("--machine", "t4", "-o", str(mine))
    assert refused.exit_code == 2
    assert "flopscope did not write it" in refused.stderr
    assert mine.read_text(encoding="utf-8") == "my notes\n"
    refused = run("--machine", str(sheet), "-o", str(sheet), "--force")
    assert refused.exit_code == 2
    assert "is the sheet itself" in refused.stderr
    assert sheet.read_bytes() == before
    assert run("--machine", "t4", "-o", str(mine), "--force").exit_code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--machine", "nosuch"), "no sheet is called 'nosuch'"),
        (("--device", "mps"), "'mps' devices"),
        (("--machine", "t4", "--refresh"), "--refresh does not apply to a data sheet"),
        (("--threads", "0"), "--threads"),
    ],
)
def test_misuse_is_a_usage_error(asked: list[int], words: tuple[str, ...], says: str) -> None:
    refused = run(*words)
    assert refused.exit_code == 2
    assert says in refused.stderr
    assert refused.stdout == ""
