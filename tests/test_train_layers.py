"""A training step in layers: forward and backward in one row, loss and optimizer in rows of their own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from steps import partitioned, recorded
from torch import nn

import flopscope


def row(rows, path, kind_of_row=None):
    found = [layer for layer in rows if layer.path == path and kind_of_row in (None, layer.type)]
    assert len(found) == 1, [(layer.path, layer.type) for layer in rows]
    return found[0]


def phases_of(trace, layer):
    return [trace.ops[index].phase for index in layer.ops if not trace.ops[index].view]


def test_forward_and_backward_are_one_layer():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    trace = recorded(net, torch.zeros(2, 3, 8, 8), optimizer=torch.optim.SGD)
    rows, _ = partitioned(trace)
    assert [(layer.path, layer.type, layer.kind) for layer in rows] == [
        ("0", "Conv2d", "conv"),
        ("1", "BatchNorm2d", "batch_norm"),
        ("2", "ReLU", "activation"),
        ("3", "Flatten", "data_movement"),
        ("4", "Linear", "linear"),
        ("", "(loss)", "elementwise"),
        ("", "(optimizer)", "elementwise"),
    ]
    assert phases_of(trace, rows[0]) == ["forward", "backward"]
    assert {layer.path: layer.calls for layer in rows if layer.path} == dict.fromkeys("01234", 1)
    conv, linear = 2 * 36 * 4 * 27, 2 * 144 * 2
    assert (rows[0].macs, rows[4].macs) == (2 * conv, 3 * linear)


def test_geometry_and_shapes_are_the_forwards():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    trace = recorded(net, torch.zeros(1, 3, 17, 17))
    rows, _ = partitioned(trace)
    assert [layer.detail for layer in rows[:3]] == ["3x3 s2 3>8", "3x3 8>8 g8", "1x1 8>4"]
    assert [layer.kind for layer in rows[:3]] == ["conv", "depthwise_conv", "pointwise_conv"]
    assert (rows[1].input_shape, rows[1].output_shape) == ((1, 8, 8, 8), (1, 8, 6, 6))


def test_a_layer_without_forward_arithmetic_keeps_its_kind():
    """A view costs nothing forth, yet its gradient may be a copy: it stays data movement."""
    net = nn.Sequential(nn.Linear(6, 6), nn.Unflatten(1, (2, 3)), nn.Flatten(1), nn.Linear(6, 2))
    rows, _ = partitioned(recorded(net, torch.zeros(4, 6)))
    assert row(rows, "1").kind == row(rows, "2").kind == "data_movement"


class InlineGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.squeeze, self.excite = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x):
        x = self.stem(x)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return self.last(x * gate + 1)


def test_an_inline_block_has_its_own_backward():
    trace = recorded(InlineGate(), torch.zeros(2, 3, 8, 8))
    rows, _ = partitioned(trace)
    block = row(rows, "", "(se)")
    # Two images; squeeze and excite 8 * 2 each, forward and both gradients.
    assert (block.kind, block.macs) == ("se", 3 * 2 * 2 * 16)
    names = [trace.ops[index].op for index in block.ops if trace.ops[index].phase == "backward"]
    assert names.count("aten::convolution_backward") == 2
    assert "aten::sigmoid_backward" in names
    others = row(rows, "", "(ops)")
    assert [trace.ops[index].op for index in others.ops] == ["aten::add"]


def test_blocks_of_a_zoo_network_are_those_of_its_evaluation():
    net = flopscope.load_model("zoo:mobilenetv3_small")
    rows, tree = partitioned(recorded(net, torch.zeros(1, 3, 64, 64)))
    evaluated = flopscope.count(net, (1, 3, 64, 64))
    expected = {(layer.path, layer.type): layer for layer in evaluated.layers}
    inside = {(layer.path, layer.type): layer for layer in rows if layer.type != "(loss)"}
    assert inside.keys() == expected.keys()
    # Dropout draws numbers in training; the global pool is a mean where gradients are wanted.
    changed = {"dropout", "pool"}
    for key, layer in inside.items():
        if layer.path not in changed:
            assert (layer.kind, layer.detail) == (expected[key].kind, expected[key].detail), key
        times = 2 if layer.path == "stem.conv" else 3
        assert (layer.macs, layer.params) == (times * expected[key].macs, expected[key].params), key
    assert [item.path for item in tree] == [item.path for item in evaluated.tree]
    assert {item.kind for item in tree if item.path == "blocks.0.se"} == {"se"}


def test_partial_convolutions_are_recognised():
    net = flopscope.load_model("zoo:fasternet_t0")
    rows, _ = partitioned(recorded(net, torch.zeros(1, 3, 64, 64)))
    evaluated = flopscope.count(net, (1, 3, 64, 64))
    kinds = [layer.kind for layer in evaluated.layers]
    assert [layer.kind for layer in rows].count("pconv") == kinds.count("pconv") > 0


def test_a_shared_module_and_one_that_never_runs():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.idle = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(2, 2)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(self.a(x))) + x

    trace = recorded(Net(), torch.zeros(8, 4), optimizer=torch.optim.Adam)
    rows, _ = partitioned(trace)
    once = 8 * 16
    # Forward thrice; the first call's input wants no gradient.
    assert (row(rows, "a").macs, row(rows, "a").calls) == (5 * once, 2)
    assert row(rows, "b").macs == 3 * once
    assert (row(rows, "idle").kind, row(rows, "idle").ops) == ("other", ())
    assert sum(layer.params for layer in rows) == sum(p.numel() for p in Net().parameters())


def test_a_model_that_is_one_layer():
    rows, tree = partitioned(recorded(nn.Linear(3, 5), torch.zeros(4, 3), optimizer=torch.optim.SGD))
    assert [(layer.path, layer.type) for layer in rows] == [
        ("", "Linear"),
        ("", "(loss)"),
        ("", "(optimizer)"),
    ]
    assert rows[2].detail == "add"
    assert (tree[0].kind, len(tree)) == ("linear", 1)


def test_a_loss_that_uses_a_part_of_the_model():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.body(x), self.head

    trace = recorded(Net(), torch.zeros(5, 3), loss=lambda output: output[1](output[0]).mean())
    rows, _ = partitioned(trace)
    assert row(rows, "head").macs == 3 * 5 * 8
    assert phases_of(trace, row(rows, "head"))[0] == "loss"
