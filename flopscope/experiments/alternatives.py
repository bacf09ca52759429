"""The ops of a layer -> the same layer done otherwise, as operators to run beside it. Arithmetic only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from flopscope.convolutions import convolution_macs, is_channels_last
from flopscope.records import Convolution, Input, OpCall, Shape, TensorSpec

from .geometry import (
    PRODUCTS,
    contraction_macs,
    convolution_of,
    in_channels_last,
    in_order,
    packed,
)

_VECTOR = 16  # channels to which "aligned-channels" rounds up: a vector of floats on the widest machines
_PARTIAL = 4  # FasterNet convolves a quarter of the channels (Chen et al. 2023, section 3.2, r = 1/4)


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another way: `ops` in place of the subject's.

    With `beside`, the channels that `ops[0]` leaves out, it is a partial convolution: a slice is convolved,
    the others are put beside the result.
    """

    code: str
    title: str
    ops: tuple[OpCall, ...]
    macs: int | None
    same_function: bool = False
    note: str = ""
    beside: int = 0


def subject_of(ops: Sequence[OpCall]) -> tuple[OpCall, ...]:
    """What is measured of a layer: its costliest convolution or matrix product, else one call's operators.

    A partial convolution is measured whole: what it convolves and what it puts beside.
    """
    running = _running(ops)
    if len(running) == 2 and _all_channels(running) is not None:
        return running
    costs = [(contraction_macs(op) or 0, op) for op in running]
    main = max(costs, key=lambda pair: pair[0], default=(0, None))
    if main[0] and main[1] is not None:
        return (main[1],)
    return tuple(op for op in running if op.call == running[0].call)


def name_of(subject: tuple[OpCall, ...], ops: Sequence[OpCall]) -> str:
    """What a subject is called where the layer has other operators besides, once in each call; else ""."""
    others = {op.op for op in _running(ops)} - {op.op for op in subject}
    if len(subject) != 1 or not (others or sum(op.call == subject[0].call for op in _running(ops)) > 1):
        return ""
    sizes = [op.outputs[0].shape for op in subject if op.outputs]
    return " -> ".join([subject[0].op, *("x".join(map(str, size)) for size in sizes)])


def _running(ops: Sequence[OpCall]) -> tuple[OpCall, ...]:
    return tuple(op for op in ops if not op.view and op.phase == "forward")


def other_ways(subject: tuple[OpCall, ...]) -> tuple[Alternative, ...]:
    """What the subject could be instead, in the same process; conditions are those of each maker below."""
    made = [make(subject) for make in (_channels_last, _contiguous)]
    shape = convolution_of(subject[0]) if len(subject) == 1 else None
    channels = _all_channels(subject)
    if channels is not None:
        made += [_on_all(subject[0], channels, groups=groups) for groups in (channels, 1)]
    elif shape is not None and len(subject[0].inputs[0].shape) == len(shape.kernel) + 2:
        made += [make(subject[0], shape) for make in (_dense, _depthwise, _partial, _aligned)]
    elif len(subject) == 1 and subject[0].op == "aten::linear":
        made.append(_aligned_linear(subject[0]))
    return tuple(found for found in made if found is not None)


def macs_of(subject: tuple[OpCall, ...]) -> int | None:
    """Multiply-adds of a subject; None for a chain without any."""
    found = [macs for op in subject if (macs := contraction_macs(op)) is not None]
    return sum(found) if found else None


# ------------------------------------------------------------------ layouts


def _channels_last(subject: tuple[OpCall, ...]) -> Alternative | None:
    """Images come in channels_last; weights were converted once, before."""
    if not _images(subject) or any(is_channels_last(spec) for spec in _images(subject)):
        return None
    note = "input already in channels_last: converting it is not in the figure"
    ops = tuple(_again(op, in_channels_last) for op in subject)
    return Alternative("channels-last", "channels_last, same shape", ops, macs_of(subject), True, note)


def _contiguous(subject: tuple[OpCall, ...]) -> Alternative | None:
    """Images come contiguous, where they are channels_last now."""
    if not any(is_channels_last(spec) for spec in _images(subject)):
        return None
    note = "input already contiguous: converting it is not in the figure"
    ops = tuple(_again(op, in_order) for op in subject)
    return Alternative("contiguous", "contiguous (NCHW), same shape", ops, macs_of(subject), True, note)


def _images(subject: tuple[OpCall, ...]) -> list[TensorSpec]:
    """4-D inputs that are not weights."""
    weights = [op.tensor("weight") for op in subject]
    return [spec for op in subject for spec in op.inputs if len(spec.shape) == 4 and spec not in weights]


def _again(op: OpCall, change: Callable[[TensorSpec], TensorSpec]) -> OpCall:
    """The operator with its 4-D inputs laid out otherwise, each in memory of its own."""
    seen: dict[TensorSpec, int] = {}
    inputs = []
    for place, spec in enumerate(op.inputs):
        laid = change(spec) if len(spec.shape) == 4 else packed(spec, spec.shape)
        inputs.append(replace(laid, storage=seen.setdefault(spec, place)))
    return replace(op, inputs=tuple(inputs))


# ------------------------------------------------------------------ other convolutions


def _dense(op: OpCall, shape: Convolution) -> Alternative | None:
    """One group in place of several."""
    if shape.groups == 1:
        return None
    ops = (_convolution(op, shape, groups=1),)
    macs = convolution_macs(replace(shape, groups=1))
    return Alternative("dense-conv", f"dense {_extent(shape)}, same shape", ops, macs)


def _depthwise(op: OpCall, shape: Convolution) -> Alternative | None:
    """As many groups as channels, where it is dense with as many channels out as in."""
    if shape.groups != 1 or shape.in_channels != shape.out_channels or max(shape.kernel) == 1:
        return None
    groups = shape.in_channels
    ops = (_convolution(op, shape, groups=groups),)
    macs = convolution_macs(replace(shape, groups=groups))
    return Alternative("depthwise-conv", f"depthwise {_extent(shape)}, same shape", ops, macs)


def _partial(op: OpCall, shape: Convolution) -> Alternative | None:
    """FasterNet's PConv: split, a dense convolution of the first quarter of the channels, cat.

    MACs are prod(output)·prod(kernel)·(C/4)^2 (Chen et al. 2023, section 3.2).
    """
    quarter = shape.in_channels // _PARTIAL
    if (
        shape.transposed
        or not quarter
        or shape.in_channels != shape.out_channels
        or max(shape.kernel) == 1
        or max(shape.stride) > 1
        or shape.input_size != shape.output_size
    ):
        return None
    small = replace(shape, in_channels=quarter, out_channels=quarter, groups=1)
    ops = (_convolution(op, small, groups=1),)
    title = f"PConv {_extent(shape)}, 1/4 of the channels"
    return Alternative("pconv", title, ops, convolution_macs(small), beside=shape.in_channels - quarter)


def _all_channels(subject: Sequence[OpCall]) -> int | None:
    """The channels of a partial convolution, a dense one followed by a cat; None where it is none."""
    shape = convolution_of(subject[0]) if len(subject) == 2 else None
    if shape is None or subject[1].op != "aten::cat" or not subject[1].outputs or shape.groups > 1:
        return None
    small, whole = subject[0].outputs[0].shape, subject[1].outputs[0].shape
    alike = len(whole) == len(small) == len(shape.kernel) + 2 and (small[0], small[2:]) == (
        whole[0],
        whole[2:],
    )
    square = shape.in_channels == shape.out_channels < whole[1] and shape.input_size == shape.output_size
    return whole[1] if alike and square and not shape.transposed else None


def _on_all(op: OpCall, channels: int, *, groups: int) -> Alternative | None:
    """What a partial convolution stands for: a convolution of all channels, depthwise or dense."""
    shape = convolution_of(op)
    if shape is None:
        return None
    wide = replace(shape, in_channels=channels, out_channels=channels, groups=groups)
    code, word = ("depthwise-conv", "depthwise") if groups > 1 else ("dense-conv", "dense")
    title = f"{word} {_extent(shape)} on all {channels} channels"
    return Alternative(code, title, (_convolution(op, wide, groups=groups),), convolution_macs(wide))


def _aligned(op: OpCall, shape: Convolution) -> Alternative | None:
    """Channels rounded up to the next multiple of 16, where they are none; dense or depthwise only."""
    depthwise = shape.groups == shape.in_channels == shape.out_channels
    into, out = _rounded(shape.in_channels), _rounded(shape.out_channels)
    if (into, out) == (shape.in_channels, shape.out_channels) or (shape.groups > 1 and not depthwise):
        return None
    groups = into if depthwise else 1
    wide = replace(shape, in_channels=into, out_channels=out, groups=groups)
    return Alternative(
        "aligned-channels",
        f"{shape.in_channels} -> {shape.out_channels} channels made {into} -> {out}",
        (_convolution(op, wide, groups=groups),),
        convolution_macs(wide),
    )


def _aligned_linear(op: OpCall) -> Alternative | None:
    """Features rounded up to the next multiple of 16, where they are none."""
    source, weight = (op.tensor(name) for name in PRODUCTS[op.op])
    if source is None or weight is None or len(weight.shape) != 2:
        return None
    out, into = weight.shape
    wide_in, wide_out = _rounded(into), _rounded(out)
    if (wide_in, wide_out) == (into, out):
        return None
    rows = source.numel // into
    shapes = {"input": (*source.shape[:-1], wide_in), "weight": (wide_out, wide_in), "bias": (wide_out,)}
    title = f"{into} -> {out} features made {wide_in} -> {wide_out}"
    return Alternative("aligned-channels", title, (_reshaped(op, shapes),), rows * wide_in * wide_out)


def _convolution(op: OpCall, shape: Convolution, *, groups: int) -> OpCall:
    """The same convolution with other channels and groups."""
    inner, outer = shape.in_channels, shape.out_channels
    lead: Shape = (inner, outer // groups) if shape.transposed else (outer, inner // groups)
    source = op.inputs[0]
    sizes = {"input": (source.shape[0], inner, *source.shape[2:]), "weight": (*lead, *shape.kernel)}
    return _reshaped(op, {**sizes, "self": sizes["input"], "bias": (outer,)}, groups=groups)


def _reshaped(op: OpCall, shapes: dict[str, Shape], **arguments: object) -> OpCall:
    sizes: dict[int, Shape] = {}
    for name, shape in shapes.items():
        given = op.value(name)
        if isinstance(given, Input):
            sizes[given.index] = shape
    inputs = tuple(
        replace(packed(spec, sizes.get(place, spec.shape)), storage=place)
        for place, spec in enumerate(op.inputs)
    )
    return replace(op, inputs=inputs, outputs=(), arguments={**op.arguments, **arguments})


def _extent(shape: Convolution) -> str:
    return "x".join(map(str, shape.kernel))


def _rounded(channels: int) -> int:
    return -(-channels // _VECTOR) * _VECTOR
