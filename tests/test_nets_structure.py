"""Whose work it is: shared, reused, recursive, tied, unused and improvised modules."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
import torch.nn.functional as F
from counting import counted, row
from torch import nn
from torch.nn.utils import parametrizations

import flopscope

# A linear layer of 8 x 8 on 2 rows, and its parameters.
LINEAR = 2 * 8 * 8
PARAMETERS = 8 * 8 + 8


def test_rows_are_in_order_of_execution():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(8, 4)
            self.first = nn.Linear(8, 8)

        def forward(self, x):
            return self.last(F.relu(self.first(x)))

    report = counted(Net(), (2, 8))
    assert [(layer.path, layer.type) for layer in report.layers] == [
        ("first", "Linear"),
        ("", "(ops)"),
        ("last", "Linear"),
    ]
    assert row(report, "").kind == "elementwise"
    assert row(report, "").flops == 16


def test_a_module_under_two_parents():
    shared = nn.Linear(8, 8)
    report = counted(nn.Sequential(nn.Sequential(shared), nn.Sequential(nn.ReLU(), shared)), (2, 8))
    assert report.total.macs == 2 * LINEAR
    assert report.total.params == PARAMETERS
    assert (row(report, "0.0").calls, row(report, "0.0").macs) == (2, 2 * LINEAR)
    assert row(report, "0.0").params == PARAMETERS


def test_a_module_reused_three_times():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(8, 8)

        def forward(self, x):
            return self.lin(self.lin(self.lin(x)))

    report = counted(Net(), (2, 8))
    lin = row(report, "lin")
    assert (lin.calls, lin.macs, lin.params) == (3, 3 * LINEAR, PARAMETERS)
    assert report.total.macs == 3 * LINEAR


def test_the_input_shape_is_that_of_the_first_call():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(8, 8)

        def forward(self, x):
            return self.lin(self.lin(x)[:1])

    report = counted(Net(), (2, 8))
    assert row(report, "lin").input_shape == (2, 8)
    assert row(report, "lin").output_shape == (2, 8)
    assert row(report, "lin").macs == 2 * 64 + 64


def test_a_shared_activation():
    act = nn.ReLU()
    net = nn.Sequential(nn.Linear(8, 8), act, nn.Linear(8, 8), act)
    report = counted(net, (2, 8))
    assert row(report, "1").calls == 2
    assert row(report, "1").flops == 32


class Recursive(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(8, 8)

    def forward(self, x, depth=2):
        x = self.lin(x)
        return self(x, depth - 1) if depth else x


def test_recursion():
    report = counted(Recursive(), (2, 8))
    assert report.total.macs == 3 * LINEAR
    assert report.total.params == PARAMETERS
    assert row(report, "lin").calls == 3


def test_forward_called_directly_belongs_to_the_caller():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(8, 8)
            self.b = nn.Linear(8, 8)

        def forward(self, x):
            return self.b.forward(self.a(x))

    report = counted(Net(), (2, 8))
    assert row(report, "a").macs == LINEAR
    assert row(report, "", "(ops)").macs == LINEAR
    b = row(report, "b")
    assert (b.calls, b.macs, b.params) == (0, 0, PARAMETERS)
    assert report.total.params == 2 * PARAMETERS


def test_a_module_that_is_never_called():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.Linear(8, 8)
            self.unused = nn.Sequential(nn.Linear(8, 8), nn.ReLU())

        def forward(self, x):
            return self.used(x)

    report = counted(Net(), (2, 8))
    unused = row(report, "unused.0")
    assert (unused.calls, unused.macs, unused.params) == (0, 0, PARAMETERS)
    assert unused.input_shape is None
    assert report.total.macs == LINEAR
    assert report.total.params == 2 * PARAMETERS


def test_tied_weights_count_once():
    # A table of 10 x 4, gathered for 6 tokens and multiplied by: 6 x 4 x 10.
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 4)
            self.out = nn.Linear(4, 10, bias=False)
            self.out.weight = self.table.weight

        def forward(self, ids):
            return self.out(self.table(ids))

    report = counted(Net(), flopscope.Spec((2, 3), "int64"))
    assert report.total.params == 40
    assert report.total.macs == 6 * 4 * 10
    assert (row(report, "table").params, row(report, "out").params) == (40, 0)


def test_operators_in_place():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.conv(x)
            x.add_(1).mul_(2.0)
            x[:, :2] = 0
            return self.relu(x)

    report = counted(Net(), (1, 3, 5, 5))
    assert report.total.macs == 4 * 25 * 3
    # 100 additions, 100 multiplications; setting values is no FLOP.
    assert row(report, "").flops == 200
    assert row(report, "relu").flops == 100


def test_a_module_made_inside_forward():
    class Net(nn.Module):
        def forward(self, x):
            return nn.Linear(8, 8)(x)

    report = counted(Net(), (2, 8))
    assert report.total.macs == LINEAR
    assert report.total.params == 0


def test_lists_and_dicts_of_modules_and_parameters():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.listed = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
            self.named = nn.ModuleDict({"up": nn.Linear(8, 16), "down": nn.Linear(16, 8)})
            self.bare = nn.ParameterList([nn.Parameter(torch.zeros(8, 8))])
            self.keyed = nn.ParameterDict({"w": nn.Parameter(torch.zeros(8, 8))})
            self.own = nn.Parameter(torch.zeros(8))

        def forward(self, x):
            for layer in self.listed:
                x = layer(x)
            x = self.named["down"](self.named["up"](x))
            return x @ self.bare[0] @ self.keyed["w"] + self.own

    report = counted(Net(), (2, 8))
    assert report.total.macs == 2 * LINEAR + 2 * (2 * 8 * 16) + 2 * LINEAR
    assert report.total.params == 2 * PARAMETERS + (8 * 16 + 16) + (16 * 8 + 8) + 64 + 64 + 8
    assert row(report, "named.up").macs == 2 * 8 * 16
    assert row(report, "", "(ops)").macs == 2 * LINEAR


def test_nested_containers_in_the_tree():
    net = nn.Sequential(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), nn.Sequential(nn.Linear(8, 8)))
    report = counted(net, (2, 8))
    tree = {layer.path: layer for layer in report.tree}
    assert list(tree) == ["", "0", "0.0", "0.1", "1", "1.0"]
    assert [layer.depth for layer in report.tree] == [0, 1, 2, 2, 1, 2]
    assert (tree[""].macs, tree["0"].macs, tree["1.0"].macs) == (2 * LINEAR, LINEAR, LINEAR)
    assert tree["0"].params == PARAMETERS
    assert tree[""].bytes_read == report.total.bytes_read


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(parametrizations.weight_norm, id="weight_norm"),
        pytest.param(parametrizations.spectral_norm, id="spectral_norm"),
        pytest.param(parametrizations.orthogonal, id="orthogonal"),
    ],
)
def test_parametrised_weights(wrap):
    # Making the weight costs, too: at least the layer's own 2 x 8 x 8 multiply-adds are there.
    net = nn.Sequential(wrap(nn.Linear(8, 8, bias=False)), nn.ReLU())
    report = flopscope.count(net, (2, 8))
    rows = [layer for layer in report.layers if layer.path.startswith("0")]
    linear = [op for op in report.ops if op.op == "aten::linear"]
    assert [op.macs for op in linear] == [LINEAR]
    assert sum(layer.macs for layer in rows) == report.total.macs >= LINEAR
    assert report.total.params == sum(parameter.numel() for parameter in net.parameters())


def test_weight_norm_of_the_old_kind():
    with pytest.warns(FutureWarning):
        net = nn.utils.weight_norm(nn.Linear(8, 8))
    before = dict(net.__dict__)
    report = counted(net, (2, 8))
    assert report.total.macs == LINEAR
    assert report.total.params == 64 + 8 + 8
    assert net.__dict__ == before


def test_lazy_modules_stay_lazy():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    report = counted(net, (1, 3, 8, 8))
    # 36 outputs of 4 channels from 27 values; 144 values to 5.
    assert report.total.macs == 36 * 4 * 27 + 144 * 5
    assert report.total.params == (4 * 27 + 4) + (144 * 5 + 5)
    assert [type(module).__name__ for module in net] == ["LazyConv2d", "ReLU", "Flatten", "LazyLinear"]
    assert all(module.has_uninitialized_params() for module in (net[0], net[3]))


def test_lazy_batch_norm():
    # torch itself cannot copy a buffer that has no shape yet.
    net = nn.Sequential(nn.LazyBatchNorm2d())
    report = counted(net, (1, 3, 8, 8))
    assert report.total.params == 6
    assert report.buffer_bytes == 3 * 4 + 3 * 4 + 8
    assert net[0].has_uninitialized_params()


def test_a_container_that_is_a_module_of_its_own_kind():
    # A subclass of a leaf with children: its own product is its "(ops)".
    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(8, 8)
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(super().forward(x))

    report = counted(nn.Sequential(Scaled()), (2, 8))
    assert row(report, "0", "(ops)").macs == LINEAR
    assert row(report, "0", "(ops)").params == PARAMETERS
    assert row(report, "0.act").flops == 16


def test_two_instances_of_one_class_are_two_rows():
    report = counted(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), (2, 8))
    assert [layer.macs for layer in report.layers] == [LINEAR, LINEAR]


def test_a_copy_counts_as_the_original():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU())
    first, second = counted(net, (1, 3, 8, 8)), counted(copy.deepcopy(net), (1, 3, 8, 8))
    assert first.layers == second.layers


def test_a_model_nested_as_deeply_as_torch_can_run_it():
    """torch runs 210 levels within Python's 1,000 frames; hooks and copies take more of them."""
    model = nn.Linear(4, 4)
    for _ in range(210):
        model = nn.Sequential(model)
    model(torch.ones(1, 4))
    limit = sys.getrecursionlimit()
    for report in (counted(model, (1, 4)), flopscope.profile(model, (1, 4), max_seconds=0.05)):
        assert report.route == "meta"
        assert report.total.macs == 16
        assert report.layers[0].depth == 210
    assert sys.getrecursionlimit() == limit
