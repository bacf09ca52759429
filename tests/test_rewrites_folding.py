"""Batch norms are folded where the run proves it, and only there."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from rewriting import Free, image, norms, params, rewritten, shaken, traced
from torch import nn
from torch.nn.utils import parametrize

from flopscope import rewrites, zoo
from flopscope.errors import InputError
from flopscope.rewrites.checking import difference

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def fold(model, *args):
    return rewritten("fold-bn", model, *args)


def conv(cin=4, cout=8, **keywords):
    return nn.Conv2d(cin, cout, 3, padding=1, **keywords)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("kinds", [CONVOLUTIONS, TRANSPOSED], ids=["plain", "transposed"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_convolution(dims, kinds, stride, dilation, groups, bias):
    layer = kinds[dims](4, 8, 3, stride=stride, groups=groups, bias=bias, dilation=dilation)
    model = shaken(nn.Sequential(layer, NORMS[dims](8), nn.ReLU()))
    done = fold(model, image(2, 4, *[9] * dims))
    assert done.changed == ("0",)
    assert [type(module) for module in done.model] == [type(layer), nn.Identity, nn.ReLU]
    # γ and β go, 16 numbers; the bias comes, 8, where there was none.
    assert params(model) - params(done.model) == (16 if bias else 8)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_depthwise_and_any_padding(mode):
    layer = nn.Conv2d(6, 12, 3, padding=1, groups=6, padding_mode=mode)
    fold(shaken(nn.Sequential(layer, nn.BatchNorm2d(12))), image(1, 6, 7, 7))


@pytest.mark.parametrize("affine", [False, True])
def test_linear_and_norm_over_its_features(affine):
    model = shaken(nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7, affine=affine)))
    assert fold(model, image(3, 5)).changed == ("0",)


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: m.norm(m.layer(x).flatten(0, 1)),
        lambda m, x: m.norm(m.layer(x).transpose(1, 2)),
    ],
)
def test_linear_seen_through_views(run):
    model = shaken(Free(run, layer=nn.Linear(5, 6), norm=nn.BatchNorm1d(6)))
    assert fold(model, image(2, 6, 5)).changed == ("layer",)


def test_linear_whose_tokens_are_normalised_stays():
    """(N, L, C) with L = C: the norm runs over L, though the counts agree."""
    model = shaken(nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6)))
    done = fold(model, image(2, 6, 5))
    assert done.changed == ()
    assert done.skipped == ("0: the batch norm's channels are not those that the linear layer puts out",)


def test_the_numbers_worked_out_by_hand():
    """w 2, b 1; μ 1, σ² + ε 4, γ 6, β 5: (2x + 1 − 1)·6/2 + 5 = 6x + 5."""
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)).eval()
    for tensor, value in (
        *((model[0].weight, 2.0), (model[0].bias, 1.0), (model[1].weight, 6.0), (model[1].bias, 5.0)),
        *((model[1].running_mean, 1.0), (model[1].running_var, 4.0 - model[1].eps)),
    ):
        nn.init.constant_(tensor, value)
    folded = rewrites.find("fold-bn").apply(model, traced(model, torch.ones(2, 1)), None).model[0]
    torch.testing.assert_close((folded.weight.item(), folded.bias.item()), (6.0, 5.0))


def test_half_precision_rounds_once():
    model = shaken(nn.Sequential(conv(), nn.BatchNorm2d(8))).bfloat16()
    done, precise = (
        rewrites.find("fold-bn")
        .apply(each, traced(each, image(1, 4, 5, 5).to(each[0].weight)), None)
        .model[0]
        for each in (model, copy.deepcopy(model).double())
    )
    assert done.weight.dtype == torch.bfloat16
    assert torch.equal(done.weight, precise.weight.bfloat16())
    assert torch.equal(done.bias, precise.bias.bfloat16())


def test_what_is_called_counts_not_how_it_is_registered():
    def run(m, x):
        return m.late(m.second(m.early(m.first(x)).relu_())) + m.last(x)

    model = shaken(
        Free(
            run,
            late=nn.BatchNorm2d(8),
            first=conv(),
            last=conv(),
            second=conv(8, 8),
            early=nn.BatchNorm2d(8),
        )
    )
    done = fold(model, image(1, 4, 6, 6))
    assert done.changed == ("first", "second")
    assert done.skipped == ()
    assert not norms(done.model)


def test_a_pair_that_runs_twice_is_folded_once():
    model = shaken(Free(lambda m, x: m.n(m.c(m.n(m.c(x)))), c=conv(4, 4), n=nn.BatchNorm2d(4)))
    assert fold(model, image(1, 4, 6, 6)).changed == ("c",)


def test_a_norm_registered_twice_is_replaced_in_both_places():
    model = nn.Sequential(conv(), nn.BatchNorm2d(8))
    model.add_module("alias", nn.Sequential())
    model.alias.forward = lambda x: x
    model.alias.add_module("norm", model[1])
    done = fold(shaken(model), image(1, 4, 6, 6))
    assert done.model[1] is done.model.alias.norm
    assert not norms(done.model)


ELSEWHERE = "c: the convolution's output is also read elsewhere"


@pytest.mark.parametrize(
    ("run", "reasons"),
    [
        (lambda m, x: (y := m.c(x)) + m.n(y), {ELSEWHERE}),
        (lambda m, x: (m.n(y := m.c(x)), y), {ELSEWHERE}),
        (lambda m, x: (m.n(y := m.c(x)), y.flatten(1)), {ELSEWHERE}),
        (lambda m, x: m.n(m.c(x).relu_()), {ELSEWHERE}),
        (lambda m, x: m.n(m.c(x)) + m.c(x), {"c: c is also called without the other of the two"}),
        (lambda m, x: m.n(m.c(x)) + m.n(x), {"c: n is also called without the other of the two"}),
        (
            lambda m, x: m.n(m.c(x)) + m.o(m.c(x)),
            {
                "c: c is also called without the other of the two",
            },
        ),
        (
            lambda m, x: m.n(m.c(x)) + m.n(m.d(x)),
            {
                "c: n is also called without the other of the two",
                "d: n is also called without the other of the two",
            },
        ),
        (
            lambda m, x: m.n(m.c(x)) * m.n.weight[0],
            {"c: the numbers of n are also read elsewhere"},
        ),
        (
            lambda m, x: m.n(nn.functional.conv2d(x, m.c.weight, m.c.bias, padding=1)),
            {"Free: Free computes it itself, without a layer of its own"},
        ),
    ],
)
def test_what_is_shared_stays(run, reasons):
    layers = {"c": conv(4, 4), "d": conv(4, 4), "n": nn.BatchNorm2d(4), "o": nn.BatchNorm2d(4)}
    done = fold(shaken(Free(run, **layers)), image(1, 4, 6, 6))
    assert done.changed == ()
    assert set(done.skipped) == reasons
    assert len(norms(done.model)) == 2


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m[0].register_forward_hook(lambda *_: None), "the convolution has forward hooks"),
        (lambda m: m[1].register_forward_pre_hook(lambda *_: None), "the batch norm has forward hooks"),
        (
            lambda m: parametrize.register_parametrization(m[0], "weight", Doubled()),
            "the convolution is parametrised",
        ),
        (lambda m: m[1].train(), "the batch norm is in training mode"),
        (lambda m: setattr(m, "also", [m[1]]), "1 is also held outside the module tree"),
    ],
)
def test_what_cannot_be_folded_is_told(change, reason):
    model = shaken(nn.Sequential(conv(), nn.BatchNorm2d(8)))
    change(model)
    done = rewrites.find("fold-bn").apply(model, traced(model, image(2, 4, 6, 6)), None)
    assert done.skipped == (f"0: {reason}",)
    assert done.changed == ()


def test_tied_weights_stay():
    def run(m, x):
        return m.n(m.c(x))

    model = Free(run, c=conv(4, 4), n=nn.BatchNorm2d(4), d=conv(4, 4))
    model.d.weight = model.c.weight
    done = fold(shaken(model), image(1, 4, 6, 6))
    assert done.skipped == ("c: numbers of c are tied to another module's",)
    assert done.model.d.weight is done.model.c.weight


def test_a_norm_without_statistics_stays():
    model = shaken(nn.Sequential(conv(), nn.BatchNorm2d(8, track_running_stats=False)))
    done = fold(model, image(2, 4, 6, 6))
    assert done.skipped == ("0: the batch norm keeps no running statistics",)


class Padded(nn.Conv2d):
    """As timm's Conv2dSame: pads by itself, then convolves."""

    def forward(self, x):
        return nn.functional.conv2d(nn.functional.pad(x, (0, 1, 0, 1)), self.weight, self.bias)


class Deaf(nn.Conv2d):
    def forward(self, x):
        return nn.functional.conv2d(x, self.weight)


class Squaring(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) ** 2


@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution_with_a_forward_of_its_own(bias):
    model = shaken(nn.Sequential(Padded(4, 8, 3, bias=bias), nn.BatchNorm2d(8)))
    done = fold(model, image(1, 4, 6, 6))
    assert done.changed == ("0",)
    assert type(done.model[0]) is Padded


def test_a_forward_that_would_not_use_the_bias_stays():
    done = fold(shaken(nn.Sequential(Deaf(4, 8, 3, bias=False), nn.BatchNorm2d(8))), image(1, 4, 6, 6))
    assert done.skipped == ("0: the forward of Deaf takes no bias",)


def test_a_norm_that_does_more_stays():
    done = fold(shaken(nn.Sequential(conv(), Squaring(8))), image(1, 4, 6, 6))
    assert done.skipped == ("0: it is not known what Squaring does beside normalising",)


def test_refusals():
    pair = nn.Sequential(conv(), nn.BatchNorm2d(8))
    trace = traced(pair.eval(), torch.randn(1, 4, 6, 6))
    fold_bn = rewrites.find("fold-bn")
    assert fold_bn.exact
    with pytest.raises(InputError, match="in training mode") as caught:
        fold_bn.apply(pair.train(), trace, None)
    assert "model.eval()" in caught.value.hint
    with pytest.raises(InputError, match="takes no options"):
        fold_bn.apply(pair.eval(), trace, "all")
    done = fold_bn.apply(pair.eval(), trace, None).model
    for plain in (done, nn.Sequential(nn.BatchNorm2d(4), conv()).eval()):
        with pytest.raises(InputError, match="has no convolution or linear layer followed by a batch norm"):
            fold_bn.apply(plain, traced(plain, torch.randn(1, 4, 6, 6)), None)


@pytest.mark.parametrize(
    ("name", "folded", "fewer"),
    [
        # Norms have 2·C numbers, of which C come back as biases: fewer by the sum of all norms' widths.
        ("resnet18", 20, 4_800),
        ("mobilenetv3_large", 46, 12_200),
    ],
)
def test_networks_of_the_zoo(name, folded, fewer):
    torch.manual_seed(0)
    model = shaken(zoo.build(name))
    widths = sum(module.num_features for module in norms(model))
    done = fold(model, image(1, 3, 64, 64))
    assert len(done.changed) == folded
    assert not norms(done.model)
    assert params(model) - params(done.model) == fewer == widths
    again = pickle.loads(pickle.dumps(copy.deepcopy(done.model)))
    assert difference(done.model, again, (image(1, 3, 64, 64),), {}).absolute == 0


def test_resnet18_of_torchvision():
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    model = shaken(models.resnet18())
    done = fold(model, image(1, 3, 64, 64))
    assert (params(model), params(done.model)) == (11_689_512, 11_684_712)
    assert not norms(done.model)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "tf_efficientnet_b0", "levit_128s"])
def test_networks_of_timm(name):
    """Norms with the activation inside, convolutions that pad by themselves, linear layers with norms."""
    timm = pytest.importorskip("timm", reason="timm is not installed")
    model = shaken(timm.create_model(name))
    side = 224 if name.startswith("levit") else 64
    done = fold(model, image(1, 3, side, side))
    assert done.skipped == ()
    assert len(norms(done.model)) == (2 if name.startswith("levit") else 0)  # before the heads
    kept = [type(module).__name__ for module in done.model.modules()]
    assert kept.count("BatchNormAct2d") == 0
