"""Seconds that a layer took, and seconds that its causes would take -> five parts, which add up.

With t the layer's undisturbed time, r what is left of it, F its executed FLOPs, P the peak, B its bytes,
W the bandwidth at its working set, h its hot replay without page faults, o what its calls cost at
the smallest size, c what they cost so after other work has taken the caches, i the time in which none
of its ops ran, n page faults of price p:

    compute    = min(r, F/P)
    kernel     = min(r, max(0, h - o - max(F/P, B/W)))
    overhead   = min(r, c + i)
    allocation = min(r, n p)
    memory     = r

Without replays (the cheap form) memory = min(r, max(0, B/W - F/P)) is taken second, and what remains
is called kernel. Sums over the op calls of a layer throughout, max(F/P, B/W) op by op.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

PARTS = ("compute", "kernel", "overhead", "allocation", "memory")
"""The parts of a layer's time, in the order in which they are shown."""

_SLACK = 0.1  # of the floor: no measurement of a layer, its replay and its twin agrees better


@dataclass(frozen=True, slots=True)
class Terms:
    """What the causes would take, in seconds: F/P; max(F/P, B/W); c + i; n p.

    `hot_loss_s` is h - o - max(F/P, B/W), of any sign; None where nothing was replayed.
    """

    compute_s: float
    least_s: float
    overhead_s: float
    faults_s: float
    hot_loss_s: float | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """A layer's time taken apart; `clamped` where causes took notably more than there was."""

    compute_s: float
    kernel_s: float
    overhead_s: float
    allocation_s: float
    memory_s: float
    clamped: bool = False

    @property
    def limit(self) -> str | None:
        """The name of the largest part; None where all are zero."""
        sizes = (self.compute_s, self.kernel_s, self.overhead_s, self.allocation_s, self.memory_s)
        return PARTS[sizes.index(max(sizes))] if max(sizes) > 0 else None


def taken_apart(floor_s: float, terms: Terms) -> Parts:
    """Take the causes off the floor in their fixed order; the parts are >= 0 and add up to it.

    `clamped` where one of the first three was cut, at nought or at what was left, by more than a
    tenth of the floor. The fourth may be: what the last part is then, nothing, is an answer.
    """
    loss = terms.hot_loss_s
    if loss is None:
        wanted = (terms.compute_s, terms.least_s - terms.compute_s, terms.overhead_s, terms.faults_s)
        (compute, memory, overhead, allocation, kernel), clamped = _taken_off(floor_s, wanted)
    else:
        wanted = (terms.compute_s, loss, terms.overhead_s, terms.faults_s)
        (compute, kernel, overhead, allocation, memory), clamped = _taken_off(floor_s, wanted)
    return Parts(compute, kernel, overhead, allocation, memory, clamped)


def _taken_off(floor_s: float, wanted: Sequence[float]) -> tuple[tuple[float, ...], bool]:
    """Each of `wanted` as far as it goes, and what remains; whether more than the slack was cut."""
    left = [floor_s]
    for seconds in wanted:
        left.append(left[-1] - min(left[-1], max(0.0, seconds)))
    taken = tuple(before - after for before, after in pairwise(left))
    cuts = [abs(seconds - part) for seconds, part in zip(wanted[:-1], taken[:-1], strict=True)]
    return (*taken, left[-1]), any(cut > _SLACK * floor_s for cut in cuts)
