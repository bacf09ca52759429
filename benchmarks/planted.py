"""Planted causes: are the findings made where a cause is there by construction, and only there?

    python benchmarks/planted.py --out planted.json --markdown planted.md
    python benchmarks/planted.py --case depthwise --repeats 1 --why
    python benchmarks/planted.py --case depthwise --side planted --json      one run, in this very process

Each run is a process of its own, so that none inherits an allocator, threads or caches; planted and control
take turns. `planted_nets.py` says what is planted and why. A run that was void (the machine was not ours) is
made anew, at most `--patience` times, and is counted as void, not as named or not named. It is a
measurement, not a test: the exit code is 0 whatever comes out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
SIDES = ("planted", "control")
HEAD = ("case", "finding", "planted", "control", "share of the time", "besides, planted", "besides, control")
COMPANY = {
    "spin": (
        "import os; parent = os.getppid()\nprint('ready', flush=True)\nwhile os.getppid() == parent: pass"
    ),
    "stream": (
        "import os, torch; parent = os.getppid(); torch.set_num_threads(1); x = torch.zeros(2**26)\n"
        "print('ready', flush=True)\nwhile os.getppid() == parent: x.add_(1.0)"
    ),
}
"""Foreign processes; none outlives who started it."""
_LONGEST_S = 120.0

Run = dict[str, Any]


def main() -> None:
    """Measure one side here, or all cases in processes of their own."""
    options = _options()
    if options.roofs:
        _store_roofs(options)
    elif options.side:
        print(json.dumps(_one(options)))
    else:
        _all(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", help="only this one; may be repeated")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side (default 3)")
    parser.add_argument("--seconds", type=float, default=0.6, help="of sampling in a run (default 0.6)")
    parser.add_argument("--patience", type=int, default=2, help="further tries of a run that was void")
    parser.add_argument("--why", action="store_true", help="print the explanation of each failing run")
    parser.add_argument("--out", help="write all runs here, as JSON")
    parser.add_argument("--markdown", help="write the table here, as Markdown")
    parser.add_argument("--side", choices=SIDES, help="run this side here, once")
    parser.add_argument("--json", action="store_true", help="with --side: as JSON, which it always is")
    parser.add_argument("--machine", help=argparse.SUPPRESS)
    parser.add_argument("--roofs", help=argparse.SUPPRESS)
    return parser.parse_args()


# --------------------------------------------------------------------------- one run, in this process


def _one(options: argparse.Namespace) -> Run:
    """Profile one side of one case, and tell what was found of the layer that is meant."""
    import torch

    import flopscope

    case = _cases(options.case)[0]
    side = getattr(case, options.side)
    if not side.onednn:
        torch.backends.mkldnn.set_flags(False)
    torch.manual_seed(0)
    model, threads = side.net(), _threads(side.threads)
    with _company(side.company):
        report = flopscope.profile(
            model,
            side.inputs,
            threads=threads,
            dtype=side.dtype,
            channels_last=side.channels_last,
            max_seconds=options.seconds,
            machine=pickle.loads(Path(options.machine).read_bytes()) if options.machine else None,
            progress=False,
        )
    return _told(report, side.path or case.path)


def _told(report: Any, path: str) -> Run:
    """What a report says of one layer, in plain values."""
    found: Run = {
        "quality": report.quality.word,
        "against": list(report.quality.reasons),
        "machine": report.machine.quality if report.machine else None,
    }
    layer = next((layer for layer in report.layers if _label(layer) == path), None)
    if layer is None or layer.latency_s is None:
        return {**found, "layer": None, "verdicts": []}
    why = report.why(path)
    parts = ("compute", "kernel", "overhead", "allocation", "memory")
    seconds = layer.latency_floor_s or layer.latency_s
    shares = [(one.seconds or 0.0) / seconds if one.seconds is not None else None for one in why.reasons]
    return {
        **found,
        "layer": path,
        "kind": layer.kind,
        "seconds": seconds,
        "parts": {name: getattr(layer, f"{name}_s") for name in parts},
        "verdicts": [one.code for one in why.reasons],
        "shares": shares,
        "why": why.text,
    }


def _label(layer: Any) -> str:
    return " ".join(filter(None, (layer.path, layer.type if layer.type.startswith("(") else "")))


@contextmanager
def _company(kind: str) -> Iterator[None]:
    """A foreign process beside what is measured; ended whatever happens."""
    if not kind:
        yield
        return
    command = [sys.executable, "-c", COMPANY[kind]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            yield
        finally:
            other.kill()


def _threads(wanted: int) -> int:
    """Threads of one operator: as given, or so many times the processors."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return wanted if wanted > 0 else -wanted * allowed


def _store_roofs(options: argparse.Namespace) -> None:
    """Measure the roofs under the environment of this process, shortly, and pickle them."""
    from flopscope import machines

    threads = int(options.roofs)
    plain = not any(name in os.environ for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"))
    found = machines.machine("cpu", threads) if plain else machines.measure("cpu", threads, passes=1)
    Path(options.machine).write_bytes(pickle.dumps(found))


# --------------------------------------------------------------------------- all runs


def _all(options: argparse.Namespace) -> None:
    begin, cases = time.perf_counter(), _cases(options.case)
    with tempfile.TemporaryDirectory() as folder:
        roofs = _Roofs(Path(folder))
        runs: dict[str, dict[str, list[Run]]] = {case.name: {side: [] for side in SIDES} for case in cases}
        for repeat in range(options.repeats):
            for case in cases:
                for side in SIDES if repeat % 2 == 0 else SIDES[::-1]:
                    run = _patiently(case, side, roofs, options)
                    runs[case.name][side].append(run)
                    _say(case, side, repeat, run, options)
    took = time.perf_counter() - begin
    rows = [_row(case, runs[case.name]) for case in cases]
    print(_table(rows, "simple"))
    print(_summary(cases, runs, took))
    if options.out:
        _write_json(options, cases, runs, took)
    if options.markdown:
        text = f"{_table(rows, 'pipe')}\n\n{_summary(cases, runs, took)}\n"
        Path(options.markdown).write_text(text, encoding="utf-8")


def _patiently(case: Any, side: str, roofs: _Roofs, options: argparse.Namespace) -> Run:
    """One run; where it was void though nothing foreign was planted, anew."""
    planted = bool(getattr(case, side).company)
    for _ in range(1 + options.patience):
        run = _child(case, side, roofs, options)
        if planted or run.get("quality") != "void":
            break
    return run


def _child(case: Any, side: str, roofs: _Roofs, options: argparse.Namespace) -> Run:
    which = getattr(case, side)
    machine = roofs.of(which)
    command = [sys.executable, str(Path(__file__)), "--case", case.name, "--side", side]
    command += ["--seconds", str(options.seconds), *(["--machine", machine] if machine else [])]
    return _answer(command, which.env)


def _answer(command: Sequence[str], env: Mapping[str, str]) -> Run:
    """What a child says in its last line; what went wrong, where it says nothing."""
    try:
        ended = subprocess.run(
            command, env={**_clean(), **env}, capture_output=True, text=True, timeout=_LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {_LONGEST_S:.0f} s", "verdicts": []}
    lines = ended.stdout.strip().splitlines()
    if ended.returncode or not lines:
        return {"failed": (ended.stderr.strip().splitlines() or ["no word"])[-1], "verdicts": []}
    return dict(json.loads(lines[-1]))


def _clean() -> dict[str, str]:
    """This environment without what would give a child another allocator."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}


class _Roofs:
    """Roofs by threads and environment, each measured once, by a child."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[tuple[int, bool], str] = {}

    def of(self, side: Any) -> str:
        """The file with the roofs for a side; more threads than processors have those of the processors."""
        key = (min(_threads(side.threads), _threads(-1)), side.own_roofs)
        if key not in self._files:
            path = str(self._folder / f"{len(self._files)}.pickle")
            command = [sys.executable, str(Path(__file__)), "--roofs", str(key[0]), "--machine", path]
            env = {**_clean(), **(side.env if side.own_roofs else {})}
            done = subprocess.run(command, env=env, check=False).returncode == 0
            self._files[key] = path if done else ""  # without them a run asks for its own
        return self._files[key]


def _cases(names: Sequence[str] | None) -> list[Any]:
    import planted_nets

    known = {case.name: case for case in planted_nets.CASES}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        sys.exit(f"no case {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(known.values())


# --------------------------------------------------------------------------- what came out


def _named(case: Any, run: Run) -> bool | None:
    """Whether the cause was named; None where the run says nothing: it failed, or it was void."""
    if "failed" in run:
        return None
    if case.told_by == "report":
        return bool(run["quality"] != "good")
    return None if run["quality"] == "void" else case.code in run["verdicts"]


def _say(case: Any, side: str, repeat: int, run: Run, options: argparse.Namespace) -> None:
    """A line of progress on stderr; with --why the explanation of what did not come out as planted."""
    named = _named(case, run)
    told = "void or failed" if named is None else "named" if named else "not named"
    good = named is (side == "planted")
    codes = run.get("failed") or ", ".join(run["verdicts"]) or "nothing"
    print(f"{case.name} {side} {repeat + 1}: {told}{'' if good else ' (!)'}   {codes}", file=sys.stderr)
    if options.why and not good:
        print(f"{run.get('why', '')}\n", file=sys.stderr)


def _row(case: Any, runs: dict[str, list[Run]]) -> list[str]:
    """A line of the table: named in so many of so many, what it accounts for, what else was named."""
    counts = [_count(case, runs[side]) for side in SIDES]
    shares = [
        run["shares"][run["verdicts"].index(case.code)]
        for run in runs["planted"]
        if case.code in run["verdicts"]
    ]
    known = [share for share in shares if share is not None]
    explained = f"{100 * median(known):.0f} %" if known else "-"
    besides = [_besides(case, runs[side]) for side in SIDES]
    return [case.name, case.code, *counts, explained, *besides]


def _count(case: Any, runs: Sequence[Run]) -> str:
    answers = [_named(case, run) for run in runs]
    told = [answer for answer in answers if answer is not None]
    without = len(answers) - len(told)
    return f"{sum(told)} of {len(told)}" + (f" ({without} void)" if without else "")


def _besides(case: Any, runs: Sequence[Run]) -> str:
    codes = Counter(code for run in runs for code in run["verdicts"] if code != case.code)
    return ", ".join(f"{code} {count}" for code, count in codes.most_common())


def _table(rows: Sequence[Sequence[str]], form: str) -> str:
    from tabulate import tabulate

    return str(tabulate(rows, headers=HEAD, tablefmt=form, disable_numparse=True))


def _summary(cases: Sequence[Any], runs: Mapping[str, Mapping[str, list[Run]]], took: float) -> str:
    """How many came out as planted, and where it was measured."""
    from flopscope.environment import environment

    here, lines = environment(), []
    for side, wanted in zip(SIDES, (True, False), strict=True):
        answers = [_named(case, run) for case in cases for run in runs[case.name][side]]
        told = [answer for answer in answers if answer is not None]
        right = sum(answer is wanted for answer in told)
        lines.append(
            f"{side}: {right} of {len(told)} runs as they should be, "
            f"{len(answers) - len(told)} void or failed"
        )
    where = f"{here.date}, {here.cpu} ({here.capability}), {here.cores} cores, torch {here.torch}"
    return "\n\n".join([*lines, f"{where}; {took:.0f} s"])


def _write_json(
    options: argparse.Namespace,
    cases: Sequence[Any],
    runs: Mapping[str, Mapping[str, list[Run]]],
    took: float,
) -> None:
    from flopscope.environment import environment

    held = {
        "environment": dataclasses.asdict(environment()),
        "seconds": took,
        "cases": [
            {
                "name": case.name,
                "code": case.code,
                "path": case.path,
                "why": case.why,
                "runs": runs[case.name],
            }
            for case in cases
        ],
    }
    Path(options.out).write_text(json.dumps(held, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
