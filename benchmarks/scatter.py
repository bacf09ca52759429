"""benchmarks/results/claims.md -> one scatter: MACs of networks against their latency, as SVG.

    python benchmarks/scatter.py benchmarks/results/claims.md docs/flops-against-latency.svg

It draws what `claims.py` measured (section `networks`) and measures nothing; needs matplotlib.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from flopscope.units import parse_quantity

GROUPS = ("Small networks", "EfficientNet-B3", "Large networks")


def rows_of(text: str) -> dict[str, tuple[float, float]]:
    """Name -> (MACs, milliseconds) of every row of the sections' tables."""
    found: dict[str, tuple[float, float]] = {}
    for title in GROUPS:
        section = re.search(rf"^### {re.escape(title)}.*?$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        lines = [line for line in section[1].splitlines() if line.startswith("|")] if section else []
        if not lines:
            continue
        heads = [cell.strip() for cell in lines[0].strip("|").split("|")]
        macs, ms = heads.index("MACs"), heads.index("ms")
        for line in lines[2:]:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found.setdefault(cells[0], (float(parse_quantity(cells[macs])), float(cells[ms])))
    return found


def draw(rows: dict[str, tuple[float, float]], path: Path) -> None:
    """A dot for each network, both axes logarithmic, and lines of equal rate."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "flopscope"  # the same file each time
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 5.6), layout="constrained")
    axes.set(xscale="log", yscale="log", xlabel="MACs (billions)", ylabel="latency (ms), one thread")
    widest = [min(macs for macs, _ in rows.values()) / 3e9, max(macs for macs, _ in rows.values()) * 1.6e-9]
    for rate in (10, 20, 40, 80):
        axes.plot(widest, [1e3 * x / rate for x in widest], color="#bbbbbb", linewidth=0.8)
        axes.annotate(f"{rate} GMAC/s", (widest[1], 1e3 * widest[1] / rate), fontsize=7, color="#777777")
    ranked = sorted(rows.items(), key=lambda item: item[1][1])
    for place, (name, (macs, ms)) in enumerate(ranked):
        side = -1 if place % 2 else 1  # names of neighbours on either side
        axes.scatter(macs / 1e9, ms, color="#0072b2", s=22, zorder=3)
        axes.annotate(
            name, (macs / 1e9, ms), xytext=(6 * side, -2), textcoords="offset points", fontsize=7,
            horizontalalignment="left" if side > 0 else "right",
        )  # fmt: skip
    axes.set_xlim(widest[0], 3 * widest[1])
    axes.set_ylim(5, 3e3)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(rows_of(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
