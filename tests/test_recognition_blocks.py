"""PConv and SE by data flow, on records made by hand; and what resembles them and is neither."""

from __future__ import annotations

import pytest
from traces import Run

from flopscope.recognition import blocks
from flopscope.records import Input, TensorSpec

# ----------------------------------------------------------------------------- PConv


def _pconv(run: Run, image: TensorSpec, form: str, path: str = "pconv") -> TensorSpec:
    """A convolution on the first quarter of the channels, in each way of writing it."""
    quarter = image.shape[1] // 4
    weight = run.parameter(f"{path}.conv.weight", quarter, quarter, 3, 3, module="Conv2d")
    if form == "split":
        first, rest = run.channels(image, quarter, 3 * quarter, name="aten::split_with_sizes")
        return run.cat(_child_conv(run, path, first, weight), rest)
    if form == "slices":
        mixed = _child_conv(run, path, run.channels(image, quarter), weight)
        return run.cat(mixed, run.channels(image, 3 * quarter, first=quarter))
    if form == "copied":
        first = run.op("aten::contiguous", run.channels(image, quarter))
        return run.cat(_child_conv(run, path, first, weight), run.channels(image, 3 * quarter, first=quarter))
    if form == "last of four":
        pieces = run.channels(image, *(quarter,) * 4, name="aten::chunk")
        return run.cat(*pieces[:3], _child_conv(run, path, pieces[3], weight))
    if form == "scatter":
        mixed = _child_conv(run, path, run.channels(image, quarter), weight)
        return run.op("aten::slice_scatter", image, mixed, dim=1, start=0, end=quarter)
    if form == "blank":
        target = run.op("aten::empty_like", image)
        mixed = _child_conv(run, path, run.channels(image, quarter), weight)
        run.write("aten::copy_", run.channels(target, quarter), mixed)
        rest = run.channels(image, 3 * quarter, first=quarter)
        run.write("aten::copy_", run.channels(target, 3 * quarter, first=quarter), rest)
        return target
    source = image
    target = run.op("aten::clone", image) if form != "in place" else image
    if form == "clone":
        source = target
    mixed = _child_conv(run, path, run.channels(source, quarter), weight)
    run.write("aten::copy_", run.channels(target, quarter), mixed)
    return target


def _child_conv(run: Run, path: str, source: TensorSpec, weight: TensorSpec) -> TensorSpec:
    with run.call(f"{path}.conv", "Conv2d"):
        return run.conv(source, weight)


_FORMS = ["split", "slices", "copied", "last of four", "scatter", "blank", "clone", "clone of it", "in place"]


@pytest.mark.parametrize("form", _FORMS)
def test_a_pconv_module_is_one_block(form) -> None:
    run = Run()
    image = run.op("aten::relu", run.input(1, 64, 56, 56))
    with run.call("pconv", "Anything"):
        result = _pconv(run, image, form)
    run.op("aten::relu", result)
    trace = run.trace()
    (block,) = blocks(trace)
    assert (block.kind, block.path, block.type, block.inline) == ("pconv", "pconv", "Anything", False)
    assert block.ops == tuple(range(1, len(trace.ops) - 1))
    # FasterNet eq. 5 and its weights: 56 * 56 * 2 * 16 + 3 * 3 * 16 * 16 = 100,352 + 2,304 numbers
    assert block.formula_bytes == (100_352 + 2_304) * 4


@pytest.mark.parametrize("form", _FORMS)
def test_a_pconv_written_inline_has_its_containers_path(form) -> None:
    run = Run()
    image = run.input(2, 64, 56, 56)
    with run.call("stage", "Stage"):
        shifted = run.op("aten::relu", image)
        result = _pconv(run, shifted, form)
        run.op("aten::gelu", result)
    trace = run.trace()
    (block,) = blocks(trace)
    assert (block.path, block.type, block.inline) == ("stage", "(pconv)", True)
    assert block.ops == tuple(range(1, len(trace.ops) - 1))
    # two samples, the weights once
    assert block.formula_bytes == (2 * 100_352 + 2_304) * 4


def test_each_call_of_a_pconv_is_a_block() -> None:
    run = Run()
    image = run.input(1, 64, 8, 8)
    for _ in range(3):
        with run.call("pconv", "PConv"):
            image = _pconv(run, image, "split")
    found = blocks(run.trace())
    assert [block.ops for block in found] == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]


def test_a_convolution_on_all_channels_is_no_pconv() -> None:
    run = Run()
    image = run.input(1, 8, 4, 4)
    mixed = run.conv(image, run.parameter("conv.weight", 8, 8, 3, 3))
    run.cat(mixed, image)  # as in DenseNet
    assert blocks(run.trace()) == ()


def test_what_is_passed_through_must_be_the_other_channels() -> None:
    run = Run()
    image = run.input(1, 8, 4, 4)
    mixed = run.conv(run.channels(image, 2), run.parameter("conv.weight", 2, 2, 3, 3))
    run.cat(mixed, run.channels(image, 6, first=0))  # overlaps with what was convolved
    run.cat(mixed, run.channels(image, 4, first=4))  # leaves a gap
    run.cat(mixed, run.channels(run.op("aten::relu", image), 6, first=2))  # of another tensor
    run.cat(mixed, run.channels(run.input(1, 8, 4, 4), 6, first=2))  # of another input
    run.write("aten::relu_", image)
    run.cat(mixed, run.channels(image, 6, first=2))  # of the same one, but changed since
    assert blocks(run.trace()) == ()


def test_the_result_must_go_where_the_slice_came_from() -> None:
    run = Run()
    image = run.input(1, 8, 4, 4)
    target = run.op("aten::clone", image)
    mixed = run.conv(run.channels(image, 2), run.parameter("conv.weight", 2, 2, 3, 3))
    run.write("aten::copy_", run.channels(target, 2, first=2), mixed)
    assert blocks(run.trace()) == ()


def test_a_convolution_with_an_activation_before_the_cat_is_no_pconv() -> None:
    run = Run()
    image = run.input(1, 8, 4, 4)
    first, rest = run.channels(image, 2, 6)
    run.cat(run.op("aten::relu", run.conv(first, run.parameter("conv.weight", 2, 2, 3, 3))), rest)
    assert blocks(run.trace()) == ()


def test_a_grouped_or_strided_convolution_makes_no_pconv() -> None:
    run = Run()
    image = run.input(1, 8, 4, 4)
    first, rest = run.channels(image, 2, 6)
    run.cat(run.conv(first, run.parameter("a.weight", 2, 1, 3, 3), groups=2), rest)
    run.cat(run.conv(first, run.parameter("b.weight", 2, 2, 3, 3), stride=2), rest)
    assert blocks(run.trace()) == ()


# ----------------------------------------------------------------------------- SE


def _se(run: Run, image: TensorSpec, form: str, path: str = "se") -> TensorSpec:
    """Pool, 64 > 16, activation, 16 > 64, gate, multiplication, in each way of writing it."""
    samples, channels = image.shape[:2]
    flat, plane = (samples, channels), (samples, channels, 1, 1)
    if form in ("linear", "view first"):
        if form == "linear":
            pooled = run.op("aten::adaptive_avg_pool2d", image, out=plane, flops=image.numel)
            pooled = run.view("aten::flatten", pooled, flat)
        else:
            seen = run.view("aten::view", image, (samples, channels, image.numel // (samples * channels)))
            pooled = run.op("aten::mean", seen, out=flat, dim=(-1,), flops=image.numel)
        squeezed = run.linear(pooled, run.parameter(f"{path}.fc1.weight", 16, channels))
        excited = run.linear(
            run.op("aten::relu", squeezed), run.parameter(f"{path}.fc2.weight", channels, 16)
        )
        gate = run.view("aten::view", run.op("aten::sigmoid", excited), plane)
        return run.op("aten::mul", image, gate)
    if form == "two means":
        line = run.op("aten::mean", image, out=(*image.shape[:3], 1), dim=(3,))
        pooled = run.op("aten::mean", line, out=plane, dim=(2,))
    elif form == "mean and max":
        average = run.op("aten::mean", image, out=plane, dim=(2, 3))
        pooled = run.op("aten::add", average, run.op("aten::amax", image, out=plane, dim=(2, 3)))
    else:
        pooled = run.op("aten::mean", image, out=plane, dim=(2, 3))
    squeezed = run.conv(pooled, run.parameter(f"{path}.fc1.weight", 16, channels, 1, 1, module="Conv2d"))
    if form == "swish":
        squeezed = run.op("aten::mul", squeezed, run.op("aten::sigmoid", squeezed))
    else:
        squeezed = run.write("aten::relu_", squeezed)
    excited = run.conv(squeezed, run.parameter(f"{path}.fc2.weight", channels, 16, 1, 1, module="Conv2d"))
    if form == "relu6":
        gate = run.op("aten::div", run.op("aten::relu6", run.op("aten::add", excited)))
    else:
        gate = run.op("aten::hardsigmoid", excited)
    if form == "gate first":
        return run.op("aten::mul", gate, image, out=image.shape)
    if form == "in place":
        return run.write("aten::mul_", image, gate)
    return run.op("aten::mul", image, gate)


_SE_FORMS = [
    "linear", "view first", "two means", "mean and max", "swish", "relu6", "gate first", "in place", "convs"
]  # fmt: skip


@pytest.mark.parametrize("form", _SE_FORMS)
@pytest.mark.parametrize("samples", [1, 3])
def test_an_se_module_is_one_block(form, samples) -> None:
    run = Run()
    image = run.op("aten::relu", run.input(samples, 64, 7, 7))
    with run.call("se", "Whatever"):
        result = _se(run, image, form)
    run.op("aten::relu", result)
    trace = run.trace()
    (block,) = blocks(trace)
    assert (block.kind, block.path, block.type, block.inline) == ("se", "se", "Whatever", False)
    assert block.ops == tuple(range(1, len(trace.ops) - 1))
    assert block.formula_bytes is None


@pytest.mark.parametrize("form", _SE_FORMS)
def test_an_se_written_inline_has_its_containers_path(form) -> None:
    run = Run()
    with run.call("block", "MBConv"):
        image = run.op("aten::relu", run.input(2, 64, 7, 7))
        result = _se(run, image, form, path="block")
        run.op("aten::relu", result)
    trace = run.trace()
    (block,) = blocks(trace)
    assert (block.path, block.type, block.inline) == ("block", "(se)", True)
    assert block.ops == tuple(range(1, len(trace.ops) - 1))


def test_a_gate_module_whose_result_is_multiplied_outside_is_inline() -> None:
    run = Run()
    image = run.op("aten::relu", run.input(1, 8, 4, 4))
    with run.call("gate", "Gate"):
        pooled = run.op("aten::mean", image, out=(1, 8, 1, 1), dim=(2, 3))
        small = run.op("aten::relu", run.conv(pooled, run.parameter("gate.a", 2, 8, 1, 1)))
        gate = run.op("aten::sigmoid", run.conv(small, run.parameter("gate.b", 8, 2, 1, 1)))
    run.op("aten::mul", image, gate)
    (block,) = blocks(run.trace())
    assert (block.path, block.type, block.ops) == ("", "(se)", (1, 2, 3, 4, 5, 6))


def _gated(widths: tuple[int, ...], *, gate: str = "aten::sigmoid", act: str | None = "aten::relu") -> Run:
    """Pool, projections of these widths with `act` between them, gate, multiplication."""
    run = Run()
    image = run.input(1, 8, 4, 4)
    seen = run.op("aten::mean", image, out=(1, 8), dim=(2, 3))
    for at, width in enumerate(widths):
        if at and act:
            seen = run.op(act, seen)
        seen = run.linear(seen, run.parameter(f"fc{at}.weight", width, seen.shape[1]))
    run.op("aten::mul", image, run.view("aten::view", run.op(gate, seen), (1, 8, 1, 1)))
    return run


def test_se_has_two_projections_an_activation_and_a_gate() -> None:
    assert len(blocks(_gated((2, 8)).trace())) == 1
    assert blocks(_gated((8,)).trace()) == ()  # effective SE: no squeeze
    assert blocks(_gated((4, 4, 8)).trace()) == ()
    assert blocks(_gated((64, 8)).trace()) == ()  # widens in the middle
    assert blocks(_gated((2, 8), gate="aten::neg").trace()) == ()
    assert blocks(_gated((2, 8), act=None).trace()) == ()


def test_se_gates_the_tensor_that_it_pooled() -> None:
    run = Run()
    image, other = run.input(1, 8, 4, 4), run.input(1, 8, 4, 4)
    pooled = run.op("aten::mean", image, out=(1, 8, 1, 1), dim=(2, 3))
    small = run.op("aten::relu", run.conv(pooled, run.parameter("a", 2, 8, 1, 1)))
    gate = run.op("aten::sigmoid", run.conv(small, run.parameter("b", 8, 2, 1, 1)))
    run.op("aten::mul", other, gate)
    assert blocks(run.trace()) == ()


def test_a_learned_scale_is_no_se() -> None:
    run = Run()
    image = run.input(1, 8, 4, 4)
    run.op("aten::mul", image, run.parameter("gamma", 1, 8, 1, 1), self=Input(0), other=Input(1))
    assert blocks(run.trace()) == ()
