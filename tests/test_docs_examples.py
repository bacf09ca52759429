"""Every block of the manual that can run offline on a CPU is run; the others say why not.

`manual.py` has the marks. The blocks of a page share one namespace and one folder, in which the files of
`desk.py` lie. Command lines run in this process. Efforts are cut short, for what is tested is that a page
works, not how fast.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import desk
import manual
import pytest
from command_lines import CommandLine
from manual import Command, Piece, Unreadable

import flopscope
from flopscope import costs, diagnosis, machines, render, rewrites, timing
from flopscope.commands.porch import porch
from flopscope.contests import supposing
from flopscope.profiling import walk
from flopscope.records import Machine
from flopscope.render import findings

ROOT = Path(flopscope.__file__).parent.parent
PAGES = [
    path
    for path in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        ROOT / "benchmarks" / "README.md",
        ROOT / "notebooks" / "README.md",
    )
    if path.exists() and "_build" not in path.parts
]
RUN = {"python", "commands", "setup"}
OPTIONAL = ("torchvision", "timm", "matplotlib")
"""Extras: where one is missing, a page is followed up to the first piece that takes it."""

REGISTRIES = (
    costs.registry._formulas, diagnosis.RULES, findings.WORDINGS, findings.TITLES, render.registry.RENDERERS,
    rewrites._REWRITES,
)  # fmt: skip

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the manual is in the checkout only")


class Reader:
    """Does what a page says, in the current folder."""

    def __init__(self, path: Path, made: Path, command_line: CommandLine) -> None:
        self.path = path
        self.command_line = command_line
        self.names = desk.names(made)

    def follow(self) -> int:
        """Run the pieces in order, up to one that takes a missing extra; return how many were run."""
        done = 0
        for piece in manual.pieces(self.path):
            if lacks(extras(piece)):
                break  # what follows may build on it
            if not lacks(piece.marks.get("needs", "").split()):
                done += getattr(self, piece.kind.replace(" ", "_"))(piece)
        return done

    def text(self, piece: Piece) -> bool:
        return False

    def left_out(self, piece: Piece) -> bool:
        return False

    def file(self, piece: Piece) -> bool:
        Path(piece.marks["file"]).write_text(piece.code, encoding="utf-8")
        return False

    def setup(self, piece: Piece) -> bool:
        code = textwrap.dedent(piece.code).strip()
        exec(compile(code, f"{self.path} (set-up at line {piece.line})", "exec"), self.names)
        return False

    def python(self, piece: Piece) -> bool:
        code = "\n" * (piece.line - 1) + piece.code  # so that a traceback names the line of the page
        promised = promises(code)
        for node in ast.parse(code, str(self.path)).body:
            if node.lineno not in promised or not isinstance(node, ast.Expr):
                exec(compile(ast.Module([node], []), str(self.path), "exec"), self.names)
                continue
            value = eval(compile(ast.Expression(node.value), str(self.path), "eval"), self.names)
            assert value == promised[node.lineno], f"{self.path.name}:{node.lineno} shows another value"
        return True

    def commands(self, piece: Piece) -> bool:
        calls = manual.commands(piece)
        failed = 0  # the line whose other commands are not run, as a shell does it after &&
        for command in calls:
            allowed = piece.marks.get("exit", "0") if command.line == calls[-1].line else "0"
            codes = {int(code) for code in allowed.split(" or ")}
            if command.line != failed and self.type(command, codes, "output varies" in piece.marks):
                failed = command.line
        return True

    def type(self, command: Command, allowed: set[int], varies: bool) -> int:
        where = f"{self.path.name}:{command.line}: {' '.join(command.words)}"
        if command.words[0] != "flopscope":
            raise Unreadable(f"{where}: only flopscope is run here; mark the block <!-- not run: why -->")
        said = self.command_line(*command.words[1:])
        assert said.code in allowed, f"{where}: exit code {said.code}\n{said.out}{said.err}"
        if command.to:
            with Path(command.to).open("a" if command.appended else "w", encoding="utf-8") as file:
                file.write(said.out)
        if not varies:
            printed = [line.rstrip() for line in (said.out + said.err).splitlines()]
            lost = [line for line in command.shown if line.strip(" …") and line.rstrip() not in printed]
            assert not lost, f"{where}: does not print\n" + "\n".join(lost)
        return said.code


def promises(code: str) -> dict[int, Any]:
    """Line -> the value that a comment at its end says it has, where the comment is a Python literal."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip():
            try:
                found[token.start[0]] = ast.literal_eval(token.string.lstrip("# "))
            except (ValueError, SyntaxError):
                continue
    return found


def lacks(names: Iterable[str]) -> bool:
    """Whether one of these packages is not installed."""
    return any(importlib.util.find_spec(name) is None for name in names)


def extras(piece: Piece) -> list[str]:
    """The extras that a piece to be run names."""
    found = [name for name in OPTIONAL if re.search(rf"\b{name}\b", piece.code)]
    return found if piece.kind in RUN else []


def kept(device: str = "cpu", threads: int | None = None, **_: Any) -> Machine:
    """The roofs of the suite, in place of measuring this machine's."""
    found = machines.known(device, threads)
    assert found is not None
    return found


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Efforts of a moment."""
    for effort in timing.SECONDS:
        monkeypatch.setitem(timing.SECONDS, effort, 0.1)
    for effort in walk.REPLAY_SECONDS:
        monkeypatch.setitem(walk.REPLAY_SECONDS, effort, 0.0)
    monkeypatch.setattr(walk, "COUNTERFACTUAL_SECONDS", 0.5)
    monkeypatch.setattr(supposing, "EARLY_SECONDS", 0.05)
    monkeypatch.setattr(walk, "PROCESSES", {})
    monkeypatch.setattr(machines, "measure", kept)
    seconds = next(item for item in porch.commands["doctor"].params if item.name == "seconds")
    monkeypatch.setattr(seconds, "default", 0.1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    desk.make(folder)
    return folder


@pytest.fixture
def own_folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files of the desk; what a page enters or imports from it is taken back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    rewrites.rewrites()  # these are entered when they are first asked for
    before, entries = set(sys.modules), [dict(registry) for registry in REGISTRIES]
    desk.lay_out(made, tmp_path)
    yield tmp_path
    for registry, entry in zip(REGISTRIES, entries, strict=True):
        registry.clear()
        registry.update(entry)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def runs(path: Path) -> bool:
    """Whether a page has anything to run; one that cannot be read has, for that shall be told."""
    try:
        return any(piece.kind in RUN for piece in manual.pieces(path))
    except Unreadable:
        return True


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.usefixtures("calm", "own_folder")
@pytest.mark.parametrize("path", [path for path in PAGES if runs(path)], ids=named)
def test_a_page_does_what_it_says(path: Path, made: Path, command_line: CommandLine) -> None:
    Reader(path, made, command_line).follow()


@pytest.mark.usefixtures("calm", "own_folder")
@pytest.mark.parametrize(
    "text",
    [
        "```python\n1 / 0\n```\n",
        "```python\n1 + 1  # 3\n```\n",
        "```python\nimport no_such_package\n```\n",
        "```\nflopscope view no-such.json\n```\n",
        "    flopscope check model.pt --budget 'params<=1'\n",
        "```console\n$ flopscope check model.pt --budget 'params<=1M'\nok  another line\n```\n",
        "```console\n$ pip install torch\n```\n",
        "<!-- exit: 1 -->\n```\nflopscope zoo\n```\n",
    ],
)
def test_a_block_that_does_not_do_what_it_says_is_told(
    text: str, tmp_path: Path, made: Path, command_line: CommandLine
) -> None:
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    with pytest.raises((AssertionError, ArithmeticError, ImportError, Unreadable)):
        Reader(tmp_path / "page.md", made, command_line).follow()


@pytest.mark.usefixtures("calm", "own_folder")
def test_blocks_of_a_page_share_names_and_files(
    tmp_path: Path, made: Path, command_line: CommandLine
) -> None:
    (tmp_path / "page.md").write_text(
        "<!-- setup: width = 3 -->\n<!-- file: own.py -->\n```python\nfrom torch import nn\n\n\n"
        "def build():\n    return nn.Linear(3, 2)\n```\n\n"
        "<!-- exit: 1 -->\n```console\n$ flopscope check own.py:build -i 5,3 --budget 'macs<=20'\n"
        "FAILED  macs<=20  actual 30, 50.0 % above the limit\n```\n\n"
        "```python\nimport own\n\n"
        "flopscope.count(own.build(), (5, width)).total.macs  # 30\n```\n"
        "<!-- not run: never -->\n```python\n1 / 0\n```\n",
        encoding="utf-8",
    )
    assert Reader(tmp_path / "page.md", made, command_line).follow() == 2
