"""Every target of accuracy, measured: closure, instrument, repeatability, company, roofs, time, sizes.

    python benchmarks/accuracy.py --out results.json --markdown benchmarks/results/accuracy.md

For a machine at rest; a part takes one to four minutes, and `--only repeat` runs that alone. Every
measurement is made in a child process of its own, one after the other, while this one waits. A target that
is not met is shown as not met, and so is one that could not be measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from accuracy_limits import roofs, scale, waiting  # noqa: E402
from accuracy_parts import closure, disturbed, instrument, repeat  # noqa: E402
from accuracy_processes import FailedError, ask, load, others  # noqa: E402
from accuracy_rows import Part, Plan, Row, table, verdict  # noqa: E402

PARTS: dict[str, Callable[[Plan], Part]] = {
    "closure": closure,
    "instrument": instrument,
    "repeat": repeat,
    "disturbed": disturbed,
    "roofs": roofs,
    "time": waiting,
    "scale": scale,
}
NETWORKS = ("zoo:mobilenetv3_large", "zoo:resnet50", "zoo:efficientnet_b0", "zoo:fasternet_t0")
REST = 0.2  # processors that others may keep busy on a machine at rest


def main() -> None:
    """Measure the parts that were asked for, and write them as Markdown and as JSON."""
    options = _options()
    plan = _plan(options)
    header = _header(options)
    parts: dict[str, Part] = {}
    for name in options.only or PARTS:
        parts[name] = _measured(name, plan, header)
        _write(options, header, parts)  # whatever happens later, what is measured is kept
    text = _markdown(header, parts)
    if options.markdown is not None:
        Path(options.markdown).write_text(text, encoding="utf-8")
    print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(PARTS), help="one part; may be repeated")
    parser.add_argument("--times", type=int, default=5, help="processes, calibrations (default 5)")
    parser.add_argument(
        "--networks",
        nargs="+",
        default=list(NETWORKS),
        help="addresses; `repeat` and `disturbed` take the first",
    )
    parser.add_argument("--seconds", type=float, help="of sampling in a process, instead of the effort's")
    parser.add_argument("--thorough", action="store_true", help="repeat: also with effort thorough (minutes)")
    parser.add_argument("--quick", action="store_true", help="try the code out: its numbers mean nothing")
    parser.add_argument("--out", help="write all numbers here, as JSON")
    parser.add_argument("--markdown", help="write the table here as well as to stdout")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> Plan:
    if options.times < 2:
        raise SystemExit("--times must be at least 2: one process has nothing to be compared with")
    if options.quick:
        return Plan(tuple(options.networks[:1]), 2, options.seconds or 0.3, options.thorough, True)
    return Plan(tuple(options.networks), options.times, options.seconds, options.thorough, False)


def _header(options: argparse.Namespace) -> dict[str, Any]:
    """What is needed to run it again and compare, and in what company it ran."""
    busy = others()
    return {
        "environment": ask("header"),
        "command": " ".join(["python", "benchmarks/accuracy.py", *sys.argv[1:]]),
        "quick": options.quick,
        "parts": {},
        "others_busy": busy,
        "load": load(),
    }


def _measured(name: str, plan: Plan, header: dict[str, Any]) -> Part:
    """One part; where it fails, that is its result."""
    busy, start = others(), time.perf_counter()
    print(f"{name} ...", file=sys.stderr, flush=True)
    try:
        part = PARTS[name](plan)
    except (FailedError, ValueError, KeyError) as failure:
        part = Part((Row(name, "measured", f"failed: {failure}", False),))
    seconds = time.perf_counter() - start
    header["parts"][name] = {"seconds": seconds, "others_busy_before": busy, "load_after": load()}
    print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return part


def _write(options: argparse.Namespace, header: dict[str, Any], parts: dict[str, Part]) -> None:
    if options.out is None:
        return
    found = {name: asdict(part) for name, part in parts.items()}
    text = json.dumps({**header, "results": found}, indent=1, ensure_ascii=False)
    Path(options.out).write_text(text + "\n", encoding="utf-8")


def _markdown(header: dict[str, Any], parts: dict[str, Part]) -> str:
    here = header["environment"]
    company = [part["others_busy_before"] for part in header["parts"].values()]
    known = [busy for busy in company if busy is not None]
    lines = [
        "# Accuracy: every target, measured",
        "",
        f"- {here['date']}, {here['cpu']} ({here['capability']}), {here['cores']} cores, {here['platform']}, "
        f"{here['allocator']}",
        f"- Python {here['python']}, torch {here['torch']}, flopscope {here['flopscope']}; "
        + ", ".join(f"{name} {value}" for name, value in here["other"].items()),
        f"- `{header['command']}`",
        "- " + ", ".join(f"{name} {part['seconds']:.0f} s" for name, part in header["parts"].items()),
    ]
    if known:
        rest = "at rest" if max(known) <= REST else "**not at rest: these numbers are no result**"
        span = f"{min(known):.2f} to {max(known):.2f}"
        lines.append(f"- other processes kept {span} processors busy before the parts: {rest}")
    if header["quick"]:
        lines.append("- **--quick: this tried the code out; its numbers mean nothing**")
    return "\n".join([*lines, "", table(parts), "", verdict(parts)]) + "\n"


if __name__ == "__main__":
    main()
