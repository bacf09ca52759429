"""Steps of optimizers: operators on lists of tensors, and whole steps fused into one operator.

A list counts as its tensors one by one do, so a step costs the same with `foreach` and without.
"""

from __future__ import annotations

from collections.abc import Sequence

from flopscope.costs.operands import is_floating
from flopscope.costs.registry import Formula, Work, formula
from flopscope.costs.traffic import bytes_written, covered_bytes, indices_of
from flopscope.records import OpCall, TensorSpec

_ONE_EACH = """
    acos asin atan ceil clamp_max clamp_min cos cosh erf erfc expm1 floor frac lgamma log10 log1p log2
    maximum minimum pow round sign sin sinh tan tanh trunc
"""
_SCALED = {"add": ("alpha", 1), "sub": ("alpha", 1), "addcmul": ("value", 2), "addcdiv": ("value", 2)}

FUSED = {
    "adam": 13,
    "adamw": 13,
    "adagrad": 7,
    "sgd": 2,
}
"""FLOPs per parameter of a fused step, without what its settings add."""

DECAY, MAXIMUM, MOMENTUM, NESTEROV = 2, 1, 3, 2
"""What weight decay, amsgrad's maximum, a momentum and Nesterov's form add per parameter."""


def _each(per_element: int) -> Formula:
    def price_list(op: OpCall) -> Work:
        """All elements of the results, or of what is changed, times one number."""
        return Work(other_flops=per_element * _elements(op))

    return price_list


for _name in _ONE_EACH.split():
    formula(f"aten::_foreach_{_name}")(_each(1))


def _scaled(factor: str, per_element: int) -> Formula:
    def price_scaled(op: OpCall) -> Work:
        """One more per element where the factor is not 1."""
        given = op.value(factor, op.value("scalars" if factor == "value" else factor, 1))
        scaled = any(item != 1 for item in given) if isinstance(given, tuple) else given != 1
        return Work(other_flops=(per_element + scaled) * _elements(op))

    return price_scaled


for _name, (_factor, _count) in _SCALED.items():
    formula(f"aten::_foreach_{_name}")(_scaled(_factor, _count))


@formula("aten::_foreach_norm", "aten::_foreach_powsum")
def _norms(op: OpCall) -> Work:
    """Absolute value or square, and sum: 2 per element; another order costs a power more."""
    simple = op.value("ord", 2) in (0, 1, 2, float("inf"))
    return Work(other_flops=(2 if simple else 3) * _count_of(op.tensors("self")))


@formula("aten::_foreach_max")
def _largest(op: OpCall) -> Work:
    return Work(other_flops=_count_of(op.tensors("self")))


@formula("aten::_fused_adam", "aten::_fused_adamw")
def _fused_adam(op: OpCall) -> Work:
    """Kingma and Ba 2015, algorithm 1: both moments 3 + 4, the denominator 3, the step 3.

    Decoupled weight decay, like the gradient's, multiplies and adds: 2.
    """
    extra = DECAY * bool(op.value("weight_decay", 0)) + MAXIMUM * bool(op.value("amsgrad", False))
    return _fused(op, FUSED["adam"] + extra)


@formula("aten::_fused_adagrad")
def _fused_adagrad(op: OpCall) -> Work:
    """Sum of squares 2; square root, epsilon, quotient, rate and difference 5."""
    return _fused(op, FUSED["adagrad"] + DECAY * bool(op.value("weight_decay", 0)))


@formula("aten::_fused_sgd")
def _fused_sgd(op: OpCall) -> Work:
    """Rate and difference 2; a momentum 3, in Nesterov's form 2 more."""
    momentum = MOMENTUM * bool(op.value("momentum", 0)) + NESTEROV * bool(op.value("nesterov", False))
    return _fused(op, FUSED["sgd"] + DECAY * bool(op.value("weight_decay", 0)) + momentum)


def _fused(op: OpCall, per_element: int) -> Work:
    """Gradients are read, and written only where they are scaled back first."""
    gradients = {*indices_of(op, "grads")}
    scaled = op.tensor("grad_scale") is not None
    changed = covered_bytes(op.inputs[index] for index in op.written if scaled or index not in gradients)
    written = changed if op.written else bytes_written(op)
    return Work(other_flops=(per_element + scaled) * _count_of(op.tensors("self")), bytes_written=written)


def _elements(op: OpCall) -> int:
    return _count_of(op.outputs or tuple(op.inputs[index] for index in op.written))


def _count_of(specs: Sequence[TensorSpec]) -> int:
    return sum(spec.numel for spec in specs if is_floating(spec.dtype))
