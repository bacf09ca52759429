"""`flopscope compare` and `flopscope whatif` on the command line: streams, gates and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_lines import NET, CommandLine

import flopscope


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


def test_gates_end_with_1_and_what_cannot_be_judged_does_too(
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
    assert unjudged.code == 1
    assert "not measured in one run" in unjudged.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["compare", "only.json"], 2, "at least two"),
        (["compare", "zoo:nothing", "zoo:resnet18"], 3, "the zoo has no network"),
        (["compare", "a", "b", "--fail-on", "macs+1"], 1, "not a gate"),
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
