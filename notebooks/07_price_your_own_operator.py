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
# # What does my own operator cost, if no tool has heard of it?
#
# Custom operators (a scan in CUDA, a Triton kernel, a C++ extension) are where FLOP counters go wrong
# without a word: what they do not know, they count as nothing. This notebook writes such an operator,
# sees what becomes of it, and gives it a price.

# %%
import os

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown, display
from torch import Tensor, nn

import flopscope
from flopscope.costs import Work

EFFORT = os.environ.get("FLOPSCOPE_EFFORT", "normal")  # "quick" for a trial, "thorough" for a paper
QUICK = EFFORT == "quick"
pd.options.display.float_format = lambda x: f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"
plt.rcParams["figure.dpi"] = 110

# %% [markdown]
# ## An operator
#
# A linear recurrence, as in state-space models: *y_t = a · y_{t−1} + x_t*, for every channel. PyTorch
# has no such operator, so we register one with `torch.library`. The second function gives the
# output's shape without computing, which is all that counting needs.


# %%
@torch.library.custom_op("notebook::scan", mutates_args=())
def scan(x: Tensor, decay: Tensor) -> Tensor:
    """x: (batch, steps, channels), decay: (channels) -> the shape of x."""
    state, states = torch.zeros_like(x[:, 0]), []
    for step in range(x.shape[1]):
        state = torch.addcmul(x[:, step], decay, state)
        states.append(state)
    return torch.stack(states, dim=1)


@scan.register_fake
def _(x: Tensor, decay: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty_like(x)


class Scan(nn.Module):
    """The operator with its decay as a parameter."""

    def __init__(self, channels):
        super().__init__()
        self.decay = nn.Parameter(torch.full((channels,), 0.9))

    def forward(self, x):
        return scan(x, self.decay)


STEPS, WIDTH, INNER = 256, 64, 128
model = nn.Sequential()
model.add_module("widen", nn.Linear(WIDTH, INNER, bias=False))
model.add_module("scan", Scan(INNER))
model.add_module("narrow", nn.Linear(INNER, WIDTH, bias=False))

# %% [markdown]
# ## Not priced, and said so

# %%
before = flopscope.count(model, (1, STEPS, WIDTH))
print(before)

# %%
assert dict(before.uncosted) == {"notebook::scan": 1}
assert before.total.macs == 2 * STEPS * WIDTH * INNER == 4_194_304  # the linear layers alone
assert before.coverage.ops < 1
coverage = before.coverage
print(f"priced: {100 * coverage.ops:.0f} % of the operators, {100 * coverage.bytes:.0f} % of the bytes")

# %% [markdown]
# Totals carry a `≥`, the operator is named, and `strict=True` would make it an error. Its bytes are
# known nevertheless: what goes in and what comes out has a shape. Other counters say nothing at all:

# %%
peers = flopscope.crosscheck(model, (1, STEPS, WIDTH))
peers[["path", "type", "macs", "fvcore_macs", "torch_macs", "note"]]

# %% [markdown]
# ## Its price
#
# A price is a function of one call, with the shapes of its inputs, that gives the MACs. Each step
# multiplies and adds once for each channel: *batch · steps · channels* MACs, here 1 · 256 · 128 =
# 32,768. Bytes stay as they are: the default reads each input once and writes each output once, *4
# (256 · 128 + 128) + 4 · 256 · 128 = 262,656*.


# %%
def price_of_scan(op):
    """MACs of notebook::scan: one for each element of its input."""
    batch, steps, channels = op.inputs[0].shape
    return batch * steps * channels


flopscope.register_formula("notebook::scan", price_of_scan)

after = flopscope.count(model, (1, STEPS, WIDTH))
layer = after.layers[1]
assert not after.uncosted
assert layer.path == "scan"
assert layer.macs == 1 * 256 * 128 == 32_768
assert layer.flops == 2 * 32_768 == 65_536
assert layer.bytes_read + layer.bytes_written == 4 * (256 * 128 + 128) + 4 * 256 * 128 == 262_656
assert after.total.macs == 4_194_304 + 32_768 == 4_227_072
after.ops_df[["op", "path", "macs", "flops", "bytes_read", "bytes_written", "priced_by"]]

# %% [markdown]
# ## When the bytes are others
#
# The default reads every input whole. An operator that picks a few rows of a large table does not;
# then return a `Work`, which has fields for other FLOPs and for bytes. `None` in a field leaves the
# default.


# %%
@torch.library.custom_op("notebook::pick", mutates_args=())
def pick(table: Tensor, rows: Tensor) -> Tensor:
    """Some rows of a table, scaled by two."""
    return 2 * table[rows]


@pick.register_fake
def _(table: Tensor, rows: Tensor) -> Tensor:
    return table.new_empty(rows.shape[0], table.shape[1])


def price_of_pick(op):
    """One multiplication for each output element; reads the rows that it picks and their numbers."""
    picked = op.outputs[0]
    read = picked.distinct_bytes + op.inputs[1].distinct_bytes
    return Work(other_flops=picked.numel, bytes_read=read)


class Pick(nn.Module):
    """A table of 10,000 rows of 64."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(10_000, 64))

    def forward(self, rows):
        return pick(self.table, rows)


rows = flopscope.Spec((32,), "int64", high=10_000)
unpriced = flopscope.count(Pick(), rows).layers[0]
flopscope.register_formula("notebook::pick", price_of_pick)
priced = flopscope.count(Pick(), rows).layers[0]
assert unpriced.bytes_read == 4 * 10_000 * 64 + 8 * 32 == 2_560_256  # the whole table
assert priced.bytes_read == 4 * 32 * 64 + 8 * 32 == 8_448  # 32 rows of it
assert (priced.macs, priced.flops) == (0, 32 * 64)

# %% [markdown]
# A package that ships operators can register their prices itself, by an entry point in the group
# `flopscope.formulas`; its users then need not do anything. Two formulas for one operator are
# refused, and the message names the holder of the first.
#
# ## And its time
#
# The price says how much work there is, and the clock how long it takes. Together they say whether an
# operator is worth being written anew: this one is a loop in Python.

# %%
report = flopscope.profile(
    model, (1, STEPS, WIDTH), threads=1, effort=EFFORT, max_seconds=0.5 if QUICK else None
)
scanned = next(layer for layer in report.df.itertuples() if layer.path == "scan")
# A wide ordering: 256 steps of Python for 32,768 of 4,227,072 MACs, 0.8 %.
assert scanned.latency_share > 2 * scanned.flops_share
print(report.why("scan"))

# %% [markdown]
# ## The answer

# %%
answer = pd.DataFrame(
    {
        "MACs, not priced": [f"{layer.macs:,}" for layer in before.layers],
        "MACs, priced": [f"{layer.macs:,}" for layer in report.layers],
        "kB moved": [(layer.bytes_read + layer.bytes_written) / 1e3 for layer in report.layers],
        "FLOPs %": list(100 * report.df["flops_share"].astype(float)),
        "time %": list(100 * report.df["latency_share"].astype(float)),
    },
    index=[layer.path or "(the model itself)" for layer in report.layers],
)
answer

# %%
figure, axes = plt.subplots(figsize=(7.5, 1.8))
for shift, column, colour in ((0.2, "FLOPs %", "#4477aa"), (-0.2, "time %", "#cc6677")):
    places = [row + shift for row in range(len(answer))]
    axes.barh(places, answer[column], 0.36, color=colour, label=column.replace(" %", ""))
axes.set_yticks(range(len(answer)), answer.index)
axes.invert_yaxis()
axes.set_xlabel("%")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, fontsize=8)
plt.show()

# %%
environment = report.environment
print(
    f"{environment.cpu}, {environment.threads} thread; torch {environment.torch}, "
    f"flopscope {environment.flopscope}; timing {report.quality.word}, effort {EFFORT}; "
    f"{environment.date[:10]}"
)
display(
    Markdown(
        "**An operator without a price is named and not hidden in a zero; a function of two lines prices "
        f"it, at {layer.macs:,} MACs here, and the clock tells what no count does: with "
        f"{scanned.flops_share:.1%} of the FLOPs it takes {scanned.latency_share:.0%} of the time.**"
    )
)
