"""A model, one training step of it -> what a reading says at every boundary of forward and backward.

In the forward the boundaries are those of the modules. In the backward each node of autograd's graph is
one: between the beginnings of two nodes the earlier one runs. Looking for the nodes takes place between
the loss and the backward, outside all stretches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from flopscope.tracing import run_step
from flopscope.tracing.backwards import next_number, nodes, paths_of, told

from .probes import marked_forward, replaced, wrappable

LOSS, OPTIMIZER = "(loss)", "(optimizer)"

Loss = Callable[[Any], torch.Tensor]
Marks = list[list[Any]]


class StepProbe:
    """Like `Probe`, of a training step: `run` does one, `marking` marks forward and backward."""

    def __init__(
        self,
        model: nn.Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        loss: Loss,
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        self._model, self._args, self._kwargs = model, args, dict(kwargs)
        self._loss, self._optimizer = loss, optimizer
        self._modules = wrappable(model)
        self.later: tuple[str, ...] = ()
        self.phases = ("forward", "loss", "backward", *(("optimizer",) if optimizer else ()))

    def run(self) -> Any:
        """One step without marks."""
        return self._step(lambda stage: None, self._loss)

    def bare(self, mark: Callable[[], Any]) -> tuple[list[Any], Any]:
        """One step with a mark as each phase begins, and at its end; and what it made."""
        marks: list[Any] = []

        def at(_stage: str) -> None:
            marks.append(mark())

        return marks, self._step(at, self._loss)

    def boundaries(self) -> tuple[str, ...]:
        """The order in which modules are entered and left; `later` names what follows."""
        order: list[str] = []
        turns: list[tuple[int, str]] = []
        above = [LOSS]

        def noting(path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
            def noted(*args: Any, **kwargs: Any) -> Any:
                order.append(f"+{path}")
                above.append(path)
                turns.append((next_number(), path))
                result = forward(*args, **kwargs)
                order.append(f"-{path}")
                above.pop()
                turns.append((next_number(), above[-1]))
                return result

            return noted

        named = [(module, noting(path, module.forward)) for path, module in self._modules]
        begun: list[int] = []
        graph = self._marked_step(named, lambda: None, [[], []], begun.append)
        paths = paths_of(graph, turns, self._owners(), outside=LOSS)
        ends = (OPTIMIZER,) if self._optimizer is not None else ()
        self.later = (LOSS, LOSS, *(paths[index] for index in begun), *ends)
        return tuple(order)

    def marking(self, mark: Callable[[], Any]) -> Callable[[], Marks]:
        """A step that calls `mark` at every boundary, and gives what it said: forward, then the rest."""
        marks: Marks = [[], []]
        wrapped = [
            (module, marked_forward(module.forward, mark, lambda moment: marks[0].append(moment)))
            for _, module in self._modules
        ]

        def marked_pass() -> Marks:
            for held in marks:
                held.clear()
            self._marked_step(wrapped, mark, marks, lambda _index: marks[1].append(mark()))
            return [list(held) for held in marks]

        return marked_pass

    def _step(self, at: Callable[[str], Any], loss: Loss) -> Any:
        return run_step(self._model, self._args, self._kwargs, loss=loss, optimizer=self._optimizer, at=at)

    def _marked_step(
        self,
        forwards: list[tuple[nn.Module, Callable[..., Any]]],
        mark: Callable[[], Any],
        marks: Marks,
        begins: Callable[[int], Any],
    ) -> list[Any]:
        """One step with these forwards and a word as each node begins; the nodes of its graph."""
        values: list[torch.Tensor] = []
        graph: list[Any] = []

        def loss(output: Any) -> torch.Tensor:
            values.append(self._loss(output))
            marks[0].append(mark())
            return values[-1]

        @contextmanager
        def backward() -> Iterator[None]:
            graph.extend(nodes(values.pop()))
            with told(graph, begins):
                marks[1].append(mark())
                yield
                marks[1].append(mark())

        @contextmanager
        def stepping() -> Iterator[None]:
            yield
            marks[1].append(mark())

        stages = {"forward": lambda: replaced(forwards), "backward": backward, "optimizer": stepping}
        output = self._step(lambda stage: stages[stage]() if stage in stages else None, loss)
        del output  # held until the last mark: freeing it is not part of the step
        return graph

    def _owners(self) -> dict[int, str]:
        """By a parameter's id, the path of the module that holds it."""
        owners: dict[int, str] = {}
        for path, module in self._model.named_modules():
            for parameter in module.parameters(recurse=False):
                owners.setdefault(id(parameter), path)
        return owners
