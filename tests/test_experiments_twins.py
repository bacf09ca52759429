"""Tiny twins and geometry: shapes worked out by hand, and the backend that torch selects for them."""

from __future__ import annotations

from typing import Any

import opcalls
import pytest
import torch

from flopscope.convolutions import convolution_macs, is_channels_last
from flopscope.experiments import convolution_of
from flopscope.experiments.backends import backend_of
from flopscope.experiments.bench import quiet
from flopscope.experiments.geometry import contraction_macs, in_channels_last, packed
from flopscope.experiments.hot import twin_of
from flopscope.experiments.twins import tiny_twins
from flopscope.experiments.values import Values
from flopscope.records import Convolution, OpCall, Shape, TensorSpec

tensor = opcalls.tensor
NHWC = (56 * 56 * 64, 1, 56 * 64, 64)  # strides of 64 channels of 56 x 56


def convolution(source: TensorSpec, weight: TensorSpec, out: Shape, **settings: Any) -> OpCall:
    defaults: dict[str, Any] = {"transposed": False, "groups": 1}
    return opcalls.call(
        "aten::convolution", tensor(*out), input=source, weight=weight, **{**defaults, **settings}
    )


def shapes(call: OpCall | None) -> list[Shape] | None:
    return None if call is None else [spec.shape for spec in call.inputs]


def first_twin(call: OpCall) -> OpCall | None:
    return next(tiny_twins(call), None)


DEPTHWISE = convolution(
    tensor(2, 64, 56, 56), tensor(64, 1, 3, 3), (2, 64, 28, 28), stride=(2, 2), padding=(1, 1), groups=64
)


def test_the_geometry_of_a_strided_depthwise_convolution() -> None:
    found = convolution_of(DEPTHWISE)
    assert found == Convolution(
        batch=2,
        in_channels=64,
        out_channels=64,
        groups=64,
        input_size=(56, 56),
        output_size=(28, 28),
        kernel=(3, 3),
        stride=(2, 2),
        padding=(1, 1),
        dilation=(1, 1),
        dtype="float32",
    )
    assert convolution_macs(found) == 2 * 64 * 28 * 28 * 1 * 9 == contraction_macs(DEPTHWISE)


def test_the_geometry_of_a_transposed_convolution() -> None:
    call = convolution(
        tensor(1, 8, 5, 5),
        tensor(8, 3, 2, 2),
        (1, 6, 10, 10),
        bias=tensor(6),
        stride=2,
        groups=2,
        transposed=True,
    )
    found = convolution_of(call)
    assert found is not None
    assert (found.in_channels, found.out_channels, found.stride, found.bias) == (8, 6, (2, 2), True)
    assert found.transposed
    # each of 8·5·5 inputs meets 6/2 outputs through 2·2 taps
    assert convolution_macs(found) == 8 * 25 * 3 * 4


def test_one_dimension_without_a_batch() -> None:
    call = convolution(tensor(4, 20), tensor(6, 4, 5), (6, 16), stride=(1,), padding=0)
    found = convolution_of(call)
    assert found is not None
    assert (found.batch, found.in_channels, found.input_size, found.kernel) == (1, 4, (20,), (5,))
    assert convolution_macs(found) == 6 * 16 * 4 * 5


@pytest.mark.parametrize("name", ["_convolution", "mkldnn_convolution"])
def test_other_names_of_convolutions(name: str) -> None:
    key = "self" if name.startswith("mkldnn") else "input"
    arguments = {key: tensor(1, 4, 6, 6), "weight": tensor(4, 4, 3, 3), "padding": (1, 1)}
    found = convolution_of(opcalls.call(f"aten::{name}", tensor(1, 4, 6, 6), **arguments))
    assert found is not None
    assert (found.groups, found.padding, found.output_size) == (1, (1, 1), (6, 6))


def test_only_convolutions_have_a_geometry() -> None:
    assert convolution_of(opcalls.call("aten::relu", tensor(1, 4, 6, 6), self=tensor(1, 4, 6, 6))) is None


def test_multiply_adds_of_products() -> None:
    linear = opcalls.call("aten::linear", tensor(2, 5, 7), input=tensor(2, 5, 3), weight=tensor(7, 3))
    assert contraction_macs(linear) == 2 * 5 * 7 * 3
    addmm = opcalls.call("aten::addmm", tensor(4, 6), self=tensor(6), mat1=tensor(4, 5), mat2=tensor(5, 6))
    assert contraction_macs(addmm) == 4 * 6 * 5
    assert contraction_macs(opcalls.call("aten::relu", tensor(3), self=tensor(3))) is None


@pytest.mark.parametrize(
    "shape", [(2, 8, 5, 5), (1, 8, 1, 1), (2, 1, 5, 5), (1, 1, 1, 1), (3, 4, 1, 7), (2, 3, 4, 5, 6)]
)
@pytest.mark.parametrize("last", [False, True])
def test_channels_last_is_what_torch_calls_so(shape: Shape, last: bool) -> None:
    wanted = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    made = torch.empty(shape).to(memory_format=wanted if last else torch.contiguous_format)
    spec = tensor(*shape, strides=made.stride())
    assert is_channels_last(spec) == (torch._prims_common.suggest_memory_format(made) is wanted)


def test_packing_keeps_the_nesting_of_dimensions() -> None:
    assert packed(tensor(2, 64, 56, 56, strides=NHWC), (1, 64, 1, 1)).strides == (64, 1, 64, 64)
    assert packed(tensor(2, 64, 56, 56), (1, 64, 1, 1)).strides == (64, 1, 1, 1)
    assert packed(tensor(30, 20, strides=(1, 30)), (16, 8)).strides == (1, 16)
    assert in_channels_last(tensor(2, 3, 4, 5)).strides == (60, 1, 15, 3)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        # 3x3, padding 1: one pixel has one window
        (DEPTHWISE, [(1, 64, 1, 1), (64, 1, 3, 3)]),
        # 5x5 without padding: five pixels have one window
        (convolution(tensor(4, 8, 20, 20), tensor(8, 8, 5, 5), (4, 8, 16, 16)), [(1, 8, 5, 5), (8, 8, 5, 5)]),
        # dilation 2: 3 taps reach over 5 pixels, less 2 of padding
        (
            convolution(
                tensor(4, 8, 20, 20), tensor(8, 8, 3, 3), (4, 8, 18, 18), dilation=(2, 2), padding=(1, 1)
            ),
            [(1, 8, 3, 3), (8, 8, 3, 3)],
        ),
        # transposed: one pixel gives 1 - 0 + 2 = 2
        (
            convolution(
                tensor(4, 8, 5, 5),
                tensor(8, 3, 2, 2),
                (4, 6, 10, 10),
                stride=(2, 2),
                groups=2,
                transposed=True,
                bias=tensor(6),
            ),
            [(1, 8, 1, 1), (8, 3, 2, 2), (6,)],
        ),
        # transposed, 3 taps, padding 2: one pixel would give 3 - 4 = -1, three give 2·1 + 3 - 4 = 1
        (
            convolution(
                tensor(1, 8, 9, 9), tensor(8, 8, 3, 3), (1, 8, 7, 7), padding=(2, 2), transposed=True
            ),
            [(1, 8, 3, 3), (8, 8, 3, 3)],
        ),
    ],
)
def test_twins_of_convolutions(call: OpCall, expected: list[Shape]) -> None:
    twin = first_twin(call)
    assert shapes(twin) == expected
    with quiet():
        assert twin_of(call, Values(), backend_of(call)) is not None


CHANNEL = tensor(64)
IMAGE = tensor(8, 64, 56, 56)
TWINS = {
    "pointwise": (
        opcalls.call("aten::add", IMAGE, self=IMAGE, other=tensor(64, 1, 1), tags=["pointwise"]),
        [(1, 1, 1, 1), (1, 1, 1)],
    ),
    "reduction": (
        opcalls.call("aten::mean", self=IMAGE, dim=(2, 3), keepdim=True, tags=["reduction"]),
        [(1, 1, 1, 1)],
    ),
    "batch norm": (
        opcalls.call(
            "aten::batch_norm",
            input=IMAGE,
            weight=CHANNEL,
            bias=CHANNEL,
            running_mean=CHANNEL,
            running_var=CHANNEL,
            training=False,
            momentum=0.1,
            eps=1e-5,
            cudnn_enabled=False,
        ),
        [(1, 64, 1, 1), (64,), (64,), (64,), (64,)],
    ),
    "layer norm": (
        opcalls.call(
            "aten::layer_norm",
            input=tensor(4, 9, 32),
            normalized_shape=(32,),
            weight=tensor(32),
            bias=tensor(32),
        ),
        [(1, 1, 32), (32,), (32,)],
    ),
    "group norm": (
        opcalls.call("aten::group_norm", input=IMAGE, num_groups=8, weight=CHANNEL, bias=tensor(64)),
        [(1, 64, 1, 1), (64,), (64,)],
    ),
    # 3x3 windows, padding 1: one pixel; 2x2 without: two
    "max pool": (
        opcalls.call("aten::max_pool2d", self=IMAGE, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1)),
        [(1, 64, 1, 1)],
    ),
    "average pool": (opcalls.call("aten::avg_pool2d", self=IMAGE, kernel_size=(2, 2)), [(1, 64, 2, 2)]),
    "adaptive pool": (
        opcalls.call("aten::adaptive_avg_pool2d", self=IMAGE, output_size=(7, 7)),
        [(1, 64, 7, 7)],
    ),
    "linear": (
        opcalls.call("aten::linear", input=tensor(4, 9, 100), weight=tensor(50, 100), bias=tensor(50)),
        [(1, 1, 16), (16, 16), (16,)],
    ),
    "narrow linear": (
        opcalls.call("aten::linear", input=tensor(9, 3), weight=tensor(5, 3)),
        [(1, 3), (5, 3)],
    ),
    "bmm": (
        opcalls.call("aten::bmm", self=tensor(8, 30, 64), mat2=tensor(8, 64, 30)),
        [(1, 1, 16), (1, 16, 16)],
    ),
    "addmm": (
        opcalls.call("aten::addmm", self=tensor(20), mat1=tensor(30, 40), mat2=tensor(40, 20)),
        [(16,), (1, 16), (16, 16)],
    ),
    "attention": (
        opcalls.call(
            "aten::scaled_dot_product_attention",
            query=tensor(2, 4, 10, 8),
            key=tensor(2, 4, 12, 8),
            value=tensor(2, 4, 12, 8),
            attn_mask=tensor(2, 1, 10, 12),
        ),
        [(1, 1, 1, 8), (1, 1, 1, 8), (1, 1, 1, 8), (1, 1, 1, 1)],
    ),
    "cat": (
        opcalls.call("aten::cat", tensors=[tensor(2, 3, 4), tensor(2, 5, 4)], dim=1),
        [(1, 1, 1), (1, 1, 1)],
    ),
    "embedding": (
        opcalls.call("aten::embedding", weight=tensor(1000, 32), indices=tensor(4, 9, dtype="int64")),
        [(1, 32), (1, 1)],
    ),
    "upsampling": (
        opcalls.call(
            "aten::upsample_bilinear2d", self=tensor(2, 8, 7, 7), output_size=(14, 14), align_corners=False
        ),
        [(1, 8, 1, 1)],
    ),
    "lstm": (
        opcalls.call(
            "aten::lstm",
            input=tensor(9, 4, 6),
            hx=[tensor(1, 4, 3), tensor(1, 4, 3)],
            params=[tensor(12, 6), tensor(12, 3)],
            has_biases=False,
            num_layers=1,
            dropout=0.0,
            train=False,
            bidirectional=False,
            batch_first=False,
        ),
        [(1, 1, 6), (1, 1, 3), (1, 1, 3), (12, 6), (12, 3)],
    ),
    # a transposed matrix of two by two still has to be copied
    "copy": (opcalls.call("aten::contiguous", self=tensor(6, 5, strides=(1, 6))), [(2, 2)]),
    "reshape": (
        opcalls.call("aten::reshape", self=tensor(6, 5, strides=(1, 6)), shape=(30,)),
        [(2, 2)],
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_twins_of_other_operators(name: str) -> None:
    call, expected = TWINS[name]
    assert shapes(first_twin(call)) == expected
    with quiet():
        assert twin_of(call, Values(), None) is not None  # and torch takes them


@pytest.mark.parametrize(
    "call",
    [
        opcalls.call("aten::gather", self=IMAGE, dim=1, index=tensor(8, 64, 56, 56, dtype="int64")),
        opcalls.call("aten::pad", self=IMAGE, pad=(1, 1), mode="reflect"),
        opcalls.call("aten::arange", end=7),
        opcalls.call("aten::reshape", self=tensor(6, 5), shape=(30,)),  # its twin would copy nothing
    ],
)
def test_no_twin_is_guessed(call: OpCall) -> None:
    with quiet():
        assert twin_of(call, Values(), None) is None


def test_the_twin_keeps_backend_and_layout() -> None:
    """Without groups torch leaves one small image to its own kernel: two stay with oneDNN."""
    dense = convolution(tensor(1, 64, 56, 56), tensor(64, 64, 3, 3), (1, 64, 56, 56), padding=(1, 1))
    batches = [twin.inputs[0].shape[0] for twin in tiny_twins(dense)]
    assert batches == [1, 2, 16]
    with quiet():
        for call in (dense, DEPTHWISE):
            backend = backend_of(call)
            twin = twin_of(call, Values(), backend)
            assert twin is not None
            assert twin.tensors[0].shape[1:] == (64, 1, 1)
            batch = twin.tensors[0].shape[0]
            chosen = next(item for item in tiny_twins(call) if item.inputs[0].shape[0] == batch)
            assert backend_of(chosen) == backend
    image = tensor(1, 64, 56, 56, strides=NHWC)
    last = first_twin(convolution(image, tensor(64, 1, 3, 3), (1, 64, 56, 56), padding=(1, 1), groups=64))
    assert last is not None
    assert is_channels_last(last.inputs[0])


def test_there_is_no_backend_where_there_is_no_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend_of(opcalls.call("aten::relu", self=tensor(3))) is None
    assert backend_of(DEPTHWISE) in ("Mkldnn", "Slow2d", "MkldnnEmpty")
    monkeypatch.delattr(torch._C, "_select_conv_backend")  # a private name: a later torch may lack it
    assert backend_of(DEPTHWISE) is None
    with quiet():
        assert twin_of(DEPTHWISE, Values(), None) is not None


def test_tensors_that_were_one_stay_one() -> None:
    x = tensor(2, 8)
    twice = first_twin(opcalls.call("aten::mul", self=x, other=x, tags=["pointwise"]))
    assert twice is not None
    assert twice.inputs[0].storage == twice.inputs[1].storage
    half = tensor(2, 4, strides=(8, 1), offset=4, of=x)
    halves = first_twin(
        opcalls.call("aten::mul", self=tensor(2, 4, strides=(8, 1), of=x), other=half, tags=["pointwise"])
    )
    assert halves is not None
    assert halves.inputs[0].storage != halves.inputs[1].storage
