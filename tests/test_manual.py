"""What counts as a block of the manual, and what its marks mean, on pages of a few lines."""

from __future__ import annotations

from pathlib import Path

import manual
import pytest
from manual import Unreadable


@pytest.fixture
def page(tmp_path: Path):
    def write(text: str) -> list[manual.Piece]:
        file = tmp_path / "page.md"
        file.write_text(text, encoding="utf-8")
        return list(manual.pieces(file))

    return write


def test_blocks_are_told_apart_by_language_and_by_how_their_lines_begin(page):
    found = page(
        "# A page\n\n```python\na = 1\n```\n\n```\nflopscope zoo\n```\n\n    flopscope doctor\n"
        "\n```\nflopscope 0.1.0   net.py:build\n```\n\n    r starts as t\n\n```console\n$ ls\n```\n"
        "```text\n$ flopscope zoo\n```\n```text\nflopscope is so called\n```\n"
    )
    assert [(piece.kind, piece.line) for piece in found] == [
        ("python", 4), ("commands", 8), ("commands", 11), ("text", 14), ("text", 17), ("commands", 20),
        ("commands", 23), ("text", 26),
    ]  # fmt: skip
    assert found[2].code == "flopscope doctor\n"


def test_marks_belong_to_the_next_block_alone(page):
    found = page(
        "<!-- exit: 1 -->\n<!-- a remark -->\n```\nflopscope check\n```\n\n```\nflopscope zoo\n```\n"
        "<!-- not run: takes an hour -->\n```python\nwait()\n```\n"
        "<!-- file: net.py -->\n```python\nx = 1\n```\n"
    )
    assert [(piece.kind, piece.marks) for piece in found] == [
        ("commands", {"exit": "1"}),
        ("commands", {}),
        ("left out", {"not run": "takes an hour"}),
        ("file", {"file": "net.py"}),
    ]


def test_a_set_up_may_take_several_lines(page):
    found = page("Text.\n<!-- setup:\na = 1\nb = 2\n-->\n```python\na + b\n```\n")
    assert [(piece.kind, piece.code.strip()) for piece in found] == [
        ("setup", "a = 1\nb = 2"),
        ("python", "a + b"),
    ]


def test_a_block_in_a_list_loses_its_margin(page):
    assert page("- So:\n\n  ```python\n  if a:\n      b()\n  ```\n")[0].code == "if a:\n    b()\n"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("<!-- not run -->\n```python\n1 / 0\n```\n", "without a reason"),
        ("<!-- not run: -->\n```python\n1 / 0\n```\n", "without a reason"),
        ("<!-- do not run: slow -->\n<!-- skip -->\n```python\n1\n```\n", "is no mark"),
        ("<!-- not run: slow -->\n\nWords between.\n\n```python\n1\n```\n", "before no block"),
        ("```python\n1\n```\n<!-- exit: 1 -->\n", "before no block"),
        ("```pyhton\n1\n```\n", "'pyhton'"),
    ],
)
def test_what_is_misspelt_or_has_no_reason_is_refused(page, text, word):
    with pytest.raises(Unreadable, match=word):
        page(text)


def commands(code: str) -> list[manual.Command]:
    return manual.commands(manual.Piece("commands", code, 10))


def test_commands_are_parted_as_a_shell_does_it():
    first, second, third = commands(
        "flopscope doctor && flopscope report 'op:a?b=1&c=2' -i 'ids=1,8<9'   # a remark\n"
        "flopscope zoo --csv >> a.csv\n"
    )
    assert first.words == ("flopscope", "doctor")
    assert second.words == ("flopscope", "report", "op:a?b=1&c=2", "-i", "ids=1,8<9")
    assert (first.line, second.line, third.line) == (10, 10, 11)
    assert (third.words[-1], third.to, third.appended) == ("--csv", "a.csv", True)


def test_with_prompts_the_other_lines_are_output():
    first, second = commands("$ flopscope a\nok\n\n$ flopscope b\nso\n")
    assert (first.shown, second.shown) == (("ok", ""), ("so",))


@pytest.mark.parametrize("line", ["flopscope zoo | head", "flopscope zoo > a > b", "flopscope zoo 'a"])
def test_what_takes_a_shell_is_refused(line):
    with pytest.raises(Unreadable):
        commands(line)
