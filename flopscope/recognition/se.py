"""Data flow -> SE blocks: global pool, two small projections, a gate, and the multiplication.

Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018. The walk begins at the multiplication and
goes backwards. A block with one projection (ESE, ECA) is not an SE: it has no squeeze.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flopscope.records import OpCall, TensorSpec

from .families import base_name
from .flow import Cone, Flow
from .sighting import Sighting

_THROUGH = frozenset({"elementwise", "activation", "data_movement", "batch_norm", "norm"})
_PROJECTIONS = frozenset({"pointwise_conv", "conv", "linear", "group_conv", "matmul"})
_POOLS = frozenset({"pooling", "reduction"})
_GATES = frozenset({"sigmoid", "hardsigmoid", "hardtanh", "relu6", "tanh", "clamp"})
_ROUNDED_UP_TO = 8  # libraries round the squeezed width up to a multiple of 8, beyond C where C < 8


@dataclass(frozen=True, slots=True)
class _Step:
    """One stage on the way back: a projection, and what lies between it and the stage after it."""

    op: int
    between: Cone


def find_ses(flow: Flow, kinds: Sequence[str]) -> Iterator[Sighting]:
    """Yield every SE block of the run, in order of its multiplication."""
    for index, op in enumerate(flow.trace.ops):
        if len(op.inputs) == 2 and base_name(op.op) in ("mul", "multiply") and op.phase == "forward":
            for image, gate in (op.inputs, op.inputs[::-1]):
                sighting = _behind(flow, index, image, gate, kinds) if _may_gate(op, image, gate) else None
                if sighting is not None:
                    yield sighting
                    break


def _may_gate(op: OpCall, image: TensorSpec, gate: TensorSpec) -> bool:
    """Tell by shapes whether `gate` has one number per sample and channel of `image`."""
    if len(image.shape) < 3 or not op.outputs or op.outputs[0].shape != image.shape:
        return False
    numbers = gate.distinct_bytes // gate.itemsize
    channels = (image.shape[0] * image.shape[1], image.shape[0] * image.shape[-1])
    return numbers in channels and numbers < image.numel


def _behind(
    flow: Flow, mul: int, image: TensorSpec, gate: TensorSpec, kinds: Sequence[str]
) -> Sighting | None:
    """Follow the gate back to the pool of the very tensor that it multiplies."""
    ops = flow.trace.ops
    numbers = gate.distinct_bytes // gate.itemsize
    back = _projection(flow, mul, gate, kinds)
    if back is None or not any(base_name(ops[index].op) in _GATES for index in back.between.inside):
        return None
    squeeze = _projection(flow, back.op, _data(ops[back.op]), kinds)
    if squeeze is None or not _bends(ops, squeeze.between, kinds):
        return None
    pooled = _data(ops[squeeze.op])
    if pooled.numel != numbers or ops[back.op].outputs[0].numel != numbers:
        return None
    if not _small(ops[squeeze.op], image.shape[0], numbers // image.shape[0]):
        return None
    pools = _pools(flow, squeeze.op, pooled, kinds)
    if not pools or not _pool_the_image(flow, mul, image, pools, kinds):
        return None
    core = {mul, back.op, squeeze.op, *back.between.inside, *squeeze.between.inside, *pools}
    views = {view for index in core for spec in ops[index].inputs for view in flow.views(index, spec)}
    return Sighting("se", frozenset(core), frozenset(_since(views, min(core), flow, image)))


def _projection(flow: Flow, before: int, spec: TensorSpec, kinds: Sequence[str]) -> _Step | None:
    """The one projection that `spec` comes from, through activations and element-wise ops."""
    cone = flow.cone(before, spec, through=_THROUGH, kinds=kinds)
    if not cone.complete or len(cone.ends) != 1 or cone.ends[0] < 0:
        return None
    made = cone.ends[0]
    return _Step(made, cone) if kinds[made] in _PROJECTIONS else None


def _data(op: OpCall) -> TensorSpec:
    """What a projection projects: not its weight, nor the bias that `addmm` has first."""
    return op.tensor("input") or op.tensor("mat1") or op.tensor("self") or op.inputs[0]


def _bends(ops: Sequence[OpCall], between: Cone, kinds: Sequence[str]) -> bool:
    """Tell whether an activation lies between the projections, as one op or made of several."""
    return any(
        kinds[index] == "activation" or base_name(ops[index].op) in ("clamp", "clamp_min", "mul")
        for index in between.inside
    )


def _small(squeeze: OpCall, samples: int, channels: int) -> bool:
    """Tell whether the first projection reduces: C numbers per sample to at most C, by 1x1 weights."""
    width = squeeze.outputs[0].numel // max(samples, 1)
    data = _data(squeeze)
    weights = [spec.numel for spec in squeeze.inputs if spec is not data]
    return width <= max(channels, _ROUNDED_UP_TO) and channels * width in weights


def _pools(flow: Flow, before: int, pooled: TensorSpec, kinds: Sequence[str]) -> list[int]:
    """The pools behind the first projection and all that lies between, several where they are added."""
    cone = flow.cone(before, pooled, through=_THROUGH - {"activation", "norm", "batch_norm"}, kinds=kinds)
    if not cone.complete or not cone.ends or any(end < 0 or kinds[end] not in _POOLS for end in cone.ends):
        return []
    found = [*cone.ends, *cone.inside]
    for end in cone.ends:  # mean over one dimension after the other
        while True:
            above = flow.producer(end, flow.trace.ops[end].inputs[0])
            if above < 0 or kinds[above] not in _POOLS or not _narrows(flow.trace.ops[above]):
                break
            found.append(above)
            end = above
    return found


def _narrows(op: OpCall) -> bool:
    """Tell of a pool whether it leaves at most one line of each plane, as half of a global pool does."""
    source = op.inputs[0].shape
    return (
        len(source) > 3
        and op.outputs[0].numel * min(source[1:]) <= op.inputs[0].numel
        and "dim" in op.arguments
    )


def _pool_the_image(
    flow: Flow, mul: int, image: TensorSpec, pools: Sequence[int], kinds: Sequence[str]
) -> bool:
    """Tell whether the first pool of each row of pools reads the tensor that is gated."""
    ops = flow.trace.ops
    heads = [
        index
        for index in pools
        if kinds[index] in _POOLS and flow.producer(index, ops[index].inputs[0]) not in pools
    ]
    return bool(heads) and all(flow.same_value(index, ops[index].inputs[0], mul, image) for index in heads)


def _since(views: set[int], first: int, flow: Flow, image: TensorSpec) -> set[int]:
    """Keep the views within the block, and of earlier ones those on the image just before its pool."""
    kept = set()
    for view in views:
        shown = flow.trace.ops[view].outputs[0].storage
        if view > first or (shown == image.storage and first - view <= 2):
            kept.add(view)
    return kept
