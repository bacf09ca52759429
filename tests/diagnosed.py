"""Layers made by hand, each with one cause of its time by construction, and its control twin without it.

The machine of these tests does 100 GFLOP/s in float32, moves 80 GB/s up to 8 MB and 20 GB/s from 16 MB
on, and takes 2 µs a page fault. Half way between 80 and 20 is 50 GB/s, half way between 8 and 16 MB over
the logarithm: the knee is at 8·√2 = 11.3 MB. Its vectors hold 64 bytes, 16 float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import made_reports

from flopscope.diagnosis import verdicts
from flopscope.records import (
    Bandwidth,
    Convolution,
    Counterfactual,
    Evidence,
    Kernel,
    Machine,
    OpRow,
    Peak,
    Quality,
    Settings,
    Verdict,
)  # fmt: skip
from flopscope.reports import Report

US, MB, G = 1e-6, 1_000_000, 1e9
MACHINE = Machine(
    name="test",
    device="cpu",
    threads=1,
    peaks=(Peak("float32", 100 * G), Peak("bfloat16", 200 * G)),
    bandwidth=(
        Bandwidth(1 * MB, 80 * G),
        Bandwidth(8 * MB, 80 * G),
        Bandwidth(16 * MB, 20 * G),
        Bandwidth(64 * MB, 20 * G),
    ),
    fault_s=2 * US,
    vector_bytes=64,
    absent={"float16": "every product is converted"},
)
DEPTHWISE = Convolution(
    batch=1, in_channels=64, out_channels=64, groups=64, input_size=(56, 56), output_size=(56, 56),
    kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1), dtype="float32",
)  # fmt: skip
DENSE = replace(DEPTHWISE, groups=1)
PARTS = ("compute", "kernel", "overhead", "allocation", "memory")


@dataclass(frozen=True)
class Made:
    """A layer of 100 µs: its parts in µs, and what differs from a quiet, replayed one."""

    compute: float = 0
    kernel: float = 0
    overhead: float = 0
    allocation: float = 0
    memory: float = 0
    layer: Mapping[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)

    def report(self) -> Report:
        """It, after another layer that takes 1 ms and moves 20 MB: 1/11 of the time is the layer's."""
        parts = {f"{name}_s": getattr(self, name) * US for name in PARTS}
        floor = sum(parts.values())
        limit = max(PARTS, key=lambda name: getattr(self, name))
        shown = {"latency_s": floor, "latency_floor_s": floor, "limit": limit, "samples": 20, **parts}
        one = made_reports.layer("net.one", "Conv2d", "conv", **shown, ops=(1,))
        layer = replace(one, **self.layer)
        first = made_reports.layer("net.other", "Conv2d", "conv", latency_s=1e-3, ops=(0,))
        other = replace(first, **{"bytes_read": 20 * MB, "flops": 10**7, "macs": 5 * 10**6, **self.before})
        evidence = (Evidence(), Evidence(**{"form": "replayed", "op_calls": 1, **self.evidence}))
        return made_reports.report(other, layer, **{"machine": MACHINE, "evidence": evidence, **self.given})

    def findings(self) -> dict[str, Verdict]:
        """What is found of the layer, by code."""
        return {verdict.code: verdict for verdict in verdicts(self.report())[1]}


def moving(nbytes: int, **more: Any) -> dict[str, Any]:
    return {"bytes_read": nbytes // 2, "bytes_written": nbytes - nbytes // 2, **more}


def made(parts: str, **more: Any) -> Made:
    """A layer by its parts: "kernel 60 memory 40"."""
    words = parts.split()
    return Made(**dict(zip(words[::2], map(float, words[1::2]), strict=True)), **more)


def step(primitive: str, operand: str, microseconds: float, name: str = "jit:any") -> Kernel:
    return Kernel(primitive, name, microseconds * US, operand, "abcd -> aBcd16b", 800_000)


def other(code: str, latency: float, this: float, *, same: bool = True) -> Counterfactual:
    return Counterfactual(code, code, latency * US, this * US, same_function=same)


def silu(op: str) -> tuple[OpRow, ...]:
    row = OpRow(0, "aten::add.Tensor", "", 0, (), (), "float32", 0, 0, 0, 0, "rule")
    return (row, replace(row, index=1, op=op, flops=4000))


# 4 MB at 80 GB/s are 50 µs; 1 MFLOP at 100 GFLOP/s are 10 µs: 0.25 FLOP/B beside a ridge of 100/80 = 1.25.
LOW = {
    "layer": moving(4 * MB, flops=10**6),
    "evidence": {"compute_s": 10 * US, "memory_s": 50 * US, "least_s": 50 * US},
}
# The same bytes with 8 MFLOP, 80 µs: 2 FLOP/B, right of the ridge.
HIGH = {
    "layer": moving(4 * MB, flops=8 * 10**6),
    "evidence": {"compute_s": 80 * US, "memory_s": 50 * US, "least_s": 80 * US},
}
LOG = (step("reorder", "source", 20), step("convolution", "", 40), step("reorder", "result", 20))
PLAIN = (step("convolution", "", 80),)
# 160 kB at 80 GB/s are 2 µs; 4 µs of FLOPs on two threads.
TINY = {"layer": moving(160_000, flops=400_000), "given": {"settings": Settings(threads=2)}}
AFTER = {"before": {"kind": "conv", "output_shape": made_reports.SHAPE}}
BN = {"layer": moving(4 * MB, kind="batch_norm", type="BatchNorm2d"), **AFTER}

PAIRS: dict[str, tuple[Made, Made]] = {
    "low-intensity": (made("compute 10 memory 60 kernel 30", **LOW), made("compute 80 memory 20", **HIGH)),
    # 20 MB at 20 GB/s take 1000 µs, at 80 GB/s 250 µs; the control's 4 MB stay below the knee.
    "beyond-cache": (
        made("compute 100 memory 900", layer=moving(20 * MB, flops=10**7),
             evidence={"memory_s": 1000 * US, "compute_s": 100 * US, "working_set_bytes": 20 * MB}),
        made("compute 10 memory 60", **LOW),
    ),
    # 2 MB at 80 GB/s take 25 µs, at 20 GB/s 100 µs: 80 µs in place are explained by 1.5 times 100 µs.
    "cold-data": (
        made("memory 80 overhead 20", layer=moving(2 * MB, flops=1000),
             evidence={"memory_s": 25 * US, "compute_s": 0.0, "least_s": 25 * US}),
        made("memory 30 overhead 20", layer=moving(2 * MB, flops=1000),
             evidence={"memory_s": 25 * US, "compute_s": 0.0, "least_s": 25 * US}),
    ),
    # 1 MB at main memory's 20 GB/s would take 50 of the 100 µs; ridge there 100/20 = 5 FLOP/B, it has 4.
    "cache-resident": (
        made("compute 40 kernel 60", layer=moving(MB, flops=4 * 10**6), evidence={"backend": "Slow2d"}),
        made("compute 40 kernel 20 memory 40", layer=moving(MB, flops=4 * 10**6)),
    ),
    # 20 faults of 2 µs are 40 µs of 100; 4 of them 8 µs.
    "page-faults": (
        made("allocation 40 compute 60", evidence={"faults": 20.0}),
        made("allocation 8 compute 92", evidence={"faults": 4.0}),
    ),
    # 4 MB copied and nothing computed take all but the overhead; the control computes on what it moves.
    "copy-only": (
        made("memory 80 overhead 20", layer=moving(4 * MB),
             evidence={"copied_bytes": 4 * MB, "memory_s": 50 * US}),
        made("memory 80 overhead 20", layer=moving(4 * MB, flops=10**6),
             evidence={"copied_bytes": MB, "memory_s": 50 * US, "least_s": 50 * US}),
    ),
    "matrix-vector": (
        made("memory 90 overhead 10", layer=moving(4 * MB, kind="linear", param_bytes=4 * MB - 9000,
                                                   input_shape=(1, 1000), flops=2 * MB)),
        made("memory 90 overhead 10", layer=moving(4 * MB, kind="linear", param_bytes=4 * MB - 9000,
                                                   input_shape=(64, 1000), flops=128 * MB)),
    ),
    "no-gemm": (
        made("kernel 60 compute 40", layer=moving(1_600_000, flops=3_600_000),
             evidence={"convolution": DEPTHWISE}),
        made("kernel 60 compute 40", evidence={"convolution": replace(DEPTHWISE, groups=2)}),
    ),
    # 40 of 80 logged µs are reorders: half of 100 µs less 20 of overhead, 40 µs.
    "layout-reorder": (
        made("kernel 40 overhead 20 compute 40", evidence={"convolution": DENSE, "kernels": LOG}),
        made("kernel 40 overhead 20 compute 40", evidence={"convolution": DENSE, "kernels": PLAIN}),
    ),
    "weights-reordered": (
        made("kernel 50 compute 50",
             evidence={"convolution": DENSE, "kernels": (step("reorder", "weights", 20), *PLAIN)}),
        made("kernel 50 compute 50", evidence={"convolution": DENSE, "kernels": LOG}),
    ),
    # 24 channels in and out on 32 lanes: (24/32)² = 0.5625 hold one; 40 µs · (1/0.5625 − 1) = 31.1 µs.
    "channel-misaligned": (
        made("compute 40 kernel 60",
             evidence={"convolution": replace(DENSE, in_channels=24, out_channels=24), "compute_s": 40 * US}),
        made("compute 40 kernel 60",
             evidence={"convolution": replace(DENSE, in_channels=32, out_channels=32), "compute_s": 40 * US}),
    ),
    "fallback-kernel": (
        made("compute 40 kernel 60", evidence={"convolution": DENSE, "backend": "ConvBackend.Slow2d"}),
        made("compute 40 kernel 60", evidence={"convolution": DENSE, "backend": "ConvBackend.Mkldnn"}),
    ),
    # 7x7 with 3x3 and padding 1: (19/21)² = 0.819 of the taps are real; at 56x56 (166/168)² = 0.976.
    "padding-share": (
        made("compute 90 kernel 10", layer={"flops": 1000}, evidence={"executed_flops": 819}),
        made("compute 90 kernel 10", layer={"flops": 1000}, evidence={"executed_flops": 976}),
    ),
    "dispatch-overhead": (made("overhead 50 compute 50"), made("overhead 20 compute 80")),
    "too-small-for-threads": (
        made("overhead 50 kernel 10 compute 20", **TINY,
             evidence={"counterfactuals": (other("threads=1", 40, 80),)}),
        made("overhead 50 kernel 10 compute 20", **TINY,
             evidence={"counterfactuals": (other("threads=1", 79, 80),)}),
    ),
    # The environment of made_reports has 2 cores.
    "oversubscribed": (
        made("compute 60 kernel 40", given={"settings": Settings(threads=8)}),
        made("compute 60 kernel 40", given={"settings": Settings(threads=2)}),
    ),
    "slow-dtype": (
        made("kernel 100", layer={"dtype": "float16", "macs": 1000, "flops": 2000}),
        made("kernel 100", layer={"dtype": "bfloat16", "macs": 1000, "flops": 2000}),
    ),
    "transcendental": (
        made("kernel 60 memory 40", layer={"kind": "activation", "flops": 4000},
             given={"ops": silu("aten::silu_")}),
        made("kernel 60 memory 40", layer={"kind": "activation", "flops": 4000},
             given={"ops": silu("aten::relu")}),
    ),
    "unfused": (
        made("memory 80 overhead 20", **BN),
        made("memory 80 overhead 20", **{**BN, "before": {"kind": "pooling"}}),
    ),
    "disturbed": (
        made("compute 100", layer={"quality": "disturbed"}, given={"quality": Quality("disturbed")}),
        made("compute 100", layer={"quality": "good"}, given={"quality": Quality("disturbed")}),
    ),
    "unknown": (made("kernel 60 compute 40"), made("kernel 20 compute 80")),
}  # fmt: skip


def found(code: str) -> Verdict:
    """The finding of a cause."""
    return PAIRS[code][0].findings()[code]
