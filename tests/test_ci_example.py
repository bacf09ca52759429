"""The example workflow against the product: every command line in it can be read by the real commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

import flopscope
from flopscope.budgets import parsed
from flopscope.commands.porch import porch
from flopscope.comparison import parse_gate

EXAMPLE = Path(flopscope.__file__).parent.parent / "docs" / "examples" / "flopscope.yml"
pytestmark = pytest.mark.skipif(not EXAMPLE.exists(), reason="the documentation is in the checkout only")


def calls() -> list[list[str]]:
    """The words of every call of flopscope in a `run:`."""
    yaml = pytest.importorskip("yaml")
    steps = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["jobs"]["costs"]["steps"]
    found = []
    for step in steps:
        for line in step.get("run", "").splitlines():
            for call in re.findall(r"flopscope (?:report|check|compare)[^)]*", line):
                found.append(shlex.split(re.split(r" >>? ", call)[0])[1:])
    return found


def test_there_are_calls_of_each_kind() -> None:
    assert {words[0] for words in calls()} == {"report", "check", "compare"}


def test_every_call_can_be_read() -> None:
    for words in calls():
        command = porch.commands[words[0]]
        # Below the porch, as from a shell: a command keeps the help option of its first context.
        above = porch.make_context("flopscope", [words[0]])
        given = command.make_context(words[0], list(words[1:]), parent=above).params
        assert isinstance(command, click.Command)
        for budget in given.get("budgets", ()):
            assert parsed(budget)[1] == "<="
        for gate in given.get("gates", ()):
            assert parse_gate(gate)[1] == pytest.approx(0.01)
        assert not given.get("force")
