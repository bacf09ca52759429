"""`flopscope compare` and `flopscope whatif` on the command line: streams, gates and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import made_reports
import pytest
from command_lines import NET, CommandLine

import flopscope
from flopscope import quality
from flopscope.records import Quality


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    file = tmp_path / "net.py"
    file.write_text(NET)
    return file


def test_two_models_side_by_side(run: CommandLine, net: Path) -> None:
    said = run("compare", f"{net}:build", f"{net}:build?width=8", "-i", "1,3,8,8", "--no-latency")
    assert said.code == 0
    assert "verdict" not in said.out  # nothing was measured
    assert "A  " in said.out


def test_json_is_alone_on_stdout(run: CommandLine, net: Path) -> None:
    said = run("compare", f"{net}:build", f"{net}:build", "-i", "1,3,8,8", "--json", "--max-seconds", "0.2")
    top = json.loads(said.out)
    assert [side["name"] for side in top["sides"]] == [f"{net}:build", f"{net}:build #2"]
    assert top["sides"][1]["verdict"] in ("faster", "slower", "same", "unclear")


def test_gates_end_with_1_and_what_cannot_be_judged_with_2(
    run: CommandLine, net: Path, tmp_path: Path
) -> None:
    for width in (4, 8):
        model = flopscope.load_model(f"{net}:build?width={width}")
        flopscope.count(model, (1, 3, 8, 8)).save(tmp_path / f"{width}.json")
    narrow, wide = tmp_path / "4.json", tmp_path / "8.json"
    assert run("compare", wide, narrow, "--fail-on", "macs:+1%").code == 0
    failed = run("compare", narrow, wide, "--fail-on", "macs:+1%")
    assert failed.code == 1
    assert "macs +" in failed.err
    unjudged = run("compare", narrow, wide, "--fail-on", "latency:+5%")
    assert unjudged.code == 2
    assert "not measured in one run" in unjudged.err
    worse = run("compare", narrow, wide, "--fail-on", "latency:+5%", "--fail-on", "macs:+1%")
    assert worse.code == 1  # what got worse is told, whatever else could not be judged
    assert "macs +" in worse.err
    both = run("compare", narrow, wide, "--fail-on", "latency:+5%", "--no-latency")
    assert both.code == 2
    assert "--no-latency was given" in both.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["compare", "only.json"], 2, "at least two"),
        (["compare", "zoo:nothing", "zoo:resnet18"], 3, "the zoo has no network"),
        (["compare", "a", "b", "--fail-on", "macs+1"], 2, "not a gate"),
        (["compare", "a", "b", "--fail-on", "mac:+1%"], 2, "unknown metric 'mac'"),
        (["compare", "a", "b", "--machine", "a100-40gb"], 2, "does not go with compare"),
        (["compare", "a", "b", "--csv", "--json"], 2, "exclude each other"),
        (["whatif"], 2, "MODEL is missing"),
        (["whatif", "zoo:resnet18", "fold-nb"], 2, "no rewrite 'fold-nb'"),
        (["whatif", "zoo:resnet18", "fold-bn", "--train"], 2, "does not go with whatif"),
    ],
)
def test_misuse(run: CommandLine, words: list[str], code: int, message: str) -> None:
    said = run(*words)
    assert said.code == code
    assert message in said.err
    assert not said.out


def test_whatif_ranks(run: CommandLine) -> None:
    said = run(
        "whatif", "zoo:mobilenetv3_small", "fold-bn", "drop-se", "-i", "1,3,32,32", "--max-seconds", "0.3"
    )
    assert said.code == 0, said.err
    assert "as it is" in said.out
    assert "drop-se (other function)" in said.out
    assert "so far, roughly:" in said.err


def test_help_names_both(run: CommandLine) -> None:
    said = run("--help")
    assert "compare" in said.out
    assert "whatif" in said.out


@pytest.fixture
def saved(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for width in (4, 8):
        model = flopscope.load_model(f"{net}:build?width={width}")
        flopscope.count(model, (1, 3, 8, 8)).save(tmp_path / f"{width}.json")
    return tmp_path


@pytest.mark.parametrize(
    ("suffix", "start"),
    [
        ("html", "<!doctype html><!-- flopscope "), ("csv", "path,kind,output_shape,by,"),
        ("json", '{\n "format"'),
        ("md", "<!-- flopscope "), ("tex", "% flopscope "),
    ],
)  # fmt: skip
def test_a_comparison_is_written_by_its_suffix_and_over_its_own_file(
    run: CommandLine, saved: Path, suffix: str, start: str
) -> None:
    for _ in range(2):
        said = run("compare", "4.json", "8.json", "-o", f"cmp.{suffix}")
        assert said.code == 0, said.err
        assert f"wrote cmp.{suffix}" in said.err
    assert (saved / f"cmp.{suffix}").read_text(encoding="utf-8").startswith(start)


def test_view_names_what_is_no_report(run: CommandLine, saved: Path) -> None:
    assert run("compare", "4.json", "8.json", "-o", "cmp.json", "-o", "cmp.html").code == 0
    for name in ("cmp.json", "cmp.html"):
        said = run("view", name)
        assert (said.code, said.out) == (3, "")
        assert f"error: {name} is a comparison, not a report" in said.err
        assert "opens in a browser" in said.err
    assert run("machine", "--machine", "t4", "-o", "t4.json").code == 0
    assert "flopscope machine --machine FILE" in run("view", "t4.json").err


def test_files_of_others_and_the_reports_themselves_are_left_alone(run: CommandLine, saved: Path) -> None:
    (saved / "mine.md").write_text("# my notes\n", encoding="utf-8")
    refused = run("compare", "4.json", "8.json", "-o", "mine.md")
    assert (refused.code, refused.out) == (2, "")
    assert "flopscope did not write it" in refused.err
    assert (saved / "mine.md").read_text(encoding="utf-8") == "# my notes\n"
    assert run("compare", "4.json", "8.json", "-o", "mine.md", "--force").code == 0
    before = (saved / "8.json").read_bytes()
    assert "MODEL itself" in run("compare", "4.json", "8.json", "-o", "8.json", "--force").err
    assert (saved / "8.json").read_bytes() == before
    assert "no output has the suffix '.tsv'" in run("compare", "4.json", "8.json", "-o", "x.tsv").err


def test_a_picture_of_ratios_needs_ratios(run: CommandLine, saved: Path, net: Path) -> None:
    said = run("compare", "4.json", "8.json", "-o", "cmp.svg")
    assert said.code == 2
    assert "no ratio of times" in said.err
    assert not (saved / "cmp.svg").exists()
    address = f"{net}:build"
    said = run("compare", address, address, "-i", "1,3,8,8", "--max-seconds", "0.2", "-o", "cmp.svg")
    assert said.code == 0
    assert "<svg" in (saved / "cmp.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["compare", "whatif"])
def test_strict_refuses_disturbed_timing_after_showing_it(
    run: CommandLine, net: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    found = Quality("disturbed", ("somebody else was busy",), "wait")
    monkeypatch.setattr(quality, "assess", lambda timings, machine=None: found)
    others = [f"{net}:build?width=8"] if command == "compare" else ["channels-last"]
    words = (command, f"{net}:build", *others, "-i", "1,3,8,8", "--max-seconds", "0.2", "--csv")
    assert run(*words).code == 0
    said = run(*words, "--strict")
    assert said.code == 5
    assert said.out.startswith("path,kind,")
    assert "timing is disturbed: somebody else was busy" in said.err


def test_strict_refuses_ops_without_a_price(run: CommandLine, tmp_path: Path) -> None:
    for name, uncosted in (("a", {}), ("b", {"x::y": 2})):
        made_reports.report(uncosted=uncosted).save(tmp_path / f"{name}.json")
    both = (tmp_path / "a.json", tmp_path / "b.json")
    assert run("compare", *both).code == 0
    said = run("compare", *both, "--strict")
    assert said.code == 5
    assert "ops without a price: x::y" in said.err


def test_whatif_writes_files_too(run: CommandLine, saved: Path, net: Path) -> None:
    files = ("-o", "w.json", "-o", "w.html")
    said = run("whatif", f"{net}:build", "channels-last", "-i", "1,3,8,8", "--no-latency", *files)
    assert said.code == 0, said.err
    assert json.loads((saved / "w.json").read_text(encoding="utf-8"))["format"] == "flopscope-comparison"
    assert (saved / "w.html").stat().st_size > 1000
