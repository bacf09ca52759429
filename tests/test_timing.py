"""Timing, by a clock that moves only when a layer says so: every number is known beforehand."""

from __future__ import annotations

import gc
import os
import time
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from flopscope import clocks, timing
from flopscope.errors import MeasurementError
from flopscope.records import Timings
from flopscope.timing import sampling


class FakeClock:
    """Seconds that pass only where somebody adds them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.marks = 0

    def mark(self) -> float:
        self.marks += 1
        return self.now

    queues = False

    def settle(self, marks: Any) -> tuple[float, ...]:
        return tuple(after - before for before, after in pairwise(marks))

    def lead(self, seconds: float) -> None:
        pass


class Blind(timing.Observer):
    """A platform that tells nothing."""

    def __init__(self) -> None:
        super().__init__(tasks=Path("/nowhere"))
        self.missing = ["run-delay", "page faults", "context switches", "load"]

    run_delay = None  # type: ignore[assignment]
    faults = None  # type: ignore[assignment]

    def look_again(self) -> None:
        pass

    def switches(self) -> int | None:
        return None

    def load(self) -> float | None:
        return None

    def major_faults(self) -> int | None:
        return None

    def foreign(self) -> float | None:
        return None

    def stream(self) -> float:
        return 1e10


class Counts(Blind):
    """A platform on which every reading finds the next of some numbers."""

    def __init__(self, delays: Any, faults: Any) -> None:
        super().__init__()
        self.missing = []
        self.delays, self.found = iter(delays), iter(faults)

    @property
    def run_delay(self) -> Any:  # type: ignore[override]
        return self.delays.__next__

    @property
    def faults(self) -> Any:  # type: ignore[override]
        return self.found.__next__


class Takes(nn.Module):
    """A layer that takes `seconds`."""

    def __init__(self, clock: FakeClock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.clock.now += self.seconds
        return x


class Between(nn.Module):
    """Two layers, and work of its own before, between and after them."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.a, self.b = Takes(clock, 2.0), Takes(clock, 4.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.clock.now += 0.25
        x = self.a(x)
        self.clock.now += 0.5
        x = self.b(x)
        self.clock.now += 1.0
        return x


def measured(model: nn.Module, clock: FakeClock, **given: Any) -> Timings:
    sampling = timing.Sampling(max_seconds=60.0, rounds_least=2, rounds_most=given.pop("rounds", 4))
    return timing.measure(model, (torch.ones(1),), {}, clock=clock, sampling=sampling, **given)


def test_every_stretch_between_boundaries_is_what_passed_there() -> None:
    clock = FakeClock()
    found = measured(Between(clock), clock)
    assert found.boundaries == ("+", "+a", "-a", "+b", "-b", "-")
    assert found.stretches == ((0.25,) * 4, (2.0,) * 4, (0.5,) * 4, (4.0,) * 4, (1.0,) * 4)
    assert found.bare.samples == (7.75,) * 4
    assert found.instrumented.samples == (7.75,) * 4
    assert found.instrument_s == 0.0
    assert found.stop_reason == "rounds"
    assert found.warnings == ()


def test_several_are_timed_in_the_same_turns_whatever_drifts() -> None:
    """The clock halves half way through: neighbours still differ threefold, but for one turn at most."""
    clock, calls = FakeClock(), count()

    class Drifts(Takes):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.clock.now += self.seconds * (1.0 if next(calls) < 120 else 2.0)
            return x

    runs = [timing.Run(Drifts(clock, seconds), (torch.ones(1),), {}) for seconds in (1.0, 3.0)]
    long = timing.Sampling(max_seconds=60.0, rounds_least=2, rounds_most=40)
    one, other = timing.measure_in_turns(runs, clock=clock, sampling=long, observer=Blind())
    assert one.turns == other.turns == tuple(range(40))
    assert {one.bare.samples[0], one.bare.samples[-1]} == {1.0, 2.0}
    ratios = [b / a for a, b in zip(one.bare.samples, other.bare.samples, strict=True)]
    assert sum(ratio != 3.0 for ratio in ratios) <= 1
    assert one.boundaries == ("+", "-")


def test_the_order_within_a_turn_changes() -> None:
    clock = FakeClock()
    order: list[str] = []

    class Notes(Takes):
        def __init__(self, name: str) -> None:
            super().__init__(clock, 1.0)
            self.name = name

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            order.append(self.name)
            return super().forward(x)

    runs = [timing.Run(Notes(name), (torch.ones(1),), {}) for name in "ab"]
    sampling_ = timing.Sampling(max_seconds=60.0, rounds_least=2, rounds_most=30)
    timing.measure_in_turns(runs, clock=clock, sampling=sampling_, observer=Blind())
    turns = ["".join(order[k : k + 6]) for k in range(len(order) - 30 * 6, len(order), 6)]
    assert set(turns) == {"aaabbb", "bbbaaa"}  # a lead-in, a bare and a marked pass of each
    assert 5 < turns.count("aaabbb") < 25


def test_threads_of_a_run_are_its_own_and_given_back() -> None:
    before, seen, clock = torch.get_num_threads(), set(), FakeClock()

    class Sees(Takes):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.add(torch.get_num_threads())
            return super().forward(x)

    run = timing.Run(Sees(clock, 1.0), (torch.ones(1),), {}, threads=before + 1)
    (found,) = timing.measure_in_turns(
        [run], clock=clock, sampling=timing.Sampling(max_seconds=9.0, rounds_least=2), observer=Blind()
    )
    assert seen == {before + 1}
    assert found.threads == before + 1
    assert torch.get_num_threads() == before


def test_a_module_that_runs_twice_is_entered_twice() -> None:
    clock = FakeClock()
    twice = Takes(clock, 1.0)
    found = measured(nn.Sequential(twice, twice), clock)
    assert found.boundaries == ("+", "+0", "-0", "+0", "-0", "-")


def test_what_the_instrument_adds_is_told_apart() -> None:
    """A clock whose reading takes a quarter of a second: 5 marks lie within a marked pass of 6."""
    clock = FakeClock()
    plain = clock.mark

    def slow() -> float:
        clock.now += 0.25
        return plain()

    clock.mark = slow  # type: ignore[method-assign]
    found = measured(Between(clock), clock)
    # A bare pass has its second mark's reading inside, a marked one those of its second to sixth mark.
    assert found.bare.samples == (8.0,) * 4
    assert found.instrumented.samples == (9.0,) * 4
    assert found.instrument_s == 1.0


def test_warm_up_goes_on_until_three_passes_agree() -> None:
    clock = FakeClock()

    class Warms(Takes):
        passes = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seconds = {0: 9.0, 1: 3.0, 2: 1.2}.get(self.passes, 1.0)
            type(self).passes += 1
            return super().forward(x)

    # 9, 3, 1.2, 1, 1, 1: the first three in a row within 10 % are the fourth to the sixth.
    assert measured(Warms(clock, 0.0), clock).warmup_rounds == 6


def test_a_round_that_takes_another_path_is_left_out_and_said() -> None:
    clock = FakeClock()

    class Turns(nn.Module):
        passes = 0

        def __init__(self) -> None:
            super().__init__()
            self.layer = Takes(clock, 1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            type(self).passes += 1
            return x if self.passes in (7, 8) else self.layer(x)

    found = measured(Turns(), clock, observer=Blind())
    # Passes 1-3 warm up, 4 finds the boundaries; rounds are passes 5+6, 7+8, 9+10, 11+12.
    assert len(found.bare.samples) == len(found.epochs) == 3
    assert [len(stretch) for stretch in found.stretches] == [3, 3, 3]
    assert found.warnings == (
        "the forward took another path in 1 rounds; they are left out of the latencies",
    )


def test_what_the_system_tells_is_kept_by_pass_and_by_stretch() -> None:
    """A faults counter that gains 7 and a run-delay that gains 30 µs at every reading."""
    clock = FakeClock()
    seen = Counts(count(0, 30_000), count(0, 7))
    found = measured(nn.Sequential(Takes(clock, 1.0)), clock, observer=seen, rounds=2).witnesses
    assert found is not None
    # A bare pass reads each counter before and after: 7 faults, 30 µs of waiting.
    assert found.faults == (7, 7)
    assert found.run_delay_s == pytest.approx((30e-6, 30e-6))
    # The boundaries "+", "+0", "-0", "-" make three stretches; each gains 7, and waits over 20 µs.
    assert found.stretch_faults == (7.0, 7.0, 7.0)
    assert found.stretch_waits == (1.0, 1.0, 1.0)
    assert found.wall_s == 2.0
    assert found.loads is None


def test_pages_that_only_the_first_pass_faults_in_are_not_of_every_pass() -> None:
    """Three passes counted faults in two stretches: the process grows in the first, and is steady then."""
    log = sampling.Log()
    log.bare += [1.0]
    log.stretch_faults += [(1000, 1000), (2, 0), (2, 4)]
    before = timing._Readings(0.0, 0, 0, 0.0, 0.0)
    after = timing._Readings(1.0, 0, 0, 0.0, 0.0)
    assert timing._witnesses(log, Blind(), before, after).stretch_faults == (2.0, 4.0)


def test_a_wait_below_20_microseconds_is_a_hand_over_between_threads() -> None:
    clock = FakeClock()
    seen = Counts(count(0, 20_000), count(0, 0))
    found = measured(nn.Sequential(Takes(clock, 1.0)), clock, observer=seen, rounds=2).witnesses
    assert found is not None
    assert found.stretch_waits == (0.0, 0.0, 0.0)


def test_a_platform_that_tells_nothing_breaks_nothing() -> None:
    clock = FakeClock()
    found = measured(nn.Sequential(Takes(clock, 1.0)), clock, observer=Blind()).witnesses
    assert found is not None
    assert (found.run_delay_s, found.faults, found.stretch_faults, found.stretch_waits) == (None,) * 4
    assert found.missing == ("run-delay", "page faults", "context switches", "load")


def test_what_other_processes_took_of_our_processors(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    ours = min(os.sched_getaffinity(0))
    #                       user nice system idle iowait irq softirq steal
    stat.write_text(
        f"cpu 9 9 9 9 9 9 9 9\ncpu{ours} 100000 2 3 400 5 6 7 8\ncpu4096 50 0 0 0 0 0 0 0\nintr 1\n"
    )
    ticks = 100000 + 2 + 3 + 6 + 7
    before = time.process_time()
    found = timing.Observer(stat=stat).foreign()
    assert found is not None
    expected = ticks / os.sysconf("SC_CLK_TCK")
    assert expected - time.process_time() <= found <= expected - before


def test_where_the_system_does_not_list_its_processors_nothing_is_said(tmp_path: Path) -> None:
    assert timing.Observer(stat=tmp_path / "none").foreign() is None


def log_of(*epochs: tuple[float, ...]) -> sampling.Log:
    """Two rounds per epoch, alike."""
    log = sampling.Log()
    for number, stretches in enumerate(epochs):
        log.marked += [stretches, stretches]
        log.epochs += [number, number]
    return log


def test_sampling_ends_when_the_epochs_agree_on_what_takes_most_of_the_time() -> None:
    # 90 % of the time is one stretch: 9.0 to 9.8 is a range of 0.8, below 2 * 5 % of the median 9.0.
    same = log_of((9.0, 1.0), (9.0, 3.0), (9.0, 1.0), (9.8, 1.0))
    assert sampling.is_known_closely(same)
    assert not sampling.is_known_closely(log_of((9.0, 1.0), (9.0, 1.0), (9.0, 1.0), (10.0, 1.0)))
    assert not sampling.is_known_closely(log_of((9.0, 1.0), (9.0, 1.0), (9.0, 1.0))), "three epochs are few"


def test_sampling_stops_when_the_time_is_spent() -> None:
    clock, host = FakeClock(), count()
    plan = timing.Sampling(max_seconds=40.0, rounds_least=2, rounds_most=1000, now=lambda: float(next(host)))
    layer = Takes(clock, 1.0)

    class Drifts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            clock.now += clock.now / 10  # never twice alike
            return layer(x)

    found = timing.measure(
        nn.Sequential(Drifts()), (torch.ones(1),), {}, clock=clock, sampling=plan, observer=Blind()
    )
    assert found.stop_reason == "time"
    # One reading of the host's clock a round, from 0 to 40, lies in ten epochs of four seconds.
    assert len(found.bare.samples) == 40
    assert [found.epochs.count(epoch) for epoch in range(10)] == [3, 4, 4, 4, 4, 4, 4, 4, 4, 5]


@pytest.mark.parametrize(
    ("takes", "warmups", "rounds"),
    [
        # Ten seconds are given, and passes of 1.25 s are an eighth of that: eight rounds as ever, in 20 s.
        (1.25, 3, 8),
        # Of 2 s: as many as fill ten seconds with bare ones, 10 / 2 = 5. Warm-up: 2 s, 4 s; over 10 / 4.
        (2.0, 2, 5),
        # Of 4 s: 10 / 4 = 2 are too few to compare, so three; one pass warms up.
        (4.0, 1, 3),
    ],
)
def test_a_slow_forward_is_run_less_often(takes: float, warmups: int, rounds: int) -> None:
    clock = FakeClock()
    plan = timing.Sampling(max_seconds=10.0, now=lambda: clock.now)
    found = timing.measure(
        Takes(clock, takes), (torch.ones(1),), {}, clock=clock, sampling=plan, observer=Blind()
    )
    assert (found.warmup_rounds, len(found.bare.samples)) == (warmups, rounds)
    assert found.stop_reason == "time"


def test_a_fast_forward_has_epochs_too() -> None:
    """All rounds are over within a tenth of the time: epochs are slices of the rounds then."""
    clock = FakeClock()
    plan = timing.Sampling(max_seconds=1e6, rounds_most=40, now=lambda: clock.now)
    found = timing.measure(
        Takes(clock, 1.0), (torch.ones(1),), {}, clock=clock, sampling=plan, observer=Blind()
    )
    assert found.stop_reason == "rounds"
    assert [found.epochs.count(epoch) for epoch in range(10)] == [4] * 10


def test_a_forward_that_never_takes_the_same_path_is_refused() -> None:
    clock = FakeClock()

    class Wanders(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(Takes(clock, 1.0) for _ in range(99))
            self.depth = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.depth += 1
            for layer in self.layers[: self.depth]:
                x = layer(x)
            return x

    with pytest.raises(MeasurementError, match="in each of 4 passes"):
        measured(Wanders(), clock, observer=Blind())


def test_a_stream_goes_through_memory_at_every_epoch() -> None:
    clock = FakeClock()
    found = measured(nn.Sequential(Takes(clock, 1.0)), clock, observer=Blind(), rounds=2).witnesses
    assert found is not None
    assert found.stream_bytes_per_s == (1e10, 1e10)  # two rounds, half of the epochs each
    assert found.stream_bytes == 64_000_000
    assert timing.Observer().stream() > 0


def test_everything_borrowed_is_given_back() -> None:
    clock = FakeClock()
    model = Between(clock)
    own = model.a.forward
    model.b.__dict__["forward"] = own  # an instance may have a forward of its own
    measured(model, clock)
    assert "forward" not in model.a.__dict__
    assert model.b.__dict__["forward"] is own
    assert gc.isenabled()


def test_forwards_are_given_back_after_an_exception() -> None:
    clock = FakeClock()

    class Breaks(Takes):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.clock.marks > 20:
                raise ValueError("no")
            return super().forward(x)

    model = nn.Sequential(Breaks(clock, 1.0))
    with pytest.raises(ValueError, match="no"):
        measured(model, clock, rounds=100)
    assert "forward" not in model[0].__dict__
    assert gc.isenabled()


def test_progress_is_told() -> None:
    clock = FakeClock()
    told: list[str] = []
    measured(Between(clock), clock, progress=lambda stage, share: told.append(stage))
    assert list(dict.fromkeys(told)) == ["warm-up", "timing"]


class StubEvent:
    """A CUDA event as torch documents it: notes the device's time when it is recorded."""

    device_ms = 0.0

    def __init__(self, *, enable_timing: bool = False) -> None:
        assert enable_timing
        self.at: float | None = None

    def record(self) -> None:
        self.at = StubEvent.device_ms

    def elapsed_time(self, other: StubEvent) -> float:
        assert StubCuda.synchronised, "an event may be read after the device has reached it"
        assert self.at is not None
        assert other.at is not None
        return other.at - self.at


class StubCuda:
    Event = StubEvent
    synchronised = 0
    cycles = 0

    @classmethod
    def _sleep(cls, cycles: int) -> None:
        cls.cycles = cycles

    @classmethod
    def synchronize(cls) -> None:
        cls.synchronised += 1


def test_cuda_marks_are_events_settled_by_one_synchronisation() -> None:
    clock = clocks.CudaClock(StubCuda)
    marks = []
    for milliseconds in (0.0, 1.5, 4.0):
        StubEvent.device_ms = milliseconds
        marks.append(clock.mark())
    assert StubCuda.synchronised == 0, "none between modules"
    assert clock.settle(marks) == pytest.approx((1.5e-3, 2.5e-3))
    assert StubCuda.synchronised == 1


def test_cuda_is_kept_busy_while_the_next_pass_is_queued() -> None:
    clock = clocks.CudaClock(StubCuda)
    assert clock.queues
    clock.lead(0.001)
    assert StubCuda.cycles == 2_000_000  # a millisecond of a clock of 2 GHz
    clock.lead(9.0)
    assert StubCuda.cycles == 100_000_000, "never longer than 50 ms"


def test_metal_marks_are_events_too() -> None:
    clock = clocks.MpsClock(StubCuda)
    StubCuda.synchronised = 0
    StubEvent.device_ms = 1.0
    first = clock.mark()
    StubEvent.device_ms = 3.0
    assert clock.settle((first, clock.mark())) == pytest.approx((2e-3,))
    assert StubCuda.synchronised == 1
    assert clock.queues


def test_where_the_device_queues_the_seconds_to_issue_a_pass_are_kept() -> None:
    clock = FakeClock()
    clock.queues = True  # type: ignore[misc]
    found = measured(nn.Sequential(Takes(clock, 1.0)), clock)
    assert len(found.issued_s) == len(found.bare.samples)
    assert all(seconds > 0 for seconds in found.issued_s)
    clock.queues = False  # type: ignore[misc]
    assert measured(nn.Sequential(Takes(clock, 1.0)), clock).issued_s == ()


def test_the_host_clock_counts_seconds() -> None:
    clock = clocks.HostClock()
    assert clock.settle((1_000, 3_000, 3_500)) == pytest.approx((2e-6, 5e-7))
    assert clock.settle((clock.mark(), clock.mark()))[0] >= 0.0


def test_each_device_has_its_clock_or_none() -> None:
    assert isinstance(clocks.clock_for("cpu"), clocks.HostClock)
    assert isinstance(clocks.clock_for("cuda:1"), clocks.CudaClock)
    assert isinstance(clocks.clock_for("mps"), clocks.MpsClock)
    assert clocks.clock_for("xpu") is None
