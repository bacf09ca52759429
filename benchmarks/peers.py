"""What other counters make of single operators: found or not, and how much for what is no MAC.

    pip install -e '.[bench]' deepspeed calflops transformers
    python benchmarks/peers.py --out benchmarks/results/peers.md

Every tool is asked as in `tools.py`, on the CPU, in evaluation, in a process of its own that forks for
each case, so that what a tool leaves behind reaches no other answer. The MACs of a case are worked out
in `peers_cases.py`, by hand.
"""

from __future__ import annotations

import argparse
import importlib.metadata as metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

TOOLS = (
    "flopscope",
    "fvcore",
    "torch FlopCounterMode",
    "ptflops, pytorch engine",
    "ptflops, aten engine",
    "thop",
    "torchinfo",
    "torchprofile",
    "DeepSpeed",
    "calflops",
)
SHORT = {
    "torch FlopCounterMode": "torch",
    "ptflops, pytorch engine": "ptflops",
    "ptflops, aten engine": "ptflops aten",
}
"""Headings of the tables, where the name is too long for one."""

PACKAGES = ("torch", "fvcore", "ptflops", "thop", "torchinfo", "torchprofile", "deepspeed", "calflops")


def main() -> None:
    """Ask every tool about every case, and write two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", help="write the Markdown here, not to stdout")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_asked(options.child)))
        return
    told = {tool: _from_child(tool) for tool in TOOLS}
    text = _page({tool: answers for tool, answers in told.items() if answers is not None})
    print(text) if options.out is None else Path(options.out).write_text(text, encoding="utf-8")


def _from_child(tool: str) -> Mapping[str, Any] | None:
    run = subprocess.run(
        [sys.executable, __file__, "--child", tool], capture_output=True, text=True, check=False
    )
    if run.returncode:
        print(f"{tool}: {run.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    answers: Mapping[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answers


# --------------------------------------------------------------------------- in the child


def _asked(tool: str) -> dict[str, list[int] | str]:
    """The tool's MACs and all that it counts, in MACs or FLOPs as it does, by case; or its error."""
    import torch
    from peers_cases import CONTRACTIONS, REST

    ask = _adapter(tool)
    torch.set_num_threads(1)
    return {case.name: _in_a_fork(ask, case) for case in (*CONTRACTIONS, *REST)}


def _in_a_fork(ask: Callable[[Any, Any], tuple[int, int]], case: Any) -> list[int] | str:
    reading, writing = os.pipe()
    if not os.fork():
        import tools

        answer: list[int] | str
        try:
            with tools.quiet():
                answer = list(ask(case.build().eval(), case.input()))
        except BaseException as error:  # whatever a tool throws is its answer
            answer = type(error).__name__
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = json.loads(pipe.read() or '"died"')
    os.wait()
    return answer


def _adapter(tool: str) -> Callable[[Any, Any], tuple[int, int]]:
    """(model, input) -> the tool's MACs, and all that it counts beyond them, in its own unit."""
    import tools

    if tool == "flopscope":
        import flopscope

        def ours(model: Any, x: Any) -> tuple[int, int]:
            total = flopscope.count(model, x, progress=False).total
            return total.macs, total.flops - 2 * total.macs

        return ours
    if tool == "DeepSpeed":
        return _deepspeed
    if tool == "calflops":
        return _calflops
    macs = tools.tool(tool, "cpu").macs
    return lambda model, x: (macs(model, x), 0)


def _deepspeed(model: Any, x: Any) -> tuple[int, int]:
    from deepspeed.profiling.flops_profiler import get_model_profile

    flops, macs, _ = get_model_profile(
        model, args=[x], print_profile=False, detailed=False, as_string=False, warm_up=0
    )
    return int(macs), int(flops) - 2 * int(macs)


def _calflops(model: Any, x: Any) -> tuple[int, int]:
    from calflops import calculate_flops

    flops, macs, _ = calculate_flops(model, args=[x], print_results=False, output_as_string=False)
    return int(macs), int(flops) - 2 * int(macs)


# --------------------------------------------------------------------------- the page


def _page(told: Mapping[str, Mapping[str, Any]]) -> str:
    from peers_cases import CONTRACTIONS, REST

    tools = list(told)
    found = [[case.name, *(_share(told[tool][case.name], case) for tool in tools)] for case in CONTRACTIONS]
    rest = [[case.name, *(_each(told[tool][case.name], case) for tool in tools)] for case in REST]
    return "\n".join(
        [
            "# What other counters make of single operators",
            "",
            f"- Python {platform.python_version()}, {_versions()}",
            "- `python benchmarks/peers.py --out benchmarks/results/peers.md`; on the CPU, in evaluation",
            "- torch: `torch.utils.flop_counter.FlopCounterMode`; ptflops: its engine `pytorch`, and `aten`",
            "",
            "## Contractions",
            "",
            "The tool's MACs (half its FLOPs where it counts 2 per MAC) over the true ones; a name is the"
            " error that it ended with.",
            "",
            *_table(["operator", *(SHORT.get(tool, tool) for tool in tools)], found),
            "",
            "## The rest",
            "",
            "What the tool adds for each element that goes in (bias and bilinear: that comes out), in its own"
            " unit: FLOPs of tools that tell them apart from MACs, else whatever their one number holds.",
            "",
            *_table(["operator", *(SHORT.get(tool, tool) for tool in tools)], rest),
            "",
        ]
    )


def _share(answer: Sequence[int] | str, case: Any) -> str:
    """The MACs told over the true ones: "1"; what is wrong in bold, "**0.5**", "**0**"."""
    if isinstance(answer, str):
        return answer
    text = _short(answer[0] / case.macs)
    return text if text == "1" else f"**{text}**"


def _each(answer: Sequence[int] | str, case: Any) -> str:
    """What is counted beyond the MACs of the convolution before it, for each element."""
    if isinstance(answer, str):
        return answer
    macs, beyond = answer
    return _short((macs - case.macs + beyond) / case.elements)


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".") if abs(number) >= 0.005 or not number else f"{number:.2g}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---", *("--:" for _ in headings[1:])], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


if __name__ == "__main__":
    main()
