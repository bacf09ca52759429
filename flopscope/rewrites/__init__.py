"""A model -> another model, a changed copy: rewrites by name, and how one gets in.

A rewrite never touches the model that it is given. It is `exact` where the copy computes the same
function up to rounding; `checking.difference` tells how far apart the two are. `rewrites()` lists all,
`find("fold-bn").apply(model, trace, None)` makes the copy and says what was changed in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from flopscope.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from flopscope.records import Trace

__all__ = ["Rewrite", "Rewritten", "find", "rewrite", "rewrites"]

# One module per family of rewrites. Importing it registers them.
FAMILIES = ("folding", "branches", "inexact", "mbconv")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What a rewrite made: the changed copy, the paths it changed, and those it could not with the reason.

    A skipped one reads "features.3.conv: the convolution's output is also read elsewhere".
    """

    model: nn.Module
    changed: tuple[str, ...]
    skipped: tuple[str, ...] = ()


Function = TypeVar("Function", bound="Callable[[nn.Module, Trace, str | None], Rewritten]")


@dataclass(frozen=True, slots=True)
class Rewrite:
    """An entry: what makes the copy, and what it does to the function.

    `apply` takes a model in eval mode, which it never touches, the model's `Trace` for one call, and the
    text behind "name=" or None. It raises `InputError` where it does not apply at all. `summary` is the
    first line of its docstring.
    """

    name: str
    apply: Callable[[nn.Module, Trace, str | None], Rewritten]
    exact: bool
    summary: str = ""


_REWRITES: dict[str, Rewrite] = {}


def rewrite(name: str, *, exact: bool) -> Callable[[Function], Function]:
    """Register the decorated function as the rewrite called `name`.

    Args:
        name: a slug, such as "fold-bn".
        exact: whether the copy computes the same function, up to rounding.

    Raises:
        ValueError: the name is taken; the message names the holder.
    """

    def register(apply: Function) -> Function:
        if name in _REWRITES:
            holder = _REWRITES[name].apply
            raise ValueError(
                f"the rewrite {name!r} is already that of {holder.__module__}.{holder.__qualname__}"
            )
        summary = (apply.__doc__ or "").strip().partition("\n")[0]
        _REWRITES[name] = Rewrite(name, apply, exact, summary)
        return apply

    return register


def rewrites() -> Mapping[str, Rewrite]:
    """All rewrites by name."""
    for family in FAMILIES:
        import_module(f"flopscope.rewrites.{family}")
    return MappingProxyType(_REWRITES)


def find(name: str) -> Rewrite:
    """The rewrite called `name`.

    Raises:
        InputError: there is none; the hint names close matches.
    """
    known = rewrites()
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    raise InputError(f"there is no rewrite {name!r}", hint=hint)
