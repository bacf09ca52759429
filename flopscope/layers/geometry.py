"""The ops of one layer -> its geometry in a few characters, and the published memory access."""

from __future__ import annotations

from collections.abc import Sequence

from flopscope.records import OpCall, OpCost

_CONVOLUTIONS = ("conv", "pointwise_conv", "depthwise_conv", "group_conv", "transposed_conv")


def describe(kind: str, ops: Sequence[OpCall], kinds: Sequence[str], costs: Sequence[OpCost]) -> str:
    """Say the geometry of a layer: "3x3 s2 16>64 g64 d2", "768>3072"; "" where there is none.

    Kernel, stride if above 1, channels in>out, groups and dilation if above 1. A layer with
    several contractions shows the one with the most MACs; an SE its widths; a PConv the
    channels that it convolves of those that it has.
    """
    if kind == "se":
        return _widths(ops, kinds)
    main = _main(ops, kinds, costs)
    if main is None:
        return ""
    op, what = main
    if kind == "pconv":
        return f"{_convolution(op)} of {max(_channels(item) for item in ops)}"
    if what in _CONVOLUTIONS:
        return _convolution(op)
    return _linear(op) if what == "linear" else _other(op, what)


def named_ops(ops: Sequence[OpCall]) -> str:
    """Name what a container does between its children: "add", "cat mul", at most three and an ellipsis."""
    names = [op.op.rpartition("::")[2].rstrip("_") for op in ops if not op.view]
    distinct = list(dict.fromkeys(names))
    return " ".join([*distinct[:3], *(["…"] if len(distinct) > 3 else [])])


def published_bytes(kind: str, ops: Sequence[OpCall], kinds: Sequence[str]) -> int | None:
    """Memory access by the published formulas, of all calls; None where they do not apply.

    FasterNet, eq. 2 for depthwise and eq. 3 for dense convolution, with the weights' term:
    h·w·2c per sample and k²·c or k²·c² once, for stride 1 and as many channels out as in.
    """
    if kind not in ("conv", "pointwise_conv", "depthwise_conv"):
        return None
    amount = 0
    for op, what in zip(ops, kinds, strict=True):
        if what in _CONVOLUTIONS and op.phase == "forward":
            weight = op.tensor("weight")
            if weight is None or not op.outputs or op.inputs[0].shape != op.outputs[0].shape:
                return None
            amount += (2 * op.inputs[0].numel + weight.numel) * op.inputs[0].itemsize
    return amount


def _main(ops: Sequence[OpCall], kinds: Sequence[str], costs: Sequence[OpCost]) -> tuple[OpCall, str] | None:
    """The op that the text is about: the one with the most MACs, else with the most FLOPs."""
    if not ops:
        return None
    index = max(range(len(ops)), key=lambda at: (costs[at].cost.macs, costs[at].cost.flops))
    return (ops[index], kinds[index])


def _convolution(op: OpCall) -> str:
    weight = op.tensor("weight")
    if weight is None or len(weight.shape) < 3:
        return ""
    groups = op.value("groups", 1) or 1
    inside, outside = weight.shape[1] * groups, weight.shape[0]
    if op.value("transposed", False):
        inside, outside = weight.shape[0], weight.shape[1] * groups
    return " ".join(
        (
            _by(weight.shape[2:]),
            *_unless_one("s", op.value("stride", 1)),
            f"{inside}>{outside}",
            *_unless_one("g", groups),
            *_unless_one("d", op.value("dilation", 1)),
        )
    )


def _linear(op: OpCall) -> str:
    data = op.tensor("input") or op.tensor("mat1") or op.inputs[0]
    if not data.shape or not op.outputs or not op.outputs[0].shape:
        return ""
    return f"{data.shape[-1]}>{op.outputs[0].shape[-1]}"


def _other(op: OpCall, what: str) -> str:
    """Pooling by its window, embedding by its table."""
    if what == "pooling" and op.value("kernel_size"):
        stride = op.value("stride") or op.value("kernel_size")
        return " ".join((_by(op.value("kernel_size")), *_unless_one("s", stride)))
    table = op.tensor("weight")
    return _by(table.shape) if what == "embedding" and table is not None else ""


def _widths(ops: Sequence[OpCall], kinds: Sequence[str]) -> str:
    """C>r>C of the first two projections."""
    projections = [op for op, kind in zip(ops, kinds, strict=True) if kind in (*_CONVOLUTIONS, "linear")]
    if len(projections) < 2:
        return ""
    samples = max(projections[0].outputs[0].shape[0], 1)
    first, second = (op.outputs[0].numel // samples for op in projections[:2])
    return f"{second}>{first}>{second}"


def _channels(op: OpCall) -> int:
    return max((spec.shape[1] for spec in (*op.inputs[:1], *op.outputs) if len(spec.shape) > 2), default=0)


def _by(sizes: int | Sequence[int]) -> str:
    return str(sizes) if isinstance(sizes, int) else "x".join(str(size) for size in sizes)


def _unless_one(letter: str, value: int | Sequence[int]) -> tuple[str, ...]:
    """The setting with its letter; equal sizes as one number, nothing at all for 1."""
    sizes = {value} if isinstance(value, int) else set(value)
    if sizes <= {1}:
        return ()
    return (f"{letter}{sizes.pop()}" if len(sizes) == 1 else f"{letter}{_by(value)}",)
