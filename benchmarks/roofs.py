"""How well the roofs repeat: the whole calibration, several times over, and the spread of every quantity.

    python benchmarks/roofs.py --threads 1 --times 5 --out benchmarks/results/roofs.md

Each calibration is what `flopscope machine` does: a child process, three passes, more where they
disagree. The spread is (largest - smallest) / 2 / middle, in percent, over the calibrations that were not
disturbed: what "± 5 %" means.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TARGETS = {"peak": 5.0, "cache": 5.0, "DRAM": 10.0, "overhead": 20.0}


def main() -> None:
    """Calibrate, and write the Markdown."""
    options = _options()
    sys.path.insert(0, str(HERE.parent))
    from flopscope import machines

    found, seconds = [], []
    for place in range(options.times):
        start = time.perf_counter()
        found.append(machines.measure("cpu", options.threads))
        seconds.append(time.perf_counter() - start)
        print(f"{place + 1}: {found[-1].quality}, {seconds[-1]:.1f} s", file=sys.stderr)
        time.sleep(options.pause if place + 1 < options.times else 0.0)
    text = _written(options, found, seconds)
    print(text) if options.out is None else Path(options.out).write_text(text, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of one operator (default 1)")
    parser.add_argument("--times", type=int, default=5, help="calibrations (default 5)")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between them (default 0)")
    parser.add_argument("--out", help="write the Markdown here, not to stdout")
    return parser.parse_args()


def _written(options: argparse.Namespace, found: Sequence[Any], seconds: Sequence[float]) -> str:
    from tabulate import tabulate

    from flopscope.environment import environment

    here, good = environment(), [one for one in found if one.quality == "good"]
    lines = [
        "# How well the roofs repeat",
        "",
        f"- {here.date}, {here.cpu} ({here.capability}), {options.threads} of {here.cores} cores, "
        f"Python {here.python}, torch {here.torch}, flopscope {here.flopscope}",
        f"- `python benchmarks/roofs.py --threads {options.threads} --times {options.times}`",
        f"- {len(found)} calibrations of {min(seconds):.1f} to {max(seconds):.1f} s; "
        f"{len(found) - len(good)} were disturbed, said so, and are left out below",
        "",
    ]
    rows = list(_rows(good)) if len(good) > 1 else []
    head = ("quantity", "middle", "smallest", "largest", "± %", "target ± %", "kept")
    lines.append(tabulate(rows, headers=head, tablefmt="pipe", disable_numparse=True))
    return "\n".join(lines) + "\n"


def _rows(machines: Sequence[Any]) -> Iterator[list[str]]:
    from flopscope.render.machines import knee_bytes
    from flopscope.units import bytes_text, rate_text, seconds_text

    first = machines[0]
    for peak in first.peaks:
        rates = [one.peak(peak.dtype) for one in machines if one.peak(peak.dtype)]
        yield _row(f"peak {peak.dtype}", rates, rate_text, TARGETS["peak"])
    knee = knee_bytes(first) or 0
    for size in (point.working_set_bytes for point in first.bandwidth):
        level = "cache" if size < knee else "DRAM"
        rates = [one.bytes_per_s(size) for one in machines]
        yield _row(
            f"bandwidth at {bytes_text(size)} ({level})", rates, lambda x: rate_text(x, "B/s"), TARGETS[level]
        )
    for kind in first.overheads_s:
        costs = [one.overheads_s[kind] for one in machines]
        yield _row(f"overhead of {kind}", costs, seconds_text, TARGETS["overhead"])
    faults = [one.fault_s for one in machines if one.fault_s is not None]
    if faults:
        yield _row("page fault", faults, seconds_text, TARGETS["overhead"])


def _row(name: str, values: Sequence[float], text: Any, target: float) -> list[str]:
    middle, low, high = statistics.median(values), min(values), max(values)
    spread = 100 * (high - low) / 2 / middle
    kept = "yes" if spread <= target else "no"
    return [name, text(middle), text(low), text(high), f"{spread:.1f}", f"{target:.0f}", kept]


if __name__ == "__main__":
    main()
