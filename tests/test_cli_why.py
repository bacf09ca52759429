"""`flopscope why`: a saved report without torch, a model, and what is answered to misuse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import made_reports
import pytest
from command_lines import NET, CommandLine
from diagnosed import PAIRS

import flopscope
from flopscope.commands.porch import porch
from flopscope.commands.why import why

HOME = Path(flopscope.__file__).parent.parent


@pytest.fixture
def flop(capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    before = dict(porch.commands)
    porch.add_command(why)
    yield CommandLine(capsys)
    porch.commands = before


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    PAIRS["layout-reorder"][0].report().save("r.json")
    return "r.json"


def test_a_saved_report_is_explained(flop: CommandLine, saved: str) -> None:
    said = flop("why", saved, "one")
    assert said.code == 0
    assert said.out.startswith("net.one   Conv2d")
    assert "1. layout-reorder" in said.out
    assert "Not measured: page faults" in said.out
    assert said.err == "warning: one\nnote:  note: two\n"


def test_without_a_layer_the_whole_is_explained(flop: CommandLine, saved: str) -> None:
    said = flop("why", saved, "-q")
    assert said.out.startswith("net.py:Net   2 layers")
    assert "Kinds" in said.out
    assert said.err == "warning: one\n"


def test_json_is_pure(flop: CommandLine, saved: str) -> None:
    top = json.loads(flop("why", saved, "net.one", "--json").out)
    assert [item["code"] for item in top["reasons"]] == ["layout-reorder"]


def test_files_are_written_by_their_suffix_and_over_themselves(flop: CommandLine, saved: str) -> None:
    for _ in range(2):
        said = flop("why", saved, "net.one", "-o", "w.md", "-o", "w.json", "-o", "w.txt")
        assert said.code == 0, said.err
        assert "note:  wrote w.md, w.json, w.txt" in said.err
    title, empty, *lines = Path("w.txt").read_text(encoding="utf-8").splitlines()
    assert (title.split("   ")[1], empty) == ("why net.py:Net net.one", "")
    assert "\n".join(lines) == said.out.rstrip("\n")
    assert Path("w.json").read_text(encoding="utf-8") == flop("why", saved, "net.one", "--json").out
    signature, text = Path("w.md").read_text(encoding="utf-8").split("\n", 1)
    assert signature.startswith("<!-- flopscope ")
    assert text == flop("why", saved, "net.one", "--md").out
    assert text.startswith("# net.one · Conv2d")


def test_files_of_others_and_the_report_itself_are_left_alone(flop: CommandLine, saved: str) -> None:
    before = Path(saved).read_bytes()
    Path("mine.md").write_text("my notes\n", encoding="utf-8")
    assert "flopscope did not write it" in flop("why", saved, "net.one", "-o", "mine.md").err
    assert Path("mine.md").read_text(encoding="utf-8") == "my notes\n"
    assert flop("why", saved, "net.one", "-o", "mine.md", "--force").code == 0
    said = flop("why", saved, "net.one", "-o", saved, "--force")
    assert (said.code, said.out) == (2, "")
    assert "is the MODEL itself" in said.err
    assert Path(saved).read_bytes() == before


def test_a_saved_report_needs_no_torch(saved: str) -> None:
    script = (
        "import sys; from flopscope.commands.why import why;"
        f"why.main([{str(Path(saved).resolve())!r}, 'net.one'], standalone_mode=False);"
        "sys.exit(', '.join(sorted({'torch', 'pandas'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=HOME
    )
    assert done.returncode == 0, done.stderr
    assert "layout-reorder" in done.stdout


def test_a_model_is_measured_and_explained(
    flop: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET, encoding="utf-8")
    said = flop(
        "why", "net.py:build", "2", "-i", "1,3,8,8", "--effort", "quick", "--max-seconds", "0.2", "-q"
    )
    assert said.code == 0, said.err
    assert said.out.startswith("2   Conv2d")
    assert "Confidence: " in said.out


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (["r.json", "zzz"], "error: no layer is called 'zzz'", "lists all layers"),
        (["r.json", "net.on"], "error: no layer is called 'net.on'", "did you mean net.one"),
        (["r.json", "one", "two"], "error: unexpected argument 'two'", "is quoted"),
        (["r.json", "1,3,8,8"], "error: unexpected argument '1,3,8,8'.", "-i 1,3,8,8"),
        (["r.json", "--no-latency"], "error: why explains measured times", "shows the counts alone"),
        (["r.json", "--json", "--md"], "error: --json and --md exclude each other.", "by -o FILE"),
        (["r.json", "-o", "x.html"], "error: -o x.html: no output has the suffix '.html'.", ".json .md .txt"),
        ([], "error: MODEL|REPORT is missing.", "flopscope why model.pt"),
        (["counts.json"], "error: the report of net.py:Net holds no latencies", "--no-latency"),
    ],
)  # fmt: skip
def test_misuse_is_answered_with_the_way_out(
    flop: CommandLine, saved: str, args: list[str], error: str, hint: str
) -> None:
    made_reports.report(made_reports.conv()).save("counts.json")
    said = flop("why", *args)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(error), said.err
    assert hint in said.err
