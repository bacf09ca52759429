"""The hall: every noun of flopscope, as frozen records of plain Python values.

No tensor, module or display string lives here. Counts are `int` in base units, times `float` seconds,
what is unknown `None`. In order: what was run, what it costs, what it takes, what the machine can do,
why it takes that, what is reported.
"""

from __future__ import annotations

from .comparisons import Match, Ratio, Refused, Regression, Rewrote, Side
from .findings import (
    Checkup,
    Convolution,
    Counterfactual,
    Evidence,
    Fact,
    Kernel,
    Number,
    Quality,
    Replay,
    Verdict,
)
from .machines import Bandwidth, Machine, Peak
from .measurements import Latency, Timings, Witnesses, percentile
from .prices import KINDS, Block, Cost, MemoryPeak, OpCost
from .rows import Coverage, Environment, Layer, OpRow, Phase, Settings, Violation, WholeRow, label_of
from .runs import Input, Module, ModuleCall, OpCall, Parameter, Shape, Storage, TensorSpec, Trace

__all__ = [
    "KINDS",
    "Bandwidth",
    "Block",
    "Checkup",
    "Convolution",
    "Cost",
    "Counterfactual",
    "Coverage",
    "Environment",
    "Evidence",
    "Fact",
    "Input",
    "Kernel",
    "Latency",
    "Layer",
    "Machine",
    "Match",
    "MemoryPeak",
    "Module",
    "ModuleCall",
    "Number",
    "OpCall",
    "OpCost",
    "OpRow",
    "Parameter",
    "Peak",
    "Phase",
    "Quality",
    "Ratio",
    "Refused",
    "Regression",
    "Replay",
    "Rewrote",
    "Settings",
    "Shape",
    "Side",
    "Storage",
    "TensorSpec",
    "Timings",
    "Trace",
    "Verdict",
    "Violation",
    "WholeRow",
    "Witnesses",
    "label_of",
    "percentile",
]
