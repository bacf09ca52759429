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
# # Which layer of my model is out of proportion?
#
# A network is usually described by one number, its FLOPs. But users wait for milliseconds, and the
# two do not go together: some layers take far more of the time than their FLOPs suggest. This
# notebook finds them, in MobileNetV3-Large, from nothing. It takes three calls: `count`, `profile`
# and `why`.

# %%
import os

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display

import flopscope

EFFORT = os.environ.get("FLOPSCOPE_EFFORT", "normal")  # "quick" for a trial, "thorough" for a paper
pd.options.display.float_format = lambda x: f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"
plt.rcParams["figure.dpi"] = 110

# %% [markdown]
# ## What it costs
#
# Any `torch.nn.Module` will do. This one comes from flopscope's zoo, so that nothing has to be
# downloaded; `flopscope.load_model("torchvision:mobilenet_v3_large")` gives torchvision's. Counting
# runs no arithmetic: the operators are followed on tensors without data.

# %%
model = flopscope.load_model("zoo:mobilenetv3_large")
costs = flopscope.count(model, (1, 3, 224, 224))
print(costs.table(by="kind", width=96))

# %% [markdown]
# Counts are exact, so they can be checked by hand. A convolution has *output height × output width ×
# kernel height × kernel width × input channels per group × output channels* multiply–accumulates
# (MACs). The first layer makes 16 channels of 3 on a map of 112 × 112; the first depthwise layer has
# 16 groups of one channel each.

# %%
first_conv = next(layer for layer in costs.layers if layer.kind == "conv")
first_depthwise = next(layer for layer in costs.layers if layer.kind == "depthwise_conv")

assert first_conv.macs == 112 * 112 * 3 * 3 * 3 * 16 == 5_419_008
assert first_depthwise.macs == 112 * 112 * 3 * 3 * 1 * 16 == 1_806_336
assert costs.total.macs == 216_589_760

pd.Series(costs.conventions, name="the same network").to_frame()

# %% [markdown]
# One network, several numbers, depending on who counts. One MAC is two FLOPs here, and element-wise
# work counts too. What papers print as "FLOPs" is mostly `macs`. If two tools disagree, look here
# first.

# %% [markdown]
# ## What it takes
#
# `profile` counts as well, and then times whole passes of a private copy, noting the time at every
# module boundary. Layers are timed where they stand: run alone they would find their data in the
# cache, which in the network they do not. `threads=1` leaves out the question of how well work is
# shared out.

# %%
report = flopscope.profile(model, (1, 3, 224, 224), threads=1, effort=EFFORT)
print(report.table(by="kind", width=96))

# %% [markdown]
# Read the header first. It names all that may change the numbers (processor, threads, the memory
# allocator and its page faults), and gives one word on the timing: *good*, *disturbed* (other
# programs ran: what is marked `~` was hit) or *void* (measure again).
#
# Then read `FLOPs %` beside `time %`, line by line. The last column divides one by the other.
#
# The same as a data frame, layer by layer. Everything is in base units there, so let us scale it.


# %%
def readable(layers):
    """Shares in percent, times in milliseconds, and the rate that was achieved."""
    return pd.DataFrame(
        {
            "layer": layers["path"].replace("", "(the model itself)"),
            "kind": layers["kind"],
            "MMACs": layers["macs"] / 1e6,
            "FLOPs %": 100 * layers["flops_share"],
            "ms": 1e3 * layers["latency_s"],
            "time %": 100 * layers["latency_share"],
            "GFLOP/s": (layers["flops_per_s"] / 1e9).astype(object).where(layers["macs"] > 0, "–"),
            "excess": 100 * (layers["latency_share"] - layers["flops_share"]),
        }
    )


layers = readable(report.df).sort_values("excess", ascending=False)
layers.head(8).reset_index(drop=True)

# %% [markdown]
# `excess` is the share of the time minus the share of the FLOPs, in points. These eight layers take
# most beyond their share. A rate is shown only for layers with MACs: what moves data and computes
# next to nothing has none worth showing. Here are the layers at the other end, which do most of the
# FLOPs:

# %%
layers.tail(4).reset_index(drop=True)

# %% [markdown]
# ## Why
#
# `why` explains a layer from what the report holds: the evidence first, then the reasons, each with
# the number that supports it, then what to try. We ask for the depthwise layer that is furthest out
# of proportion.

# %%
worst = layers[layers["kind"] == "depthwise_conv"].iloc[0]["layer"]
print(report.why(worst))

# %% [markdown]
# A saved report can be asked again later, on another machine and without PyTorch:
# `report.save("net.json")`, `flopscope.load("net.json").why(...)`. `flopscope.explain(model, inputs,
# path)` measures more: it does the layer otherwise, as a dense convolution or with another memory
# format, and puts the times beside each other.

# %% [markdown]
# ## The answer
#
# Kinds of layers by their share of the time, and beside it their share of the FLOPs.

# %%
kinds = report.df.groupby("kind")[["macs", "flops_share", "latency_share", "latency_s"]].sum()
kinds = kinds.sort_values("latency_share", ascending=False)
kinds = kinds[kinds["latency_share"] >= 0.01]

# Wide orderings, and no milliseconds: pointwise layers hold the FLOPs, depthwise ones take more than theirs.
assert kinds["flops_share"].idxmax() == "pointwise_conv"
assert kinds.loc["depthwise_conv", "latency_share"] > kinds.loc["depthwise_conv", "flops_share"]

answer = pd.DataFrame(
    {
        "MMACs": kinds["macs"] / 1e6,
        "FLOPs %": 100 * kinds["flops_share"],
        "time %": 100 * kinds["latency_share"],
        "ms": 1e3 * kinds["latency_s"],
    }
)
answer

# %%
figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
report.plot_icicle(ax=axes)
plt.show()

# %%
environment = report.environment
print(
    f"{environment.cpu}, {environment.threads} thread; torch {environment.torch}, "
    f"flopscope {environment.flopscope}; timing {report.quality.word}, effort {EFFORT}; "
    f"{environment.date[:10]}"
)
depthwise, pointwise = answer.loc["depthwise_conv"], answer.loc["pointwise_conv"]
display(
    Markdown(
        f"**The depthwise convolutions are out of proportion: {depthwise['FLOPs %']:.0f} % of the FLOPs "
        f"and {depthwise['time %']:.0f} % of the time, while the pointwise ones do "
        f"{pointwise['FLOPs %']:.0f} % of the FLOPs in {pointwise['time %']:.0f} % of the time; "
        f"`{worst}` is the layer to look at first.**"
    )
)
