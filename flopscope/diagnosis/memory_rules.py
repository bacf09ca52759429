"""Case -> Verdict: where bytes, pages and copies take the time.

In the conditions t is the layer's undisturbed time, F its FLOPs, B its bytes, P the machine's peak for its
dtype, W(s) the machine's bandwidth over a working set of s bytes, ws the layer's working set.
"""

from __future__ import annotations

from math import prod

from flopscope.diagnosis.cases import Case, far_bytes_per_s
from flopscope.diagnosis.registry import rule
from flopscope.records import Verdict

MATERIAL = 0.15
"""A cause is named where it accounts for this share of a layer's time."""
LARGE = 0.3
"""A part of a layer's time is large from this share of it."""
FROM_FAR = 4.0
"""Each line that is fetched may push out one that must be written first, twice the traffic; and lines that
are not fetched in the order of a plain stream wait for memory's latency besides, for as long again."""
NEARER = 2.0
"""A bandwidth that is so many times main memory's comes from a cache, at least in part."""
FEW_ROWS = 4
"""A product of so few rows is a matrix times a vector: each weight is used as often."""


@rule("low-intensity")
def low_intensity(case: Case) -> Verdict | None:
    """Fire where F/B < P/W(ws), B/W(ws) ≥ 0.15·t, memory ≥ 0.3·t, F > 0."""
    peak, bandwidth = _peak(case), _bandwidth(case)
    if not peak or not bandwidth or not case.flops or not case.nbytes:
        return None
    intensity, ridge = case.flops / case.nbytes, peak / bandwidth
    least = case.nbytes / bandwidth
    if intensity >= ridge or case.share(least) < MATERIAL or case.share(case.part("memory")) < LARGE:
        return None
    seconds = min(least, case.part("memory"))
    numbers = {"flop_per_byte": intensity, "ridge_flop_per_byte": ridge, "working_set_bytes": _ws(case)}
    return Verdict("low-intensity", seconds, {**numbers, "share": case.share(seconds)})


@rule("beyond-cache", explains=("memory",))
def beyond_cache(case: Case) -> Verdict | None:
    """Fire where ws > knee of W, memory ≥ 0.3·t, B/W(ws) − B/max W ≥ 0.15·t."""
    knee, bandwidth = _knee(case), _bandwidth(case)
    if case.machine is None or not knee or not bandwidth or _ws(case) <= knee:
        return None
    best = max(point.bytes_per_s for point in case.machine.bandwidth)
    seconds = min(case.nbytes / bandwidth - case.nbytes / best, case.part("memory"))
    if case.share(case.part("memory")) < LARGE or case.share(seconds) < MATERIAL:
        return None
    numbers = {"working_set_bytes": _ws(case), "knee_bytes": knee, "bytes_per_s": bandwidth}
    return Verdict(
        "beyond-cache", seconds, {**numbers, "best_bytes_per_s": best, "share": case.share(seconds)}
    )


@rule("cold-data", explains=("memory",))
def cold_data(case: Case) -> Verdict | None:
    """Replayed; W(ws) ≥ 2·W(main memory), knee < bytes of the whole run; memory − max(0, B/W(ws) − F/P) ≥
    0.25·t, and memory ≤ 4·B/W(main memory): what the layer takes in place and not when its data are at hand.
    """
    knee, bandwidth, far = _knee(case), _bandwidth(case), far_bytes_per_s(case.machine)
    if not case.replayed or not knee or not bandwidth or not far or bandwidth < NEARER * far:
        return None
    excess = case.part("memory") - expected_memory_s(case)
    whole = case.total.bytes_read + case.total.bytes_written
    if whole <= knee or case.share(excess) < 0.25 or case.part("memory") > FROM_FAR * case.nbytes / far:
        return None
    return Verdict(
        "cold-data",
        excess,
        {
            "memory_s": case.part("memory"),
            "near_s": case.nbytes / bandwidth,
            "far_s": case.nbytes / far,
            "nbytes": case.nbytes,
            "share": case.share(excess),
        },
    )


@rule("cache-resident", informative=True)
def cache_resident(case: Case) -> Verdict | None:
    """Fire where ws ≤ knee, F/B < P/W(main memory), B/W(main memory) ≥ 0.25·t, memory < 0.25·t; and the
    parts come from a replay, or B/t > W(main memory). A roofline of main memory alone would blame memory.
    """
    knee, far, peak = _knee(case), far_bytes_per_s(case.machine), _peak(case)
    if not knee or not far or not peak or not case.nbytes or not case.seconds or _ws(case) > knee:
        return None
    achieved, blamed = case.nbytes / case.seconds, case.nbytes / far
    shown = case.replayed or achieved > far
    if not shown or case.flops / case.nbytes >= peak / far or case.share(blamed) < 0.25:
        return None
    if case.share(case.part("memory")) >= 0.25:
        return None
    numbers = {"working_set_bytes": _ws(case), "knee_bytes": knee, "far_s": blamed}
    numbers |= {
        "bytes_per_s": achieved,
        "far_bytes_per_s": far,
        "memory_share": case.share(case.part("memory")),
    }
    return Verdict("cache-resident", None, numbers)


@rule("page-faults")
def page_faults(case: Case) -> Verdict | None:
    """Fire where allocation ≥ 0.15·t, where allocation = min(t, faults × price of one)."""
    faults, machine = case.evidence.faults, case.machine
    if not faults or machine is None or machine.fault_s is None:
        return None
    seconds = case.layer.allocation_s
    seconds = min(faults * machine.fault_s, case.seconds) if seconds is None else seconds
    if case.share(seconds) < MATERIAL:
        return None
    numbers = {"faults": faults, "fault_s": machine.fault_s, "nbytes": faults * machine.page_bytes}
    numbers |= {"share": case.share(seconds)}
    return Verdict(
        "page-faults", seconds, {**numbers, "allocator": case.environment.allocator}, "pooled-allocator"
    )


@rule("copy-only", explains=("kernel", "memory"))
def copy_only(case: Case) -> Verdict | None:
    """Copied bytes ≥ 0.5·B, and copying takes ≥ 0.15·t: t − overhead − allocation where (nearly) all
    bytes are copied and nothing is computed, else (B/W(ws)) × copied/B.
    """
    copied = min(case.evidence.copied_bytes, case.nbytes)
    if not copied or copied < 0.5 * case.nbytes:
        return None
    if not case.layer.flops and copied >= 0.9 * case.nbytes:
        seconds = max(0.0, case.seconds - case.part("overhead") - case.part("allocation"))
    else:
        bandwidth = _bandwidth(case)
        seconds = min(copied / bandwidth, case.seconds) if bandwidth else 0.0
    if case.share(seconds) < MATERIAL:
        return None
    numbers = {"copied_bytes": copied, "nbytes": case.nbytes, "share": case.share(seconds)}
    remedy = "slicing" if case.layer.kind == "pconv" else ""
    return Verdict("copy-only", seconds, {**numbers, "ops": _copies(case)}, remedy)


@rule("matrix-vector", explains=("kernel", "memory"))
def matrix_vector(case: Case) -> Verdict | None:
    """Rows of the product ≤ 4, weights ≥ 0.5·B, memory + kernel ≥ 0.3·t, with that of a convolution's
    overhead which its weights take: each weight is used `rows` times.
    """
    rows = _rows(case)
    seconds = case.part("memory") + case.part("kernel") + case.weights_s
    weights = case.layer.param_bytes * case.layer.calls
    if rows is None or rows > FEW_ROWS or weights < 0.5 * case.nbytes or case.share(seconds) < LARGE:
        return None
    numbers = {"rows": rows, "param_bytes": case.layer.param_bytes, "share": case.share(seconds)}
    return Verdict("matrix-vector", seconds, numbers, "batch=N")


def expected_memory_s(case: Case) -> float:
    """What the memory part comes to at the measured bandwidth, compute having been taken off before."""
    return max(0.0, case.least_s - (case.evidence.compute_s or 0.0))


def _ws(case: Case) -> int:
    return case.working_set_bytes


def _bandwidth(case: Case) -> float | None:
    return case.machine.bytes_per_s(case.working_set_bytes) if case.machine else None


def _peak(case: Case) -> float | None:
    return case.machine.peak(case.layer.dtype) if case.machine else None


def _rows(case: Case) -> int | None:
    """Rows of the layer's matrix product; None where it is none with weights."""
    convolution = case.evidence.convolution
    if convolution is not None:
        return convolution.batch * prod(convolution.output_size) if convolution.groups == 1 else None
    shape = case.layer.input_shape
    return prod(shape[:-1]) if case.layer.kind == "linear" and shape else None


def _copies(case: Case) -> str:
    """The operators that moved most without computing, at most three."""
    moved = {op.op: op.bytes_read + op.bytes_written for op in case.ops if not op.flops}
    named = sorted((op for op in moved if moved[op]), key=lambda op: -moved[op])
    return " ".join(name.rpartition("::")[2].partition(".")[0] for name in named[:3])


def _knee(case: Case) -> float | None:
    return case.machine.knee_bytes() if case.machine is not None else None
