"""Recurrent nets that no library runs whole -> their steps, as a CPU takes them.

ATen multiplies the input of all steps with its weights at once on a CPU, and step by step elsewhere.
On meta these functions stand in for it, so that a run without data takes the CPU's steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import linear

# A step: what the input gives to the gates, the state before, the layer's weights -> output and state.
Step = Callable[[Any, Any, list[Any]], tuple[Any, Any]]


def stacked(
    step: Step, source: Any, states: list[Any], params: list[Any], settings: tuple[Any, ...]
) -> tuple[Any, list[Any]]:
    """Run layers in one or two directions over [steps, batch, width].

    Args:
        step: one step of one layer.
        source: the input, steps first.
        states: by layer and direction, what a step starts from.
        params: by layer and direction w_ih, w_hh, b_ih, b_hh, w_hr: those that there are.
        settings: has_biases, num_layers, dropout, train, bidirectional.

    Returns:
        The output of all steps, and the last state by layer and direction.
    """
    has_biases, num_layers, dropout, train, bidirectional = settings
    directions = 1 + bidirectional
    width = len(params) // (num_layers * directions)
    data = source
    last: list[Any] = []
    for layer in range(num_layers):
        answers = []
        for direction in range(directions):
            at = layer * directions + direction
            weights = _complete(params[at * width : (at + 1) * width], has_biases)
            answer, state = _one_layer(step, data, states[at], weights, backwards=direction > 0)
            answers.append(answer)
            last.append(state)
        data = answers[0] if directions == 1 else torch.cat(answers, -1)
        if dropout and train and layer < num_layers - 1:
            data = torch.dropout(data, dropout, train=True)
    return data, last


def gru_step(given: Any, hidden: Any, weights: list[Any]) -> tuple[Any, Any]:
    """Reset and update gate, candidate, and the new state between the candidate and the old one."""
    of_input = given.unsafe_chunk(3, 1)
    of_hidden = linear(hidden, weights[1], weights[3]).unsafe_chunk(3, 1)
    reset = of_hidden[0].add_(of_input[0]).sigmoid_()
    update = of_hidden[1].add_(of_input[1]).sigmoid_()
    candidate = of_input[2].add(of_hidden[2].mul_(reset)).tanh_()
    hidden = (hidden - candidate).mul_(update).add_(candidate)
    return hidden, hidden


def lstm_step(given: Any, state: tuple[Any, Any], weights: list[Any]) -> tuple[Any, Any]:
    """Four gates, the new cell, and its output, projected where there is a projection."""
    hidden, cell = state
    gates = linear(hidden, weights[1], weights[3]).add_(given).unsafe_chunk(4, 1)
    let_in, keep = gates[0].sigmoid_(), gates[1].sigmoid_()
    candidate, let_out = gates[2].tanh_(), gates[3].sigmoid_()
    cell = (keep * cell).add_(let_in * candidate)
    hidden = let_out * cell.tanh()
    if len(weights) > 4:
        hidden = torch.matmul(hidden, weights[4].t())
    return hidden, (hidden, cell)


def simple_step(bend: Callable[[Any], Any]) -> Step:
    """One product and one activation."""

    def step(given: Any, hidden: Any, weights: list[Any]) -> tuple[Any, Any]:
        hidden = bend(linear(hidden, weights[1], weights[3]).add_(given))
        return hidden, hidden

    return step


def _one_layer(step: Step, data: Any, state: Any, weights: list[Any], *, backwards: bool) -> tuple[Any, Any]:
    given = linear(data, weights[0], weights[2]).unbind(0)
    answers = []
    for one in reversed(given) if backwards else given:
        answer, state = step(one, state, weights)
        answers.append(answer)
    return torch.stack(answers[::-1] if backwards else answers, 0), state


def _complete(weights: list[Any], has_biases: bool) -> list[Any]:
    """w_ih, w_hh, b_ih, b_hh and perhaps w_hr; None for absent biases."""
    return weights if has_biases else [*weights[:2], None, None, *weights[2:]]
