# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # PConv or DWConv: which is faster, and why?
#
# Depthwise convolution (DWConv) has the fewest FLOPs of all 3×3 convolutions. The FasterNet paper
# ([arXiv 2303.03667](https://arxiv.org/abs/2303.03667)) answers that latency is not FLOPs but FLOPs ÷
# FLOPS: DWConv reaches a low rate, and a *partial* convolution (PConv), which convolves a quarter of
# the channels and hands the others through, reaches a high one. This notebook holds both against a
# clock: first as operators, over channels, map size, batch, threads and memory format; then as
# blocks; then as networks, FasterNet-T0 beside MobileNetV2 and MobileNetV3.
#
# Two ratios are easily taken for each other, so both are always shown: the ratio of **rates**
# (GFLOP/s) and the ratio of **times** (ms). Where this machine disagrees with the paper, the tables
# say so.

# %%
import os
from collections import Counter

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display
from torch import nn

import flopscope
from flopscope.zoo.fasternet import FasterNetBlock

EFFORT = os.environ.get("FLOPSCOPE_EFFORT", "normal")  # "quick" for a trial, "thorough" for a paper
QUICK = EFFORT == "quick"
LAYERS = 4  # of one operator, one behind the other; the paper's Table 1 has ten
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
pd.options.display.float_format = lambda x: f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"
pd.options.display.max_rows = 200
plt.rcParams["figure.dpi"] = 110

# %% [markdown]
# ## What each costs, by hand
#
# On a map of *h × w* with *c* channels, one layer of 3×3 convolution has these multiply–accumulates
# (MACs), and by the paper's formulas this memory access (in elements):
#
# | operator | MACs | memory access by formula | equation |
# |:--|:--|:--|:--|
# | convolution | h w 9 c² | h w 2c + 9 c² | (3) |
# | DWConv | h w 9 c | h w 2c + 9 c | (2) |
# | PConv, c_p = c/4 | h w 9 c_p² | h w 2 c_p + 9 c_p² | (4), (5) |
#
# `flopscope.operator` stacks such layers, and `flopscope.count` counts them without running anything.
# Let us check one map of the paper's Table 1, 96 channels on 56 × 56, ten layers.

# %%
ten = {
    kind: flopscope.count(flopscope.operator(kind, channels=96, size=56))
    for kind in ("conv", "dwconv", "pconv")
}
macs = {kind: report.total.macs for kind, report in ten.items()}

assert macs["conv"] == 10 * 56 * 56 * 9 * 96 * 96 == 2_601_123_840
assert macs["dwconv"] == 10 * 56 * 56 * 9 * 96 == 27_095_040
assert macs["pconv"] == 10 * 56 * 56 * 9 * 24 * 24 == 162_570_240
assert macs["conv"] == 16 * macs["pconv"]  # a quarter of the channels, squared
assert macs["pconv"] == 6 * macs["dwconv"]  # c_p² / c = 24 · 24 / 96

layer = ten["pconv"].layers[0]
assert layer.formula_bytes == 4 * (56 * 56 * 2 * 24 + 9 * 24 * 24) == 622_848
# As written (split, convolution, cat) it moves more: the concatenation reads and writes all 96 channels.
assert layer.bytes_read + layer.bytes_written == 622_848 + 4 * (56 * 56 * 2 * 96) == 3_031_296
assert ten["dwconv"].layers[0].formula_bytes == 4 * (56 * 56 * 2 * 96 + 9 * 96) == 2_411_904

pd.DataFrame(
    {
        "MMACs": {kind: report.total.macs / 1e6 for kind, report in ten.items()},
        "MB by formula": {
            kind: sum(layer.formula_bytes for layer in report.layers) / 1e6 for kind, report in ten.items()
        },
        "MB as executed": {
            kind: (report.total.bytes_read + report.total.bytes_written) / 1e6 for kind, report in ten.items()
        },
    }
)

# %% [markdown]
# So at equal width PConv has *more* FLOPs than DWConv (c/16 times as many), and fewer bytes only by
# its formula. The form most code has, with `torch.cat`, moves more bytes than DWConv. Neither number
# is a time. Let us measure.

# %% [markdown]
# ## Operators
#
# ### Why each takes what it takes
#
# One thread, one image, channels first, on the maps of the paper's Table 1. They are chosen so that
# convolution and PConv have the same MACs on each; DWConv has fewer on each than on the one before.
# Every stack is profiled: its time is taken apart by this machine's measured roofs into five parts,
# and the largest is its `limit`. *compute* is what its FLOPs take at the peak; *kernel* is lost
# although data are at hand (layout, vectorisation; called *unexplained* where nothing was run alone);
# *overhead* is the price of a call; *allocation* is page faults; *memory* is caches and DRAM. The
# `finding` is the first reason that a rule has found ([list](../docs/findings/index.md)).


# %%
def bytes_of(report):
    """Bytes by the published formulas where there is one, else as executed; and all as executed."""
    layers = [(layer, layer.bytes_read + layer.bytes_written) for layer in report.layers]
    by_formula = sum(moved if layer.formula_bytes is None else layer.formula_bytes for layer, moved in layers)
    return by_formula, sum(moved for _, moved in layers)


def reason(report):
    """The largest part of a stack's time, and what was found first in most of its layers."""
    names = ("compute", "kernel", "overhead", "allocation", "memory")
    sums = {name: sum(getattr(layer, f"{name}_s") or 0 for layer in report.layers) for name in names}
    if report.quality.word == "void" or not any(sums.values()):
        return "–", f"(timing {report.quality.word})"
    limit = max(sums, key=sums.get)
    share = f"{100 * sums[limit] / sum(sums.values()):.0f} %"
    if limit == "kernel" and any(evidence.form == "cheap" for evidence in report.evidence):
        limit = "unexplained"
    found = Counter(layer.verdicts[0] for layer in report.layers if layer.verdicts).most_common(1)
    return f"{limit} {share}", found[0][0] if found else "–"


def line(report):
    """The columns that all tables here have."""
    by_formula, moved = bytes_of(report)
    total = report.total
    return {
        "MMACs": total.macs / 1e6,
        "MFLOPs": total.flops / 1e6,
        "MB by formula": by_formula / 1e6,
        "MB executed": moved / 1e6,
        "ms": 1e3 * total.latency_s,
        "GFLOP/s": total.flops / total.latency_s / 1e9,
    }


MAPS = [(96, 56), (384, 14)] if QUICK else [(96, 56), (192, 28), (384, 14), (768, 7)]
OPERATORS = {
    "conv": {},
    "gconv, 16 groups": {"groups": 16},
    "dwconv": {},
    "dwconv, widened 6x": {"expansion": 6},
    "pconv": {},
    "pconv-pwconv": {},
    "dwconv-pwconv": {},
}
if QUICK:
    OPERATORS = {name: OPERATORS[name] for name in ("conv", "dwconv", "pconv", "dwconv-pwconv")}

rows, reports = [], {}
for channels, size in MAPS:
    for name, options in OPERATORS.items():
        stack = flopscope.operator(
            name.partition(",")[0], channels=channels, size=size, layers=LAYERS, **options
        )
        report = flopscope.profile(stack, threads=1, effort=EFFORT, max_seconds=0.2 if QUICK else 0.7)
        reports[name, channels] = report
        limit, finding = reason(report)
        rows.append(
            {
                "map": f"{channels} x {size}²",
                "operator": name,
                **line(report),
                "limit": limit,
                "finding": finding,
            }
        )
operators = pd.DataFrame(rows).set_index(["map", "operator"])
operators

# %% [markdown]
# MACs, FLOPs and bytes are of the whole stack of four. Where the paper gives no formula (group
# convolution) the column shows what is executed.
#
# DWConv's rate is a fraction of the convolution's, as the paper says. Its time is a smaller fraction.
# Both are true: it does so little that even a poor rate makes it short. The rate is poor because each
# input value is used nine times only, in a dense convolution 9 c times; the channels cannot be
# combined to a matrix product; and with channels first the library may lay tensors out anew around
# its kernel. One layer in its own words:

# %%
print(reports["dwconv", MAPS[0][0]].why("0"))

# %%
# Wide orderings, no milliseconds. A dense convolution has 96 times the MACs of the depthwise one, or more.
for channels, size in MAPS:
    row = operators.loc[f"{channels} x {size}²"]
    assert row.loc["conv", "ms"] > 1.5 * row.loc["dwconv", "ms"]
    assert row.loc["conv", "GFLOP/s"] > 1.5 * row.loc["dwconv", "GFLOP/s"]

# %% [markdown]
# ### PConv against DWConv, over everything
#
# Profiles made one after the other drift with the machine. To tell which of two operators is faster
# they are timed *in turns of one run* by `flopscope.compare`: the ratio is the median over the turns,
# with an interval, and a verdict. A cell below is such a run. First channels × map size, one image,
# one thread, channels first.


# %%
def in_words(found, place):
    """How long a side takes as a multiple of the first, with the interval and the verdict."""
    ratio = found.ratios[place]
    if place == 0:
        return "1"
    if ratio is None:
        return "? (too few turns)"
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] {ratio.verdict}"


def duel(channels, size, *, batch=1, threads=1, channels_last=False):
    """PConv and DWConv of equal width in turns of one run: two lines of a table."""
    setting = {"channels": channels, "size": size, "batch": batch, "layers": LAYERS}
    stacks = {kind: flopscope.operator(kind, **setting) for kind in ("dwconv", "pconv")}
    how = {"threads": threads, "channels_last": channels_last}
    found = flopscope.compare(stacks, max_seconds=0.2 if QUICK else 0.6, **how)
    lines = []
    for place, kind in enumerate(stacks):
        limit, finding = reason(
            flopscope.profile(stacks[kind], effort="quick", max_seconds=0.1 if QUICK else 0.2, **how)
        )
        lines.append(
            {
                "channels": channels,
                "size": size,
                "batch": batch,
                "threads": threads,
                "channels come": "last" if channels_last else "first",
                "operator": kind,
                **line(found.reports[place]),
                "time / dwconv": in_words(found, place),
                "limit": limit,
                "finding": finding,
            }
        )
    return lines


WIDTHS = [64, 256] if QUICK else [32, 64, 128, 256, 512]
SIZES = [28, 7] if QUICK else [56, 28, 14, 7]

by_width = pd.DataFrame([row for size in SIZES for width in WIDTHS for row in duel(width, size)])
keys = ["size", "channels", "operator"]
by_width.drop(columns=["MMACs", "batch", "threads", "channels come"]).set_index(keys)

# %% [markdown]
# `limit` and `finding` come from a quick profile of each side, by the roofs alone. The same cells as
# two grids: PConv over DWConv of equal width, in rate and in time.


# %%
def over(frame, column, rows, columns):
    """PConv's value over DWConv's, as a grid."""
    sides = frame.pivot(index=rows, columns=[*columns, "operator"], values=column)
    return sides.xs("pconv", axis=1, level="operator") / sides.xs("dwconv", axis=1, level="operator")


def in_turns(frame, rows, columns):
    """The ratio of times that was measured in turns, with its verdict, as a grid."""
    told = frame[frame["operator"] == "pconv"]
    words = told["time / dwconv"].str.replace(r" \[.*\]", "", regex=True)
    return told.assign(word=words).pivot(index=rows, columns=columns, values="word")


display(
    Markdown("**Rate of PConv over rate of DWConv** (above 1: PConv computes at the higher rate)"),
    over(by_width, "GFLOP/s", "size", ["channels"]).sort_index(ascending=False),
    Markdown("**Time of PConv over time of DWConv** (below 1: PConv is faster)"),
    in_turns(by_width, "size", ["channels"]).sort_index(ascending=False),
)

# %% [markdown]
# The two grids hang together by one factor: PConv has c/16 times the MACs of DWConv. To win in time
# at 32 channels it needs twice the rate, at 512 channels 32 times. A high rate is not enough where
# there is that much more to do. Narrow layers on small maps are another matter: where `limit` is
# *overhead*, neither time has much to do with FLOPs, and what counts is the price of a call to the
# one kernel or the other.
#
# Now batch × threads × memory format, on a large map and a small one.

# %%
BATCHES = [1] if QUICK else [1, 4, 16]
FEW = [(96, 28)] if QUICK else [(96, 56), (384, 14)]
THREADS = sorted({1, CORES})

by_setting = pd.DataFrame(
    [
        row
        for channels, size in FEW
        for batch in BATCHES
        for threads in THREADS
        for channels_last in (False, True)
        for row in duel(channels, size, batch=batch, threads=threads, channels_last=channels_last)
    ]
)
maps = by_setting["channels"].astype(str) + " x " + by_setting["size"].astype(str) + "²"
keys = ["map", "batch", "threads", "channels come", "operator"]
by_setting.assign(map=maps).drop(columns=["MMACs", "channels", "size"]).set_index(keys)

# %%
setting = ["channels come", "threads"]
display(
    Markdown("**Rate of PConv over rate of DWConv**"),
    over(by_setting, "GFLOP/s", ["channels", "size", "batch"], setting),
    Markdown("**Time of PConv over time of DWConv**"),
    in_turns(by_setting, ["channels", "size", "batch"], setting),
)

# %% [markdown]
# Three things to look for. *Channels last* helps DWConv more than PConv: the reordering around its
# kernel falls away. *Larger batches* have larger outputs, which the memory allocator may hand back to
# the system after every call and fetch anew, page by page; `finding` then says `page-faults`, and the
# ratio is one of page faults more than of convolutions. *Threads* change the kernel that the library
# chooses, so a ratio for one thread says little about several.

# %% [markdown]
# ### Beside the paper
#
# The paper's Table 1 has these times for a CPU (i9-9900X, one thread, one image, ten layers). Rates
# and times of PConv over DWConv, printed and found here:

# %%
PRINTED_MS = {96: (3.59, 5.46), 192: (1.97, 3.09), 384: (1.06, 3.58), 768: (0.68, 5.02)}  # DWConv, PConv


def factor(found, place):
    """How long a side takes as a multiple of the first: in turns, or by the medians if these were too few."""
    if found.ratios[place] is not None:
        return found.ratios[place].value
    return found.reports[place].total.latency_s / found.reports[0].total.latency_s


rows = []
for channels, size in MAPS:
    found = flopscope.compare(
        {kind: flopscope.operator(kind, channels=channels, size=size) for kind in ("dwconv", "pconv")},
        threads=1,
        max_seconds=0.5 if QUICK else 3,
    )
    depthwise, partial = (report.total for report in found.reports)
    more_work = partial.flops / depthwise.flops
    assert more_work == channels / 16  # h w 9 (c/4)² over h w 9 c
    time, printed = factor(found, 1), PRINTED_MS[channels][1] / PRINTED_MS[channels][0]
    rows.append(
        {
            "map": f"{channels} x {size}²",
            "FLOPs": more_work,
            "rate, printed": more_work / printed,
            "rate, here": more_work / time,
            "time, printed": printed,
            "time, here": time,
            "GFLOP/s, dwconv": depthwise.flops / depthwise.latency_s / 1e9,
            "GFLOP/s, pconv": partial.flops / partial.latency_s / 1e9,
            "in turns": in_words(found, 1),
            "page faults a pass": " / ".join(
                r.environment.other["page_faults_per_pass"] for r in found.reports
            ),
        }
    )
paper = pd.DataFrame(rows).set_index("map")
paper

# %% [markdown]
# The paper's claim is about the rate: see the two columns of rates. By its own times PConv of equal
# width was slower than DWConv on its CPU and on its GPU, on every map, and faster on its ARM
# processor alone. The gain has to come from elsewhere: DWConv in a MobileNet is *widened*, to win
# back the accuracy that it costs, and stands between two pointwise convolutions. So let us compare
# blocks.

# %% [markdown]
# ## Blocks
#
# PConv + PW against DWConv + PW, 28 × 28. At equal width (192 channels) the first has *h w (9 c_p² +
# c²)* MACs, the second *h w (9 c + c²)*. DWConv + PW gets the MACs of the first with 236 channels:
#
# - 784 · (9 · 48² + 192²) = 784 · 57,600 = 45,158,400
# - 784 · (9 · 236 + 236²) = 784 · 57,820 = 45,330,880, half a percent more
#
# And the blocks that networks are made of: MobileNetV2's, which widens six times around its DWConv,
# here with SiLU and without SE; and FasterNet's, with GELU.

# %%
SIZE = 14 if QUICK else 28


def block(kind, channels, **options):
    """Two blocks, one behind the other."""
    return flopscope.operator(kind, channels=channels, size=SIZE, layers=2, **options)


def fasternet_blocks(channels):
    """Two FasterNet blocks: PConv, 1x1 to 2c, BN, GELU, 1x1 back, shortcut."""
    made = [FasterNetBlock(channels, activation=nn.GELU, drop_path=0.0, form="split_cat") for _ in range(2)]
    return nn.Sequential(*made), (1, channels, SIZE, SIZE)


sides = {
    "DWConv + PW, 192": block("dwconv-pwconv", 192),
    "PConv + PW, 192": block("pconv-pwconv", 192),
    "DWConv + PW, 236": block("dwconv-pwconv", 236),
    "GConv + PW, 192": block("gconv-pwconv", 192),
    "convolution, 192": block("conv", 192),
    "MBConv, 64, e = 6": block("mbconv", 64, expansion=6, se=False),
    "FasterNet block, 64": fasternet_blocks(64),
    "FasterNet block, 104": fasternet_blocks(104),
}
counts = {
    name: flopscope.count(*(side if isinstance(side, tuple) else (side,))) for name, side in sides.items()
}
area = SIZE * SIZE
assert counts["PConv + PW, 192"].total.macs == 2 * area * (9 * 48**2 + 192**2) == 2 * area * 57_600
assert counts["DWConv + PW, 236"].total.macs == 2 * area * (9 * 236 + 236**2) == 2 * area * 57_820
assert counts["MBConv, 64, e = 6"].total.macs == 2 * area * (12 * 64**2 + 54 * 64) == 2 * area * 52_608
# 9 (c/4)² + 4 c²; at 104 channels 9 · 26² + 4 · 104² = 49,348, six percent fewer than MBConv's.
assert counts["FasterNet block, 104"].total.macs == 2 * area * (9 * 26**2 + 4 * 104**2) == 2 * area * 49_348

in_blocks = flopscope.compare(sides, threads=1, max_seconds=1.5 if QUICK else 12)
rows = []
for place, (name, side) in enumerate(sides.items()):
    looked_at = flopscope.profile(
        *(side if isinstance(side, tuple) else (side,)),
        threads=1,
        effort=EFFORT,
        max_seconds=0.1 if QUICK else 1,
    )
    limit, finding = reason(looked_at)
    rows.append(
        {
            "block": name,
            **line(in_blocks.reports[place]),
            "time / first": in_words(in_blocks, place),
            "limit": limit,
            "finding": finding,
        }
    )
blocks = pd.DataFrame(rows).set_index("block")
blocks

# %%
assert blocks.loc["convolution, 192", "ms"] > 1.5 * blocks.loc["DWConv + PW, 192", "ms"]  # 8.2 times the MACs

# %% [markdown]
# Compare three pairs. At **equal width** (192) PConv + PW has more MACs than DWConv + PW. At **equal
# MACs** (192 and 236) the comparison is fair to the FLOPs. And as **blocks of a network** (MBConv
# with 64 channels, FasterNet's with 104, of about equal MACs) what counts is all that stands around
# the 3×3: batch norms and activations on a map that is six times as wide in MBConv, and twice in
# FasterNet's. That difference is bytes, not FLOPs.

# %% [markdown]
# ## Networks
#
# FasterNet-T0 beside MobileNetV2 and MobileNetV3-Large, 224 × 224, one image, one thread, in turns of
# one run.

# %%
NETWORKS = {
    "MobileNetV2": "zoo:mobilenetv2",
    "MobileNetV3-L": "zoo:mobilenetv3_large",
    "FasterNet-T0": "zoo:fasternet_t0",
}
models = {name: flopscope.load_model(address) for name, address in NETWORKS.items()}

SECONDS = 1.5 if QUICK else 9  # of sampling, for all sides of a comparison together
found = flopscope.compare(models, (1, 3, 224, 224), threads=1, effort=EFFORT, max_seconds=SECONDS)
profiles = {
    name: flopscope.profile(model, (1, 3, 224, 224), threads=1, effort=EFFORT, max_seconds=SECONDS / 3)
    for name, model in models.items()
}
assert found["MobileNetV2"].total.macs == 300_774_272
assert found["MobileNetV3-L"].total.macs == 216_589_760
assert found["FasterNet-T0"].total.macs == 335_422_720

rows = []
for place, name in enumerate(models):
    limit, finding = reason(profiles[name])
    rows.append(
        {
            "network": name,
            **line(found.reports[place]),
            "op calls": len(found.reports[place].ops),
            "time / MobileNetV2": in_words(found, place),
            "limit": limit,
            "finding": finding,
        }
    )
networks = pd.DataFrame(rows).set_index("network")
networks

# %% [markdown]
# Where the time goes, by kind of layer: share of the FLOPs, share of the time, and the rate.

# %%
frames = []
for name, report in profiles.items():
    kinds = report.df.groupby("kind")[["flops_share", "latency_share", "flops", "latency_s", "macs"]].sum()
    rate = (kinds["flops"] / kinds["latency_s"] / 1e9).astype(object).where(kinds["macs"] > 0, "–")
    shares = {"FLOPs %": 100 * kinds["flops_share"], "time %": 100 * kinds["latency_share"], "GFLOP/s": rate}
    frames.append(pd.concat({name: pd.DataFrame(shares)}, axis=1))
together = pd.concat(frames, axis=1).astype(object)
order = together.xs("time %", axis=1, level=1).astype(float).max(axis=1).sort_values(ascending=False)
together.loc[order[order >= 2].index].fillna("–")

# %% [markdown]
# Batch norm can be folded into the convolution before it, which FasterNet's authors give as the
# reason for choosing it. What it brings each network, measured in turns with the form above, which is
# not folded:

# %%
rows = []
for name, model in list(models.items())[2 * QUICK :]:
    folded = flopscope.whatif(
        model, (1, 3, 224, 224), "fold-bn", threads=1, effort=EFFORT, max_seconds=SECONDS
    )
    before, after = folded.reports
    rows.append(
        {
            "network": name,
            "op calls": f"{len(before.ops)} → {len(after.ops)}",
            "MB executed": f"{bytes_of(before)[1] / 1e6:.1f} → {bytes_of(after)[1] / 1e6:.1f}",
            "time folded / as it is": in_words(folded, 1),
        }
    )
pd.DataFrame(rows).set_index("network")

# %% [markdown]
# ## Where this machine and the paper part
#
# What is printed for a CPU, beside what was found here. Each figure is one side's time or rate over
# the other's; *agree* says only whether both lie on the same side of 1. The printed latencies of
# networks are those of folded batch norms.

# %%
rates = paper["GFLOP/s, pconv"].mean() / paper["GFLOP/s, dwconv"].mean()
names = list(sides)
plain, partial, equal_macs = (
    names.index(f"{name}") for name in ("convolution, 192", "PConv + PW, 192", "DWConv + PW, 236")
)
over_conv = factor(in_blocks, plain) / factor(in_blocks, partial)
claims = [
    ("rate, PConv / DWConv, mean of the maps", "Table 1", 39.91 / 6.42, rates),
    *(
        (f"time, PConv / DWConv, {row}", "Table 1", values["time, printed"], values["time, here"])
        for row, values in paper.iterrows()
    ),
    (
        f"time, convolution / (PConv + PW), 192 x {SIZE}² (printed: 28²)",
        "issue #1 of its code",
        28.41 / 5.42,
        over_conv,
    ),
    ("time, (PConv + PW) / (DWConv + PW), equal width", "–", None, factor(in_blocks, partial)),
    ("the same, equal MACs", "–", None, factor(in_blocks, partial) / factor(in_blocks, equal_macs)),
    ("time, FasterNet-T0 / MobileNetV2", "Table 3", 9.2 / 12.2, factor(found, 2)),
]
pd.DataFrame(
    [
        {
            "what": what,
            "printed in": source,
            "printed": "–" if printed is None else printed,
            "here": here,
            "agree": "–" if printed is None else "yes" if (printed > 1) == (here > 1) else "no",
        }
        for what, source, printed, here in claims
    ]
).set_index("what")

# %% [markdown]
# Where nothing is printed, the paper argues from rates and formulas: that PConv + PW stands in well
# for DWConv + PW. The two lines on blocks say what that is worth here in time.

# %% [markdown]
# ## The answer
#
# PConv over DWConv on the paper's maps, and the three networks.

# %%
display(paper[["FLOPs", "rate, printed", "rate, here", "time, printed", "time, here", "in turns"]])

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6))
positions = range(len(paper))
for shift, what, colour in ((-0.18, "rate", "#4477aa"), (0.18, "time", "#cc6677")):
    left.bar(
        [p + shift for p in positions], paper[f"{what}, here"], 0.34, color=colour, label=f"{what}, here"
    )
    left.scatter(
        [p + shift for p in positions], paper[f"{what}, printed"], color="black", marker="_", s=160, zorder=3
    )
left.scatter([], [], color="black", marker="_", s=160, label="printed (i9-9900X)")
left.axhline(1, color="grey", linewidth=0.8)
left.set_xticks(list(positions), paper.index)
left.set_ylabel("PConv / DWConv")
left.set_title("operators of equal width", fontsize=10)
left.legend(frameon=False, fontsize=8)

gmacs, times = networks["MMACs"] / 1e3, networks["ms"]
for (name, x), y, colour in zip(gmacs.items(), times, ("#4477aa", "#ddaa33", "#cc6677"), strict=True):
    right.scatter(x, y, color=colour, s=60, zorder=3)
    below = name.startswith("FasterNet")
    right.annotate(
        name, (x, y), (0, -15 if below else 8), textcoords="offset points", ha="center", fontsize=8
    )
top = 1.5 * times.max()
for rate in (20, 40, 80):
    right.plot((0, 0.5), (0, 2 * 0.5 / rate * 1e3), color="lightgrey", linewidth=0.8)
    x = min(0.45, 0.9 * top * rate / 2e3)
    right.annotate(f"{rate} GFLOP/s", (x, 2 * x / rate * 1e3), fontsize=7, color="grey", ha="right")
right.set(xlim=(0, 0.5), ylim=(0, top), xlabel="GMACs", ylabel="ms")
right.set_title("networks, 224 x 224", fontsize=10)
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

# %%
environment, words = found.reports[0].environment, {report.quality.word for report in found.reports}
print(
    f"{environment.cpu}, {environment.threads} thread; torch {environment.torch}, "
    f"flopscope {environment.flopscope}; timing {'/'.join(sorted(words))}, effort {EFFORT}; "
    f"{environment.date[:10]}"
)


def span(values):
    """The smallest and the largest of some ratios, as words."""
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return f"{low} times" if low == high else f"{low} to {high} times"


times = paper["time, here"]
so = "the higher rate does not make it the faster operator"
if times.min() < 1:
    so = "it is the faster operator" if times.max() < 1 else "which is faster depends on the map"
work, moved = (networks[column].iloc[2] / networks[column].iloc[0] for column in ("MMACs", "MB executed"))
spent = [profiles[name].df.groupby("kind")["latency_s"].sum() for name in ("MobileNetV2", "FasterNet-T0")]
saved = spent[0].sum() - spent[1].sum()
by_spatial = (spent[0]["depthwise_conv"] - spent[1]["pconv"]) / saved
display(
    Markdown(
        f"**On the paper's maps PConv has {span(paper['FLOPs'])} the FLOPs of DWConv of equal width, "
        f"computes at {span(paper['rate, here'])} its rate and takes {span(times)} its time: {so}; "
        f"FasterNet-T0, with {work:.2f} times the MACs of MobileNetV2 and {moved:.2f} times its bytes, takes "
        f"{factor(found, 2):.2f} times its time, and {by_spatial:.0%} of what it saves comes of PConv for "
        "DWConv, the rest of what is around the 3×3: batch norms, activations, pointwise convolutions.**"
    )
)
