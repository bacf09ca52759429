"""Case -> Verdict: how far the measurement can be trusted, and what it leaves unexplained.

In the conditions t is the layer's undisturbed time, F/P and B/W what its FLOPs and bytes take at the roofs.
"""

from __future__ import annotations

from flopscope.diagnosis.cases import Case
from flopscope.diagnosis.memory_rules import expected_memory_s
from flopscope.diagnosis.registry import rule
from flopscope.records import Number, Verdict

NOTICEABLE = 0.001
"""Below this share of the whole a layer's parts are noise, and nothing would be gained by naming them."""
UNEXPLAINED = 0.4
EXCESS = 0.25


@rule("disturbed", explains=("kernel", "memory", "overhead"))
def disturbed(case: Case) -> Verdict | None:
    """The layer's quality is "disturbed" or "void"; where layers have none, the report's; a void report
    makes all its layers void.
    """
    overall = case.quality.word if case.quality else "good"
    word = "void" if overall == "void" else case.layer.quality or overall
    if word not in ("disturbed", "void"):
        return None
    quality = case.quality
    observed, floor = case.layer.latency_s, case.layer.latency_floor_s
    lost = max(0.0, observed - floor) if observed is not None and floor is not None else None
    numbers: dict[str, Number] = {"word": word, "waits": case.evidence.waits}
    numbers["reasons"] = "; ".join(quality.reasons) if quality else ""
    numbers["remedy"] = quality.remedy if quality else ""
    return Verdict("disturbed", lost, numbers)


@rule("unknown", last=True)
def unknown(case: Case) -> Verdict | None:
    """Fire where no rule that explains it did, and one of these holds: kernel ≥ 0.4·t; memory − expected ≥
    0.25·t and memory ≥ 2·expected, with expected = max(0, B/W − F/P); t < 0.95·max(F/P, B/W) without
    Winograd, faster than the roofs allow. Only from 0.1 % of the whole (1 % for the last).
    """
    if case.whole_share < NOTICEABLE or not case.seconds or case.evidence.form == "none":
        return None
    kernel, memory, expected = case.part("kernel"), case.part("memory"), expected_memory_s(case)
    numbers: dict[str, Number] = {"form": case.evidence.form}
    if case.share(kernel) >= UNEXPLAINED and "kernel" not in case.explained:
        return Verdict("unknown", kernel, {**numbers, "part": "kernel", "share": case.share(kernel)})
    excess = memory - expected
    large = case.share(excess) >= EXCESS and memory >= 2 * expected
    if large and "memory" not in case.explained:
        numbers |= {"part": "memory", "share": case.share(excess), "expected_s": expected}
        return Verdict("unknown", excess, numbers)
    return _above_roof(case, numbers)


def _above_roof(case: Case, numbers: dict[str, Number]) -> Verdict | None:
    """Faster than the roofs allow, and no Winograd kernel, which multiplies less, in the log."""
    least = case.least_s
    fewer = any("wino" in step.implementation for step in case.evidence.kernels)
    if case.seconds >= 0.95 * least or case.whole_share < 0.01 or fewer:
        return None
    return Verdict("unknown", None, {**numbers, "part": "roof", "share": least / case.seconds})
