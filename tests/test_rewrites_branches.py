"""Parallel linear branches become one convolution, and nothing else does."""

from __future__ import annotations

import copy
import pickle
from types import MethodType

import pytest
import torch
from counting import counted
from rewriting import Free, image, norms, params, rewritten, shaken, traced
from torch import nn

from flopscope import rewrites, zoo
from flopscope.errors import InputError
from flopscope.rewrites.checking import difference


def conv(size=3, cin=4, cout=4, **keywords):
    return nn.Conv2d(cin, cout, size, padding=size // 2, **keywords)


def block(run, **modules):
    return shaken(nn.Sequential(Free(run, **modules), nn.ReLU()))


def convolutions(model):
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def three(m, x):
    return m.a(x) + m.b(x) + m.c(x)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_two_3x3_and_a_1x1(stride, groups, bias):
    options = {"stride": stride, "groups": groups, "bias": bias}
    model = block(three, a=conv(**options), b=conv(1, **options), c=conv(**options))
    done = rewritten("merge-branches", model, image(2, 4, 9, 7))
    assert done.changed == ("0",)
    assert done.skipped == ()
    (merged,) = convolutions(done.model)
    assert merged.kernel_size == (3, 3)
    # Of weights, the 1x1's and one of the 3x3's go: 4·4/groups·(1 + 9); of biases 2·4, or 4 come.
    assert params(model) - params(done.model) == 160 // groups + (8 if bias else -4)


def test_the_kernels_worked_out_by_hand():
    """3x3 of ones with bias 1, 1x1 of 2 with bias 3: ones with 3 in the middle, bias 4."""
    model = block(lambda m, x: m.a(x) + m.b(x), a=conv(3, 1, 1), b=conv(1, 1, 1))
    for layer, weight, bias in ((model[0].a, 1.0, 1.0), (model[0].b, 2.0, 3.0)):
        nn.init.constant_(layer.weight, weight)
        nn.init.constant_(layer.bias, bias)
    (merged,) = convolutions(rewritten("merge-branches", model, image(1, 1, 4, 4)).model)
    assert merged.weight.flatten().tolist() == [1, 1, 1, 1, 3, 1, 1, 1, 1]
    assert merged.bias.tolist() == [4]


def added_in_place(m, x):
    y = m.a(x)
    y += m.b(x)
    return y


def dropped(m, x):
    y = m.drop(m.a(x) + m.b(x))
    y += m.c(x)
    return y


@pytest.mark.parametrize(
    "run",
    [
        three,
        added_in_place,
        dropped,
        lambda m, x: sum([m.a(x), m.b(x), m.c(x)]),
        lambda m, x: torch.add(m.a(x), m.b(x)).add(m.c(x)),
        lambda m, x: m.a(x).add_(m.b(x)),
        lambda m, x: m.a(x) + m.a(x),
        lambda m, x: m.a(m.drop(x)) + m.b(x),
        lambda m, x: nn.functional.relu(m.a(x) + m.b(x)) + x,
        lambda m, x: m.c(m.a(x) + m.b(x)),
        lambda m, x: m.a(x) + torch.sigmoid(x) + m.b(x),
        lambda m, x: m.a(x) + m.late(x) + m.b(x),
    ],
)
def test_every_spelling_of_a_sum(run):
    late = nn.Sequential(conv(), nn.ReLU(inplace=True))  # changes no memory but its own
    model = block(run, a=conv(), b=conv(1), c=conv(), drop=nn.Dropout(0.5), late=late)
    assert rewritten("merge-branches", model, image(1, 4, 6, 6)).changed == ("0",)


def test_two_bundles_in_one_sum_and_bundles_one_after_another():
    def run(m, x):
        z = torch.relu(x)
        y = m.a(x) + m.b(x) + m.c(z) + m.d(z)
        return m.e(y) + m.f(y)

    model = block(run, **{name: conv() for name in "abcdef"})
    done = rewritten("merge-branches", model, image(1, 4, 6, 6))
    assert [name for name, _ in done.model[0].named_children()] == ["merged", "merged_", "merged__"]


def test_branches_inside_branches():
    inner = Free(lambda m, x: m.a(x) + m.b(x), a=conv(), b=conv(1))
    model = block(lambda m, x: m.inner(x) + m.other(x), inner=inner, other=conv(5))
    done = rewritten("merge-branches", model, image(1, 4, 8, 8))
    assert done.changed == ("0", "0.inner")
    assert [layer.kernel_size for layer in convolutions(done.model)] == [(5, 5)]


def rep(cin=4, cout=4, **keywords):
    return nn.Sequential(conv(3, cin, cout, bias=False, **keywords), nn.BatchNorm2d(cout))


def test_norms_and_identities_are_for_reparametrise():
    def run(m, x):
        return m.a(x) + m.b(x) + m.n(x) + x

    model = block(run, a=rep(), b=conv(1), n=nn.BatchNorm2d(4))
    some = rewritten("merge-branches", model, image(1, 4, 6, 6))
    assert len(norms(some.model)) == 1
    whole = rewritten("reparametrise", model, image(1, 4, 6, 6))
    assert not norms(whole.model)
    assert params(whole.model) == 4 * 4 * 9 + 4
    assert [name for name, _ in whole.model[0].named_children()] == ["merged"]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_residual_convolution_is_one_convolution(groups):
    model = block(lambda m, x: x + m.a(x), a=rep(groups=groups))
    assert rewritten("reparametrise", model, image(1, 4, 6, 6)).changed == ("0",)
    with pytest.raises(InputError, match="has no sum of parallel convolutions of one input"):
        rewritten("merge-branches", model, image(1, 4, 6, 6))


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: x + m.n(m.b(torch.relu(m.a(x)))),
        lambda m, x: x + torch.relu(m.a(x)),
        lambda m, x: x + m.act(x),
        lambda m, x: m.act(x) + m.act(x),
        lambda m, x: x + m.b(m.a(x)),
        lambda m, x: x + m.a(m.n(x)),
        lambda m, x: m.a(x) * m.b(x),
        lambda m, x: m.a(x) - m.b(x),
        lambda m, x: torch.add(m.a(x), m.b(x), alpha=2),
        lambda m, x: m.a(x) + m.b(torch.relu(x)),
        lambda m, x: x + 0.5 * m.a(x),
        lambda m, x: m.n(x) + x,
        lambda m, x: (y := m.a(x)) + x + y.mean(),
    ],
)
def test_what_is_no_sum_of_linear_branches_stays(run):
    act = nn.Sequential(conv(), nn.ReLU())
    model = block(run, a=conv(), b=conv(), n=nn.BatchNorm2d(4), act=act)
    for name in ("merge-branches", "reparametrise"):
        with pytest.raises(InputError, match="has no"):
            rewritten(name, model, image(1, 4, 6, 6))


def first_in_place(m, x):
    y = m.a(x)
    nn.functional.relu_(x)
    return y + m.b(x)


def child_in_place(m, x):
    y = m.a(x)
    return m.early(x) * (y + m.b(x))


def own_constant(m, x):
    return m.a(x) + m.b(x) + torch.ones(1)


def on_data(m, x):
    return m.a(x) + m.b(x) if x.sum() > 1e9 else m.b(x) + m.a(x) + 0


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (first_in_place, "the input of the branches is changed in place"),
        (child_in_place, "the input of the branches is changed in place"),
        (lambda m, x: m.a(x) + m.halved(x), "branches of groups 2 and 1"),
        # The whole image to one pixel, which is then added everywhere: a broadcast, no sum of kernels.
        (
            lambda m, x: m.whole(x) + m.point(x),
            "a kernel of 1x1 at (0, 0) is not at the centre of one of 6x6",
        ),
        (lambda m, x: m.flat(x) + m.high(x), "does not fit into"),
        (own_constant, "its forward makes tensors of its own"),
        (on_data, "its forward depends on its data"),
    ],
)
def test_what_cannot_be_merged_is_told(run, reason):
    model = block(
        run,
        a=conv(),
        b=conv(),
        halved=conv(groups=2),
        early=nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1)),
        whole=nn.Conv2d(4, 4, 6),
        point=conv(1),
        flat=nn.Conv2d(4, 4, (1, 3), padding=(0, 1)),
        high=nn.Conv2d(4, 4, (3, 1), padding=(1, 0)),
    )
    x = image(1, 4, 6, 6)
    done = rewrites.find("merge-branches").apply(model, traced(model, x, meta=False), None)
    assert done.changed == ()
    (told,) = done.skipped
    assert told.startswith("0: ")
    assert reason in told
    assert difference(model, done.model, (x,), {}).absolute == 0


def with_option(m, x):
    return x if x.sum() > 1e9 else m.b(torch.relu(m.a(x)))


def test_modules_without_parallel_convolutions_are_not_mentioned():
    """No graph is known of this one either, but nothing in its run looks like a bundle."""
    model = block(with_option, a=conv(), b=conv())
    with pytest.raises(InputError, match="has no sum"):
        rewrites.find("merge-branches").apply(model, traced(model, image(1, 4, 6, 6), meta=False), None)


class Block(nn.Module):
    """A user's block: listed branches, one of them an identity, and more than a forward."""

    stride = 1

    def __init__(self):
        super().__init__()
        self.ways = nn.ModuleList([rep(), rep(), nn.Sequential(conv(1), nn.BatchNorm2d(4))])
        self.identity = nn.BatchNorm2d(4)
        self.act = nn.GELU()
        self.gain = nn.Parameter(torch.tensor(2.0))
        self.unused = nn.Linear(2, 2)
        self.width = 4

    def forward(self, x):
        y = self.identity(x)
        for way in self.ways:
            y = y + way(x)
        return self.act(self.gain * y)

    def extra(self):
        return self.width * self.stride


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())

    def forward(self, x):
        return self.blocks(x) * self.blocks[0].extra()


def test_a_block_stays_what_it_is_but_for_its_forward():
    model = shaken(Net())
    assert isinstance(model.blocks[0].ways, nn.ModuleList)
    done = rewritten("reparametrise", model, image(1, 4, 6, 6))
    assert done.changed == ("blocks.0", "blocks.1")
    for part in done.model.blocks:
        assert isinstance(part, Block)
        assert [name for name, _ in part.named_children()] == ["act", "unused", "merged"]
    assert type(model.blocks[0]) is Block
    with pytest.raises(InputError, match="has no branches to re-parameterise") as caught:
        rewritten("reparametrise", done.model, image(1, 4, 6, 6))
    assert "deploy form" in caught.value.hint


def test_a_rewired_module_survives_copies_and_pickles():
    model = shaken(Net())
    x = image(1, 4, 6, 6)
    done = rewritten("reparametrise", model, x)
    for again in (copy.deepcopy(done.model), pickle.loads(pickle.dumps(done.model))):
        assert isinstance(again.blocks[0], Block)
        assert difference(done.model, again, (x,), {}).absolute == 0


def test_a_graph_module_takes_the_graph():
    inner = torch.fx.symbolic_trace(Free(lambda m, x: m.a(x) + m.b(x), a=conv(), b=conv(1)))
    model, x = shaken(nn.Sequential(inner)), image(1, 4, 6, 6)
    done = rewritten("merge-branches", model, x)
    assert len(convolutions(done.model)) == 1
    assert difference(done.model, copy.deepcopy(done.model), (x,), {}).absolute == 0


def test_a_forward_that_was_put_on_the_instance_stays():
    model = block(lambda m, x: x, a=conv(), b=conv(1))
    model[0].forward = MethodType(lambda m, x: m.a(x) + m.b(x), model[0])
    done = rewrites.find("merge-branches").apply(model, traced(model, image(1, 4, 6, 6), meta=False), None)
    assert done.skipped == ("0: its forward is not that of its class",)


def test_a_block_in_two_places_stays_one():
    part = Block()
    net = shaken(Free(lambda m, x: m.b(m.a(x)), a=part, b=nn.Sequential(part)))
    done = rewritten("reparametrise", net, image(1, 4, 6, 6))
    assert done.changed == ("a",)
    assert done.model.a is done.model.b[0]


def test_refusals():
    model = block(three, a=conv(), b=conv(), c=conv())
    trace = traced(model, image(1, 4, 6, 6))
    for name in ("merge-branches", "reparametrise"):
        entry = rewrites.find(name)
        assert entry.exact
        with pytest.raises(InputError, match="in training mode"):
            entry.apply(copy.deepcopy(model).train(), trace, None)
        with pytest.raises(InputError, match="takes no options"):
            entry.apply(model, trace, "3x3")


def test_blocks_of_the_zoo_tell_their_branches():
    model = shaken(zoo.build("repvgg_a0"))
    done = rewritten("reparametrise", model, image(1, 3, 64, 64))
    assert len(done.changed) == 22
    assert params(done.model) == params(zoo.build("repvgg_a0", deploy=True))


@pytest.mark.parametrize(
    ("name", "blocks", "macs"), [("repvgg_a0", 22, 1_361_451_008), ("mobileone_s0", 43, None)]
)
def test_blocks_of_timm_are_found_in_the_data_flow(name, blocks, macs):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    model = shaken(timm.create_model(name))
    done = rewritten("reparametrise", model, image(1, 3, 64, 64))
    assert len(done.changed) == blocks
    assert not norms(done.model)
    assert params(done.model) == params(timm.utils.reparameterize_model(model))
    if macs is not None:
        assert counted(done.model.float(), (1, 3, 224, 224)).total.macs == macs


def test_a_plain_residual_network_has_nothing_to_merge():
    model = shaken(zoo.build("resnet18"))
    with pytest.raises(InputError, match="has no branches"):
        rewritten("reparametrise", model, image(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (lambda x: (x, x[:1]), r"at \[1\]: of shape \(2, 3\) and \(1, 3\)"),
        (lambda x: (x,), "in the number of their parts: 2 and 1"),
        (lambda x: {"y": x, "z": x}, r"at \[0\]"),
        (lambda x: (x, None), r"at \[1\]"),
    ],
)
def test_outputs_of_other_structure_are_not_compared(after, message):
    before = Free(lambda _, x: (x, x))
    with pytest.raises(InputError, match=message):
        difference(before, Free(lambda _, x: after(x)), (torch.ones(2, 3),), {})


def test_differences_are_measured_leaf_by_leaf():
    before = Free(lambda _, x: {"a": x, "b": (10 * x, "text", None)})
    after = Free(lambda _, x: {"a": x + 0.5, "b": (10 * x + 1, "text", None)})
    x = torch.tensor([2.0, -4.0])
    found = difference(before, after, (x,), {})
    assert (found.absolute, found.relative, found.precise_relative) == (1.0, 0.125, 0.125)
    assert difference(before, before, (x,), {}).relative == 0


def test_arguments_are_left_alone():
    x = torch.ones(2)
    doubling = Free(lambda _, x: x.mul_(2))
    assert difference(doubling, doubling, (x,), {}).absolute == 0
    assert x.tolist() == [1, 1]


def test_no_float64_where_the_model_has_a_type_of_its_own():
    fixed = Free(lambda _, x: x.float() @ torch.ones(2, 2))
    assert difference(fixed, fixed, (torch.ones(1, 2),), {}).precise_relative == 0.0
    wide = Free(lambda _, x: x @ torch.ones(2, 2))
    assert difference(wide, wide, (torch.ones(1, 2),), {}).precise_relative is None
