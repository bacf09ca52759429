"""Recurrent layers and cells: each weight matrix meets each token once, per layer and direction.

The gates' two products are added in one accumulator; their biases start it.
"""

from __future__ import annotations

from collections.abc import Iterable

from flopscope.costs.operands import MissingOperandError, operand, product
from flopscope.costs.registry import Formula, Work, formula
from flopscope.costs.table import TERM
from flopscope.records import OpCall, TensorSpec

_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
# torch's numbers for the argument `mode` of cuDNN, MIOpen and oneDNN.
_MODES = ("rnn", "rnn", "lstm", "gru")


def layer_macs(tokens: int, weights: Iterable[TensorSpec]) -> int:
    """MACs of stacked layers: tokens * elements of all their weight matrices.

    With G gates, I inputs, H units and R = H, or the projection's size, a layer and direction has
    [G * H, I], [G * H, R] and, projected, [R, H]; biases are vectors and do not count.
    """
    return tokens * sum(weight.numel for weight in weights if len(weight.shape) == 2)


def _layer(family: str) -> Formula:
    def price_layer(op: OpCall) -> Work:
        """A whole stack, padded (input [T, B, I]) or packed (data [tokens, I])."""
        weights = op.tensors("params")
        return _stack(op, family, weights, operand(op, "input", "data"))

    return price_layer


def _cell(family: str) -> Formula:
    def price_cell(op: OpCall) -> Work:
        """One step of one layer: input [B, I] or [I], w_ih [G * H, I], w_hh [G * H, H]."""
        weights = (operand(op, "w_ih"), operand(op, "w_hh"))
        data = operand(op, "input")
        tokens = product(data.shape[:-1])
        units = weights[0].shape[0] // _GATES[family]
        return Work(layer_macs(tokens, weights), TERM[f"{family} unit"] * tokens * units)

    return price_cell


for _family, _names in {"lstm": ("lstm",), "gru": ("gru",), "rnn": ("rnn_tanh", "rnn_relu")}.items():
    formula(*(f"aten::{name}" for name in _names))(_layer(_family))
    formula(*(f"aten::{name}_cell" for name in _names))(_cell(_family))
formula("aten::_lstm_mps")(_layer("lstm"))


@formula("aten::mkldnn_rnn_layer")
def _mkldnn_layer(op: OpCall) -> Work:
    """One layer in one direction: weight0 and weight1 are matrices, weight2 and weight3 biases.

    The fourth result is the library's workspace, of a size that it alone knows: not counted.
    """
    weights = (operand(op, "weight0"), operand(op, "weight1"))
    work = _stack(op, _family_of_mode(op), weights, operand(op, "input"))
    written = sum(spec.distinct_bytes for spec in op.outputs[:3])
    return Work(work.macs, work.other_flops, bytes_written=written)


@formula("aten::_cudnn_rnn", "aten::miopen_rnn")
def _cudnn(op: OpCall) -> Work:
    return _stack(op, _family_of_mode(op), op.tensors("weight"), operand(op, "input"))


@formula("aten::_thnn_fused_lstm_cell")
def _fused_lstm(op: OpCall) -> Work:
    """The gates are given; left are activations and the new state."""
    return Work(other_flops=TERM["lstm unit"] * operand(op, "cx").numel)


@formula("aten::_thnn_fused_gru_cell")
def _fused_gru(op: OpCall) -> Work:
    return Work(other_flops=TERM["gru unit"] * operand(op, "hx").numel)


def _family_of_mode(op: OpCall) -> str:
    mode = op.value("mode")
    if not isinstance(mode, int) or not 0 <= mode < len(_MODES):
        raise MissingOperandError(f"{op.op} of unknown mode {mode!r}")
    return _MODES[mode]


def _stack(op: OpCall, family: str, weights: tuple[TensorSpec, ...], data: TensorSpec) -> Work:
    """All layers and directions; every first matrix of a layer has a row per gate and unit."""
    if not weights:
        raise MissingOperandError(f"{op.op} has no weights")
    tokens = product(data.shape[:-1])
    units = weights[0].shape[0] // _GATES[family]
    stacked = op.value("num_layers", 1) * (2 if op.value("bidirectional", False) else 1)
    return Work(layer_macs(tokens, weights), TERM[f"{family} unit"] * tokens * units * stacked)
