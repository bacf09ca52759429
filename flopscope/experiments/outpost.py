"""Operators on stdin -> their seconds on stdout, whenever asked. A process of its own; `elsewhere` starts it.

The first line that it reads holds the operators and the number of threads, each further one how often to run
them; to each it answers with one line: "ready", or the seconds of the calls and the page faults of one.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    """Answer until stdin ends."""
    import torch

    from .bench import Watched, quiet
    from .entries import REFUSALS
    from .letters import read
    from .rebuilding import UnbuildableError, in_a_row, rebuild
    from .values import Values

    request = json.loads(sys.stdin.readline() or "null")
    if request is None:
        return
    torch.set_num_threads(request["threads"])
    values = Values()
    with quiet():
        try:
            subject = in_a_row([rebuild(read(letter), values) for letter in request["ops"]])
        except (*REFUSALS, UnbuildableError) as reason:
            _answer({"refused": str(reason)})
            return
        runner = Watched(subject)
        _answer("ready")
        for line in sys.stdin:
            taken = runner(int(line))
            _answer({"seconds": taken, "faults": runner.faults[-1] if runner.faults else None})


def _answer(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
