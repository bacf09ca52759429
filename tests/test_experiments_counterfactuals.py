"""Counterfactuals: which apply, their geometry and counts by hand, and how two are compared."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import opcalls
import pytest
import torch

import flopscope
from flopscope.experiments import COUNTERFACTUALS, comparing, convolution_of, counterfactuals, elsewhere
from flopscope.experiments.alternatives import Alternative, macs_of, name_of, other_ways, subject_of
from flopscope.experiments.bench import quiet
from flopscope.experiments.outpost import partially
from flopscope.experiments.pairs import DisturbedError, beside, compared
from flopscope.experiments.rebuilding import rebuild
from flopscope.experiments.values import Values
from flopscope.records import OpCall, Shape

tensor = opcalls.tensor
HOME = Path(flopscope.__file__).parent.parent


def convolution(
    channels: int,
    out: int,
    *,
    groups: int = 1,
    size: int = 28,
    kernel: int = 3,
    stride: int = 1,
    last: bool = False,
) -> OpCall:
    strides = (channels * size * size, 1, size * channels, channels) if last else None
    return opcalls.call(
        "aten::convolution",
        tensor(2, out, size // stride, size // stride),
        input=tensor(2, channels, size, size, strides=strides),
        weight=tensor(out, channels // groups, kernel, kernel),
        bias=tensor(out),
        stride=(stride, stride),
        padding=(kernel // 2, kernel // 2),
        groups=groups,
        transposed=False,
    )


def found(call: OpCall) -> dict[str, Alternative]:
    return {item.code: item for item in other_ways((call,))}


def sizes(item: Alternative) -> list[Shape]:
    return [spec.shape for spec in item.ops[0].inputs]


def test_of_a_depthwise_convolution() -> None:
    ways = found(convolution(64, 64, groups=64))
    assert set(ways) == {"channels-last", "dense-conv", "pconv"}
    assert ways["channels-last"].same_function
    assert ways["channels-last"].macs == 2 * 64 * 28 * 28 * 9
    assert ways["channels-last"].ops[0].inputs[0].strides == (64 * 28 * 28, 1, 28 * 64, 64)
    dense = ways["dense-conv"]
    assert sizes(dense) == [(2, 64, 28, 28), (64, 64, 3, 3), (64,)]
    assert dense.macs == 2 * 64 * 28 * 28 * 64 * 9
    assert dense.ops[0].value("groups") == 1
    assert (dense.title, dense.same_function) == ("dense 3x3, same shape", False)
    partial = ways["pconv"]
    assert sizes(partial)[:2] == [(2, 16, 28, 28), (16, 16, 3, 3)]
    assert partial.macs == 2 * 28 * 28 * 9 * 16 * 16  # h·w·k²·(c/4)²
    assert partial.beside == 48


def test_of_a_dense_convolution_in_channels_last_with_odd_channels() -> None:
    ways = found(convolution(60, 60, last=True))
    assert set(ways) == {"contiguous", "depthwise-conv", "pconv", "aligned-channels"}
    assert ways["contiguous"].ops[0].inputs[0].strides == (60 * 28 * 28, 28 * 28, 28, 1)
    assert sizes(ways["depthwise-conv"])[1] == (60, 1, 3, 3)
    assert ways["depthwise-conv"].macs == 2 * 60 * 28 * 28 * 9
    aligned = ways["aligned-channels"]
    assert sizes(aligned) == [(2, 64, 28, 28), (64, 64, 3, 3), (64,)]  # 60 -> 64
    assert aligned.macs == 2 * 64 * 28 * 28 * 64 * 9
    assert aligned.ops[0].inputs[0].strides == (64 * 28 * 28, 1, 28 * 64, 64)


@pytest.mark.parametrize(
    ("call", "codes"),
    [
        (convolution(64, 128), {"channels-last"}),  # other channels out than in
        (convolution(64, 64, kernel=1), {"channels-last"}),  # nothing to spread over space
        (convolution(64, 64, groups=4, stride=2), {"channels-last", "dense-conv"}),
        (convolution(30, 30, groups=30), {"channels-last", "dense-conv", "pconv", "aligned-channels"}),
        (convolution(30, 30, groups=5), {"channels-last", "dense-conv", "pconv"}),
    ],
)
def test_what_does_not_apply_is_absent(call: OpCall, codes: set[str]) -> None:
    assert set(found(call)) == codes
    assert codes <= set(COUNTERFACTUALS)


def test_depthwise_channels_are_rounded_up_together() -> None:
    aligned = found(convolution(30, 30, groups=30))["aligned-channels"]
    assert sizes(aligned) == [(2, 32, 28, 28), (32, 1, 3, 3), (32,)]
    assert aligned.ops[0].value("groups") == 32
    assert aligned.macs == 2 * 32 * 28 * 28 * 9


def test_of_a_linear_layer() -> None:
    call = opcalls.call(
        "aten::linear", tensor(4, 9, 50), input=tensor(4, 9, 100), weight=tensor(50, 100), bias=tensor(50)
    )
    (aligned,) = other_ways((call,))
    assert sizes(aligned) == [(4, 9, 112), (64, 112), (64,)]
    assert aligned.macs == 4 * 9 * 112 * 64


def test_the_subject_is_the_costliest_contraction_else_everything() -> None:
    small, large = convolution(8, 8), convolution(16, 16)
    relu = opcalls.call("aten::relu", tensor(2, 8, 4, 4), self=tensor(2, 8, 4, 4), tags=["pointwise"])
    view = opcalls.call("aten::view", tensor(4), self=tensor(4), view=True)
    assert subject_of([small, relu, large, view]) == (large,)
    assert subject_of([relu, view, relu]) == (relu, relu)
    assert subject_of([view]) == ()
    (last,) = other_ways((relu, relu))
    assert (last.code, last.macs, len(last.ops)) == ("channels-last", None, 2)


def test_a_partial_convolution_is_held_against_all_its_channels() -> None:
    """A quarter of 64 channels is convolved, and the other 48 are put beside."""
    small = convolution(16, 16)
    cat = opcalls.call(
        "aten::cat", tensor(2, 64, 28, 28), tensors=(tensor(2, 16, 28, 28), tensor(2, 48, 28, 28)), dim=1
    )
    subject = subject_of([small, cat])
    assert subject == (small, cat)
    assert macs_of(subject) == 2 * 16 * 28 * 28 * 16 * 9
    assert name_of(subject, [small, cat]) == ""
    ways = {item.code: item for item in other_ways(subject)}
    assert set(ways) == {"channels-last", "depthwise-conv", "dense-conv"}
    assert sizes(ways["depthwise-conv"]) == [(2, 64, 28, 28), (64, 1, 3, 3), (64,)]
    assert ways["depthwise-conv"].macs == 2 * 64 * 28 * 28 * 9
    assert sizes(ways["dense-conv"]) == [(2, 64, 28, 28), (64, 64, 3, 3), (64,)]
    assert ways["dense-conv"].title == "dense 3x3 on all 64 channels"
    elsewhere_wide = opcalls.call(
        "aten::cat", tensor(4, 16, 28, 28), tensors=(tensor(2, 16, 28, 28),) * 2, dim=0
    )
    assert subject_of([small, elsewhere_wide]) == (small,)  # put behind each other, not beside


def turn(this: float, other: float) -> tuple[list[float], list[float]]:
    return [this] * 3, [other] * 3


def test_the_ratio_lies_in_its_interval() -> None:
    pair = compared([turn(2.0, 1.0), turn(4.0, 2.0), turn(2.0, 1.0), turn(4.0, 2.0), turn(2.0, 1.0)])
    assert (pair.this_s, pair.other_s, pair.turns) == (2.0, 1.0, 5)
    assert (pair.low, pair.high) == (0.5, 0.5)  # what drifts for both leaves the ratio alone
    noisy = compared([turn(1.0, 1.0), turn(1.0, 3.0)] * 4)
    assert (noisy.this_s, noisy.other_s) == (1.0, 2.0)  # the median of as many ones as threes
    assert noisy.low == 1.0
    assert noisy.high == 3.0


def test_turns_alternate_and_the_first_call_of_each_is_left_out() -> None:
    order: list[str] = []

    def runner(name: str, seconds: float) -> Any:
        def run(runs: int) -> list[float]:
            order.append(name)
            return [99.0 if len(order) > 4 else seconds] + [seconds] * (runs - 1)

        return run

    pair = beside(runner("a", 1e-3), runner("b", 3e-3), seconds=0.0301)
    assert pair is not None
    assert order[:8] == ["a", "a", "b", "b", "a", "b", "b", "a"]  # warm-up of each, then the turns
    assert (pair.this_s, pair.other_s, pair.low, pair.high) == (1e-3, 3e-3, 3.0, 3.0)
    assert pair.turns >= 6


def test_what_takes_too_long_is_not_measured() -> None:
    assert beside(lambda runs: [1.0] * runs, lambda runs: [1e-6] * runs, seconds=3.0) is None


def test_only_turns_that_were_left_alone_count() -> None:
    seen = cycle([True, True, False])  # both sides of one turn, then one side of the next: that one is out
    pair = beside(
        lambda runs: [1e-3] * runs, lambda runs: [2e-3] * runs, seconds=0.05, undisturbed=lambda: next(seen)
    )
    assert pair is not None
    assert (pair.this_s, pair.other_s) == (1e-3, 2e-3)
    with pytest.raises(DisturbedError, match="0 of 100 turns"):
        beside(
            lambda runs: [1e-3] * runs, lambda runs: [1e-3] * runs, seconds=0.013, undisturbed=lambda: False
        )


def compare(call: OpCall, *codes: str, seconds: float = 8.0) -> tuple[Any, list[str]]:
    notes: list[str] = []
    (found,) = counterfactuals([[call]], seconds=seconds, codes=codes, notes=notes)
    return found, notes


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other processes do meanwhile does not matter here."""
    monkeypatch.setattr(comparing, "_WAITING", float("inf"))


def test_layers_are_measured_beside_what_they_could_be(patient: None) -> None:
    calls = [[convolution(16, 16, groups=16, size=14)], [convolution(16, 16, size=14)]]
    told: list[str] = []
    codes = ("channels-last", "dense-conv", "pconv", "pooled-allocator")
    before = torch.get_rng_state().tolist(), torch.get_num_threads(), dict(os.environ)
    first, second = counterfactuals(
        calls, seconds=60, codes=codes, freed=[1 << 20], progress=lambda stage, _: told.append(stage)
    )
    assert (torch.get_rng_state().tolist(), torch.get_num_threads(), dict(os.environ)) == before
    pooled = [place.code for place in elsewhere.places() if place.code == "pooled-allocator"]
    assert [item.code for item in first] == ["channels-last", "dense-conv", "pconv", *pooled]
    assert [item.code for item in second] == ["channels-last", "pconv", *pooled]  # it is dense already
    assert set(told) == {"doing layers otherwise"}
    for item in (*first, *second):
        assert item.low is not None
        assert item.high is not None
        assert item.low <= item.latency_s / item.this_s <= item.high
        assert item.macs is not None
        assert item.flops == 2 * item.macs
        assert "run alone in a process of its own" in item.note
        assert item.subject == ""
    assert {item.this_macs for item in first} == {2 * 16 * 14 * 14 * 9}
    assert {item.this_flops for item in second} == {2 * 2 * 16 * 14 * 14 * 16 * 9}
    assert counterfactuals([], seconds=1) == ()
    assert counterfactuals([[]], seconds=1) == ((),)


_IN_A_PROCESS = """
import ctypes, sys, torch
sys.path.insert(0, {tests!r})
from test_experiments_counterfactuals import convolution
from flopscope.experiments import counterfactuals

class Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks a b c d e f".split()]

tell = ctypes.CDLL(None).mallinfo2
tell.restype = Memory
call = convolution(64, 64, groups=64, size=112)
(found,) = counterfactuals([[call]], seconds=60, codes=("dense-conv",))
before = tell().hblks
block = torch.empty(1 << 22, dtype=torch.uint8)
print(len(found), tell().hblks - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc's allocator")
def test_the_allocator_of_this_process_learns_nothing() -> None:
    """The operator's result has 2·64·112·112·4 B = 6.4 MB; nothing as large as 4 MiB was freed here before.

    Had such a result been freed in this process, glibc would take 4 MiB from the heap from then on; as it
    is, they still get a mapping of their own.
    """
    script = _IN_A_PROCESS.format(tests=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=HOME
    )
    assert done.stdout.split()[1] == "1"


def test_children_that_fail_are_absent_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "command", lambda module: [sys.executable, "-c", "raise SystemExit(1)"])
    found, notes = compare(convolution(8, 8), "channels-last", "pooled-allocator")
    assert (found, notes) == ((), ["a process to compare in ended before its time"])
    monkeypatch.setattr(elsewhere, "command", lambda module: ["/no/such/program"])
    found, (note,) = compare(convolution(8, 8), "channels-last")
    assert found == ()
    assert note.startswith("a process to compare in could not be started (")


def test_without_the_time_to_start_one_no_child_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "command", lambda module: pytest.fail("started"))
    found, notes = compare(convolution(8, 8), "channels-last", seconds=1.0)
    assert (found, notes) == ((), ["nothing was done otherwise: 1.0 s are too few to start a process"])


def test_a_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        elsewhere, "command", lambda module: [sys.executable, "-c", "import time; time.sleep(60)"]
    )
    monkeypatch.setattr(comparing, "_PATIENCE_S", -2.5)  # 3 s asked for: ended after half a second
    found, notes = compare(convolution(8, 8), "channels-last", seconds=3.0)
    assert (found, notes) == ((), ["a process to compare in ended before its time"])


def test_what_torch_refuses_is_noted_and_the_rest_goes_on(patient: None) -> None:
    strange = opcalls.call("aten::no_such_thing", tensor(4), self=tensor(4))
    notes: list[str] = []
    first, second = counterfactuals(
        [[strange], [convolution(8, 8, size=8)]],
        seconds=60,
        codes=("channels-last", "one-thread"),
        notes=notes,
    )
    assert first == ()
    assert "channels-last" in [item.code for item in second]
    if torch.get_num_threads() > 1:
        assert (
            "one-thread was not measured: torch has no operator of that name that takes its arguments"
            in notes
        )


def test_one_thread_is_asked_about_only_where_there_are_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert "one-thread" not in {place.code for place in elsewhere.places()}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    one = next(place for place in elsewhere.places() if place.code == "one-thread")
    assert (one.threads, one.title) == (1, "1 thread instead of 4")
    monkeypatch.setattr(elsewhere.platform, "libc_ver", lambda: ("musl", "1.2"))
    assert "pooled-allocator" not in {place.code for place in elsewhere.places()}


def test_the_dense_convolution_comes_last_of_all_layers() -> None:
    """What allocates most is measured when nothing else is left to be disturbed by it."""
    groups = [[convolution(16, 16, groups=16)], [convolution(32, 32, groups=32)]]
    kinds = (elsewhere.Place(elsewhere.PLAIN, "", {}, 2), elsewhere.Place("one-thread", "1", {}, 1))
    trials = [(trial.code, trial.group) for trial in comparing.trials_of(groups, None, kinds)]
    codes = ("channels-last", "one-thread", "pconv", "dense-conv")
    assert trials == [(code, group) for code in codes for group in (0, 1)]


def test_of_a_training_step_the_forward_pass_is_measured_and_that_is_said() -> None:
    call = convolution(16, 16)
    behind = replace(call, phase="backward")
    (kind,) = (elsewhere.Place(elsewhere.PLAIN, "", {}, 1),)
    for trial in comparing.trials_of([[call, behind]], None, [kind]):
        assert trial.this == (call,)
        assert "the forward pass only" in trial.note
    assert all("forward" not in trial.note for trial in comparing.trials_of([[call]], None, [kind]))


def test_room_is_kept_only_where_the_network_keeps_it() -> None:
    groups = [[convolution(16, 16)], [convolution(16, 16)]]
    kinds = (elsewhere.Place(elsewhere.PLAIN, "", {}, 1),)
    trials = comparing.trials_of(groups, ("channels-last",), kinds, (False, True))
    # input and output of 2·16·28·28 floats, 16·16·9 weights and 16 biases: eight times as many bytes
    assert [comparing._room(trial) for trial in trials] == [
        0,
        8 * 4 * (2 * 2 * 16 * 28 * 28 + 16 * 16 * 9 + 16),
    ]


_WITH_ROOM = """
import ctypes, torch
from flopscope.experiments.outpost import warm, with_room

class Memory(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    _fields_ = [(name, ctypes.c_size_t) for name in names]

tell = ctypes.CDLL(None).mallinfo2
tell.restype = Memory
warm([1 << 20])
held = with_room(32 << 20)
before = tell()
blocks = [torch.empty(1 << 19, dtype=torch.uint8) for _ in range(40)]  # 20 MiB
print(before.fordblks, tell().arena - before.arena)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc's allocator")
def test_with_room_free_memory_stays_and_is_used() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITH_ROOM], capture_output=True, text=True, check=True, cwd=HOME
    )
    free, grown = map(int, done.stdout.split())
    assert free >= 32 << 20
    assert grown == 0


def test_what_was_measured_of_a_layer_is_named_where_it_is_not_all() -> None:
    large = convolution(16, 16)
    relu = opcalls.call("aten::relu", tensor(2, 8, 4, 4), self=tensor(2, 8, 4, 4))
    assert name_of((large,), [large]) == ""
    assert name_of((large,), [relu, large]) == "aten::convolution -> 2x16x28x28"
    assert name_of((relu, relu), [relu, relu]) == ""
    again = replace(large, call=1)  # the module is called twice: one call stands for both
    assert name_of((large,), [large, again]) == ""
    assert subject_of([relu, replace(relu, call=1)]) == (relu,)


def test_geometry_of_what_is_measured_instead() -> None:
    """The dense alternative has the shape of the original but for its groups."""
    call = convolution(64, 64, groups=64, stride=2)
    dense = found(call)["dense-conv"].ops[0]
    assert convolution_of(call) is not None
    assert dense.value("stride") == (2, 2)
    assert dense.inputs[0].shape == call.inputs[0].shape


def test_a_partial_convolution_convolves_the_first_quarter() -> None:
    call = convolution(8, 8, size=6)
    partial = found(call)["pconv"]
    with quiet():
        values = Values()
        whole, small = rebuild(call, values), rebuild(partial.ops[0], values)
        result = partially(small, whole).run()
        source, weight, bias = whole.tensors[0], small.tensors[1], small.tensors[2]
        assert weight.shape == (2, 2, 3, 3)
        expected = torch.nn.functional.conv2d(source[:, :2].clone(), weight, bias, padding=1)
        assert torch.allclose(result[:, :2], expected, rtol=1e-5)
        assert torch.equal(result[:, 2:], source[:, 2:])
