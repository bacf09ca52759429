"""Quality of reports and layers, from hand-made timings: each reason by its own cause, and not without it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from flopscope.quality import assess, fitness, layer_quality
from flopscope.records import Bandwidth, Checkup, Latency, Machine, Timings, Witnesses

PASSES = 16
EPOCHS = tuple(place // 4 for place in range(PASSES))  # four epochs of four passes
PASS_S = 0.1  # 16 bare passes of 0.1 s: 1.6 s in all


def timings(
    bare: tuple[float, ...] = (PASS_S,) * PASSES, *, threads: int = 1, device: str = "cpu", **seen: Any
) -> Timings:
    """A calm measurement with every source, but for what is given."""
    calm = {
        "wall_s": sum(bare),
        "cpu_s": sum(bare) * threads,
        "run_delay_s": (0.0,) * len(bare),
        "faults": (100,) * len(bare),
        "probe_s": (1e-4,) * len(bare),
        "switches": 0,
        "loads": (0.5, 0.5),
        "processors": 2,
        "others": 0.0,
        "major_faults": 0,
    }
    return Timings(
        bare=Latency(bare),
        instrumented=Latency(bare),
        boundaries=("+", "-"),
        stretches=(bare,),
        warmup_rounds=3,
        stop_reason="time",
        threads=threads,
        device=device,
        epochs=EPOCHS if len(bare) == PASSES else (),
        witnesses=Witnesses(**{**calm, **seen}),
    )


def by_epoch(*values: Any) -> tuple[Any, ...]:
    return tuple(values[epoch] for epoch in EPOCHS)


def test_a_calm_measurement_is_good_without_a_reason() -> None:
    found = assess(timings())
    assert (found.word, found.reasons, found.remedy) == ("good", (), "")


@pytest.mark.parametrize(
    ("seen", "word", "reason"),
    [
        # 0.004 s of each 0.1 s
        ({"run_delay_s": (0.004,) * 16}, "disturbed", "the thread waited for a processor 4 % of the time"),
        ({"run_delay_s": (0.03,) * 16}, "void", "the thread waited for a processor 30 % of the time"),
        # two threads waited 0.004 s each; and longer than the pass took: all of it
        ({"threads": 2, "run_delay_s": (0.008,) * 16}, "disturbed", "threads waited for a processor 8 %"),
        ({"threads": 2, "run_delay_s": (0.15,) * 16}, "void", "threads waited for a processor 100 %"),
        # one pass of 16 lost 0.1 s: 1 / 16 = 6.25 %
        ({"run_delay_s": (0.1, *(0.0,) * 15)}, "disturbed", "waited for a processor 6 % of the time"),
        # of 1.6 s: 1.44 / 1.6 = 0.9 and 0.784 / 1.6 = 0.49
        ({"cpu_s": 1.44}, "disturbed", "CPU/wall 0.90 at 1 thread"),
        ({"cpu_s": 0.784}, "void", "CPU/wall 0.49 at 1 thread"),
        ({"threads": 4}, "disturbed", "4 threads on 2 processors"),
        ({"threads": 2, "processors": 1}, "disturbed", "2 threads on 1 processor"),
        ({"others": 1.01}, "disturbed", "other processes kept 1.01 of 2 processors busy"),
        # 32 passes, bare and instrumented, in 3.2 s: 224 / 32 = 7, 70 a second
        ({"switches": 224}, "disturbed", "7.00 involuntary context switches per pass"),
        (
            {"probe_s": by_epoch(1e-4, 1e-4, 1.18e-4, 1e-4)},
            "disturbed",
            "clock probe drifted by 18 % between",
        ),
        (
            {"probe_s": by_epoch(1e-4, 1e-4, 1e-4, 1.6e-4)},
            "void",
            "clock probe drifted by 60 % between epochs",
        ),
        ({"major_faults": 3}, "disturbed", "3 major faults (pages read from disk)"),
        # 9900 faults more at 1 µs: 9.9 ms of 100 ms
        (
            {"faults": by_epoch(10_000, 100, 100, 100)},
            "disturbed",
            "page faults changed from epoch to epoch (100 to 10000 per pass)",
        ),
    ],
)
def test_each_cause_has_its_reason_and_no_other(seen: dict[str, Any], word: str, reason: str) -> None:
    found = assess(timings(**seen))
    assert found.word == word
    assert len(found.reasons) == 1
    assert reason in found.reasons[0]
    assert found.remedy.endswith("see flopscope doctor")


@pytest.mark.parametrize(
    "seen",
    [
        {"run_delay_s": (0.002,) * 16},  # 2 %
        {"threads": 2, "cpu_s": 1.7},  # serial parts lower it to 0.53 of two threads by right
        {"cpu_s": 1.55},  # 0.97
        {"cpu_s": 1.75},  # more than 1: another thread of the process
        {"device": "cuda:0", "cpu_s": 0.2},  # the host waits for the device by right
        {"device": "cuda:0", "threads": 4},
        {"threads": 2},
        {"others": 0.2},
        {"others": 1.0, "processors": 64},  # 1.6 %
        {"switches": 9},
        {"switches": 150},  # 3.2 s at 50 a second: 160
        {"threads": 2, "switches": 300},  # and 160 for each thread
        {"probe_s": by_epoch(1e-4, 1e-4, 1.08e-4, 1e-4)},
        {"probe_s": (9e-4, *(1e-4,) * 15)},  # one product of an epoch's four
        {"faults": by_epoch(4_000, 100, 100, 100)},  # 3.9 ms of 100 ms
        {"faults": (10_000, *(100,) * 15)},
        {"loads": (9.0, 9.3)},  # lags, and counts this process: never a reason by itself
    ],
)
def test_what_is_within_bounds_is_no_reason(seen: dict[str, Any]) -> None:
    assert assess(timings(**seen)).word == "good"
    assert assess(timings(**seen)).reasons == ()


def test_a_spread_of_passes_is_told_by_percentiles() -> None:
    # In order: 0.1 x 8, 0.14 x 8. p10 lies at place 1.5, p90 at 13.5 of 16: 0.14 / 0.1 = 1.4
    found = assess(timings((0.1, 0.14) * 8))
    assert (found.word, found.reasons) == ("disturbed", ("bare passes spread by 40 % (p90/p10)",))
    assert "--max-seconds" in found.remedy
    assert assess(timings((0.1, 0.12) * 8)).word == "good"
    assert assess(timings((0.1, 0.32) * 8)).word == "void"  # 3.2 times
    assert assess(timings((*(0.1,) * 15, 5.0))).word == "good"  # one of 16 is beyond the 90th percentile


def test_a_change_between_epochs_is_told_by_medians() -> None:
    found = assess(timings(by_epoch(0.1, 0.1, 0.118, 0.1)))
    assert (found.word, found.reasons) == (
        "disturbed",
        ("the typical bare pass changed by 18 % between epochs",),
    )
    assert assess(timings(by_epoch(0.1, 0.1, 0.112, 0.1))).word == "good"
    # 0.22 / 0.1 = 2.2 times; the spread of 120 % alone would be disturbed
    assert assess(timings(by_epoch(0.1, 0.1, 0.22, 0.1))).word == "void"


def test_many_epochs_are_taken_together_in_four_parts() -> None:
    # Ten epochs of 4 passes; parts are epochs 0-2, 3-4, 5-7, 8-9. One slow epoch of three is outvoted,
    # two slow of two are not.
    def ten(*slow: int) -> Timings:
        epochs = tuple(place // 4 for place in range(40))
        bare = tuple(0.125 if epoch in slow else 0.1 for epoch in epochs)
        return dataclasses.replace(timings(bare), epochs=epochs)

    assert assess(ten(1)).word == "good"
    assert assess(ten(3, 4)).reasons == ("the typical bare pass changed by 25 % between epochs",)


def test_without_epochs_quarters_are_compared() -> None:
    slow = dataclasses.replace(timings(by_epoch(0.1, 0.1, 0.1, 0.12)), epochs=())
    assert assess(slow).reasons == ("the typical bare pass changed by 20 % between epochs",)


def test_too_few_passes_are_no_measurement_to_rely_on() -> None:
    found = assess(timings((0.1,) * 5))
    assert (found.word, len(found.reasons)) == ("disturbed", 1)
    assert found.reasons[0].startswith("only 5 passes timed")
    assert "--max-seconds" in found.remedy
    none = assess(timings(()))
    assert (none.word, none.reasons) == ("void", ("no pass was timed",))


def test_reasons_add_up_and_the_worst_gives_the_word() -> None:
    found = assess(timings(cpu_s=0.784, switches=224, loads=(3.0, 9.3)))
    assert found.word == "void"
    assert found.reasons == (
        "CPU/wall 0.49 at 1 thread",
        "7.00 involuntary context switches per pass",
        "load 9.3 on 2 CPUs",
    )
    # One remedy for both, said once.
    assert found.remedy == (
        "stop other work, or pin: taskset -c 1 flopscope ... --threads 1; see flopscope doctor"
    )


def test_a_remedy_does_not_name_what_the_system_lacks() -> None:
    assert "taskset" not in assess(timings(cpu_s=0.784, run_delay_s=None)).remedy  # no schedstat: no Linux
    assert "taskset" not in assess(timings(cpu_s=0.784, processors=1)).remedy


def test_a_run_delay_of_other_passes_is_set_against_the_wall_time() -> None:
    # 3 readings of 0.048 s: 0.144 of 1.6 s
    assert "waited for a processor 9 %" in assess(timings(run_delay_s=(0.048,) * 3)).reasons[0]


def test_a_clock_too_coarse_for_so_short_a_measurement_is_not_believed() -> None:
    # 16 passes of 1 ms: one tick of a 16 ms clock would be all of them.
    assert assess(timings((0.001,) * 16, cpu_s=0.0)).word == "good"


def test_missing_sources_are_the_one_reason_where_nothing_else_is_found() -> None:
    bare: dict[str, Any] = {
        "cpu_s": None,
        "run_delay_s": None,
        "faults": None,
        "switches": None,
        "probe_s": (),
        "loads": None,
    }
    found = assess(timings(**bare))
    assert (found.word, found.remedy) == ("good", "")
    assert found.reasons == (
        "not watched here: run-delay, CPU time, page faults, context switches, clock probe",
    )
    assert assess(timings(missing=("run-delay",))).reasons == ("not watched here: run-delay",)
    slow = assess(timings((0.1, 0.14) * 8, **bare))
    assert slow.reasons == ("bare passes spread by 40 % (p90/p10)",)


def test_without_witnesses_the_passes_speak_for_themselves() -> None:
    calm = dataclasses.replace(timings(), witnesses=None)
    assert assess(calm).word == "good"
    assert "spread of its passes alone" in assess(calm).reasons[0]
    assert assess(dataclasses.replace(timings((0.1, 0.4) * 8), witnesses=None)).word == "void"


# --------------------------------------------------------------------------- layers


def judged(seconds: tuple[float, ...] = (1e-3,) * 16, **given: Any) -> str:
    given = {"floor_s": min(seconds, default=0.0), "waits": 0.0, "epochs": EPOCHS[: len(seconds)], **given}
    return layer_quality(seconds=seconds, **given)


def test_the_word_of_a_layer() -> None:
    assert judged() == "good"
    assert judged(waits=None) == "good"
    assert judged((1e-3,) * 8) == "good"
    assert judged((1e-3,) * 7) == "few"
    assert judged(waits=0.25) == "good"
    assert judged(waits=0.3) == "disturbed"
    assert judged(by_epoch(1e-3, 1.2e-3, 1e-3, 1e-3)) == "good"
    assert judged(by_epoch(1e-3, 1.3e-3, 1e-3, 1e-3)) == "disturbed"
    assert judged(by_epoch(1e-3, 1.3e-3, 1e-3, 1e-3), epochs=()) == "good"  # nothing to compare
    assert judged(floor_s=9.9e-6) == "brief"
    assert judged(floor_s=10e-6) == "good"


def test_of_several_words_the_first_that_makes_the_others_idle() -> None:
    assert judged((1e-6,) * 3, waits=1.0) == "few"
    assert judged((1e-6,) * 16, waits=1.0) == "disturbed"
    assert judged(by_epoch(1e-6, 2e-6, 1e-6, 1e-6)) == "brief"  # a clock's step is no disturbance


# --------------------------------------------------------------------------- machines


def test_checkups_come_to_one_word() -> None:
    fine, odd = Checkup("load", "good", "0.1"), Checkup("heat", "unknown", "not told")
    doubt, bad = (
        Checkup("clock", "doubtful", "powersave", "fix it"),
        Checkup("threads", "bad", "4 on 2", "use 2"),
    )
    assert fitness((fine, odd)).word == "good"
    assert fitness((fine, odd)).reasons == ()
    assert fitness(()).word == "good"
    found = fitness((fine, doubt, odd))
    assert (found.word, found.reasons, found.remedy) == ("disturbed", ("clock: powersave",), "fix it")
    found = fitness((doubt, bad))
    assert (found.word, found.reasons) == ("void", ("threads: 4 on 2", "clock: powersave"))
    assert found.remedy == "use 2; fix it"


def test_memory_that_others_use_voids_a_measurement() -> None:
    """A stream reaches 4 GB/s where the roof is 10 GB/s: below half."""
    roofs = Machine("m", "cpu", 1, (), (Bandwidth(64_000_000, 10e9),))
    slow = timings(stream_bytes_per_s=(3e9, 4e9), stream_bytes=64_000_000)
    found = assess(slow, roofs)
    assert found.word == "void"
    assert found.reasons == ("memory was to be had at 40 % of its bandwidth",)
    enough = timings(stream_bytes_per_s=(3e9, 6e9), stream_bytes=64_000_000)
    assert assess(enough, roofs).word == "good"
    assert assess(slow).word == "good", "without roofs there is nothing to hold it against"
    assert assess(slow, dataclasses.replace(roofs, form="sheet")).word == "good"


def test_a_remedy_that_another_contains_is_not_said_besides() -> None:
    found = assess(timings(others=1.0, threads=1, bare=tuple([PASS_S] * 8 + [2 * PASS_S] * 8)))
    assert found.remedy.count("stop other work") == 1


@pytest.mark.parametrize(
    ("then", "word", "reason"),
    [
        (1e-4, "good", None),
        (0.85e-4, "good", None),  # 1e-4 / 0.85e-4 = 1.18: within a quarter
        (0.5e-4, "disturbed", "the processor went at 50 % of the pace at which the roofs were measured"),
        (2e-4, "disturbed", "the roofs were measured at 50 % of the pace of now"),
    ],
)
def test_the_pace_of_the_processor_is_held_against_the_calibrations(
    then: float, word: str, reason: str | None
) -> None:
    """The probe takes 0.1 ms in each round."""
    roofs = Machine("m", "cpu", 1, (), overheads_s={"probe": then})
    found = assess(timings(), roofs)
    assert found.word == word
    assert (found.reasons[0] if found.reasons else None) == reason
