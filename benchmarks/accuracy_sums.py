"""Floors and intervals of several processes -> how well they repeat: arithmetic, nothing is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from statistics import fmean
from typing import Any

Process = dict[str, Any]
"""What `accuracy_child.profiled` tells of one process."""

LEAST_SHARE = 0.01  # of the time: smaller layers are no part of the targets
STATE_PAGES, STATE_SHARE = 50.0, 0.1
"""Processes whose page faults a pass differ by no more pages, or no larger a share, are in one state."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie, linear between the two nearest ranks."""
    ranked = sorted(values)
    place = share * (len(ranked) - 1)
    below = int(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (place - below) * (ranked[above] - ranked[below])


def ranks(values: Sequence[float]) -> list[float]:
    """From 1 for the smallest; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    place = 0
    while place < len(order):
        end = place
        while end < len(order) and values[order[end]] == values[order[place]]:
            end += 1
        for index in order[place:end]:
            found[index] = (place + 1 + end) / 2
        place = end
    return found


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Rank correlation: Pearson's of the ranks; None where one side is all alike."""
    left, right = ranks(one), ranks(other)
    middle = (len(left) + 1) / 2
    both = sum((a - middle) * (b - middle) for a, b in zip(left, right, strict=True))
    spread = sum((a - middle) ** 2 for a in left) * sum((b - middle) ** 2 for b in right)
    return both / spread**0.5 if spread else None


def half_range(values: Sequence[float]) -> float:
    """What "plus or minus" means: half of the range, over the middle of the ranked values."""
    return (max(values) - min(values)) / 2 / percentile(values, 0.5)


def floors(process: Process) -> list[float]:
    return [layer["floor_s"] or 0.0 for layer in process["layers"]]


def large_layers(processes: Sequence[Process]) -> list[int]:
    """Layers with at least 1 % of the time, on the mean over the processes.

    Raises:
        ValueError: the processes do not have the same layers.
    """
    names = {tuple((layer["path"], layer["type"]) for layer in process["layers"]) for process in processes}
    if len(names) != 1:
        raise ValueError(f"the processes do not have the same layers: {sorted(map(len, names))}")
    shares = [[layer["latency_s"] or 0.0 for layer in process["layers"]] for process in processes]
    wholes = [sum(seconds) for seconds in shares]
    return [
        place
        for place in range(len(shares[0]))
        if fmean(seconds[place] / whole for seconds, whole in zip(shares, wholes, strict=True)) >= LEAST_SHARE
    ]


def differences(processes: Sequence[Process], layers: Sequence[int]) -> list[float]:
    """|floor - floor| / their mean, of every layer and pair of processes."""
    found = []
    for one, other in combinations(processes, 2):
        left, right = floors(one), floors(other)
        found += [
            abs(left[place] - right[place]) / ((left[place] + right[place]) / 2)
            for place in layers
            if left[place] + right[place] > 0
        ]
    return found


def correlations(processes: Sequence[Process], layers: Sequence[int] | None = None) -> list[float]:
    """Rank correlations of the layers' floors, of every pair of processes; of all layers by default."""
    chosen = range(len(processes[0]["layers"])) if layers is None else layers
    found = []
    for one, other in combinations(processes, 2):
        left, right = floors(one), floors(other)
        value = spearman([left[place] for place in chosen], [right[place] for place in chosen])
        found += [] if value is None else [value]
    return found


def coverage(processes: Sequence[Process], layers: Sequence[int]) -> tuple[int, int]:
    """How often another process's floor lies in a process's interval; of how many, an interval given."""
    return _counted(
        low <= right["layers"][place]["floor_s"] <= high
        for left, right in permutations(processes, 2)
        for place in layers
        if (low := left["layers"][place]["interval_s"][0]) is not None
        and (high := left["layers"][place]["interval_s"][1]) is not None
    )


def coverage_of_the_whole(processes: Sequence[Process]) -> tuple[int, int]:
    """The same of the bare model's floor."""
    return _counted(
        left["bare_interval_s"][0] <= right["bare_floor_s"] <= left["bare_interval_s"][1]
        for left, right in permutations(processes, 2)
        if None not in left["bare_interval_s"]
    )


def widths(processes: Sequence[Process], layers: Sequence[int]) -> list[float]:
    """How wide the intervals are, as shares of the floors: an interval that holds all says nothing."""
    chosen = [process["layers"][place] for process in processes for place in layers]
    return [
        (layer["interval_s"][1] - layer["interval_s"][0]) / layer["floor_s"]
        for layer in chosen
        if None not in layer["interval_s"] and layer["floor_s"]
    ]


def states(processes: Sequence[Process]) -> list[list[Process]]:
    """Processes by the state of their allocator: page faults of a pass that are nearly the same."""
    ranked = sorted(processes, key=lambda process: process["page_faults"] or 0.0)
    found: list[list[Process]] = []
    for process in ranked:
        pages = process["page_faults"] or 0.0
        last = (found[-1][-1]["page_faults"] or 0.0) if found else None
        if last is not None and pages - last <= max(STATE_PAGES, STATE_SHARE * last):
            found[-1].append(process)
        else:
            found.append([process])
    return found


def _counted(held: Iterator[bool]) -> tuple[int, int]:
    told = list(held)
    return sum(told), len(told)
