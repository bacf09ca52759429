"""strict: an unreliable measurement is an error that loses nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from command_lines import CommandLine
from torch import nn

import flopscope
from flopscope import quality
from flopscope.errors import MeasurementError
from flopscope.records import Quality


@pytest.fixture
def word(monkeypatch: pytest.MonkeyPatch) -> Any:
    def assess(timings: Any, machine: Any = None) -> Quality:
        return Quality("disturbed", ("somebody else was busy",), "wait")

    monkeypatch.setattr(quality, "assess", assess)


def test_a_disturbed_measurement_is_refused_and_kept(word: None) -> None:
    with pytest.raises(MeasurementError, match="timing is disturbed: somebody else was busy") as caught:
        flopscope.profile(nn.Linear(4, 4), (2, 4), strict=True, effort="quick", max_seconds=0.1)
    assert caught.value.hint == "wait"
    assert caught.value.exit_code == 5
    assert caught.value.report.total.macs == 2 * 4 * 4
    assert caught.value.report.quality.word == "disturbed"


def test_without_strict_it_is_only_said(word: None) -> None:
    report = flopscope.profile(nn.Linear(4, 4), (2, 4), effort="quick", max_seconds=0.1)
    assert report.quality == Quality("disturbed", ("somebody else was busy",), "wait")


def test_the_command_line_shows_it_and_ends_with_5(
    word: None, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    file = tmp_path / "net.pt"
    torch.save(nn.Linear(4, 4), file)
    done = CommandLine(capsys)("report", file, "-i", "2,4", "--strict", "--csv", "--effort", "quick",
                               "--max-seconds", "0.1")  # fmt: skip
    assert done.code == 5
    assert done.out.startswith("path,type,kind,")
    assert "error: timing is disturbed: somebody else was busy" in done.err
