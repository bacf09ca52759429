"""Re-parameterisation is exact for every block, and refuses where it could not be."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from zoo_checks import trained_like

from flopscope import rewrites
from flopscope.errors import InputError
from flopscope.rewrites.branches import reparametrise_sums
from flopscope.rewrites.reparametrise import (
    Branch,
    Reparametrisable,
    fold_norm,
    identity_kernel,
    merge,
    pad_kernel,
    reparametrise,
)
from flopscope.zoo.repvgg import RepVGG, RepVGGBlock, RepVGGDeployBlock, Size

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def block_of(cin, cout, dtype=torch.float32, **keywords):
    torch.manual_seed(cin + cout)
    return trained_like(RepVGGBlock(cin, cout, **keywords)).to(dtype)


def error(model, rewritten, x):
    """The largest difference, in units of the largest output."""
    with torch.inference_mode():
        y, z = model(x), rewritten(x)
    assert y.shape == z.shape
    return ((y - z).abs().max() / y.abs().max()).item()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("se", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("widths", [(32, 32), (32, 64), (64, 32)])
def test_a_block_computes_the_same(dtype, se, groups, stride, widths):
    block = block_of(*widths, dtype, stride=stride, groups=groups, se=se)
    assert (block.identity is not None) == (stride == 1 and widths[0] == widths[1])
    deployed = reparametrise(block)
    assert isinstance(deployed, RepVGGDeployBlock)
    # Weights are ordered out, in / groups, height, width: not in, out.
    assert deployed.conv.weight.shape == (widths[1], widths[0] // groups, 3, 3)
    assert (deployed.se is not None) == se
    x = torch.randn(2, widths[0], 13, 10, dtype=dtype)
    assert error(block, deployed, x) <= TOLERANCE[dtype]


@pytest.mark.parametrize("cin", [3, 48, 192])
def test_every_width_of_a0_in_float32(cin):
    block = block_of(cin, 192, stride=1)
    assert error(block, reparametrise(block), torch.randn(1, cin, 14, 14)) <= 1e-5


def test_a_network_of_many_blocks_in_float32():
    torch.manual_seed(0)
    model = trained_like(RepVGG(Size((1, 2, 4, 14, 1), 0.25, 0.25), num_classes=10))
    assert error(model, reparametrise(model), torch.randn(2, 3, 64, 64)) <= 1e-5


def test_the_kernels_worked_out_by_hand():
    """One channel: 3x3 of ones, 1x1 of 2, identity; BNs with μ 1, σ² + ε 4, γ 6, β 5: 3x + 2.

    The factor is γ / 2 = 3, the shift 5 − 1·3 = 2. At the centre 3·(1 + 2 + 1) = 12, elsewhere 3; bias 3·2.
    """
    block = RepVGGBlock(1, 1).eval()
    nn.init.ones_(block.conv3x3.conv.weight)
    nn.init.constant_(block.conv1x1.conv.weight, 2.0)
    for norm in (block.conv3x3.norm, block.conv1x1.norm, block.identity):
        norm.running_mean.fill_(1.0)
        norm.running_var.fill_(4.0 - norm.eps)
        nn.init.constant_(norm.weight, 6.0)
        nn.init.constant_(norm.bias, 5.0)
    merged = merge(block.branches())
    torch.testing.assert_close(merged.weight[0, 0], torch.tensor([[3.0, 3, 3], [3, 12, 3], [3, 3, 3]]))
    torch.testing.assert_close(merged.bias, torch.tensor([6.0]))


def test_the_1x1_kernel_is_padded_by_zeros_not_with_ones():
    weight = torch.full((2, 2, 1, 1), 7.0)
    padded = pad_kernel(weight, (3, 3), at=(1, 1))
    assert padded.sum() == weight.sum()
    assert (padded[:, :, 1, 1] == 7.0).all()
    block = block_of(16, 16)
    deployed = reparametrise(block)
    folded = fold_norm(block.conv1x1.conv.weight, block.conv1x1.norm).weight.float()
    wrong = copy.deepcopy(deployed)
    with torch.no_grad():  # what "pad with 1" would have made: ones around each kernel
        ring = torch.ones(3, 3)
        ring[1, 1] = 0.0
        wrong.conv.weight += ring * torch.ones_like(folded)
    x = torch.randn(1, 16, 8, 8)
    assert error(block, deployed, x) <= 1e-5
    assert error(block, wrong, x) > 0.1


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_identity_is_a_kernel(groups):
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    kernel = identity_kernel(8, groups=groups)
    assert kernel.shape == (8, 8 // groups, 1, 1)
    assert torch.equal(nn.functional.conv2d(x, kernel, groups=groups), x)


@pytest.mark.parametrize(("cin", "cout", "stride"), [(64, 64, 2), (32, 64, 1)])
def test_an_identity_is_refused_where_there_can_be_none(cin, cout, stride):
    """The listed block of a tutorial looks at widths only and adds an identity at stride 2."""
    lead = Branch(nn.Conv2d(cin, cout, 3, stride, 1, bias=False).eval(), nn.BatchNorm2d(cout).eval())
    with pytest.raises(
        InputError, match=f"identity branch beside a convolution {cin} -> {cout} of stride {stride}"
    ):
        merge([lead, Branch(None, nn.BatchNorm2d(cin).eval())])


@pytest.mark.parametrize("where", ["all", "block", "norm"])
def test_a_model_in_training_mode_is_refused(where):
    model = trained_like(nn.Sequential(RepVGGBlock(8, 8)))
    {"all": model, "block": model[0], "norm": model[0].conv1x1.norm}[where].train()
    with pytest.raises(InputError, match="in training mode") as caught:
        reparametrise(model)
    assert "model.eval()" in caught.value.hint


def test_a_model_without_such_blocks_is_refused():
    model = trained_like(nn.Sequential(RepVGGBlock(8, 8)))
    for plain in (nn.Linear(2, 2).eval(), reparametrise(model)):
        with pytest.raises(InputError, match="no block to re-parameterise"):
            reparametrise(plain)


def test_the_model_and_the_random_numbers_are_left_alone():
    model = trained_like(nn.Sequential(RepVGGBlock(16, 16, se=True)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    rewritten = reparametrise(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(model[0], RepVGGBlock)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in rewritten.parameters()}
    assert not any(module.training for module in rewritten.modules())


def test_a_block_in_two_places_stays_one_block():
    block = block_of(8, 8)
    model = nn.ModuleDict({"first": block, "second": nn.Sequential(block, block)}).eval()
    rewritten = reparametrise(model)
    assert rewritten["first"] is rewritten["second"][0] is rewritten["second"][1]
    assert isinstance(rewritten["first"], RepVGGDeployBlock)


def test_frozen_weights_stay_frozen():
    block = block_of(8, 8).requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in reparametrise(block).parameters())


class Asymmetric(nn.Module):
    """A user's block: 5x5, 1x3 and identity branches, with biases, a norm without affine part."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(6, 6, 5, padding=2)
        self.flat = nn.Conv2d(6, 6, (1, 3), padding=(0, 1), bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(6), nn.BatchNorm2d(6, eps=1e-3), nn.BatchNorm2d(6)])

    def forward(self, x):
        return self.norms[0](self.wide(x)) + self.norms[1](self.flat(x)) + self.norms[2](x)

    def branches(self):
        return [
            Branch(self.flat, self.norms[1]),
            Branch(self.wide, self.norms[0]),
            Branch(None, self.norms[2]),
        ]

    def deployed(self, convolution):
        return convolution


def test_any_block_that_tells_its_branches_takes_part():
    model = trained_like(nn.Sequential(Asymmetric(), nn.ReLU(), Asymmetric()).double())
    assert isinstance(model[0], Reparametrisable)
    rewritten = reparametrise(model)
    assert [type(module) for module in rewritten] == [nn.Conv2d, nn.ReLU, nn.Conv2d]
    assert error(model, rewritten, torch.randn(2, 6, 9, 9, dtype=torch.float64)) <= 1e-10


def test_norms_without_affine_part_and_dilated_kernels():
    torch.manual_seed(0)
    wide = nn.Conv2d(4, 4, 3, padding=2, dilation=2, bias=False).double()
    point = nn.Conv2d(4, 4, 1, bias=True).double()
    norms = [nn.BatchNorm2d(4, affine=False).double().eval() for _ in range(2)]
    for norm in norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    merged = merge([Branch(wide, norms[0]), Branch(point, norms[1])])
    x = torch.randn(1, 4, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(merged(x), norms[0](wide(x)) + norms[1](point(x)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (nn.Conv2d(4, 4, 1, stride=2), "branches of stride"),
        (nn.Conv2d(4, 4, 1, groups=2), "branches of groups"),
        (nn.Conv2d(4, 8, 1), "branches of out_channels"),
        (nn.Conv2d(4, 4, 3, padding=2, dilation=2), "branches of dilation"),
        (nn.Conv2d(4, 4, 1, padding="same"), "padding='same'"),
        (nn.Conv2d(4, 4, 1, padding=2), "does not fit"),
        (nn.Conv2d(4, 4, 1, padding=1, padding_mode="reflect"), "branches of padding_mode"),
    ],
)
def test_branches_that_do_not_add_up_are_refused(other, reason):
    lead = Branch(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4).eval())
    with pytest.raises(InputError, match=reason):
        merge([lead, Branch(other, nn.BatchNorm2d(other.out_channels).eval())])


def test_norms_that_were_folded_already_count_as_none():
    """`fold-bn` leaves `nn.Identity` in their place; the branch without a convolution keeps its norm."""
    block = block_of(8, 8, torch.float64)
    folded = copy.deepcopy(block)
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    for pair in (folded.conv3x3, folded.conv1x1):
        kernel = fold_norm(pair.conv.weight, pair.norm)
        pair.conv.weight, pair.conv.bias = nn.Parameter(kernel.weight), nn.Parameter(kernel.bias)
        pair.norm = nn.Identity().eval()
    assert error(block, folded, x) <= 1e-10
    assert error(block, reparametrise(folded), x) <= 1e-10


def test_a_norm_without_statistics_is_refused():
    with pytest.raises(InputError, match="without running statistics"):
        fold_norm(torch.ones(4, 4, 1, 1), nn.BatchNorm2d(4, track_running_stats=False))


def test_branches_without_a_convolution_are_refused():
    with pytest.raises(InputError, match="none of the branches has a convolution"):
        merge([Branch(None, nn.BatchNorm2d(4).eval())])


def test_half_precision_rounds_once():
    """The fold is done in float64: the bfloat16 weights are those of the float64 block, rounded."""
    block = block_of(8, 8, torch.bfloat16)
    deployed = reparametrise(block).conv
    precise = merge(copy.deepcopy(block).double().branches())
    assert deployed.weight.dtype == torch.bfloat16
    assert torch.equal(deployed.weight, precise.weight.bfloat16())
    assert torch.equal(deployed.bias, precise.bias.bfloat16())


def test_the_registry_lists_it_and_names_the_holder_of_a_name():
    entry = rewrites.rewrites()["reparametrise"]
    assert entry.exact
    assert entry.apply is reparametrise_sums
    assert entry.summary.startswith("Put one convolution in place of")
    assert rewrites.find("reparametrise") is entry
    with pytest.raises(
        ValueError, match=r"already that of flopscope\.rewrites\.branches\.reparametrise_sums"
    ):
        rewrites.rewrite("reparametrise", exact=False)(reparametrise_sums)


def test_an_unknown_rewrite_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="no rewrite 'reparameterize'") as caught:
        rewrites.find("reparameterize")
    assert "reparametrise" in caught.value.hint
