"""Layers -> each done otherwise, measured beside it: what is compared, in which order, within what time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from flopscope.records import Counterfactual, OpCall

from .alternatives import macs_of, name_of, other_ways, subject_of
from .bench import faulting
from .elsewhere import PLAIN, Child, ChildError, Place, RefusedError, Runner, children
from .letters import THIS
from .pairs import DisturbedError, Pair, beside

Progress = Callable[[str, float], None]

# What allocates more than the layer does comes later, the dense convolution last: in a process that has
# freed larger blocks the allocator keeps more, and the next trial meets fewer page faults.
_ORDER = (
    *("channels-last", "contiguous", "one-thread", "pooled-allocator"),
    *("depthwise-conv", "pconv", "aligned-channels", "dense-conv"),
)
_START_S = 2.0  # less than it takes a child to import torch: with less time none is started
_PATIENCE_S = 10.0  # beyond the time asked for, after which children are ended
_WAITING = 0.1  # share of a block's time that threads may wait for a processor
_ROOM, _MOST_ROOM_BYTES = 8, 256_000_000  # times what the operators read and write, for layouts and scratch
_ALONE = "run alone in a process of its own"
_APART = "this layer in one process, the other way in a second"


@dataclass(frozen=True, slots=True)
class Trial:
    """One comparison: layer `group` as it is in the plain child, and `ops` in the child `place`."""

    group: int
    code: str
    title: str
    this: tuple[OpCall, ...]
    ops: tuple[OpCall, ...]
    place: str
    macs: int | None
    same_function: bool
    note: str
    partial: bool = False
    subject: str = ""
    keeps: bool = False


def trials_of(
    groups: Sequence[Sequence[OpCall]],
    codes: Collection[str] | None,
    kinds: Sequence[Place],
    keeps: Sequence[bool] = (),
) -> list[Trial]:
    """Everything that can be compared, in the order in which it is to be."""
    found = [trial for number, ops in enumerate(groups) for trial in _trials(number, ops, kinds)]
    told = [replace(trial, keeps=trial.group < len(keeps) and keeps[trial.group]) for trial in found]
    wanted = [trial for trial in told if codes is None or trial.code in codes]
    return sorted(wanted, key=lambda trial: (_ORDER.index(trial.code), trial.group))


def compared_elsewhere(
    trials: Sequence[Trial],
    kinds: Sequence[Place],
    *,
    seconds: float,
    freed: Sequence[int],
    progress: Progress | None,
    notes: list[str],
) -> Mapping[int, list[Counterfactual]]:
    """Measure the trials, the time that is left shared among those that are left; results by group."""
    found: dict[int, list[Counterfactual]] = {}
    if seconds < _START_S:
        notes.append(f"nothing was done otherwise: {seconds:.1f} s are too few to start a process")
        return found
    end = perf_counter() + seconds
    wanted = [kind for kind in kinds if kind.code in {PLAIN, *(trial.place for trial in trials)}]
    _tell(progress, 0.0)
    late, busy, refused = list[str](), list[str](), dict[str, None]()
    with children(wanted, freed, seconds=seconds + _PATIENCE_S, notes=notes) as ready:
        for number, trial in enumerate(trials):
            if PLAIN not in ready or trial.place not in ready:
                continue
            _tell(progress, number / len(trials))
            share = max(end - perf_counter(), 0.0) / (len(trials) - number)
            try:
                result = _measured(trial, ready, share)
            except RefusedError as refusal:
                refused.setdefault(f"{trial.code} was not measured: {refusal}")
                continue
            except DisturbedError:
                busy.append(trial.code)
                continue
            except ChildError as failure:
                notes.append(f"a process to compare in {failure}: what was to follow was not measured")
                break
            if result is None:
                late.append(trial.code)
            else:
                found.setdefault(trial.group, []).append(result)
    notes.extend(refused)
    for codes, reason in (
        (late, "the time was too short"),
        (busy, "its threads had to wait for a processor"),
    ):
        if codes:
            notes.append(f"not compared, for {reason}: {', '.join(dict.fromkeys(codes))}")
    return found


def _trials(number: int, ops: Sequence[OpCall], kinds: Sequence[Place]) -> Iterator[Trial]:
    subject = subject_of(ops)
    if not subject:
        return
    name, macs = name_of(subject, ops), macs_of(subject)
    only = "the forward pass only" if any(op.phase != "forward" for op in ops) else ""
    for way in other_ways(subject):
        note = "; ".join(filter(None, (_ALONE, only, way.note)))
        yield Trial(
            number, way.code, way.title, subject, way.ops, PLAIN, way.macs, way.same_function, note,
            partial=bool(way.beside), subject=name,
        )  # fmt: skip
    for kind in kinds:
        if kind.code != PLAIN:
            note = "; ".join(filter(None, (_ALONE, only, _APART)))
            yield Trial(
                number, kind.code, kind.title, subject, subject, kind.code, macs, True, note, subject=name
            )


def _measured(trial: Trial, ready: Mapping[str, Child], seconds: float) -> Counterfactual | None:
    """One trial; None where the time does not do."""
    room = _room(trial)
    this = ready[PLAIN].take(THIS, trial.this, room=room)
    if trial.place == PLAIN:
        other = ready[PLAIN].take("other", trial.ops, beside=trial.partial)
    else:
        other = ready[trial.place].take(THIS, trial.ops, room=room)

    def undisturbed() -> bool:
        return max(this.waited, other.waited) <= _WAITING

    pair = beside(this, other, seconds=seconds, undisturbed=undisturbed)
    return None if pair is None else _record(trial, pair, this, other)


def _room(trial: Trial) -> int:
    """Bytes to be kept free where the network's allocator keeps this layer's memory."""
    specs = {spec.storage: spec for op in trial.this for spec in (*op.inputs, *op.outputs)}.values()
    amount = _ROOM * sum(spec.distinct_bytes for spec in specs)
    return min(amount, _MOST_ROOM_BYTES) if trial.keeps else 0


def _record(trial: Trial, pair: Pair, this: Runner, other: Runner) -> Counterfactual:
    """The record of a pair; two FLOPs a multiply-add."""
    macs = macs_of(trial.this)
    return Counterfactual(
        code=trial.code,
        title=trial.title,
        latency_s=pair.other_s,
        this_s=pair.this_s,
        macs=trial.macs,
        flops=None if trial.macs is None else 2 * trial.macs,
        same_function=trial.same_function,
        low=pair.low,
        high=pair.high,
        note="; ".join(filter(None, (trial.note, faulting(this.faults, other.faults)))),
        this_macs=macs,
        this_flops=None if macs is None else 2 * macs,
        subject=trial.subject,
    )


def _tell(progress: Progress | None, share: float) -> None:
    if progress is not None:
        progress("doing layers otherwise", share)
