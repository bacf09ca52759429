"""The shared blocks of the zoo: shapes, what is a residual, the squeeze, the drop path."""

from __future__ import annotations

import pytest
import torch
from counting import counted
from torch import nn

from flopscope.zoo.blocks import (
    ConvNormAct,
    DropPath,
    FusedMBConv,
    InvertedResidual,
    MBConv,
    SqueezeExcitation,
    drop_path_rates,
    initialise,
    round8,
)


@pytest.mark.parametrize(
    ("channels", "guarded", "free"),
    [
        (1.0, 8, 8),  # at least 8
        (12.0, 16, 16),  # ties up
        (18.0, 24, 16),  # 16 is below 0.9 x 18 = 16.2
        (19.2, 24, 16),  # EfficientNet-B3's first stage, 1.2 x 16: 16 < 17.28
        (35.2, 32, 32),  # 1.1 x 32: 32 >= 31.68
        (44.8, 48, 48),  # 1.4 x 32: 48 is nearest
        (1792.0, 1792, 1792),
    ],
)
def test_widths_are_rounded_to_eights(channels, guarded, free):
    assert round8(channels) == guarded
    assert round8(channels, guard=False) == free


def test_drop_path_grows_from_zero_and_does_not_reach_its_rate():
    assert drop_path_rates(0.2, 4) == pytest.approx([0.0, 0.05, 0.1, 0.15])


def test_drop_path_drops_whole_samples_and_scales_what_it_keeps():
    torch.manual_seed(0)
    x = torch.rand(200, 3, 2, 2) + 1.0
    y = DropPath(0.25).train()(x)
    dropped = (y == 0).flatten(1)
    assert (dropped.all(1) | ~dropped.any(1)).all()
    kept = ~dropped.any(1)
    torch.testing.assert_close(y[kept], x[kept] / 0.75)
    # 200 draws of 0.75: 150 on average, with a standard deviation of sqrt(200 * 0.75 * 0.25) = 6.1.
    assert 120 < int(kept.sum()) < 180


def test_drop_path_is_the_identity_in_eval_and_at_rate_zero():
    x = torch.rand(4, 3)
    assert DropPath(0.9).eval()(x) is x
    assert DropPath(0.0).train()(x) is x


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_drop_path_refuses_impossible_rates(rate):
    with pytest.raises(ValueError, match="drop path rate"):
        DropPath(rate)


def test_squeeze_excitation_weighs_channels_by_their_means():
    se = SqueezeExcitation(8, 2, activation=nn.SiLU, gate=nn.Sigmoid).double()
    x = torch.randn(3, 8, 5, 4, dtype=torch.float64)
    squeezed = x.mean((2, 3)) @ se.reduce.weight[:, :, 0, 0].T + se.reduce.bias
    weights = torch.sigmoid(nn.functional.silu(squeezed) @ se.expand.weight[:, :, 0, 0].T + se.expand.bias)
    torch.testing.assert_close(se(x), x * weights[:, :, None, None])


@pytest.mark.parametrize(("stride", "cout", "residual"), [(1, 16, True), (2, 16, False), (1, 24, False)])
@pytest.mark.parametrize("block", [MBConv, FusedMBConv])
def test_input_is_added_only_at_stride_1_and_equal_widths(block, stride, cout, residual):
    made = block(16, cout, 3, stride, expansion=4).eval()
    made.project.norm.weight.data.zero_()  # the branch gives 0: what is left is the shortcut
    x = torch.randn(2, 16, 9, 9)
    y = made(x)
    assert y.shape == (2, cout, 9 if stride == 1 else 5, 9 if stride == 1 else 5)
    assert torch.equal(y, x if residual else torch.zeros_like(y))


def test_squeezed_width_is_a_quarter_of_the_blocks_input():
    # 24 in, expanded 144, SE to 6: int(24 / 4), not 144 / 4 = 36.
    assert MBConv(24, 24, 3, expansion=6).se.reduce.weight.shape == (6, 144, 1, 1)


def test_expansion_1_leaves_out_what_it_can():
    assert [name for name, _ in MBConv(16, 16, 3, expansion=1).named_children()] == [
        "depthwise",
        "se",
        "project",
    ]
    fused = FusedMBConv(24, 24, 3, expansion=1)
    assert [name for name, _ in fused.named_children()] == ["fused"]
    assert isinstance(fused.fused.act, nn.SiLU)


@pytest.mark.parametrize("expansion", [1, 4])
def test_fused_block_with_se_is_recognised(expansion):
    block = FusedMBConv(16, 24, 3, expansion=expansion, se=True)
    report = counted(block, (1, 16, 8, 8))
    found = [layer for layer in report.layers if layer.kind == "se"]
    # On the expanded width, squeezed to 16 / 4 = 4: 2 * w * 4 MACs.
    assert [(layer.path, layer.macs) for layer in found] == [("se", 2 * 16 * expansion * 4)]


def test_drop_path_in_a_block_drops_the_branch_not_the_shortcut():
    torch.manual_seed(0)
    block = InvertedResidual(8, 8, 3, expanded=16, activation=nn.ReLU, drop_path=0.5).train()
    x = torch.randn(64, 8, 4, 4)
    same = (block(x) == x).flatten(1).all(1)
    # 64 draws of 0.5: 32 on average, with a standard deviation of 4.
    assert 12 < int(same.sum()) < 52


def test_weights_start_as_documented():
    torch.manual_seed(0)
    model = nn.Sequential(
        ConvNormAct(64, 128, 3, activation=None), nn.Conv2d(256, 256, 5, groups=256), nn.Linear(100, 400)
    )
    initialise(model)
    conv, depthwise, linear = model[0].conv, model[1], model[2]
    # std = sqrt(2 / fan_out): fan_out 9 * 128 = 1152 -> 0.0417; depthwise 25 * 256 / 256 = 25 -> 0.283.
    assert float(conv.weight.detach().std()) == pytest.approx(0.0417, rel=0.03)
    assert float(depthwise.weight.detach().std()) == pytest.approx(0.283, rel=0.05)
    # uniform within 1 / sqrt(400) = 0.05
    assert 0.0499 < float(linear.weight.detach().abs().max()) <= 0.05
    assert not depthwise.bias.any()
    assert not linear.bias.any()
    assert torch.equal(model[0].norm.weight, torch.ones(128))


@pytest.mark.parametrize("se", [False, True])
@pytest.mark.parametrize("expansion", [1, 4])
def test_gradients_reach_all_of_a_fused_block(expansion, se):
    torch.manual_seed(0)
    block = FusedMBConv(8, 8, 3, expansion=expansion, se=se).train()
    block(torch.randn(4, 8, 6, 6)).square().mean().backward()
    assert all(bool(parameter.grad.any()) for parameter in block.parameters())
