"""How well the roofs repeat, how long a user waits, and how large or small a model may be."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import accuracy_sums as sums
from accuracy_processes import FailedError, ask, beside, run
from accuracy_rows import Part, Plan, Row, at_most, listed, percent, seconds, seen, threads_text

SPREADS = {"peak": 0.05, "cache": 0.05, "DRAM": 0.10, "overhead": 0.20, "page fault": 0.20}
MEASURING_S, EXPLAINED_S = 10.0, 30.0
NETWORK, LAYER = "zoo:mobilenetv3_large", "blocks.2.depthwise.conv"
MEASURING = ("roofs", "warm-up", "timing", "replays")
"""The stages that measure; the others import, load, count and ask the library for its log."""
IDENTITY = 1e-9
SANE_BYTES = 2_000_000_000


def roofs(plan: Plan) -> Part:
    """Calibrate several times over; then beside two busy processes, where it must be refused."""
    rows, raw = [], {}
    for threads in (1,) if plan.quick else (1, 2):
        times = max(2, plan.times)
        found = [ask("roofs", threads=threads, **_passes(plan)) for _ in range(times)]
        good = [one for one in found if one["quality"] == "good"]
        raw[f"threads {threads}"] = found
        rows += list(_spreads(good, threads_text(threads), of=len(found)))
        rows.append(
            seen(
                f"seconds of a calibration, {threads_text(threads)}",
                f"{min(one['seconds'] for one in found):.1f} to {max(one['seconds'] for one in found):.1f}",
                note=f"said: {listed([one['quality'] for one in found])}",
            )
        )
    for threads in (1, 2):
        with beside("spinning", 2):
            one = ask("roofs", threads=threads, **_passes(plan))
        raw[f"beside two, threads {threads}"] = [one]
        answer = "refused" if one["refusal"] else "taken"
        what = f"roofs beside two spinning processes, {threads_text(threads)}"
        rows.append(Row(what, "refused", answer, one["refusal"] is not None, None, one["refusal"] or ""))
    return Part(tuple(rows), raw)


def waiting(plan: Plan) -> Part:
    """What a user waits for, in a shell: first with nothing calibrated, then again; and why."""
    settings = ["--threads", "1", *(["--max-seconds", str(plan.seconds)] if plan.seconds else [])]
    report, why = ["report", NETWORK, *settings], ["why", NETWORK, LAYER, *settings]
    raw: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="flopscope-benchmark-") as folder:
        for name, words in (
            ("first", report),
            ("again", report),
            ("quick", [*report, "--effort", "quick"]),
            ("why", why),
        ):
            raw[name] = _command(words, folder)
    with tempfile.TemporaryDirectory(prefix="flopscope-benchmark-") as folder:
        cache = {"FLOPSCOPE_CACHE": folder}
        parts = ask("profile", model=NETWORK, threads=1, roofs=True, environment=cache, **plan.sampling)
    raw["parts"] = parts
    rows = [
        _waited(raw["first"], MEASURING_S, "first time, calibration included"),
        _measuring(parts),
        _waited(raw["first"], EXPLAINED_S, "first time, calibration, replays and reasons included"),
        _waited(raw["again"], MEASURING_S, "roofs known"),
        _waited(raw["quick"], None, "roofs known"),
        _waited(raw["why"], EXPLAINED_S, "roofs known"),
        seen(
            "stages of a first time, from Python",
            ", ".join(f"{name} {taken:.1f} s" for name, taken in parts["stages"].items()),
            note="the last stage holds all that follows it, the report included",
        ),
    ]
    return Part(tuple(rows), raw)


def scale(plan: Plan) -> Part:
    """Models of 5 and of thousands of layers, a layer called 500 times, a forward of two seconds."""
    cases = {
        "5 layers": "chain:5",
        "5,000 layers": "chain:500" if plan.quick else "chain:5000",
        "one layer called 500 times": "repeated:500",
        "a forward of 2 s": "slow:0.2" if plan.quick else "slow:2",
    }
    known = ask("calibrate", threads=1)["quality"]
    rows, raw = [], {}
    for name, case in cases.items():
        try:
            one = ask("scale", case=case, threads=1, **plan.sampling)
        except FailedError as failure:
            rows.append(Row(f"{name}: profiled", "so", str(failure), False))
            continue
        raw[name] = one
        rows += list(_sized(name, one, note=f"{case}; roofs {known}"))
    return Part(tuple(rows), raw)


# --------------------------------------------------------------------------- rows


def _spreads(machines: Sequence[Any], where: str, *, of: int) -> Iterator[Row]:
    """Half the range of each quantity over its middle; a group is judged by its worst quantity."""
    kept = f"{len(machines)} of {of} calibrations were undisturbed"
    groups = _quantities(machines) if len(machines) > 1 else dict.fromkeys(SPREADS)
    for kind, limit in SPREADS.items():
        spreads = groups.get(kind) or {}
        worst = max(spreads.values(), default=None)
        at = max(spreads, key=lambda name: spreads[name]) if spreads else ""
        what = f"roofs repeat within ±: {kind}, {where}"
        yield at_most(what, worst, limit, percent, detail=f"worst of {len(spreads)}: {at}", note=kept)


def _quantities(machines: Sequence[Any]) -> dict[str, dict[str, float]]:
    """The spread of every quantity that all calibrations have, by kind."""
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in SPREADS}
    knee = sums.percentile([one["knee_bytes"] for one in machines], 0.5)
    for one in machines:
        for dtype, rate in one["peak"].items():
            found["peak"].setdefault(dtype, []).append(rate)
        for size, rate in one["bandwidth"].items():
            level = "cache" if int(size) < knee else "DRAM"
            found[level].setdefault(f"{int(size) / 1e6:.3g} MB", []).append(rate)
        for kind, cost in one["overhead"].items():
            found["overhead"].setdefault(kind, []).append(cost)
        if one["fault"] is not None:
            found["page fault"].setdefault("price", []).append(one["fault"])
    return {
        kind: {
            name: sums.half_range(values) for name, values in group.items() if len(values) == len(machines)
        }
        for kind, group in found.items()
    }


def _sized(name: str, one: Any, *, note: str) -> Iterator[Row]:
    """How long it took, whether it adds up, and what memory it left behind."""
    stages = one["stages"]
    sampling = stages.get("timing", 0.0) + stages.get("warm-up", 0.0)
    parts = f"sampling {sampling:.1f} s in {one['rounds']} rounds, stopped by {one['stop_reason']}"
    yield seen(
        f"{name}: seconds to profile",
        f"{one['profile_s']:.1f} ({parts}; a forward takes {seconds(one['forward_s'])})",
        value=one["profile_s"],
        note=note,
    )
    worst = abs(one["identity_error_s"]) / one["bare_median_s"]
    yield at_most(f"{name}: rows add up to the whole, error / whole", worst, IDENTITY, lambda x: f"{x:.0e}")
    ratio = one["layers_sum_s"] / one["bare_median_s"]
    calls, cost = one["module_calls"], one["layers_sum_s"] - one["bare_fast_mean_s"]
    yield seen(
        f"{name}: Σ layers / bare median",
        f"{ratio:.3f} (instrument {seconds(cost / calls)} a module call)",
        value=ratio,
        note=f"said: {one['quality']}",
    )
    yield at_most(
        f"{name}: memory that profiling added",
        one["grown_bytes"],
        SANE_BYTES,
        lambda x: f"{x / 1e6:.0f} MB",
        detail=f"{one['layers_count']} layers; table made in {seconds(one['table_s'])}",
    )


# --------------------------------------------------------------------------- commands


def _command(words: Sequence[str], cache: str) -> dict[str, Any]:
    """One command as a user runs it: seconds, what it said beside its result, whether it had roofs."""
    command, known = [sys.executable, "-P", "-m", "flopscope", *words], _has_roofs(cache)
    taken, done = run(command, environment={"FLOPSCOPE_CACHE": cache})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise FailedError(f"flopscope {' '.join(words)}: {last}")
    return {
        "words": list(words),
        "seconds": taken,
        "stderr": done.stderr,
        "roofs_known": known,
        "roofs_kept": _has_roofs(cache),
    }


def _has_roofs(cache: str) -> bool:
    return any(Path(cache).rglob("*.json"))


def _waited(told: dict[str, Any], limit: float | None, when: str) -> Row:
    """How long a command took, against its target where it has one."""
    note = "" if told["roofs_kept"] else "roofs refused as disturbed: calibrated longer, nothing explained"
    if told["roofs_kept"] and not told["roofs_known"] and not when.startswith("first"):
        note = "calibrated here, for the roofs had been refused before"
    what = f"`flopscope {' '.join(told['words'])}`, {when}"
    if limit is None:
        return seen(what, seconds(told["seconds"]), value=told["seconds"], note=note)
    row = at_most(what, told["seconds"], limit, seconds, note=note)
    return replace(row, met=bool(row.met) and told["roofs_kept"])  # without roofs it is another task


def _measuring(parts: dict[str, Any]) -> Row:
    """The stages that measure, of the same call from Python."""
    return at_most(
        "of a first time, the measuring itself: roofs, warm-up, sampling, replays",
        sum(parts["stages"].get(name, 0.0) for name in MEASURING),
        MEASURING_S,
        seconds,
        note="" if parts["has_roofs"] else "roofs refused as disturbed: calibrated longer, no replays",
    )


def _passes(plan: Plan) -> dict[str, int]:
    return {"passes": 1} if plan.quick else {}
