"""Saved reports and results -> the pictures of the manual, and the parts of its pages that were measured.

    python docs/make_pictures.py              # from docs/data: draw, and write the made parts anew
    python docs/make_pictures.py --measure    # first measure both networks, on a machine at rest
    python docs/make_pictures.py --check      # write nothing; exit 1 where something is out of date

A made part of a page stands between `<!-- made: NAME -->` and `<!-- end -->`. All that was measured stands
in such parts, so a new measurement takes this script and no editing.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import flopscope
from flopscope import pictures
from flopscope.render.parts import Parts, parts_of, traits
from flopscope.render.rows import by_layers, whole_of
from flopscope.units import bytes_text, count_text, milliseconds_text, rate_text, share_text

DOCS = Path(__file__).resolve().parent
DATA, DRAWN = DOCS / "data", DOCS / "pictures"
PAGES = (
    DOCS.parent / "README.md",
    DOCS / "why-flops-are-not-time.md",
    DOCS / "tutorial.md",
    DOCS / "columns" / "index.md",
    DOCS / "conventions.md",
    DOCS / "pictures.md",
)
MODELS = {
    "mobilenet_v3_large": ("torchvision:mobilenet_v3_large", "1,3,224,224"),
    "net": ("net.py:build", "1,64,56,56"),
}
"""The reports in `docs/data`: what was measured, and its input. `net.py` is the file of the tutorial."""

DEPTHWISE, POINTWISE = "features.3.block.1.0", "features.3.block.2.0"
"""Neighbours in MobileNetV3-Large: the depthwise convolution of a block, and the pointwise one behind it."""

_PART = re.compile(r"(<!-- made: ([a-z-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_WIDTH, _README, _DRAWN, _KINDS = 120, 126, 960, 5


def main() -> int:
    """Measure if asked to; then write, or compare, every picture and page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure both networks first")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 where a file is out of date"
    )
    options = parser.parse_args()
    if options.measure:
        measure()
    stale = [path for path, text in made().items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        print(f"{'out of date' if options.check else 'written'}: {path.relative_to(DOCS.parent)}")
        if not options.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(made()[path], encoding="utf-8")
    return int(options.check and bool(stale))


def measure() -> None:
    """Measure every model of `MODELS` with one thread, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "net.py").write_text(tutorial_network(), encoding="utf-8")
        for name, (model, shape) in MODELS.items():
            words = ["report", model, "-i", shape, "--threads", "1", "-q", "--force"]
            words += ["-o", str(DATA / f"{name}.json")]
            subprocess.run([sys.executable, "-m", "flopscope", *words], check=True, cwd=folder)


def tutorial_network() -> str:
    """The first Python block of the tutorial: its `net.py`."""
    found = re.search(
        r"^```python\n(.*?)^```", (DOCS / "tutorial.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert found is not None
    return found[1]


def made() -> Mapping[Path, str]:
    """Every file that follows from the reports, as it should be now."""
    reports = {name: flopscope.load(DATA / f"{name}.json") for name in MODELS}
    return {**_pictures(reports), **{page: _with_parts(page.read_text("utf-8"), reports) for page in PAGES}}


def _pictures(reports: Mapping[str, flopscope.Report]) -> dict[Path, str]:
    large, net = reports["mobilenet_v3_large"], reports["net"]
    return {
        DRAWN / "mobilenet_v3_large-icicles.svg": pictures.icicles(large, width=_DRAWN, static=True),
        DRAWN / "mobilenet_v3_large-breakdown.svg": pictures.breakdown(
            large, by="kind", width=_DRAWN, static=True
        ),
        DRAWN / "mobilenet_v3_large-roofline.svg": pictures.roofline(large, width=_DRAWN, static=True),
        DRAWN / "mobilenet_v3_large-memory.svg": pictures.memory(large, width=_DRAWN, static=True),
        DRAWN / "net-breakdown.svg": pictures.breakdown(net, by="layer", width=_DRAWN, static=True),
    }


def _with_parts(page: str, reports: Mapping[str, flopscope.Report]) -> str:
    """The page with every made part written anew.

    Raises:
        KeyError: A part has a name that is not in `PARTS`.
    """
    return _PART.sub(lambda found: found[1] + PARTS[found[2]](reports) + "\n" + found[4], page)


# --------------------------------------------------------------------------- the made parts


Reports = Mapping[str, flopscope.Report]


def _source(name: str) -> Callable[[Reports], str]:
    """Where the numbers come from: the file, the machine, the word on the timing."""

    def text(reports: Reports) -> str:
        report = reports[name]
        here, word = report.environment, report.quality.word if report.quality else "not timed"
        threads = report.settings.threads or here.threads
        where = f"{here.cpu}, {threads} thread{'s' if threads != 1 else ''}, torch {here.torch}"
        return (
            f"*From [`docs/data/{name}.json`](data/{name}.json): {report.model}, {report.settings.inputs}"
            f" {report.total.dtype}, {where}; timing {word}, {report.total.samples} rounds.*"
        )

    return text


def _kinds(reports: Reports) -> str:
    """The kinds that take most of MobileNetV3-Large's time, with the two largest parts of it."""
    report = reports["mobilenet_v3_large"]
    heads = ("kind", "layers", "FLOPs %", "time %", "time/FLOPs", "GFLOP/s", "what takes the time")
    lines = ["| " + " | ".join(heads) + " |", "|:--|--:|--:|--:|--:|--:|:--|"]
    for row in by_layers(report.layers, "kind", whole_of(report), traits(report))[:_KINDS]:
        ratio = row["time_per_flops"]
        cells = [f"`{row['kind']}`", str(row["layers"]), share_text(row["flops_share"])]
        cells += [share_text(row["latency_share"]), "no FLOPs" if ratio is None else f"{ratio:.1f}x"]
        cells += [f"{row['flops_per_s'] / 1e9:.1f}" if row["macs"] else "no MACs"]
        cells += [_largest(row["parts"])]
        lines.append("| " + " | ".join(cells) + " |")
    return _unbroken("\n".join(lines))


def _division(reports: Reports) -> str:
    """FLOPs / (FLOP/s) = time, for two neighbours."""
    report = reports["mobilenet_v3_large"]
    lines = ["| layer | | FLOPs | ÷ FLOP/s achieved | = time |", "|:--|:--|--:|--:|--:|"]
    for layer in report.layers:
        if layer.path in (DEPTHWISE, POINTWISE) and layer.flops_per_s and layer.latency_floor_s:
            cells = (f"`{layer.path}`", f"{layer.kind} {layer.detail}", count_text(layer.flops))
            cells += (rate_text(layer.flops_per_s), f"{milliseconds_text(layer.latency_floor_s)} ms")
            lines.append("| " + " | ".join(cells) + " |")
    return _unbroken("\n".join(lines))


def _operators(reports: Reports) -> str:
    """The three operators of the tutorial's network on one map, undisturbed."""
    heads = ("", "MACs", "bytes", "FLOP/B", "ms", "GFLOP/s", "what takes the time")
    lines = ["| " + " | ".join(heads) + " |", "|:--|--:|--:|--:|--:|--:|:--|"]
    for layer in reports["net"].layers:
        if not layer.flops or not layer.latency_floor_s:
            continue
        cells = [layer.path, count_text(layer.macs), bytes_text(layer.bytes_read + layer.bytes_written)]
        cells += [f"{layer.arithmetic_intensity or 0:.2f}", milliseconds_text(layer.latency_floor_s)]
        cells += [f"{(layer.flops_per_s or 0) / 1e9:.1f}", _largest(parts_of([layer]))]
        lines.append("| " + " | ".join(cells) + " |")
    return _unbroken("\n".join(lines))


def _largest(parts: Parts | None) -> str:
    """The two largest parts of a time: "overhead 36 %, kernel 28 %"."""
    if parts is None:
        return ""
    ranked = sorted(parts.seconds, key=lambda part: -parts.seconds[part])[:2]
    return ", ".join(f"{part} {100 * parts.share(part):.0f} %" for part in ranked if parts.seconds[part] > 0)


def _unbroken(text: str) -> str:
    """The text with no line break between a number and its unit."""
    return re.sub(r"(?<=\d) (?=[kMG%m])", "\u00a0", text)


def _table(reports: Reports) -> str:
    """What `flopscope report net.py:build` prints."""
    return _fenced(reports["net"].table("text", width=_WIDTH))


def _layers(reports: Reports) -> str:
    """Of the same the table of layers alone, with all its columns."""
    lines = reports["net"].table("text").splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("layer "))
    last = next(at for at, line in enumerate(lines) if line.startswith("total "))
    return _fenced("\n".join(lines[first : last + 1]))


def _why(reports: Reports) -> str:
    """What `flopscope why report.json depthwise` prints."""
    return _fenced(reports["net"].why("depthwise").text)


def _readme(reports: Reports) -> str:
    """What `report` and `why` print of MobileNetV3-Large, cut to a first screen; … for what is left out."""
    report = reports["mobilenet_v3_large"]
    printed = report.table("text", top=3, width=_README).splitlines()
    at = {line.split(" ")[0]: place for place, line in reversed(list(enumerate(printed)))}
    whole, kinds = at["undisturbed"], at["kind"]
    lines = [f"$ flopscope report {report.model} --threads 1 -o report.json -o report.html", printed[1]]
    lines += [*printed[at["layer"] : at["layer"] + 5], "…", *printed[whole : whole + 3], ""]
    lines += [*printed[kinds : kinds + 7], "…", "", f"$ flopscope why report.json {DEPTHWISE}"]
    why = report.why(DEPTHWISE).text.splitlines()
    first = next(place for place, line in enumerate(why) if "compute roof" in line)
    last = next(place for place, line in enumerate(why) if line.startswith(("  3.", "Parts")))
    return _fenced("\n".join([*lines, *why[first:last], "…"]))


def _peers(section: str) -> Callable[[Reports], str]:
    """A table of `benchmarks/results/peers.md`, which `benchmarks/peers.py` writes."""

    def table(_: Reports) -> str:
        results = (DOCS.parent / "benchmarks" / "results" / "peers.md").read_text("utf-8")
        found = results.split(f"## {section}\n")[1].split("\n## ")[0]
        return "\n".join(line for line in found.splitlines() if line.startswith("|"))

    return table


def _fenced(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


PARTS: Mapping[str, Callable[[Reports], str]] = {
    "mobilenet-source": _source("mobilenet_v3_large"),
    "mobilenet-kinds": _kinds,
    "mobilenet-division": _division,
    "readme": _readme,
    "net-source": _source("net"),
    "net-operators": _operators,
    "net-report": _table,
    "net-layers": _layers,
    "net-why": _why,
    "peers-contractions": _peers("Contractions"),
    "peers-rest": _peers("The rest"),
}
"""The made parts by name."""


if __name__ == "__main__":
    raise SystemExit(main())
