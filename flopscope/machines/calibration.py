"""This process -> a Session: the passes of a calibration, spread over its time. Runs in the child."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence

import torch

from .calls import Calls
from .compute import DTYPES, Candidate, contest, peak
from .judging import EXTRA, NEEDED, judge
from .passes import Pass, Session
from .traffic import LARGEST, Memory, fault_price
from .witnesses import missing, reading

Told = Callable[[str, float], None]

_VECTORS = {"AVX512": 64, "AVX2": 32, "SVE256": 32, "SVE": 32, "VSX": 16, "Z VECTOR": 16, "ZVECTOR": 16}
_FIRST_LOOK = 0.3  # share of the progress that the contest of shapes takes
_PATIENCE = 5  # no pass begins after so many times the planned seconds: on a busy machine each takes long
_COMPUTE, _TRAFFIC = 0.45, 0.30  # shares of the seconds of a pass; calls and faults take what they take


def calibrate(
    threads: int, *, passes: int, seconds: float, largest: int = LARGEST, told: Told | None = None
) -> Session:
    """Measure this machine with so many threads, which it sets for the whole process.

    Where three or more are asked for and do not agree, up to `EXTRA` are added. Each pass looks at
    everything once, so that what is best of several passes was spread over the session.

    Args:
        threads: of one operator.
        passes: how many are wanted.
        seconds: of one pass.
        largest: the largest working set in bytes.
        told: is told the stage and the share that is done.
    """
    told = told or (lambda stage, share: None)
    torch.set_num_threads(threads)
    start = time.perf_counter()
    with torch.inference_mode():
        look = contest(told=lambda place: told("roofs: shapes", _FIRST_LOOK * place / len(DTYPES)))
        memory, calls = Memory(largest), Calls()
        done: list[Pass] = []
        how: dict[str, str] = {}
        page = 0
        while wanted(done, threads, passes, time.perf_counter() - start < _PATIENCE * passes * seconds):
            told(f"roofs: pass {len(done) + 1}", _share(len(done), passes))
            before = reading()
            rates = _rates(look.favourites, seconds, how)
            bandwidth = tuple(memory.curve(_TRAFFIC * seconds))
            overheads, fault = calls.overheads(), fault_price()
            price, page = fault or (None, page)
            spent = reading().since(before)
            done.append(Pass(rates, bandwidth, overheads, price, **spent))  # type: ignore[arg-type]
    lacking = missing() if page else (*missing(), "the price of a page fault")
    return Session(threads, tuple(done), how, look.absent, lacking, page or 4096, vector_bytes())


def wanted(done: Sequence[Pass], threads: int, passes: int, in_time: bool) -> bool:
    """Whether another pass is to be measured: the first always, the others while there is time."""
    if not done or len(done) < passes:
        return not done or in_time
    more = in_time and passes >= NEEDED and len(done) < passes + EXTRA
    return more and judge(done, threads=threads, needed=passes).quality != "good"


def vector_bytes() -> int | None:
    """The width of a vector register that torch uses; None where that is not known."""
    capability = torch.backends.cpu.get_cpu_capability()
    neon = 16 if platform.machine().lower() in ("arm64", "aarch64") else None
    return _VECTORS.get(capability, neon)


def _rates(
    favourites: dict[str, tuple[Candidate, ...]], seconds: float, how: dict[str, str]
) -> dict[str, float]:
    """FLOP/s by dtype; what reached it is noted in `how`."""
    rates = {}
    for dtype, candidates in favourites.items():
        rates[dtype], how[dtype] = peak(candidates, _COMPUTE * seconds / len(favourites))
    return rates


def _share(done: int, wanted: int) -> float:
    return min(0.99, _FIRST_LOOK + (1 - _FIRST_LOOK) * done / max(wanted, done + 1))
