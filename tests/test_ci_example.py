"""The example workflow against the product: its command lines are read, its steps run in a repository."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import flopscope
from flopscope.budgets import parsed
from flopscope.commands.porch import porch
from flopscope.comparison import parse_gate

EXAMPLE = Path(flopscope.__file__).parent.parent / "docs" / "examples" / "flopscope.yml"
pytestmark = pytest.mark.skipif(not EXAMPLE.exists(), reason="the documentation is in the checkout only")

# 3x3 of 3 to `width` channels on 8x8: 27 * 64 = 1728 MACs and 28 parameters for each of them.
NET = """
from torch import nn

def build():
    return nn.Conv2d(3, {width}, 3, padding=1)
"""


def workflow() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    found: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    return found


def scripts() -> dict[str, str]:
    """What the steps run, by their names."""
    steps = workflow()["jobs"]["costs"]["steps"]
    return {step["name"]: step["run"] for step in steps if "run" in step}


def calls() -> list[list[str]]:
    """The words of every call of flopscope."""
    found = []
    for line in "\n".join(scripts().values()).splitlines():
        for call in re.findall(r"flopscope (?:report|check|compare)[^)|]*", line):
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


# --------------------------------------------------------------------------- its steps, run


class Repository:
    """A repository with a base branch and a change to its model, and what the steps do in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder / "head", folder / "home"
        self.home.mkdir()
        self.summary = folder / "summary.md"
        # A worktree of the base is a commit of the remote: here the repository is its own.
        self._git("init", "-q", "-b", "main", str(self.folder))
        self._git("-C", str(self.folder), "remote", "add", "origin", str(self.folder))

    def commit(self, width: int | None) -> None:
        model = self.folder / "models" / "net.py"
        model.parent.mkdir(exist_ok=True)
        (self.folder / "README").write_text(f"{width}\n", encoding="utf-8")
        if width is not None:
            model.write_text(NET.format(width=width), encoding="utf-8")
        self._git("-C", str(self.folder), "add", ".")
        named = ("-c", "user.name=a", "-c", "user.email=a@b")
        self._git("-C", str(self.folder), *named, "commit", "-q", "-m", "x")

    def fetch(self) -> None:
        self._git("-C", str(self.folder), "fetch", "-q", "origin")

    def run(self, step: str) -> subprocess.CompletedProcess[str]:
        """Run a step as the runner does for `shell: bash`."""
        bin_of_flopscope = str(Path(sys.executable).parent)
        path = os.pathsep.join([bin_of_flopscope, os.environ["PATH"]])
        told = {"GITHUB_STEP_SUMMARY": str(self.summary), "GITHUB_BASE_REF": "main"}
        env = {**os.environ, **told, "PATH": path, **workflow()["env"], "INPUT": "1,3,8,8"}
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", scripts()[step]]
        return subprocess.run(
            shell, cwd=self.folder, env=env, capture_output=True, text=True, check=False, timeout=300
        )

    def _git(self, *words: str) -> None:
        env = {**os.environ, "HOME": str(self.home), "GIT_CONFIG_NOSYSTEM": "1"}
        subprocess.run(["git", *words], env=env, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    here = Path(sys.executable).parent / "flopscope"
    if not (shutil.which("git") and shutil.which("bash") and here.exists()):
        pytest.skip("needs git, bash and the flopscope command")
    assert workflow()["defaults"]["run"]["shell"] == "bash"
    return Repository(tmp_path)


def test_a_model_that_grows_within_its_budgets_fails_by_its_growth(repository: Repository) -> None:
    repository.commit(4)
    repository.fetch()
    repository.commit(8)
    for step in ("Count", "Budgets"):
        done = repository.run(step)
        assert done.returncode == 0, done.stderr
    done = repository.run("Growth against the base branch")
    assert done.returncode == 1, done.stderr
    assert "head.json: macs +100.00 %, allowed +1 %" in done.stderr  # 8 channels instead of 4
    summary = repository.summary.read_text(encoding="utf-8")
    assert "`macs<=600M`" in summary
    assert "13.8 k" in summary  # 8 * 1728
    for name in ("report.html", "head.json", "base.json", "growth.html"):
        assert (repository.folder / name).stat().st_size > 1000


def test_a_model_that_the_base_has_not_is_no_growth(repository: Repository) -> None:
    repository.commit(None)
    repository.fetch()
    repository.commit(4)
    assert repository.run("Count").returncode == 0
    done = repository.run("Growth against the base branch")
    assert done.returncode == 0, done.stderr
    assert "no models/net.py:build to compare with" in repository.summary.read_text(encoding="utf-8")
    assert not (repository.folder / "growth.html").exists()
