"""Attention in all its names: the two products, the softmax between, the projections around.

A causal mask, a padding mask and a window count in full: so the number does not depend on values.
"""

from __future__ import annotations

from dataclasses import dataclass

from flopscope.costs.operands import broadcast, operand, product, result
from flopscope.costs.registry import Work, formula
from flopscope.costs.table import PER_OUTPUT, TERM
from flopscope.records import OpCall, TensorSpec


@dataclass(frozen=True, slots=True)
class Scores:
    """The matrix of scores: `pairs` of query and key over all heads, `query_dim` and `value_dim` wide."""

    pairs: int
    query_dim: int
    value_dim: int

    @property
    def macs(self) -> int:
        """Q K^T and P V: B * H * L * S * (E + Ev) (Vaswani et al. 2017, eq. 1)."""
        return self.pairs * (self.query_dim + self.value_dim)

    def other_flops(self, *, masked: bool) -> int:
        """Scaling and softmax of every score, and the addition of a mask."""
        per_pair = TERM["attention score"] + (TERM["attention score, masked"] if masked else 0)
        return self.pairs * per_pair


@formula(
    "aten::scaled_dot_product_attention",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_fused_attention_overrideable",
    "aten::_scaled_dot_product_attention_math",
    "aten::_scaled_dot_product_attention_math_for_mps",
    "aten::_triton_scaled_dot_attention",
)
def _scaled_dot_product(op: OpCall) -> Work:
    return _work(op, scores_by_head(op))


@formula("aten::_flash_attention_forward", "aten::_efficient_attention_forward")
def _heads_inside(op: OpCall) -> Work:
    return _work(op, scores_by_token(op))


@formula("aten::_cudnn_attention_forward")
def _cudnn_forward(op: OpCall) -> Work:
    return _work(op, scores_by_head(op) if op.tensor("cum_seq_q") is None else scores_by_token(op))


def scores_by_head(op: OpCall) -> Scores:
    """Operands [..., H, L, E], [..., Hkv, S, E], [..., Hkv, S, Ev]; grouped heads count as queries' H."""
    query, key, value = _query_key_value(op)
    grouped = len(query.shape) > 2 and query.shape[-3] != key.shape[-3] and key.shape[-3] != 1
    heads = query.shape[:-2] if grouped else broadcast(query.shape[:-2], key.shape[:-2])
    pairs = product(heads) * query.shape[-2] * key.shape[-2]
    return Scores(pairs, query.shape[-1], value.shape[-1])


def scores_by_token(op: OpCall) -> Scores:
    """Operands [B, L, H, E] and [B, S, Hkv, E]; or packed [total, H, E] with cumulative lengths.

    Of a packed batch only the longest lengths are known without data: it counts as if padded.
    """
    query, key, value = _query_key_value(op)
    starts = op.tensor("cum_seq_q") or op.tensor("cu_seqlens_q")
    if starts is None:
        batch, longest_query, longest_key = product(query.shape[:-3]), query.shape[-3], key.shape[-3]
    else:
        batch = starts.numel - 1
        longest_query = op.value("max_q", op.value("max_seqlen_q")) or query.shape[-3]
        longest_key = op.value("max_k", op.value("max_seqlen_k")) or key.shape[-3]
    pairs = batch * query.shape[-2] * longest_query * longest_key
    return Scores(pairs, query.shape[-1], value.shape[-1])


def _query_key_value(op: OpCall) -> tuple[TensorSpec, TensorSpec, TensorSpec]:
    return operand(op, "query", "q"), operand(op, "key", "k"), operand(op, "value", "v")


def _work(op: OpCall, scores: Scores) -> Work:
    masked = any(op.tensor(name) is not None for name in ("attn_mask", "attn_bias", "bias"))
    return Work(scores.macs, scores.other_flops(masked=masked))


@formula("aten::_native_multi_head_attention", "aten::_triton_multi_head_attention")
def _multi_head(op: OpCall) -> Work:
    """Projections of query, key and value, attention, projection of the result: E * E per token each."""
    query, key, value = _query_key_value(op)
    embed = query.shape[-1]
    projected = 2 * query.numel + key.numel + value.numel
    scores = _self_attention(query, key, op.value("num_head", 1))
    averaged = scores.pairs if op.value("need_weights", False) else 0
    masked = op.tensor("mask") is not None
    return Work(projected * embed + scores.macs, scores.other_flops(masked=masked) + averaged)


@formula("aten::_transformer_encoder_layer_fwd")
def _encoder_layer(op: OpCall) -> Work:
    """Self-attention (4 * E * E per token and the scores), the feed-forward net (2 * E * FF), two norms."""
    source, hidden = operand(op, "src"), operand(op, "ffn_weight_1").shape[0]
    embed = source.shape[-1]
    tokens = source.numel // embed if embed else 0
    scores = _self_attention(source, source, op.value("num_heads", 1))
    macs = tokens * (4 * embed * embed + 2 * embed * hidden) + scores.macs
    norm = TERM["normalisation by own statistics"] + TERM["its weight"] + TERM["its bias"]
    activation = PER_OUTPUT["gelu" if op.value("use_gelu", False) else "relu"]
    around = 2 * (norm + PER_OUTPUT["add"]) * result(op).numel + activation * tokens * hidden
    return Work(macs, around + scores.other_flops(masked=op.tensor("mask") is not None))


def _self_attention(query: TensorSpec, key: TensorSpec, heads: int) -> Scores:
    """Scores of [B, L, E] against [B, S, E], split into heads."""
    pairs = product(query.shape[:-1]) * key.shape[-2] * heads
    return Scores(pairs, query.shape[-1] // heads, query.shape[-1] // heads)
