"""The nodes of a backward pass: whose each is, and that each says when it begins."""

from __future__ import annotations

import torch
from torch import nn

from flopscope.tracing import backwards


def run(net, x):
    """A forward whose module boundaries are noted, and its loss."""
    paths = {id(module): path for path, module in net.named_modules()}
    open_modules, turns = [], []

    def enter(module, _args):
        open_modules.append(paths[id(module)])
        turns.append((backwards.next_number(), open_modules[-1]))

    def leave(*_):
        open_modules.pop()
        turns.append((backwards.next_number(), open_modules[-1] if open_modules else "(loss)"))

    for module in net.modules():
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
    return net(x).mean(), turns


def steps_of(net, x):
    loss, turns = run(net, x)
    owners = {
        id(parameter): path
        for path, module in net.named_modules()
        for parameter in module.parameters(recurse=False)
    }
    found = backwards.nodes(loss)
    paths = backwards.paths_of(found, turns, owners, outside="(loss)")
    begun = []
    with backwards.told(found, begun.append):
        loss.backward()
    return found, paths, begun


def test_nodes_begin_once_each_from_the_loss_to_the_first_layer():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    found, paths, begun = steps_of(net, torch.zeros(2, 3, 8, 8))
    assert sorted(begun) == list(range(len(found)))
    assert list(dict.fromkeys(paths[index] for index in begun)) == ["(loss)", "4", "3", "2", "1", "0"]
    # Two parameters each in three layers.
    assert [paths[index] for index in begun if "Accumulate" in found[index].name()] == list("441100")


def test_every_node_of_a_branching_net_is_its_modules():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = self.one(x)
            return x + self.two(self.one(x))

    found, paths, begun = steps_of(Net(), torch.zeros(2, 4))
    named = [(paths[index], found[index].name()) for index in begun]
    assert ("", "AddBackward0") in named
    assert [path for path, name in named if name == "AddmmBackward0"] == ["two", "one", "one"]


def test_nothing_is_told_after_the_context():
    net = nn.Linear(3, 2)
    loss, _ = run(net, torch.zeros(1, 3))
    begun = []
    with backwards.told(backwards.nodes(loss), begun.append):
        pass
    loss.backward()
    assert begun == []
