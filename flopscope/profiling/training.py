"""What `profile` was given for training -> one training step of a private copy, traced or timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from flopscope import costs, timing, tracing
from flopscope.errors import InputError
from flopscope.records import Settings, Trace

Loss = Callable[[Any], torch.Tensor]


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """The loss and the optimizer of the user's training loop, as they were given."""

    loss: Loss
    optimizer: Any = None

    def traced(
        self,
        model: nn.Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        given: nn.Module,
        meta: bool,
        device: str,
    ) -> Trace:
        """Trace one step of `model`, a private copy of the model that was given.

        Raises:
            TraceError: the model, the loss, the backward or the optimizer raised.
            InputError: the optimizer is none, or none of this model.
        """
        return tracing.trace_step(
            model,
            args,
            kwargs,
            keep=costs.has_formula,
            loss=self.loss,
            optimizer=tracing.optimizer_for(model, given, self.optimizer),
            meta=meta,
            device=device,
        )

    def timed(self, model: nn.Module, given: nn.Module) -> timing.Step:
        """What the sampler needs to time steps of `model`, a private copy of the model that was given."""
        return timing.Step(self.loss, tracing.optimizer_for(model, given, self.optimizer))


def training_step(settings: Settings, loss: Loss | None, optimizer: Any) -> TrainingStep | None:
    """The step that was asked for; None where the model is only to be run.

    Raises:
        InputError: a loss or an optimizer was given without `train`.
    """
    if settings.train:
        return TrainingStep(loss or tracing.mean_loss, optimizer)
    for name, value in (("loss", loss), ("optimizer", optimizer)):
        if value is not None:
            raise InputError(
                f"{name} was given, but not train=True: the model is only run forward",
                hint=f"give train=True, or leave {name} out",
            )
    return None
