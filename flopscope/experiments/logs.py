"""Operators -> the library's steps of each, told by oneDNN's log in one child process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

import torch

from flopscope.records import Kernel, OpCall

from .children import command, environment
from .letters import written
from .librarylog import kernels_of
from .witness import marked

_TELLING = (
    "conv",
    "linear",
    "mm",
    "matmul",
    "pool",
    "norm",
    "lstm",
    "gru",
    "rnn",
    "gelu",
    "softmax",
    "attention",
)


def steps_of(
    ops: Sequence[OpCall], *, timeout_s: float, notes: list[str]
) -> Mapping[int, tuple[Kernel, ...]]:
    """The steps of one warm call of each operator, by signature; empty where nothing could be learned.

    Args:
        ops: each signature once.
        timeout_s: after so many seconds the child is ended.
        notes: why nothing was learned is added here.
    """
    asked = {op.signature: op for op in ops if any(word in op.op for word in _TELLING)}
    if not asked:
        return {}
    if not torch.backends.mkldnn.is_available():
        notes.append("no library log: this torch was built without oneDNN")
        return {}
    if not sys.executable:
        notes.append("no library log: this process cannot start another Python")
        return {}
    request = {"threads": torch.get_num_threads(), "ops": [written(op) for op in asked.values()]}
    try:
        done = subprocess.run(
            command("witness"),
            input=json.dumps(request),
            env=environment({"ONEDNN_VERBOSE": "1", "DNNL_VERBOSE": "1"}),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        notes.append(f"no library log: its process took longer than {timeout_s:.0f} s")
        return {}
    except OSError as failure:
        notes.append(f"no library log: its process could not be started ({failure})")
        return {}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        notes.append(f"the library log is not whole: its process failed ({last})")
    lines = marked(done.stdout)
    return {key: kernels_of(lines[key], _weights(op)) for key, op in asked.items() if lines.get(key)}


def _weights(op: OpCall) -> list[tuple[int, ...]]:
    named = (op.tensor(name) for name in ("weight", "mat2", "other", "batch2"))
    return [spec.shape for spec in named if spec is not None]
