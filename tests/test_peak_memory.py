"""The most activation memory alive: by hand, and as torch's allocator sees it in a real run."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from counting import counted
from torch import nn
from torch.profiler import ProfilerActivity
from torch.profiler import profile as traced_by_torch

import flopscope

FLOAT = 4


class Call(nn.Module):
    """A net whose forward is the given function of its inputs."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


# A stem makes the first map of 8 x 16 x 16 from an input that is small beside it.
STEM_INPUT = 1 * 16 * 16 * FLOAT
CHAIN_MAP = 8 * STEM_INPUT


def _stem():
    return nn.Conv2d(1, 8, 1)


def _same():
    return nn.Conv2d(8, 8, 3, padding=1)


def test_a_plain_chain_holds_two_maps():
    report = counted(nn.Sequential(_stem(), _same(), _same(), _same()), (1, 1, 16, 16))
    assert report.peak_activation_bytes == 2 * CHAIN_MAP + STEM_INPUT


def test_operators_in_place_hold_one_map_less():
    plain = nn.Sequential(_stem(), nn.ReLU(), nn.ReLU())
    in_place = nn.Sequential(_stem(), nn.ReLU(inplace=True), nn.ReLU(inplace=True))
    assert counted(plain, (1, 1, 16, 16)).peak_activation_bytes == 2 * CHAIN_MAP + STEM_INPUT
    assert counted(in_place, (1, 1, 16, 16)).peak_activation_bytes == CHAIN_MAP + STEM_INPUT


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = _same(), _same()

    def forward(self, x):
        return x + self.two(self.one(x))


def test_a_residual_block_holds_three_maps():
    report = counted(nn.Sequential(_stem(), Block(), Block()), (1, 1, 16, 16))
    assert report.peak_activation_bytes == 3 * CHAIN_MAP + STEM_INPUT
    # The second convolution of a block: its input, its output and the block's input.
    assert report.peak.path == "1.two"
    assert sum(size for _, size in report.peak.alive) == report.peak_activation_bytes
    assert [size for _, size in report.peak.alive] == [CHAIN_MAP] * 3 + [STEM_INPUT]


def test_the_input_is_held_by_the_caller():
    # Input and output of the second convolution, and the model's input.
    report = counted(nn.Sequential(_same(), _same()), (1, 8, 16, 16))
    assert report.peak_activation_bytes == 3 * CHAIN_MAP


def test_a_branch_that_is_kept():
    def dense(x):
        maps = [x]
        for _ in range(4):
            maps.append(maps[-1] * 2)
        return torch.cat(maps, dim=1)

    # Five maps, and the concatenation of five.
    assert counted(Call(dense), (1, 2, 4, 4)).peak_activation_bytes == 10 * (2 * 16 * FLOAT)


def test_parameters_are_apart():
    report = counted(nn.Linear(100, 100), (1, 100))
    assert report.peak_activation_bytes == 200 * FLOAT
    assert report.param_bytes == 10_100 * FLOAT
    assert counted(nn.BatchNorm1d(5), (2, 5)).buffer_bytes == 2 * 5 * FLOAT + 8


class SmallResNet(nn.Module):
    """A ResNet-18 in small: stem, pool, four stages of which three halve the map, a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 7, 2, 3, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        widths = [(16, 16, 1), (16, 32, 2), (32, 64, 2), (64, 128, 2)]
        self.stages = nn.Sequential(*(Basic(*width) for width in widths))
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        x = self.stages(self.stem(x))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Basic(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.skip = nn.Conv2d(before, after, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.body(x) + self.skip(x), inplace=True)


class SmallViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 64, 8, 8)
        self.blocks = nn.ModuleList(nn.ModuleDict(_block_parts()) for _ in range(3))

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            batch, length, width = x.shape
            qkv = block["qkv"](block["norm1"](x)).reshape(batch, length, 3, 4, width // 4)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
            x = x + block["project"](y)
            x = x + block["down"](F.gelu(block["up"](block["norm2"](x))))
        return x.mean(1)


def _block_parts():
    return {
        "norm1": nn.LayerNorm(64),
        "qkv": nn.Linear(64, 192),
        "project": nn.Linear(64, 64),
        "norm2": nn.LayerNorm(64),
        "up": nn.Linear(64, 256),
        "down": nn.Linear(256, 64),
    }


def mobilenet():
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    return torchvision.models.mobilenet_v3_small(weights=None)


def _allocated(model, x):
    """The most bytes that torch's allocator had given out during a real run, and the input's."""
    model = model.eval()
    with torch.inference_mode():
        model(x)  # what kernels keep for good is not the run's
        with traced_by_torch(activities=[ProfilerActivity.CPU], profile_memory=True) as traced:
            model(x)
    events = [event for event in traced.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = most = x.nbytes
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most


@pytest.mark.parametrize(
    ("build", "shape"),
    [(SmallResNet, (2, 3, 160, 160)), (mobilenet, (1, 3, 224, 224)), (SmallViT, (2, 3, 128, 128))],
    ids=["resnet", "mobilenet_v3_small", "vit"],
)
def test_peak_memory_is_what_the_allocator_sees(build, shape):
    # In channels_last a convolution works on the tensors as they are. On contiguous ones oneDNN
    # holds copies of its own while it runs, blocked and padded to 8 or 16 channels: scratch, no
    # activation, and another tenth on these nets. Else the allocator rounds up to 64 bytes, and
    # kernels take a few small buffers (the statistics of a batch norm, the sums of attention).
    model = build().to(memory_format=torch.channels_last)
    x = torch.zeros(shape).to(memory_format=torch.channels_last)
    report = flopscope.count(model, x)
    seen = _allocated(model, x)
    assert report.peak_activation_bytes == pytest.approx(seen, rel=0.01)
    assert report.peak_activation_bytes <= seen


class ReadsAValue(SmallResNet):
    def forward(self, x):
        x.sum().item()
        return super().forward(x)


def test_the_peak_does_not_depend_on_the_route():
    real, meta = (flopscope.count(net(), (2, 3, 96, 96)) for net in (ReadsAValue, SmallResNet))
    assert (real.route, meta.route) == ("real", "meta")
    assert real.peak_activation_bytes == meta.peak_activation_bytes


FIRST_AND_SECOND = """
import flopscope
from torch import nn

maps = [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)]
model = nn.Sequential(nn.Conv2d(1, 8, 1), *maps, nn.BatchNorm2d(8), nn.ReLU())
print(*(flopscope.count(model, (1, 1, 16, 16)).peak_activation_bytes for _ in range(2)))
"""


def test_the_first_count_of_a_process_is_like_the_second():
    # On its first call torch's Python code for an operator without data may keep what it was given.
    run = subprocess.run([sys.executable, "-c", FIRST_AND_SECOND], capture_output=True, text=True, check=True)
    # Two maps and the input.
    assert run.stdout.split() == [str(2 * CHAIN_MAP + STEM_INPUT)] * 2
