"""Case -> Verdict: how far the measurement can be trusted, and what it leaves unexplained.

In the conditions t is the layer's undisturbed time, F/P and B/W what its FLOPs and bytes take at the roofs.
"""

from __future__ import annotations

from flopscope.diagnosis.cases import Case, far_bytes_per_s
from flopscope.diagnosis.memory_rules import expected_memory_s
from flopscope.diagnosis.registry import rule
from flopscope.records import Number, Verdict

NOTICEABLE = 0.001
"""Below this share of the whole a layer's parts are noise, and nothing would be gained by naming them."""
UNEXPLAINED = 0.4
EXCESS = 0.25
NO_DATA = 10.0
"""Not even memory's latency makes data so many times slower than the bandwidth of main memory."""
SHARED = 0.75
"""Of a disturbed layer's time so much must be left over: who shares a processor with three others takes four
times as long."""


@rule("disturbed")
def disturbed(case: Case) -> Verdict | None:
    """The layer's quality is "disturbed" or "void"; where layers have none, the report's; a void report
    makes all its layers void.
    """
    word = disturbance(case)
    if word is None:
        return None
    quality = case.quality
    observed, floor = case.layer.latency_s, case.layer.latency_floor_s
    lost = max(0.0, observed - floor) if observed is not None and floor is not None else None
    numbers: dict[str, Number] = {"word": word, "waits": case.evidence.waits}
    numbers["reasons"] = "; ".join(quality.reasons) if quality else ""
    numbers["remedy"] = quality.remedy if quality else ""
    return Verdict("disturbed", lost, numbers)


def disturbance(case: Case) -> str | None:
    """The word for it, "disturbed" or "void"; None where the layer is neither."""
    overall = case.quality.word if case.quality else "good"
    word = "void" if overall == "void" else case.layer.quality or overall
    return word if word in ("disturbed", "void") else None


@rule("unknown", last=True)
def unknown(case: Case) -> Verdict | None:
    """Fire where no rule that explains it did, and one of these holds: kernel ≥ 0.4·t; memory − expected ≥
    0.25·t and memory ≥ 2·expected, with expected = max(0, B/W − F/P); t < 0.95·max(F/P, B/W) without
    Winograd, faster than the roofs allow. Only from 0.1 % of the whole (1 % for the last). Of a disturbed
    layer the share left over must be 0.75.
    """
    if case.whole_share < NOTICEABLE or not case.seconds or case.evidence.form == "none":
        return None
    kernel, memory, expected = case.part("kernel"), case.part("memory"), expected_memory_s(case)
    numbers: dict[str, Number] = {"form": case.evidence.form}
    disturbed = disturbance(case) is not None
    if case.share(kernel) >= (SHARED if disturbed else UNEXPLAINED) and "kernel" not in case.explained:
        return Verdict("unknown", kernel, {**numbers, "part": "kernel", "share": case.share(kernel)})
    excess = memory - expected
    large = case.share(excess) >= (SHARED if disturbed else EXCESS) and memory >= 2 * expected
    if large and "memory" not in case.explained:
        numbers |= {"part": "memory", "share": case.share(excess), "expected_s": expected}
        return Verdict("unknown", excess, {**numbers, **_from_far(case)})
    return _above_roof(case, numbers)


def _from_far(case: Case) -> dict[str, Number]:
    """What the bytes would take from main memory, and whether even that is far from explaining the time."""
    far = far_bytes_per_s(case.machine)
    if not far:
        return {}
    return {"far_s": case.nbytes / far, "no_data": int(case.part("memory") > NO_DATA * case.nbytes / far)}


def _above_roof(case: Case, numbers: dict[str, Number]) -> Verdict | None:
    """Faster than the roofs allow, and no Winograd kernel, which multiplies less, in the log."""
    least = case.least_s
    fewer = any("wino" in step.implementation for step in case.evidence.kernels)
    if case.seconds >= 0.95 * least or case.whole_share < 0.01 or fewer:
        return None
    return Verdict("unknown", None, {**numbers, "part": "roof", "share": least / case.seconds})
