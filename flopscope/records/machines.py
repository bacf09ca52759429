"""What a machine can do at best: the roofs under which every layer runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import exp, log


@dataclass(frozen=True, slots=True)
class Peak:
    """The most FLOP/s reached in one dtype, and how; `spread` is (best - worst) / best of the passes."""

    dtype: str
    flops_per_s: float
    spread: float = 0.0
    how: str = ""


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes per second, read and written together, over a working set of so many bytes."""

    working_set_bytes: int
    bytes_per_s: float
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Machine:
    """The roofs of a device at a number of threads.

    `form` is "measured" or "sheet" (from a data sheet: what is derived from it is an estimate).
    `bandwidth` ascends by working set. `overheads_s` holds the seconds of a call that computes nothing
    worth mentioning: "op" (an element-wise operator), "convolution", "matmul", "module" (an empty module);
    and of "probe", the product of 128 x 128 matrices that tells the processor's pace. `fault_s` is the price
    of one page fault of `page_bytes`, handing the page back included. `absent`
    says of a dtype why it has no roof. `quality` is "good", or "disturbed" where passes disagreed. `spreads`
    is (worst - best) / best of the passes for each overhead, and for "fault".
    """

    name: str
    device: str
    threads: int
    peaks: tuple[Peak, ...]
    bandwidth: tuple[Bandwidth, ...] = ()
    overheads_s: Mapping[str, float] = field(default_factory=dict)
    fault_s: float | None = None
    page_bytes: int = 4096
    vector_bytes: int | None = None
    cores: int | None = None
    form: str = "measured"
    fingerprint: str = ""
    passes: int = 0
    quality: str = "good"
    date: str = ""
    torch: str = ""
    source: str = ""
    absent: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    spreads: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        from flopscope.render.machines import machine_text

        return machine_text(self)

    def _repr_html_(self) -> str:
        from flopscope.render.notebooks import machine_html

        return machine_html(self)

    def peak(self, dtype: str | None) -> float | None:
        """FLOP/s at best in `dtype`; None where there is no roof for it."""
        return next((peak.flops_per_s for peak in self.peaks if peak.dtype == dtype), None)

    def knee_bytes(self) -> float | None:
        """The working set at which the bandwidth has come down half way from its best to main memory's.

        None where no curve is known, or where the far end is not clearly (1.5 times) slower than the best.
        """
        points = self.bandwidth
        best, far = max((point.bytes_per_s for point in points), default=0.0), points[-1:]
        if len(points) < 2 or best < 1.5 * far[0].bytes_per_s:
            return None
        half = (best + far[0].bytes_per_s) / 2
        knee = None
        for below, above in pairwise(points):
            if below.bytes_per_s >= half > above.bytes_per_s:
                place = (below.bytes_per_s - half) / (below.bytes_per_s - above.bytes_per_s)
                width = log(above.working_set_bytes / below.working_set_bytes)
                knee = below.working_set_bytes * exp(place * width)
        return knee

    def bytes_per_s(self, working_set_bytes: int) -> float | None:
        """Bandwidth at a working set, interpolated between the points over its logarithm."""
        points = self.bandwidth
        if not points:
            return None
        if working_set_bytes <= points[0].working_set_bytes:
            return points[0].bytes_per_s
        for below, above in pairwise(points):
            if working_set_bytes <= above.working_set_bytes:
                width = log(above.working_set_bytes / below.working_set_bytes)
                place = log(working_set_bytes / below.working_set_bytes) / width
                return below.bytes_per_s + place * (above.bytes_per_s - below.bytes_per_s)
        return points[-1].bytes_per_s
