"""OpCall -> its tiny twin: the same operator at the smallest size, which costs what every call of it costs.

Channels, groups, kernel, strides, dtype and the nesting of dimensions stay. Where no valid twin is
known there is none: it is not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flopscope import convolutions
from flopscope.convolutions import spread
from flopscope.records import Input, OpCall, Shape, TensorSpec

from .geometry import BACKWARD, PRODUCTS, packed

_WIDEST = 16  # of the inner dimensions of a tiny matrix product: one vector of floats
_BATCHES = (1, 2, 16)  # torch looks at whether there is more than one image, and whether there are 16


def tiny_twins(op: OpCall) -> Iterator[OpCall]:
    """Twins of `op`, the smallest first; none where no valid one is known.

    There are several for a convolution only: torch selects its backend by the batch too, so
    the first that has the original's backend is the one to take. A twin has no recorded outputs.
    """
    shape = convolutions.convolution_of(op)
    if shape is not None:
        yield from _convolutions(op)
        return
    make = _family(op)
    twin = make(op) if make else None
    if twin is not None:
        yield twin


Shapes = Mapping[str, Shape]
Twin = Callable[[OpCall], OpCall | None]


def _family(op: OpCall) -> Twin | None:
    name = op.op.removeprefix("aten::").rstrip("_")
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith(("upsample_", "_upsample_")) and not name.endswith("_backward"):
        return _resampling
    if "pool" in name and name[-2:] in ("1d", "2d", "3d") and "unpool" not in name:
        return _pool
    if name.endswith("_backward") and "pool" in name and name.startswith(("avg_", "max_", "_adaptive_avg_")):
        return _pool
    if "pointwise" in op.tags:
        return _ones
    return _ones if "reduction" in op.tags else None


def _named(op: OpCall, shapes: Shapes, **arguments: Any) -> OpCall | None:
    """A twin whose named tensors have these shapes; None where one of its tensors was not named."""
    sizes: dict[int, Shape] = {}
    for name, shape in shapes.items():
        given = op.value(name)
        if isinstance(given, Input):
            sizes[given.index] = shape
    if len(sizes) < len(op.inputs):
        return None
    return _resized(op, lambda place, _: sizes[place], **arguments)


def _resized(op: OpCall, size: Callable[[int, TensorSpec], Shape], **arguments: Any) -> OpCall:
    """A twin with every input resized; inputs that were one tensor stay one, others part."""
    first: dict[tuple[Any, ...], int] = {}
    inputs = []
    for place, spec in enumerate(op.inputs):
        key = (spec.storage, spec.offset, spec.shape, spec.strides)
        inputs.append(replace(packed(spec, size(place, spec)), storage=first.setdefault(key, place)))
    changed = {**op.arguments, **arguments}
    return replace(op, inputs=tuple(inputs), outputs=(), arguments=changed, view=False)


# ------------------------------------------------------------------ convolutions


def _convolutions(op: OpCall) -> Iterator[OpCall]:
    """Space shrinks to where the output is one element (or the least that the settings allow)."""
    backward = op.op == BACKWARD
    source, weight = op.tensor("input") or op.tensor("self"), op.tensor("weight")
    assert source is not None  # it has a geometry
    assert weight is not None
    rank = len(weight.shape) - 2
    shape = convolutions.convolution_of(op)
    assert shape is not None
    beyond = spread(op.value("output_padding"), rank, 0)
    space, answer = [], []
    for place in range(rank):
        reach = shape.dilation[place] * (shape.kernel[place] - 1) + 1
        step, pad = shape.stride[place], shape.padding[place]
        if shape.transposed:  # output = (input - 1)·stride - 2·padding + reach + output_padding
            short = 1 - (reach - 2 * pad + beyond[place])
            space.append(1 + max(0, -(-short // step)))
            answer.append((space[-1] - 1) * step - 2 * pad + reach + beyond[place])
        else:  # output = (input + 2·padding - reach) // stride + 1
            space.append(max(1, reach - 2 * pad))
            answer.append((space[-1] + 2 * pad - reach) // step + 1)
    whole = len(source.shape) == rank + 2
    for batch in _BATCHES if whole else (1,):
        lead = (batch,) if whole else ()
        sizes = {"input": (*lead, shape.in_channels, *space), "weight": weight.shape}
        sizes |= {"self": sizes["input"], "bias": (shape.out_channels,)}
        if backward:
            sizes["grad_output"] = (*lead, shape.out_channels, *answer)
        twin = _named(op, sizes)
        if twin is not None:
            yield twin


# ------------------------------------------------------------------ element by element, reductions, movement


def _ones(op: OpCall) -> OpCall | None:
    """One element; the rank stays, and what was broadcast still is."""
    return _resized(op, lambda _, spec: (1,) * len(spec.shape))


def _twos(op: OpCall) -> OpCall | None:
    """Two elements a dimension: a transposed tensor still has to be copied, a variance is defined."""
    return _resized(op, lambda _, spec: tuple(min(size, 2) for size in spec.shape))


def _reshape(op: OpCall) -> OpCall | None:
    """A copy of two elements a dimension, into a row."""
    numel = 1
    for size in op.inputs[0].shape:
        numel *= min(size, 2)
    return _resized(op, lambda _, spec: tuple(min(size, 2) for size in spec.shape), shape=(numel,))


def _pad(op: OpCall) -> OpCall | None:
    """One element, padded as much; other modes than a constant need more than one."""
    return _ones(op) if op.value("mode", "constant") == "constant" else None


def _embedding(op: OpCall) -> OpCall | None:
    """One row, looked up once."""
    weight, indices = op.tensor("weight"), op.tensor("indices")
    if weight is None or indices is None:
        return None
    return _named(op, {"weight": (1, *weight.shape[1:]), "indices": (1,) * len(indices.shape)})


def _resampling(op: OpCall) -> OpCall | None:
    """One pixel a channel, to one pixel, or by the recorded factors."""
    source = op.tensor("input") or op.tensor("self")
    if source is None or len(op.inputs) != 1 or len(source.shape) < 3:
        return None
    size = op.value("output_size")
    changed = {"output_size": (1,) * len(size)} if size else {}
    return _resized(op, lambda _, spec: (1, spec.shape[1], *(1,) * (len(spec.shape) - 2)), **changed)


# ------------------------------------------------------------------ normalisation


def _per_channel(op: OpCall) -> OpCall | None:
    """Batch and instance normalisation: all channels, one position."""
    source = op.tensor("input")
    if source is None or len(source.shape) < 2:
        return None
    return _resized(
        op,
        lambda _, spec: (
            (1, spec.shape[1], *(1,) * (len(spec.shape) - 2)) if len(spec.shape) > 1 else spec.shape
        ),
    )


def _group_norm(op: OpCall) -> OpCall | None:
    """All channels, one position; the native form is told the sizes besides."""
    source = op.tensor("input")
    if source is None or len(source.shape) < 2:
        return None
    sizes = {"input": (1, source.shape[1], *(1,) * (len(source.shape) - 2))}
    sizes |= dict.fromkeys(("weight", "bias"), (source.shape[1],))
    return _named(op, sizes, **({"N": 1, "HxW": 1} if "HxW" in op.arguments else {}))


def _layer_norm(op: OpCall) -> OpCall | None:
    """One row of the normalised shape."""
    row = tuple(op.value("normalized_shape") or ())
    source = op.tensor("input")
    if source is None or not row:
        return None
    lead = (1,) * (len(source.shape) - len(row))
    sizes = {"input": (*lead, *row), "grad_out": (*lead, *row), "weight": row, "bias": row}
    sizes |= {name: (*lead, *(1,) * len(row)) for name in ("mean", "rstd")}
    return _named(op, sizes)


# ------------------------------------------------------------------ pooling


def _pool(op: OpCall) -> OpCall | None:
    """One image, all channels, one window, or as many positions as an adaptive pool answers with."""
    source = op.tensor("self") or op.tensor("input")
    name = op.op.removeprefix("aten::")
    rank = next((n for n in (1, 2, 3) if f"{n}d" in name), 0)
    if source is None or len(source.shape) != rank + 2:
        return None
    if "adaptive" in name:
        answer = space = _answer(op, rank)
    else:
        space, answer = _window(op, rank)
    lead = (1, source.shape[1])
    around = dict.fromkeys(("self", "input"), (*lead, *space))
    return _named(op, {**around, **dict.fromkeys(("grad_output", "indices"), (*lead, *answer))})


def _answer(op: OpCall, rank: int) -> Shape:
    """What an adaptive pool answers with: the size asked for, or that of the gradient given."""
    gradient = op.tensor("grad_output")
    if gradient is not None:
        return gradient.shape[2:]
    asked = op.value("output_size")
    return tuple(size or 1 for size in asked) if isinstance(asked, tuple) else (int(asked or 1),) * rank


def _window(op: OpCall, rank: int) -> tuple[Shape, Shape]:
    kernel, padding = spread(op.value("kernel_size"), rank, 1), spread(op.value("padding"), rank, 0)
    stride = spread(op.value("stride"), rank, 1) if op.value("stride") else kernel
    dilation = spread(op.value("dilation"), rank, 1)
    reach = tuple(step * (size - 1) + 1 for size, step in zip(kernel, dilation, strict=True))
    space = tuple(max(1, size - 2 * pad) for size, pad in zip(reach, padding, strict=True))
    rows = zip(space, padding, reach, stride, strict=True)
    return space, tuple((size + 2 * pad - over) // step + 1 for size, pad, over, step in rows)


# ------------------------------------------------------------------ contractions


def _product(op: OpCall) -> OpCall | None:
    """One row times a matrix of at most 16 by 16; batches of one."""
    first, second = (
        op.tensor(name) for name in PRODUCTS[f"aten::{op.op.removeprefix('aten::').rstrip('_')}"]
    )
    if first is None or second is None:
        return None
    inner, linear = min(first.shape[-1], _WIDEST), op.op == "aten::linear"
    wide = second.shape[0 if linear else -1] if len(second.shape) > 1 else 1
    columns = min(wide, _WIDEST)
    left = (*(1,) * (len(first.shape) - 1), inner)
    lead = (1,) * (len(second.shape) - 2)
    right: Shape = (
        (inner,) if len(second.shape) == 1 else (*lead, *((columns, inner) if linear else (inner, columns)))
    )
    names = ("input", "weight") if linear else PRODUCTS[op.op.rstrip("_")]
    added = op.tensor("bias") or (op.tensor("self") if "self" not in names else None)
    sizes = dict(zip(names, (left, right), strict=True))
    if added is not None:
        last = (1 if added.shape[-1] == 1 else columns,) if added.shape else ()
        sizes["bias" if linear else "self"] = (*(1,) * (len(added.shape) - 1), *last)
    return _named(op, sizes)


def _attention(op: OpCall) -> OpCall | None:
    """One head, one query, one key; its width stays."""
    mask = op.tensor("attn_mask")
    sizes: dict[str, Shape] = {}
    for name in ("query", "key", "value"):
        spec = op.tensor(name)
        if spec is None or len(spec.shape) < 3:
            return None
        sizes[name] = (*(1,) * (len(spec.shape) - 1), spec.shape[-1])
    if mask is not None:
        sizes["attn_mask"] = (1,) * len(mask.shape)
    return _named(op, sizes)


def _encoder(op: OpCall) -> OpCall | None:
    """A fused attention or encoder layer on one token; its weights stay."""
    rows = [op.value(name) for name in ("src", "query", "key", "value")]
    tokens = {given.index for given in rows if isinstance(given, Input)}
    if not tokens or isinstance(op.value("mask"), Input):
        return None
    return _resized(op, lambda at, spec: (1, 1, spec.shape[-1]) if at in tokens else spec.shape)


def _recurrent(op: OpCall) -> OpCall | None:
    """One step of one sequence; all layers, directions and weights."""
    source, states = op.value("input"), op.value("hx")
    if not isinstance(source, Input) or len(op.inputs[source.index].shape) != 3:
        return None
    held = {
        item.index
        for item in (states if isinstance(states, Sequence) else (states,))
        if isinstance(item, Input)
    }

    def size(place: int, spec: TensorSpec) -> Shape:
        if place == source.index:
            return (1, 1, spec.shape[2])
        return (spec.shape[0], 1, *spec.shape[2:]) if place in held else spec.shape

    return _resized(op, size)


def _table(*families: tuple[Twin, str]) -> dict[str, Twin]:
    return {name: make for make, names in families for name in names.split()}


_BY_NAME = _table(
    (_ones, "clone copy _to_copy cat stack dropout native_dropout softmax _softmax log_softmax _log_softmax"),
    (_ones, "zeros_like ones_like empty_like full_like fill zero roll flip tril triu cumsum constant_pad_nd"),
    (_ones, "hardswish hardsigmoid hardtanh relu relu6 leaky_relu elu selu celu silu mish softplus gelu"),
    (_pad, "pad"),
    (_ones, "hardswish_backward hardsigmoid_backward _softmax_backward_data _log_softmax_backward_data"),
    (_ones, "prelu where masked_fill sort threshold_backward native_dropout_backward"),
    (_twos, "glu contiguous to type_as flatten var std var_mean std_mean"),
    (_reshape, "reshape"),
    (_embedding, "embedding"),
    (
        _per_channel,
        "batch_norm native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training",
    ),
    (_per_channel, "native_batch_norm_backward instance_norm _batch_norm_with_update _batch_norm_no_update"),
    (_group_norm, "group_norm native_group_norm"),
    (_layer_norm, "layer_norm native_layer_norm native_layer_norm_backward rms_norm _fused_rms_norm"),
    (_product, "linear mm bmm matmul addmm baddbmm"),
    (_attention, "scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu"),
    (_encoder, "_native_multi_head_attention _transformer_encoder_layer_fwd"),
    (_recurrent, "lstm gru rnn_tanh rnn_relu"),
)
