"""The library's log: parsed from lines as oneDNN prints them, and once for real."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import opcalls
import pytest
import torch

from flopscope.experiments import logs, replays
from flopscope.experiments.letters import read, written
from flopscope.experiments.librarylog import kernels_of
from flopscope.experiments.logs import steps_of
from flopscope.experiments.witness import marked
from flopscope.records import Kernel

# Printed by oneDNN 3 for a depthwise 3x3 convolution of one image, 64 channels of 56 x 56, in NCHW.
START = "onednn_verbose,v1,primitive,exec,cpu"
SOURCE = (
    f"{START},reorder,jit:blk,undef,src:f32::blocked:abcd::f0 dst:f32::blocked:aBcd16b::f0,"
    "attr-scratchpad:user,,1x64x56x56,0.0341797"
)
WEIGHTS = (
    f"{START},reorder,jit:blk,undef,src:f32::blocked:abcde::f0 dst:f32::blocked:Abcde16a::f0,"
    "attr-scratchpad:user,,64x1x1x3x3,0.00292969"
)
COMPUTE = (
    f"{START},convolution,jit_dw:avx512_core,forward_training,"
    "src:f32:a:blocked:aBcd16b::f0 wei:f32:a:blocked:Abcde16a::f0 bia:undef::undef::: "
    "dst:f32:a:blocked:aBcd16b::f0,attr-scratchpad:user,alg:convolution_direct,"
    "g64mb1_ic64oc64_ih56oh56kh3sh1dh0ph1_iw56ow56kw3sw1dw0pw1,0.0639648"
)
RESULT = (
    f"{START},reorder,jit:blk,undef,src:f32::blocked:aBcd16b::f0 dst:f32::blocked:abcd::f0,"
    "attr-scratchpad:user,,1x64x56x56,0.272949"
)
LOG = (SOURCE, WEIGHTS, COMPUTE, RESULT)


def test_a_convolution_that_is_laid_out_anew_and_back() -> None:
    image = 64 * 56 * 56 * 4  # bytes
    assert kernels_of(LOG, [(64, 1, 3, 3)]) == (
        Kernel("reorder", "jit:blk", pytest.approx(34.1797e-6), "source", "abcd -> aBcd16b", image),
        Kernel("reorder", "jit:blk", pytest.approx(2.92969e-6), "weights", "abcde -> Abcde16a", 64 * 9 * 4),
        Kernel("convolution", "jit_dw:avx512_core", pytest.approx(63.9648e-6)),
        Kernel("reorder", "jit:blk", pytest.approx(272.949e-6), "result", "aBcd16b -> abcd", image),
    )


def test_shapes_decide_where_layouts_do_not() -> None:
    """A square product whose source and weights are laid out alike: the weights are 32 x 64."""
    product = (
        f"{START},matmul,gemm:jit,undef,src:bf16::blocked:ab::f0 wei:bf16::blocked:ab::f0 "
        "dst:bf16::blocked:ab::f0,,,4x64:64x32,0.1"
    )
    anew = f"{START},reorder,simple:any,undef,src:f32::blocked:ba::f0 dst:bf16::blocked:ab::f0,,,64x32,0.01"
    before, main = kernels_of([anew, product], [(32, 64)])
    assert (before.operand, before.layout, before.nbytes) == ("weights", "ba -> ab", 64 * 32 * 4)
    assert (main.primitive, main.implementation, main.operand) == ("matmul", "gemm:jit", "")
    assert kernels_of([anew, product], [(7, 7)])[0].operand == "source"


def test_older_forms_and_other_lines() -> None:
    old = SOURCE.replace("onednn_verbose,v1,primitive,", "dnnl_verbose,")
    assert kernels_of([old])[0].layout == "abcd -> aBcd16b"
    others = [
        "onednn_verbose,v1,info,oneDNN v3.12.0 (commit 0)",
        "onednn_verbose,v1,primitive,create:cache_miss,cpu,reorder,jit:blk,undef,x,,,1x64,0.02",
        "something that the model prints, with commas",
        f"{START},broken",
        SOURCE.rpartition(",")[0] + ",soon",
        "",
    ]
    assert kernels_of(others) == ()


def test_lines_belong_to_the_operator_between_whose_marks_they_stand() -> None:
    printed = "\n".join(
        [
            "onednn_verbose,v1,info,cpu",
            SOURCE,  # of the first, cold call: before the mark
            "flopscope,begin,7",
            COMPUTE,
            "flopscope,end,7",
            WEIGHTS,
            "flopscope,begin,3",
            "flopscope,end,3",
            "flopscope,begin,5",
            RESULT,  # the process ended here
        ]
    )
    assert marked(printed) == {7: [COMPUTE], 3: []}


def test_letters_hold_every_argument() -> None:
    x = opcalls.tensor(2, 8, strides=(16, 1), offset=3)
    call = opcalls.call(
        "aten::lstm",
        opcalls.tensor(4),
        written=["x"],
        tags=["core"],
        x=x,
        nested=[x, None, [1, 2]],
        number=1.5,
        endless=float("inf"),
        complex=1 + 2j,
        text="float32",
        flag=True,
        nothing=None,
    )
    assert read(json.loads(json.dumps(written(call)))) == call


def depthwise() -> Any:
    return opcalls.call(
        "aten::convolution",
        opcalls.tensor(1, 64, 28, 28),
        input=opcalls.tensor(1, 64, 28, 28),
        weight=opcalls.tensor(64, 1, 3, 3),
        padding=(1, 1),
        groups=64,
        transposed=False,
    )


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
def test_the_log_of_a_real_child() -> None:
    last = opcalls.tensor(1, 64, 28, 28, strides=(64 * 28 * 28, 1, 64 * 28, 64))
    cheap = opcalls.call(
        "aten::convolution",
        opcalls.tensor(1, 64, 28, 28),
        input=last,
        weight=opcalls.tensor(64, 1, 3, 3),
        padding=(1, 1),
        groups=64,
        transposed=False,
    )
    plain = depthwise()
    relu = opcalls.call("aten::relu", opcalls.tensor(5), self=opcalls.tensor(5))
    notes: list[str] = []
    found = replays([plain, cheap, relu], seconds=2, log=True, notes=notes)
    assert not notes
    if found[plain.signature].backend != "Mkldnn":
        pytest.skip("torch selects another backend on this machine")
    for call in (plain, cheap):
        steps = found[call.signature].kernels
        assert [step.primitive for step in steps].count("convolution") == 1
        assert all(0 <= step.latency_s < 10 for step in steps)  # its clock may be too coarse for the least
        assert {step.operand for step in steps if step.primitive == "reorder"} <= {
            "source",
            "weights",
            "result",
        }
    assert found[relu.signature].kernels == ()


def test_a_child_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch without oneDNN")

    def late(*args: Any, **kwargs: Any) -> Any:
        raise subprocess.TimeoutExpired(args[0], 1.0)

    def broken(*args: Any, **kwargs: Any) -> Any:
        return subprocess.CompletedProcess(args[0], 1, stdout="", stderr="Traceback\nImportError: torch\n")

    notes: list[str] = []
    monkeypatch.setattr(logs.subprocess, "run", late)
    assert steps_of([depthwise()], timeout_s=1, notes=notes) == {}
    monkeypatch.setattr(logs.subprocess, "run", broken)
    assert steps_of([depthwise()], timeout_s=1, notes=notes) == {}
    assert "longer than 1 s" in notes[0]
    assert "ImportError: torch" in notes[1]


def test_without_onednn_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    notes: list[str] = []
    assert steps_of([depthwise()], timeout_s=1, notes=notes) == {}
    assert notes == ["no library log: this torch was built without oneDNN"]
