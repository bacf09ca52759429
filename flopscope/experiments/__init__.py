"""Operators of a trace -> what they take alone, at their smallest, and done otherwise on this machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter

import torch

from flopscope.records import Counterfactual, OpCall, Replay

from .alternatives import Alternative, other_ways, subject_of
from .bench import Cold, Watched, faulting, plain, quiet
from .elsewhere import compare_elsewhere, counterfactual
from .entries import REFUSALS
from .geometry import convolution_of
from .hot import Time, replay
from .logs import steps_of
from .pairs import beside
from .rebuilding import Rebuilt, UnbuildableError, in_a_row, rebuild
from .values import Values

__all__ = ["COUNTERFACTUALS", "convolution_of", "counterfactuals", "replays"]

Progress = Callable[[str, float], None]

COUNTERFACTUALS = (
    *("channels-last", "contiguous", "dense-conv", "depthwise-conv", "pconv", "aligned-channels"),
    *("pooled-allocator", "one-thread"),
)
_LONGEST_SHARE_S = 0.03  # of one operator, where there is time enough for all
_LOG_TIMEOUT_S = 30.0
_ASIDE = 0.35  # share of the time that goes to alternatives in this process


def replays(
    ops: Sequence[OpCall],
    *,
    seconds: float,
    device: str = "cpu",
    log: bool = False,
    progress: Progress | None = None,
    notes: list[str] | None = None,
) -> Mapping[int, Replay]:
    """Run operators alone and hot, each beside its tiny twin.

    Args:
        ops: in the order in which they matter; each signature is measured once, views not at all.
        seconds: when these are spent no further operator is started; the library log comes on top.
        device: only "cpu" is measured; on another there are no replays.
        log: ask oneDNN, in one child process, for the steps of every call that was measured.
        progress: called with a stage and the share done.
        notes: one line for every kind of operator without a replay, and why, is added here.

    Returns:
        Replays by `OpCall.signature`. What cannot be run alone has none; nothing is raised.
    """
    said = notes if notes is not None else []
    if torch.device(device).type != "cpu":
        said.append(f"no replays: operators are run alone on the CPU only, not on {device}")
        return {}
    first: dict[int, OpCall] = {}
    for op in ops:
        if not op.view:
            first.setdefault(op.signature, op)
    chosen = list(first.values())
    end, values = perf_counter() + seconds, Values()
    found: dict[int, Replay] = {}
    refused: dict[str, None] = {}
    with quiet():
        cold = Cold()
        for place, op in enumerate(chosen):
            left = end - perf_counter()
            if left <= 0:
                said.append(f"{len(chosen) - place} operators were not replayed: the time was up")
                break
            _tell(progress, "replays", place / len(chosen))
            share = min(_LONGEST_SHARE_S, left / (len(chosen) - place))
            try:
                found[op.signature] = replay(op, values, Time(share, left), cold)
            except (*REFUSALS, UnbuildableError) as reason:
                refused.setdefault(f"{op.op} was not replayed: {reason}")
    said.extend(refused)
    if log and found:
        _tell(progress, "library log", 0.0)
        measured = [op for op in chosen if op.signature in found]
        steps = steps_of(measured, timeout_s=_LOG_TIMEOUT_S, notes=said)
        found.update({key: replace(found[key], kernels=kernels) for key, kernels in steps.items()})
    return found


def counterfactuals(
    ops: Sequence[OpCall],
    *,
    seconds: float,
    codes: Collection[str] | None = None,
    progress: Progress | None = None,
) -> tuple[Counterfactual, ...]:
    """Measure a layer beside the same layer done otherwise.

    Measured is its costliest convolution or matrix product; where it has none, all of its forward
    operators in a row, each on inputs of its own.

    Args:
        ops: the operators of one layer.
        seconds: about how long all may take. Children are started only if some seconds are left.
        codes: which of `COUNTERFACTUALS` to try; None for all that apply.
        progress: called with a stage and the share done.

    Returns:
        Those that apply and could be measured, in the order of `COUNTERFACTUALS`.
    """
    subject = subject_of(ops)
    if not subject:
        return ()
    begin = perf_counter()
    wanted = [found for found in other_ways(subject) if codes is None or found.code in codes]
    away = codes is None or not {"pooled-allocator", "one-thread"}.isdisjoint(codes)
    share = seconds * (_ASIDE if away else 1.0) / max(len(wanted), 1)
    found: list[Counterfactual] = []
    with quiet():
        values = Values()
        for place, other in enumerate(wanted):
            _tell(progress, other.code, place / (len(wanted) + 2))
            found += _beside(subject, other, values, share)
    _tell(progress, "child processes", len(wanted) / (len(wanted) + 2))
    found += compare_elsewhere(subject, codes, seconds=seconds - (perf_counter() - begin))
    return tuple(sorted(found, key=lambda item: COUNTERFACTUALS.index(item.code)))


def _beside(
    subject: tuple[OpCall, ...], other: Alternative, values: Values, seconds: float
) -> list[Counterfactual]:
    """One alternative measured; empty where torch refuses it or the time does not do."""
    try:
        this = in_a_row([rebuild(op, values) for op in subject])
        that = in_a_row([rebuild(op, values) for op in other.ops])
        if other.beside:
            that = _partial(that, this)
        runners = Watched(this), Watched(that)
        pair = beside(*runners, seconds=seconds)
    except (*REFUSALS, UnbuildableError):
        return []
    if pair is None:
        return []
    note = "; ".join(filter(None, (other.note, faulting(*(runner.faults for runner in runners)))))
    return [counterfactual(other.code, other.title, pair, other.macs, other.same_function, note)]


def _partial(small: Rebuilt, whole: Rebuilt) -> Rebuilt:
    """PConv: split the whole's input, run the small convolution on the first part, put both together.

    Args:
        small: a convolution whose arguments are (input, weight, bias, ...).
        whole: its first tensor is the input with all channels.
    """
    source, width = whole.tensors[0], small.tensors[0].shape[1]
    call: partial[torch.Tensor] = small.run  # type: ignore[assignment]

    def run() -> torch.Tensor:
        first, rest = torch.split(source, [width, source.shape[1] - width], 1)
        return torch.cat((call.func(first, *call.args[1:]), rest), 1)

    return plain(run)


def _tell(progress: Progress | None, stage: str, share: float) -> None:
    if progress is not None:
        progress(stage, share)
