"""One op -> its kind, by the operator's family and, for contractions, by its geometry."""

from __future__ import annotations

from collections.abc import Sequence

from flopscope.records import OpCall, Storage, Trace

from .families import CONVOLUTIONS, PRODUCTS, base_name, family
from .flow import Flow

_MOVES = ("elementwise", "activation", "data_movement")  # what may stand between the products of attention
_MOST_STEPS = 16


def kinds(trace: Trace) -> tuple[str, ...]:
    """Give the kind of every op of a trace, in its order.

    Beyond `kind_of_op` this looks at the data flow: two products of activations with a softmax
    between them are `attention`, as the same computation written as one operator is.
    """
    found = [kind_of_op(op, trace.storages) for op in trace.ops]
    if any(base_name(op.op) == "softmax" for op in trace.ops):
        _mark_attention(trace, found)
    return tuple(found)


def kind_of_op(op: OpCall, storages: Sequence[Storage] = ()) -> str:
    """Name what one op does: one of `records.KINDS`.

    Args:
        op: the op call.
        storages: the trace's; they tell a product with a weight (`linear`) from one of two
            activations (`matmul`). Without them `addmm` and `addmv` count as linear.
    """
    if op.view:
        return "data_movement"
    base = base_name(op.op)
    if base in CONVOLUTIONS:
        return _kind_of_convolution(op, base)
    if base in PRODUCTS:
        return _kind_of_product(op, base, storages)
    known = family(base)
    if known:
        return known
    if "reduction" in op.tags:
        return "reduction"
    return "elementwise" if "pointwise" in op.tags else "other"


def _kind_of_convolution(op: OpCall, base: str) -> str:
    """Tell the kinds of convolution apart by groups, channels and kernel size."""
    if op.value("transposed", False) or "transpose" in base:
        return "transposed_conv"
    weight = op.tensor("weight")
    if weight is None or len(weight.shape) < 3:
        return "conv"
    groups = op.value("groups", 1) or 1
    channels = weight.shape[1] * groups
    if groups == channels and channels > 1:
        return "depthwise_conv"
    if groups > 1:
        return "group_conv"
    return "pointwise_conv" if all(size == 1 for size in weight.shape[2:]) else "conv"


def _kind_of_product(op: OpCall, base: str, storages: Sequence[Storage]) -> str:
    """A product with a weight is `linear`, one of two activations is `matmul`."""
    if not storages:
        return "linear" if base in ("addmm", "addmv") else "matmul"
    added = op.tensor("self") if base in ("addmm", "addmv", "baddbmm", "addbmm", "addr") else None
    factors = [spec for spec in op.inputs if spec is not added]
    weights = [spec for spec in factors if storages[spec.storage].role == "parameter"]
    return "linear" if weights else "matmul"


def _mark_attention(trace: Trace, found: list[str]) -> None:
    """Rename the two products round a softmax; both must be of activations."""
    flow = Flow(trace)
    for index in range(len(trace.ops)):
        if found[index] != "matmul":
            continue
        for softmax in _softmaxes_above(flow, index, found):
            scores = trace.ops[softmax].inputs[0]
            cone = flow.cone(softmax, scores, through=_MOVES, kinds=found)
            for end in cone.ends:  # a product of another size is a position bias, not the scores
                if end >= 0 and _is_product(trace.ops[end], found[end], scores.numel):
                    found[end] = found[index] = "attention"


def _is_product(op: OpCall, kind: str, numel: int) -> bool:
    """Tell whether an op multiplies two activations into `numel` numbers."""
    return kind in ("matmul", "attention") and base_name(op.op) in PRODUCTS and op.outputs[0].numel == numel


def _softmaxes_above(flow: Flow, index: int, found: Sequence[str]) -> list[int]:
    """Find the softmax ops whose result reaches an input of op `index` unchanged, scaled or masked."""
    above: list[int] = []
    passed: set[int] = set()
    pending = [(index, spec) for spec in flow.trace.ops[index].inputs]
    while pending and len(passed) < _MOST_STEPS:
        made = flow.producer(*pending.pop())
        if made < 0 or made in passed:
            continue
        op = flow.trace.ops[made]
        if base_name(op.op) == "softmax":
            above.append(made)
        elif found[made] in _MOVES:
            passed.add(made)
            pending.extend((made, spec) for spec in op.inputs)
    return above
