"""How a training step is recorded: whose each backward op is, on every route, and nobody else is touched."""

from __future__ import annotations

import copy

import belongings
import pytest
import torch
import torch.nn.functional as F
from steps import macs_by_phase, on_both_routes, recorded, summary, total_of, uncosted
from torch import nn
from torch.utils.checkpoint import checkpoint

import flopscope
from flopscope import tracing
from flopscope.errors import InputError


def by_path(trace, phase="backward"):
    """The names of the ops of a phase, view ops left out, by the path of their call."""
    found = {}
    for op in trace.ops:
        if op.phase == phase and not op.view:
            place = op.outside or trace.calls[op.call].path
            found.setdefault(place, []).append(op.op.removeprefix("aten::"))
    return found


def test_backward_ops_belong_to_the_call_that_they_differentiate():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    trace = recorded(net, torch.zeros(2, 3, 8, 8))
    assert by_path(trace) == {
        "(loss)": ["ones_like", "div"],
        "4": ["mm", "mm", "sum"],
        "2": ["threshold_backward"],
        "1": ["native_batch_norm_backward"],
        "0": ["convolution_backward"],
    }
    assert by_path(trace, "loss") == {"(loss)": ["mean"]}


def test_each_backward_op_knows_its_forward_op():
    trace = recorded(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(5, 3))
    pairs = [
        (op.op, trace.ops[op.source].op, trace.ops[op.source].call == op.call)
        for op in trace.ops
        if op.phase == "backward" and not op.view and op.source is not None
    ]
    assert pairs == [
        ("aten::div", "aten::mean", True),
        *[("aten::mm", "aten::addmm", True)] * 2,
        ("aten::sum", "aten::addmm", True),
        ("aten::threshold_backward", "aten::relu", True),
        ("aten::mm", "aten::addmm", True),
        ("aten::sum", "aten::addmm", True),
    ]


def test_a_module_called_twice_has_the_gradients_of_both_calls():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(4, 4, bias=False)

        def forward(self, x):
            return self.one(torch.relu(self.one(x)))

    trace = recorded(Twice(), torch.zeros(2, 4))
    products = [op.call for op in trace.ops if op.op == "aten::mm"]
    # Forward once each; backward of the second call both gradients, of the first the weight's alone.
    assert products == [1, 2, 2, 2, 1]
    # The sum of both gradients of the weight belongs to it too.
    assert by_path(trace)["one"].count("add") == 1


def test_the_calls_are_those_of_the_forward():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    trace = recorded(net, torch.zeros(5, 3), optimizer=torch.optim.SGD)
    assert [(call.path, call.parent) for call in trace.calls] == [("", None), ("0", 0), ("1", 0), ("2", 0)]
    ends = [trace.ops[call.first_op : call.end_op] for call in trace.calls]
    assert {op.phase for ops in ends for op in ops} == {"forward"}
    # Stages follow each other.
    phases = list(dict.fromkeys(op.phase for op in trace.ops))
    assert phases == ["forward", "loss", "backward", "optimizer"]


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.reentrant = reentrant
        self.stem = nn.Linear(4, 4)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)) for _ in range(2)
        )

    def forward(self, x):
        x = self.stem(x)
        for block in self.body:
            x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
        return x


@pytest.mark.parametrize(
    ("reentrant", "again"),
    # 8 rows of 16 products. The other kind stops once all that is needed is there: before the last layer.
    [(None, 0), (True, 4 * 128), (False, 2 * 128)],
    ids=["plain", "reentrant", "not reentrant"],
)
def test_what_is_recomputed_is_counted_where_it_ran_first(reentrant, again):
    meta, real = on_both_routes(Checkpointed(reentrant), torch.zeros(8, 4))
    assert summary(meta) == summary(real)
    # Forward: five layers. Backward: both gradients, but for the input of the first.
    assert macs_by_phase(meta) == {"forward": 5 * 128, "backward": 9 * 128 + again}
    assert len(meta.calls) == 1 + 1 + 2 * 4
    places = by_path(meta)
    products = {path: ops.count("mm") + ops.count("addmm") for path, ops in places.items()}
    once = {None: 2, True: 3, False: 3}[reentrant]
    last = {None: 2, True: 3, False: 2}[reentrant]
    for block in "01":
        assert (products[f"body.{block}.0"], products[f"body.{block}.2"]) == (once, last)


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient @ weight.t(), x.t() @ gradient


def test_a_function_with_its_own_backward_and_a_hook_on_a_tensor():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.weight = nn.Parameter(torch.zeros(4, 3))
            self.last = nn.Linear(3, 2)

        def forward(self, x):
            y = self.first(x)
            y.register_hook(lambda gradient: gradient * 2)
            return self.last(Product.apply(y, self.weight))

    meta, real = on_both_routes(Net(), torch.zeros(8, 4))
    assert summary(meta) == summary(real)
    assert by_path(meta)[""] == ["mm", "mm"]  # the function is the root's own
    assert by_path(meta)["first"] == ["mul", "mm", "sum"]  # the hook runs where the tensor was made
    forward = 8 * (16 + 12 + 6)
    assert macs_by_phase(meta) == {"forward": forward, "backward": 2 * forward - 8 * 16}


class SmallResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1)
        )
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(self.body(x) + x, inplace=True)
        return self.head(self.drop(F.adaptive_avg_pool2d(x, 1).flatten(1)))


class First(nn.Module):
    """A recurrent net, and of its results the first."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)[0]


NETS = {
    "resnet": (SmallResNet(), (2, 3, 16, 16)),
    "encoder": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0), (2, 3, 8)),
    "encoder with dropout": (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, activation="gelu"), (2, 3, 8)),
    "lstm": (First(nn.LSTM(4, 5, 2, bidirectional=True, dropout=0.1, batch_first=True)), (2, 3, 4)),
    "lstm without bias": (First(nn.LSTM(4, 5, bias=False)), (3, 2, 4)),
    "lstm with projection": (First(nn.LSTM(4, 5, 2, proj_size=3, bidirectional=True)), (3, 2, 4)),
    "gru": (First(nn.GRU(4, 5, 2, bidirectional=True, dropout=0.1)), (3, 2, 4)),
    "rnn": (First(nn.RNN(4, 5, nonlinearity="relu", batch_first=True)), (2, 3, 4)),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", NETS)
def test_the_route_does_not_matter(name):
    net, shape = NETS[name]
    meta, real = on_both_routes(net, torch.randn(shape), optimizer=torch.optim.AdamW)
    assert (meta.route, real.route) == ("meta", "real")
    assert uncosted(meta) == uncosted(real) == []
    for column in ("macs", "flops", "bytes_read", "bytes_written", "params"):
        assert getattr(total_of(meta), column) == getattr(total_of(real), column), column
    if "lstm" not in name:  # oneDNN's workspace has a size only when it runs
        assert summary(meta) == summary(real)


def test_mobilenet_on_both_routes():
    net = flopscope.load_model("zoo:mobilenetv3_small")
    meta, real = on_both_routes(net, torch.randn(1, 3, 64, 64))
    assert summary(meta) == summary(real)
    phases = macs_by_phase(meta)
    stem = 32 * 32 * 16 * 27
    assert phases["backward"] == 2 * phases["forward"] - stem


@pytest.mark.parametrize("mask", ["none", "bool", "float", "learned"])
def test_attention_takes_the_cpus_choice_without_data(mask):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.project = nn.Linear(4, 4)
            self.bias = nn.Parameter(torch.zeros(3, 3))

        def forward(self, x):
            given = {
                "none": None,
                "bool": torch.ones(3, 3, dtype=torch.bool, device=x.device).tril(),
                "float": torch.zeros(3, 3, device=x.device),
                "learned": self.bias,
            }[mask]
            q = self.project(x)
            return F.scaled_dot_product_attention(q, q, q, attn_mask=given)

    meta, real = on_both_routes(Attention(), torch.randn(1, 2, 3, 4))
    fused = any("flash" in op.op for op in real.ops)
    assert fused is (mask != "learned")
    assert macs_by_phase(meta) == macs_by_phase(real)
    assert any("flash" in op.op for op in meta.ops) is fused


# ---------------------------------------------------------------------- promises


def test_three_counts_are_equal():
    net, x = SmallResNet(), torch.randn(2, 3, 16, 16)
    private = copy.deepcopy(net)
    first, second, third = (
        recorded(net, x, meta=False, private=private, optimizer=torch.optim.Adam) for _ in range(3)
    )
    assert summary(first) == summary(second) == summary(third)
    assert first.storages == second.storages == third.storages


class Fails(nn.Module):
    def __init__(self, stage):
        super().__init__()
        self.stage, self.inside = stage, nn.Sequential(nn.Linear(3, 3), nn.ReLU())

    def forward(self, x):
        if self.stage == "forward":
            raise ValueError("no")
        y = self.inside(x)
        if self.stage == "backward":
            y.register_hook(_refuse)
        return y


def _refuse(_gradient):
    raise ValueError("no")


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("stage", ["forward", "loss", "backward", "optimizer", "none"])
def test_nothing_of_the_users_is_changed(stage, meta):
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), Fails(stage)).eval()
    net[0].weight.grad = torch.ones(3, 3)
    user = torch.optim.Adam(net.parameters())
    user.step()
    torch.optim.lr_scheduler.StepLR(user, 1)
    state = copy.deepcopy(user.state_dict())

    def broken(output):
        if stage == "loss":
            raise ValueError("no")
        return output.mean()

    given = user
    if stage == "optimizer":

        class Broken(torch.optim.SGD):
            def step(self, closure=None):
                raise ValueError("no")

        given = Broken
    x = torch.randn(4, 3)
    before = belongings.of_model(net), belongings.of_process()
    if stage == "none":
        recorded(net, x, meta=meta, loss=broken, optimizer=given)
    else:
        with pytest.raises(tracing.TraceError) as caught:
            recorded(net, x, meta=meta, loss=broken, optimizer=given)
        assert caught.value.stage == stage
        assert caught.value.path == ("3" if stage == "forward" else "")
        assert str(caught.value.__cause__) == "no"
    assert (belongings.of_model(net), belongings.of_process()) == before
    assert torch.equal(net[0].weight.grad, torch.ones(3, 3))
    after = user.state_dict()
    assert after["param_groups"] == state["param_groups"]
    for index, kept in state["state"].items():
        assert all(torch.equal(after["state"][index][name], value) for name, value in kept.items())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_mode_does_not_matter(mode):
    net, x = SmallResNet(), torch.randn(2, 3, 16, 16)
    private, given = copy.deepcopy(net), x.clone()
    expected = summary(recorded(net, x, meta=False))
    with mode():
        trace = tracing.trace_step(private, (given,), {}, keep=flopscope.costs.has_formula, meta=False)
    assert summary(trace) == expected


def test_the_steady_step_is_recorded():
    """The first step of Adam makes its state; the one that counts finds it there."""
    trace = recorded(nn.Linear(3, 5, bias=False), torch.zeros(2, 3), optimizer=torch.optim.Adam)
    assert "aten::zeros_like" not in {op.op for op in trace.ops if op.phase == "optimizer"}
    assert {storage.born for storage in trace.storages if storage.role == "optimizer"} == {-1}


# ---------------------------------------------------------------------- loss and optimizer


def test_the_default_loss():
    assert tracing.mean_loss(torch.tensor([1.0, 3.0])).item() == 2
    assert tracing.mean_loss({"a": torch.tensor([1.0, 3.0]), "b": [torch.tensor([5.0])]}).item() == 7
    assert tracing.mean_loss((torch.tensor([4.0]), torch.tensor([1]))).item() == 4
    with pytest.raises(TypeError, match="loss function"):
        tracing.mean_loss(torch.tensor([1]))


def test_an_optimizer_is_copied_with_its_settings_and_its_state():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    user = torch.optim.Adam([{"params": net[0].parameters(), "lr": 0.5}, {"params": net[1].weight}], lr=0.25)
    net(torch.ones(1, 2)).sum().backward()
    user.step()
    twin = copy.deepcopy(net)
    made = tracing.optimizer_for(twin, net, user)
    assert type(made) is torch.optim.Adam
    assert [group["lr"] for group in made.param_groups] == [0.5, 0.25]
    held = [id(parameter) for group in made.param_groups for parameter in group["params"]]
    assert held == [id(twin[0].weight), id(twin[0].bias), id(twin[1].weight)]
    kept, own = made.state[twin[0].weight], user.state[net[0].weight]
    assert torch.equal(kept["exp_avg"], own["exp_avg"])
    assert kept["exp_avg"] is not own["exp_avg"]


def test_an_optimizer_for_a_copy_without_data_has_no_data():
    net = nn.Linear(2, 3)
    user = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    user.step()
    twin = flopscope.subjects.copy_without_data(net)
    made = tracing.optimizer_for(twin, net, user)
    assert made.state[twin.weight]["exp_avg"].is_meta
    assert made.state[twin.weight]["step"].item() == 1


def test_an_optimizer_that_a_scheduler_has_wrapped_steps_the_copy():
    net = nn.Linear(2, 2)
    user = torch.optim.SGD(net.parameters(), lr=1.0)
    torch.optim.lr_scheduler.StepLR(user, 1)
    twin = copy.deepcopy(net)
    made = tracing.optimizer_for(twin, net, user)
    twin(torch.ones(1, 2)).sum().backward()
    net.weight.grad = torch.ones(2, 2)
    before = net.weight.detach().clone()
    made.step()
    assert torch.equal(net.weight, before)
    assert not torch.equal(twin.weight, before)


def test_parameters_of_other_models_are_passed_over():
    net, other = nn.Linear(2, 2), nn.Linear(4, 4)
    user = torch.optim.SGD([*net.parameters(), *other.parameters()], lr=0.1)
    trace = recorded(net, torch.zeros(1, 2), optimizer=user)
    assert sum(op.phase == "optimizer" for op in trace.ops) == 2  # weight and bias


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "an optimizer cannot be a int"),
        (lambda parameters: 3, "an optimizer was expected, and a int was made"),
        (lambda parameters: torch.optim.SGD(parameters, lr=-1.0), "could not be made: Invalid learning rate"),
        (torch.optim.SGD([torch.zeros(1, requires_grad=True)]), "holds no parameter of this model"),
    ],
)
def test_what_is_no_optimizer(given, said):
    net = nn.Linear(2, 2)
    with pytest.raises(InputError, match=said) as caught:
        tracing.optimizer_for(copy.deepcopy(net), net, given)
    assert "torch.optim.SGD" in caught.value.hint


def test_a_step_is_what_a_loop_does():
    """`run_step` against the loop written out: the same weights after it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    twin, x = copy.deepcopy(net), torch.randn(5, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.train()
    optimizer.zero_grad()
    net(x).mean().backward()
    optimizer.step()
    told = []
    tracing.run_step(twin, (x,), {}, optimizer=torch.optim.SGD(twin.parameters(), lr=0.1), at=told.append)
    assert told == ["forward", "loss", "backward", "optimizer", "end"]
    for one, other in zip(net.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(one, other)
