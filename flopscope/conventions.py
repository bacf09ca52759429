"""`Trace` and costs -> the model's totals as others count them, by name."""

from __future__ import annotations

from collections.abc import Sequence

from flopscope.records import OpCall, OpCost, TensorSpec, Trace

_BATCH_NORMS = frozenset(
    {
        "aten::batch_norm",
        "aten::native_batch_norm",
        "aten::cudnn_batch_norm",
        "aten::_native_batch_norm_legit",
        "aten::_native_batch_norm_legit_no_training",
        "aten::_batch_norm_impl_index",
    }
)
_CONVOLUTIONS = frozenset({"aten::convolution", "aten::_convolution", "aten::conv2d"})
_FOLDABLE = _CONVOLUTIONS | {"aten::conv1d", "aten::conv3d", "aten::linear", "aten::addmm", "aten::mm"}


def totals(trace: Trace, costs: Sequence[OpCost]) -> dict[str, int]:
    """Count the whole model by each convention.

    Args:
        trace: what was run.
        costs: one price per op.

    Returns:
        `macs` and `flops`, ours; `fvcore_like`, MACs with fvcore's terms for norms and pools;
        `winograd_muls`, multiplications where 3x3 convolutions of stride 1 run by Winograd's
        F(2x2, 3x3), as RepVGG's tables print them; `params_folded`, the parameters left when each
        BatchNorm is folded into the convolution or linear layer before it.
    """
    return {
        "macs": sum(item.cost.macs for item in costs),
        "flops": sum(item.cost.flops for item in costs),
        "fvcore_like": sum(item.fvcore_flops for item in costs),
        "winograd_muls": sum(
            _winograd_muls(op, item.cost.macs) for op, item in zip(trace.ops, costs, strict=True)
        ),
        "params_folded": sum(item.numel for item in trace.parameters) - _params_folded_away(trace),
    }


def _winograd_muls(op: OpCall, macs: int) -> int:
    """4/9 of the MACs for a 3x3 convolution of stride 1, grouped ones too; else all of them.

    F(2x2, 3x3) makes 4 outputs with 16 multiplications for 36 (Lavin & Gray, 2016). The MACs of
    such a convolution are a multiple of 9, so the result is exact.
    """
    if op.op not in _CONVOLUTIONS or op.value("transposed", False):
        return macs
    weight, stride = op.tensor("weight"), op.value("stride", 1)
    steps = {stride} if isinstance(stride, int) else set(stride)
    if weight is None or weight.shape[2:] != (3, 3) or steps != {1}:
        return macs
    return macs * 4 // 9


def _params_folded_away(trace: Trace) -> int:
    """How many parameters disappear with the BatchNorms that directly follow a convolution.

    Weight and bias of the norm go, 2C in all; a convolution without a bias gains one of C.
    """
    uses = _readers(trace)
    last_writer: dict[int, int] = {}
    seen: set[tuple[int | None, int]] = set()
    away = 0
    for index, op in enumerate(trace.ops):
        for position in op.written:
            last_writer[op.inputs[position].storage] = index
        if op.op not in _BATCH_NORMS:
            continue
        made = max(last_writer.get(op.inputs[0].storage, -1), trace.storages[op.inputs[0].storage].born)
        before = trace.ops[made] if 0 <= made < index else None
        key = _identity(op, before)
        if before is not None and key not in seen and _folds(before, op, uses):
            seen.add(key)
            gained = 0 if _has_bias(before) else _channels(before)
            away += _numel(op.tensor("weight")) + _numel(op.tensor("bias")) - gained
    return away


def _folds(before: OpCall, norm: OpCall, uses: dict[int, int]) -> bool:
    """Tell whether `norm` is all that reads the result of the convolution or linear `before`."""
    result = before.outputs[0]
    return (
        before.op in _FOLDABLE
        and uses.get(result.storage) == 1
        and norm.inputs[0].numel == result.numel
        and _channels(before) == norm.inputs[0].shape[1]
    )


def _identity(norm: OpCall, before: OpCall | None) -> tuple[int | None, int]:
    """By which parameters a repeated call is known: the norm's, or where it has none the weight's."""
    own = norm.tensor("weight")
    weight = before.tensor("weight") if before is not None else None
    return (own.storage if own else None, weight.storage if weight else -1)


def _readers(trace: Trace) -> dict[int, int]:
    """How many ops, views excepted, read each storage."""
    uses: dict[int, int] = {}
    for op in trace.ops:
        if not op.view:
            for storage in {spec.storage for spec in op.inputs}:
                uses[storage] = uses.get(storage, 0) + 1
    return uses


def _channels(op: OpCall) -> int:
    """The channels that a convolution or linear layer puts out."""
    shape = op.outputs[0].shape
    return shape[1] if op.op in _FOLDABLE and _is_convolution(op) else shape[-1]


def _is_convolution(op: OpCall) -> bool:
    return "conv" in op.op


def _has_bias(op: OpCall) -> bool:
    return op.op == "aten::addmm" or op.tensor("bias") is not None


def _numel(spec: TensorSpec | None) -> int:
    return spec.numel if spec is not None else 0
