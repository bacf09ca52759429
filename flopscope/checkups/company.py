"""Host, Trial -> Checkup: what other work there is, and what it did to ours."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from flopscope.records import Checkup

from .hosts import Host
from .trials import Trial

LEAST_OTHERS = (0.1, 0.01)
"""Processors that an idle system's housekeeping may take, and the same as a share of all."""
LEAST_MISSING = (0.25, 0.02)
"""Processors that may be short before threads surely wait for each other, and the same as a share."""
WAITED, WAITED_BAD = 0.03, 0.25
"""The shares from which a report is called disturbed, and void."""
STOLEN, STOLEN_BAD = 0.01, 0.10
SWITCHES_PER_S = 50.0
SPREAD, SPREAD_BAD = 1.15, 2.0
SPREAD_OF_MANY, SPREAD_OF_MANY_BAD = 1.3, 3.0
"""p90 / p10 of one product on the same data: nothing should vary; threads that meet vary more."""
DRIFT, DRIFT_BAD = 0.10, 0.50

_STOP = "stop other work"


def load(host: Host) -> Checkup:
    """The load average of the last minute; it lags, so that it never decides alone."""
    if host.load is None:
        return _unknown("load", "this system keeps no load average")
    found = f"{host.load:.1f} in the last minute on {_plural(len(host.processors), 'processor')}"
    if host.load > len(host.processors):
        return Checkup("load", "doubtful", found, f"{_STOP}, and wait a minute")
    return Checkup("load", "good", found)


def other_work(host: Host, alone: Trial, threads: int) -> Checkup:
    """How many of our processors others kept busy, who they were, and whether enough are left."""
    if alone.others is None:
        return _unknown("other work", "no /proc/stat tells how busy the processors are")
    count, others = len(host.processors), alone.others
    found = f"other processes kept {others:.2f} of {_plural(count, 'processor')} busy"
    if others < max(LEAST_OTHERS[0], LEAST_OTHERS[1] * count):
        return Checkup("other work", "good", found)
    names = [f"{name} {share:.2f}" for name, share in busiest(alone)]
    found += f": {', '.join(names)}" if names else "; none of them is visible from here"
    short = threads - (count - others)
    bad = short > max(LEAST_MISSING[0], LEAST_MISSING[1] * count)
    left = int(count - others + LEAST_MISSING[0])
    remedy = f"{_STOP}, or use fewer threads (--threads {left})" if bad and left >= 1 else _STOP
    return Checkup("other work", "bad" if bad else "doubtful", found, remedy)


def busiest(alone: Trial, most: int = 3) -> list[tuple[str, float]]:
    """Other processes that took 5 % of a processor or more meanwhile: their names and how many."""
    before = alone.before.processes
    taken = [
        (name, (seconds - before.get(pid, (name, 0.0))[1]) / alone.wall_s)
        for pid, (name, seconds) in alone.after.processes.items()
        if alone.wall_s > 0
    ]
    return sorted((pair for pair in taken if pair[1] >= 0.05), key=lambda pair: -pair[1])[:most]


def waiting(trial: Trial) -> Checkup:
    """How long our threads were ready and waited for a processor."""
    name = f"waiting ({_plural(trial.threads, 'thread')})"
    if trial.waited is None:
        return _unknown(name, "no /proc/self/task/*/schedstat tells how long threads wait")
    found = f"threads waited for a processor {100 * trial.waited:.1f} % of the time"
    word = _word(trial.waited, WAITED, WAITED_BAD)
    if word == "good":
        return Checkup(name, word, found)
    return Checkup(name, word, found, _STOP if trial.threads == 1 else f"{_STOP}, or use fewer threads")


def stolen(host: Host, trials: Sequence[Trial]) -> Checkup:
    """Time in which the host of a virtual machine ran something else on our processors."""
    then, now = trials[0].before.stolen_s, trials[-1].after.stolen_s
    wall_s = trials[-1].after.at_s - trials[0].before.at_s
    if then is None or now is None or wall_s <= 0:
        return _unknown("stolen time", "no /proc/stat tells of time that the host took")
    share = (now - then) / wall_s / len(host.processors)
    word = _word(share, STOLEN, STOLEN_BAD)
    remedy = "" if word == "good" else "use a machine whose processors are its own (dedicated instances)"
    return Checkup("stolen time", word, f"the host took {100 * share:.1f} % of our processors' time", remedy)


def switches(trials: Sequence[Trial]) -> Checkup:
    """Involuntary context switches per second and thread."""
    known = [
        (trial.after.switches - trial.before.switches, trial.wall_s * trial.threads)
        for trial in trials
        if trial.before.switches is not None and trial.after.switches is not None
    ]
    if not known:
        return _unknown("switches", "this system does not count involuntary context switches")
    count, thread_s = (sum(column) for column in zip(*known, strict=True))
    rate = count / thread_s if thread_s > 0 else 0.0
    found = f"{rate:.0f} involuntary context switches per second and thread"
    if rate > SWITCHES_PER_S and count > 10:
        return Checkup(
            "switches", "doubtful", found, f"{_STOP}, or pin: taskset -c 1 flopscope ... --threads 1"
        )
    return Checkup("switches", "good", found)


def repeatability(trial: Trial, alone: Trial | None = None) -> Checkup:
    """How far the same product on the same data varies, and whether it drifts.

    Args:
        trial: the product over and over.
        alone: the same at one thread, to be compared with; None where `trial` is at one.
    """
    name = f"repeatability ({_plural(trial.threads, 'thread')})"
    ranked = sorted(trial.seconds)
    spread = ranked[9 * (len(ranked) - 1) // 10] / ranked[(len(ranked) - 1) // 10]
    drift = _drift(trial.seconds)
    found = f"{len(ranked)} equal products: p90/p10 {spread:.2f}, drift {100 * drift:.0f} %"
    limits = (SPREAD, SPREAD_BAD) if trial.threads == 1 else (SPREAD_OF_MANY, SPREAD_OF_MANY_BAD)
    words = [_word(spread, *limits), _word(drift, DRIFT, DRIFT_BAD)]
    word = next((word for word in ("bad", "doubtful") if word in words), "good")
    remedy = "" if word == "good" else f"{_STOP}; keep the clock steady; sample longer (--max-seconds)"
    if alone is not None:
        gain = trial.flops_per_s / alone.flops_per_s
        found += f", {gain:.1f} times the rate of 1 thread"
        if gain < 1:
            word, remedy = "bad", f"{_STOP}; if more threads stay slower than one: --threads 1"
    return Checkup(name, word, found, remedy)


def throttling(trials: Sequence[Trial]) -> Checkup:
    """Whether processors were slowed down for heat while they multiplied."""
    then, now = trials[0].before.hot, trials[-1].after.hot
    if then is None or now is None:
        return _unknown("heat", "no thermal_throttle counters in /sys")
    if now > then:
        found = f"slowed down for heat {now - then} times just now"
        return Checkup(
            "heat", "bad", found, "let the machine cool down, or lower its clock to one it can hold"
        )
    return Checkup("heat", "good", f"not slowed down just now, {now} times since the system started")


def _drift(seconds: Sequence[float]) -> float:
    """Largest against smallest median of four quarters."""
    size = max(1, len(seconds) // 4)
    medians = [median(seconds[start : start + size]) for start in range(0, 4 * size, size)]
    return max(medians) / min(medians) - 1 if min(medians) > 0 else 0.0


def _word(value: float, doubtful: float, bad: float) -> str:
    return "bad" if value >= bad else "doubtful" if value >= doubtful else "good"


def _unknown(name: str, why: str) -> Checkup:
    return Checkup(name, "unknown", why)


def _plural(count: int, one: str) -> str:
    return f"{count} {one}" + ("" if count == 1 else "s")
