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
# # How do I put costs into a paper so that a reader can check them?
#
# Tables of efficient networks are hard to compare: one column is called "FLOPs" and holds MACs,
# another tool's MACs, or those of another form of the network; latencies come without machine,
# threads or spread. This notebook makes one table for a paper, with exact counts, a named convention,
# ratios with intervals, and the paragraph that says how it was done.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display

import flopscope
from flopscope import zoo

EFFORT = os.environ.get("FLOPSCOPE_EFFORT", "normal")  # "thorough" for a paper
QUICK = EFFORT == "quick"
pd.options.display.float_format = lambda x: f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"
pd.options.display.max_colwidth = 80
plt.rcParams["figure.dpi"] = 110

# %% [markdown]
# ## Which number?
#
# The totals of four networks as others count them. `macs` are multiply–accumulates of convolutions
# and matrix products; `flops` are twice that, and the element-wise work; `fvcore_like` is what
# fvcore's counter would say, which adds terms for norms and pooling to the MACs; `params_folded` is
# what is left once batch norms are folded.

# %%
NAMES = ["mobilenetv2", "mobilenetv3_large", "fasternet_t0", "efficientnet_b0"]
models = {name: flopscope.load_model(f"zoo:{name}") for name in NAMES}
costs = {name: flopscope.count(model, (1, 3, 224, 224)) for name, model in models.items()}
exact = pd.DataFrame(
    {name: {"params": report.total.params, **report.conventions} for name, report in costs.items()}
).T
exact.map("{:,}".format)

# %% [markdown]
# Which of them a paper prints can be found out, and seldom is said. FasterNet-T0, for example, is
# printed with 0.34 G. Both counts round to that; they are not the same. fvcore adds 2 for each
# element that a batch norm puts out, and 1 for each that is pooled. By hand, batch norm by batch norm
# (channels × map × blocks):
#
# - embedding 40 · 56² = 125,440; stage 1: 80 · 56² = 250,880; merging 80 · 28² = 62,720
# - stage 2: 160 · 28² · 2 = 250,880; merging 160 · 14² = 31,360; stage 3: 320 · 14² · 8 = 501,760
# - merging 320 · 7² = 15,680; stage 4: 640 · 7² · 2 = 62,720
#
# Together 1,301,440 elements. The pool reads 320 · 7² = 15,680.

# %%
conventions = costs["fasternet_t0"].conventions
normed = 125_440 + 250_880 + 62_720 + 250_880 + 31_360 + 501_760 + 15_680 + 62_720
assert normed == 1_301_440
assert conventions["macs"] == 335_422_720
assert conventions["fvcore_like"] == 335_422_720 + 2 * normed + 15_680 == 338_041_280

printed = [
    {
        "network": name,
        "source": figure.source,
        "printed G": figure.macs_g,
        "counted as": figure.convention,
        "MACs": conventions["macs"],
        "fvcore-like": conventions["fvcore_like"],
        "remark": figure.reason,
    }
    for name, conventions in ((name, costs[name].conventions) for name in NAMES)
    for figure in zoo.networks()[name].published
    if not figure.options
]
pd.DataFrame(printed).set_index("network").astype({"MACs": object}).map(
    lambda value: f"{value:,}" if isinstance(value, int) else value
)

# %% [markdown]
# So: print exact integers or enough digits, say MACs or FLOPs, and say whether batch norms are
# folded. A gate in the project's tests keeps the number from drifting:

# %%
assert costs["fasternet_t0"].check("macs==335422720", "params<=4M") == []  # nothing is broken

# %% [markdown]
# ## Latency, as a ratio
#
# Milliseconds belong to one machine on one day. Ratios of networks that were timed in turns of one
# run carry further, and they come with an interval. For a paper use `effort="thorough"` on a machine
# at rest, and keep the word that the report gives on its own quality.

# %%
SIDE = 96 if QUICK else 224
found = flopscope.compare(
    models, (1, 3, SIDE, SIDE), threads=1, effort=EFFORT, max_seconds=3 if QUICK else None
)
rows = []
for name, report, ratio in zip(models, found.reports, found.ratios, strict=True):
    total = report.total
    rows.append(
        {
            "network": name,
            "params (M)": costs[name].total.params / 1e6,
            f"MACs at {SIDE}² (M)": total.macs / 1e6,
            f"moved at {SIDE}² (MB)": (total.bytes_read + total.bytes_written) / 1e6,
            f"latency at {SIDE}² (ms)": 1e3 * total.latency_s,
            "relative": 1.0 if ratio is None else ratio.value,
            "interval": "–" if ratio is None else f"{ratio.low:.2f}–{ratio.high:.2f}",
        }
    )
table = pd.DataFrame(rows).set_index("network")
table

# %% [markdown]
# ## The table in LaTeX
#
# A report and a comparison write LaTeX of their own (`booktabs`), with the header as comments.
# `found.table("latex")` has totals, kinds and layers; here its first part.

# %%
latex = found.table("latex")
print(latex.partition("% by kind")[0].strip())

# %% [markdown]
# A table by kind of layer of one network, with a caption and a label; `columns` chooses, and the text
# goes to a file beside the paper.

# %%
model = models["fasternet_t0"]
report = flopscope.profile(
    model, (1, 3, SIDE, SIDE), threads=1, effort=EFFORT, max_seconds=0.5 if QUICK else None
)
text = report.to_latex(
    "fasternet.tex", by="kind", caption="FasterNet-T0 by kind of layer.", label="tab:fasternet"
)
print(text)

# %% [markdown]
# ## The paragraph
#
# `methods_text` says what was counted, on what machine and how it was timed. Every number in it is
# taken from the report. `methods_text("latex")` escapes it for a paper.

# %%
for paragraph in found.methods_text().split("\n\n"):
    display(Markdown(f"> {paragraph}"))

# %% [markdown]
# ## Let others check it
#
# Save the report, put it beside the paper. It is JSON, and holds counts, samples, roofs, machine,
# versions and settings; it is read without PyTorch.

# %%
report.save("fasternet_t0.json")
assert flopscope.load("fasternet_t0.json") == report
print(f"{Path('fasternet_t0.json').stat().st_size / 1e3:.0f} kB")

# %% [markdown]
# To cite the tool, with the version that printed the numbers:

# %%
print(f"""@software{{flopscope,
  title   = {{flopscope: what each layer of a PyTorch model costs, what it takes, and why the two differ}},
  author  = {{{{The flopscope authors}}}},
  version = {{{flopscope.__version__}}},
  year    = {{{report.environment.date[:4]}}}
}}""")

# %% [markdown]
# ## The answer
#
# The table, with exact MACs at the resolution of the papers.

# %%
answer = table.drop(columns=[f"MACs at {SIDE}² (M)"])
answer.insert(0, "MACs at 224²", [f"{costs[name].total.macs:,}" for name in table.index])
answer

# %%
figure, axes = plt.subplots(figsize=(7, 2.2))
for row, (name, ratio) in enumerate(zip(table.index, found.ratios, strict=True)):
    low, value, high = (1, 1, 1) if ratio is None else (ratio.low, ratio.value, ratio.high)
    axes.plot([low, high], [row, row], color="#4477aa", linewidth=2)
    axes.scatter(value, row, color="#4477aa", zorder=3)
    axes.scatter(costs[name].total.macs / costs[NAMES[0]].total.macs, row, color="grey", marker="|", s=120)
axes.scatter([], [], color="grey", marker="|", s=120, label="MACs")
axes.scatter([], [], color="#4477aa", label="latency, with interval")
axes.axvline(1, color="black", linewidth=0.8)
axes.set_yticks(range(len(table)), table.index)
axes.invert_yaxis()
axes.set_xlabel(f"relative to {NAMES[0]}")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
figure.savefig("latency.pdf", bbox_inches="tight")  # vector graphics, for the paper
plt.show()

# %%
environment, words = found.reports[0].environment, {one.quality.word for one in found.reports}
print(
    f"{environment.cpu}, {environment.threads} thread; torch {environment.torch}, "
    f"flopscope {environment.flopscope}; timing {'/'.join(sorted(words))}, effort {EFFORT}; "
    f"{environment.date[:10]}"
)
place = NAMES.index("fasternet_t0")
ratio = found.ratios[place]
times = "was timed in too few turns to be compared with the second"
if ratio is not None:
    times = f"takes {ratio.value:.2f} times as long (interval {ratio.low:.2f}–{ratio.high:.2f})"
faster, plain = (costs[name].total.macs for name in ("fasternet_t0", "mobilenetv2"))
display(
    Markdown(
        "**Write exact counts with their convention, and latency as a ratio with its interval: “FasterNet-T0 "
        f"has {faster:,} MACs at 224 × 224 (convolution and linear layers, batch norms not folded), "
        f"MobileNetV2 {plain:,}; at {SIDE} × {SIDE} with one thread the first {times}.”**"
    )
)
