"""What a training step holds: by hand, on both routes, and as torch's allocator sees it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from steps import on_both_routes, recorded
from torch import nn
from torch.profiler import ProfilerActivity
from torch.profiler import profile as traced_by_torch
from traces import Run

from flopscope import liveness, tracing
from flopscope.records import Storage, Trace

FLOAT = 4
MAP = 8 * 16 * 16 * FLOAT
INPUT = MAP // 8


def _chain(*layers):
    return nn.Sequential(nn.Conv2d(1, 8, 1), *layers)


def test_a_plain_chain_keeps_every_map():
    net = _chain(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)))
    meta, real = on_both_routes(net, torch.zeros(1, 1, 16, 16))
    # Each convolution keeps its input: the image and three maps.
    assert liveness.saved(meta) == liveness.saved(real) == INPUT + 3 * MAP
    # All four maps at the end of the forward, which holds its output; in the backward the gradient of the
    # last map beside them, and then that of its input.
    assert liveness.peak(meta).nbytes == liveness.peak(real).nbytes == INPUT + 6 * MAP + 2 * FLOAT


def test_one_storage_counts_once():
    """A relu in place and the convolution after it keep the same map."""
    net = _chain(nn.ReLU(inplace=True), nn.Conv2d(8, 8, 1))
    assert liveness.saved(recorded(net, torch.zeros(1, 1, 16, 16))) == INPUT + MAP
    net = _chain(nn.ReLU(), nn.Conv2d(8, 8, 1))
    assert liveness.saved(recorded(net, torch.zeros(1, 1, 16, 16))) == INPUT + MAP
    # gelu keeps its input and the convolution gelu's output.
    net = _chain(nn.GELU(), nn.Conv2d(8, 8, 1))
    assert liveness.saved(recorded(net, torch.zeros(1, 1, 16, 16))) == INPUT + 2 * MAP


def test_what_a_frozen_part_made_is_not_kept():
    net = _chain(nn.GELU(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1))
    net[:3].requires_grad_(False)
    # Only the last convolution's input is needed, for its weight.
    assert liveness.saved(recorded(net, torch.zeros(1, 1, 16, 16))) == MAP


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.reentrant = reentrant
        self.body = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4)) for _ in range(3)
        )
        self.stem = nn.Linear(4, 4)

    def forward(self, x):
        x = self.stem(x)
        for block in self.body:
            if self.reentrant is None:
                x = block(x)
            else:
                x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=self.reentrant)
        return x


def test_checkpoints_keep_less_and_run_more():
    row = 32 * 4 * FLOAT
    plain, reentrant, other = (
        recorded(Checkpointed(kind), torch.zeros(32, 4)) for kind in (None, True, False)
    )
    # Plain: the input, each block's input, gelu's input and gelu's output. Checkpointed: the inputs alone.
    assert liveness.saved(plain) == row * (1 + 3 * 3)
    assert liveness.saved(reentrant) == liveness.saved(other) == row * (1 + 3)
    assert liveness.peak(other).nbytes < liveness.peak(plain).nbytes
    assert liveness.peak(reentrant).nbytes < liveness.peak(plain).nbytes


def test_gradients_and_state_are_apart():
    net = nn.Linear(100, 100)
    size = 10_100 * FLOAT
    trace = recorded(net, torch.zeros(1, 100), optimizer=torch.optim.Adam)
    # Two moments per weight, and a count of steps for the weight and for the bias.
    assert liveness.held(trace) == {
        "parameter": size,
        "buffer": 0,
        "gradient": size,
        "optimizer": 2 * size + 2 * FLOAT,
    }
    roles = {storage.role for storage in trace.storages}
    assert roles == {"input", "parameter", "activation", "gradient", "optimizer"}
    named = {storage.name for storage in trace.storages if storage.role in ("gradient", "optimizer")}
    assert named == {"weight", "bias"}
    everything = liveness.peak(trace, state=True).nbytes
    # The step needs two more of a weight's size: the root of its second moment, and the quotient.
    assert everything >= 4 * size + 10_000 * FLOAT
    assert everything <= 4 * size + 2 * 10_000 * FLOAT + 1000


def test_parameters_that_never_ran_are_there_too():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(2, 2), nn.Linear(100, 100)

        def forward(self, x):
            return self.used(x)

    trace = recorded(Net(), torch.zeros(1, 2))
    assert liveness.held(trace)["parameter"] == (6 + 10_100) * FLOAT
    assert liveness.held(trace)["gradient"] == 6 * FLOAT
    assert liveness.peak(trace, state=True).nbytes > 10_100 * FLOAT > liveness.peak(trace).nbytes


def test_saved_by_records():
    """Of six storages only those count that were saved, are no state, and lived from forward to backward."""
    run = Run()
    x = run.input(2, 3)
    run.op("aten::mul", x, out=(2, 3))
    trace = run.trace()
    forward, backward = trace.ops[0], replace(trace.ops[0], phase="backward")
    storages = (
        Storage(7, "input", saved=True),
        Storage(100, "parameter", "w", saved=True),
        Storage(10, "activation", born=0, died=3, saved=True),
        Storage(20, "activation", born=0, died=1, saved=True),  # dropped before the backward
        Storage(40, "activation", born=0, died=3),
        Storage(80, "activation", born=2, died=3, saved=True),  # made in the backward
    )
    ops = (forward, forward, backward, backward)
    made = Trace((), trace.calls, ops, storages, (), (), "meta", "cpu", "0")
    assert liveness.saved(made) == 7 + 10


class SmallResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.body = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1)
            )
            for _ in range(3)
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x)
        for block in self.body:
            x = F.relu(block(x) + x)
        return self.head(x.mean((2, 3)))


def _allocated(model, x):
    """The most bytes that torch's allocator had given out during a step, above what was there before."""
    held = tracing.run_step(model, (x,), {})
    del held
    for parameter in model.parameters():
        parameter.grad = None
    with traced_by_torch(activities=[ProfilerActivity.CPU], profile_memory=True) as traced:
        held = tracing.run_step(model, (x,), {})
    del held
    events = [event for event in traced.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = most = x.nbytes
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most


def test_peak_memory_is_what_the_allocator_sees():
    # In channels_last, where convolutions need no copies of their own (see test_peak_memory).
    model = SmallResNet().to(memory_format=torch.channels_last)
    x = torch.zeros(2, 3, 96, 96).to(memory_format=torch.channels_last)
    meta, real = on_both_routes(model, x)
    resting = sum(item.nbytes for item in (*meta.parameters, *meta.buffers))
    expected = liveness.peak(meta, state=True).nbytes - resting
    assert liveness.peak(real, state=True).nbytes - resting == expected
    seen = _allocated(copy.deepcopy(model), x)
    assert expected == pytest.approx(seen, rel=0.03)
