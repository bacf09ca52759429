"""A module of this room -> the command line and environment with which it runs as a child process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

_HOME = Path(__file__).resolve().parents[2]


def command(module: str) -> list[str]:
    """The command line that runs a module of this room; the working directory is not searched for it."""
    return [sys.executable, "-P", "-W", "ignore", "-m", f"flopscope.experiments.{module}"]


def environment(changes: Mapping[str, str], *, threads: int | None = None) -> dict[str, str]:
    """This process's environment with `changes`, in which the child finds flopscope and the same threads."""
    paths = [str(_HOME), *filter(None, [os.environ.get("PYTHONPATH")])]
    count = str(torch.get_num_threads() if threads is None else threads)
    quiet = dict.fromkeys(("ONEDNN_VERBOSE", "DNNL_VERBOSE", "MKL_VERBOSE"), "0")  # stdout is for answers
    own = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    return {**os.environ, **quiet, **own, **changes}
