"""Machines: judgement of passes, the cache, the fingerprint, sheets, the calibration in a child process."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from flopscope import machines
from flopscope.errors import InputError, MeasurementError
from flopscope.machines import cache, calibration, children, compute, cuda, here, saved
from flopscope.machines.judging import judge, machine_of
from flopscope.machines.passes import Pass, Session, plain, restored
from flopscope.records import Bandwidth, Machine, Peak


def made_pass(gflops: float = 100.0, *, waited: float | None = 0.0, cpu: float = 1.0, **rest: Any) -> Pass:
    """A pass of one second."""
    rates = {"float32": gflops * 1e9, **rest.pop("others", {})}
    return Pass(rates, wall_s=1.0, cpu_s=cpu, run_delay_s=waited, switches=3, **rest)


def made_machine(**given: Any) -> Machine:
    fields: dict[str, Any] = {
        "name": "Processor", "device": "cpu", "threads": 2,
        "peaks": (Peak("float32", 1e11, 0.01, "mm"),),
        "bandwidth": (Bandwidth(2**16, 1e11, 0.02), Bandwidth(2**28, 1e10)),
        "overheads_s": {"op": 2e-6}, "fault_s": 5e-7, "vector_bytes": 64, "cores": 4, "fingerprint": "abc",
        "passes": 3, "date": "2025-01-01", "torch": "2.14.1", "absent": {"float16": "slow"},
        "warnings": ("no schedstat",), "spreads": {"op": 0.1},
    }  # fmt: skip
    return Machine(**{**fields, **given})


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLOPSCOPE_CACHE", str(tmp_path))
    return tmp_path / "machines"


# --------------------------------------------------------------------------- judging


def test_passes_that_agree_are_good() -> None:
    judgement = judge([made_pass(100), made_pass(95), made_pass(91)], threads=1)
    assert judgement.quality == "good"  # (100 - 91) / 100 = 9 %
    assert len(judgement.kept) == 3


def test_passes_that_differ_are_disturbed_and_the_message_says_by_how_much() -> None:
    judgement = judge([made_pass(100), made_pass(95), made_pass(80)], threads=1)
    assert judgement.quality == "disturbed"
    assert judgement.reasons == (
        "the compute peak differs by 20 % between passes (80.0 to 100.0 GFLOP/s in float32)",
    )


def test_the_share_of_waiting_is_that_of_all_threads() -> None:
    waiting = [made_pass(waited=0.08) for _ in range(3)]
    assert judge(waiting, threads=1).quality == "disturbed"  # 8 % of one thread's second
    assert judge(waiting, threads=2).quality == "good"  # 4 % of two
    assert "waited 8 % of the time" in judge(waiting, threads=1).reasons[0]


def test_where_nobody_counts_waiting_the_processor_time_tells() -> None:
    assert judge([made_pass(waited=None)] * 3, threads=1).quality == "good"
    judgement = judge([made_pass(waited=None, cpu=0.7)] * 3, threads=1)
    assert judgement.reasons == ("3 of 3 passes were disturbed: the process ran only 70 % of the time",)


def test_a_passing_disturbance_costs_extra_passes_and_nothing_else() -> None:
    passes = [made_pass(100), made_pass(40, waited=0.5), made_pass(99), made_pass(98)]
    judgement = judge(passes, threads=1)
    assert judgement.quality == "good"
    assert [one.flops_per_s["float32"] for one in judgement.kept] == [1e11, 0.99e11, 0.98e11]


def test_a_single_wanted_pass_is_enough_if_it_is_quiet() -> None:
    assert judge([made_pass()], threads=1, needed=1).quality == "good"
    assert judge([made_pass(waited=0.5)], threads=1, needed=1).quality == "disturbed"


def test_passes_are_added_until_three_agree_but_not_without_end() -> None:
    quiet, busy = made_pass(), made_pass(waited=0.5)
    cases = [
        ([], False, True), ([quiet] * 2, True, True), ([quiet] * 3, True, False), ([busy] * 3, True, True),
        ([busy] * 6, True, True), ([busy] * 7, True, False), ([busy] * 3, False, False),
        ([busy, quiet, quiet], True, True), ([busy, quiet, quiet, quiet], True, False),
    ]  # fmt: skip
    for done, in_time, expected in cases:
        assert calibration.wanted(done, 1, 3, in_time) is expected, (len(done), in_time)
    assert calibration.wanted([busy], 1, 1, True) is False  # a short look is asked for on purpose


def test_the_machine_has_the_best_of_each_and_how_far_the_worst_was() -> None:
    curve = (((65536, 50e9), (2**28, 8e9)), ((65536, 40e9), (2**28, 10e9)))
    passes = (
        made_pass(100, bytes_per_s=curve[0], overheads_s={"op": 2e-6}, fault_s=1e-6),
        made_pass(96, bytes_per_s=curve[1], overheads_s={"op": 3e-6}, fault_s=0.8e-6),
    )
    session = Session(1, passes, {"float32": "mm 512"}, vector_bytes=32)
    machine = machine_of(session, judge(passes, threads=1, needed=2), name="P")
    assert machine.peaks == (Peak("float32", 100e9, 0.04, "mm 512"),)
    assert machine.bandwidth == (Bandwidth(65536, 50e9, 0.2), Bandwidth(2**28, 10e9, 0.2))
    assert machine.overheads_s == {"op": 2e-6}
    assert machine.fault_s == 0.8e-6
    assert machine.spreads == pytest.approx({"op": 0.5, "fault": 0.25})  # (3-2)/2, (1-0.8)/0.8


def test_a_dtype_without_a_fast_path_has_no_roof_and_a_reason() -> None:
    """Below 60 % of float32, but for float64, of which a vector holds half as many: below 30 %."""
    others = {"float16": 59e9, "bfloat16": 61e9, "float64": 31e9, "int8": 200e9}
    passes = (made_pass(100, others=others),)
    session = Session(1, passes, absent={"float8": "torch has none"})
    machine = machine_of(session, judge(passes, threads=1, needed=1), name="P")
    assert [peak.dtype for peak in machine.peaks] == ["float32", "bfloat16", "float64", "int8"]
    assert machine.absent == {
        "float8": "torch has none",
        "float16": "no fast path: 59 % of the rate of float32",
    }


def test_a_source_that_the_platform_lacks_is_named() -> None:
    passes = (made_pass(waited=None),)
    session = Session(1, passes, missing=("run-delay",))
    machine = machine_of(session, judge(passes, threads=1, needed=1), name="P")
    assert machine.quality == "good"
    assert machine.warnings == ("not available here: run-delay",)


def test_a_session_survives_the_pipe() -> None:
    passes = (made_pass(bytes_per_s=((32768, 1e9), (65536, 2e9)), overheads_s={"op": 1e-6}),)
    session = Session(2, passes, {"float32": "mm"}, {"int8": "none"}, ("faults",), 16384, 16)
    assert restored(json.loads(json.dumps(plain(session)))) == session


def test_bandwidth_is_interpolated_over_the_logarithm_of_the_working_set() -> None:
    """From 100 GB/s at 2^16 to 10 GB/s at 2^28: at 2^22, half of the way, 55; at 2^19, a quarter, 77.5."""
    machine = made_machine()
    assert machine.bytes_per_s(2**22) == pytest.approx(55e9)
    assert machine.bytes_per_s(2**19) == pytest.approx(77.5e9)
    assert machine.bytes_per_s(1) == 1e11
    assert machine.bytes_per_s(2**40) == 1e10


# --------------------------------------------------------------------------- cache and refusal


def test_a_machine_is_kept_and_found_again(shelf: Path) -> None:
    machine = made_machine()
    assert cache.store(machine) is None
    assert cache.load("abc") == machine
    assert [path.name for path in shelf.iterdir()] == ["abc.json"]  # no part of a file is left
    assert cache.load("other") is None


@pytest.mark.parametrize(
    "damage",
    [
        "", "{", "[]", '{"format": "flopscope-machine", "version": 1}',
        saved.as_json(made_machine()).replace("100000000000.0", '"fast"', 1),
        saved.as_json(made_machine(fingerprint="xyz")),
        saved.as_json(made_machine(quality="disturbed")),
    ],
)  # fmt: skip
def test_a_damaged_file_is_as_good_as_none_and_is_replaced(shelf: Path, damage: str) -> None:
    shelf.mkdir()
    (shelf / "abc.json").write_text(damage)
    assert cache.load("abc") is None
    assert cache.store(made_machine()) is None
    assert cache.load("abc") == made_machine()


def test_a_cache_that_cannot_be_written_is_told_and_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLOPSCOPE_CACHE", str(tmp_path / "file"))
    trouble = cache.store(made_machine())
    assert trouble is not None
    assert "could not be kept" in trouble
    monkeypatch.setattr(machines, "measure", lambda *given, **named: made_machine())
    assert machines.machine("cpu", 1).warnings == ("no schedstat", trouble)


@pytest.mark.parametrize("part", ["device", "name", "capability", "cores", "allowed", "threads", "torch"])
def test_the_fingerprint_differs_with_each_part_of_the_identity(part: str) -> None:
    one = here.identity("cpu", 1)
    assert here.fingerprint(one) == here.fingerprint(dict(reversed(one.items())))
    assert here.fingerprint({**one, part: "another"}) != here.fingerprint(one)


def measured_as(monkeypatch: pytest.MonkeyPatch, passes: Sequence[Pass]) -> list[int]:
    """Let the child process be these passes; the list grows with every calibration."""
    asked: list[int] = []

    def session_of(threads: int, **given: Any) -> Session:
        asked.append(threads)
        return Session(threads, tuple(passes))

    monkeypatch.setattr(children, "session_of", session_of)
    return asked


def test_what_was_measured_is_kept_by_number_of_threads(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = measured_as(monkeypatch, [made_pass()] * 3)
    first = machines.machine("cpu", 1)
    assert machines.machine("cpu", 1) == first == machines.known("cpu", 1)
    assert machines.known("cpu", 2) is None
    assert asked == [1]
    machines.machine("cpu", 1, refresh=True)
    machines.machine("cpu", 2)
    assert asked == [1, 1, 2]
    assert len(list(shelf.iterdir())) == 2


def test_threads_are_torchs_own_where_none_are_given(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = measured_as(monkeypatch, [made_pass()] * 3)
    assert machines.machine().threads == torch.get_num_threads()
    assert asked == [torch.get_num_threads()]


def test_a_disturbed_machine_is_never_kept_and_is_refused_when_strict(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_as(monkeypatch, [made_pass(100), made_pass(50, waited=0.4), made_pass(70, waited=0.2)])
    machine = machines.machine("cpu", 1)
    assert machine.quality == "disturbed"
    assert "2 of 3 passes were disturbed" in machine.warnings[0]
    assert [file.suffix for file in shelf.iterdir()] == [".refused"]
    with pytest.raises(MeasurementError, match=r"disturbed.*waited 20 % of the time") as caught:
        machines.machine("cpu", 1, strict=True)
    assert caught.value.exit_code == 5
    assert "measure again" in caught.value.hint


@pytest.mark.parametrize(
    ("device", "threads", "says"),
    [("mps", None, "'mps' devices"), ("nonsense", None, "no such device"), ("cpu", 0, "threads is 0")],
)
def test_what_cannot_be_measured_is_refused(device: str, threads: int | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        machines.machine(device, threads)


# --------------------------------------------------------------------------- sheets


SHEET = """
name = "Board"
device = "cpu"
source = "its manual"
[peaks.float32]
flops_per_s = 48e9
means = "4 cores x 8 x 1.5 GHz"
[absent]
float16 = "no half precision"
[[bandwidth]]
working_set_bytes = 1_000_000_000
bytes_per_s = 5e9
[[bandwidth]]
working_set_bytes = 100_000
bytes_per_s = 2e10
"""


def test_a_sheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text(SHEET)
    machine = machines.from_sheet(tmp_path / "board.toml")
    assert machine.form == "sheet"
    assert machine.peaks == (Peak("float32", 48e9, how="4 cores x 8 x 1.5 GHz"),)
    assert machine.bandwidth == (Bandwidth(100_000, 2e10), Bandwidth(1_000_000_000, 5e9))
    assert machine.absent == {"float16": "no half precision"}
    assert machine.bytes_per_s(10_000_000) == pytest.approx(1.25e10)  # half of the way from 1e5 to 1e9


@pytest.mark.parametrize(
    ("wrong", "right", "says"),
    [
        ("48e9", '"fast"', r"peaks\.float32\.flops_per_s: expected a number above 0, got 'fast'"),
        ("48e9", "-1", r"peaks\.float32\.flops_per_s: expected a number above 0, got -1"),
        ("48e9", "inf", r"peaks\.float32\.flops_per_s: expected a number above 0, got inf"),
        ("48e9", "true", r"peaks\.float32\.flops_per_s: expected a number above 0, got True"),
        ("flops_per_s", "flops", r"peaks\.float32\.flops_per_s is missing"),
        ("peaks.float32", "peaks.fp32", r"peaks\.fp32: no such dtype"),
        ("bytes_per_s = 2e10", "bytes_per_s = []", r"bandwidth\[1\]\.bytes_per_s: expected a number"),
        ("1_000_000_000", "1.5", r"bandwidth\[0\]\.working_set_bytes: expected a whole number"),
        ('name = "Board"', "", r"name is missing: expected a text"),
        ('name = "Board"', "name = 3", r"name: expected a text, got 3"),
        ('source = "its manual"', 'sourze = "x"', r"unknown key sourze"),
        ("means =", "sparse =", r"unknown key peaks\.float32\.sparse"),
        ("[absent]", "[absent", r"no TOML"),
    ],
)
def test_a_malformed_sheet_is_refused_with_the_key(tmp_path: Path, wrong: str, right: str, says: str) -> None:
    path = tmp_path / "board.toml"
    assert wrong in SHEET
    path.write_text(SHEET.replace(wrong, right, 1))
    with pytest.raises(InputError, match=says) as caught:
        machines.from_sheet(path)
    assert str(caught.value).startswith("board.toml: ")
    assert caught.value.hint


def test_a_sheet_needs_peaks_and_bandwidth(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text('name = "x"\ndevice = "cpu"\n')
    with pytest.raises(InputError, match="peaks is missing"):
        machines.from_sheet(path)
    path.write_text(SHEET.partition("[[bandwidth]]")[0])
    with pytest.raises(InputError, match="bandwidth is missing"):
        machines.from_sheet(path)
    path.write_text(SHEET.partition("[[bandwidth]]")[0] + "[bandwidth]\nbytes_per_s = 1e9\n")
    with pytest.raises(InputError, match="bandwidth: expected a list of tables"):
        machines.from_sheet(path)


def test_an_unknown_sheet_is_refused_with_a_near_name() -> None:
    with pytest.raises(InputError, match="no sheet is called") as caught:
        machines.from_sheet("a100-40")
    assert caught.value.hint == "did you mean a100-40gb?"
    with pytest.raises(InputError, match="no such file"):
        machines.from_sheet("nowhere.toml")


@pytest.mark.parametrize("name", machines.listed_sheets())
def test_shipped_sheets_are_dense_sourced_and_consistent(name: str) -> None:
    machine = machines.from_sheet(name)
    assert "http" in machine.source
    assert machine.device == "cuda"
    assert all(peak.how for peak in machine.peaks)
    half, whole = machine.peak("float16"), machine.peak("float32")
    assert half is not None
    assert whole is not None
    assert whole < half <= 1.01e15  # the sparse figure of the fastest of them is 1.98e15
    assert machine.peak("bfloat16") in (None, half)
    if machine.peak("tf32"):
        assert machine.peak("tf32") == pytest.approx(half / 2, rel=1e-3)


def test_a_machine_measured_elsewhere_serves_as_a_sheet(tmp_path: Path) -> None:
    machine = made_machine()
    (tmp_path / "there.json").write_text(machines.as_json(machine), encoding="utf-8")
    found = machines.from_sheet(tmp_path / "there.json")
    assert found == dataclasses.replace(machine, form="sheet", source="measured elsewhere: there.json")
    (tmp_path / "there.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"there\.json: no machine of version 1"):
        machines.from_sheet(tmp_path / "there.json")


# --------------------------------------------------------------------------- the real thing


def test_a_calibration_runs_in_a_child_and_leaves_this_process_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Structure only, on small working sets: how fast this machine is, is not a matter of tests."""
    (tmp_path / "torch.py").write_text("raise SystemExit('a file in the current folder was imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    threads, environment, told = torch.get_num_threads(), dict(os.environ), list[tuple[str, float]]()
    random = torch.get_rng_state()
    session = children.session_of(
        2, passes=1, seconds=0.05, progress=lambda stage, share: told.append((stage, share)), largest=2**22
    )
    assert (torch.get_num_threads(), dict(os.environ)) == (threads, environment)
    assert torch.equal(torch.get_rng_state(), random)
    assert session.threads == 2
    (one,) = session.passes
    assert {"float32", "float64"} <= set(one.flops_per_s)
    assert set(one.flops_per_s) | set(session.absent) == set(compute.DTYPES)
    assert [size for size, _ in one.bytes_per_s] == [2**power for power in range(15, 23)]
    assert set(one.overheads_s) == {"op", "convolution", "matmul", "module", "probe"}
    assert all(rate > 0 for rate in (*one.flops_per_s.values(), *dict(one.bytes_per_s).values()))
    assert (one.wall_s > 0, one.cpu_s is not None and one.cpu_s > 0) == (True, True)
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert told[0] == ("roofs: shapes", 0.0)


def test_the_childs_environment_has_no_foreign_malloc_and_no_loud_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "ONEDNN_VERBOSE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    found = children.environment()
    assert not {"MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "ONEDNN_VERBOSE"} & set(found)
    assert found["OMP_PROC_BIND"] == "true"


def test_a_child_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "LARGEST", 2**20)
    with pytest.raises(MeasurementError, match=r"could not be measured: .*--threads"):
        children.session_of("many", passes=1, seconds=0.01)  # type: ignore[arg-type]


class StubClock:
    """Marks are numbers; between two of them lie 0.5 s, before the last one 0.25 s."""

    def __init__(self) -> None:
        self.settled = 0

    def mark(self) -> int:
        return 0

    def lead(self, seconds: float) -> None:
        assert 0 < seconds < 0.1

    def settle(self, marks: Sequence[Any]) -> tuple[float, ...]:
        self.settled += 1
        return (*(0.5 for _ in marks[2:]), 0.25)


def test_a_gpu_is_measured_by_marks_that_are_settled_once_for_all_runs() -> None:
    """On stand-ins: 2 x 8 x 8 x 8 FLOPs in the least of the intervals, 0.25 s, are 4096 FLOP/s."""
    clock, before = StubClock(), torch.backends.cuda.matmul.allow_tf32
    session = cuda.calibrate("cpu", 1, passes=1, clock=clock, size=8, largest=2**21)
    assert torch.backends.cuda.matmul.allow_tf32 == before
    rates = session.passes[0].flops_per_s
    assert rates["float32"] == rates["tf32"] == rates["float64"] == 4096.0
    # A copy of a working set of 1,048,576 bytes reads one half and writes the other: all of it in 0.25 s.
    assert session.passes[0].bytes_per_s == ((2**20, 2**22), (2**21, 2**23))
    assert session.how["float32"] == "mm 8x8x8, TF32 off"
    # Each dtype and working set, the warm-up of launches, and their end.
    assert clock.settled == len(rates) + 2 + 2


def test_a_pass_beside_a_busy_process_does_not_count() -> None:
    from flopscope.machines.judging import judge
    from flopscope.machines.passes import Pass

    calm = Pass({"float32": 1e11}, wall_s=1.0, cpu_s=1.0, run_delay_s=0.0, others=0.05)
    beside = Pass({"float32": 1e11}, wall_s=1.0, cpu_s=1.0, run_delay_s=0.0, others=1.0)
    assert judge([calm] * 3, threads=1).quality == "good"
    found = judge([calm, beside, beside], threads=1)
    assert found.quality == "disturbed"
    assert found.reasons == ("2 of 3 passes were disturbed: other processes kept 1.00 processors busy",)


def test_a_refusal_is_remembered_for_a_while(tmp_path, monkeypatch) -> None:
    from flopscope.machines import cache

    monkeypatch.setenv("FLOPSCOPE_CACHE", str(tmp_path))
    assert cache.refused("abc") is None
    cache.refuse("abc", "busy")
    assert cache.refused("abc") == "busy"
    assert cache.refused("another") is None
    import os

    old = (tmp_path / "machines" / "abc.refused").stat().st_mtime - cache.PATIENCE_S - 1
    os.utime(tmp_path / "machines" / "abc.refused", (old, old))
    assert cache.refused("abc") is None
