"""`flopscope doctor`: the table, JSON, exit codes; on hand-made checkups, and once for real."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest

from flopscope.commands.doctor import doctor
from flopscope.commands.porch import Porch
from flopscope.quality import fitness
from flopscope.records import Checkup
from flopscope.render.checkups import checkups_json, checkups_text, conclusion

FINE = Checkup("load", "good", "0.1 in the last minute on 2 processors")
ODD = Checkup("virtual", "unknown", "a virtual machine", "compare runs of different hours")
DOUBT = Checkup("clock", "doubtful", "governor powersave", "sudo cpupower frequency-set -g performance")
BAD = Checkup("threads", "bad", "4 threads; 2 processors may be used", "--threads 2")


@pytest.fixture
def flop(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `flopscope doctor` on the checkups given."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    group = Porch("flopscope")
    group.add_command(doctor)
    asked: list[dict[str, Any]] = []

    def run(found: tuple[Checkup, ...] | None, *args: str) -> tuple[int, str, str, list[dict[str, Any]]]:
        def checkups(**given: Any) -> tuple[Checkup, ...]:
            print("a library's chatter")
            asked.append(given)
            return found or ()

        if found is not None:
            monkeypatch.setattr("flopscope.checkups.checkups", checkups)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            group(["doctor", *args], prog_name="flopscope")
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err, asked

    return run


def test_the_conclusion_in_words() -> None:
    assert conclusion(fitness((FINE, ODD))) == "fit for timing"
    assert conclusion(fitness((FINE, DOUBT))) == "fit with care: clock: governor powersave"
    assert conclusion(fitness((DOUBT, BAD))) == (
        "not fit now: threads: 4 threads; 2 processors may be used; clock: governor powersave"
    )


def test_the_table_ends_with_what_to_change_and_the_conclusion() -> None:
    found = (FINE, ODD, DOUBT, BAD)
    lines = checkups_text(found, fitness(found)).splitlines()
    assert lines[0].split() == ["check", "found"]
    assert lines[2].split("  ")[0] == "load"
    assert lines[7:] == [
        "to change",
        "  clock: sudo cpupower frequency-set -g performance",
        "  threads: --threads 2",
        "",
        "not fit now: threads, clock",
    ]
    everything = checkups_text(found, fitness(found), everything=True)
    assert "  virtual: compare runs of different hours\n" in everything


def test_nothing_to_change_takes_no_heading() -> None:
    text = checkups_text((FINE, ODD), fitness((FINE, ODD)))
    assert "to change" not in text
    assert text.endswith("\n\nfit for timing")


@pytest.mark.parametrize("color", [False, True])
def test_long_findings_are_wrapped_and_aligned(color: bool) -> None:
    long = Checkup("allocator", "good", "word " * 30)
    text = checkups_text((long, BAD), fitness((long, BAD)), width=60, color=color)
    plain = click.unstyle(text)
    assert ("\x1b[31mbad\x1b[0m" in text) == color
    assert max(map(len, plain.splitlines())) <= 60
    rows = [line for line in plain.splitlines() if "word word" in line]
    assert len(rows) > 1
    assert len({line.index("word") for line in rows}) == 1


def test_a_process_name_cannot_write_to_the_terminal() -> None:
    evil = Checkup("other work", "bad", "kept busy: \x1b[2Jname", "stop \x1b]0;it")
    assert "\x1b" not in checkups_text((evil,), fitness((evil,)))


def test_json_holds_everything() -> None:
    page = json.loads(checkups_json((FINE, BAD), fitness((FINE, BAD))))
    assert page["word"] == "void"
    assert page["conclusion"].startswith("not fit now: threads: 4 threads")
    assert page["checkups"][1] == {
        "name": "threads",
        "word": "bad",
        "found": "4 threads; 2 processors may be used",
        "remedy": "--threads 2",
    }


@pytest.mark.parametrize(
    ("found", "code", "last"),
    [
        ((FINE,), 0, "fit for timing"),
        ((FINE, DOUBT), 0, "fit with care: clock"),
        ((FINE, BAD), 5, "not fit now: threads"),
    ],
)
def test_strict_fails_only_where_the_machine_is_not_fit(
    flop: Any, found: tuple[Checkup, ...], code: int, last: str
) -> None:
    assert flop(found, "--strict")[0] == code
    lenient, out, _, _ = flop(found)
    assert lenient == 0
    assert out.splitlines()[-1] == last


def test_json_is_pure_and_notes_go_to_stderr(flop: Any) -> None:
    code, out, err, asked = flop((FINE, BAD), "--json", "--strict", "--threads", "2", "--seconds", "0.5")
    assert code == 5
    assert json.loads(out)["word"] == "void"
    assert "a library's chatter" in err
    assert "note:" in err
    assert asked == [{"seconds": 0.5, "threads": 2}]
    assert "note:" not in flop((FINE,), "-q")[2]


def test_advice_on_good_things_is_shown_on_request(flop: Any) -> None:
    assert "different hours" not in flop((FINE, ODD))[1]
    assert "different hours" in flop((FINE, ODD), "-v")[1]


def test_colors(flop: Any) -> None:
    assert "\x1b" not in flop((FINE, BAD))[1]
    assert "\x1b[31mbad" in flop((FINE, BAD), "--color", "always")[1]


@pytest.mark.parametrize("args", [("--threads", "0"), ("--seconds", "0"), ("model.pt",), ("--csv",)])
def test_misuse(flop: Any, args: tuple[str, ...]) -> None:
    code, out, err, asked = flop((FINE,), *args)
    assert (code, out, asked) == (2, "", [])
    assert err.startswith("error: ")


def test_a_real_look(flop: Any) -> None:
    code, out, _, _ = flop(None, "--json", "--seconds", "0.1", "--threads", "1")
    assert code == 0
    page = json.loads(out)
    assert page["word"] in ("good", "disturbed", "void")
    assert len(page["checkups"]) > 15
