"""What a run takes on a machine: samples, and what the system told about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Latency:
    """Repeated measurements of one thing, in seconds, in the order in which they were taken."""

    samples: tuple[float, ...]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of them lie, interpolated; at least one is needed."""
    ranked = sorted(values)
    place = share * (len(ranked) - 1)
    below = int(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (place - below) * (ranked[above] - ranked[below])


@dataclass(frozen=True, slots=True)
class Witnesses:
    """What the system told about a measurement; None where the platform has no such source.

    By bare pass: `run_delay_s`, how long its threads waited for a processor; `faults`, its page
    faults; `probe_s`, what a small fixed matrix product took just before (the processor's clock).
    Over all bare passes: `wall_s`, and `cpu_s` of all threads; over the whole sampling: involuntary
    context `switches`. `loads` is the load average (1 min) before and after. By stretch, from passes of
    their own: `stretch_faults`, page faults in one pass; `stretch_waits`, the share of passes in which
    a thread waited for a processor there. `processors` is how many this process may use, `others` how
    many of these other processes kept busy meanwhile, on average. `major_faults`, over the whole
    sampling, are those that read from disk. `stream_bytes_per_s` are the rates of copies of
    `stream_bytes` (read and written together) taken between epochs.
    """

    wall_s: float
    cpu_s: float | None = None
    run_delay_s: tuple[float, ...] | None = None
    faults: tuple[int, ...] | None = None
    probe_s: tuple[float, ...] = ()
    switches: int | None = None
    loads: tuple[float, float] | None = None
    stretch_faults: tuple[float, ...] | None = None
    stretch_waits: tuple[float, ...] | None = None
    processors: int | None = None
    missing: tuple[str, ...] = ()
    others: float | None = None
    major_faults: int | None = None
    stream_bytes_per_s: tuple[float, ...] = ()
    stream_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Measured times: the bare model, and the stretches between module boundaries.

    `boundaries` is the order in which modules were entered ("+path") and left ("-path") in every
    instrumented round; `stretches[k]` holds, by round, the time between boundaries k and k+1.
    `epochs` says of each round which of the epochs, spread over the measurement, it belongs to.
    `instrument_s` estimates what the instrument added to a round. Where the device works off a queue,
    `issued_s` holds the seconds in which the host had issued each bare pass: where they reach the pass's
    own, launching is what it waits for. Of a training step `phases` holds the bare times of "forward",
    "loss", "backward" and "optimizer", and `later` says of each stretch after the forward's whose it is: a
    module's path, "(loss)" or "(optimizer)". `repeats` are measurements of the same call in other processes.
    `turns` says of each round in which turn it was taken: those of two models timed together are neighbours
    where their turns are equal.
    """

    bare: Latency
    instrumented: Latency
    boundaries: tuple[str, ...]
    stretches: tuple[tuple[float, ...], ...]
    warmup_rounds: int
    stop_reason: str
    threads: int
    device: str
    instrument_s: float = 0.0
    warnings: tuple[str, ...] = ()
    epochs: tuple[int, ...] = ()
    witnesses: Witnesses | None = None
    issued_s: tuple[float, ...] = ()
    repeats: tuple[Timings, ...] = ()
    later: tuple[str, ...] = ()
    phases: Mapping[str, Latency] = field(default_factory=dict)
    turns: tuple[int, ...] = ()
