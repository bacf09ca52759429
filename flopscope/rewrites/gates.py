"""A run -> its squeeze-and-excitation blocks, by data flow: what is gated by numbers of its own mean.

Hu et al., "Squeeze-and-Excitation Networks", arXiv 1709.01507: global mean, one or two small projections, a
gate with one number per sample and channel, and the multiplication of the very tensor that was averaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flopscope.records import OpCall, TensorSpec
from flopscope.rewrites.dataflow import Flow, name

POOLS = ("mean", "adaptive_avg_pool2d", "_adaptive_avg_pool2d", "avg_pool2d", "sum")
PRODUCTS = ("linear", "addmm", "mm", "matmul")
MOST_OPS = 32  # a gate is a handful of ops; a longer walk has left the block


@dataclass(frozen=True, slots=True)
class Gate:
    """A squeeze-and-excitation: its module, the ops that average the map, and the multiplication.

    `reason` tells why no module can be taken out; `path` is then that of the container that computes it.
    """

    path: str
    pools: frozenset[int]
    multiplication: int
    reason: str = ""


def gates(flow: Flow) -> Iterator[Gate]:
    """Yield each execution of a squeeze-and-excitation (or a relative of it) in the order of the run."""
    for index, op in enumerate(flow.trace.ops):
        if name(op) != "mul" or len(op.inputs) != 2:
            continue
        for image, gate in (op.inputs, op.inputs[::-1]):
            found = _behind(flow, index, image, gate) if _may_gate(op, image, gate) else None
            if found is not None:
                yield found
                break


def _may_gate(op: OpCall, image: TensorSpec, gate: TensorSpec) -> bool:
    """Tell by shapes whether `gate` has one number for each sample and channel of `image`."""
    if len(image.shape) != 4 or op.outputs[0].shape != image.shape:
        return False
    return gate.distinct_bytes == image.shape[0] * image.shape[1] * gate.itemsize


def _behind(flow: Flow, multiplication: int, image: TensorSpec, gate: TensorSpec) -> Gate | None:
    """Follow the gate back; all that it is made of must be averages of the image."""
    value = flow.producer(multiplication, image.storage)
    inside, pools, pending = set[int](), set[int](), [(multiplication, gate)]
    while pending:
        at, wanted = pending.pop()
        made = flow.producer(at, wanted.storage)
        if at != multiplication and wanted.storage == image.storage and made == value:
            pools.add(at)
        elif made < 0 or len(inside) > MOST_OPS:
            return None
        elif made not in inside:
            inside.add(made)
            pending += [(made, spec) for spec in flow.data(flow.trace.ops[made])]
    numbers = gate.distinct_bytes // gate.itemsize
    if not pools or any(not _averages(flow.trace.ops[index], numbers) for index in pools):
        return None
    kinds = [kind for kind in map(_projection, map(flow.trace.ops.__getitem__, inside)) if kind]
    if len(kinds) not in (1, 2):
        return None
    return _placed(flow, multiplication, image, inside, pools, across="across" in kinds)


def _averages(op: OpCall, numbers: int) -> bool:
    return name(op) in POOLS and op.outputs[0].numel == numbers


def _projection(op: OpCall) -> str:
    """Tell "mixing" of an op that mixes all channels, "across" of one along the channels, else ""."""
    if name(op) in PRODUCTS:
        return "mixing"
    if "conv" not in name(op):
        return ""
    return "mixing" if set(op.inputs[1].shape[2:]) <= {1} else "across"


def _placed(
    flow: Flow, multiplication: int, image: TensorSpec, inside: set[int], pools: set[int], *, across: bool
) -> Gate:
    """Find the module that a gate is, or tell why it is none."""
    call = flow.home({multiplication, *inside})
    computing = flow.computing(call)
    reason = ""
    if across:
        reason = "its gate is a convolution along the channels (ECA), no squeeze-and-excitation"
    elif set(computing) != {multiplication, *inside} or computing[-1] != multiplication:
        reason = f"its squeeze-and-excitation is written in the forward of {call.type}, without a module"
    elif call.parent is None:
        reason = "it is the model itself, and would leave nothing"
    elif call.input_shapes != (image.shape,) or call.output_shapes != (image.shape,):
        reason = "it takes or returns more than the feature map"
    return Gate(call.path, frozenset(pools), multiplication, reason)
