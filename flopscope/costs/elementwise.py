"""Point-wise ops, reductions, softmax and losses: a number from the table per element.

Arithmetic on integers and booleans is no floating point work and counts 0 FLOPs.
"""

from __future__ import annotations

from flopscope.costs.operands import (
    broadcast,
    is_complex,
    operand,
    product,
    result,
    works_on_floats,
)
from flopscope.costs.registry import NOTHING, Formula, Work, formula
from flopscope.costs.table import PER_INPUT, PER_OUTPUT, PER_OUTPUT_COMPLEX, PER_PAIR, TERM
from flopscope.records import OpCall


def _per_output(name: str) -> Formula:
    def price_outputs(op: OpCall) -> Work:
        """Output elements times the table's number."""
        return _elementwise(op, PER_OUTPUT[name], PER_OUTPUT_COMPLEX.get(name, 2 * PER_OUTPUT[name]))

    return price_outputs


def _per_input(name: str) -> Formula:
    def price_inputs(op: OpCall) -> Work:
        """Elements of the first input times the table's number; max(a, b) is point-wise."""
        if not works_on_floats(op) or not op.inputs:
            return Work()
        first = result(op) if op.tensor("other") else op.inputs[0]
        return Work(other_flops=PER_INPUT[name] * (2 if is_complex(first.dtype) else 1) * first.numel)

    return price_inputs


def _per_pair(name: str) -> Formula:
    def price_pairs(op: OpCall) -> Work:
        """Elements of prediction and target; 1 more each where the loss is summed or averaged."""
        shapes = (operand(op, "self").shape, operand(op, "target").shape)
        reduced = op.value("reduction", 1) != 0
        return Work(other_flops=(PER_PAIR[name] + reduced) * product(broadcast(*shapes)))

    return price_pairs


# These have formulas of their own below: their arguments decide.
_BY_ARGUMENT = frozenset({"add", "sub", "rsub", "gelu"})
_IN_LISTS = "mul div neg abs exp log sqrt rsqrt reciprocal sigmoid lerp"
for _name in PER_OUTPUT.keys() - _BY_ARGUMENT:
    formula(f"aten::{_name}")(_per_output(_name))
for _name in PER_INPUT:
    formula(f"aten::{_name}")(_per_input(_name))
for _name in PER_PAIR:
    formula(f"aten::{_name}")(_per_pair(_name))
for _name in _IN_LISTS.split():
    formula(f"aten::_foreach_{_name}")(_per_output(_name))


@formula("aten::add", "aten::sub", "aten::rsub")
def _add(op: OpCall) -> Work:
    """For self + alpha * other 1, and 1 more for an alpha other than 1; complex twice."""
    per_element = PER_OUTPUT["add"] + (op.value("alpha", 1) != 1)
    return _elementwise(op, per_element, 2 * per_element)


@formula("aten::addcmul", "aten::addcdiv")
def _addcmul(op: OpCall) -> Work:
    """For self + value * t1 * t2 2, and 1 more for a value other than 1."""
    per_element = 2 + (op.value("value", 1) != 1)
    return _elementwise(op, per_element, 4 * per_element)


@formula("aten::clamp", "aten::clip")
def _clamp(op: OpCall) -> Work:
    """1 for each bound that is given."""
    bounds = sum(op.value(bound) is not None for bound in ("min", "max"))
    return _elementwise(op, bounds, 2 * bounds)


@formula("aten::gelu")
def _gelu(op: OpCall) -> Work:
    """By erf, x / 2 (1 + erf(x / sqrt 2)): 5; by tanh(sqrt(2 / pi) (x + 0.044715 x^3)): 9."""
    by_tanh = op.value("approximate", "none") == "tanh"
    return _elementwise(op, TERM["gelu by tanh"] if by_tanh else PER_OUTPUT["gelu"], 0)


@formula("aten::dropout", "aten::native_dropout", "aten::_fused_dropout")
def _dropout(op: OpCall) -> Work:
    """Nothing when evaluated; in training a mask multiplied and a scale."""
    training = op.value("train", op.op == "aten::_fused_dropout")
    if op.op == "aten::dropout" and not (training and op.value("p", 0.5)):
        return NOTHING
    if training is False:
        return Work()
    return _elementwise(op, TERM["dropout in training"], 2 * TERM["dropout in training"])


@formula("aten::linalg_vector_norm", "aten::norm")
def _vector_norm(op: OpCall) -> Work:
    """|x|_p: absolute value or square, and sum or maximum; another p costs a power more."""
    if not works_on_floats(op):
        return Work()
    order = op.value("ord", op.value("p", 2))
    simple = order is None or order in (0, 1, 2, float("inf"), float("-inf"))
    return Work(other_flops=(2 if simple else 3) * operand(op, "self", "x").numel)


@formula("aten::cdist", "aten::_cdist_forward", "aten::_euclidean_dist")
def _cdist(op: OpCall) -> Work:
    """Distances of all pairs: 3 per pair and coordinate (4 where p is neither 1 nor 2), 1 per pair."""
    width = operand(op, "x1").shape[-1]
    per_coordinate = 3 if op.value("p", 2.0) in (0.0, 1.0, 2.0, float("inf")) else 4
    return Work(other_flops=result(op).numel * (per_coordinate * width + 1))


@formula("aten::outer", "aten::ger", "aten::kron", whole=False)
def _outer(op: OpCall) -> Work:
    """Products without a sum."""
    return _elementwise(op, PER_OUTPUT["mul"], PER_OUTPUT_COMPLEX["mul"])


@formula("aten::fake_quantize_per_tensor_affine", "aten::fake_quantize_per_channel_affine")
def _fake_quantize(op: OpCall) -> Work:
    """Scale, shift, round, two bounds, and back."""
    return _elementwise(op, TERM["fake quantize"], 0)


@formula(
    "aten::fake_quantize_per_tensor_affine_cachemask",
    "aten::fake_quantize_per_channel_affine_cachemask",
    "aten::_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
)
def _fake_quantize_with_mask(op: OpCall) -> Work:
    return _elementwise(op, TERM["fake quantize"], 0)


def _elementwise(op: OpCall, real: int, complex_: int) -> Work:
    """Numbers per output element; for a list of tensors the outputs, or what was changed, together."""
    if not works_on_floats(op):
        return Work()
    first = result(op)
    per_element = complex_ if is_complex(first.dtype) or _complex_operand(op) else real
    specs = (op.outputs or tuple(op.inputs[i] for i in op.written)) if "_foreach_" in op.op else (first,)
    return Work(other_flops=per_element * sum(spec.numel for spec in specs))


def _complex_operand(op: OpCall) -> bool:
    return bool(op.inputs) and is_complex(op.inputs[0].dtype)
