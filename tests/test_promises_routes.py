"""Promise 2: the route does not matter: where the tensors are, what mode is on, who counted before."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from counting import ADDITIVE, counted
from several_nets import NETS, ReadsNothing, ReadsWeight, Residual, Words, without_ops
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import flopscope
from flopscope import Inputs, Spec


@pytest.fixture(params=NETS)
def net(request):
    """A way to build the net, and its input."""
    build, shape, dtype = NETS[request.param]
    return build, Spec(shape, dtype)


def _made(spec):
    if spec.dtype == "int64":
        return torch.zeros(spec.shape, dtype=torch.int64)
    return torch.zeros(spec.shape)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_train_or_eval(net, mode):
    build, spec = net
    assert counted(build().train(mode == "train"), spec).layers == counted(build(), spec).layers


@pytest.mark.parametrize("grad", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_grad_or_not(net, grad):
    build, spec = net
    model = build()
    expected = counted(model, spec)
    with grad():
        assert counted(model, spec).layers == expected.layers
        assert counted(build(), spec).layers == expected.layers  # made under inference mode, too
    assert counted(model.requires_grad_(False), spec).layers == expected.layers


def test_built_on_meta(net):
    build, spec = net
    with torch.device("meta"):
        built_there = build()
    expected = counted(build(), spec)
    for model in (built_there, build().to("meta")):
        report = counted(model, spec)
        assert report.layers == expected.layers
        assert report.total == expected.total
        assert report.peak_activation_bytes == expected.peak_activation_bytes


def test_built_of_fake_tensors(net):
    build, spec = net
    with FakeTensorMode():
        model = build()
    assert counted(model, spec).layers == counted(build(), spec).layers


def test_shape_or_tensor(net):
    build, spec = net
    model = build()
    expected = counted(model, spec).layers
    tensor = _made(spec)
    assert counted(model, tensor).layers == expected
    assert counted(model, Inputs(tensor)).layers == expected
    assert counted(model, tensor.to("meta")).layers == expected
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(tensor)
    assert counted(model, fake).layers == expected


def test_within_a_fake_tensor_mode(net):
    build, spec = net
    expected = counted(build(), spec).layers
    with FakeTensorMode():
        assert counted(build(), spec).layers == expected


def test_meta_or_real_run(net):
    build, spec = net
    meta, real = counted(ReadsNothing(build()), spec), counted(ReadsWeight(build()), spec)
    assert (meta.route, real.route) == ("meta", "real")
    assert without_ops(meta.layers) == without_ops(real.layers)
    for column in (*ADDITIVE, "calls"):
        assert getattr(meta.total, column) == getattr(real.total, column), column


def test_bfloat16(net):
    build, spec = net
    plain, half = counted(build(), spec), counted(build().to(torch.bfloat16), spec)
    asked = counted(build(), spec, dtype="bfloat16")
    for report in (half, asked):
        assert [_work(layer) for layer in report.layers] == [_work(layer) for layer in plain.layers]
    assert asked.layers == half.layers
    assert half.param_bytes * 2 == plain.param_bytes


def _work(layer):
    return (layer.path, layer.type, layer.kind, layer.calls, layer.macs, layer.flops, layer.params)


def test_channels_last():
    plain = counted(Residual(), (2, 3, 8, 8))
    last = counted(Residual().to(memory_format=torch.channels_last), (2, 3, 8, 8))
    given = counted(Residual(), torch.zeros(2, 3, 8, 8).to(memory_format=torch.channels_last))
    asked = counted(Residual(), (2, 3, 8, 8), channels_last=True)
    for report in (last, given, asked):
        assert [_work(layer) for layer in report.layers] == [_work(layer) for layer in plain.layers]


@contextlib.contextmanager
def _default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(
    "surroundings",
    [
        lambda: torch.device("meta"),
        lambda: torch.device("cpu"),
        lambda: torch.autocast("cpu"),
        lambda: _default_dtype(torch.float64),
        lambda: torch.random.fork_rng(),
        lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    ],
    ids=["meta device", "cpu device", "autocast", "default dtype", "forked rng", "anomaly detection"],
)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_what_is_in_force_around(net, surroundings):
    build, spec = net
    model = build()
    expected = counted(model, spec)
    with surroundings():
        report = counted(model, spec)
    # Fused and unfused forms may change places (torch takes none apart under a device context).
    assert report.total.macs == expected.total.macs
    assert report.total.params == expected.total.params


def test_three_counts_are_equal(net):
    build, spec = net
    model = build()
    reports = [counted(model, spec) for _ in range(3)]
    assert _timeless(reports[0]) == _timeless(reports[1]) == _timeless(reports[2])


def _timeless(report):
    """The report without the date, and without how busy the machine was then."""
    other = {name: value for name, value in report.environment.other.items() if name != "load_1min"}
    environment = dataclasses.replace(report.environment, date="", other=other)
    return dataclasses.replace(report, environment=environment)


MEASURED = (
    *("latency_s", "latency_floor_s", "latency_low_s", "latency_high_s", "samples", "quality"),
    *("compute_s", "kernel_s", "overhead_s", "allocation_s", "memory_s", "limit", "headroom"),
)


def test_profile_gives_the_same_layers(net):
    build, spec = net
    model = build()
    expected = counted(model, spec)
    report = flopscope.profile(model, spec, max_seconds=0.05)
    plain = [dataclasses.replace(layer, **dict.fromkeys(MEASURED), verdicts=()) for layer in report.layers]
    assert plain == list(expected.layers)
    for column in ADDITIVE:
        assert getattr(report.total, column) == getattr(expected.total, column), column


def test_values_of_the_input_do_not_matter():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1)

        def forward(self, x, mask):
            return self.encoder(x, src_key_padding_mask=mask)

    model = Masked()
    masks = [torch.zeros(2, 6, dtype=torch.bool), torch.ones(2, 6, dtype=torch.bool), torch.eye(2, 6) > 0]
    left_aligned = torch.zeros(2, 6, dtype=torch.bool)
    left_aligned[:, 4:] = True
    counts = {counted(model, Inputs((2, 6, 16), mask)).total for mask in (*masks, left_aligned)}
    assert len(counts) == 1
    # 12 tokens: 4 projections of 16 x 16, scores 2 x 2 x 6 x 6 x 16, two products of 16 x 32.
    assert counts.pop().macs == 12 * 4 * 256 + 2 * (2 * 6 * 6 * 16) + 12 * 2 * 16 * 32


def test_causal_attention_counts_in_full():
    class Causal(nn.Module):
        def __init__(self, is_causal):
            super().__init__()
            self.is_causal = is_causal

        def forward(self, q):
            return F.scaled_dot_product_attention(q, q, q, is_causal=self.is_causal)

    full, causal = (counted(Causal(flag), (1, 2, 8, 4)).total for flag in (False, True))
    assert full.macs == causal.macs == 2 * (2 * 8 * 8 * 4)


def test_order_of_counts_does_not_matter():
    # What one count leaves behind (interned shapes, memories of results) must not reach the next.
    first = counted(Residual(), (2, 3, 8, 8)).layers
    counted(Words(), Spec((2, 6), "int64"))
    counted(Residual(), (1, 3, 16, 16))
    assert counted(Residual(), (2, 3, 8, 8)).layers == first
