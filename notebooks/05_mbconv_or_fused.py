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
# # MBConv or Fused-MBConv: up to which stage does more work take less time?
#
# MBConv widens by a 1×1 convolution, convolves depthwise, and narrows by a 1×1. Fused-MBConv does the
# first two by one dense 3×3 convolution. It has four to five times the MACs, and EfficientNetV2
# ([arXiv 2104.00298](https://arxiv.org/abs/2104.00298)) uses it nevertheless, in the first three
# stages: there, its authors found, it trains faster. This notebook asks where the order turns round
# on this machine, in inference and in training, stage by stage and for whole networks.

# %%
import os

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display

import flopscope

EFFORT = os.environ.get("FLOPSCOPE_EFFORT", "normal")  # "quick" for a trial, "thorough" for a paper
QUICK = EFFORT == "quick"
pd.options.display.float_format = lambda x: f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"
plt.rcParams["figure.dpi"] = 110

# %% [markdown]
# ## The counts, by hand
#
# With *c* channels in and out, an expansion of *e* and a map of *h × w*, without
# squeeze-and-excitation:
#
# | block | MACs | at c = 48, e = 4 |
# |:--|:--|--:|
# | MBConv | h w (2 e c² + 9 e c) | 20,160 h w |
# | Fused-MBConv | h w (9 e c² + e c²) | 92,160 h w |
#
# Their ratio, 10 c / (2 c + 9), grows from 4.2 at 24 channels towards 5. What MBConv moves more is
# maps: its widened map is written and read by one convolution, one batch norm and one activation
# more.


# %%
def blocks(channels, size, **options):
    """The two blocks as stacks of two."""
    made = {"channels": channels, "size": size, "layers": 2, **options}
    return {
        "MBConv": flopscope.operator("mbconv", se=False, **made),
        "Fused-MBConv": flopscope.operator("fused-mbconv", **made),
    }


counted = {name: flopscope.count(stack) for name, stack in blocks(48, 56).items()}
assert counted["MBConv"].total.macs == 2 * 56**2 * (2 * 4 * 48**2 + 9 * 4 * 48) == 2 * 56**2 * 20_160
assert counted["Fused-MBConv"].total.macs == 2 * 56**2 * (9 * 4 * 48**2 + 4 * 48**2) == 2 * 56**2 * 92_160

pd.DataFrame(
    {
        name: {
            "MMACs": report.total.macs / 1e6,
            "MB moved": (report.total.bytes_read + report.total.bytes_written) / 1e6,
            "op calls": len(report.ops),
            "peak activations, MB": report.peak_activation_bytes / 1e6,
        }
        for name, report in counted.items()
    }
)

# %% [markdown]
# ## Stage by stage
#
# The widths and maps are those of EfficientNetV2-S's stages at 224 × 224; the network itself has
# Fused-MBConv in those of 24, 48 and 64 channels. Each pair is timed in turns of one run, three
# times: as an inference with channels first, as one with channels last, and as a training step
# (forward in training mode, loss, backward).

# %%
STAGES = [(24, 112), (48, 56), (64, 28), (128, 14), (160, 14), (256, 7)]
if QUICK:
    STAGES = [(24, 56), (256, 7)]
WAYS = {"inference": {}, "channels last": {"channels_last": True}, "training": {"train": True}}


rows, words = [], set()
for channels, size in STAGES:
    pair = blocks(channels, size)
    row = {"stage": f"{channels} x {size}²"}
    for way, options in WAYS.items():
        found = flopscope.compare(pair, threads=1, max_seconds=0.4 if QUICK else 4, **options)
        words |= {report.quality.word for report in found.reports}
        ratio = found.ratios[1]
        if way == "inference":
            one, other = (report.total for report in found.reports)
            assert other.macs / one.macs == 10 * channels / (2 * channels + 9)
            row["MACs"] = other.macs / one.macs
            row["bytes"] = (other.bytes_read + other.bytes_written) / (one.bytes_read + one.bytes_written)
            row["rate"] = (other.flops / other.latency_s) / (one.flops / one.latency_s)
            row["ms, MBConv"], row["ms, fused"] = 1e3 * one.latency_s, 1e3 * other.latency_s
        row[f"{way}"] = other.latency_s / one.latency_s if ratio is None else ratio.value
        row[f"{way}, told"] = "–" if ratio is None else f"[{ratio.low:.2f}, {ratio.high:.2f}] {ratio.verdict}"
    rows.append(row)
stages = pd.DataFrame(rows).set_index("stage")
stages

# %% [markdown]
# All but the milliseconds are Fused-MBConv over MBConv. Read *MACs*, *bytes* and the times beside
# each other: from stage to stage the factor in MACs hardly changes, while that in bytes does. Where
# maps are large and channels few, MBConv's additional maps cost more than the additional MACs of a
# dense convolution, which runs at a high rate. Where maps are small and channels many, weights
# dominate the bytes, and MACs decide.

# %%
# A wide ordering: at the narrow end the factor in time is smaller than at the wide end.
if "void" not in words:
    assert stages["inference"].iloc[0] < stages["inference"].iloc[-1]

# %% [markdown]
# Where does the time of the two go? The same two ends, taken apart.


# %%
def parts(report):
    """The five parts of the whole, in percent of the layers' undisturbed time."""
    names = ("compute", "kernel", "overhead", "allocation", "memory")
    sums = {name: sum(getattr(layer, f"{name}_s") or 0.0 for layer in report.layers) for name in names}
    whole = sum(sums.values()) or float("nan")
    return {name: 100 * seconds / whole for name, seconds in sums.items()}


frames = {}
for channels, size in (STAGES[0], STAGES[-1]):
    for name, stack in blocks(channels, size).items():
        report = flopscope.profile(stack, threads=1, effort=EFFORT, max_seconds=0.3 if QUICK else 2)
        frames[f"{channels} x {size}²", name] = {"ms": 1e3 * report.total.latency_s, **parts(report)}
pd.DataFrame(frames).T.astype(object).fillna("–")

# %% [markdown]
# *kernel* is what is unexplained where nothing was run alone (quick effort).
#
# ## Whole networks
#
# The paper's Table 3 fuses stages 1–3, 1–5 and 1–7 of EfficientNet-B4. The zoo has these networks
# (the fused ones are a fit to the printed parameters and FLOPs: see [the zoo](../docs/zoo.md)).
# Training is slow on a CPU, so here is one inference.

# %%
SIDE = 96 if QUICK else 224
addresses = {
    "MBConv only": "zoo:efficientnet_b4",
    "stages 1-3 fused": "zoo:efficientnet_b4_fused_1_3",
    "stages 1-5 fused": "zoo:efficientnet_b4_fused_1_5",
    "stages 1-7 fused": "zoo:efficientnet_b4_fused_1_7",
}
chosen = list(addresses)[:2] if QUICK else list(addresses)
models = {name: flopscope.load_model(addresses[name]) for name in chosen}
native = {name: flopscope.count(model, (1, 3, 380, 380)).total for name, model in models.items()}
assert native["MBConv only"].macs == 4_393_771_024
assert native["stages 1-3 fused"].macs == 7_340_966_944

networks = flopscope.compare(
    models, (1, 3, SIDE, SIDE), threads=1, effort=EFFORT, max_seconds=3 if QUICK else 20
)
PRINTED = {"MBConv only": 155, "stages 1-3 fused": 216, "stages 1-5 fused": 223, "stages 1-7 fused": 206}
rows = []
for name, report, ratio in zip(models, networks.reports, networks.ratios, strict=True):
    total, first = report.total, networks.reports[0].total
    rows.append(
        {
            "network": name,
            "GMACs at 380²": native[name].macs / 1e9,
            f"GMACs at {SIDE}²": total.macs / 1e9,
            "MB moved": (total.bytes_read + total.bytes_written) / 1e6,
            "ms": 1e3 * total.latency_s,
            "time": total.latency_s / first.latency_s if ratio is None else ratio.value,
            "told": "–" if ratio is None else f"[{ratio.low:.2f}, {ratio.high:.2f}] {ratio.verdict}",
            "time, printed (training, V100)": PRINTED["MBConv only"] / PRINTED[name],
        }
    )
whole = pd.DataFrame(rows).set_index("network")
whole

# %% [markdown]
# The last column is from the paper, in images a second and GPU: another machine, and training. The
# comparison is one of orders: on its V100 five fused stages were the fastest and seven still faster
# than none.
#
# ## The answer

# %%
display(stages[["MACs", "bytes", "inference", "channels last", "training"]])

# %%
figure, axes = plt.subplots(figsize=(7.5, 3.2))
for column, colour, mark in (
    ("MACs", "grey", "s"),
    ("bytes", "silver", "D"),
    ("inference", "#4477aa", "o"),
    ("channels last", "#66ccee", "o"),
    ("training", "#cc6677", "o"),
):
    dashed = "--" if column in ("MACs", "bytes") else "-"
    label = column if dashed == "--" else f"time, {column}"
    axes.plot(
        range(len(stages)), stages[column], dashed, marker=mark, color=colour, label=label, markersize=5
    )
axes.axhline(1, color="black", linewidth=0.8)
axes.set_yscale("log")
axes.set_yticks([0.5, 1, 2, 5], ["0.5", "1", "2", "5"])
axes.minorticks_off()
axes.set_xticks(range(len(stages)), stages.index)
axes.set_xlabel("channels x map")
axes.set_ylabel("Fused-MBConv / MBConv")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, fontsize=8, ncols=2)
plt.show()

# %%
environment = networks.reports[0].environment
print(
    f"{environment.cpu}, {environment.threads} thread; torch {environment.torch}, "
    f"flopscope {environment.flopscope}; timing {'/'.join(sorted(words))}, effort {EFFORT}; "
    f"{environment.date[:10]}"
)


def faster_in(column):
    """The stages in which Fused-MBConv took less time, as words."""
    won = list(stages.index[stages[column] < 1])
    return "in no stage" if not won else f"at {', '.join(won)}"


first, last = stages.iloc[0], stages.iloc[-1]
display(
    Markdown(
        f"**With {first['MACs']:.1f} to {last['MACs']:.1f} times the MACs Fused-MBConv takes less time "
        f"{faster_in('inference')} in inference, {faster_in('channels last')} with channels last, and "
        f"{faster_in('training')} in training; from the first stage to the last its factor in MACs hardly "
        f"changes, that in bytes goes from {first['bytes']:.2f} to {last['bytes']:.2f}, and the one in time "
        f"from {first['inference']:.2f} to {last['inference']:.2f}.**"
    )
)
