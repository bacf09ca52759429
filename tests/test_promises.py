"""Promise 1: what was borrowed is given back: after success, after an error, after Ctrl-C.

The model below does in `forward` what a tool must survive: it counts, caches, appends, replaces,
deletes and draws random numbers, and may fail once all that is done.
"""

from __future__ import annotations

import collections
import copy
import pickle
import subprocess
import sys

import belongings
import pytest
import torch
from torch import nn

import flopscope


class Memory:
    """An object of the user's own, which forward changes."""

    def __init__(self):
        self.calls = 0
        self.seen = []
        self.nested = {"deep": [[1], {"deeper": (2, [3])}]}


class Touchy(nn.Module):
    """Changes everything that it can while it runs."""

    # What the next forward raises, and after how many calls; outside of any instance on purpose.
    failure = None
    calls_until_failure = 0

    def __init__(self, *, reads_values=False):
        super().__init__()
        self.reads_values = reads_values
        self.conv = nn.Conv2d(3, 4, 3)
        self.moving = nn.BatchNorm2d(4)
        self.frozen = nn.BatchNorm2d(4).eval()
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)
        self.head.bias.requires_grad_(False)
        self.head.weight.grad = torch.ones(2, 4)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(4))
        self.plain_tensor = torch.arange(3.0)
        self.count = 0
        self.doomed = "still here"
        self.log = ["start"]
        self.cache = {"a": [1, {"b": {2}}]}
        self.queue = collections.deque([1, 2], maxlen=2)
        self.names = {"x"}
        self.pair = ([1], {"k": 1})
        self.memory = Memory()
        self.conv.register_forward_hook(_keep)
        self.head.register_forward_pre_hook(_mark)

    def forward(self, x):
        if self.reads_values:
            x.sum().item()
        x = self.frozen(self.moving(self.conv(x))).mean((2, 3))
        self.steps += 1
        self.mean = x.mean(0)
        self.plain_tensor = self.plain_tensor * 2
        self.count += 1
        if "doomed" in self.__dict__:
            del self.doomed
        self.born = x
        self.log.append(x)
        self.cache["a"][1]["b"].add(3)
        self.cache["new"] = x
        self.queue.append(3)
        self.names.clear()
        self.pair[0].append(x)
        self.pair[1]["k"] = x
        self.memory.calls += 1
        self.memory.seen.append(x)
        self.memory.nested["deep"][1]["deeper"][1].append(x)
        self.memory.born = x
        self.train(not self.training)
        x = self.head(self.drop(x) + torch.rand_like(x))
        self._maybe_fail()
        return x

    def _maybe_fail(self):
        cls = type(self)
        if cls.failure is not None:
            cls.calls_until_failure -= 1
            if cls.calls_until_failure < 0:
                raise cls.failure


def _keep(module, args, result):
    module.kept = result


def _mark(module, args):
    module.marked = getattr(module, "marked", 0) + 1


@pytest.fixture(autouse=True)
def _no_failure_left():
    yield
    Touchy.failure = None


SHAPE = (2, 3, 8, 8)


def count_without_data(model):
    assert flopscope.count(model, SHAPE).route == "meta"


def count_on_a_real_run(model):
    assert flopscope.count(model, SHAPE).route == "real"


def profile(model):
    assert flopscope.profile(model, SHAPE, max_seconds=0.05, threads=1).whole is not None


def profile_in_another_form(model):
    flopscope.profile(model, SHAPE, max_seconds=0.05, dtype=torch.bfloat16, channels_last=True)


WAYS = [
    pytest.param(count_without_data, False, id="count"),
    pytest.param(count_on_a_real_run, True, id="count on a real run"),
    pytest.param(profile, False, id="profile"),
    pytest.param(profile, True, id="profile on a real run"),
    pytest.param(profile_in_another_form, False, id="profile a converted copy"),
]
# A count calls the model once or twice; a measurement goes on, and may fail on its way.
FAILURES = [
    *(pytest.param(*way.values, 0, id=f"{way.id}, at once") for way in WAYS),
    *(pytest.param(*way.values, 3, id=f"{way.id}, while measured") for way in WAYS[2:]),
]


def _same(model, before, process):
    assert belongings.changes(process, belongings.of_process()) == []
    assert belongings.changes(before, belongings.of_model(model)) == []
    # It still pickles and copies, and what comes out runs.
    pickle.loads(pickle.dumps(model))
    again = copy.deepcopy(model)
    assert again(torch.zeros(SHAPE)).shape == (2, 2)


def _first_use():
    """Whatever is imported or set up on first use happens before anything is compared."""
    model = Touchy()
    count_without_data(model)
    profile(model)


@pytest.mark.parametrize(("way", "reads_values"), WAYS)
def test_after_success(way, reads_values):
    _first_use()
    model = Touchy(reads_values=reads_values).train()
    model.frozen.eval()
    process, before = belongings.of_process(), belongings.of_model(model)
    way(model)
    _same(model, before, process)


@pytest.mark.parametrize(("way", "reads_values", "calls_until_failure"), FAILURES)
def test_after_an_exception(way, reads_values, calls_until_failure):
    _first_use()
    model = Touchy(reads_values=reads_values).train()
    model.frozen.eval()
    process, before = belongings.of_process(), belongings.of_model(model)
    Touchy.failure, Touchy.calls_until_failure = ValueError("the model's own"), calls_until_failure
    with pytest.raises(flopscope.ForwardError) as caught:
        way(model)
    Touchy.failure = None
    assert "the model's own" in str(caught.value)
    _same(model, before, process)


@pytest.mark.parametrize(("way", "reads_values", "calls_until_failure"), FAILURES)
def test_after_an_interrupt(way, reads_values, calls_until_failure):
    _first_use()
    model = Touchy(reads_values=reads_values).train()
    model.frozen.eval()
    process, before = belongings.of_process(), belongings.of_model(model)
    Touchy.failure, Touchy.calls_until_failure = KeyboardInterrupt(), calls_until_failure
    with pytest.raises(KeyboardInterrupt):
        way(model)
    Touchy.failure = None
    _same(model, before, process)


def test_a_model_without_data():
    _first_use()
    with torch.device("meta"):
        model = Touchy().train()
    process, before = belongings.of_process(), belongings.of_model(model)
    count_without_data(model)
    assert flopscope.profile(model, SHAPE).whole is None
    assert belongings.changes(process, belongings.of_process()) == []
    assert belongings.changes(before, belongings.of_model(model)) == []


def test_training_flags_are_given_back_one_by_one():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3), nn.Dropout()))
    for chosen in range(16):
        flags = [bool(chosen >> place & 1) for place in range(4)] + [True]
        for module, flag in zip(model.modules(), flags, strict=True):
            module.training = flag
        flopscope.count(model, (1, 3, 4, 4))
        assert [module.training for module in model.modules()] == flags


def test_an_overridden_train_is_not_called():
    # Adapters merge their weights in train() and eval().
    class Adapter(nn.Linear):
        def train(self, mode=True):
            raise AssertionError("train() was called")

    model = nn.Sequential(Adapter(4, 4))
    model.training = True
    flopscope.count(model, (2, 4))
    assert model.training
    assert model[0].training


def test_gradients_of_inputs_and_the_inputs_themselves():
    x = torch.randn(2, 4, requires_grad=True)
    x.grad = torch.ones(2, 4)
    kept = x.detach().clone()
    version = x._version
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    flopscope.count(model, x)
    flopscope.profile(model, x, max_seconds=0.05)
    assert torch.equal(x, kept)
    assert torch.equal(x.grad, torch.ones(2, 4))
    assert (x.requires_grad, x._version, x.grad_fn) == (True, version, None)


@pytest.mark.parametrize("run", [flopscope.count, flopscope.profile], ids=["count", "profile"])
def test_inputs_changed_in_place(run):
    class Greedy(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(4, 4)

        def forward(self, x, cache):
            x.zero_()
            cache["more"] = x
            cache["list"].append(x)
            return self.lin(x)

    x, cache = torch.ones(2, 4), {"list": []}
    version = x._version
    run(Greedy(), flopscope.Inputs(x, cache))
    assert torch.equal(x, torch.ones(2, 4))
    assert x._version == version
    assert cache == {"list": []}


def test_the_model_still_trains():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    twin = copy.deepcopy(model)
    flopscope.count(model, SHAPE)
    flopscope.profile(model, SHAPE, max_seconds=0.05)
    x = torch.randn(SHAPE)
    for net in (model, twin):
        net(x).sum().backward()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_a_model_of_inference_tensors():
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    before = belongings.of_model(model)
    flopscope.count(model, (2, 4))
    flopscope.profile(model, (2, 4), max_seconds=0.05)
    assert belongings.changes(before, belongings.of_model(model)) == []


def test_shared_attributes_stay_shared():
    shared = {"a": 1}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = shared
            self.two = [shared]

        def forward(self, x):
            self.one["a"] += 1
            self.two[0]["b"] = x
            return x + 1

    model = Net()
    flopscope.count(model, (2, 4))
    assert model.one is model.two[0] is shared
    assert shared == {"a": 1}


def test_a_module_list_that_forward_extends():
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4)])

        def forward(self, x):
            self.layers.append(nn.Linear(4, 4))
            self.extra = nn.Linear(4, 4)
            self.register_buffer("late", torch.zeros(1))
            return self.extra(self.layers[-1](self.layers[0](x)))

    model = Growing()
    names = [name for name, _ in model.named_modules()]
    report = flopscope.count(model, (2, 4))
    assert report.total.macs == 3 * 2 * 4 * 4
    assert [name for name, _ in model.named_modules()] == names == ["", "layers", "layers.0"]
    assert list(model.state_dict()) == ["layers.0.weight", "layers.0.bias"]


def test_a_graph_of_objects_with_cycles():
    class Link:
        def __init__(self):
            self.next = self
            self.value = 0

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.link = Link()
            self.links = {"me": self.link}
            self.links["self"] = self.links

        def forward(self, x):
            self.link.value += 1
            self.links["new"] = x
            return x * 2

    model = Net()
    flopscope.count(model, (2, 4))
    assert model.link.value == 0
    assert list(model.links) == ["me", "self"]


def test_slots_are_given_back():
    class Slotted:
        __slots__ = ("value",)

        def __init__(self):
            self.value = 0

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.slotted = Slotted()

        def forward(self, x):
            self.slotted.value += 1
            return x * 2

    model = Net()
    flopscope.count(model, (2, 4))
    assert model.slotted.value == 0


HOLDS_AN_OPERATOR = """
import torch, flopscope
library = torch.library.Library("flopscope_tests_of_attributes", "FRAGMENT")
library.define("twice(Tensor x) -> Tensor")
library.impl("twice", lambda x: x * 2, "CPU")
library.impl("twice", torch.empty_like, "Meta")

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.operator = torch.ops.flopscope_tests_of_attributes.twice

    def forward(self, x):
        return self.operator(x)

model = Net()
for _ in range(3):
    flopscope.count(model, (2, 4))
assert model(torch.ones(2)).tolist() == [2.0, 2.0]
"""


def test_an_operator_as_attribute():
    # What torch itself keeps in its objects is not the model's to give back: the process dies.
    run = subprocess.run(
        [sys.executable, "-c", HOLDS_AN_OPERATOR], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
