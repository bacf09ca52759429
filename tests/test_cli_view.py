"""`view`, the options of tables, and what `-o` may write: on reports made by hand, without torch."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import made_reports
import pytest
from command_lines import CommandLine

import flopscope
from flopscope.commands.outputs import RENDERERS, is_ours
from flopscope.commands.streams import terminal_width, wants_color


@pytest.fixture
def flop(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    made_reports.report().save("r.json")
    return "r.json"


# --------------------------------------------------------------------------- formats


def test_view_prints_the_table_and_says_the_rest_on_stderr(flop: CommandLine, saved: str) -> None:
    said = flop("view", saved)
    assert said.code == 0
    assert said.out.startswith("flopscope 0.1.0   net.py:Net   1x4x2x2 float32")
    assert "a.conv" in said.out
    assert said.err == "warning: one\nnote:  note: two\n"


def test_quiet_keeps_warnings_and_drops_notes(flop: CommandLine, saved: str) -> None:
    assert flop("view", saved, "-q").err == "warning: one\n"


@pytest.mark.parametrize(
    ("flag", "name"), [("--csv", "csv"), ("--json", "json"), ("--md", "markdown"), ("--latex", "latex")]
)
def test_a_format_flag_prints_that_format_and_nothing_else(
    flop: CommandLine, saved: str, flag: str, name: str
) -> None:
    assert flop("view", saved, flag).out == made_reports.report().table(name)


def test_view_of_json_is_the_same_report(flop: CommandLine, saved: str) -> None:
    Path("again.json").write_text(flop("view", saved, "--json").out, encoding="utf-8")
    assert flopscope.load("again.json") == made_reports.report()


def test_table_options_reach_every_table(flop: CommandLine, saved: str) -> None:
    # FLOPs of the three layers: conv 600, depthwise_conv 200, elementwise 200.
    said = flop(
        "view", saved, "--csv", "--by", "kind", "--sort", "flops", "--top", "1", "--columns", "kind,flops"
    )
    assert list(csv.reader(io.StringIO(said.out))) == [["kind", "flops"], ["conv", "600"]]
    said = flop("view", saved, "--csv", "--sort", "-flops", "--columns", "path,flops", "--top", "2")
    assert [row[1] for row in csv.reader(io.StringIO(said.out))] == ["flops", "200", "200"]
    depths = flop("view", saved, "--csv", "--depth", "1", "--columns", "path,depth").out.splitlines()
    assert {line.rpartition(",")[2] for line in depths[1:]} <= {"0", "1"}


def test_json_says_that_table_options_do_not_apply(flop: CommandLine, saved: str) -> None:
    said = flop("view", saved, "--json", "--top", "1", "--by", "kind")
    assert len(json.loads(said.out)["layers"]) == 3
    assert "--by, --top had no effect" in said.err


# --------------------------------------------------------------------------- misuse, before any work


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--csv", "out.csv"], "error: unexpected argument 'out.csv'. --csv prints to standard output.\n"
         "hint:  flopscope view r.json --csv > out.csv     or     -o out.csv\n"),
        (["--csv", "--json"], "error: --csv and --json exclude each other.\n"
         "hint:  one on stdout, the others by -o FILE\n"),
        (["--by", "kind", "--depth", "1"], "error: --by and --depth exclude each other.\n"
         "hint:  give one: the sums, or the tree\n"),
        (["--columns", "macz"], "error: no column 'macz' in this table\nhint:  did you mean macs?\n"),
        (["--sort", "flopz"], "error: no column 'flopz' in this table\nhint:  did you mean flops?\n"),
        (["--columns", ","], "error: --columns names no column.\n"
         "hint:  e.g. --columns path,macs,latency_s\n"),
        (["--cvs"], "error: no such option: --cvs\nhint:  did you mean --csv?\n"),
        (["--top", "-1"], None),
        (["--by", "colour"], None),
    ],
)  # fmt: skip
def test_misuse_is_answered_with_the_way_out(
    flop: CommandLine, saved: str, args: list[str], message: str | None
) -> None:
    said = flop("view", saved, *args)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: ")
    assert "hint:  " in said.err
    assert message is None or said.err == message


def test_what_is_no_report_is_refused(flop: CommandLine, saved: str) -> None:
    Path("x.json").write_text('{"a": 1}', encoding="utf-8")
    assert flop("view", "x.json").code == 3
    assert flop("view", "absent.json").code == 3
    assert flop("view").code == 2


# --------------------------------------------------------------------------- files


def test_every_suffix_is_written_and_may_be_written_again(flop: CommandLine, saved: str) -> None:
    files = [f"out{suffix}" for suffix in RENDERERS]
    options = [word for file in files for word in ("-o", file)]
    first = flop("view", saved, *options)
    assert first.code == 0
    assert first.err.endswith(f"note:  wrote {', '.join(files)}\n")
    assert first.out.startswith("flopscope 0.1.0")  # the table is printed all the same
    before = {file: Path(file).read_text(encoding="utf-8") for file in files}
    assert flop("view", saved, *options).code == 0
    assert {file: Path(file).read_text(encoding="utf-8") for file in files} == before
    assert before["out.csv"] == made_reports.report().table("csv")
    assert before["out.md"].startswith("<!-- flopscope 0.1.0 -->\n| layer")
    assert before["out.tex"].startswith("% flopscope 0.1.0\n")
    assert flopscope.load("out.json") == made_reports.report()


@pytest.mark.parametrize("by", ["kind", "type", "op"])
def test_tables_of_sums_are_known_again(flop: CommandLine, saved: str, by: str) -> None:
    assert flop("view", saved, "-o", "out.csv", "-o", "out.tsv", "--by", by).code == 0
    assert is_ours(Path("out.csv"))
    assert is_ours(Path("out.tsv"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.csv", "path,type,macs\na,b,1\n"),
        ("mine.json", '{"format": "else"}'),
        ("mine.md", "# Notes on flopscope\n"),
        ("mine.tex", "% my paper\n"),
        ("mine.txt", "flopscope 0.1.0 is what I used\n"),
    ],
)
def test_a_file_of_somebody_else_stays(flop: CommandLine, saved: str, name: str, content: str) -> None:
    Path(name).write_text(content, encoding="utf-8")
    said = flop("view", saved, "-o", name)
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"error: -o {name}: the file is there, and flopscope did not write it.\n"
        "hint:  name another file, or replace it with --force\n"
    )
    assert Path(name).read_text(encoding="utf-8") == content
    assert flop("view", saved, "-o", name, "--force").code == 0
    assert Path(name).read_text(encoding="utf-8") != content


def test_the_file_that_is_read_is_never_written(flop: CommandLine, saved: str) -> None:
    before = Path(saved).read_bytes()
    os.link(saved, "same.json")
    Path("link.json").symlink_to(saved)
    for name in ("r.json", "./r.json", "same.json", "link.json"):
        said = flop("view", saved, "-o", name, "--force")
        assert said.code == 2
        assert "is the MODEL itself" in said.err
    assert Path(saved).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("out.pdf", "no output has the suffix '.pdf'"),
        ("out", "no output has the suffix ''"),
        ("nowhere/out.csv", "there is no folder nowhere"),
        ("folder.csv", "is a folder"),
    ],
)
def test_what_cannot_be_written_is_refused_first(flop: CommandLine, saved: str, name: str, fact: str) -> None:
    Path("folder.csv").mkdir()
    said = flop("view", saved, "-o", "good.csv", "-o", name)
    assert (said.code, said.out) == (2, "")
    assert fact in said.err
    assert not Path("good.csv").exists()


def test_one_file_is_not_written_twice(flop: CommandLine, saved: str) -> None:
    assert flop("view", saved, "-o", "a.csv", "-o", "./a.csv").code == 2


# --------------------------------------------------------------------------- colours and width


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("choice", "environment", "terminal", "colored"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "0"}, False, False),
        ("auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_when_colours_are_used(
    monkeypatch: pytest.MonkeyPatch, choice: str, environment: dict[str, str], terminal: bool, colored: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wants_color(choice, Terminal() if terminal else io.StringIO()) is colored


def test_colours_reach_table_and_messages(flop: CommandLine, saved: str) -> None:
    said = flop("view", saved, "--color", "always")
    assert "\x1b[1mlayer\x1b[0m" in said.out
    assert said.err.startswith("\x1b[1;33mwarning:\x1b[0m one")
    assert "\x1b" not in flop("view", saved, "--color", "always", "--csv").out


def test_only_a_terminal_has_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert terminal_width(io.StringIO()) is None
    assert terminal_width(Terminal()) == 60


def test_a_narrow_terminal_gets_fewer_columns(
    flop: CommandLine, saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = flop("view", saved, "-q").out
    monkeypatch.setattr("flopscope.commands.displays.terminal_width", lambda stream: 60)
    narrow = flop("view", saved, "-q").out
    assert max(map(len, wide.splitlines())) > 60 >= max(map(len, narrow.splitlines()))
    assert "no room for" in narrow


def test_control_characters_of_a_file_do_not_reach_the_terminal(flop: CommandLine, saved: str) -> None:
    made_reports.report(model="evil\x1b[2J", warnings=("bad\x1b[31m news",)).save("evil.json")
    said = flop("view", "evil.json")
    assert "\x1b" not in said.out + said.err
