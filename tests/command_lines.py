"""Command lines run in this process, and the models that they are run on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from flopscope.commands.porch import porch

NET = '''
import torch
from torch import nn


def build(width=4):
    """2 convolutions (one depthwise), a ReLU and a projection."""
    return nn.Sequential(
        nn.Conv2d(3, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1, groups=width),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2),
    )


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x, mask):
        return self.a(x) * mask


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(100, 8)

    def forward(self, ids):
        return self.embed(ids)


class Looks(nn.Module):
    """Its control flow depends on values, which the meta device has not."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        return self.a(x) if x.abs().sum().item() >= 0 else x


class Quits(nn.Module):
    def forward(self, x):
        raise SystemExit(0)
'''


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it wrote where."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs flopscope's command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *args: str | Path) -> Said:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            porch([str(arg) for arg in args], prog_name="flopscope")
        out, err = self.capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, out, err)
