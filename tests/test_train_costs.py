"""What a training step counts: by hand, by a loop that does the work, and by torch's own counter."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from opcalls import call, tensor
from steps import macs_by_phase, on_both_routes, recorded, total_of, uncosted
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import flopscope.costs as costs


def flops_of(trace, name, phase):
    prices = costs.price_all(trace.ops)
    return sum(
        price.cost.flops
        for op, price in zip(trace.ops, prices, strict=True)
        if (op.op, op.phase) == (f"aten::{name}", phase)
    )


def test_a_small_net_by_hand():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    trace = recorded(net, torch.zeros(2, 3, 8, 8))
    # conv: 2 images * 6 * 6 outputs * 4 channels * 27 taps; linear: 2 rows * 144 * 2
    conv, linear = 2 * 36 * 4 * 27, 2 * 144 * 2
    # The image wants no gradient, so of the convolution only the weight's is computed.
    assert macs_by_phase(trace) == {"forward": conv + linear, "backward": conv + 2 * linear}
    # The convolution's bias: 2 * 4 * 36 gradients are added up.
    assert flops_of(trace, "convolution_backward", "backward") == 2 * conv + 2 * 4 * 36
    assert flops_of(trace, "threshold_backward", "backward") == 2 * 4 * 36
    assert uncosted(trace) == []


def test_a_second_convolution_has_both_gradients():
    net = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False))
    trace = recorded(net, torch.zeros(1, 3, 5, 5))
    first, second = 25 * 4 * 3, 25 * 4 * 9
    assert macs_by_phase(trace) == {"forward": first + second, "backward": first + 2 * second}


def test_frozen_parameters_have_no_gradient():
    net = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 7), nn.Linear(7, 8))
    net[0].requires_grad_(False)
    net[1].weight.requires_grad_(False)
    trace = recorded(net, torch.zeros(3, 5))
    # 3 rows. First: none at all. Second: none for its input, nor for its weight. Third: both.
    assert macs_by_phase(trace) == {"forward": 3 * (30 + 42 + 56), "backward": 2 * 3 * 56}


def counted_by_doing(data, weight, gradient, *, stride, padding, groups):
    """Both gradients of a convolution, one multiply-add after the other, and how many there were."""
    height, width = data.shape[2:]
    outs, ins, *kernel = weight.shape
    padded = F.pad(data, (padding,) * 4)
    of_data, of_weight = torch.zeros_like(padded), torch.zeros_like(weight)
    for_data = for_weight = 0
    for n, o, y, x in product(*map(range, gradient.shape)):
        for c, dy, dx in product(range(ins), *map(range, kernel)):
            place = (n, o // (outs // groups) * ins + c, y * stride + dy, x * stride + dx)
            of_data[place] += gradient[n, o, y, x] * weight[o, c, dy, dx]
            for_data += 1
            of_weight[o, c, dy, dx] += gradient[n, o, y, x] * padded[place]
            for_weight += 1
    return (
        of_data[..., padding : padding + height, padding : padding + width],
        of_weight,
        for_data,
        for_weight,
    )


@pytest.mark.parametrize(
    ("ins", "outs", "groups", "stride", "padding"),
    [(2, 3, 1, 1, 1), (4, 4, 4, 1, 1), (4, 8, 4, 2, 1), (4, 6, 2, 2, 0)],
    ids=["dense", "depthwise", "depthwise, multiplied, strided", "grouped"],
)
def test_gradients_of_a_convolution_by_doing_them(ins, outs, groups, stride, padding):
    torch.manual_seed(0)
    net = nn.Conv2d(ins, outs, 3, stride=stride, padding=padding, groups=groups, bias=False).double()
    data = torch.randn(2, ins, 5, 5, dtype=torch.float64, requires_grad=True)
    answer = net(data)
    gradient = torch.randn_like(answer)
    answer.backward(gradient)
    of_data, of_weight, for_data, for_weight = counted_by_doing(
        data.detach(), net.weight.detach(), gradient, stride=stride, padding=padding, groups=groups
    )
    torch.testing.assert_close(of_data, data.grad)
    torch.testing.assert_close(of_weight, net.weight.grad)

    # Something before the convolution, so that its input wants a gradient.
    chain = nn.Sequential(Shift(), nn.Conv2d(ins, outs, 3, stride, padding, groups=groups, bias=False))
    trace = recorded(chain, torch.zeros(2, ins, 5, 5))
    assert macs_by_phase(trace) == {"forward": for_data, "backward": for_data + for_weight}


class Shift(nn.Module):
    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.by


def test_a_transposed_convolution_costs_its_forward_twice():
    net = nn.Sequential(Shift(), nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2))
    trace = recorded(net, torch.zeros(1, 4, 5, 5))
    # Each of 4 * 25 inputs meets 6 / 2 * 9 weights.
    assert macs_by_phase(trace) == {"forward": 2700, "backward": 5400}


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, 2)),
            (2, 3, 9, 9),
        ),
        (nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3)), (4, 5)),
        (nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True), (2, 6, 16)),
    ],
    ids=["dense convolutions", "linear", "encoder, its attention in parts"],
)
def test_torchs_counter_agrees_where_it_is_right(net, shape):
    x = torch.randn(shape)
    with FlopCounterMode(display=False) as counter:
        net.train()(x).mean().backward()
    net.zero_grad()
    assert 2 * total_of(recorded(net, x)).macs == counter.get_total_flops()


def test_torchs_counter_is_wrong_for_depthwise_gradients():
    """It counts (groups + 1) / 2 times the multiply-adds of both gradients."""
    x = torch.zeros(1, 8, 6, 6)
    net = nn.Sequential(Shift(), nn.Conv2d(8, 8, 3, padding=1, groups=8))
    with FlopCounterMode(display=False) as counter:
        net(x).mean().backward()
    forward = 36 * 8 * 9
    assert total_of(recorded(net, x)).macs == 3 * forward
    assert counter.get_total_flops() == 2 * (forward + 2 * forward * (8 + 1) // 2)


def test_attention_gradient_is_five_products():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(8, 24, bias=False)

        def forward(self, x):
            q, k, v = self.qkv(x).reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    meta, real = on_both_routes(Attention(), torch.randn(2, 5, 8))
    projection, pairs = 2 * 5 * 8 * 24, 2 * 2 * 5 * 5
    # Forward Q K^T and P V; backward both anew in part: the scores again, and gradients of V, P, Q and K.
    expected = {"forward": projection + 2 * pairs * 4, "backward": projection + 5 * pairs * 4}
    assert macs_by_phase(meta) == macs_by_phase(real) == expected


@pytest.mark.parametrize("bias", [True, False])
def test_an_lstm_layer_costs_its_forward_twice(bias):
    trace = recorded(nn.LSTM(4, 5, bias=bias), torch.zeros(3, 2, 4))
    # 6 tokens, 20 gate rows of 4 and of 5.
    assert macs_by_phase(trace) == {"forward": 6 * 20 * 9, "backward": 2 * 6 * 20 * 9}
    # 6 tokens of 5 units: 23 each, and 4 sums where there are biases.
    flops = flops_of(trace, "mkldnn_rnn_layer_backward", "backward") - 2 * 2 * 6 * 20 * 9
    assert flops == 30 * (23 + 4 * bias)


LOSSES = {
    "cross_entropy": lambda y: F.cross_entropy(y, torch.zeros(4, dtype=torch.long, device=y.device)),
    "smoothed": lambda y: F.cross_entropy(
        y, torch.zeros(4, dtype=torch.long, device=y.device), label_smoothing=0.1
    ),
    "mse": lambda y: F.mse_loss(y, torch.zeros_like(y)),
    "l1": lambda y: F.l1_loss(y, torch.zeros_like(y)),
    "smooth_l1": lambda y: F.smooth_l1_loss(y, torch.zeros_like(y)),
    "huber": lambda y: F.huber_loss(y, torch.zeros_like(y)),
    "bce": lambda y: F.binary_cross_entropy(y.sigmoid(), torch.zeros_like(y)),
    "bce_with_logits": lambda y: F.binary_cross_entropy_with_logits(y, torch.zeros_like(y)),
    "kl": lambda y: F.kl_div(y.log_softmax(-1), torch.zeros_like(y), reduction="batchmean"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_priced(name):
    meta, real = on_both_routes(nn.Linear(3, 5), torch.randn(4, 3), loss=LOSSES[name])
    assert uncosted(meta) == uncosted(real) == []
    assert total_of(meta).flops == total_of(real).flops
    assert total_of(meta).bytes_read == total_of(real).bytes_read


def test_cross_entropy_by_hand():
    trace = recorded(nn.Linear(3, 5), torch.randn(4, 3), loss=LOSSES["cross_entropy"])
    prices = costs.price_all(trace.ops)
    by_op = {(op.op, op.phase): price.cost for op, price in zip(trace.ops, prices, strict=True) if op.outside}
    # 4 rows of 5 scores: log-softmax 5 each, forth, and 4 each back; one number per row is picked.
    assert by_op["aten::_log_softmax", "loss"].flops == 5 * 20
    assert by_op["aten::nll_loss_forward", "loss"].flops == 4
    assert by_op["aten::nll_loss_backward", "backward"].flops == 4
    assert by_op["aten::_log_softmax_backward_data", "backward"].flops == 4 * 20


ADAM = {"lerp_": 3, "mul_": 1, "addcmul_": 3, "sqrt": 1, "div": 1, "add_": 1, "addcdiv_": 3}


def optimizer_flops(trace):
    prices = costs.price_all(trace.ops)
    return sum(
        price.cost.flops for op, price in zip(trace.ops, prices, strict=True) if op.phase == "optimizer"
    )


def test_adam_by_hand():
    trace = recorded(nn.Linear(3, 5, bias=False), torch.randn(4, 3), optimizer=torch.optim.Adam)
    # Of each of 15 weights 13 operations, and 1 to count the step.
    assert sum(ADAM.values()) == 13
    assert optimizer_flops(trace) == 13 * 15 + 1


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        # p -= lr g: a factor and a difference
        (lambda p: torch.optim.SGD(p, lr=0.1), 2 * 15),
        # buf = 0.9 buf + g: 2 more
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 4 * 15),
        # g += decay p: 2 more
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1), 6 * 15),
    ],
    ids=["plain", "momentum", "decay"],
)
@pytest.mark.parametrize("foreach", [False, True])
def test_sgd_by_hand(make, expected, foreach):
    def made(parameters):
        optimizer = make(parameters)
        optimizer.param_groups[0]["foreach"] = foreach
        return optimizer

    trace = recorded(nn.Linear(3, 5, bias=False), torch.randn(4, 3), optimizer=made)
    assert any("_foreach_" in op.op for op in trace.ops) is foreach
    assert optimizer_flops(trace) == expected


def test_a_fused_step_costs_what_its_parts_do():
    def made(parameters):
        return torch.optim.Adam(parameters, fused=True)

    net, x = nn.Linear(3, 5, bias=False), torch.randn(4, 3)
    trace = recorded(net, x, optimizer=made, meta=False)
    fused = next(op for op in trace.ops if op.op == "aten::_fused_adam_")
    assert costs.price(fused).cost.flops == 13 * 15
    # Weights, both moments and the gradient are read; the gradient is not written. A step's count is 4 bytes.
    assert costs.price(fused).cost.bytes_read == 4 * (4 * 15 + 1)
    assert costs.price(fused).cost.bytes_written == 4 * 3 * 15


def test_a_list_costs_what_its_tensors_do():
    many = call(
        "aten::_foreach_addcdiv_",
        (),
        self=(tensor(3), tensor(4)),
        tensor1=(tensor(3), tensor(4)),
        tensor2=(tensor(3), tensor(4)),
        scalars=(-0.1, -0.1),
        written=["self"],
    )
    assert costs.price(many).cost.flops == 3 * (3 + 4)
    plain = call("aten::_foreach_add_", (), self=(tensor(3),), other=(tensor(3),), alpha=1, written=["self"])
    assert costs.price(plain).cost.flops == 3


@pytest.mark.parametrize(
    "name", ["Adam", "AdamW", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "RMSprop"]
)
@pytest.mark.parametrize("foreach", [False, True])
def test_optimizers_are_priced_on_both_routes(name, foreach):
    def made(parameters):
        return getattr(torch.optim, name)(parameters, foreach=foreach)

    meta, real = on_both_routes(nn.Linear(3, 5), torch.randn(4, 3), optimizer=made)
    assert uncosted(meta) == []
    assert optimizer_flops(meta) == optimizer_flops(real) > 0


def test_output_mask_decides_what_is_computed_and_read():
    shapes = {"grad_output": tensor(1, 4, 6, 6), "input": tensor(1, 2, 8, 8), "weight": tensor(4, 2, 3, 3)}
    once = 4 * 36 * 18

    def priced(mask):
        return costs.price(
            call("aten::convolution_backward", (), **shapes, transposed=False, groups=1, output_mask=mask)
        ).cost

    assert [
        priced(mask).macs for mask in ((True, True, True), (True, False, False), (False, False, True))
    ] == [
        2 * once,
        once,
        0,
    ]
    # Without the weight's gradient the input is not read, without the input's the weight is not.
    assert priced((True, False, False)).bytes_read == 4 * (4 * 36 + 72)
    assert priced((False, True, False)).bytes_read == 4 * (4 * 36 + 128)


def test_adaptive_pools_spread_over_their_windows():
    op = call(
        "aten::_adaptive_avg_pool2d_backward",
        tensor(1, 1, 5, 5),
        grad_output=tensor(1, 1, 2, 2),
        self=tensor(1, 1, 5, 5),
    )
    # Windows of 5 into 2: rows 0..2 and 2..4, three each, so 6 by 6 values.
    assert costs.price(op).cost.flops == 36
    assert costs.price(op).cost.bytes_read == 4 * 4


EVERY_ACTIVATION = nn.Sequential(
    *(nn.Linear(8, 8), nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.Hardsigmoid(), nn.LeakyReLU(), nn.ELU()),
    *(nn.PReLU(), nn.Mish(), nn.Softplus(), nn.ReLU6(), nn.LogSigmoid(), nn.GLU(), nn.Softmax(-1)),
    *(nn.LogSoftmax(-1), nn.Tanh(), nn.Sigmoid(), nn.Hardshrink(), nn.Softshrink(), nn.CELU(), nn.RReLU()),
    *(nn.Threshold(0.1, 0.2), nn.Softsign(), nn.RMSNorm(4), nn.LayerNorm(4), nn.Dropout(0.1)),
)
MAPS = nn.Sequential(
    *(nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(2), nn.Upsample(scale_factor=2)),
    *(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Upsample(scale_factor=2, mode="bicubic")),
    *(nn.AdaptiveAvgPool2d(5), nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.ZeroPad2d(1)),
    *(nn.AdaptiveMaxPool2d(3), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.PixelShuffle(2)),
    *(nn.LPPool2d(2, 2), nn.Dropout2d(0.2), nn.ConvTranspose2d(1, 2, 2, stride=2), nn.BatchNorm2d(2)),
)
LINES = nn.Sequential(
    *(nn.Conv1d(3, 4, 3), nn.MaxPool1d(2), nn.AvgPool1d(2), nn.AdaptiveMaxPool1d(3), nn.BatchNorm1d(4)),
    *(nn.Upsample(scale_factor=2, mode="linear"), nn.Upsample(scale_factor=2), nn.Unflatten(1, (1, 4, 1))),
    *(nn.Conv3d(1, 2, (1, 1, 3)), nn.Upsample(scale_factor=4, mode="trilinear"), nn.MaxPool3d(2)),
    *(nn.AvgPool3d(2, 2, 1), nn.BatchNorm3d(2), nn.AdaptiveAvgPool3d(1)),
)


@pytest.mark.parametrize(
    ("net", "shape"),
    [(EVERY_ACTIVATION, (2, 3, 8)), (MAPS, (2, 3, 8, 8)), (LINES, (2, 3, 24))],
    ids=["activations", "maps", "lines"],
)
def test_nothing_in_the_backward_is_free_unsaid(net, shape):
    meta, real = on_both_routes(net, torch.randn(shape))
    assert uncosted(meta) == uncosted(real) == []
    for column in ("macs", "flops", "bytes_read", "bytes_written"):
        assert getattr(total_of(meta), column) == getattr(total_of(real), column), column
