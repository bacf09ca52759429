"""One order on the command line, as JSON -> one measurement in this fresh process, as JSON on the last line.

    python benchmarks/accuracy_child.py '{"do": "profile", "model": "zoo:resnet50", "threads": 1}'

`accuracy.py` starts it; every measurement has a process, and with it an allocator, of its own.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

IMAGE = (1, 3, 224, 224)


def main() -> None:
    order = json.loads(sys.argv[1])
    work = {"profile": profiled, "scale": scaled, "roofs": roofs, "header": header, "calibrate": calibrated}
    print(json.dumps(work[order.pop("do")](**order)), flush=True)


class Stages:
    """A progress callback that adds up the seconds of each stage, by what its name begins with."""

    def __init__(self, first: str) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._since = first, time.perf_counter()

    def __call__(self, stage: str, _share: float) -> None:
        now = time.perf_counter()
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage.partition(":")[0], now


def profiled(model: str, roofs: bool = False, **keywords: Any) -> dict[str, Any]:
    """Load a model by its address and profile it; with `roofs` as a user does, else its latencies alone."""
    start, stages = time.perf_counter(), Stages("import")
    import torch  # noqa: F401

    import flopscope

    stages("load", 0.0)
    net = flopscope.load_model(model)
    if not roofs:
        keywords["machine"] = False
    report = flopscope.profile(net, IMAGE, progress=stages, **keywords)
    stages("end", 1.0)
    return {**_told(report), "model": model, "stages": stages.seconds, "wall_s": time.perf_counter() - start}


def _told(report: Any) -> dict[str, Any]:
    """What the benchmark wants to know of a report."""
    bare, total = report.whole.samples, report.total
    calls, leaves = _module_calls(report.tree)
    sizes = [seen.working_set_bytes for seen in report.evidence] or [None] * len(report.layers)
    rows = {row.name: row.latency_s for row in report.rows_of_the_whole}
    return {
        "model": report.model,
        "threads": report.environment.threads,
        "rounds": len(bare),
        "stop_reason": report.environment.other.get("stop_reason"),
        "page_faults": _number(report.environment.other.get("page_faults_per_pass")),
        "quality": report.quality.word,
        "reasons": list(report.quality.reasons),
        "warnings": list(report.warnings),
        "notes": list(report.notes),
        "bare_median_s": total.latency_s,
        "bare_fast_mean_s": fast_mean(bare),
        "bare_floor_s": total.latency_floor_s,
        "bare_interval_s": [total.latency_low_s, total.latency_high_s],
        "rows_s": rows,
        "layers_sum_s": sum(layer.latency_s or 0.0 for layer in report.layers),
        "identity_error_s": total.latency_s - sum(rows.values()),
        "module_calls": calls,
        "leaf_calls": leaves,
        "has_roofs": report.machine is not None,
        "layers": [
            {
                "path": layer.path,
                "type": layer.type,
                "kind": layer.kind,
                "latency_s": layer.latency_s,
                "floor_s": layer.latency_floor_s,
                "interval_s": [layer.latency_low_s, layer.latency_high_s],
                "quality": layer.quality,
                "working_set_bytes": size,
            }
            for layer, size in zip(report.layers, sizes, strict=True)
        ],
    }


def _module_calls(tree: Any) -> tuple[int, int]:
    """Calls of modules, and of those without modules inside; a module's rows follow it, one level deeper."""
    following = [branch.depth for branch in tree[1:]] + [0]
    leaves = [branch.calls for branch, after in zip(tree, following, strict=True) if after <= branch.depth]
    return sum(branch.calls for branch in tree), sum(leaves)


def fast_mean(seconds: Any) -> float:
    """Mean over the fastest half."""
    fastest = sorted(seconds)[: (len(seconds) + 1) // 2]
    return sum(fastest) / len(fastest)


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


# --------------------------------------------------------------------------- models of odd sizes


def scaled(case: str, **keywords: Any) -> dict[str, Any]:
    """Profile a made model: "chain:N", "repeated:N" (one layer N times) or "slow:SECONDS"."""
    import torch

    import flopscope

    net = _made(case)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stages, start = Stages("import"), time.perf_counter()
    report = flopscope.profile(net, (1, 32), progress=stages, **keywords)
    profile_s = time.perf_counter() - start
    stages("end", 1.0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    with torch.inference_mode():
        x, start = torch.zeros(1, 32), time.perf_counter()
        net(x)
        forward_s = time.perf_counter() - start
    start = time.perf_counter()
    shown = len(str(report))
    return {
        **{name: value for name, value in _told(report).items() if name != "layers"},
        "layers_count": len(report.layers),
        "stages": stages.seconds,
        "profile_s": profile_s,
        "forward_s": forward_s,
        "table_s": time.perf_counter() - start,
        "table_characters": shown,
        "grown_bytes": grown * (1 if sys.platform == "darwin" else 1024),
        "params_bytes": report.param_bytes,
        "samples_bytes": 8 * len(report.whole.samples) * len(report.layers),
    }


def _made(case: str) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    kind, _, number = case.partition(":")
    if kind == "chain":
        return nn.Sequential(*(nn.ReLU() if place % 2 else nn.Linear(32, 32) for place in range(int(number))))

    class Repeated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(32, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(int(number)):
                x = self.layer(x)
            return x

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(32, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            end = time.perf_counter() + float(number)
            while time.perf_counter() < end:
                pass
            return self.layer(x)

    return Repeated() if kind == "repeated" else Slow()


# --------------------------------------------------------------------------- the machine


def roofs(threads: int, passes: int | None = None) -> dict[str, Any]:
    """Calibrate once; keep nothing."""
    from flopscope import machines
    from flopscope.errors import MeasurementError
    from flopscope.render.machines import knee_bytes

    start = time.perf_counter()
    found = machines.measure("cpu", threads, **({} if passes is None else {"passes": passes}))
    refusal = None
    try:
        machines.require_good(found)
    except MeasurementError as reason:
        refusal = str(reason)
    knee = knee_bytes(found) or 0
    return {
        "seconds": time.perf_counter() - start,
        "quality": found.quality,
        "refusal": refusal,
        "passes": found.passes,
        "peak": {peak.dtype: peak.flops_per_s for peak in found.peaks},
        "bandwidth": {str(point.working_set_bytes): point.bytes_per_s for point in found.bandwidth},
        "knee_bytes": knee,
        "overhead": dict(found.overheads_s),
        "fault": found.fault_s,
    }


def calibrated(threads: int) -> dict[str, Any]:
    """Make sure that the roofs are kept, as a first `profile` would; or say why they are not to be had."""
    import flopscope

    try:
        return {"quality": flopscope.machine(threads=threads).quality}
    except flopscope.MeasurementError as reason:
        return {"quality": "refused", "reason": str(reason)}


def header() -> dict[str, Any]:
    """What is needed to run the benchmark again and compare."""
    from flopscope.environment import environment

    here = dataclasses.asdict(environment())
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.exists():
        here["other"]["governor"] = governor.read_text(encoding="ascii").strip()
    probe = [_product() for _ in range(50)]
    here["other"]["clock_probe_s"] = f"{median(probe):.3g}"
    return here


def _product() -> float:
    """Seconds of a fixed matrix product: the processor's pace at the moment."""
    import torch

    torch.set_num_threads(1)
    left = torch.ones(128, 128)
    start = time.perf_counter()
    torch.mm(left, left)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
