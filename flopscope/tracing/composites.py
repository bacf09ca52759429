"""Operators that torch takes apart above the dispatch mode -> the parts that they have on a CPU.

With gradients enabled a composite operator is taken apart before the recorder sees it, and some look
at the device: on meta they would run other operators than on the CPU. For the time of a run these
get a kernel of their own for meta tensors that makes the CPU's choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from . import cells
from .operators import fused_attention

_LSTM = 2  # oneDNN's number of the kind of recurrent net
_ONE_DNN = (torch.float32, torch.bfloat16, torch.float16)


@contextmanager
def composites_as_on_cpu() -> Iterator[None]:
    """Let attention and recurrent nets of meta tensors with gradients run the operators that a CPU runs."""
    library = torch.library.Library("aten", "IMPL")
    try:
        library.impl("scaled_dot_product_attention", _attention, "AutogradMeta")
        library.impl("lstm.input", _lstm, "AutogradMeta")
        library.impl("gru.input", _stepwise(cells.gru_step), "AutogradMeta")
        library.impl("rnn_tanh.input", _stepwise(cells.simple_step(torch.tanh)), "AutogradMeta")
        library.impl("rnn_relu.input", _stepwise(cells.simple_step(torch.relu)), "AutogradMeta")
        yield
    finally:
        library._destroy()


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """One fused kernel, or the parts, as `scaled_dot_product_attention` in ATen chooses for CPU tensors.

    A mask that wants a gradient is not for the fused kernel; one of booleans is made additive first.
    """
    named = {"scale": scale, "enable_gqa": enable_gqa}
    wants = attn_mask is not None and attn_mask.requires_grad and torch.is_grad_enabled()
    with _disable_current_modes():  # the question is not part of the run
        fused = fused_attention(query, key, value, attn_mask, dropout_p, is_causal, **named)
    if wants or not fused:
        parts = torch.ops.aten._scaled_dot_product_attention_math.default
        return parts(query, key, value, attn_mask, dropout_p, is_causal, **named)[0]
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.where(attn_mask, 0.0, float("-inf")).to(query.dtype)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    return kernel(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]


def _lstm(
    source: Any,
    hx: list[Any],
    params: list[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Any, Any, Any]:
    """Layer by layer and direction by direction through oneDNN, as `mkldnn_rnn` in ATen does."""
    projected = hx[0].shape[-1] != hx[1].shape[-1]
    usable = torch.backends.mkldnn.is_available() and torch._C._get_mkldnn_enabled()
    if projected or not usable or source.dtype not in _ONE_DNN or not source.numel():
        settings = (has_biases, num_layers, dropout, train, bidirectional)
        data = source.transpose(0, 1) if batch_first else source
        states: list[Any] = list(zip(hx[0].unbind(0), hx[1].unbind(0), strict=True))
        data, left = cells.stacked(cells.lstm_step, data, states, params, settings)
        last = [torch.stack(list(kept), 0) for kept in zip(*left, strict=True)]
        return data.transpose_(0, 1) if batch_first else data, last[0], last[1]
    hidden, cell = hx[0].contiguous(), hx[1].contiguous()
    data = (source.transpose(0, 1) if batch_first else source).contiguous()
    directions, width = 1 + bidirectional, 4 if has_biases else 2
    ends: list[tuple[Any, Any]] = []
    for layer in range(num_layers):
        answers = []
        for direction in range(directions):
            at = layer * directions + direction
            weights = params[at * width : (at + 1) * width]
            state = (hidden[at], cell[at])
            # oneDNN is given biases in any case; in place of absent ones stand zeros.
            biases = weights[2:] or _zeros_like(weights[::-1])[::-1]
            counts: tuple[Any, ...] = (direction > 0, [], _LSTM, hidden.shape[-1], num_layers)
            modes = (has_biases, bidirectional, batch_first, train)
            one = torch.ops.aten.mkldnn_rnn_layer.default
            answer, last_hidden, last_cell, _ = one(data, *weights[:2], *biases, *state, *counts, *modes)
            answers.append(answer)
            ends.append((last_hidden, last_cell))
        data = answers[0] if directions == 1 else torch.cat(answers, -1)
        if dropout and train and layer < num_layers - 1:
            data = torch.dropout(data, dropout, train=True)
    last = [torch.stack(list(states), 0) for states in zip(*ends, strict=True)]
    return data.transpose(0, 1) if batch_first else data, last[0], last[1]


def _stepwise(step: cells.Step) -> Any:
    """The operator `step` is a step of: input, first state, weights, settings -> output, last state."""

    def run(source: Any, hx: Any, params: list[Any], *settings: Any) -> tuple[Any, Any]:
        batch_first = settings[-1]
        data = source.transpose(0, 1) if batch_first else source
        data, left = cells.stacked(step, data, list(hx.unbind(0)), params, settings[:-1])
        last = torch.stack(left, 0)
        return data.transpose_(0, 1) if batch_first else data, last

    return run


def _zeros_like(tensors: list[Any]) -> list[Any]:
    return [torch.zeros(item.shape, dtype=item.dtype, device=item.device) for item in tensors]
