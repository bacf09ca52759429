"""Operators of a trace -> what they take alone, at their smallest, and done otherwise on this machine."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from time import perf_counter

import torch

from flopscope.records import Counterfactual, OpCall, Replay

from .bench import Cold, quiet
from .comparing import Progress, compared_elsewhere, trials_of
from .elsewhere import places
from .entries import REFUSALS
from .geometry import convolution_of
from .hot import Time, replay
from .logs import steps_of
from .rebuilding import UnbuildableError
from .values import Values

__all__ = ["COUNTERFACTUALS", "convolution_of", "counterfactuals", "replays"]

COUNTERFACTUALS = (
    *("channels-last", "contiguous", "dense-conv", "depthwise-conv", "pconv", "aligned-channels"),
    *("pooled-allocator", "one-thread"),
)
_LONGEST_SHARE_S = 0.03  # of one operator, where there is time enough for all
_LOG_TIMEOUT_S = 30.0


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
    groups: Sequence[Sequence[OpCall]],
    *,
    seconds: float,
    codes: Collection[str] | None = None,
    freed: Sequence[int] = (),
    keeps: Sequence[bool] = (),
    progress: Progress | None = None,
    notes: list[str] | None = None,
) -> tuple[tuple[Counterfactual, ...], ...]:
    """Measure layers beside the same layers done otherwise, in child processes; this one stays as it is.

    Measured is a layer's costliest convolution or matrix product; where it has none, the forward operators
    of one call in a row, each on inputs of its own.

    Args:
        groups: the operators of one layer each.
        seconds: about how long all may take, the start of the children included.
        codes: which of `COUNTERFACTUALS` to try; None for all that apply.
        freed: sizes in bytes of the blocks that the network frees; the allocator learns by them.
        keeps: for each group whether the network's allocator keeps the memory that the layer frees,
            so that it meets hardly any page faults; the child's is then made to.
        progress: called with a stage and the share done.
        notes: why something is missing is added here.

    Returns:
        For each group those that apply and could be measured, in the order of `COUNTERFACTUALS`.
    """
    said = notes if notes is not None else []
    kinds = places()
    trials = trials_of(groups, codes, kinds, keeps)
    found: Mapping[int, list[Counterfactual]] = {}
    if trials and not sys.executable:
        said.append("nothing was done otherwise: this process cannot start another Python")
    elif trials:
        found = compared_elsewhere(trials, kinds, seconds=seconds, freed=freed, progress=progress, notes=said)
    return tuple(
        tuple(sorted(found.get(place, ()), key=lambda item: COUNTERFACTUALS.index(item.code)))
        for place in range(len(groups))
    )


def _tell(progress: Progress | None, stage: str, share: float) -> None:
    if progress is not None:
        progress(stage, share)
