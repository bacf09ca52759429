"""Ways to run a model that leave it as it is, by name: memory format, dtype, threads, batch, compilation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from flopscope import inputs
from flopscope.errors import InputError
from flopscope.inputs import Inputs, Spec
from flopscope.records import Rewrote

from .entrants import Entrant

Form = Callable[[Entrant, Inputs, str | None], Entrant]
"""What is run, the call of the model as it is, and the text behind "=" -> what is run instead."""


def form_of(name: str) -> Form | None:
    """The way of that name, without what stands behind "="; None where there is none."""
    return FORMS.get(name)


def _channels_last(entrant: Entrant, call: Inputs, value: str | None) -> Entrant:
    """Run in channels_last memory format."""
    _no_value("channels-last", value)
    if entrant.settings.channels_last:
        raise InputError("the model runs in channels_last already", hint="leave --channels-last out")
    if not any(len(shape) == 4 for shape in _shapes(call)):
        raise InputError(
            "no input has four dimensions, and channels_last is a format of those", hint="leave it out"
        )
    return _with(entrant, "channels-last", channels_last=True)


def _bf16(entrant: Entrant, _: Inputs, value: str | None) -> Entrant:
    """Run in bfloat16."""
    _no_value("bf16", value)
    if entrant.settings.dtype == "bfloat16":
        raise InputError("the model runs in bfloat16 already", hint="leave --dtype out")
    changed = _with(entrant, "bf16", dtype="bfloat16")
    return dataclasses.replace(changed, rewrote=Rewrote(("bf16",), "precision"))


def _threads(entrant: Entrant, _: Inputs, value: str | None) -> Entrant:
    """Run on so many threads."""
    return _with(entrant, f"threads={value}", threads=_whole("threads", value))


def _batch(entrant: Entrant, call: Inputs, value: str | None) -> Entrant:
    """Run on so many samples at once; latency is then that of one."""
    batch = _whole("batch", value)
    before = next((shape[0] for shape in _shapes(call) if shape), None)
    if not before:
        raise InputError("the input has no batch dimension to change", hint="leave batch=N out")

    def widened(leaf: Any) -> Any:
        if not inputs.is_leaf(leaf) or not leaf.shape or leaf.shape[0] != before:
            return leaf
        if isinstance(leaf, Spec):
            return Spec((batch, *leaf.shape[1:]), leaf.dtype, low=leaf.low, high=leaf.high)
        return leaf[:1].expand(batch, *leaf.shape[1:]).contiguous()

    changed = Inputs(*inputs.rebuilt(call.args, widened), **inputs.rebuilt(call.kwargs, widened))
    return dataclasses.replace(_with(entrant, f"batch={batch}"), inputs=changed, items=batch)


def _compile(entrant: Entrant, _: Inputs, value: str | None) -> Entrant:
    """Run what torch.compile makes of it; its own seconds are reported apart."""
    _no_value("compile", value)
    return dataclasses.replace(_with(entrant, "compile"), compiled=True)


FORMS: Mapping[str, Form] = {
    "channels-last": _channels_last,
    "bf16": _bf16,
    "threads": _threads,
    "batch": _batch,
    "compile": _compile,
}


def samples_of(call: Inputs) -> int:
    """The samples of one call: the first dimension of the first input."""
    return next((shape[0] for shape in _shapes(call) if shape), 1) or 1


def _with(entrant: Entrant, name: str, **settings: Any) -> Entrant:
    return dataclasses.replace(
        entrant,
        name=name,
        settings=dataclasses.replace(entrant.settings, **settings),
        rewrote=Rewrote((name,)),
    )


def _shapes(call: Inputs) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in inputs.leaves(call)]


def _whole(name: str, value: str | None) -> int:
    if value is None or not value.isdecimal() or int(value) < 1:
        raise InputError(f"{name} takes a whole number of at least 1, got {value!r}", hint=f"e.g. {name}=2")
    return int(value)


def _no_value(name: str, value: str | None) -> None:
    if value is not None:
        raise InputError(f"{name} takes no value, got {value!r}", hint=f"write {name} alone")
