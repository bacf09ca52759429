"""The name of an operator -> a stack of it, so that the operator tables of papers are one call.

FasterNet's Table 1 and ShuffleNetV2's Tables 1 to 4 time ten layers of one operator and nothing else.
This file holds the registry and the stack; the operators themselves stand in `operator_blocks`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Any

from torch import nn

from flopscope.errors import InputError, ModelLoadError

COMMON = ("channels", "size", "layers", "batch")
"""What every stack takes besides the options of its kind."""


class OperatorStack(nn.Sequential):
    """Layers of one operator, one behind the other: (N, C, H, W) -> the same shape.

    `flopscope_input_shape` is the shape that it was made for, from which its input is inferred; a
    part of a stack states none.
    """

    flopscope_input_shape: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class OperatorKind:
    """An operator that can be stacked.

    `build(channels, **options)` makes one layer; `width(channels, **options)` is the number of
    channels that this layer takes and gives, where that is not `channels` itself. `source` is where
    the operator is described.
    """

    name: str
    build: Callable[..., nn.Module]
    width: Callable[..., int]
    source: str

    @property
    def description(self) -> str:
        """What it is, in one line."""
        return (inspect.getdoc(self.build) or "").partition("\n")[0]

    @property
    def options(self) -> dict[str, Any]:
        """Its options and their defaults."""
        known = inspect.signature(self.build).parameters.values()
        return {item.name: item.default for item in known if item.kind is item.KEYWORD_ONLY}


_KINDS: dict[str, OperatorKind] = {}


def _unchanged(channels: int, **_: Any) -> int:
    return channels


def operator_kind(
    name: str, *, source: str, width: Callable[..., int] = _unchanged
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Register a function `(channels, *, options...) -> one layer` under `name`.

    Args:
        name: as in `op:NAME`, lower case.
        source: where the operator is described.
        width: `(channels, **options) ->` channels of the maps, where they are others.

    Raises:
        ValueError: the name is taken; the message names the holder.
    """

    def register(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        if name in _KINDS:
            holder = _KINDS[name].build
            raise ValueError(
                f"the operator {name!r} is already that of {holder.__module__}.{holder.__qualname__}"
            )
        _KINDS[name] = OperatorKind(name, build, width, source)
        return build

    return register


def operators() -> Mapping[str, OperatorKind]:
    """All operators by name, each with its one-line `description`, its `options` and its `source`."""
    import_module("flopscope.zoo.operator_blocks")
    return MappingProxyType(_KINDS)


def operator(
    kind: str,
    /,
    *,
    channels: int = 64,
    size: int = 56,
    layers: int = 10,
    batch: int = 1,
    **options: Any,
) -> OperatorStack:
    """Stack `layers` operators of one kind, untrained.

    Args:
        kind: one of `operators()`.
        channels: channels of the map, c.
        size: height and width of the map, h = w.
        layers: how many, one behind the other.
        batch: maps in the input that is inferred for it.
        options: those of the kind, such as `kernel` or `groups`.

    Returns:
        An `OperatorStack` that says itself which input it is made for: (batch, channels, size, size),
        or the width that the kind's options make of `channels`.

    Raises:
        ModelLoadError: there is no such kind; the hint names close matches, or all.
        InputError: the kind has no such option, or a value does not fit it.

    Example:
        >>> stack = operator("pconv", channels=96, size=56)
        >>> stack.flopscope_input_shape
        (1, 96, 56, 56)
    """
    entry = _find(kind)
    for name, value in zip(COMMON, (channels, size, layers, batch), strict=True):
        _check(entry, name, value, like=1)
    chosen = _chosen(entry, options)
    stack = OperatorStack(*(entry.build(channels, **chosen) for _ in range(layers)))
    stack.flopscope_input_shape = (batch, entry.width(channels, **chosen), size, size)
    return stack


def _find(kind: str) -> OperatorKind:
    known = operators()
    if kind in known:
        return known[kind]
    near = get_close_matches(kind, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ModelLoadError(
        f"there is no operator {kind!r} to be stacked", hint=f"{hint}there are {', '.join(known)}"
    )


def _chosen(entry: OperatorKind, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a kind: those given, checked, and the defaults of the others."""
    defaults = entry.options
    strange = sorted(set(given) - set(defaults))
    if strange:
        raise InputError(
            f"op:{entry.name} has no option {strange[0]!r}", hint=f"it has {', '.join((*COMMON, *defaults))}"
        )
    for name, value in given.items():
        _check(entry, name, value, like=defaults[name])
    return {**defaults, **given}


def _check(entry: OperatorKind, name: str, value: Any, *, like: Any) -> None:
    """Refuse a value that is not of the kind of the default it stands for (None: a whole number, or none)."""
    if like is None and value is None:
        return
    if isinstance(like, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(like, str):
        fits, wanted = isinstance(value, str), "a word"
    else:
        fits = isinstance(value, int) and not isinstance(value, bool) and value > 0
        wanted = "a whole number of at least 1"
    if not fits:
        raise InputError(
            f"op:{entry.name} was given {name}={value!r}; {name} is {wanted}", hint=f"e.g. {name}={like or 1}"
        )
