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
# # Why is a RepVGG faster once deployed, if it computes the same?
#
# RepVGG ([arXiv 2101.03697](https://arxiv.org/abs/2101.03697)) is trained with three branches in
# every block: a 3×3 convolution, a 1×1 convolution and the identity, each with a batch norm, added
# up. For use the three are merged into one 3×3 convolution. The function stays the same and the
# multiplications hardly change. This notebook takes the two steps one by one, checks that the outputs
# agree, and looks where the gain comes from.

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
# A block that keeps *c* channels has, as trained, 9c² + c² weights and three batch norms of 2c
# parameters; merged, 9c² weights and c biases. Its MACs fall from 10 c² h w to 9 c² h w, a tenth.
# Batch norms and additions are not MACs.

# %%
trained = flopscope.load_model("zoo:repvgg_a0")
deployed = flopscope.load_model("zoo:repvgg_a0", args={"deploy": True})
before, after = flopscope.count(trained), flopscope.count(deployed)

# The second block of the first stage keeps 48 channels on a map of 56 x 56.
blocks = {layer.path: layer for layer in before.tree}, {layer.path: layer for layer in after.tree}
wide, slim = (tree["stages.1.1"] for tree in blocks)
assert wide.params == 10 * 48**2 + 3 * 2 * 48 == 23_328
assert slim.params == 9 * 48**2 + 48 == 20_784
assert wide.macs == 10 * 48**2 * 56**2 == 72_253_440
assert slim.macs == 9 * 48**2 * 56**2 == 65_028_096

# All convolutions of the deployed network are 3x3; the classifier has 1280 x 1000 MACs.
assert after.total.macs == 1_361_451_008
assert before.total.macs == (1_361_451_008 - 1_280_000) * 10 // 9 + 1_280_000 == 1_512_581_120

pd.DataFrame(
    {
        form: {
            "params": report.total.params,
            "MACs": report.total.macs,
            "op calls": len(report.ops),
            "MB moved": (report.total.bytes_read + report.total.bytes_written) / 1e6,
            "peak activations, MB": report.peak_activation_bytes / 1e6,
        }
        for form, report in {"as trained": before, "deployed": after}.items()
    }
).map("{:,.4g}".format)

# %% [markdown]
# MACs fall by a tenth. Operator calls fall to less than a third, bytes to less than half: branches
# write maps which the additions read again. If time followed FLOPs, a tenth is all there would be to
# gain.
#
# ## Two steps, checked and measured
#
# `whatif` rewrites copies of the model, compares their outputs with the original's, and times all of
# them in turns of one run. *fold-bn* draws each batch norm into the convolution before it.
# *reparametrise* merges the branches.

# %%
SIZE = 128 if QUICK else 224
found = flopscope.whatif(
    trained,
    (1, 3, SIZE, SIZE),
    "fold-bn",
    "reparametrise",
    threads=1,
    effort=EFFORT,
    max_seconds=3 if QUICK else None,
)

rows = []
for side, report, ratio in zip(found.sides, found.reports, found.ratios, strict=True):
    rows.append(
        {
            "form": side.name,
            "MMACs": report.total.macs / 1e6,
            "op calls": len(report.ops),
            "MB moved": (report.total.bytes_read + report.total.bytes_written) / 1e6,
            "ms": 1e3 * report.total.latency_s,
            "GFLOP/s": report.total.flops / report.total.latency_s / 1e9,
            "time": "1" if ratio is None else f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]",
            "verdict": "–" if ratio is None else ratio.verdict,
            "outputs differ by": "–" if side.rewrote is None else f"{side.rewrote.relative:.0e}",
        }
    )
forms = pd.DataFrame(rows).set_index("form")
forms

# %% [markdown]
# *Outputs differ by* is the largest difference over the largest output, in float32: rounding. The
# rewrites are exact, and one that was not would have been refused.
#
# Folding alone leaves the branches where they are, and the identity branch keeps its batch norm, for
# there is no convolution before it. Merging includes the folding, so that both together are no more
# than the second.

# %%
as_it_is, merged = found["as it is"], found["reparametrise"]
assert all(side.rewrote is None or side.rewrote.relative < 1e-3 for side in found.sides)
assert merged.total.macs < as_it_is.total.macs
assert len(merged.ops) < len(as_it_is.ops) / 3
words = {report.quality.word for report in found.reports}
if "void" not in words:  # fewer MACs, fewer bytes and fewer calls
    assert merged.total.latency_s < as_it_is.total.latency_s

# %% [markdown]
# ## Where the gain comes from
#
# Both forms by kind of layer. What the merged form no longer has (1×1 branches, batch norms,
# additions) took time out of proportion to its FLOPs.


# %%
def by_kind(report):
    """Milliseconds and MACs by kind of layer."""
    sums = report.df.groupby("kind")[["latency_s", "macs"]].sum()
    return pd.DataFrame({"ms": 1e3 * sums["latency_s"], "MMACs": sums["macs"] / 1e6})


gone = by_kind(as_it_is).join(by_kind(merged).add_suffix(", merged"), how="outer").astype(float).fillna(0.0)
gone["ms saved"] = gone["ms"] - gone["ms, merged"]
gone["MMACs saved"] = gone["MMACs"] - gone["MMACs, merged"]
gone = gone.sort_values("ms saved", ascending=False)
gone

# %% [markdown]
# Activations and pooling are the same in both, and so are the 3×3 convolutions: differences there are
# noise, or the state in which the layer before has left the caches.
#
# ## The answer

# %%
forms[["MMACs", "op calls", "MB moved", "ms", "time", "verdict", "outputs differ by"]]

# %%
least = 0.01 * as_it_is.total.latency_s * 1e3
times = gone[["ms", "ms, merged"]].max(axis=1)
kinds = sorted(times[times > least].index, key=lambda kind: kind != "conv")
shown = {side.name: by_kind(report)["ms"] for side, report in zip(found.sides, found.reports, strict=True)}
figure, axes = plt.subplots(figsize=(8, 2.6))
colours = dict(zip(kinds, plt.get_cmap("tab10").colors, strict=False))
for row, spent in enumerate(reversed(shown.values())):
    start = 0.0
    for kind in kinds:
        width = spent.get(kind, 0.0)
        label = kind if row == 0 else None
        axes.barh(row, width, left=start, color=colours[kind], edgecolor="white", label=label)
        start += width
axes.set_yticks(range(len(shown)), list(reversed(shown)))
axes.set_xlabel("ms, sums of layers")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.4, -0.25), frameon=False, fontsize=8)
plt.show()

# %%
environment = as_it_is.environment
print(
    f"{environment.cpu}, {environment.threads} thread; torch {environment.torch}, "
    f"flopscope {environment.flopscope}; timing {'/'.join(sorted(words))}, effort {EFFORT}; "
    f"{environment.date[:10]}"
)
faster = as_it_is.total.latency_s / merged.total.latency_s
ratio = found.ratios[found.reports.index(merged)]
if ratio is not None:
    faster = 1 / ratio.value
fewer = 100 * (1 - merged.total.macs / as_it_is.total.macs)
less = 100 * (1 - forms.loc["reparametrise", "MB moved"] / forms.loc["as it is", "MB moved"])
vanished = gone[gone["ms, merged"] == 0]
without = 100 * vanished["ms"][vanished["MMACs"] == 0].sum() / vanished["ms"].sum()
display(
    Markdown(
        f"**RepVGG-A0 computes the same function {faster:.2f} times as fast once it is merged, with "
        f"{fewer:.0f} % fewer MACs, but {less:.0f} % fewer bytes and {len(merged.ops)} operator calls for "
        f"{len(as_it_is.ops)}: of the time of the layers that are gone, {without:.0f} % was spent without a "
        "single MAC, in batch norms and additions, and the rest in the 1×1 branches.**"
    )
)
