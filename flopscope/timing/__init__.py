"""A model and the arguments of one call -> Timings: what each stretch between modules takes.

Modules are timed in place, in whole forward passes: a layer run alone, over and over, finds its
data in cache and takes less than its true time. Bare passes, without any instrument, are
taken in turn with the instrumented ones, so that the instrument's own cost shows.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from flopscope.clocks import Clock
from flopscope.records import Latency, Timings

WARMUP_LEAST, WARMUP_MOST = 3, 20
ROUNDS_LEAST, ROUNDS_MOST = 8, 400
SECONDS = {"quick": 1.5, "normal": 5.0, "thorough": 15.0}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How long to sample: whole rounds until `max_seconds` are spent, within the two bounds."""

    max_seconds: float
    rounds_least: int = ROUNDS_LEAST
    rounds_most: int = ROUNDS_MOST


def measure(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    clock: Clock,
    sampling: Sampling,
    device: str = "cpu",
    progress: Callable[[str, float], None] = lambda stage, share: None,
) -> Timings:
    """Time forward passes of `model`, bare and with a mark at every module boundary in turn.

    Args:
        model: a private copy in eval mode; its `forward`s are wrapped and given back.
        args: positional arguments of the call, on the model's device.
        kwargs: keyword arguments of the call.
        clock: reads the time on the device.
        sampling: when to stop.
        device: the device's name, for the record.
        progress: called with a stage's name and the share of it that is done.
    """

    def run() -> Any:
        return model(*args, **kwargs)

    gc.collect()
    with torch.inference_mode(), without_collection():
        probe = _Probe(model, clock)
        warmups = _warm_up(run, clock, sampling, progress)
        boundaries = probe.boundaries(run)
        rounds = _sample(run, probe, clock, sampling, progress, len(boundaries))
    kept = [stretches for _, stretches in rounds if stretches]
    bare = tuple(seconds for seconds, _ in rounds)
    whole = tuple(sum(stretches) for stretches in kept)
    return Timings(
        bare=Latency(bare),
        instrumented=Latency(whole),
        boundaries=boundaries,
        stretches=tuple(zip(*kept, strict=True)),
        warmup_rounds=warmups,
        stop_reason="time" if len(rounds) < sampling.rounds_most else "rounds",
        threads=torch.get_num_threads(),
        device=device,
        instrument_s=max(0.0, _fast_mean(whole) - _fast_mean(bare)),
        warnings=_changes_of_path(len(rounds) - len(kept)),
    )


def _warm_up(
    run: Callable[[], Any], clock: Clock, sampling: Sampling, progress: Callable[[str, float], None]
) -> int:
    """Run until the last three passes agree within 10 %; at most a quarter of the time."""
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < WARMUP_MOST:
        progress("warm-up", len(times) / WARMUP_MOST)
        times.append(_one_pass(run, clock))
        late = time.perf_counter() - started > sampling.max_seconds / 4
        steady = len(times) >= WARMUP_LEAST and max(times[-3:]) <= 1.1 * min(times[-3:])
        if steady or (late and len(times) >= WARMUP_LEAST):
            break
    return len(times)


def _one_pass(run: Callable[[], Any], clock: Clock) -> float:
    before = clock.mark()
    output = run()
    after = clock.mark()
    del output  # held until the clock was read: freeing it is not part of the pass
    return sum(clock.settle((before, after)))


def _sample(
    run: Callable[[], Any],
    probe: _Probe,
    clock: Clock,
    sampling: Sampling,
    progress: Callable[[str, float], None],
    boundaries: int,
) -> list[tuple[float, tuple[float, ...]]]:
    """Rounds of one bare and one instrumented pass; the order changes from round to round."""
    rounds: list[tuple[float, tuple[float, ...]]] = []
    started = time.perf_counter()
    while len(rounds) < sampling.rounds_most:
        spent = time.perf_counter() - started
        if spent > sampling.max_seconds and len(rounds) >= sampling.rounds_least:
            break
        progress("timing", min(1.0, spent / sampling.max_seconds))
        if len(rounds) % 2:
            marks = probe.marks(run)
            bare = _one_pass(run, clock)
        else:
            bare = _one_pass(run, clock)
            marks = probe.marks(run)
        rounds.append((bare, clock.settle(marks) if len(marks) == boundaries else ()))
    return rounds


class _Probe:
    """Wraps the `forward` of every module of a model so that entering and leaving is marked.

    Wrappers on the instances, not hooks: a hook would switch torch's fused transformer paths off.
    """

    def __init__(self, model: nn.Module, clock: Clock) -> None:
        self._mark = clock.mark
        self._modules = [
            (path, module)
            for path, module in model.named_modules()
            if not isinstance(module, torch.jit.ScriptModule | torch.jit.ScriptFunction)
        ]
        self._marks: list[Any] = []
        self._wrapped = [(module, self._marked(module.forward)) for _, module in self._modules]

    def boundaries(self, run: Callable[[], Any]) -> tuple[str, ...]:
        """The order in which modules are entered ("+path") and left ("-path")."""
        order: list[str] = []
        named = [(module, _noting(module.forward, path, order)) for path, module in self._modules]
        with _replaced(named):
            run()
        return tuple(order)

    def marks(self, run: Callable[[], Any]) -> list[Any]:
        """The moments of one pass at which modules were entered and left."""
        self._marks.clear()
        with _replaced(self._wrapped):
            output = run()
        del output
        return list(self._marks)

    def _marked(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        mark, note = self._mark, self._marks.append

        def marked(*args: Any, **kwargs: Any) -> Any:
            note(mark())
            result = forward(*args, **kwargs)
            note(mark())
            return result

        return marked


def _noting(forward: Callable[..., Any], path: str, order: list[str]) -> Callable[..., Any]:
    def noting(*args: Any, **kwargs: Any) -> Any:
        order.append(f"+{path}")
        result = forward(*args, **kwargs)
        order.append(f"-{path}")
        return result

    return noting


@contextmanager
def _replaced(forwards: list[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Put each `forward` on its instance; afterwards restore what the instance had of its own."""
    own = [module.__dict__.get("forward") for module, _ in forwards]
    try:
        for module, forward in forwards:
            module.__dict__["forward"] = forward
        yield
    finally:
        for (module, _), before in zip(forwards, own, strict=True):
            if before is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = before


@contextmanager
def without_collection() -> Iterator[None]:
    """Keep the garbage collector still: each collection would walk all of torch."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _fast_mean(seconds: tuple[float, ...]) -> float:
    """Mean over the fastest half of the rounds."""
    if not seconds:
        return 0.0
    fastest = sorted(seconds)[: (len(seconds) + 1) // 2]
    return sum(fastest) / len(fastest)


def _changes_of_path(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    return (f"the forward took another path in {count} rounds; their layers are left out of the latencies",)
