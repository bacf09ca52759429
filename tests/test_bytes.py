"""Bytes as executed, end to end on nets, worked out by hand; PConv is the touchstone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from counting import counted, row
from torch import nn

from flopscope import Inputs, Spec

FLOAT = 4


class Call(nn.Module):
    """A net whose forward is the given function of its inputs."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def moved(report_or_layer):
    """Bytes read and written."""
    total = getattr(report_or_layer, "total", report_or_layer)
    return (total.bytes_read, total.bytes_written)


# --------------------------------------------------------------------------- PConv, the touchstone

# One map of 64 x 56 x 56 and its first quarter; weights of 16 x 16 x 3 x 3.
MAP = 64 * 56 * 56 * FLOAT
QUARTER = MAP // 4
WEIGHTS = 16 * 16 * 9 * FLOAT
SHAPE = (1, 64, 56, 56)


class SplitCat(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1, bias=False)

    def forward(self, x):
        one, rest = torch.split(x, [16, 48], dim=1)
        return torch.cat((self.conv(one), rest), dim=1)


class Slicing(SplitCat):
    def forward(self, x):
        x = x.clone()
        x[:, :16] = self.conv(x[:, :16])
        return x


def test_the_hand_worked_sizes():
    assert (MAP, QUARTER, WEIGHTS) == (802_816, 200_704, 9_216)


def test_pconv_by_split_and_cat():
    report = counted(SplitCat(), SHAPE)
    # The convolution reads a quarter and its weights and writes a quarter; cat moves the whole map.
    assert moved(report) == (QUARTER + WEIGHTS + MAP, QUARTER + MAP)
    assert sum(moved(report)) == 2_016_256  # 2.02 MB
    assert report.total.macs == 16 * 56 * 56 * 16 * 9


def test_pconv_by_slice_assignment():
    report = counted(Slicing(), SHAPE)
    # The clone moves the map, the convolution a quarter and its weights, the assignment a quarter.
    assert moved(report) == (MAP + QUARTER + WEIGHTS + QUARTER, MAP + QUARTER + QUARTER)
    assert sum(moved(report)) == 2_417_664  # 2.42 MB


@pytest.mark.parametrize("form", [SplitCat, Slicing], ids=["split and cat", "slice assignment"])
def test_pconv_of_the_paper(form):
    report = counted(nn.Sequential(form(), nn.Conv2d(64, 8, 1)), SHAPE)
    pconv = row(report, "0")
    # Chen et al. 2023, eq. 3: h w 2 c_p + k^2 c_p^2 = 56 x 56 x 32 + 9 x 256 values.
    assert pconv.kind == "pconv"
    assert pconv.formula_bytes == (56 * 56 * 32 + 9 * 256) * FLOAT == 410_624  # 0.41 MB
    assert pconv.params == 16 * 16 * 9


def test_depthwise_convolution():
    report = counted(nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), SHAPE)
    assert moved(report) == (MAP + 64 * 9 * FLOAT, MAP)
    assert sum(moved(report)) == 1_607_936  # 1.61 MB


# --------------------------------------------------------------------------- what is read


def test_broadcasting_reads_the_small_one_once():
    assert moved(counted(Call(lambda x, b: x + b), ((2, 3, 8, 8), (3, 1, 1)))) == (
        (384 + 3) * FLOAT,
        384 * FLOAT,
    )


def test_an_expanded_tensor_costs_its_storage():
    report = counted(Call(lambda x, b: x + b.expand(2, 3, 8, 8)), ((2, 3, 8, 8), (3, 1, 1)))
    assert moved(report) == ((384 + 3) * FLOAT, 384 * FLOAT)


def test_expanding_and_making_contiguous_writes_all():
    assert moved(counted(Call(lambda x: x.expand(100, 7).contiguous()), (1, 7))) == (7 * FLOAT, 700 * FLOAT)


def test_a_tensor_seen_twice_is_read_once():
    assert moved(counted(Call(lambda x: x * x), (10, 10))) == (100 * FLOAT, 100 * FLOAT)
    assert moved(counted(Call(lambda x: x + x.t()), (10, 10))) == (100 * FLOAT, 100 * FLOAT)


def test_halves_of_one_tensor_are_read_once_each():
    def gate(x):
        a, b = x.chunk(2, dim=1)
        return a * b

    assert moved(counted(Call(gate), (4, 10))) == (40 * FLOAT, 20 * FLOAT)


def test_in_place_reads_once_and_writes_once():
    assert moved(counted(Call(lambda x: x.relu_()), (10, 10))) == (100 * FLOAT, 100 * FLOAT)
    assert moved(counted(Call(lambda x, y: x.add_(y)), ((10, 10), (10, 10)))) == (200 * FLOAT, 100 * FLOAT)


def test_copying_does_not_read_its_target():
    assert moved(counted(Call(lambda x, y: x.copy_(y)), ((10, 10), (10, 10)))) == (100 * FLOAT, 100 * FLOAT)
    assert moved(counted(Call(lambda x, y: x.copy_(y)), ((10, 10), (1, 10)))) == (10 * FLOAT, 100 * FLOAT)


def test_filling_reads_nothing():
    assert moved(counted(Call(lambda x: x.zero_()), (10, 10))) == (0, 100 * FLOAT)
    assert moved(counted(Call(torch.zeros_like), (10, 10))) == (0, 100 * FLOAT)


def test_assigning_a_number_to_a_slice():
    def assign(x):
        x[:, 0] = 1.0
        return x

    # One number is read, 10 are written.
    assert moved(counted(Call(assign), (10, 10))) == (FLOAT, 10 * FLOAT)


def test_assigning_a_slice():
    def assign(x, y):
        x[:, 2:4] = y
        return x

    assert moved(counted(Call(assign), ((10, 10), (10, 2)))) == (20 * FLOAT, 20 * FLOAT)


def test_a_part_of_a_tensor():
    # 10 rows of the middle 4 of 10 columns.
    assert moved(counted(Call(lambda x: x[:, 3:7] + 1), (10, 10))) == (40 * FLOAT, 40 * FLOAT)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.view(4, 25),
        lambda x: x.reshape(25, 4),
        lambda x: x.t(),
        lambda x: x.permute(1, 0).unsqueeze(0).squeeze(),
        lambda x: x[2:5, ::2],
        lambda x: x.split(5)[1].chunk(2)[0],
        lambda x: x.expand(3, 10, 10).flatten(1)[0],
        lambda x: x.detach().diagonal(),
        lambda x: x.unfold(0, 3, 1),
        lambda x: x.contiguous().flatten(),
        lambda x: torch.unbind(x)[3],
        lambda x: F.dropout(x, 0.5, training=False),
        lambda x: x.to(torch.float32),
    ],
)
def test_views_are_free(view):
    report = counted(Call(view), (10, 10))
    assert moved(report) == (0, 0)
    assert report.total.flops == 0


def test_a_reshape_that_has_to_copy():
    assert moved(counted(Call(lambda x: x.t().reshape(100)), (10, 10))) == (100 * FLOAT, 100 * FLOAT)


# --------------------------------------------------------------------------- gathers


@pytest.mark.parametrize(("rows", "ids", "read"), [(100, 6, 6), (100, 100, 100), (10, 1000, 10)])
def test_an_embedding_reads_rows_that_may_be_needed(rows, ids, read):
    report = counted(nn.Embedding(rows, 16), Spec((ids,), "int64"))
    assert moved(report) == (read * 16 * FLOAT + ids * 8, ids * 16 * FLOAT)
    assert report.layers[0].kind == "embedding"


def test_index_select_and_index_tensors():
    ids = Spec((5,), "int64", high=50)
    for gather in (lambda x, i: x[i], lambda x, i: x.index_select(0, i), lambda x, i: torch.embedding(x, i)):
        report = counted(Call(gather), Inputs((50, 4), ids))
        assert moved(report) == (5 * 4 * FLOAT + 5 * 8, 5 * 4 * FLOAT)


# --------------------------------------------------------------------------- layers


def test_batch_norm_reads_its_statistics():
    # Weight, bias, mean and variance of 3 channels.
    assert moved(counted(nn.BatchNorm2d(3), (2, 3, 8, 8))) == ((384 + 4 * 3) * FLOAT, 384 * FLOAT)


def test_linear():
    assert moved(counted(nn.Linear(8, 16), (4, 8))) == ((32 + 128 + 16) * FLOAT, 64 * FLOAT)


def test_weights_are_read_once_per_call():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    weights = (8 * 27 + 8) * FLOAT
    one, four = counted(conv, (1, 3, 8, 8)), counted(conv, (4, 3, 8, 8))
    assert moved(one) == (192 * FLOAT + weights, 512 * FLOAT)
    assert moved(four) == (4 * 192 * FLOAT + weights, 4 * 512 * FLOAT)
    twice = counted(Call(lambda x: (conv(x), conv(x))), (1, 3, 8, 8))
    assert moved(twice) == (2 * moved(one)[0], 2 * moved(one)[1])


def test_concatenation_reads_and_writes_all():
    net = Call(lambda x, y: torch.cat([x, y], dim=1))
    assert moved(counted(net, ((2, 3), (2, 5)))) == (16 * FLOAT, 16 * FLOAT)


def test_attention_reads_its_operands():
    net = Call(lambda q, k, v: F.scaled_dot_product_attention(q, k, v))
    shapes = ((2, 4, 16, 8), (2, 4, 32, 8), (2, 4, 32, 8))
    q, k = 2 * 4 * 16 * 8, 2 * 4 * 32 * 8
    assert moved(counted(net, shapes)) == ((q + 2 * k) * FLOAT, q * FLOAT)


def test_bfloat16_halves_everything():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    plain, half = counted(net, (2, 3, 8, 8)), counted(net, (2, 3, 8, 8), dtype="bfloat16")
    assert moved(plain) == (2 * half.total.bytes_read, 2 * half.total.bytes_written)
    assert plain.param_bytes == 2 * half.param_bytes
    assert plain.peak_activation_bytes == 2 * half.peak_activation_bytes
    assert {layer.dtype for layer in half.layers} == {"bfloat16"}


def test_each_tensor_has_its_own_dtype():
    # Comparing 100 floats to a number makes 100 bytes of truth values.
    assert moved(counted(Call(lambda x: x > 0), (10, 10))) == (100 * FLOAT, 100)
    assert moved(counted(Call(lambda x: x.to(torch.float64)), (10, 10))) == (100 * FLOAT, 100 * 8)


def test_arithmetic_intensity():
    layer = counted(nn.Linear(64, 64, bias=False), (64, 64)).layers[0]
    # 2 x 64^3 FLOPs over three matrices.
    assert layer.arithmetic_intensity == pytest.approx(2 * 64**3 / (3 * 64 * 64 * FLOAT))
