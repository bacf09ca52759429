"""A model and one call of it -> what a reading says at every module boundary of that call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

Forward = Callable[..., Any]


class Probe:
    """Wraps the `forward` of every module of a model so that entering and leaving is marked.

    Wrappers on the instances, not hooks: they cost a third, and a hook would switch torch's fused
    transformer paths off. Scripted modules take no wrapper; their time is their container's.
    """

    def __init__(self, model: nn.Module, run: Callable[[], Any]) -> None:
        self.run = run
        self.later: tuple[str, ...] = ()
        self.phases = ("forward",)
        self._modules = wrappable(model)

    def bare(self, mark: Callable[[], Any]) -> tuple[list[Any], Any]:
        """One pass between two marks; and what it made."""
        before = mark()
        output = self.run()
        return [before, mark()], output

    def boundaries(self) -> tuple[str, ...]:
        """The order in which modules are entered ("+path") and left ("-path") in one pass."""
        order: list[str] = []
        named = [(module, _noting(module.forward, path, order)) for path, module in self._modules]
        with replaced(named):
            self.run()
        return tuple(order)

    def marking(self, mark: Callable[[], Any]) -> Callable[[], list[list[Any]]]:
        """A pass that calls `mark` at every boundary, and gives what it said, in one unbroken row."""
        marks: list[Any] = []
        wrapped = [
            (module, marked_forward(module.forward, mark, marks.append)) for _, module in self._modules
        ]

        def marked_pass() -> list[list[Any]]:
            marks.clear()
            with replaced(wrapped):
                output = self.run()
            del output  # held until the last mark: freeing it is not part of the pass
            return [list(marks)]

        return marked_pass


def wrappable(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules of a model that take a wrapper, by path."""
    return [
        (path, module)
        for path, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule | torch.jit.ScriptFunction)
    ]


def marked_forward(forward: Forward, mark: Callable[[], Any], note: Callable[[Any], None]) -> Forward:
    """A forward that marks its beginning and its end."""

    def marked(*args: Any, **kwargs: Any) -> Any:
        note(mark())
        result = forward(*args, **kwargs)
        note(mark())
        return result

    return marked


def _noting(forward: Forward, path: str, order: list[str]) -> Forward:
    def noting(*args: Any, **kwargs: Any) -> Any:
        order.append(f"+{path}")
        result = forward(*args, **kwargs)
        order.append(f"-{path}")
        return result

    return noting


@contextmanager
def replaced(forwards: list[tuple[nn.Module, Forward]]) -> Iterator[None]:
    """Put each `forward` on its instance; afterwards restore what the instance had of its own."""
    own = [module.__dict__.get("forward") for module, _ in forwards]
    try:
        for module, forward in forwards:
            module.__dict__["forward"] = forward
        yield
    finally:
        for (module, _), before in zip(forwards, own, strict=True):
            if before is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = before
