"""How well latencies add up, what measuring them costs, how well they repeat, and beside whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import Any

import accuracy_sums as sums
from accuracy_processes import ask, beside
from accuracy_rows import (
    Part,
    Plan,
    Row,
    at_least,
    at_most,
    listed,
    percent,
    plain,
    seconds,
    seen,
    threads_text,
)

CLOSURE = {1: 0.03, 2: 0.10}
PER_LEAF_S, OF_THE_WHOLE = 3e-6, 0.02
FLOORS_MEDIAN, FLOORS_P90 = 0.05, 0.15
RANKS = {1: 0.98, 2: 0.9}
IDENTITY = 1e-9  # of the whole: sums of floats are exact to rounding
DISTURBED_MEDIAN, DISTURBED_P90 = 0.10, 0.20
CACHE_RESIDENT_BYTES = 1_000_000
BRIEF_S = 10e-6  # shorter floors are mostly the clock's


def closure(plan: Plan) -> Part:
    """Whether layers and rows add up to the bare model, at 1 and 2 threads."""
    found = [
        ask("profile", model=name, threads=threads, **plan.sampling)
        for name in plan.networks
        for threads in CLOSURE
    ]
    rows = [_identity(found)]
    for threads, limit in CLOSURE.items():
        ours = [one for one in found if one["threads"] == threads]
        for against in ("bare_median_s", "bare_fast_mean_s"):
            ratios = {one["model"]: one["layers_sum_s"] / one[against] for one in ours}
            worst = max(ratios.values(), key=lambda ratio: abs(ratio - 1))
            name = against.removeprefix("bare_").removesuffix("_s").replace("_", " ")
            rows.append(
                at_most(
                    f"Σ layers / bare {name} - 1, {threads_text(threads)}, worst network",
                    abs(worst - 1),
                    limit,
                    percent,
                    detail=_by_network(ratios, "{:.3f}".format),
                    note=_words(ours),
                )
            )
    return Part(tuple(rows), {"processes": found})


def instrument(plan: Plan) -> Part:
    """What the marks at module boundaries cost: the marked passes' fast mean less the bare ones'."""
    found = {
        name: [ask("profile", model=name, threads=1, **plan.sampling) for _ in range(1 if plan.quick else 2)]
        for name in plan.networks
    }
    costs = {
        name: [one["layers_sum_s"] - one["bare_fast_mean_s"] for one in ones] for name, ones in found.items()
    }
    leaf, call, share = (
        {
            name: median(cost / one[whole] for cost, one in zip(costs[name], ones, strict=True))
            for name, ones in found.items()
        }
        for whole in ("leaf_calls", "module_calls", "bare_fast_mean_s")
    )
    everyone = [one for ones in found.values() for one in ones]
    rows = (
        at_most(
            "instrument per leaf, batch 1, worst network",
            max(leaf.values()),
            PER_LEAF_S,
            seconds,
            detail=_by_network(leaf, seconds),
            note=_words(everyone),
        ),
        seen("instrument per module call, containers too", _by_network(call, seconds)),
        at_most(
            "instrument of the whole, batch 1, worst network",
            max(share.values()),
            OF_THE_WHOLE,
            percent,
            detail=_by_network(share, percent),
        ),
        _identity(everyone),
    )
    return Part(rows, {"processes": everyone})


def repeat(plan: Plan) -> Part:
    """How floors, ranks and intervals hold in another process; processes of 1 and 2 threads take turns."""
    net, rows, raw = plan.networks[0], [], {}
    efforts = [("normal", plan.times, plan.sampling)]
    if plan.thorough:
        efforts.append(("thorough", max(2, min(plan.times, 3)), {}))
    for effort, times, sampling in efforts:
        chosen = tuple(RANKS) if effort == "normal" else (1,)
        found: dict[int, list[Any]] = {threads: [] for threads in chosen}
        for _ in range(times):
            for threads, ones in found.items():
                ones.append(ask("profile", model=net, threads=threads, effort=effort, **sampling))
        for threads, ones in found.items():
            rows += _repeated(ones, f"{_short(net)}, {effort}, {threads_text(threads)}", threads)
            raw[f"{effort}, {threads_text(threads)}"] = ones
    return Part(tuple(rows), raw)


def disturbed(plan: Plan) -> Part:
    """Floors of cache-resident layers beside a foreign process, over those of the quiet runs round it."""
    net = plan.networks[0]
    order = ["", "spinning", "", "streaming", ""]
    if not plan.quick:
        order += ["spinning", "", "streaming", ""]
    found = []
    for kind in order:
        with beside(kind):
            # with roofs, for a contested memory shows by them
            found.append(ask("profile", model=net, threads=1, roofs=True, **plan.sampling))
    quiet = found[::2]
    layers = _resident(quiet)
    rows = [
        seen(
            f"quiet runs beside each other: floors of the {len(layers)} cache-resident layers",
            _middle_and_p90(sums.differences(quiet, layers), percent),
            note=f"said: {listed([one['quality'] for one in quiet])}",
        )
    ]
    for kind in ("spinning", "streaming"):
        rows += _beside_one(kind, order, found, layers)
    return Part(tuple(rows), {"order": order, "processes": found, "layers": layers})


# --------------------------------------------------------------------------- rows


def _identity(processes: Sequence[Any]) -> Row:
    """The table adds up to the whole's median by named rows."""
    worst = max(abs(one["identity_error_s"]) / one["bare_median_s"] for one in processes)
    text = "Σ layers + instrumentation + interference = whole, error / whole"
    return at_most(text, worst, IDENTITY, lambda share: f"{share:.0e}" if share else "0", detail="worst")


def _repeated(processes: Sequence[Any], where: str, threads: int) -> list[Row]:
    layers = sums.large_layers(processes)
    groups = sums.states(processes)
    pages = [f"{group[0]['page_faults'] or 0:.0f} × {len(group)}" for group in groups]
    rows = [
        *_spread(processes, layers, where, note=_words(processes)),
        _ranked(processes, where, RANKS[threads]),
        *_covered(processes, layers, where),
        seen(f"states of the allocator, page faults a pass × processes, {where}", ", ".join(pages)),
    ]
    same = [group for group in groups if len(group) > 1]
    if len(groups) > 1 and same:
        largest = max(same, key=len)
        where = f"{where}, the {len(largest)} in one state"
        rows += [*_spread(largest, layers, where, judged=False), *_covered(largest, layers, where)]
    return rows


def _spread(
    processes: Sequence[Any], layers: Sequence[int], where: str, *, judged: bool = True, note: str = ""
) -> Iterator[Row]:
    apart = sums.differences(processes, layers)
    if not judged or not apart:
        yield seen(f"floors, process to process, {where}", _middle_and_p90(apart, percent), note=note)
        return
    scope = f"{len(layers)} layers ≥ 1 %, {len(processes)} processes"
    what = f"floors, process to process, {where}"
    yield at_most(f"{what}: median", median(apart), FLOORS_MEDIAN, percent, detail=scope, note=note)
    yield at_most(f"{what}: p90", sums.percentile(apart, 0.9), FLOORS_P90, percent, detail=scope)


def _ranked(processes: Sequence[Any], where: str, limit: float) -> Row:
    """By the least of all pairs, over all layers."""
    found = sums.correlations(processes)
    large = sums.correlations(processes, sums.large_layers(processes))
    detail = f"median {median(found):.3f}; layers ≥ 1 %: least {min(large):.3f}" if found and large else ""
    what = f"rank correlation of all layers, least of pairs, {where}"
    return at_least(what, min(found, default=None), limit, lambda x: f"{x:.3f}".rstrip("0"), detail=detail)


def _covered(processes: Sequence[Any], layers: Sequence[int], where: str) -> Iterator[Row]:
    wide = sums.widths(processes, layers)
    for name, (held, of) in (
        ("of layers ≥ 1 %", sums.coverage(processes, layers)),
        ("of the whole", sums.coverage_of_the_whole(processes)),
    ):
        width = f"; width {_middle_and_p90(wide, percent)} of the floor" if wide and "layers" in name else ""
        measured = f"{percent(held / of)} ({held} of {of}{width})" if of else "no interval was given"
        what = f"another process's floor within the interval {name}, {where}"
        yield seen(what, measured, value=held / of if of else None)


def _resident(quiet: Sequence[Any]) -> list[int]:
    """Layers whose operators look at less than 1 MB, and take long enough to be timed."""
    return [
        place
        for place, layer in enumerate(quiet[0]["layers"])
        if layer["working_set_bytes"] is not None
        and layer["working_set_bytes"] < CACHE_RESIDENT_BYTES
        and min(one["layers"][place]["floor_s"] or 0.0 for one in quiet) >= BRIEF_S
    ]


def _beside_one(
    kind: str, order: Sequence[str], processes: Sequence[Any], layers: Sequence[int]
) -> Iterator[Row]:
    """Each disturbed run over the mean of the quiet runs before and after it."""
    places = [place for place, name in enumerate(order) if name == kind]
    ratios = []
    for place in places:
        before, here, after = (sums.floors(processes[at]) for at in (place - 1, place, place + 1))
        ratios += [here[layer] / fmean((before[layer], after[layer])) for layer in layers]
    words = [processes[place]["quality"] for place in places]
    what = f"beside a {kind} process, 1 thread: floors of {len(layers)} cache-resident layers / quiet"
    if kind == "streaming":
        yield seen(what, _middle_and_p90(ratios, plain), note="nothing is promised")
        good = all(word == "void" for word in words)
        yield Row(f"the word beside a {kind} process", "void", listed(words), good)
        said = all(word != "good" for word in words)
        yield Row(f"beside a {kind} process the report does not call itself good", "so", listed(words), said)
        return
    middle = median(ratios) - 1 if ratios else None
    high = sums.percentile([abs(ratio - 1) for ratio in ratios], 0.9) if ratios else None
    size = None if middle is None else abs(middle)
    detail = f"median ratio {median(ratios):.3f}" if ratios else ""
    yield at_most(f"{what}: |median - 1|", size, DISTURBED_MEDIAN, percent, detail=detail)
    yield at_most(f"{what}: p90 of |ratio - 1|", high, DISTURBED_P90, percent)
    good = all(word == "disturbed" for word in words)
    yield Row(f"the word beside a {kind} process", "disturbed", listed(words), good)


# --------------------------------------------------------------------------- text


def _middle_and_p90(values: Sequence[float], text: Any) -> str:
    if not values:
        return "nothing to compare"
    return f"median {text(median(values))}, p90 {text(sums.percentile(values, 0.9))}"


def _by_network(values: dict[str, float], text: Any) -> str:
    return ", ".join(f"{_short(name)} {text(value)}" for name, value in values.items())


def _words(processes: Sequence[Any]) -> str:
    return f"said: {listed([one['quality'] for one in processes])}"


def _short(address: str) -> str:
    return address.partition(":")[2] or address
