"""Why a layer takes what it takes: what was tried out, what it shows, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .runs import Shape

Number = float | int | str | None


@dataclass(frozen=True, slots=True)
class Quality:
    """How far latencies can be trusted: "good", "disturbed" or "void"; why, and what to do."""

    word: str
    reasons: tuple[str, ...] = ()
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Checkup:
    """One thing about a machine that bears on timing: "good", "doubtful", "bad" or "unknown".

    `found` is what was seen, in a sentence with its numbers, or which source is missing; `remedy`
    what to change, "" where nothing is to be.
    """

    name: str
    word: str
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Convolution:
    """The geometry of a convolution; sizes without batch and channels, `kernel` to `dilation` alike."""

    batch: int
    in_channels: int
    out_channels: int
    groups: int
    input_size: Shape
    output_size: Shape
    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    dtype: str
    channels_last: bool = False
    transposed: bool = False
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Kernel:
    """One step of a library call, as the library's own log tells it: a convolution, a reorder.

    `operand` says of a reorder what is laid out anew: "source", "weights" or "result"; `layout` from
    what to what ("abcd -> aBcd16b"); `nbytes` is the size of that tensor, padding left out.
    """

    primitive: str
    implementation: str
    latency_s: float
    operand: str = ""
    layout: str = ""
    nbytes: int | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """One operator run alone, over and over, its data at hand.

    `hot_s` is the 10th percentile of a call, `hot_faults` its page faults; `tiny_s` that of its tiny twin:
    the same operator, channels, groups, kernel and format at the smallest size, which costs what
    every call of it costs; `tiny_cold_s` is the twin's after other work has taken the caches, as in a
    network. `backend` is the convolution backend that torch selects; `kernels` the steps of
    one call, where a log of them was taken.
    """

    hot_s: float
    hot_faults: float
    tiny_s: float | None
    runs: int
    backend: str | None = None
    kernels: tuple[Kernel, ...] = ()
    tiny_cold_s: float | None = None


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The same layer done otherwise, measured beside it in one run: `latency_s` against `this_s`, in medians.

    `low` and `high` are an interval of the ratio `latency_s / this_s`. `macs` and `flops` are those of the
    other way, `this_macs` and `this_flops` those of what it was measured beside: of one call of the layer,
    or of its costliest operator, which `subject` then names. With `same_function` it computes the
    same. `note` holds the conditions that matter.
    """

    code: str
    title: str
    latency_s: float
    this_s: float
    macs: int | None = None
    flops: int | None = None
    same_function: bool = False
    low: float | None = None
    high: float | None = None
    note: str = ""
    this_macs: int | None = None
    this_flops: int | None = None
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one layer besides its `Layer`; parallel to `Report.layers`, all calls together.

    `form` says how its time was taken apart: "replayed" (hot replays and tiny twins), "cheap" (by roofs
    alone: what is called kernel is unexplained) or "none". `compute_s` and `memory_s` are the least times by
    the roofs; `least_s` adds up the greater of the two of each op; `executed_flops` leaves out taps on
    padding, and scores that a causal mask hides; `idle_s` is the part of the floor in which no
    operator ran; `copied_bytes` what was moved without being computed on. `clamped` is true where
    the parts had to be cut to fit.
    """

    form: str = "none"
    faults: float | None = None
    waits: float | None = None
    idle_s: float | None = None
    hot_s: float | None = None
    overhead_s: float | None = None
    compute_s: float | None = None
    memory_s: float | None = None
    working_set_bytes: int | None = None
    executed_flops: int | None = None
    copied_bytes: int = 0
    op_calls: int = 0
    convolution: Convolution | None = None
    backend: str | None = None
    kernels: tuple[Kernel, ...] = ()
    counterfactuals: tuple[Counterfactual, ...] = ()
    clamped: bool = False
    least_s: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding: its stable code, the seconds that it accounts for where that is known, its numbers.

    `remedy` names what would help: a rewrite ("channels-last"), or "" where nothing is known to.
    """

    code: str
    seconds: float | None = None
    numbers: Mapping[str, Number] = field(default_factory=dict)
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of evidence: a code, its numbers, and the seconds that they come to."""

    code: str
    seconds: float | None = None
    numbers: Mapping[str, Number] = field(default_factory=dict)
