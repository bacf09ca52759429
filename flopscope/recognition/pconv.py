"""Data flow -> PConvs: a convolution on some channels, the other channels passed through.

FasterNet (Chen et al., "Run, Don't Walk", CVPR 2023), section 3.3. Three ways of writing it are
seen: `cat` of the result with the untouched slices, assignment of the result to the slice of the
tensor or of its clone, and `slice_scatter`, which exported graphs have for the latter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from flopscope.records import OpCall, TensorSpec

from .families import CONVOLUTIONS, base_name
from .flow import Flow
from .sighting import Sighting

_BLANKS = ("empty", "empty_like", "zeros", "zeros_like", "new_empty", "new_zeros")
_COPIES = ("clone", "contiguous", "to_copy", "reshape")


@dataclass(frozen=True, slots=True)
class _Part:
    """A slice of channels, seen through a copy of it: which op read it, and the copy's index."""

    spec: TensorSpec
    read_by: int
    copies: tuple[int, ...]


def find_pconvs(flow: Flow, kinds: Sequence[str]) -> Iterator[Sighting]:
    """Yield every PConv of the run, in order of its convolution."""
    for index, op in enumerate(flow.trace.ops):
        if kinds[index] in ("conv", "pointwise_conv") and _keeps_its_shape(op):
            part = _slice_read(flow, index, op.inputs[0])
            if part is not None:
                sighting = _joined(flow, index, part)
                if sighting is not None:
                    yield sighting


def _keeps_its_shape(op: OpCall) -> bool:
    """Tell of a dense convolution whether it maps c x h x w to c x h x w with stride 1."""
    if op.phase != "forward" or not op.outputs or base_name(op.op) not in CONVOLUTIONS:
        return False
    return op.inputs[0].shape == op.outputs[0].shape and all(
        step == 1 for step in _listed(op.value("stride", 1))
    )


def _slice_read(flow: Flow, index: int, spec: TensorSpec) -> _Part | None:
    """The slice behind `spec`, itself or its copy; None where `spec` is all of its storage."""
    if spec.numel * spec.itemsize < flow.trace.storages[spec.storage].nbytes:
        return _Part(spec, index, ())
    made = flow.producer(index, spec)
    if made < 0 or base_name(flow.trace.ops[made].op) not in _COPIES:
        return None
    source = flow.trace.ops[made].inputs[0]
    if (
        source.shape == spec.shape
        and source.numel * source.itemsize < flow.trace.storages[source.storage].nbytes
    ):
        return _Part(source, made, (made,))
    return None


def _joined(flow: Flow, conv: int, part: _Part) -> Sighting | None:
    """Find how the convolution's result meets the channels that passed by."""
    result = flow.trace.ops[conv].outputs[0]
    for reader in flow.readers(result.storage):
        if reader <= conv:
            continue
        join = {"cat": _by_cat, "concat": _by_cat, "copy": _by_assignment, "slice_scatter": _by_scatter}.get(
            base_name(flow.trace.ops[reader].op)
        )
        sighting = join(flow, conv, part, reader) if join else None
        if sighting is not None:
            return sighting
    return None


def _by_cat(flow: Flow, conv: int, part: _Part, cat: int) -> Sighting | None:
    """`cat((conv(x1), x2), 1)`, in any order: x1 and the other pieces tile one tensor."""
    op = flow.trace.ops[cat]
    result = flow.trace.ops[conv].outputs[0]
    if op.value("dim", 0) not in (1, 1 - len(result.shape)):
        return None
    others = [spec for spec in op.tensors("tensors") if spec.storage != result.storage]
    if len(others) != len(op.tensors("tensors")) - 1 or not others:
        return None
    pieces = [part]
    for spec in others:
        piece = _slice_read(flow, cat, spec)
        if piece is None or not _of_one_tensor(flow, part, piece):
            return None
        pieces.append(piece)
    if not _tile([piece.spec for piece in pieces]):
        return None
    copies = {index for piece in pieces for index in piece.copies}
    views = {view for piece in pieces for view in flow.views(piece.read_by, piece.spec)}
    views |= {view for spec in op.inputs for view in flow.views(cat, spec)}
    return Sighting("pconv", frozenset((conv, cat)), frozenset(views | copies), _formula_bytes(flow, conv))


def _by_assignment(flow: Flow, conv: int, part: _Part, copy: int) -> Sighting | None:
    """`x[:, :c] = conv(x[:, :c])`, where the target may be a clone of what was read, or the clone both."""
    op = flow.trace.ops[copy]
    result, target, source = flow.trace.ops[conv].outputs[0], op.inputs[0], op.inputs[-1]
    if source.storage != result.storage or target.shape != result.shape:
        return None
    read, written = _whole(flow, part.read_by, part.spec), _whole(flow, copy, target)
    if read is None or written is None or read.shape != written.shape:
        return None
    if _first_channel(part.spec, read) != _first_channel(target, written):
        return None
    around = {*part.copies, *flow.views(part.read_by, part.spec), *flow.views(copy, target)}
    clone = flow.trace.storages[target.storage].born
    made_by = base_name(flow.trace.ops[clone].op) if clone >= 0 else ""
    if made_by in _BLANKS:
        return _by_filling(flow, conv, part, copy)
    cloned = made_by in _COPIES
    if part.spec.storage != target.storage:
        if not cloned or flow.trace.ops[clone].inputs[0].storage != part.spec.storage:
            return None
        around.add(clone)
    elif cloned and flow.trace.ops[clone].outputs[0].shape == written.shape:
        around.add(clone)
    return Sighting("pconv", frozenset((conv, copy)), frozenset(around), _formula_bytes(flow, conv))


def _by_filling(flow: Flow, conv: int, part: _Part, copy: int) -> Sighting | None:
    """`y[:, :c] = conv(x[:, :c]); y[:, c:] = x[:, c:]` into a blank y, in any order."""
    ops = flow.trace.ops
    blank = flow.trace.storages[ops[copy].inputs[0].storage].born
    core, around = {conv, copy}, {blank, *part.copies}
    pieces = [part.spec]
    for other in flow.writers(ops[copy].inputs[0].storage):
        target, source = ops[other].inputs[0], ops[other].inputs[-1]
        around.update(flow.views(other, target))
        if other == copy or base_name(ops[other].op) != "copy":
            continue
        piece = _slice_read(flow, other, source)
        if piece is None or target.shape != source.shape or not _of_one_tensor(flow, part, piece):
            return None
        if piece.spec.offset - part.spec.offset != target.offset - ops[copy].inputs[0].offset:
            return None
        pieces.append(piece.spec)
        core.add(other)
        around.update((*piece.copies, *flow.views(piece.read_by, piece.spec)))
    if sum(spec.shape[1] for spec in pieces) != ops[blank].outputs[0].shape[1] or not _tile(pieces):
        return None
    around.update(flow.views(part.read_by, part.spec))
    return Sighting("pconv", frozenset(core), frozenset(around), _formula_bytes(flow, conv))


def _by_scatter(flow: Flow, conv: int, part: _Part, scatter: int) -> Sighting | None:
    """`slice_scatter(x, conv(x[:, :c]), 1, 0, c)`."""
    op = flow.trace.ops[scatter]
    whole, read = op.inputs[0], _whole(flow, part.read_by, part.spec)
    same = read is not None and flow.same_value(part.read_by, read, scatter, whole)
    if not same or read is None or op.value("dim", 0) != 1:
        return None
    if _first_channel(part.spec, read) != (op.value("start") or 0):
        return None
    around = {*part.copies, *flow.views(part.read_by, part.spec)}
    return Sighting("pconv", frozenset((conv, scatter)), frozenset(around), _formula_bytes(flow, conv))


def _of_one_tensor(flow: Flow, one: _Part, other: _Part) -> bool:
    """Tell whether two slices show the same state of one tensor, apart from their channels."""
    first, second = one.spec, other.spec
    same_plane = first.shape[:1] + first.shape[2:] == second.shape[:1] + second.shape[2:]
    return (
        same_plane
        and first.storage == second.storage
        and first.strides == second.strides
        and flow.producer(one.read_by, first) == flow.producer(other.read_by, second)
    )


def _tile(slices: Sequence[TensorSpec]) -> bool:
    """Tell whether slices of channels follow each other without gap or overlap."""
    ordered = sorted(slices, key=lambda spec: spec.offset)
    step = ordered[0].strides[1]
    return all(
        spec.offset + spec.shape[1] * step == following.offset for spec, following in pairwise(ordered)
    )


def _whole(flow: Flow, read_by: int, part: TensorSpec) -> TensorSpec | None:
    """The tensor that `part` is some channels of: the nearest one up its views with more channels."""
    for view in flow.views(read_by, part):
        source = next(spec for spec in flow.trace.ops[view].inputs if spec.storage == part.storage)
        if len(source.shape) != len(part.shape) or source.strides != part.strides:
            return None
        if source.shape[0] != part.shape[0] or source.shape[2:] != part.shape[2:]:
            return None
        if source.shape[1] > part.shape[1]:
            return source
    return None


def _first_channel(part: TensorSpec, whole: TensorSpec) -> int:
    return (part.offset - whole.offset) // whole.strides[1]


def _formula_bytes(flow: Flow, conv: int) -> int:
    """FasterNet, eq. 5, with the weights' term: h·w·2c_p per sample, and k²·c_p² once."""
    op = flow.trace.ops[conv]
    image = op.inputs[0]
    weight = op.tensor("weight")
    return (2 * image.numel + (weight.numel if weight else 0)) * image.itemsize


def _listed(value: int | Sequence[int]) -> Sequence[int]:
    return (value,) if isinstance(value, int) else value
