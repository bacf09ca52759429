"""Rewrites that change the function: costs worked out by hand; the model and random numbers stay."""

from __future__ import annotations

import pytest
import torch
from rewriting import Free, state_hash, traced
from torch import nn

import flopscope
from flopscope import rewrites
from flopscope.errors import InputError
from flopscope.rewrites import Rewritten
from flopscope.zoo import build

IMAGE = torch.zeros(1, 8, 8, 8)


class SE(nn.Module):
    """8 > 2 > 8 on the global mean, by functional pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return x * gate


def block(stride: int = 1, *, gate: nn.Module | None = None) -> nn.Module:
    """1x1 4 > 8, BN, ReLU, depthwise 3x3, BN, SE, 1x1 8 > 4: called by attribute, added to its input."""

    def run(self: Free, x: torch.Tensor) -> torch.Tensor:
        y = self.dw_norm(self.dw(self.act(self.norm(self.expand(x)))))
        y = self.project(y if self.gate is None else self.gate(y))
        return x + y if stride == 1 else y

    made = Free(
        run, expand=nn.Conv2d(4, 8, 1, bias=False), norm=nn.BatchNorm2d(8), act=nn.ReLU(inplace=True),
        dw=nn.Conv2d(8, 8, 3, stride, 1, groups=8, bias=False), dw_norm=nn.BatchNorm2d(8),
        project=nn.Conv2d(8, 4, 1),
    )  # fmt: skip
    made.gate = gate
    return made.eval()


def done(name: str, model: nn.Module, x: torch.Tensor = IMAGE, text: str | None = None) -> Rewritten:
    """Rewrite; the model, torch's random numbers and the output's shape stay as they were."""
    before, state = state_hash(model), torch.random.get_rng_state()
    found = rewrites.find(name).apply(model, traced(model, x), text)
    assert state_hash(model) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.inference_mode():
        assert found.model(x.clone()).shape == model(x.clone()).shape
    assert not any(module.training for module in found.model.modules())
    return found


def macs(model: nn.Module, *shape: int) -> int:
    return int(flopscope.count(model, tuple(shape)).total.macs)


# ------------------------------------------------------------------------- dw-to-conv, dw-to-pconv


def test_a_depthwise_convolution_becomes_dense() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.Conv2d(8, 16, 5, padding=2, groups=8)).eval()
    found = done("dw-to-conv", model)
    assert found.changed == ("0", "1")
    # 4x4 outputs of stride 2: 3x3 x 8 x 8; then 5x5 x 8 x 16, a depth multiplier made dense too.
    assert macs(found.model, 1, 8, 8, 8) == 16 * (9 * 8 * 8 + 25 * 8 * 16)
    assert found.model[0].bias is not None


def test_a_depthwise_convolution_becomes_partial() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.Conv2d(8, 8, 3, 2, 1, groups=8)).eval()
    found = done("dw-to-pconv", model)
    assert found.changed == ("0",)
    assert "stride 2" in found.skipped[0]
    # 5x5 on the first 8 / 4 = 2 channels of 8x8, and the depthwise one that stays: 4x4 x 9 x 8.
    assert macs(found.model, 1, 8, 8, 8) == 64 * 25 * 2 * 2 + 16 * 9 * 8
    assert macs(done("dw-to-pconv", model, text="2").model, 1, 8, 8, 8) == 64 * 25 * 4 * 4 + 16 * 9 * 8
    kinds = [layer.kind for layer in flopscope.count(found.model, (1, 8, 8, 8)).layers]
    assert kinds[0] == "pconv"  # what it made is recognised as what it is


def test_the_channels_behind_the_first_pass_through() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8)).eval()
    found = done("dw-to-pconv", model)
    x = torch.randn(1, 8, 8, 8)
    assert torch.equal(found.model(x)[:, 2:], x[:, 2:])


@pytest.mark.parametrize("text", ["1", "0", "x", ""])
def test_a_wrong_divisor_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no number of at least 2"):
        done("dw-to-pconv", nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8)).eval(), text=text)


def test_weights_keep_dtype_and_layout_of_what_they_replace() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8)).double().eval()
    model.requires_grad_(False)
    found = done("dw-to-conv", model, IMAGE.double())
    weight = found.model[0].weight
    assert (weight.dtype, weight.requires_grad) == (torch.float64, False)


# ------------------------------------------------------------------------- drop-se


def test_a_gate_is_found_by_what_it_does() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 1), SE()).eval()
    found = done("drop-se", model)
    assert found.changed == ("1",)
    assert macs(found.model, 1, 8, 8, 8) == 64 * 8 * 8


def test_one_written_inline_is_left() -> None:
    def run(self: Free, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y * torch.sigmoid(self.up(self.down(y.mean((2, 3), keepdim=True))))

    model = Free(run, conv=nn.Conv2d(8, 8, 1), down=nn.Conv2d(8, 2, 1), up=nn.Conv2d(2, 8, 1)).eval()
    with pytest.raises(InputError, match="written in the forward of Free, without a module"):
        done("drop-se", model)


def test_a_multiplication_that_is_no_gate_is_left() -> None:
    model = Free(lambda self, x: x * self.conv(x), conv=nn.Conv2d(8, 8, 1)).eval()
    with pytest.raises(InputError, match="has no squeeze-and-excitation"):
        done("drop-se", model)


# ------------------------------------------------------------------------- mbconv-to-fused


def test_expansion_and_depthwise_become_one_convolution() -> None:
    x = torch.zeros(1, 4, 8, 8)
    found = done("mbconv-to-fused", nn.Sequential(block(gate=SE()), block(2)).eval(), x)
    assert found.changed == ("0.dw", "1.dw")
    # 3x3 4 > 8 and 1x1 8 > 4 on 8x8, then the same on 4x4; no SE.
    assert macs(found.model, 1, 4, 8, 8) == (64 + 16) * (9 * 4 * 8 + 8 * 4)


def test_stages_are_chosen_by_path() -> None:
    x, model = torch.zeros(1, 4, 8, 8), nn.Sequential(block(), block()).eval()
    found = done("mbconv-to-fused", model, x, "1")
    assert found.changed == ("1.dw",)
    # The first one stays: 1x1 4 > 8, depthwise, 1x1 8 > 4.
    assert macs(found.model, 1, 4, 8, 8) == 64 * (4 * 8 + 9 * 8 + 8 * 4) + 64 * (9 * 4 * 8 + 8 * 4)
    with pytest.raises(InputError, match="no MBConv stands below '2'") as refused:
        done("mbconv-to-fused", model, x, "2")
    assert "0.dw, 1.dw" in refused.value.hint


def test_an_expansion_that_is_read_elsewhere_is_left() -> None:
    def run(self: Free, x: torch.Tensor) -> torch.Tensor:
        y = self.expand(x)
        return self.project(self.dw(y) + y)

    model = Free(
        run, expand=nn.Conv2d(4, 8, 1), dw=nn.Conv2d(8, 8, 3, padding=1, groups=8), project=nn.Conv2d(8, 4, 1)
    ).eval()
    with pytest.raises(InputError, match="others read it too"):
        done("mbconv-to-fused", model, torch.zeros(1, 4, 8, 8))


def test_an_activation_in_the_forward_is_no_module() -> None:
    def run(self: Free, x: torch.Tensor) -> torch.Tensor:
        return self.project(self.dw(torch.relu(self.expand(x))))

    model = nn.Sequential(
        Free(run, expand=nn.Conv2d(4, 8, 1), dw=nn.Conv2d(8, 8, 3, padding=1, groups=8),
             project=nn.Conv2d(8, 4, 1))
    ).eval()  # fmt: skip
    with pytest.raises(InputError, match="are in the forward of Free"):
        done("mbconv-to-fused", model, torch.zeros(1, 4, 8, 8))


def wide(run: object, **modules: nn.Module) -> nn.Module:
    """An expansion 4 > 8, a depthwise 3x3 and a projection 8 > 4, called as `run` says."""
    depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    known = {"expand": nn.Conv2d(4, 8, 1), "dw": depthwise, "project": nn.Conv2d(8, 4, 1)}
    return nn.Sequential(Free(run, **{**known, **modules})).eval()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (wide(lambda self, x: self.project(self.act(self.dw(self.act(self.expand(x))))), act=nn.ReLU()),
         "0.act is called more than once"),
        (wide(lambda self, x: self.project(self.dw(self.expand(x)) + self.other(x)),
              other=nn.Conv2d(4, 8, 1)),
         "no 1x1 that narrows alone reads"),
        (wide(lambda self, x: self.project(self.dw(self.expand(x))), project=nn.Conv2d(8, 16, 1)),
         "no 1x1 that narrows alone reads"),
    ],
    ids=["shared activation", "sum behind the depthwise", "no projection"],
)  # fmt: skip
def test_what_is_no_mbconv_is_left(model: nn.Module, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        done("mbconv-to-fused", model, torch.zeros(1, 4, 8, 8))


def test_the_memory_format_is_kept_where_only_its_strides_tell() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)).eval()
    model = model.to(memory_format=torch.channels_last)
    weight = done("dw-to-conv", model).model[1].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


# ------------------------------------------------------------------------- real networks


def sources() -> list[str]:
    return [f"{place}_b0" for place in ("zoo:efficientnet", "torchvision:efficientnet", "timm:efficientnet",
                                        "timm:tf_efficientnet")]  # fmt: skip


@pytest.mark.parametrize("address", sources())
def test_one_network_in_four_spellings_is_rewritten_alike(address: str) -> None:
    library = address.partition(":")[0]
    if library != "zoo":
        pytest.importorskip(library, reason=f"{library} is absent")
    model = flopscope.load_model(address).eval()
    image = torch.zeros(1, 3, 224, 224)
    # The blocks of EfficientNet-B0 (arXiv 1905.11946, Table 1): input width, expanded width, map after it.
    widths = [32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192]
    expanded = [32, *(6 * width for width in widths[1:])]
    kernels = [3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3]
    sides = [112, 56, 56, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7, 7, 7, 7]
    before = [112, 112, 56, 56, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7, 7, 7]
    gates = sum(2 * e * max(1, c // 4) for c, e in zip(widths, expanded, strict=True))
    total = 385_814_752
    assert macs(done("drop-se", model, image).model, 1, 3, 224, 224) == total - gates
    dense = sum(s * s * k * k * e * (e - 1) for s, k, e in zip(sides, kernels, expanded, strict=True))
    assert macs(done("dw-to-conv", model, image).model, 1, 3, 224, 224) == total + dense
    fused = done("mbconv-to-fused", model, image)
    assert len(fused.changed) == 15  # the first block has no expansion
    change = -gates + 2 * 32 * 8  # its SE, 32 > 8 > 32, stays
    for c, e, k, s, b in zip(widths[1:], expanded[1:], kernels[1:], sides[1:], before[1:], strict=True):
        change += s * s * k * k * e * (c - 1) - b * b * c * e
    assert macs(fused.model, 1, 3, 224, 224) == total + change


def test_mobilenet_v3_with_partial_convolutions() -> None:
    found = done("dw-to-pconv", build("mobilenetv3_large").eval(), torch.zeros(1, 3, 64, 64))
    assert len(found.changed) == 11  # 15 blocks, of which 4 have stride 2
    assert len(found.skipped) == 4


def test_a_model_in_training_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8)).eval()
    trace = traced(model, IMAGE)
    with pytest.raises(InputError, match="training mode"):
        rewrites.find("dw-to-conv").apply(model.train(), trace, None)
