"""What counting the whole zoo takes: every network and every form of it, built and counted on meta.

    python benchmarks/zoo_count.py --out benchmarks/results/zoo_count.md

One process on one core with one thread goes through the zoo several times, as `flopscope zoo --check`
does once. The clock is the process's CPU time, which other programs on the machine lengthen little;
the time on the wall stands beside it. The first pass warms up and is reported apart.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIMIT_S = 60.0


def main() -> None:
    options = _options()
    os.sched_setaffinity(0, {options.core})
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    started = time.process_time()
    import torch

    from flopscope import zoo

    torch.set_num_threads(1)
    networks = zoo.networks()
    imports_s = time.process_time() - started
    passes = [list(_pass(networks)) for _ in range(options.rounds + 1)]
    text = "\n".join([*_header(options, imports_s), "", *_table(passes), "", *_summary(passes)]) + "\n"
    print(text) if options.out is None else Path(options.out).write_text(text, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="passes after the first (default 3)")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core to run on")
    parser.add_argument("--out", help="write the Markdown here, not to stdout")
    return parser.parse_args()


def _pass(networks: Any) -> Iterator[dict[str, Any]]:
    """Build and count every form once; each is compared with what is on record."""
    from flopscope import count
    from flopscope.loading import open_address

    for name, entry in networks.items():
        for query, (params, macs) in {"": (entry.params, entry.macs), **entry.variants}.items():
            wall, start = time.perf_counter(), time.process_time()
            model = open_address(f"zoo:{name}?{query}" if query else f"zoo:{name}", meta=True).model
            built = time.process_time()
            report = count(model, (1, 3, entry.resolution, entry.resolution), progress=False)
            yield {
                "family": entry.family,
                "ops": len(report.ops),
                "build_s": built - start,
                "count_s": time.process_time() - built,
                "wall_s": time.perf_counter() - wall,
                "right": (report.total.params, report.total.macs) == (params, macs),
            }


def _table(passes: list[list[dict[str, Any]]]) -> list[str]:
    """One line per family: sums over its forms, the median of the passes after the first."""
    lines = [
        "| family | forms | operators | build, s | count, s | counts as on record |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    families = dict.fromkeys(row["family"] for row in passes[0])
    for family in [*families, None]:
        forms = [row for row in passes[0] if family in (None, row["family"])]
        sums = {
            key: statistics.median(
                sum(row[key] for row in rows if family in (None, row["family"])) for rows in passes[1:]
            )
            for key in ("build_s", "count_s")
        }
        right = sum(row["right"] for row in forms)
        lines.append(
            f"| {family or '**all**'} | {len(forms)} | {sum(row['ops'] for row in forms):,} "
            f"| {sums['build_s']:.2f} | {sums['count_s']:.2f} | {right} of {len(forms)} |"
        )
    return lines


def _summary(passes: list[list[dict[str, Any]]]) -> list[str]:
    totals = [sum(row["build_s"] + row["count_s"] for row in rows) for rows in passes]
    walls = [sum(row["wall_s"] for row in rows) for rows in passes]
    slowest = max(*totals, *walls)
    verdict = "kept" if slowest <= LIMIT_S else "BROKEN"
    ranges = [
        f"{statistics.median(some[1:]):.1f} s ({min(some[1:]):.1f}..{max(some[1:]):.1f})"
        for some in (totals, walls)
    ]
    return [
        f"The whole zoo: CPU {ranges[0]}, wall {ranges[1]}; the first pass, cold: CPU {totals[0]:.1f} s, wall"
        f" {walls[0]:.1f} s.",
        f"Goal: within {LIMIT_S:.0f} s, cold too: {verdict}.",
    ]


def _header(options: argparse.Namespace, imports_s: float) -> list[str]:
    """What is needed to run it again and compare."""
    from flopscope.environment import environment

    here = environment()
    return [
        "# What counting the whole zoo takes",
        "",
        f"- {here.date}, {here.cpu}, {here.platform}, 1 thread on core {options.core}",
        f"- Python {here.python}, flopscope {here.flopscope}, torch {here.torch}",
        f"- `python benchmarks/zoo_count.py --rounds {options.rounds}`",
        "- networks are built and counted on the meta device at their own resolutions; CPU time;"
        f" sums of a family, median of {options.rounds} passes after a first",
        f"- imports of torch and of the zoo before: {imports_s:.1f} s",
    ]


if __name__ == "__main__":
    main()
