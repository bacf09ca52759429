"""Stacks of one operator: exact MACs worked out by hand, maps, inferred inputs, addresses, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flopscope
from flopscope import zoo
from flopscope.errors import InputError, ModelLoadError
from flopscope.zoo.operators import OperatorStack, operator_kind

MAPS = ((96, 56), (192, 28), (384, 14), (768, 7))  # FasterNet, Table 1: c h is the same in all


def macs(kind, **options):
    """MACs of a stack, counted with the input that is inferred for it."""
    report = flopscope.count(zoo.operator(kind, **options), progress=False)
    assert not report.uncosted
    return report.total.macs


# --------------------------------------------------------------------------- FasterNet, Table 1


@pytest.mark.parametrize(("channels", "size"), MAPS)
@pytest.mark.parametrize(
    ("kind", "options", "whole"),
    [
        ("conv", {}, 2_601_123_840),  # 10 · 56² · 9 · 96²; printed 2601 M
        ("gconv", {}, 162_570_240),  # the same / 16; printed 162 M
        ("pconv", {}, 162_570_240),  # a quarter of the channels, squared: / 16
        ("pconv", {"form": "slicing"}, 162_570_240),
        ("pconv", {"form": "in_place"}, 162_570_240),
        ("pconv-pwconv", {}, 451_584_000),  # 10 · 56² · (9 · 24² + 96²); issue #1 prints 451 M
    ],
)
def test_equal_macs_on_all_four_maps(kind, options, whole, channels, size):
    assert macs(kind, channels=channels, size=size, **options) == whole


@pytest.mark.parametrize(
    ("channels", "size", "whole"),
    [
        (96, 56, 27_095_040),  # 10 · 56² · 9 · 96
        (192, 28, 13_547_520),  # 10 · 28² · 9 · 192
        (384, 14, 6_773_760),
        (768, 7, 3_386_880),
    ],
)
def test_depthwise_macs_halve_from_map_to_map(channels, size, whole):
    assert macs("dwconv", channels=channels, size=size) == whole


def test_the_arithmetic_of_table_1():
    assert 10 * 56 * 56 * 9 * 96 * 96 == 2_601_123_840
    assert 10 * 56 * 56 * 9 * 96 * (96 // 16) == 10 * 56 * 56 * 9 * 24 * 24 == 162_570_240
    assert 10 * 56 * 56 * (9 * 24 * 24 + 96 * 96) == 451_584_000


def test_a_widened_depthwise_conv_works_on_widened_maps():
    stack = zoo.operator("dwconv", channels=96, size=56, expansion=6, kernel=5)
    assert stack.flopscope_input_shape == (1, 576, 56, 56)  # c' = 6 · 96
    assert macs("dwconv", channels=96, size=56, expansion=6, kernel=5) == 10 * 56**2 * 25 * 576


# --------------------------------------------------------------------------- every kind, by its formula

# kind, options, MACs of one layer on 48 channels at 12 x 12
HW, C = 12 * 12, 48
FORMULAS = [
    ("conv", {"kernel": 1}, HW * C * C),
    ("conv", {"kernel": 7}, HW * 49 * C * C),
    ("gconv", {"groups": 8, "kernel": 5}, HW * 25 * C * C // 8),
    ("pconv", {"divisor": 2}, HW * 9 * 24 * 24),
    ("pconv", {"divisor": 1}, HW * 9 * C * C),
    ("t-conv", {}, HW * (9 * 12 * C + C * (C - 12))),  # eq. 6, c_p = 12
    ("t-conv", {"divisor": 2, "kernel": 5}, HW * (25 * 24 * C + C * 24)),
    ("pconv-pwconv", {}, HW * (9 * 12 * 12 + C * C)),  # eq. 7
    ("pconv-pwconv", {"form": "slicing", "divisor": 3}, HW * (9 * 16 * 16 + C * C)),
    ("dwconv-pwconv", {}, HW * (9 * C + C * C)),
    ("gconv-pwconv", {}, HW * (9 * C * (C // 16) + C * C)),
    ("mbconv", {}, HW * (2 * C * 192 + 9 * 192) + 2 * 192 * 12),  # SE on one pixel: 192 -> 12 -> 192
    ("mbconv", {"se": False, "expansion": 6, "kernel": 5}, HW * (2 * C * 288 + 25 * 288)),
    ("mbconv", {"se": False, "expansion": 1}, HW * (9 * C + C * C)),  # no first 1x1
    ("fused-mbconv", {}, HW * (9 * C * 192 + 192 * C)),
    ("fused-mbconv", {"expansion": 1}, HW * 9 * C * C),  # no last 1x1
    ("fused-mbconv", {"se": True}, HW * (9 * C * 192 + 192 * C) + 2 * 192 * 12),
    ("bottleneck", {}, HW * (2 * C * 12 + 9 * 12 * 12)),
    ("bottleneck", {"ratio": 2, "relu": False, "shortcut": False}, HW * (2 * C * 24 + 9 * 24 * 24)),
    ("fragments", {}, HW * C * C),
    ("fragments", {"count": 4}, HW * 4 * 24 * 24),  # 48 / √4
    ("fragments", {"count": 4, "parallel": True}, HW * 4 * 24 * 24),
    ("fragments", {"count": 2, "parallel": True}, HW * 2 * 34 * 34),  # 48 / √2 = 33.94
    ("fragments", {"count": 2, "width": 32}, HW * 2 * 32 * 32),
    ("pw-pair", {}, HW * 2 * C * C),
    ("pw-pair", {"ratio": 4}, HW * 2 * 24 * 96),
    ("pw-pair", {"c1": 20, "ratio": 3}, HW * 2 * 20 * 60),
    ("pw-pair", {"c1": 20, "c2": 30}, HW * 2 * 20 * 30),
    ("pw-group", {}, HW * C * C),
    ("pw-group", {"groups": 8}, HW * C * C // 8),
]


@pytest.mark.parametrize(("kind", "options", "each"), FORMULAS)
def test_macs_and_maps_of_every_kind(kind, options, each):
    assert macs(kind, channels=C, size=12, layers=3, batch=2, **options) == 2 * 3 * each
    stack = zoo.operator(kind, channels=C, size=12, layers=3, batch=2, **options).eval()
    assert isinstance(stack, OperatorStack)
    assert len(stack) == 3
    x = torch.randn(stack.flopscope_input_shape)
    with torch.inference_mode():
        y = stack(x.clone())
    assert y.shape == x.shape
    assert 0.01 < float(y.std()) < 100  # no drift towards denormal numbers or infinity


def test_every_kind_is_tested_above():
    kinds = zoo.operator_kinds()
    tested = {kind for kind, _, _ in FORMULAS} | {"dwconv"}
    assert set(kinds) == tested
    assert len(kinds) == 14
    for name, entry in kinds.items():
        assert entry.name == name
        assert entry.description.endswith(".")
        assert "arXiv" in entry.source


def test_no_biases_or_norms_but_in_the_blocks_that_have_them():
    for kind in zoo.operator_kinds():
        modules = list(zoo.operator(kind, channels=32, layers=1).modules())
        has_norm = any(isinstance(module, nn.BatchNorm2d) for module in modules)
        assert has_norm == (kind in ("mbconv", "fused-mbconv"))
        biased = [module for module in modules if getattr(module, "bias", None) is not None]
        assert kind in ("mbconv", "fused-mbconv") or not biased


def test_a_t_shaped_conv_is_the_conv_whose_kernel_has_the_shape_of_a_t():
    (layer,) = zoo.operator("t-conv", channels=8, layers=1)
    whole = nn.Conv2d(8, 8, 3, padding=1, bias=False)
    with torch.inference_mode():
        whole.weight.zero_()
        whole.weight[:, :2] = layer.conv.weight
        whole.weight[:, 2:, 1:2, 1:2] = layer.pointwise.weight
        x = torch.randn(2, 8, 9, 9)
        torch.testing.assert_close(layer(x), whole(x))


def test_a_stack_of_pconvs_is_recognised_and_in_place_keeps_its_values():
    report = flopscope.count(zoo.operator("pconv", layers=2), progress=False)
    assert [layer.kind for layer in report.layers] == ["pconv", "pconv"]
    stack = zoo.operator("pconv", form="in_place", channels=8, size=6)
    x = torch.randn(1, 8, 6, 6)
    with torch.inference_mode():
        torch.testing.assert_close(stack(x.clone()), x)


@pytest.mark.parametrize(("relu", "count"), [(True, 3), (False, 0)])
def test_a_bottleneck_runs_the_relus_and_the_addition_that_it_says(relu, count):
    (layer,) = zoo.operator("bottleneck", channels=8, layers=1, relu=relu)
    x = torch.randn(1, 8, 5, 5)
    with torch.inference_mode():
        y = layer(x)
        act = torch.relu if relu else (lambda value: value)
        inner = layer.expand(act(layer.conv(act(layer.reduce(x)))))
        torch.testing.assert_close(y, act(x + inner))
    report = flopscope.count(zoo.operator("bottleneck", channels=8, layers=1, relu=relu), progress=False)
    calls = sum(layer.calls for layer in report.layers if layer.type == "ReLU")
    assert calls == count


# --------------------------------------------------------------------------- ShuffleNetV2


@pytest.mark.parametrize(
    ("ratio", "c1", "c2"), [(1, 128, 128), (2, 90, 180), (6, 52, 312), (12, 36, 432)]
)  # fmt: skip
def test_pairs_of_table_1(ratio, c1, c2):
    stack = zoo.operator("pw-pair", channels=128, ratio=ratio, layers=1)
    assert [(conv.in_channels, conv.out_channels) for conv in stack[0]] == [(c1, c2), (c2, c1)]
    # one 1x1 at 56 x 56: 51,380,224 for (128, 128); the others within 6 %
    assert macs("pw-pair", channels=128, ratio=ratio) == 10 * 2 * 56 * 56 * c1 * c2
    assert 0.94 * 128**2 < c1 * c2 <= 128**2


@pytest.mark.parametrize(
    ("groups", "channels", "each"),
    [(1, 128, 51_380_224), (2, 180, 50_803_200), (4, 256, 51_380_224), (8, 360, 50_803_200)],
)  # 56² · c² / g
def test_groups_of_table_2(groups, channels, each):
    assert macs("pw-group", channels=channels, groups=groups) == 10 * each


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_fragments_of_table_3_have_equal_macs(count, parallel):
    one = 10 * 56 * 56 * 128 * 128
    assert macs("fragments", channels=128, count=count, parallel=parallel) == pytest.approx(one, rel=0.015)


def test_parallel_fragments_see_the_same_input():
    (layer,) = zoo.operator("fragments", channels=8, count=4, parallel=True, layers=1)
    x = torch.randn(1, 4, 5, 5)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), sum(branch(x) for branch in layer.branches))


# --------------------------------------------------------------------------- inputs, addresses


def test_the_input_is_inferred_as_it_was_asked_for():
    report = flopscope.count(zoo.operator("pconv", channels=32, size=20, batch=3, layers=1), progress=False)
    assert report.layers[0].input_shape == (3, 32, 20, 20)
    assert zoo.operator("conv")[:2].flopscope_input_shape is None  # a part states none


def test_a_stack_by_its_address():
    model = flopscope.load_model("op:pconv?channels=64&size=56")
    assert isinstance(model, OperatorStack)
    assert flopscope.count(model, progress=False).total.macs == 10 * 56 * 56 * 9 * 16 * 16
    report = flopscope.count(
        flopscope.load_model("op:mbconv?channels=16&size=8&layers=2&se=false"), progress=False
    )
    assert report.total.macs == 2 * 64 * (2 * 16 * 64 + 9 * 64)
    one = flopscope.count(flopscope.load_model("op:conv?size=8"), (5, 64, 8, 8), progress=False)
    assert one.layers[0].input_shape == (5, 64, 8, 8)  # a given input is used


# --------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("kind", "options", "message", "hint"),
    [
        ("pconv", {"groups": 2}, "op:pconv has no option 'groups'", "layers, batch, divisor, form"),
        ("conv", {"kernal": 3}, "op:conv has no option 'kernal'", "kernel"),
        ("conv", {"kernel": 4}, "kernel=4 is even", "3"),
        ("mbconv", {"kernel": 2}, "kernel=2 is even", "3"),
        ("fused-mbconv", {"kernel": 2}, "kernel=2 is even", "3"),
        ("conv", {"channels": 0}, "channels=0; channels is a whole number of at least 1", "channels=1"),
        ("conv", {"size": -7}, "size=-7", "size"),
        ("conv", {"layers": 2.5}, "layers=2.5", "layers"),
        ("conv", {"batch": True}, "batch=True", "batch"),
        ("conv", {"kernel": "3x3"}, "kernel='3x3'; kernel is a whole number", "kernel=3"),
        ("gconv", {"channels": 60}, "60 channels cannot be divided by groups=16", "multiple of 16"),
        ("pw-group", {"channels": 10, "groups": 4}, "10 channels cannot be divided by groups=4", "groups"),
        ("pconv", {"channels": 30}, "30 channels cannot be divided by divisor=4", "divisor"),
        ("t-conv", {"channels": 30}, "30 channels cannot be divided by divisor=4", "divisor"),
        ("t-conv", {"divisor": 1}, "divisor=1 leaves no channels", "op:conv"),
        ("bottleneck", {"channels": 30}, "30 channels cannot be divided by ratio=4", "ratio"),
        ("pconv", {"form": "magic"}, "no form 'magic'", "split_cat"),
        ("pconv", {"form": 3}, "form=3; form is a word", "form"),
        ("mbconv", {"se": 0}, "se=0; se is true or false", "se=True"),
        ("pw-pair", {"c2": 8}, "c2=8 was given without c1", "c1"),
        ("pw-pair", {"c1": 0}, "c1=0; c1 is a whole number", "c1"),
        ("fragments", {"width": 0}, "width=0", "width"),
        ("conv", {"kind": "conv"}, "no option 'kind'", "kernel"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(kind, options, message, hint):
    with pytest.raises(InputError) as caught:
        zoo.operator(kind, **options)
    assert message in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(("name", "near"), [("pcnv", "did you mean pconv"), ("zzz", "there are conv, gconv")])
def test_an_unknown_kind(name, near):
    with pytest.raises(ModelLoadError, match=f"no operator '{name}'") as caught:
        flopscope.load_model(f"op:{name}")
    assert near in caught.value.hint
    assert "pw-group" in caught.value.hint


def test_refusals_pass_through_an_address():
    with pytest.raises(InputError, match="cannot be divided"):
        flopscope.load_model("op:gconv?channels=10")


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match=r"'conv' is already that of flopscope\.zoo\.operator_blocks\.conv"):
        operator_kind("conv", source="nowhere")(lambda channels: nn.Identity())
