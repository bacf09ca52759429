"""What a count costs, by flopscope and by others, as a multiple of one bare forward on meta.

    python benchmarks/count_cost.py --out benchmarks/results/count_cost.md

Each tool runs on each network in a process of its own, on one core with one thread. There a bare
forward of the network on the meta device, under inference mode, and the tool's call take turns;
the ratio of a turn is what is reported, as median (smallest..largest). The clock is the process's
CPU time, which other programs on the machine do not lengthen. One turn goes before, unmeasured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NETWORKS = ("torchvision:resnet50@224", "torchvision:efficientnet_v2_l@480", "torchvision:vit_l_16@224")
CHAINS = ("chain:100", "chain:1000", "chain:10000")
NESTED = ("nested:10", "nested:50", "nested:200")
DECODER = ("decoder:80",)
_LEAST_S = 0.2


def main() -> None:
    """Run every section, or the one that was asked for, and write the Markdown."""
    options = _options()
    if options.child:
        print(json.dumps(_measured(**json.loads(options.child))))
        return
    sections = {
        "networks": lambda: _compared(options, NETWORKS),
        "layers": lambda: _grown(options, CHAINS),
        "depth": lambda: _grown(options, NESTED),
        "decoder": lambda: _compared(options, DECODER, devices=("meta",)),
        "start": lambda: _started(options),
    }
    parts = [_header(options)]
    for name, section in sections.items():
        if options.only in (None, name):
            parts.append(section())
            print(parts[-1], file=sys.stderr)
    text = "\n\n".join(parts) + "\n"
    print(text) if options.out is None else Path(options.out).write_text(text, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["networks", "layers", "depth", "decoder", "start"])
    parser.add_argument("--tool", help="only tools whose name contains this")
    parser.add_argument("--rounds", type=int, default=7, help="turns per process (default 7)")
    parser.add_argument("--timeout", type=float, default=120.0, help="CPU seconds per process (default 120)")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core to run on")
    parser.add_argument("--out", help="write the Markdown here, not to stdout")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


# --------------------------------------------------------------------------- in the child


def _measured(
    tool: str, device: str, network: str, rounds: int, seconds: float, truth: bool
) -> dict[str, Any]:
    """Take turns between a bare forward on meta and a tool, until `rounds` or half of `seconds` is over."""
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    import networks
    import tools
    import torch

    torch.set_num_threads(1)
    sys.setrecursionlimit(10_000)  # with hooks a level of nesting takes 5 of Python's 1,000
    with torch.device("meta"):
        bare, shape = networks.build(network)
    model = bare if device == "meta" else networks.build(network)[0]
    tokens = network.startswith("decoder")
    x = {
        place: torch.zeros(shape, dtype=torch.int64 if tokens else torch.float32, device=place)
        for place in ("meta", device)
    }
    asked = tools.tool(tool, device)
    forwards, calls, macs = [], [], None
    with tools.quiet():
        true = tools.true_macs(bare, x["meta"]) if truth else None
        for _ in range(rounds + 1):
            forwards.append(_cpu_seconds(lambda: _forward(bare, x["meta"])))
            told: list[int] = []
            calls.append(_cpu_seconds(lambda told=told: told.append(asked.macs(model, x[device]))))
            macs = told[0]
            if len(calls) > 1 and time.process_time() > seconds / 2:
                break
    return {"forwards": forwards[1:], "calls": calls[1:], "macs": macs, "true": true}


def _forward(model: Any, x: Any) -> None:
    import torch

    with torch.inference_mode():
        model(x)


def _cpu_seconds(work: Any) -> float:
    """CPU seconds of one call, the mean of as many as fill `_LEAST_S`: some kernels count in 4 ms."""
    start = time.process_time()
    calls, spent = 0, 0.0
    while spent < _LEAST_S:
        work()
        calls += 1
        spent = time.process_time() - start
    return spent / calls


# --------------------------------------------------------------------------- in the parent


def _asked(options: argparse.Namespace, **question: Any) -> dict[str, Any]:
    """Ask a child; its answer, or why there is none under "failed"."""
    question |= {"rounds": options.rounds, "seconds": options.timeout}
    command = [sys.executable, str(HERE / "count_cost.py"), "--child", json.dumps(question)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=10 * options.timeout,
            check=False,
            env={**os.environ, **threads},
            preexec_fn=lambda: _limited(options),
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {10 * options.timeout:.0f} s of waiting"}
    if done.returncode == -signal.SIGXCPU:
        return {"failed": f"not done in {options.timeout:.0f} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return {"failed": lines[-1][:70]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _limited(options: argparse.Namespace) -> None:
    """In the child: run on one core, for `timeout` seconds of its time at most."""
    os.sched_setaffinity(0, {options.core})
    resource.setrlimit(resource.RLIMIT_CPU, (int(options.timeout), int(options.timeout) + 5))


def _compared(
    options: argparse.Namespace, networks: tuple[str, ...], devices: tuple[str, ...] = ("meta", "cpu")
) -> str:
    """All tools on each network: their cost, and whether they are right."""
    parts = []
    for network in networks:
        true, rows, base = None, [], []
        for tool in _tools(options, devices):
            told = _asked(options, tool=tool.name, device=tool.device, network=network, truth=true is None)
            true = told.get("true") or true
            base += told.get("forwards", [])
            rows.append(_row(tool, told, true))
        parts.append(
            f"### {network}\n\nTrue MACs: {true:,}. A bare forward on meta takes "
            f"{_milliseconds(statistics.median(base))}.\n\n"
            + _table(
                ("tool", "on", "cost / bare meta forward", "median", "MACs", "MACs / true", "right"), rows
            )
        )
    return "## Cost and correctness: " + ", ".join(networks) + "\n\n" + "\n\n".join(parts)


def _row(tool: Any, told: dict[str, Any], true: int | None) -> list[str]:
    if "failed" in told:
        return [tool.name, tool.device, told["failed"], "-", "-", "-", "-"]
    macs = told["macs"]
    return [
        tool.name,
        tool.device,
        _spread([call / forward for call, forward in zip(told["calls"], told["forwards"], strict=True)]),
        _milliseconds(statistics.median(told["calls"])),
        f"{macs:,}",
        f"{macs / true:.5f}" if true else "-",
        "yes" if macs == true else "no",
    ]


def _grown(options: argparse.Namespace, networks: tuple[str, ...]) -> str:
    """All tools on a family of networks: how their cost grows."""
    rows = []
    for tool in _tools(options, ("meta", "cpu")):
        if tool.device == "cpu" and any(other.device == "meta" for other in _named(tool.name)):
            continue
        answers = [
            _asked(options, tool=tool.name, device=tool.device, network=network, truth=False)
            for network in networks
        ]
        cells = [_growth(told) for told in answers]
        rows.append([tool.name, tool.device, *cells])
    head = ("tool", "on", *(f"{network}: median, / bare" for network in networks))
    return f"## Growth: {', '.join(networks)}\n\n" + _table(head, rows)


def _growth(told: dict[str, Any]) -> str:
    if "failed" in told:
        return str(told["failed"])
    ratios = [call / forward for call, forward in zip(told["calls"], told["forwards"], strict=True)]
    return f"{_milliseconds(statistics.median(told['calls']))}, {statistics.median(ratios):.2f}"


_IMPORTS = """
import time
start = time.process_time()
import torch
middle = time.process_time()
import flopscope
flopscope.count
print(middle - start, time.process_time() - middle)
"""
_HELP = """
import sys, time
sys.argv = ["flopscope", "--help"]
from flopscope.commands import main
main()
"""


def _started(options: argparse.Namespace) -> str:
    """What an import and the command line's help cost."""
    torch_s, ours_s, help_s = [], [], []
    for turn in range(options.rounds + 1):
        before, after = map(float, _process(_IMPORTS, options.core).split())
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        _process(_HELP, options.core)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        if turn:  # the first may have to compile
            torch_s.append(before)
            ours_s.append(after)
            help_s.append(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)
    rows = [
        ["import torch", *_seconds(torch_s)],
        ["import flopscope; flopscope.count, after it", *_seconds(ours_s)],
        ["flopscope --help, the whole process", *_seconds(help_s)],
    ]
    return "## Start\n\n" + _table(("what", "median", "range"), rows)


def _process(script: str, core: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    return done.stdout


def _seconds(values: list[float]) -> tuple[str, str]:
    return f"{statistics.median(values):.3f} s", f"{min(values):.3f}..{max(values):.3f} s"


# --------------------------------------------------------------------------- in words


def _tools(options: argparse.Namespace, devices: tuple[str, ...]) -> list[Any]:
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    import tools

    wanted = options.tool or ""
    return [tool for tool in tools.TOOLS if tool.is_here and tool.device in devices and wanted in tool.name]


def _named(name: str) -> list[Any]:
    import tools

    return [tool for tool in tools.TOOLS if tool.name == name]


def _header(options: argparse.Namespace) -> str:
    """What is needed to run it again and compare."""
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    import tools

    from flopscope.environment import environment

    here = environment()
    packages = ", ".join(f"{name} {version}" for name, version in tools.versions().items())
    return "\n".join(
        (
            "# What a count costs",
            "",
            f"- {here.date}, {here.cpu}, {here.platform}, 1 thread on core {options.core}",
            f"- Python {here.python}, flopscope {here.flopscope}, {packages}",
            f"- `python benchmarks/count_cost.py --rounds {options.rounds} --timeout {options.timeout:.0f}"
            f" --core {options.core}`",
            "- CPU time; each cell from a process of its own, in which bare forward and tool take turns;"
            " median (smallest..largest)",
        )
    )


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}..{max(values):.2f})"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f} ms" if seconds < 10 else f"{seconds:,.1f} s"


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    from tabulate import tabulate

    return tabulate(rows, headers=head, tablefmt="pipe", disable_numparse=True)


if __name__ == "__main__":
    main()
