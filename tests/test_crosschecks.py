"""crosscheck: our counts beside two peers that are right on some nets and have holes on others.

Where the peers agree, equality with them is the test. Where they do not, the expected MACs are
worked out by hand and the expected note names the hole.
"""

from __future__ import annotations

import copy
import importlib
import sys
import types

import pandas
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import flopscope
from flopscope.crosschecks import COLUMNS

UNKNOWN = "unexplained"


class Attention(nn.Module):
    """F.scaled_dot_product_attention alone."""

    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x)


class Wrapped(nn.Module):
    """One call of a function on the inputs."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


class Shared(nn.Module):
    """One Linear under two parents, and one in a list that never runs itself."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4))
        self.second = nn.Sequential(self.first[0], nn.ReLU())
        self.rest = nn.ModuleList([nn.Linear(4, 4)])

    def forward(self, x):
        return self.rest[0](self.second(self.first(x)))


def root(frame):
    """The row of the whole model."""
    return frame.iloc[0].to_dict()


def crosscheck_quietly(capfd, *given, **named):
    frame = flopscope.crosscheck(*given, **named)
    assert capfd.readouterr().out == ""
    return frame


# --------------------------------------------------------------------------- where all agree


def test_conv_and_linear_agree_as_integers(capfd):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16 * 16, 10))
    frame = crosscheck_quietly(capfd, net, (2, 3, 16, 16))
    assert tuple(frame.columns) == COLUMNS
    assert frame.attrs == {"device": "cpu", "fvcore_error": None, "torch_error": None}
    # conv: 2 images x 8 x 16 x 16 outputs x 3 x 3 x 3; linear: 2 x 2048 x 10
    conv, linear = 2 * 8 * 256 * 27, 2 * 2048 * 10
    expected = {"": conv + linear, "0": conv, "1": 0, "2": 0, "3": linear}
    for column in ("macs", "fvcore_macs", "torch_macs", "fvcore_like"):
        assert dict(zip(frame["path"], frame[column], strict=True)) == expected
        assert str(frame[column].dtype) == "Int64"
    assert set(frame["note"]) == {""}


@pytest.mark.parametrize(
    ("net", "shape", "macs"),
    [
        # transposed: input elements x out/groups x k x k = (4 x 5 x 5) x 4 x 9
        (nn.ConvTranspose2d(4, 8, 3, stride=2, groups=2), (1, 4, 5, 5), 100 * 4 * 9),
        # depthwise: 8 x 6 x 6 outputs x 1 x 3 x 3
        (nn.Conv2d(8, 8, 3, groups=8), (1, 8, 8, 8), 8 * 36 * 9),
        # linear on three dimensions: 2 x 5 rows x 4 x 6
        (nn.Linear(4, 6), (2, 5, 4), 10 * 24),
    ],
    ids=["grouped transposed", "depthwise", "linear"],
)
def test_single_layers_agree(net, shape, macs):
    row = root(flopscope.crosscheck(net, shape))
    assert (row["macs"], row["fvcore_macs"], row["torch_macs"]) == (macs, macs, macs)
    assert row["note"] == ""


# --------------------------------------------------------------------------- where they do not


@pytest.mark.parametrize(
    ("net", "given", "macs", "fvcore_macs", "torch_macs", "notes"),
    [
        # Q K^T and P V over 2 heads, 8 x 8 scores, 16 wide: 2 x (2 x 64 x 16)
        (
            Attention(),
            (1, 2, 8, 16),
            4096,
            0,
            0,
            [
                "fvcore: no handler for aten::scaled_dot_product_attention",
                "torch counts 0 for the CPU's fused",
            ],
        ),
        # 4 x 8 x 8 outputs x 3 x 3 x 3
        (
            nn.Conv2d(3, 4, 3, padding="same"),
            (1, 3, 8, 8),
            6912,
            0,
            6912,
            ["fvcore misses padding='same' and 'valid' (aten::_convolution_mode)"],
        ),
        # per token 4 gates x 8 units x ((4 + 8) first layer + (8 + 8) second); 5 tokens
        (
            nn.LSTM(4, 8, 2),
            (5, 1, 4),
            5 * 32 * (12 + 16),
            0,
            0,
            ["fvcore: no handler for aten::lstm", "torch: LSTM not counted"],
        ),
        # 2 rows x 6 outputs x (4 x 5 + 5)
        (
            nn.Bilinear(4, 5, 6),
            [(2, 4), (2, 5)],
            300,
            0,
            0,
            ["fvcore: no handler for aten::bilinear", "torch: no formula for aten::bilinear"],
        ),
        # baddbmm: 2 x 3 x 4 x 5, which torch knows and fvcore does not
        (
            Wrapped(torch.baddbmm),
            [(2, 3, 5), (2, 3, 4), (2, 4, 5)],
            120,
            0,
            120,
            ["fvcore: no handler for aten::baddbmm"],
        ),
    ],
    ids=["attention", "padding same", "lstm", "bilinear", "baddbmm"],
)
def test_holes_are_named(net, given, macs, fvcore_macs, torch_macs, notes):
    row = root(flopscope.crosscheck(net, given))
    assert (row["macs"], row["fvcore_macs"], row["torch_macs"]) == (macs, fvcore_macs, torch_macs)
    assert all(note in row["note"] for note in notes), row["note"]
    assert UNKNOWN not in row["note"]


def test_fused_encoder_layer():
    net = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    frame = flopscope.crosscheck(net, (1, 5, 16)).set_index("path")
    # 5 tokens x (4 x 16 x 16 + 2 x 16 x 32), and 2 x 5 x 5 scores x 16
    assert frame.loc["", "macs"] == 5 * (1024 + 1024) + 800 == 11040
    assert frame.loc["", "torch_macs"] == 0
    assert "torch counts 0 for the fused encoder layer" in frame.loc["", "note"]
    # fvcore sees the two linear layers of the feed-forward part, and two norms of 5 x 80
    assert frame.loc["", "fvcore_macs"] == 5 * 1024 + 800
    assert "fvcore counts normalisation" in frame.loc["", "note"]
    assert "fvcore: no handler for aten::_native_multi_head_attention" in frame.loc["", "note"]
    assert frame.loc["linear1", "macs"] == 0
    assert "part of a fused call of a module above" in frame.loc["linear1", "note"]


def test_fused_attention_needs_the_same_tensor_thrice():
    tokens = torch.randn(1, 5, 16)
    row = root(flopscope.crosscheck(nn.MultiheadAttention(16, 2, batch_first=True), [tokens] * 3))
    assert row["macs"] == 5 * 4 * 256 + 800
    assert row["torch_macs"] == 0
    assert "torch counts 0 for the fused multi-head attention" in row["note"]


def test_without_data_torch_sees_into_attention():
    frame = flopscope.crosscheck(Attention(), (1, 2, 8, 16), device="meta")
    assert frame.attrs["device"] == "meta"
    assert (root(frame)["macs"], root(frame)["torch_macs"]) == (4096, 4096)


def test_model_built_without_data():
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)).to("meta")
    frame = flopscope.crosscheck(net, (1, 4))
    assert frame.attrs["device"] == "meta"
    assert list(frame["torch_macs"]) == [48, 32, 16]


def test_shared_module_and_list():
    frame = flopscope.crosscheck(Shared(), (2, 4)).set_index("path")
    assert frame.loc["first.0", ["macs", "fvcore_macs", "torch_macs"]].tolist() == [64, 64, 64]
    assert "appears under another parent in torch's table (second.0)" in frame.loc["first.0", "note"]
    assert frame.loc["rest", "macs"] == 32
    assert frame.loc["rest", ["fvcore_macs", "torch_macs"]].isna().all()
    assert "never runs itself" in frame.loc["rest", "note"]
    assert frame.loc["", "note"] == ""


def test_a_difference_that_no_rule_fits_is_called_unexplained(monkeypatch):
    handlers = importlib.import_module("fvcore.nn.flop_count")._DEFAULT_SUPPORTED_OPS
    monkeypatch.setitem(handlers, "aten::linear", lambda inputs, outputs: 1)
    row = root(flopscope.crosscheck(nn.Linear(4, 6), (1, 4)))
    assert (row["macs"], row["fvcore_macs"]) == (24, 1)
    assert row["note"] == "fvcore: 23 MACs fewer than ours, unexplained"


# --------------------------------------------------------------------------- keywords, dicts


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 6)

    def forward(self, *, x, double=True):
        return {"y": self.inner(x) * (2 if double else 1), "name": "y"}


def test_keyword_only_forward_and_dict_result():
    frame = flopscope.crosscheck(Named(), {"x": (3, 4)})
    assert frame.attrs["fvcore_error"] is None
    assert frame["fvcore_macs"].tolist() == [72, 72]


# --------------------------------------------------------------------------- fvcore's convention


@pytest.mark.parametrize(
    ("net", "shape", "beyond"),
    [
        # each: what fvcore charges beyond MACs, on 2 x 4 x 6 x 6 = 288 elements
        (nn.BatchNorm2d(4), (2, 4, 6, 6), 2 * 288),
        (nn.BatchNorm2d(4, affine=False), (2, 4, 6, 6), 288),
        (nn.LayerNorm(6), (2, 4, 6, 6), 5 * 288),
        (nn.LayerNorm(6, elementwise_affine=False), (2, 4, 6, 6), 4 * 288),
        (nn.GroupNorm(2, 4), (2, 4, 6, 6), 5 * 288),
        (nn.InstanceNorm2d(4), (2, 4, 6, 6), 4 * 288),
        (nn.AdaptiveAvgPool2d(1), (2, 4, 6, 6), 288),
        (nn.Upsample(scale_factor=2), (2, 4, 6, 6), 4 * 288),
        (nn.Upsample(scale_factor=2, mode="bilinear"), (2, 4, 6, 6), 4 * 4 * 288),
        (nn.MaxPool2d(2), (2, 4, 6, 6), 0),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Module) else "",
)
def test_fvcore_like_is_what_fvcore_says(net, shape, beyond):
    row = root(flopscope.crosscheck(net, shape))
    assert (row["macs"], row["fvcore_like"], row["fvcore_macs"]) == (0, beyond, beyond)
    assert row["note"].startswith("fvcore counts") == bool(beyond)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"])
def test_fvcore_like_equals_fvcore_on_torchvision(name):
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    frame = flopscope.crosscheck(getattr(models, name)(), (1, 3, 64, 64))
    assert frame.attrs["fvcore_error"] is None
    assert frame.loc[0, "fvcore_like"] > frame.loc[0, "macs"] > 0
    assert (frame["fvcore_like"] == frame["fvcore_macs"]).all()
    assert (frame["macs"] == frame["torch_macs"]).all()
    assert not frame["note"].str.contains(UNKNOWN).any()
    report = flopscope.count(getattr(models, name)(), (1, 3, 64, 64))
    assert report.conventions["fvcore_like"] == frame.loc[0, "fvcore_like"]


# --------------------------------------------------------------------------- peers that fail


@pytest.mark.parametrize(("module", "peer"), [("fvcore.nn", "fvcore"), ("torch.utils.flop_counter", "torch")])
def test_absent_peer(monkeypatch, module, peer):
    monkeypatch.setitem(sys.modules, module, None)
    frame = flopscope.crosscheck(nn.Linear(4, 6), (1, 4))
    assert frame.loc[0, f"{peer}_macs"] is pandas.NA
    assert "ModuleNotFoundError" in frame.attrs[f"{peer}_error"]
    other = {"fvcore": "torch", "torch": "fvcore"}[peer]
    assert frame.loc[0, f"{other}_macs"] == 24
    assert frame.attrs[f"{other}_error"] is None


def test_broken_peer(monkeypatch):
    class Broken(types.ModuleType):
        def __getattr__(self, name):
            raise ZeroDivisionError("built for another torch\nand more")

    monkeypatch.setitem(sys.modules, "fvcore.nn", Broken("fvcore.nn"))
    frame = flopscope.crosscheck(nn.Linear(4, 6), (1, 4))
    assert frame.loc[0, "fvcore_macs"] is pandas.NA
    assert frame.attrs["fvcore_error"] == "ZeroDivisionError: built for another torch"
    assert frame.loc[0, "note"] == ""


def test_model_that_defeats_fvcore():
    # fvcore's matmul asserts that both operands have two dimensions at least
    frame = flopscope.crosscheck(Wrapped(torch.matmul), [(4, 5), (5,)])
    assert frame.attrs["fvcore_error"] is not None
    assert frame.loc[0, "macs"] == 20
    assert frame.loc[0, "fvcore_macs"] is pandas.NA
    assert "torch: no formula for aten::mv" in frame.loc[0, "note"]


def test_model_that_cannot_be_copied():
    class Uncopied(nn.Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("not twice")

    frame = flopscope.crosscheck(Uncopied(4, 6), (1, 4))
    assert frame.loc[0, "macs"] == 24
    assert "not twice" in frame.attrs["fvcore_error"]
    assert "not twice" in frame.attrs["torch_error"]


def test_our_own_errors_are_raised():
    with pytest.raises(flopscope.FlopscopeError):
        flopscope.crosscheck(nn.Linear(4, 6), (1, 5))


# --------------------------------------------------------------------------- nothing is left behind


def observed(model):
    """All of a model that a peer might leave a mark on."""
    return {
        path: (
            module.training,
            sorted(module.__dict__),
            [len(value) for name, value in sorted(module.__dict__.items()) if name.endswith("_hooks")],
        )
        for path, module in model.named_modules()
    }


@pytest.mark.parametrize("fails", [False, True])
def test_model_is_untouched(fails):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())
    if fails:  # fvcore's tracer gives up on it, and leaves its hooks on the model that it was given
        net.append(Wrapped(lambda x: torch.matmul(x, torch.ones(x.shape[-1]))))
    net.train()
    net[1].eval()
    before, state = observed(net), copy.deepcopy(net.state_dict())
    torch.manual_seed(7)
    drawn = torch.get_rng_state()
    frame = flopscope.crosscheck(net, (2, 3, 8, 8))
    assert (frame.attrs["fvcore_error"] is not None) is fails
    assert torch.equal(torch.get_rng_state(), drawn)
    assert observed(net) == before
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert torch.is_grad_enabled()
