"""Operators on stdin -> their seconds on stdout, whenever asked. A process of its own; `elsewhere` starts it.

The first line that it reads holds the conditions, each further one either operators to keep under a name,
or the name of what to run and how often. To each it answers with one line: "ready", why it will not, or
the seconds of the calls, the page faults of one, and how long threads waited for a processor.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from .bench import Watched, plain, quiet
from .entries import REFUSALS
from .letters import THIS, read
from .rebuilding import Rebuilt, UnbuildableError, in_a_row, rebuild
from .values import Values

_PIECE = 64 * 1024  # bytes: half of what glibc would ever give a mapping of its own


def main() -> None:
    """Answer until stdin ends."""
    line = sys.stdin.readline()
    if not line:
        return
    _settle(json.loads(line))
    _say("ready")
    kept = _Kept()
    with quiet():
        for line in sys.stdin:
            _say(_answer(json.loads(line), kept))


def partially(small: Rebuilt, whole: Rebuilt) -> Rebuilt:
    """PConv: split the whole's input, run the small convolution on the first part, put both together.

    Args:
        small: a convolution whose arguments are (input, weight, bias, ...).
        whole: its first tensor is the input with all channels.
    """
    source, width = whole.tensors[0], small.tensors[0].shape[1]
    call: partial[torch.Tensor] = small.run  # type: ignore[assignment]

    def run() -> torch.Tensor:
        first, rest = torch.split(source, [width, source.shape[1] - width], 1)
        return torch.cat((call.func(first, *call.args[1:]), rest), 1)

    return plain(run)


def warm(sizes: Iterable[int]) -> None:
    """Get and give back blocks of these sizes, as the network does: the C library's allocator learns by it.

    glibc keeps what is smaller than the largest block that was ever given back (up to 32 MiB), and hands
    larger ones back to the system at every free.
    """
    for nbytes in sizes:
        try:
            torch.empty(nbytes, dtype=torch.uint8, device="cpu")
        except REFUSALS:
            continue  # larger than what is free; the network got it, but nothing is learned from it


def with_room(nbytes: int) -> torch.Tensor | None:
    """Make the allocator keep so much free memory: as long as what this returns is held.

    In a network free memory lies below blocks that live on, so glibc cannot hand it back. Here it is
    made of pieces that always come from the heap, and what lies above them is what is returned.
    """
    if not nbytes:
        return None
    pieces = [torch.empty(_PIECE, dtype=torch.uint8, device="cpu") for _ in range(-(-nbytes // _PIECE) + 1)]
    return pieces[-1]


class _Kept:
    """Operators by name, ready to run; and what keeps room for them in the allocator."""

    def __init__(self) -> None:
        self._values = Values()
        self._runners: dict[str, tuple[Rebuilt, Watched]] = {}
        self._stopper: torch.Tensor | None = None

    def take(self, name: str, letters: Sequence[dict[str, Any]], *, beside: bool, room: int | None) -> None:
        """Make operators ready, in place of what stood under the name."""
        self._runners.pop(name, None)
        if room is not None:
            self._stopper = None
            self._stopper = with_room(room)
        subject = in_a_row([rebuild(read(letter), self._values) for letter in letters])
        if beside:
            subject = partially(subject, self._runners[THIS][0])
        self._runners[name] = subject, Watched(subject)

    def run(self, name: str, runs: int) -> dict[str, Any]:
        """Seconds of so many calls, page faults of one, and the seconds that threads waited meanwhile."""
        runner = self._runners[name][1]
        taken = runner(runs)
        faults = runner.faults[-1] if runner.faults else None
        return {"seconds": taken, "faults": faults, "waited_s": runner.waited_s}


def _settle(conditions: Mapping[str, Any]) -> None:
    """Work as the process that asks does."""
    torch.set_num_threads(conditions["threads"])
    torch.set_float32_matmul_precision(conditions["precision"])
    if not conditions["mkldnn"]:
        torch.backends.mkldnn.set_flags(False)
    warm(conditions["freed"])


def _answer(request: Mapping[str, Any], kept: _Kept) -> Any:
    name = request["name"]
    try:
        if "runs" in request:
            return kept.run(name, request["runs"])
        kept.take(name, request["ops"], beside=request["beside"], room=request["room"])
    except (*REFUSALS, UnbuildableError) as reason:
        return {"refused": str(reason).partition("\n")[0]}
    return "ready"


def _say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
