"""Normalisations: by running statistics 2 per element, by the input's own 5, and its weight and bias.

Own statistics: sum, subtract, square, sum, multiply. What is done once per channel or row is not
counted, except for RMS norm, which eager execution may run as single ops that do count it.
"""

from __future__ import annotations

from flopscope.costs.operands import operand, product
from flopscope.costs.registry import Work, formula
from flopscope.costs.table import TERM
from flopscope.costs.traffic import bytes_written
from flopscope.records import OpCall

# fvcore's convention: 5 per element with affine parameters and 4 without; 2 and 1 for batch norm in eval.
_FVCORE_OWN, _FVCORE_RUNNING = 4, 1


@formula(
    "aten::batch_norm",
    "aten::native_batch_norm",
    "aten::_native_batch_norm_legit",
    "aten::_native_batch_norm_legit_functional",
    "aten::_batch_norm_impl_index",
    "aten::cudnn_batch_norm",
    "aten::miopen_batch_norm",
)
def _batch_norm(op: OpCall) -> Work:
    """Evaluation: x * scale + shift. Training: own statistics, and the running ones are updated."""
    if not op.value("training", False):
        return _by_running_statistics(op)
    return _with_update(op)


@formula("aten::_native_batch_norm_legit_no_training", "aten::_batch_norm_no_update")
def _batch_norm_in_evaluation(op: OpCall) -> Work:
    return _by_running_statistics(op)


@formula("aten::_batch_norm_with_update", "aten::_batch_norm_with_update_functional")
def _batch_norm_in_training(op: OpCall) -> Work:
    return _with_update(op)


@formula("aten::instance_norm")
def _instance_norm(op: OpCall) -> Work:
    if op.value("use_input_stats", True):
        return _with_update(op)
    return _by_running_statistics(op)


@formula("aten::layer_norm", "aten::native_layer_norm", "aten::group_norm", "aten::native_group_norm")
def _layer_norm(op: OpCall) -> Work:
    return _by_own_statistics(op)


@formula("aten::rms_norm", "aten::_fused_rms_norm", whole=False)
def _rms_norm(op: OpCall) -> Work:
    """Root mean square norm, x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019, eq. 4)."""
    data = operand(op, "input")
    width = product(op.value("normalized_shape", data.shape[-1:]))
    rows = data.numel // width if width else 0
    per_element = TERM["rms norm"] + (TERM["its weight"] if op.tensor("weight") else 0)
    return Work(
        other_flops=per_element * data.numel + TERM["rms norm, per row"] * rows,
        fvcore_flops=0,
    )


def _by_running_statistics(op: OpCall) -> Work:
    elements = operand(op, "input").numel
    return Work(
        other_flops=TERM["batch norm with running statistics"] * elements,
        fvcore_flops=(_FVCORE_RUNNING + (op.tensor("weight") is not None)) * elements,
    )


def _by_own_statistics(op: OpCall) -> Work:
    elements = operand(op, "input").numel
    affine = {name: op.tensor(name) is not None for name in ("weight", "bias")}
    per_element = TERM["normalisation by own statistics"]
    per_element += sum(TERM[f"its {name}"] for name, given in affine.items() if given)
    fvcore = (_FVCORE_OWN + affine["weight"]) * elements
    return Work(other_flops=per_element * elements, fvcore_flops=fvcore)


def _with_update(op: OpCall) -> Work:
    """Own statistics; the schema of the composite ops does not say that they write the running ones."""
    work = _by_own_statistics(op)
    running = [operand(op, name) for name in ("running_mean", "running_var") if op.tensor(name)]
    undeclared = 0 if op.written else sum(spec.distinct_bytes for spec in running)
    return Work(
        other_flops=work.other_flops,
        fvcore_flops=work.fvcore_flops,
        bytes_written=bytes_written(op) + (0 if op.op.endswith("_functional") else undeclared),
    )
