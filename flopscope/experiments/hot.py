"""OpCall -> Replay: run hot, its tiny twin between."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from flopscope import counters
from flopscope.records import OpCall, Replay, percentile

from .backends import backend_of
from .bench import Cold, seconds_of
from .entries import REFUSALS
from .rebuilding import Rebuilt, UnbuildableError, flat_tensors, rebuild
from .twins import tiny_twins
from .values import Values

_WARM_UPS = 3  # besides the call that checks what is made
_FEWEST, _MOST = 5, 40  # timed calls
_LONG_S = 0.02  # a call beyond this varies less, and is warmed up once and timed three times only
_FEWEST_LONG = 3
_COLD = 6  # calls of the twin after other work
_BLOCKS = 5  # in which hot calls and calls of the twin alternate


class OutOfTimeError(UnbuildableError):
    """The operator takes longer than what is left."""


@dataclass(frozen=True, slots=True)
class Time:
    """What one operator may take: `share_s` where it can, never much more than `left_s`."""

    share_s: float
    left_s: float


def replay(op: OpCall, values: Values, time: Time, cold: Cold) -> Replay:
    """Measure one operator.

    Raises:
        UnbuildableError: it cannot be run alone.
        OutOfTimeError: its calls would take longer than what is left.
    """
    begin = perf_counter()
    hot, backend = rebuild(op, values), backend_of(op)
    tiny = twin_of(op, values, backend)
    subjects = [hot] if tiny is None else [hot, tiny]
    once = sum(_warmed(subject, time) for subject in subjects)
    left = time.share_s - (perf_counter() - begin)
    fewest = _FEWEST if once < _LONG_S else _FEWEST_LONG
    runs = min(max(int(left / once), fewest), _MOST)
    samples: list[list[float]] = [[] for _ in subjects]
    faulted = 0
    for block in range(_BLOCKS):
        count = runs * (block + 1) // _BLOCKS - runs * block // _BLOCKS
        before = counters.page_faults()
        samples[0] += seconds_of(hot, count)
        faulted += (counters.page_faults() or 0) - (before or 0)
        if tiny is not None:
            samples[1] += seconds_of(tiny, count)
    return Replay(
        hot_s=percentile(samples[0], 0.1),
        hot_faults=faulted / runs,
        tiny_s=percentile(samples[1], 0.1) if tiny is not None else None,
        tiny_cold_s=percentile(cold.seconds_of(tiny, _COLD), 0.25) if tiny is not None else None,
        runs=runs,
        backend=backend,
    )


def twin_of(op: OpCall, values: Values, backend: str | None) -> Rebuilt | None:
    """The smallest twin on the same backend, ready to run; None where there is none or torch refuses it."""
    for twin in tiny_twins(op):
        if backend_of(twin) != backend:
            continue
        try:
            rebuilt = rebuild(twin, values)
            result = rebuilt.run()
        except (*REFUSALS, UnbuildableError):
            return None
        return None if not op.written and _only_looks(result, rebuilt) else rebuilt
    return None


def _only_looks(result: object, rebuilt: Rebuilt) -> bool:
    """Whether the twin made nothing of its own, where the original did."""
    held = {tensor.untyped_storage().data_ptr() for tensor in rebuilt.tensors}
    made = flat_tensors(result)
    return bool(made) and all(tensor.untyped_storage().data_ptr() in held for tensor in made)


def _warmed(subject: Rebuilt, time: Time) -> float:
    """Seconds of a call once it is warm."""
    taken = seconds_of(subject, 1)
    if taken[0] * _FEWEST_LONG > time.left_s:
        raise OutOfTimeError(f"one call takes {taken[0]:.2g} s, too long for the time left")
    if taken[0] < _LONG_S:
        taken += seconds_of(subject, _WARM_UPS - 1)
    return max(min(taken), 1e-7)
