"""Recognition and layers on real networks, traced without data."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from flopscope.conventions import totals  # noqa: E402
from flopscope.costs import has_formula, price_all  # noqa: E402
from flopscope.layers import partition, total, tree  # noqa: E402
from flopscope.recognition import blocks, kinds  # noqa: E402
from flopscope.records import Block, Layer, Trace  # noqa: E402
from flopscope.tracing import trace  # noqa: E402


def _traced(model: nn.Module, *shape: int) -> Trace:
    return trace(model.to("meta"), (torch.empty(shape, device="meta"),), {}, keep=has_formula)


def _layers(model: nn.Module, *shape: int) -> tuple[Layer, ...]:
    run = _traced(model, *shape)
    known = kinds(run)
    costs = price_all(run.ops)
    found = partition(run, costs, kinds=known, blocks=blocks(run))
    whole, root = total(run, costs), tree(run, costs, kinds=known, layers=found)[0]
    for name in ("params", "macs", "flops", "bytes_read", "bytes_written"):
        assert sum(getattr(layer, name) for layer in found) == getattr(whole, name) == getattr(root, name)
    return found


def _timm(name: str, **settings: Any) -> nn.Module:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        return timm.create_model(name, **settings)


def _found(model: nn.Module, size: int = 224) -> Counter[tuple[str, str]]:
    found: tuple[Block, ...] = blocks(_traced(model, 1, 3, size, size))
    return Counter((block.kind, block.type) for block in found)


@pytest.mark.parametrize("form", ["split_cat", "slicing"])
def test_fasternet_has_13_pconvs_in_either_form(form) -> None:
    # FasterNet-T0 has 1 + 2 + 8 + 2 blocks (paper, table 1)
    model = _timm("fasternet_t0", pconv_fw_type=form)
    found = blocks(_traced(model, 1, 3, 224, 224))
    assert [(block.kind, block.inline) for block in found] == [("pconv", False)] * 13


def test_fasternet_t0_with_folded_norms() -> None:
    run = _traced(_timm("fasternet_t0"), 1, 3, 224, 224)
    assert totals(run, price_all(run.ops))["params_folded"] == 3_900_660


def test_resnet18_and_vgg16_as_repvgg_prints_them() -> None:
    resnet = _traced(_timm("resnet18"), 1, 3, 224, 224)
    counted = totals(resnet, price_all(resnet.ops))
    assert (counted["winograd_muls"], counted["params_folded"]) == (979_144_704, 11_684_712)
    vgg = _traced(_timm("vgg16"), 1, 3, 224, 224)
    assert totals(vgg, price_all(vgg.ops))["winograd_muls"] == 6_944_358_400


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("mobilenetv3_large_100", 8),
        ("tf_efficientnet_b0", 16),
        ("regnety_002", 13),
        ("seresnet50", 16),
        ("ghostnet_100", 7),
        ("ese_vovnet19b_dw", 0),  # one projection
        ("eca_resnet33ts", 0),  # a convolution over channels
        ("gcresnet33ts", 0),  # pools by attention
        ("resnest14d", 0),  # softmax over splits
        ("densenet121", 0),
        ("res2net50_26w_4s", 0),
    ],
)
def test_ses_of_timm(name, count) -> None:
    found = _found(_timm(name))
    assert found.total() == count
    assert all(kind == "se" for kind, _ in found)


@pytest.mark.parametrize(("name", "count"), [("mobilenet_v3_large", 8), ("efficientnet_b0", 16)])
def test_ses_of_torchvision(name, count) -> None:
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    with torch.device("meta"):
        model = getattr(models, name)()
    assert _found(model) == {("se", "SqueezeExcitation"): count}


class _Partial(nn.Module):
    """A user's own PConv: 3x3 on a quarter of the channels."""

    def __init__(self, channels: int, form: str) -> None:
        super().__init__()
        self.some = channels // 4
        self.form = form
        self.mix = nn.Conv2d(self.some, self.some, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        some = self.some
        if self.form == "narrow":
            return torch.cat((self.mix(x.narrow(1, 0, some)), x[:, some:]), dim=-3)
        if self.form == "chunk":
            first, *rest = x.chunk(4, 1)
            return torch.cat((self.mix(first), *rest), 1)
        if self.form == "split":
            first, last = torch.split(x, [some, x.shape[1] - some], 1)
            return torch.cat((self.mix(first), last), 1)
        if self.form == "clone":
            x = x.clone()
        x[:, :some, :, :] = self.mix(x[:, :some, :, :])
        return x


@pytest.mark.parametrize(
    ("form", "moved"),
    [
        # 4 * 3136 bytes a channel. Convolution: 16 in, 16 out, 9,216 bytes of weights = 410,624 bytes
        ("split", 410_624 + 2 * 64 * 12_544),  # cat reads 64 channels and writes 64: 2.02 MB
        ("narrow", 410_624 + 2 * 64 * 12_544),
        ("chunk", 410_624 + 2 * 64 * 12_544),
        ("clone", 410_624 + 2 * 64 * 12_544 + 2 * 16 * 12_544),  # clone, and 16 channels copied: 2.42 MB
        ("in place", 410_624 + 2 * 16 * 12_544),
    ],
)
def test_a_users_pconv_shows_executed_bytes_beside_the_published_ones(form, moved) -> None:
    first, second = _layers(nn.Sequential(nn.ReLU(), _Partial(64, form)), 1, 64, 56, 56)
    assert (first.kind, second.kind, second.path, second.type) == ("activation", "pconv", "1", "_Partial")
    assert second.bytes_read + second.bytes_written == moved
    assert second.formula_bytes == 410_624  # FasterNet eq. 5 with the weights: 0.41 MB
    assert second.detail == "3x3 16>16 of 64"


class _Gated(nn.Module):
    """A block that squeezes and excites in its own forward."""

    def __init__(self, *, functional: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.fc1 = nn.Linear(16, 4)
        self.fc2 = nn.Linear(4, 16)
        self.functional = functional

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        gate = F.adaptive_avg_pool2d(x, 1).flatten(1)
        if self.functional:
            gate = F.linear(F.relu(F.linear(gate, self.fc1.weight)), self.fc2.weight)
        else:
            gate = self.fc2(F.silu(self.fc1(gate)))
        return F.relu(x * torch.sigmoid(gate)[:, :, None, None])


@pytest.mark.parametrize("functional", [False, True])
def test_an_se_written_inline(functional) -> None:
    layers = _layers(nn.Sequential(_Gated(functional=functional)), 2, 3, 8, 8)
    kinds_by_row = {(layer.path, layer.type): layer.kind for layer in layers if layer.calls}
    assert kinds_by_row == {
        ("0.conv", "Conv2d"): "conv",
        ("0", "(se)"): "se",
        ("0", "(ops)"): "elementwise",
    }
    gated = next(layer for layer in layers if layer.kind == "se")
    assert gated.macs == 2 * 2 * 16 * 4  # two samples, two projections of 16 x 4
    assert gated.detail == "16>4>16"


def test_attention_in_each_of_its_forms() -> None:
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(8, 24)

        def forward(self, x: torch.Tensor, *, fused: bool = True) -> torch.Tensor:
            q, k, v = self.qkv(x).chunk(3, -1)
            if fused:
                return F.scaled_dot_product_attention(q, k, v)
            return (q @ k.transpose(-1, -2) / 8**0.5 + 1).softmax(-1) @ v

    class ByHand(Attend):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x, fused=False)

    for model in (Attend(), ByHand()):
        assert [layer.kind for layer in _layers(model, 2, 5, 8)] == ["linear", "attention"]
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert "attention" in {layer.kind for layer in _layers(encoder, 2, 5, 8)}
    (row,) = [layer for layer in _layers(nn.LSTM(8, 4), 5, 2, 8) if layer.calls]
    assert row.kind == "recurrent"


def test_a_vision_transformers_attention_is_its_containers() -> None:
    found = Counter(layer.kind for layer in _layers(_timm("vit_tiny_patch16_224"), 1, 3, 224, 224))
    assert (found["attention"], found["linear"], found["conv"]) == (12, 49, 1)
