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
# # How fast can my machine be, and how near do my layers come?
#
# A layer can be limited by arithmetic or by the movement of data. A *roofline* puts both limits into
# one picture: how many operations a second the machine computes at best, and how many bytes a second
# it moves at best. This notebook measures the two for the machine that it runs on, places layers
# under them, and then asks what the picture cannot tell.

# %%
import os

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display
from torch import nn

import flopscope

EFFORT = os.environ.get("FLOPSCOPE_EFFORT", "normal")  # "quick" for a trial, "thorough" for a paper
QUICK = EFFORT == "quick"
pd.options.display.float_format = lambda x: f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"
plt.rcParams["figure.dpi"] = 110

# %% [markdown]
# ## The roofs
#
# `flopscope.machine` measures them once, with torch's own operators, and keeps them: the best rate of
# matrix products and convolutions for each dtype, and the bandwidth of copies and additions over the
# size of what they work on. It takes some seconds, and one thread here. A busy machine gives void
# roofs, so the result has a word on its quality.

# %%
machine = flopscope.machine(threads=1)
print(f"{machine.name}, {machine.threads} thread, {machine.quality}")
peaks = {peak.dtype: peak.flops_per_s / 1e9 for peak in machine.peaks}
pd.Series(peaks, name="GFLOP/s at best").to_frame()

# %%
for dtype, reason in machine.absent.items():
    print(f"no roof for {dtype}: {reason}")
curve = pd.DataFrame(
    {
        "working set, kB": [point.working_set_bytes / 1e3 for point in machine.bandwidth],
        "GB/s": [point.bytes_per_s / 1e9 for point in machine.bandwidth],
    }
)
curve

# %% [markdown]
# Bandwidth is a curve and no single number: what fits into a cache is moved several times as fast as
# what comes from main memory. So there is no one roofline either, but one for each size of the data.
#
# ## Arithmetic intensity, by hand
#
# Which roof is the lower one depends on the operations per byte, FLOP/B. Four layers on a map of 64 ×
# 56 × 56 in float32, which has 200,704 elements or 802,816 bytes:
#
# | layer | FLOPs | bytes, read and written | FLOP/B |
# |:--|:--|:--|--:|
# | convolution, 3×3 | 2 · 56² · 9 · 64 · 64 = 231,211,008 | 2 · 802,816 + 4 · 36,864 = 1,753,088 | 131.9 |
# | pointwise, 1×1 | 2 · 56² · 64 · 64 = 25,690,112 | 2 · 802,816 + 4 · 4,096 = 1,622,016 | 15.84 |
# | depthwise, 3×3 | 2 · 56² · 9 · 64 = 3,612,672 | 2 · 802,816 + 4 · 576 = 1,607,936 | 2.247 |
# | ReLU | 56² · 64 = 200,704 | 2 · 802,816 = 1,605,632 | 0.125 |

# %%
four = nn.Sequential()
four.add_module("convolution", nn.Conv2d(64, 64, 3, padding=1, bias=False))
four.add_module("pointwise", nn.Conv2d(64, 64, 1, bias=False))
four.add_module("depthwise", nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False))
four.add_module("relu", nn.ReLU())

report = flopscope.profile(four, (1, 64, 56, 56), threads=1, effort=EFFORT, machine=machine)
counted = {layer.path: (layer.flops, layer.bytes_read + layer.bytes_written) for layer in report.layers}
convolution = 2 * 56**2 * 9 * 64 * 64, 2 * 802_816 + 4 * 9 * 64 * 64
assert counted["convolution"] == convolution == (231_211_008, 1_753_088)
assert counted["pointwise"] == (2 * 56**2 * 64 * 64, 2 * 802_816 + 4 * 64 * 64) == (25_690_112, 1_622_016)
assert counted["depthwise"] == (2 * 56**2 * 9 * 64, 2 * 802_816 + 4 * 9 * 64) == (3_612_672, 1_607_936)
assert counted["relu"] == (56**2 * 64, 2 * 802_816) == (200_704, 1_605_632)

# %% [markdown]
# ## What is attainable, and what is reached
#
# *Attainable* is the lower of two: the peak, and FLOP/B times the bandwidth for data of that size.
# Beside it stands what was measured, and the largest of the five parts of the layer's time.


# %%
def limit_of(layer, evidence):
    """The largest part of a layer's time; by the roofs alone, what they do not explain has no cause yet."""
    cheap = layer.limit == "kernel" and evidence.form == "cheap"
    return "unexplained" if cheap else layer.limit or "–"


def under_the_roofs(report):
    """One row for each layer with a latency: intensity, what the roofs allow, what was reached."""
    rows = []
    for layer, evidence in zip(report.layers, report.evidence, strict=True):
        if not layer.flops or not layer.latency_floor_s or evidence.working_set_bytes is None:
            continue
        moved = layer.bytes_read + layer.bytes_written
        bandwidth = machine.bytes_per_s(evidence.working_set_bytes)
        intensity, peak = layer.flops / moved, machine.peak("float32")
        attainable = min(peak, intensity * bandwidth)
        reached = layer.flops / layer.latency_floor_s
        rows.append(
            {
                "layer": layer.path,
                "kind": layer.kind,
                "FLOP/B": intensity,
                "lower roof": "compute" if peak <= intensity * bandwidth else "bandwidth",
                "attainable GFLOP/s": attainable / 1e9,
                "reached GFLOP/s": reached / 1e9,
                "reached %": 100 * reached / attainable,
                "limit": limit_of(layer, evidence),
                "finding": layer.verdicts[0] if layer.verdicts else "–",
            }
        )
    return pd.DataFrame(rows).set_index("layer")


placed = under_the_roofs(report)
placed.drop(columns="kind")

# %%
# Wide orderings: the rates of dense and depthwise convolutions lie far apart, and ReLU's is below both.
assert placed.loc["convolution", "reached GFLOP/s"] > 2 * placed.loc["depthwise", "reached GFLOP/s"]
assert placed.loc["depthwise", "reached GFLOP/s"] > placed.loc["relu", "reached GFLOP/s"]

# %% [markdown]
# A rate far below the attainable one says that *neither* roof explains the time. That is where most
# drawings stop, and where the label "memory-bound" is often wrong. Look at `limit`: *kernel* (called
# *unexplained* in a quick run) means that the data were at hand and the kernel still took long;
# *overhead* that the call costs more than the work; *allocation* that the allocator's page faults
# were timed. The words of one layer:

# %%
print(report.why("depthwise"))

# %% [markdown]
# ## When data no longer fit
#
# ReLU does one operation for eight bytes, so it is a good probe of the second roof. The same ReLU on
# ever larger maps, four of them in a row:

# %%
rows = []
for size in (28, 112, 448) if QUICK else (14, 28, 56, 112, 224, 448):
    relus = nn.Sequential(*(nn.ReLU() for _ in range(4)))
    found = flopscope.profile(
        relus,
        (1, 64, size, size),
        threads=1,
        effort="quick",
        max_seconds=0.3 if QUICK else 1,
        machine=machine,
    )
    second, evidence = found.layers[1], found.evidence[1]
    moved = second.bytes_read + second.bytes_written
    rows.append(
        {
            "map": f"64 x {size}²",
            "working set, kB": evidence.working_set_bytes / 1e3,
            "roof, GB/s": machine.bytes_per_s(evidence.working_set_bytes) / 1e9,
            "reached, GB/s": moved / second.latency_floor_s / 1e9,
            "page faults a pass": found.environment.other.get("page_faults_per_pass", "–"),
            "limit": limit_of(second, evidence),
        }
    )
relus = pd.DataFrame(rows).set_index("map")
relus

# %% [markdown]
# Two things pull it down as the map grows: the bandwidth itself, and page faults, where the allocator
# fetches each output anew from the system. The second is no property of ReLU, and of the hardware
# only in part; another allocator has other faults.

# %% [markdown]
# ## The answer
#
# MobileNetV3-Large under these roofs, by kind of layer. *At the roofs* is the time that would be left
# if every layer ran at the lower of its roofs: a bound, and not a prediction.

# %%
model = flopscope.load_model("zoo:mobilenetv3_large")
network = flopscope.profile(model, (1, 3, 224, 224), threads=1, effort=EFFORT, machine=machine)
frame = network.df.assign(least_s=[evidence.least_s for evidence in network.evidence])
kinds = frame.groupby("kind")[["flops", "latency_floor_s", "least_s"]].sum().query("latency_floor_s > 0")
kinds = kinds.sort_values("latency_floor_s", ascending=False).head(8)
answer = pd.DataFrame(
    {
        "MFLOPs": kinds["flops"] / 1e6,
        "ms": 1e3 * kinds["latency_floor_s"],
        "ms at the roofs": 1e3 * kinds["least_s"],
        "reached %": 100 * kinds["least_s"] / kinds["latency_floor_s"],
    }
)
answer

# %%
figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
network.plot_roofline(ax=axes)
plt.show()

# %%
environment = network.environment
print(
    f"{environment.cpu}, {environment.threads} thread; torch {environment.torch}, "
    f"flopscope {environment.flopscope}; timing {network.quality.word}, roofs {machine.quality}, "
    f"effort {EFFORT}; {environment.date[:10]}"
)
share = 100 * frame["least_s"].sum() / frame["latency_floor_s"].sum()
best, worst = answer.loc["pointwise_conv", "reached %"], answer.loc["depthwise_conv", "reached %"]
display(
    Markdown(
        f"**One thread of this machine computes {peaks['float32']:.0f} GFLOP/s in float32 at best and moves "
        f"{curve['GB/s'].max():.0f} GB/s in cache, {curve['GB/s'].iloc[-1]:.0f} GB/s from memory; at these "
        f"roofs MobileNetV3-Large would take {share:.0f} % of its time, for pointwise convolutions reach "
        f"{best:.0f} % of what the roofs allow, depthwise ones {worst:.0f} %, and why, no roofline shows.**"
    )
)
