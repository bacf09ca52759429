"""`flopscope machine`: what it prints, what it refuses, and its exit codes."""

from __future__ import annotations

import json
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
