"""The command line as a process: purity of stdout, pipes, Ctrl-C, and what is not imported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import made_reports
import pytest

import flopscope

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and pipes as POSIX has them")
HOUSE = str(Path(flopscope.__file__).parents[1])

LOUD = """
import os
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        print("PRINTED")

    def forward(self, x):
        os.write(1, b"WRITTEN\\n")
        os.system("echo ECHOED")
        return self.a(x)
"""

SLOW = """
import sys
import time

from torch import nn


class Net(nn.Module):
    def forward(self, x):
        print("asleep", file=sys.stderr, flush=True)
        time.sleep(60)
        return x
"""


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return {**kept, "PYTHONPATH": os.pathsep.join([HOUSE, kept.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


def python(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def shell(script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a pipeline; `flop` stands for the command line. Ends with the code that the script names."""
    script = f'set -o pipefail; flop() {{ "{sys.executable}" -m flopscope "$@"; }}; {script}'
    return subprocess.run(
        ["bash", "-c", script],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a report whose JSON is longer than a pipe holds."""
    layers = [made_reports.layer(f"layer{k}", "Conv2d", "conv", flops=k + 1) for k in range(400)]
    made_reports.report(*layers, warnings=(), notes=()).save(tmp_path / "r.json")
    assert (tmp_path / "r.json").stat().st_size > 2**17
    return tmp_path


@POSIX
def test_nothing_but_the_report_reaches_stdout(tmp_path: Path) -> None:
    """Not what a model prints, writes to the descriptor, or lets a child process say."""
    (tmp_path / "loud.py").write_text(LOUD, encoding="utf-8")
    args = ("-m", "flopscope", "report", "loud.py:Net", "-i", "1,4", "--json", "-q", "--max-seconds", "0.01")
    done = python(*args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["format"] == "flopscope-report"
    for word in ("PRINTED", "WRITTEN", "ECHOED"):
        assert word in done.stderr


@POSIX
def test_ctrl_c_leaves_neither_a_traceback_nor_a_file(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    args = ["report", "slow.py:Net", "-i", "1,4", "--csv", "-o", "out.csv"]
    running = subprocess.Popen(
        [sys.executable, "-m", "flopscope", *args], cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # a shell that runs the tests in the background has its children ignore the signal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert running.stderr is not None
    assert "asleep" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (130, "", "error: interrupted.\n")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["slow.py"]


HEAVY = "{'torch', 'pandas', 'numpy', 'fvcore', 'rich'} & set(sys.modules)"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["report", "--help"], 0),
        (["view", "r.json"], 0),
        (["view", "r.json", "--csv", "-o", "a.md", "-o", "a.tex", "-o", "a.json"], 0),
        (["report", "r.json", "--by", "kind"], 0),
        (["check", "r.json", "--budget", "flops<1"], 1),
        (["ops"], 0),
        (["report", "r.json", "--cvs"], 2),
        (["report", "absent.pt"], 3),
    ],
)
def test_neither_torch_nor_pandas_is_imported(saved: Path, args: Sequence[str], code: int) -> None:
    script = (
        "import sys\n"
        "from flopscope.commands.porch import porch\n"
        "try:\n"
        f"    porch({list(args)!r}, prog_name='flopscope')\n"
        "finally:\n"
        f"    print('heavy:', sorted({HEAVY}), file=sys.stderr)\n"
    )
    done = python("-c", script, cwd=saved)
    assert done.returncode == code, done.stderr
    assert done.stderr.endswith("heavy: []\n")


@POSIX
@pytest.mark.parametrize(
    ("script", "code", "first"),
    [
        ("flop view r.json --json | head -1", 0, "{\n"),
        ("flop view r.json --json | true", 0, ""),
        ("flop check r.json -b 'flops<1' | true", 1, ""),
        ("flop view r.json --json -o kept.csv | true; test -s kept.csv", 0, ""),
        ("flop view r.json >&-", 0, ""),
    ],
)
def test_a_reader_who_leaves_early_is_no_error(saved: Path, script: str, code: int, first: str) -> None:
    done = shell(script, saved)
    assert (done.returncode, done.stdout) == (code, first), done.stderr
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error(saved: Path) -> None:
    done = shell("flop view r.json --json > /dev/full", saved)
    assert done.returncode == 2
    assert done.stderr == (
        "error: cannot write to standard output: No space left on device\n"
        "hint:  or write to a file:  -o FILE\n"
    )


def test_a_terminal_that_knows_ascii_only(saved: Path) -> None:
    made_reports.report(uncosted={"x::y": 1}).save(saved / "bound.json")
    assert "≥" in made_reports.report(uncosted={"x::y": 1}).table()
    done = shell("PYTHONIOENCODING=ascii flop view bound.json", saved)
    assert done.returncode == 0
    assert done.stdout.isascii()


def test_both_ways_to_start_it_are_the_same(saved: Path) -> None:
    by_module = python("-m", "flopscope", "view", "r.json", cwd=saved)
    by_script = python("-c", "from flopscope.commands import main; main()", "view", "r.json", cwd=saved)
    assert by_module.returncode == by_script.returncode == 0
    assert by_module.stdout == by_script.stdout != ""
