"""Reports made by hand from ten-line records, for the tests of reports and of their rendering."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flopscope.records import (
    Bandwidth,
    Convolution,
    Counterfactual,
    Coverage,
    Environment,
    Evidence,
    Kernel,
    Latency,
    Layer,
    Machine,
    MemoryPeak,
    OpRow,
    Peak,
    Quality,
    Settings,
    WholeRow,
)
from flopscope.reports import Report

SHAPE = (1, 4, 2, 2)


def layer(path: str, class_name: str, kind: str, **given: Any) -> Layer:
    """A layer with nothing but what is given."""
    counts = dict.fromkeys(("params", "param_bytes", "macs", "flops", "bytes_read", "bytes_written"), 0)
    shown: dict[str, Any] = {"calls": 1, "input_shape": SHAPE, "output_shape": SHAPE, "dtype": "float32"}
    return Layer(path=path, type=class_name, kind=kind, **{**counts, **shown, **given})


def conv(**given: Any) -> Layer:
    return layer(
        "a.conv", "Conv2d", "conv", params=40, param_bytes=160, macs=300, flops=600,
        bytes_read=60, bytes_written=40, depth=2, detail="3x3", ops=(0,), **given,
    )  # fmt: skip


def depthwise(**given: Any) -> Layer:
    return layer(
        "a.dw", "Conv2d", "depthwise_conv", params=10, param_bytes=40, macs=100, flops=200,
        bytes_read=120, bytes_written=80, depth=2, detail="3x3 g4", ops=(1,), **given,
    )  # fmt: skip


def add(**given: Any) -> Layer:
    return layer("a", "(ops)", "elementwise", flops=200, bytes_read=200, bytes_written=100, **given)


def report(*layers: Layer, **given: Any) -> Report:
    """A report of these layers; without any, of conv, depthwise and add: 1000 FLOPs, 10 µs."""
    layers = layers or (conv(latency_s=2e-6), depthwise(latency_s=6e-6), add(latency_s=2e-6))
    names = ("params", "param_bytes", "macs", "flops", "bytes_read", "bytes_written")
    sums = {name: sum(getattr(item, name) for item in layers) for name in names}
    measured = any(item.latency_s is not None for item in layers)
    total = layer("", "Net", "other", **sums, latency_s=11e-6 if measured else None)
    op = OpRow(0, "aten::convolution", "a.conv", 2, (SHAPE, (4, 4, 3, 3)), (SHAPE,), "float32", 300, 600, 60,
               40, "formula")  # fmt: skip
    dw = replace(op, index=1, path="a.dw", macs=100, flops=200, bytes_read=120, bytes_written=80)
    plus = OpRow(2, "aten::add.Tensor", "a", 1, (SHAPE, SHAPE), (SHAPE,), "float32", 0, 200, 200, 100, "rule")
    known: dict[str, Any] = {
        "model": "net.py:Net",
        "layers": layers,
        "tree": (total, replace(total, path="a", depth=1), *layers),
        "ops": (op, dw, plus),
        "total": total,
        "conventions": {"macs": 400, "flops": 1000, "fvcore_like": 410},
        "uncosted": {},
        "coverage": Coverage(1.0, 1.0, 1.0 if measured else None),
        "peak": MemoryPeak(4096, 2, "a", (("input", 1024), ("aten::add.Tensor", 3072))),
        "param_bytes": 200,
        "buffer_bytes": 16,
        "environment": Environment(
            "0.1.0",
            "3.11.7",
            "2.14.1",
            "Linux",
            "Some CPU",
            2,
            "AVX512",
            1,
            "glibc",
            "2025-01-01",
            {"a": "b"},
        ),
        "settings": Settings(inputs="1x4x2x2"),
        "warnings": ("warning: one",),
        "notes": ("note: two",),
        "route": "meta",
    }
    if measured:
        known["whole"] = Latency((12e-6, 11e-6, 11e-6))
        known["rows_of_the_whole"] = (WholeRow("layers", 10e-6), WholeRow("interference", 1e-6))
    return Report(**{**known, **given})


def parts(compute: float, kernel: float, overhead: float, allocation: float, memory: float) -> dict[str, Any]:
    """Five parts given in microseconds, as fields of a layer, with their sum as its floor and latency."""
    given = {
        "compute": compute,
        "kernel": kernel,
        "overhead": overhead,
        "allocation": allocation,
        "memory": memory,
    }
    seconds = {f"{name}_s": 1e-6 * size for name, size in given.items()}
    known = {"latency_s": sum(seconds.values()), "latency_floor_s": sum(seconds.values())}
    return {**known, **seconds, "limit": max(given, key=lambda name: given[name])}


def roofs(**given: Any) -> Machine:
    """100 GFLOP/s in float32; 80 GB/s at 1 MB, which is cache, 20 GB/s at 256 MB, which is DRAM."""
    curve = (Bandwidth(1000, 5e10), Bandwidth(1_000_000, 8e10, 0.02), Bandwidth(256_000_000, 2e10))
    known: dict[str, Any] = {
        "peaks": (Peak("float32", 1e11, 0.02, "matmul"),),
        "bandwidth": curve,
        "overheads_s": {"op": 1e-6, "convolution": 3e-5},
        "fault_s": 1e-6,
        "vector_bytes": 64,
        "cores": 2,
        "fingerprint": "abc",
        "passes": 3,
        "absent": {"float16": "no fast path on this processor"},
        "warnings": ("passes disagree",),
    }
    return Machine("Some CPU", "cpu", 1, **{**known, **given})


def evidence(**given: Any) -> Evidence:
    """Evidence of a replayed depthwise layer with all that there can be."""
    shape = Convolution(1, 4, 4, 4, (2, 2), (2, 2), (3, 3), (1, 1), (1, 1), (1, 1), "float32")
    other = Counterfactual(
        "channels-last", "the same in channels_last", 3e-6, 6e-6, 100, 200, True, 2e-6, 4e-6
    )
    kernel = Kernel("reorder", "jit:uni", 1e-6, "source", "abcd -> aBcd16b", 128)
    known: dict[str, Any] = {
        "form": "replayed",
        "faults": 2.5,
        "waits": 0.0,
        "idle_s": 1e-7,
        "hot_s": 4e-6,
        "overhead_s": 2e-6,
        "compute_s": 1e-6,
        "memory_s": 1e-6,
        "working_set_bytes": 200,
        "executed_flops": 180,
        "op_calls": 1,
        "convolution": shape,
        "backend": "Mkldnn",
        "kernels": (kernel,),
        "counterfactuals": (other,),
    }
    return Evidence(**{**known, **given})


def explained(**given: Any) -> Report:
    """The report of `report()` with latencies taken apart: 2 + 6 + 2 µs, roofs, verdicts, all good.

    In µs: compute 1.4 + 0.5 + 0 = 1.9, kernel 0.2 + 3 + 0 = 3.2, overhead 0.2 + 2 + 0.5 = 2.7,
    allocation 0 + 0.25 + 0.25 = 0.5, memory 0.2 + 0.25 + 1.25 = 1.7; together 10.
    """
    layers = (
        conv(**parts(1.4, 0.2, 0.2, 0, 0.2), quality="good"),
        depthwise(
            **parts(0.5, 3, 2, 0.25, 0.25),
            verdicts=("layout-reorder", "no-gemm", "dispatch-overhead"),
            quality="good",
        ),
        add(**parts(0, 0, 0.5, 0.25, 1.25), verdicts=("low-intensity",), quality="good"),
    )
    known: dict[str, Any] = {
        "machine": roofs(),
        "quality": Quality("good", ("no interference seen",)),
        "evidence": (evidence(), evidence(), evidence(convolution=None, kernels=(), counterfactuals=())),
    }
    return report(*(given.pop("layers", layers)), **{**known, **given})
