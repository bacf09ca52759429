"""The name of a section -> lines of Markdown: the comparisons of `claims.py`.

Published figures: FasterNet arXiv 2303.03667 v3, RepVGG 2101.03697, ShuffleNetV2 1807.11164, EfficientNetV2
2104.00298. Rates are in GMAC/s, as in these papers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import flopscope
from flopscope import zoo
from flopscope.units import bytes_text, count_text

Lines = Iterator[str]
MAPS = ((96, 56), (192, 28), (384, 14), (768, 7))
FORMATS = {"contiguous": False, "channels_last": True}
PRINTED = {
    "conv": ((35.67, 28.41, 31.85, 62.71), (10151, 71.89, 3.95)),
    "gconv": ((21.90, 7.58, 4.40, 4.28), (1833, 25.93, 1.92)),
    "dwconv": ((3.59, 1.97, 1.06, 0.68), (313, 6.42, 0.12)),
    "pconv": ((5.46, 3.09, 3.58, 5.02), (3274, 39.91, 2.73)),
}
"""FasterNet, Table 1: ms on an i9-9900X for each map, and the mean GMAC/s on GPU, CPU and ARM."""


# --------------------------------------------------------------------------- one comparison, one table


@dataclass(frozen=True, slots=True)
class Row:
    """A side of a comparison: its name, report, ratio and what the first side counts."""

    name: str
    report: Any
    ratio: Any
    first: Any

    @property
    def seconds(self) -> float:
        return statistics.median(self.report.whole.samples)

    @property
    def macs(self) -> int:
        return self.report.total.macs

    @property
    def rate(self) -> float:
        return self.macs / self.seconds / 1e9


def contest(sides: Mapping[str, Any], seconds: float, **settings: Any) -> list[Row]:
    """Time the sides in turns of one run, on one thread."""
    return _rows(flopscope.compare(sides, None, threads=1, max_seconds=seconds, progress=False, **settings))


def _rows(found: flopscope.Comparison) -> list[Row]:
    triples = zip(found.sides, found.reports, found.ratios, strict=True)
    return [Row(side.name, report, ratio, found.reports[0]) for side, report, ratio in triples]


def ratio_text(row: Row) -> str:
    if row.ratio is None:
        return "1" if row.report is row.first else "too few turns"
    found = row.ratio
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}] {found.verdict}"


def moved(report: Any) -> int:
    return report.total.bytes_read + report.total.bytes_written


def formula_text(report: Any) -> str:
    """What the published formulas come to, where every layer with MACs has one."""
    known = [layer.formula_bytes for layer in report.layers if layer.macs]
    return "" if None in known else bytes_text(sum(known))


def idle_share(row: Row) -> str:
    """The share of the layers' latency in rows without a MAC."""
    layers = row.report.layers
    whole = sum(layer.latency_s or 0.0 for layer in layers)
    without = sum(layer.latency_s or 0.0 for layer in layers if not layer.macs)
    return f"{100 * without / whole:.0f} %"


def idle_bytes(row: Row) -> str:
    """The share of the bytes in rows without a MAC."""
    layers = [layer for layer in row.report.layers if not layer.macs]
    return f"{100 * sum(one.bytes_read + one.bytes_written for one in layers) / moved(row.report):.0f} %"


CELLS: dict[str, Callable[[Row], str]] = {
    "params": lambda row: f"{row.report.total.params:,}",
    "MACs": lambda row: count_text(row.macs),
    "exact MACs": lambda row: f"{row.macs:,}",
    "MACs ratio": lambda row: f"{row.macs / row.first.total.macs:.3g}",
    "ms": lambda row: f"{1e3 * row.seconds:.3g}",
    "GMAC/s": lambda row: f"{row.rate:.3g}",
    "GFLOP/s": lambda row: f"{row.report.total.flops / row.seconds / 1e9:.3g}",
    "op calls": lambda row: str(len(row.report.ops)),
    "moved": lambda row: bytes_text(moved(row.report)),
    "formula": lambda row: formula_text(row.report),
    "peak activations": lambda row: bytes_text(row.report.peak_activation_bytes),
    "faults": lambda row: row.report.environment.other.get("page_faults_per_pass", ""),
    "ratio": ratio_text,
    "time without MACs": idle_share,
    "bytes without MACs": idle_bytes,
}


def table(
    rows: Sequence[Row], columns: Sequence[str], more: Mapping[str, Mapping[str, str]] | None = None
) -> Lines:
    """One line for each side; `more` holds further columns: heading -> name of a side -> text."""
    from tabulate import tabulate

    more = more or {}
    lines = [
        [
            row.name,
            *(CELLS[name](row) for name in columns),
            *(texts.get(row.name, "") for texts in more.values()),
        ]
        for row in rows
    ]
    yield tabulate(lines, headers=["", *columns, *more], tablefmt="pipe", disable_numparse=True)
    yield ""
    yield trust(rows)
    yield ""


def trust(rows: Sequence[Row]) -> str:
    """How far the latencies of a table can be trusted, and from how many turns they are."""
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(row.report.quality.word, []).append(row.name)
    turns = min((row.ratio.turns for row in rows if row.ratio is not None), default=0)
    if len(names) == 1:
        return f"Timing: {next(iter(names))}; {turns} turns."
    said = "; ".join(f"{word} for {', '.join(of)}" for word, of in sorted(names.items()) if word != "good")
    return f"Timing: {said}; {turns} turns."


def op(kind: str, **options: Any) -> str:
    """The address of a stack of operators."""
    return f"op:{kind}?" + "&".join(f"{name}={str(value).lower()}" for name, value in options.items())


# --------------------------------------------------------------------------- FasterNet


def table1(seconds: float) -> Lines:
    yield "FasterNet, Table 1: ten layers of one operator. *Printed*: i9-9900X, one thread."
    yield ""
    for title, last in FORMATS.items():
        rates: dict[str, list[float]] = {}
        for place, (channels, size) in enumerate(MAPS):
            rows = contest(_operators(channels, size), seconds, channels_last=last)
            for row in rows:
                rates.setdefault(row.name, []).append(row.rate)
            yield f"### {channels} x {size}², {title}"
            yield ""
            columns = ("exact MACs", "ms", "GMAC/s", "moved", "formula", "faults", "ratio")
            yield from table(rows, columns, _printed(place))
        yield from _mean_rates(title, rates)


def _operators(channels: int, size: int) -> dict[str, str]:
    of = partial(op, channels=channels, size=size)
    return {
        "dwconv": of("dwconv"),
        "dwconv 6c wide": of("dwconv", expansion=6),
        "conv": of("conv"),
        "gconv": of("gconv"),
        "pconv": of("pconv"),
        "pconv slicing": of("pconv", form="slicing"),
        "pconv in_place": of("pconv", form="in_place"),
    }


def _printed(place: int) -> dict[str, dict[str, str]]:
    """The paper's milliseconds for one map, and their ratio to those of the depthwise convolution."""
    taken = {name: by_map[place] for name, (by_map, _) in PRINTED.items()}
    return {
        "printed ms": {name: f"{value:g}" for name, value in taken.items()},
        "printed ratio": {name: f"{value / taken['dwconv']:.3g}" for name, value in taken.items()},
    }


def _mean_rates(title: str, rates: Mapping[str, Sequence[float]]) -> Lines:
    from tabulate import tabulate

    means = {name: statistics.mean(values) for name, values in rates.items()}
    lines = []
    for name, mean in means.items():
        printed = PRINTED.get(name, ((), ("", "", "")))[1]
        lines.append([name, f"{mean:.3g}", f"{mean / means['dwconv']:.3g}", *map(str, printed)])
    headings = ["", "GMAC/s", "over dwconv", "printed: GPU", "CPU", "ARM"]
    yield f"### Mean rate over the four maps, {title}"
    yield ""
    yield tabulate(lines, headers=headings, tablefmt="pipe", disable_numparse=True)
    yield ""
    yield "Printed for PConv over DWConv: 10.5 on the GPU, 6.2 on the CPU, 22.8 on ARM. A rate is no latency."
    yield ""


def blocks(seconds: float) -> Lines:
    yield "Ten blocks each; the third is DWConv + PWConv, widened to about the MACs of PConv + PWConv."
    yield ""
    for title, last in FORMATS.items():
        for channels, size in MAPS:
            rows = contest(_blocks(channels, size), seconds, channels_last=last)
            yield f"### {channels} x {size}², {title}"
            yield ""
            yield from table(rows, ("MACs", "MACs ratio", "ms", "GMAC/s", "moved", "faults", "ratio"))
    for batch in (1, 16):
        yield from _substituted(batch, seconds)


def _blocks(channels: int, size: int) -> dict[str, str]:
    # h w (9 c' + c'^2) is to be h w (9 (c/4)^2 + c^2); to the next multiple of 8
    wide = 8 * round((math.sqrt(81 + 4 * (9 / 16 + 1) * channels**2) - 9) / 16)
    of = partial(op, channels=channels, size=size)
    return {
        "DW + PW": of("dwconv-pwconv"),
        "PConv + PW": of("pconv-pwconv"),
        f"DW + PW, {wide} wide (about equal MACs)": op("dwconv-pwconv", channels=wide, size=size),
        "GConv + PW": of("gconv-pwconv"),
        "T-shaped": of("t-conv"),
        "conv": of("conv"),
    }


def _substituted(batch: int, seconds: float) -> Lines:
    """FasterNet-T0 with another operator where it has PConv."""
    from flopscope.zoo.fasternet import PartialConv

    sides: dict[str, Any] = {"FasterNet-T0": zoo.build("fasternet_t0")}
    for name, grouped in (("with DWConv", True), ("with conv", False)):
        model = zoo.build("fasternet_t0")
        for module in model.modules():
            for child, layer in module.named_children():
                if isinstance(layer, PartialConv):
                    width = layer.conv.in_channels * 4
                    groups = width if grouped else 1
                    setattr(module, child, nn.Conv2d(width, width, 3, 1, 1, groups=groups, bias=False))
        sides[name] = model
    inputs = (batch, 3, 224, 224)
    rows = contest({name: (model, inputs) for name, model in sides.items()}, seconds)
    yield f"### FasterNet-T0 with other operators in place of PConv, equal width, batch {batch}, 224²"
    yield ""
    columns = ("params", "MACs", "MACs ratio", "ms", "moved", "faults", "ratio")
    yield from table(rows, columns, _images(rows, batch))


def norms(seconds: float) -> Lines:
    yield "FasterNet, Table 5: batch norms folded, and ReLU where T0 has GELU and GELU where T2 has ReLU."
    yield ""
    columns = ("params", "MACs", "op calls", "moved", "ms", "ratio")
    model = zoo.build("fasternet_t0")
    found = flopscope.whatif(
        model, (1, 3, 224, 224), "fold-bn", threads=1, max_seconds=seconds, progress=False
    )
    yield "### FasterNet-T0, as built and folded"
    yield ""
    yield from table(_rows(found), columns)
    for name, old, new in (("fasternet_t0", nn.GELU, nn.ReLU), ("fasternet_t2", nn.ReLU, nn.GELU)):
        other = zoo.build(name)
        for module in list(other.modules()):
            for child, layer in module.named_children():
                if isinstance(layer, old):
                    setattr(module, child, new())
        sides = {old.__name__: f"zoo:{name}", new.__name__: (other, (1, 3, 224, 224))}
        yield f"### {name}, {old.__name__} and {new.__name__}"
        yield ""
        yield from table(contest(sides, seconds), columns)


def _images(rows: Sequence[Row], batch: int) -> dict[str, dict[str, str]]:
    return {"images/s": {row.name: f"{batch / row.seconds:.3g}" for row in rows}}


# --------------------------------------------------------------------------- EfficientNetV2

B4_STAGES = ((24, 190), (32, 95), (56, 48), (112, 24), (160, 24), (272, 12), (448, 12))
"""Width and map of the blocks with stride 1 of EfficientNet-B4's stages at 380."""


def mbconv(seconds: float) -> Lines:
    yield (
        "Two blocks of stride 1 and expansion 6 at the shape of each stage of EfficientNet-B4 at 380: "
        "MBConv (3x3, SE) and Fused-MBConv (no SE)."
    )
    yield ""
    for title, last in FORMATS.items():
        for stage, (channels, size) in enumerate(B4_STAGES, 1):
            of = partial(op, channels=channels, size=size, layers=2, expansion=6)
            sides = {
                "MBConv": of("mbconv"),
                "MBConv without SE": of("mbconv", se=False),
                "Fused-MBConv": of("fused-mbconv"),
            }
            rows = contest(sides, seconds / 2, channels_last=last)
            yield f"### Stage {stage}: {channels} x {size}², {title}"
            yield ""
            yield from table(rows, ("MACs", "MACs ratio", "ms", "GMAC/s", "moved", "faults", "ratio"))


def fused(seconds: float) -> Lines:
    yield "EfficientNet-B4 at 380, first stages fused, one inference (EfficientNetV2's Table 3: training)."
    yield ""
    names = (
        "efficientnet_b4",
        "efficientnet_b4_fused_1_3",
        "efficientnet_b4_fused_1_5",
        "efficientnet_b4_fused_1_7",
    )
    rows = contest({name: f"zoo:{name}" for name in names}, 3 * seconds)
    yield from table(rows, ("params", "MACs", "MACs ratio", "ms", "GMAC/s", "ratio"))


def sizes(seconds: float) -> Lines:
    yield "EfficientNetV2-S at the sizes of progressive learning, one inference."
    yield ""
    model = zoo.build("efficientnetv2_s")
    sides = {f"{size}²": (model, (1, 3, size, size)) for size in (128, 192, 256, 300, 384)}
    rows = contest(sides, 2 * seconds)
    yield from table(rows, ("MACs", "MACs ratio", "ms", "GMAC/s", "peak activations", "faults", "ratio"))


# --------------------------------------------------------------------------- RepVGG


def repvgg(seconds: float) -> Lines:
    columns = (
        "params",
        "MACs",
        "MACs ratio",
        "op calls",
        "moved",
        "peak activations",
        "ms",
        "faults",
        "ratio",
    )
    for name, printed in (
        ("repvgg_a0", ""),
        ("repvgg_b0", " Printed: 1.71 times faster (Table 6)."),
        ("repvgg_b1g4", ""),
    ):
        sides = {"train": f"zoo:{name}", "deploy": f"zoo:{name}?deploy=true"}
        if name == "repvgg_b0":
            branches = {
                f"branches={one}": f"zoo:{name}?branches={one}" for one in ("1x1", "identity", "none")
            }
            sides = {**sides, **branches}
        rows = contest(sides, (1.5 if len(sides) > 2 or "b1" in name else 1) * seconds)
        yield f"### {name}, 224²"
        yield ""
        yield from table(rows, columns)
        yield f"Train over deploy: {1 / rows[1].ratio.value:.3g} times.{printed}" if rows[1].ratio else ""
        yield ""
    yield from _against_resnet(seconds)
    yield from _groups(seconds)
    yield from _two_branches(seconds)
    yield from _toy(seconds)


def _against_resnet(seconds: float) -> Lines:
    sides = {"resnet18": "zoo:resnet18", "repvgg_a0, deploy": "zoo:repvgg_a0?deploy=true"}
    yield "### RepVGG-A0 against ResNet-18 (its batch norms not folded)"
    yield ""
    yield from table(contest(sides, seconds), ("MACs", "MACs ratio", "op calls", "ms", "GMAC/s", "ratio"))


def _groups(seconds: float) -> Lines:
    sides = {name: f"zoo:repvgg_{name}?deploy=true" for name in ("b1", "b1g2", "b1g4")}
    yield "### RepVGG-B1, deploy, with groups on every second layer"
    yield ""
    yield from table(contest(sides, seconds), ("params", "MACs", "MACs ratio", "ms", "GMAC/s", "ratio"))


class Branches(nn.Module):
    """Two 3x3 convolutions of one input, added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.other = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.one(x) + self.other(x)
        return y


def _two_branches(seconds: float) -> Lines:
    for batch, channels, size in ((4, 8, 7), (1, 256, 28)):
        inputs = (batch, channels, size, size)
        single = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1))
        rows = contest(
            {"two 3x3, added": (Branches(channels), inputs), "one 3x3": (single, inputs)}, seconds / 2
        )
        yield f"### Two branches against one, {channels} channels, {size}², batch {batch}"
        yield ""
        yield from table(rows, ("exact MACs", "MACs ratio", "op calls", "ms", "GMAC/s", "ratio"))


def toy(deploy: bool) -> nn.Module:
    """Seven RepVGG blocks without a head: 64, 128, 128, 256, 256, 512, 512."""
    from flopscope.zoo.repvgg import RepVGGBlock

    widths = ((3, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512))
    layers: list[nn.Module] = []
    for cin, cout in widths:
        stride = 1 if cin == cout else 2
        block = RepVGGBlock(cin, cout, stride=stride)
        layers.append(block.deployed(nn.Conv2d(cin, cout, 3, stride, 1)) if deploy else block)
    return nn.Sequential(*layers)


def _toy(seconds: float) -> Lines:
    for batch in (1, 8):
        inputs = (batch, 3, 224, 224)
        rows = contest({"train": (toy(False), inputs), "deploy": (toy(True), inputs)}, seconds)
        yield f"### Seven RepVGG blocks, 224², batch {batch} (an article: 108 times faster)"
        yield ""
        yield from table(rows, ("exact MACs", "MACs ratio", "op calls", "ms", "GMAC/s", "faults", "ratio"))


def kernels(seconds: float) -> Lines:
    yield "RepVGG, Table 1, at 256 channels and 28²: two layers of one convolution."
    yield ""
    of = partial(op, "conv", channels=256, size=28, layers=2)
    rows = contest({f"{side}x{side}": of(kernel=side) for side in (3, 1, 5, 7)}, seconds)
    yield from table(rows, ("MACs", "MACs ratio", "ms", "GMAC/s", "ratio"))


# --------------------------------------------------------------------------- networks

SMALL = ("mobilenetv2", "fasternet_t0", "shufflenetv2_x1_0", "shufflenetv2_x1_5", "mobilevit_xxs", "resnet18")
LARGE = ("swin_b", "fasternet_l", "convnext_b")
NETWORK = ("MACs", "ms", "GFLOP/s", "moved", "faults", "ratio", "time without MACs", "bytes without MACs")


def networks(seconds: float) -> Lines:
    yield "Each network at its own input size."
    yield ""
    yield from _ranked("Small networks", [f"zoo:{name}" for name in SMALL], 2 * seconds)
    yield from _ranked(
        "EfficientNet-B3 (300) and VGG16 (224)", ["zoo:efficientnet_b3", "zoo:vgg16"], 2 * seconds
    )
    yield from _ranked(
        "EfficientNet-B1 (240) and ResNet-152", ["zoo:resnet152", "zoo:efficientnet_b1"], 2 * seconds
    )
    yield from _ranked("Large networks", [f"zoo:{name}" for name in LARGE], 3 * seconds)
    model, inputs = zoo.build("mobilevit_xxs"), (1, 3, 224, 224)
    rows = contest({"fasternet_t0": "zoo:fasternet_t0", "mobilevit_xxs at 224": (model, inputs)}, seconds)
    yield "### FasterNet-T0 and MobileViT-XXS, both at 224"
    yield ""
    yield from table(rows, NETWORK)


def _ranked(title: str, addresses: Sequence[str], seconds: float) -> Lines:
    rows = contest({address.removeprefix("zoo:"): address for address in addresses}, seconds)
    by_macs = sorted(rows, key=lambda row: row.macs)
    by_time = sorted(rows, key=lambda row: row.seconds)
    ranks = {
        "rank by MACs": {row.name: str(place) for place, row in enumerate(by_macs, 1)},
        "rank by time": {row.name: str(place) for place, row in enumerate(by_time, 1)},
        "size": {row.name: str(zoo.networks()[row.name].resolution) for row in rows},
    }
    yield f"### {title}"
    yield ""
    yield from table(rows, NETWORK, ranks)


# --------------------------------------------------------------------------- ShuffleNetV2


def shufflenet(seconds: float) -> Lines:
    columns = ("MACs", "MACs ratio", "op calls", "moved", "formula", "ms", "faults", "ratio")
    for title, sides, printed in _guidelines():
        rows = contest(sides, seconds)
        first = next(iter(printed.values()))
        yield f"### {title}"
        yield ""
        texts = {name: f"{first / value:.3g}" for name, value in printed.items()}
        yield from table(rows, columns, {"printed ratio (GPU)": texts})


def _guidelines() -> Iterator[tuple[str, dict[str, str], dict[str, float]]]:
    """Title, sides, and the batches a second that the paper prints for a GTX 1080Ti."""
    of = partial(op, size=56)
    pairs = {f"1:{ratio}": of("pw-pair", channels=128, ratio=ratio) for ratio in (1, 2, 6, 12)}
    yield (
        "G1: pairs of 1x1, c1 : c2, 128 channels",
        pairs,
        dict(zip(pairs, (1480, 1296, 876, 748), strict=True)),
    )
    widths = {1: 128, 2: 180, 4: 256, 8: 360}
    groups = {f"{g} groups": of("pw-group", channels=width, groups=g) for g, width in widths.items()}
    yield "G2: grouped 1x1 at equal MACs", groups, dict(zip(groups, (2451, 1725, 1026, 634), strict=True))
    parts = {"1 fragment": of("fragments", channels=128)}
    for count in (2, 4):
        for way, parallel in (("series", False), ("parallel", True)):
            parts[f"{count} in {way}"] = of("fragments", channels=128, count=count, parallel=parallel)
    yield "G3: fragments at equal MACs", parts, dict(zip(parts, (2446, 1790, 1537, 752, 691), strict=True))
    units = {
        "ReLU and shortcut": of("bottleneck", channels=128),
        "without ReLU": of("bottleneck", channels=128, relu=False),
        "without shortcut": of("bottleneck", channels=128, shortcut=False),
        "without both": of("bottleneck", channels=128, relu=False, shortcut=False),
    }
    printed = {"ReLU and shortcut": 2427.0, "without both": 2842.0}
    yield "G4: bottlenecks, 128 channels, 32 inside", units, printed


SECTIONS: dict[str, Callable[[float], Lines]] = {
    "table1": table1,
    "blocks": blocks,
    "repvgg": repvgg,
    "networks": networks,
    "mbconv": mbconv,
    "shufflenet": shufflenet,
    "norms": norms,
    "kernels": kernels,
    "sizes": sizes,
    "fused": fused,
}

torch.manual_seed(0)
