"""Operators on stdin -> oneDNN's log of them on stdout. Runs as a process of its own, started by `logs`.

Every operator runs twice: the first call sets up what the library keeps, the second is logged between
two marks. The library prints through the C library's buffer, so that buffer is emptied before a mark.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

BEGIN, END = "flopscope,begin", "flopscope,end"


def marked(text: str) -> Mapping[int, Sequence[str]]:
    """What a witness printed -> the lines between the marks, by signature of the operator."""
    found: dict[int, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        if line.startswith(BEGIN):
            current = []
        elif line.startswith(END) and current is not None:
            found[int(line.rpartition(",")[2])] = current
            current = None
        elif current is not None:
            current.append(line)
    return found


def main() -> None:
    """Run what stdin asks for."""
    import torch

    from .bench import quiet, seconds_of
    from .entries import REFUSALS
    from .letters import read
    from .rebuilding import UnbuildableError, rebuild
    from .values import Values

    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    values = Values()
    with quiet():
        for letter in request["ops"]:
            op = read(letter)
            try:
                subject = rebuild(op, values)  # runs it once
                for _ in _between(op.signature):
                    seconds_of(subject, 1)
            except (*REFUSALS, UnbuildableError):
                continue


def _between(signature: int) -> Iterator[None]:
    _mark(f"{BEGIN},{signature}")
    yield
    _mark(f"{END},{signature}")


def _mark(text: str) -> None:
    sys.stdout.flush()
    _empty_c_buffers()
    os.write(1, f"{text}\n".encode())


def _empty_c_buffers() -> None:
    try:
        ctypes.CDLL(None).fflush(None)
    except (OSError, AttributeError, TypeError):
        return  # Windows has no such library; oneDNN empties its buffer itself there


if __name__ == "__main__":
    main()
