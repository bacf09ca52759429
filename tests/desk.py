"""What lies on a reader's desk: the names and files that the pages of the manual take for granted.

All are small, so that a page takes seconds. A page that needs something else makes it, or has a set-up.
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn

import flopscope

NET = '''
from torch import nn


class Block(nn.Module):
    """A convolution, its norm, an activation."""

    def __init__(self, channels, width, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, groups=groups)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.norm(self.conv(x)))


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return x + self.conv(x)


class Net(nn.Module):
    """For maps of any size and of 3 channels."""

    def __init__(self, width):
        super().__init__()
        depthwise = (Block(width, width, groups=width) for _ in range(3))
        self.features = nn.Sequential(Block(3, width), *depthwise)
        self.layer1 = Residual(width)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))

    def forward(self, x):
        return self.head(self.layer1(self.features(x)))


def build(width=8):
    return Net(width)


def old():
    return Net(8)


new = old


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(100, 8)
        self.project = nn.Linear(8, 8)

    def forward(self, ids, mask):
        return self.project(self.embed(ids)) * mask.unsqueeze(-1)
'''


def plain(kernel: int = 3) -> nn.Module:
    """Of torch's classes alone, so that its file loads without asking; its paths are torchvision's."""
    block = nn.Sequential(
        nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 8, kernel, padding=kernel // 2, groups=8), nn.BatchNorm2d(8), nn.ReLU()),
    )
    inverted = nn.Sequential(OrderedDict(block=block))
    features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), inverted)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return nn.Sequential(OrderedDict(features=features, head=head))


def names(made: Path) -> dict[str, Any]:
    """What Python blocks find defined; `tidy()` puts the files back as they were."""
    return {
        "__name__": "__manual__",
        "flopscope": flopscope,
        "torch": torch,
        "nn": nn,
        "model": plain(),
        "other": plain(5),
        "shape": (1, 3, 32, 32),
        "report": flopscope.load(made / "report.json"),
        "tidy": lambda: lay_out(made, Path()),
    }


def make(folder: Path) -> None:
    """Make the files that command lines name."""
    (folder / "net.py").write_text(NET, encoding="utf-8")
    torch.save(plain(), folder / "model.pt")
    net = flopscope.load_model(f"{folder / 'net.py'}:build")
    reports = Path(flopscope.__file__).parents[1] / "docs" / "data"  # pages name them as in the checkout
    shutil.copytree(reports, folder / "docs" / "data")
    flopscope.profile(net, (1, 3, 32, 32), effort="quick", max_seconds=0.1).save(folder / "report.json")


def lay_out(made: Path, folder: Path) -> None:
    """Put copies of the files into a folder."""
    shutil.copytree(made, folder, dirs_exist_ok=True)
    for name in ("before.json", "after.json"):
        shutil.copy(folder / "report.json", folder / name)
