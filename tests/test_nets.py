"""Small nets that each break an assumption about where the multiply-adds are.

The rows of the accuracy matrix in `docs/conventions.md`: on each of these some released counter is
wrong. Expected numbers are worked out beside each test.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from counting import counted, macs_of, row
from torch import nn

from flopscope import Spec


class Call(nn.Module):
    """A net whose forward is the given function of (net, *inputs)."""

    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, shape in parameters.items():
            setattr(self, name, nn.Parameter(torch.zeros(shape)))

    def forward(self, *inputs):
        return self.function(self, *inputs)


IMAGE = (1, 3, 8, 8)
# A 3x3 convolution to 8 channels that keeps the 8x8 map: 8 x 8 x 8 outputs of 3 x 3 x 3 each.
CONV = 8 * 8 * 8 * 3 * 9


# --------------------------------------------------------------------------- convolutions


def test_conv2d():
    assert macs_of(nn.Conv2d(3, 8, 3, padding=1), IMAGE) == CONV == 13_824


def test_subclass_of_conv2d():
    class Mine(nn.Conv2d):
        pass

    report = counted(Mine(3, 8, 3, padding=1), IMAGE)
    assert report.total.macs == CONV
    assert (report.layers[0].type, report.layers[0].kind) == ("Mine", "conv")


def test_functional_conv2d():
    net = Call(lambda net, x: F.conv2d(x, net.weight, padding=1), weight=(8, 3, 3, 3))
    assert macs_of(net, IMAGE) == CONV


def test_padding_same():
    assert macs_of(nn.Conv2d(3, 8, 3, padding="same"), IMAGE) == CONV


def test_padding_same_with_an_even_kernel():
    # 4 x 4 taps; the map is padded by 1 before and 2 after, so that 8 x 8 outputs remain.
    assert macs_of(nn.Conv2d(3, 8, 4, padding="same"), IMAGE) == 8 * 64 * 3 * 16


def test_padding_same_dilated():
    assert macs_of(nn.Conv2d(3, 8, 3, padding="same", dilation=2), IMAGE) == CONV


def test_padding_valid_by_name():
    # 6 x 6 outputs.
    assert macs_of(nn.Conv2d(3, 8, 3, padding="valid"), IMAGE) == 8 * 36 * 27


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "zeros"])
def test_padding_modes_are_no_multiplication(mode):
    assert macs_of(nn.Conv2d(3, 8, 3, padding=1, padding_mode=mode), IMAGE) == CONV


def test_strided_dilated_grouped():
    # Reach of 3 taps at dilation 2: 5. Outputs floor((8 + 2 - 5) / 2) + 1 = 3 a side. A group of 2 in.
    net = nn.Conv2d(4, 8, 3, stride=2, padding=1, dilation=2, groups=2)
    report = counted(net, (1, 4, 8, 8))
    assert report.total.macs == 8 * 9 * 2 * 9
    assert report.layers[0].kind == "group_conv"


def test_depthwise():
    report = counted(nn.Conv2d(16, 16, 3, padding=1, groups=16), (1, 16, 8, 8))
    assert report.total.macs == 16 * 64 * 9
    assert report.layers[0].kind == "depthwise_conv"


def test_depthwise_with_multiplier():
    report = counted(nn.Conv2d(16, 32, 3, padding=1, groups=16), (1, 16, 8, 8))
    assert report.total.macs == 32 * 64 * 9
    assert report.layers[0].kind == "depthwise_conv"


def test_pointwise():
    report = counted(nn.Conv2d(16, 32, 1), (1, 16, 8, 8))
    assert report.total.macs == 32 * 64 * 16
    assert report.layers[0].kind == "pointwise_conv"


def test_conv_transpose():
    # Each of the 4 x 5 x 5 inputs is spread over 6 x 3 x 3 outputs.
    report = counted(nn.ConvTranspose2d(4, 6, 3, stride=2), (1, 4, 5, 5))
    assert report.total.macs == 100 * 6 * 9
    assert report.layers[0].kind == "transposed_conv"
    assert report.layers[0].output_shape == (1, 6, 11, 11)


def test_depthwise_conv_transpose():
    report = counted(nn.ConvTranspose2d(4, 4, 3, stride=2, groups=4), (1, 4, 5, 5))
    assert report.total.macs == 100 * 9
    assert report.layers[0].kind == "transposed_conv"


def test_grouped_conv_transpose():
    # Each input meets the 8 / 2 outputs of its group.
    assert macs_of(nn.ConvTranspose2d(4, 8, 3, groups=2), (1, 4, 5, 5)) == 100 * 4 * 9


def test_functional_conv_transpose():
    net = Call(lambda net, x: F.conv_transpose1d(x, net.weight), weight=(2, 5, 3))
    assert macs_of(net, (1, 2, 7)) == 14 * 5 * 3


def test_conv1d_and_conv3d():
    # 8 outputs of 4 channels from 2 x 3 taps; 2 x 2 x 2 outputs of 3 channels from 2 x 27 taps.
    assert macs_of(nn.Conv1d(2, 4, 3), (1, 2, 10)) == 4 * 8 * 2 * 3
    assert macs_of(nn.Conv3d(2, 3, 3), (1, 2, 4, 4, 4)) == 3 * 8 * 2 * 27


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 8, 8)], ids=["unbatched", "batched"])
def test_unbatched_convolution(shape):
    assert macs_of(nn.Conv2d(3, 8, 3, padding=1), shape) == CONV


def test_unfold_and_product():
    # 4 x 4 windows of 2 x 3 x 3 values, times 4 rows of weights.
    net = Call(lambda net, x: net.weight @ F.unfold(x, 3), weight=(4, 18))
    assert macs_of(net, (1, 2, 6, 6)) == 4 * 18 * 16


# --------------------------------------------------------------------------- products


def test_linear_on_three_dimensions():
    assert macs_of(nn.Linear(8, 16), (2, 5, 8)) == 10 * 8 * 16


def test_linear_on_one_dimension():
    assert macs_of(nn.Linear(8, 16), (8,)) == 8 * 16


def test_functional_linear():
    net = Call(lambda net, x: F.linear(x, net.weight), weight=(16, 8))
    assert macs_of(net, (2, 5, 8)) == 10 * 8 * 16


def test_matmul_by_operator():
    net = Call(lambda net, x: x @ net.weight, weight=(8, 16))
    assert macs_of(net, (2, 5, 8)) == 10 * 8 * 16


def test_matrix_times_vector():
    net = Call(lambda net, x: x @ net.weight, weight=(8,))
    assert macs_of(net, (5, 8)) == 5 * 8


def test_dot_and_outer_products():
    # 8 multiply-adds of a dot product; an outer product adds nothing up: 64 FLOPs, no MAC.
    assert macs_of(Call(lambda net, x: torch.dot(x, net.w), w=(8,)), (8,)) == 8
    report = counted(Call(lambda net, x: torch.outer(x, net.w), w=(8,)), (8,))
    assert (report.total.macs, report.total.flops) == (0, 64)


@pytest.mark.parametrize("product", [torch.bmm, torch.matmul], ids=["bmm", "matmul"])
def test_batched_product(product):
    net = Call(lambda net, x, y: product(x, y))
    assert macs_of(net, ((3, 4, 5), (3, 5, 6))) == 3 * 4 * 5 * 6


def test_broadcast_product():
    # 2 x 3 pairs of matrices.
    net = Call(lambda net, x, y: x @ y)
    assert macs_of(net, ((2, 1, 4, 5), (3, 5, 6))) == 6 * 4 * 5 * 6


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("bij,bjk->bik", [(3, 4, 5), (3, 5, 6)], 3 * 4 * 5 * 6),
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)], 2 * 3 * 4 * 6 * 5),
        ("bchw,oc->bohw", [(2, 3, 4, 4), (7, 3)], 2 * 16 * 3 * 7),
        ("i,i->", [(9,), (9,)], 9),
    ],
)
def test_einsum(equation, shapes, expected):
    net = Call(lambda net, *operands: torch.einsum(equation, *operands))
    assert macs_of(net, tuple(shapes)) == expected


def test_addmm_and_baddbmm():
    addmm = Call(lambda net, x: torch.addmm(net.bias, x, net.weight), bias=(6,), weight=(5, 6))
    assert macs_of(addmm, (4, 5)) == 4 * 5 * 6
    baddbmm = Call(lambda net, x, y: torch.baddbmm(net.bias, x, y), bias=(3, 4, 6))
    assert macs_of(baddbmm, ((3, 4, 5), (3, 5, 6))) == 3 * 4 * 5 * 6


def test_bilinear():
    # x1 (4 x 5) meets the weight (7 x 5 x 6): 4 x 7 x 5 x 6; what is left meets x2: 4 x 7 x 6.
    assert macs_of(nn.Bilinear(5, 6, 7), ((4, 5), (4, 6))) == 840 + 168


def test_complex_multiplications_are_four_real_ones():
    net = nn.Linear(4, 8, bias=False, dtype=torch.complex64)
    assert macs_of(net, Spec((2, 4), "complex64")) == 4 * (2 * 4 * 8)


def test_double_and_half_count_alike():
    counts = {macs_of(nn.Linear(4, 8, dtype=dtype), (2, 4)) for dtype in (torch.float64, torch.float16)}
    assert counts == {2 * 4 * 8}


def test_empty_batch():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
    report = counted(net, (0, 3, 8, 8))
    assert (report.total.macs, report.total.flops) == (0, 0)
    # 8 x 27 + 8, and 288 x 2 + 2.
    assert report.total.params == 224 + 578


def test_batch_multiplies_work_and_not_parameters():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
    one, four = counted(net, IMAGE).total, counted(net, (4, 3, 8, 8)).total
    assert four.macs == 4 * one.macs == 4 * CONV
    assert four.flops == 4 * one.flops
    assert four.params == one.params == 224 + 16


def test_zero_parameters():
    # 16 maxima of 16 values, then 4 of each row of 4 added up by the mean: reductions are FLOPs.
    report = counted(Call(lambda net, x: F.relu(x).mean(dim=1)), (4, 4))
    assert (report.total.macs, report.total.params) == (0, 0)
    assert report.total.flops == 16 + 16


def test_norms_and_activations_are_flops_not_macs():
    net = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.GroupNorm(2, 4), nn.GELU(), nn.Softmax(dim=1))
    report = counted(net, (1, 4, 3, 3))
    assert report.total.macs == 0
    assert all(layer.flops > 0 for layer in report.layers)
    assert [layer.kind for layer in report.layers] == [
        "batch_norm",
        "activation",
        "norm",
        "activation",
        "activation",
    ]


def test_squeeze_excitation_of_functionals():
    # 16 channels at 8 x 8, squeezed to 4: 2 x 16 x 4 multiply-adds, of whatever form the code is.
    def gate(net, x):
        s = x.mean((2, 3), keepdim=True)
        s = F.conv2d(F.relu(F.conv2d(s, net.down)), net.up)
        return x * torch.sigmoid(s)

    net = nn.Sequential(nn.Conv2d(3, 16, 1), Call(gate, down=(4, 16, 1, 1), up=(16, 4, 1, 1)))
    report = counted(net, IMAGE)
    assert report.total.macs == 16 * 64 * 3 + 2 * 16 * 4
    assert row(report, "1").kind == "se"
