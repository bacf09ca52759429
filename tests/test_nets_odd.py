"""Odd nets: values that decide, outputs of any form, wrappers, quantised and compiled models."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch
import torch.nn.functional as F
from counting import counted, macs_of, row
from torch import nn
from torch.utils.checkpoint import checkpoint

import flopscope
from flopscope import ForwardError, Inputs, Spec

# A linear layer of 8 x 8 on 2 rows.
LINEAR = 2 * 8 * 8


class Once(nn.Module):
    """A linear layer, and a function that is applied to it and its input."""

    def __init__(self, function):
        super().__init__()
        self.lin = nn.Linear(8, 8)
        self.function = function

    def forward(self, *args, **kwargs):
        return self.function(self.lin, *args, **kwargs)


# --------------------------------------------------------------------------- values decide


def _selects(lin, x):
    return lin(x[x.sum(dim=1) > -1e9])


def _branches(lin, x):
    return lin(lin(x)) if x.sum().item() > -1e9 else x


def _tests(lin, x):
    return lin(lin(x)) if (x > -1e9).all() else x


def _repeats(lin, x):
    for _ in range(int(x.new_ones(3).sum())):
        x = lin(x)
    return x


@pytest.mark.parametrize(
    ("function", "calls"),
    [(_selects, 1), (_branches, 2), (_tests, 2), (_repeats, 3)],
    ids=["boolean mask", "item", "truth of a tensor", "int of a tensor"],
)
def test_values_decide(function, calls):
    # Every row passes the mask, and every branch is taken, whatever the input.
    report = counted(Once(function), (2, 8))
    assert report.total.macs == calls * LINEAR
    assert (report.route == "real") == any("real run" in warning for warning in report.warnings)


@pytest.mark.parametrize("function", [_selects, _branches, _tests], ids=["boolean mask", "item", "truth"])
def test_values_decide_and_there_are_none(function):
    assert counted(Once(function), (2, 8)).route == "real"
    with torch.device("meta"):
        net = Once(function)
    with pytest.raises(ForwardError) as caught:
        flopscope.count(net, (2, 8))
    assert caught.value.exit_code == 4


def test_the_fallback_runs_on_a_copy():
    net = Once(_branches)
    net.register_buffer("calls", torch.zeros(1))
    net.function = lambda lin, x: net.calls.add_(1) and _branches(lin, x)
    counted(net, (2, 8))
    assert net.calls.item() == 0


def test_constants_may_decide():
    # The values of what forward makes itself are known without data.
    def function(lin, x):
        steps = torch.linspace(0, 1, 5)
        return lin(x) if steps[-1] > 0.5 else lin(lin(x))

    report = counted(Once(function), (2, 8))
    assert report.total.macs == LINEAR
    assert report.route == "meta"


# --------------------------------------------------------------------------- what goes in and comes out


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...]
    note: str = ""


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: Output(y, (y, y)),
        lambda y: {"logits": y, "none": None, "step": 3},
        lambda y: [y, (y, {"deep": y})],
        lambda y: None,
        lambda y: iter([y]),
    ],
    ids=["dataclass", "dict", "nest", "none", "iterator"],
)
def test_outputs_of_any_form(wrap):
    assert macs_of(Once(lambda lin, x: wrap(lin(x))), (2, 8)) == LINEAR


def test_dict_inputs_are_keywords():
    def function(lin, *, x, scale=None):
        return lin(x) if scale is None else lin(x) * scale

    assert macs_of(Once(function), {"x": (2, 8)}) == LINEAR
    report = counted(Once(function), {"x": (2, 8), "scale": (1,)})
    assert report.total.macs == LINEAR
    assert row(report, "", "(ops)").flops == 16


def test_positional_and_keyword_arguments():
    def function(lin, x, *, twice=False, mask=None):
        y = lin(lin(x)) if twice else lin(x)
        return y if mask is None else y.masked_fill(mask, 0.0)

    net = Once(function)
    assert macs_of(net, Inputs((2, 8), twice=True)) == 2 * LINEAR
    assert macs_of(net, Inputs((2, 8), twice=False, mask=Spec((2, 8), "bool"))) == LINEAR


def test_lists_of_tensors():
    def function(lin, maps):
        return torch.cat([lin(one) for one in maps])

    report = counted(Once(function), Inputs([(2, 8), (4, 8), (1, 8)]))
    assert report.total.macs == (2 + 4 + 1) * 64


def test_a_dict_as_one_argument():
    assert macs_of(Once(lambda lin, batch: lin(batch["x"])), Inputs({"x": (2, 8)})) == LINEAR


def test_tensors_of_a_subclass():
    class Mine(torch.Tensor):
        pass

    report = counted(Once(lambda lin, x: lin(x)), torch.ones(2, 8).as_subclass(Mine))
    assert report.total.macs == LINEAR


def test_no_inputs_at_all():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.Parameter(torch.zeros(2, 8))
            self.lin = nn.Linear(8, 8)

        def forward(self):
            return self.lin(self.rows)

    assert macs_of(Table(), Inputs()) == LINEAR


# --------------------------------------------------------------------------- ways of running


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(reentrant):
    net = Once(lambda lin, x: checkpoint(lin, x, use_reentrant=reentrant))
    report = counted(net, (2, 8))
    assert row(report, "lin").macs == LINEAR


def _in_bfloat16(lin, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return lin(x)


def _in_bfloat16_for_real(lin, x):
    x.sum().item()
    return _in_bfloat16(lin, x)


def test_autocast_inside_forward():
    report = counted(Once(_in_bfloat16), (2, 8))
    assert report.total.macs == LINEAR
    # As on the CPU the product is one of bfloat16 numbers, and so is its result.
    assert [op.dtype for op in report.ops if op.op == "aten::linear"] == ["bfloat16"]


def test_autocast_without_data_costs_what_it_does_with_data():
    meta, real = counted(Once(_in_bfloat16), (2, 8)), counted(Once(_in_bfloat16_for_real), (2, 8))
    assert (meta.route, real.route) == ("meta", "real")
    assert dataclasses.replace(row(meta, "lin"), ops=()) == dataclasses.replace(row(real, "lin"), ops=())


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad @ weight.T, x.T @ grad


def test_an_autograd_function():
    assert macs_of(Once(lambda lin, x: Squared.apply(x, lin.weight)), (2, 8)) == LINEAR


def test_functional_transforms():
    # Each of 4 rows times 8 x 8; the derivative of a product by its input is another such.
    net = Once(lambda lin, x: torch.vmap(lambda one: F.linear(one, lin.weight))(x))
    assert macs_of(net, (4, 8)) == 4 * 64


def test_hooks_of_the_users_own():
    class Keeper:
        def __init__(self):
            self.calls = 0

        def __call__(self, module, args, result):
            self.calls += 1
            module.kept = result
            return result * 2

    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    net[0].register_forward_hook(Keeper())
    report = counted(net, (2, 8))
    assert report.total.macs == LINEAR
    # The hook's product is work of the model, too.
    assert report.total.flops == 2 * LINEAR + 16 + 16
    assert not hasattr(net[0], "kept")


def test_a_pre_hook_changes_the_input():
    net = nn.Sequential(nn.Linear(8, 8))
    net[0].register_forward_pre_hook(lambda module, args: (args[0][:1],))
    assert macs_of(net, (2, 8)) == 64


# --------------------------------------------------------------------------- wrapped models


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_scripted_child():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.jit.script(nn.Linear(8, 8))
            self.second = nn.Linear(8, 8)

        def forward(self, x):
            return self.second(self.first(x))

    report = counted(Net(), (2, 8))
    assert report.total.macs == 2 * LINEAR
    assert report.total.params == 2 * 72
    assert row(report, "first").macs == LINEAR


def test_a_compiled_model_counts_as_the_eager_one():
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    eager = counted(net, (2, 8))
    compiled = counted(torch.compile(net), (2, 8))
    assert compiled.layers == eager.layers
    assert any("compiled" in note for note in compiled.notes)


def test_a_model_that_was_compiled_in_place():
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    eager = counted(net, (2, 8))
    net[0].compile()
    net.compile()
    assert counted(net, (2, 8)).layers == eager.layers


def test_data_parallel():
    net = nn.Sequential(nn.Linear(8, 8))
    report = counted(nn.DataParallel(net), (2, 8))
    assert report.layers == counted(net, (2, 8)).layers
    assert any("DataParallel" in note for note in report.notes)


def test_a_traced_graph():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(8, 8)

        def forward(self, x):
            return torch.relu(self.lin(x)) @ self.lin.weight

    report = counted(torch.fx.symbolic_trace(Net()), (2, 8))
    assert report.total.macs == 2 * LINEAR
    assert row(report, "lin").macs == LINEAR


def test_a_quantised_model():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Linear(8, 8), nn.ReLU()), {nn.Linear}, dtype=torch.qint8
        )
    report = flopscope.count(net, (2, 8))
    listed = {name: calls for name, calls in report.uncosted.items() if name.startswith("quantized::")}
    # No silent zero: it is priced, or it is listed.
    assert (report.total.macs == LINEAR) != (sum(listed.values()) == 1)


def test_quantised_products_are_priced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 6)), {nn.Linear})
    report = flopscope.count(net, (2, 8))
    assert report.total.macs == 2 * 8 * 6
    assert report.uncosted == {}


@pytest.mark.parametrize("sparse", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr], ids=["coo", "csr"])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_sparse_products_are_listed(sparse):
    # How many products there are depends on how many values there are.
    net = Once(lambda lin, x: torch.sparse.mm(x, lin.weight))
    report = counted(net, sparse(torch.eye(8)), uncosted=True)
    assert report.uncosted == {"aten::_sparse_addmm": 1}


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_counted_or_refused(layout):
    rows = torch.nested.nested_tensor([torch.ones(2, 8), torch.ones(3, 8)], layout=layout)
    try:
        report = flopscope.count(Once(lambda lin, x: lin(x)), rows)
    except flopscope.FlopscopeError:
        return
    assert report.total.macs == 5 * 64
