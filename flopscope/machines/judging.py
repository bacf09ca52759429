"""Passes -> whether they can be trusted, and the Machine that they make: pure arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flopscope.records import Bandwidth, Machine, Peak

from .passes import Pass, Session

NEEDED = 3
"""So many passes must agree, or as many as were asked for where that is fewer."""
EXTRA = 4
"""So many more are measured where they do not."""
MOST_SPREAD = 0.10
"""Compute peaks of quiet passes lie within this share of the best."""
MOST_WAITING = 0.05
"""A quiet pass waited for a processor no longer than this share of its threads' time ..."""
LEAST_CPU = 0.95
"""... and its threads ran at least this share of the time on the wall: one of them is always busy."""
MOST_OTHERS = 0.25
"""Other processes may keep a quarter of a processor busy: beyond that they share memory, caches and clock."""
LEAST_GAIN = 0.6
"""A dtype slower than this share of what its width promises has no fast path ..."""
PROMISED = {"float64": 0.5}
"""... which is float32's rate, but half of it in float64: a vector holds half as many."""

COMPUTE = "float32"  # every processor has it, and every pass measures it


@dataclass(frozen=True, slots=True)
class Judgement:
    """Which passes count, and why they cannot be trusted; no reasons: they can."""

    kept: tuple[Pass, ...]
    reasons: tuple[str, ...] = ()

    @property
    def quality(self) -> str:
        """The word for it: "good" or "disturbed"."""
        return "disturbed" if self.reasons else "good"


def judge(passes: Sequence[Pass], *, threads: int, needed: int = NEEDED) -> Judgement:
    """Keep the fastest quiet passes if enough of them agree; else all of them, with the reasons.

    A passing disturbance therefore costs extra passes and nothing else.
    """
    needed = max(1, min(needed, NEEDED))
    quiet = sorted((one for one in passes if _disturbance(one, threads) is None), key=_compute, reverse=True)
    kept = tuple(quiet[:needed])
    if len(kept) == needed and _spread(list(map(_compute, kept))) <= MOST_SPREAD:
        return Judgement(kept)
    return Judgement(tuple(passes), tuple(_reasons(passes, threads)))


def machine_of(session: Session, judgement: Judgement, *, name: str, device: str = "cpu") -> Machine:
    """The best of the passes that count, each with its spread; costs are best where they are least."""
    kept = judgement.kept
    peaks, slow = _peaks(session, kept)
    overheads = {
        kind: [one.overheads_s[kind] for one in kept if kind in one.overheads_s]
        for kind in kept[0].overheads_s
    }
    faults = [one.fault_s for one in kept if one.fault_s is not None]
    spreads = {kind: _excess(values) for kind, values in overheads.items()}
    return Machine(
        name=name,
        device=device,
        threads=session.threads,
        peaks=peaks,
        bandwidth=_bandwidth(kept),
        overheads_s={kind: min(values) for kind, values in overheads.items()},
        fault_s=min(faults, default=None),
        page_bytes=session.page_bytes,
        vector_bytes=session.vector_bytes,
        passes=len(session.passes),
        quality=judgement.quality,
        absent={**session.absent, **slow},
        warnings=(*judgement.reasons, *(f"not available here: {source}" for source in session.missing)),
        spreads={**spreads, "fault": _excess(faults)} if faults else spreads,
    )


def _peaks(session: Session, kept: Sequence[Pass]) -> tuple[tuple[Peak, ...], dict[str, str]]:
    """A roof for each dtype that has a fast path; for the others, why there is none."""
    rates = {
        dtype: [one.flops_per_s[dtype] for one in kept if dtype in one.flops_per_s]
        for dtype in kept[0].flops_per_s
    }
    plain = max(rates.get(COMPUTE, [0.0]))
    peaks, slow = [], {}
    for dtype, values in rates.items():
        best = max(values)
        if best < LEAST_GAIN * PROMISED.get(dtype, 1.0) * plain:
            slow[dtype] = f"no fast path: {100 * best / plain:.0f} % of the rate of {COMPUTE}"
        else:
            peaks.append(Peak(dtype, best, _spread(values), session.how.get(dtype, "")))
    return tuple(peaks), slow


def _bandwidth(kept: Sequence[Pass]) -> tuple[Bandwidth, ...]:
    sizes = sorted({size for one in kept for size, _ in one.bytes_per_s})
    by_size = {
        size: [rate for one in kept for place, rate in one.bytes_per_s if place == size] for size in sizes
    }
    return tuple(Bandwidth(size, max(rates), _spread(rates)) for size, rates in by_size.items())


def _disturbance(one: Pass, threads: int) -> str | None:
    """What disturbed a pass; None where nothing did, as far as the platform tells."""
    if one.run_delay_s is not None and one.wall_s:
        share = one.run_delay_s / (one.wall_s * threads)
        if share > MOST_WAITING:
            often = "" if one.switches is None else f", which was taken from them {one.switches} times"
            return f"the threads waited {100 * share:.0f} % of the time for a processor{often}"
    if one.cpu_s is not None and one.wall_s and one.cpu_s < LEAST_CPU * one.wall_s:
        return f"the process ran only {100 * one.cpu_s / one.wall_s:.0f} % of the time"
    if one.others is not None and one.others > MOST_OTHERS:
        return f"other processes kept {one.others:.2f} processors busy"
    return None


def _reasons(passes: Sequence[Pass], threads: int) -> list[str]:
    """Why these passes cannot be trusted: the worst disturbance seen, and how far they are apart."""
    found = [why for one in passes if (why := _disturbance(one, threads)) is not None]
    reasons = [f"{len(found)} of {len(passes)} passes were disturbed: {found[-1]}"] if found else []
    apart = _spread(list(map(_compute, passes)))
    if apart > MOST_SPREAD:
        low, high = sorted(_compute(one) / 1e9 for one in passes)[:: max(1, len(passes) - 1)][:2]
        reasons.append(
            f"the compute peak differs by {100 * apart:.0f} % between passes"
            f" ({low:.1f} to {high:.1f} GFLOP/s in {COMPUTE})"
        )
    return reasons or [f"fewer than {NEEDED} undisturbed passes"]


def _compute(one: Pass) -> float:
    return one.flops_per_s[COMPUTE]


def _spread(values: Sequence[float]) -> float:
    """(best - worst) / best of rates, of which the best is the largest."""
    return (max(values) - min(values)) / max(values)


def _excess(values: Sequence[float], low: Callable[[Sequence[float]], float] = min) -> float:
    """(worst - best) / best of costs, of which the best is the least."""
    best = low(values)
    return (max(values) - best) / best if best > 0 else 0.0
