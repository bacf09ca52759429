"""A page of the manual -> the pieces that are run or written, in their order, each with its marks.

Marks are HTML comments, which no reader sees. They stand right before the block that they are about:

    <!-- not run: REASON -->      it is left out
    <!-- exit: 1 -->              its last line ends with this code; "0 or 5": with one of these
    <!-- file: NAME -->           it is not run, it is what the file NAME holds
    <!-- output varies: REASON --> what is printed is not held against what is shown
    <!-- needs: PACKAGE -->       it is left out where the package, no dependency, is not installed

`<!-- setup: CODE -->` is Python for which the page needs no words. It may take lines and stand anywhere.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

PYTHON = {"python", "py", "python3"}
SHELL = {"console", "bash", "sh", "shell"}
NOT_CODE = {"text", "json", "toml", "yaml", "latex", "html", "css", "csv", "ini", "diff", "{eval-rst}"}
COMMAND = re.compile(r"(\$ )?(flopscope|python3?|pip|pytest|jupyter|git|eval|scp|ssh)( +[a-z./'\"-].*)?$")
"""A line that is to be typed. Output may begin with the program's name too, but its version follows then."""

PARTS = re.compile(
    r"<!--[ \n]*(?P<mark>[a-z ]+?):(?P<value>.*?)-->"
    r"|<!--(?P<remark>.*?)-->"
    r"|^(?P<margin> *)(?P<fence>`{3,}|~{3,})(?P<language>[^`\n]*)\n(?P<code>.*?)^(?P=margin)(?P=fence)[ ]*$"
    r"|(?:\A|(?<=\n\n)|(?<=-->\n))(?P<indented>(?: {4}[^\n]*\n)+)",
    re.DOTALL | re.MULTILINE,
)
MARKS = {"not run", "exit", "file", "output varies", "needs"}


class Unreadable(Exception):
    """A mark or a command line of a kind that is not known here; says where, and what to do."""


@dataclass(frozen=True)
class Piece:
    """A block or a hidden set-up.

    `kind` is "python", "commands", "setup", "file", "left out" or "text"; `line` counts from 1.
    """

    kind: str
    code: str
    line: int
    marks: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """One command: its words, the file that takes its output, and what the page shows of the output."""

    words: tuple[str, ...]
    line: int
    to: str | None = None
    appended: bool = False
    shown: tuple[str, ...] = ()


def pieces(path: Path) -> Iterator[Piece]:
    """The pieces of a page, in order.

    Raises:
        Unreadable: a mark is unknown, has nothing to say, or stands before something that is no block.
    """
    text = path.read_text(encoding="utf-8")
    marks: dict[str, str] = {}
    end = 0
    for part in PARTS.finditer(text):
        line = text.count("\n", 0, part.start()) + 1
        if marks and text[end : part.start()].strip():
            raise Unreadable(f"{path.name}:{line}: {marks} stands before no block")
        if part["mark"] == "setup":
            yield Piece("setup", part["value"], line)
        elif part["mark"] is not None or part["remark"] is not None:
            marks |= mark_of(part, f"{path.name}:{line}")
        else:
            yield block_of(part, line, marks)
            marks = {}
        end = part.end()
    if marks:
        raise Unreadable(f"{path.name}: {marks} stands before no block")


def mark_of(part: re.Match[str], where: str) -> dict[str, str]:
    """The mark that a comment is; none where it is a comment like any other."""
    name = (part["mark"] or part["remark"]).strip()
    value = (part["value"] or "").strip()
    if name in MARKS:
        if not value:
            raise Unreadable(f"{where}: {name!r} without a reason or value: <!-- {name}: ... -->")
        return {name: value}
    if re.match(r"(not|no|dont|skip|never)\b.*\brun\b|skip|exit|output|file", name):
        raise Unreadable(f"{where}: {name!r} is no mark; there are {', '.join(sorted(MARKS))} and setup")
    return {}


def block_of(part: re.Match[str], line: int, marks: dict[str, str]) -> Piece:
    """The piece that a block is."""
    if part["indented"] is not None:
        return Piece(kind_of("", part["indented"], marks), unindented(part["indented"], 4), line, marks)
    code = unindented(part["code"], len(part["margin"]))
    return Piece(kind_of(part["language"].strip(), code, marks), code, line + 1, marks)


def unindented(code: str, margin: int) -> str:
    return "".join(line[margin:] or "\n" for line in code.splitlines(keepends=True))


def kind_of(language: str, code: str, marks: dict[str, str]) -> str:
    """What a block is by its mark, its language or, without one, by how its lines begin."""
    if "file" in marks:
        return "file"
    if "not run" in marks:
        return "left out"
    if language in PYTHON:
        return "python"
    if language and language not in SHELL | NOT_CODE:
        raise Unreadable(f"a block in {language!r}: {', '.join(sorted(PYTHON | SHELL | NOT_CODE))} are known")
    typed = [line for line in code.splitlines() if COMMAND.match(line.strip())]
    if language == "text":  # so called for its output: a prompt tells what is typed
        typed = [line for line in typed if line.startswith("$ ")]
    return "commands" if language in SHELL or (typed and language in {"", "text"}) else "text"


# --------------------------------------------------------------------------- command lines


def commands(piece: Piece) -> list[Command]:
    """The commands of a block, each with the lines of output that stand below it.

    With a `$ ` anywhere, lines without one are output; else every line is a command.

    Raises:
        Unreadable: a line takes a shell.
    """
    lines = piece.code.splitlines()
    prompted = any(line.startswith("$ ") for line in lines)
    found: list[Command] = []
    for at, line in enumerate(lines):
        if prompted and not line.startswith("$ "):
            continue
        below = lines[at + 1 :] if prompted else []
        shown = tuple(takewhile(lambda line: not line.startswith("$ "), below))
        typed = list(typed_in(line.removeprefix("$ ") if prompted else line, piece.line + at))
        found += [*typed[:-1], *(Command(c.words, c.line, c.to, c.appended, shown) for c in typed[-1:])]
    return found


def typed_in(line: str, number: int) -> Iterator[Command]:
    """The commands of one line: a word list for each, parted by `&&` or `;`."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    try:
        read = [*reader, ";"]
    except ValueError as reason:
        raise Unreadable(f"line {number}: {line!r}: {reason}") from reason
    words: list[str] = []
    for word in read:
        if word in {";", "&&"}:
            if words:
                yield command_of(words, number)
            words = []
        else:
            words.append(word)


def command_of(words: Sequence[str], number: int) -> Command:
    signs = [at for at, word in enumerate(words) if set(word) <= set("|&<>()")]
    if not signs:
        return Command(tuple(words), number)
    if len(signs) > 1 or words[signs[0]] not in {">", ">>"} or signs[0] != len(words) - 2:
        raise Unreadable(f"line {number}: {' '.join(words)!r} takes a shell; mark the block as not run")
    return Command(tuple(words[: signs[0]]), number, words[-1], words[signs[0]] == ">>")
