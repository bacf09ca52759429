"""Op name -> formula: the table of prices, and the doors through which others add to it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from flopscope.errors import FlopscopeError
from flopscope.records import Cost, OpCall

ENTRY_POINT_GROUP = "flopscope.formulas"


@dataclass(frozen=True, slots=True)
class Work:
    """What a formula says of one op; None leaves a part to the default.

    The op's FLOPs are `2 * macs + other_flops`. `bytes_read` and `bytes_written` default to
    every distinct input region read once and every output written once; `fvcore_flops` to `macs`.
    """

    macs: int = 0
    other_flops: int = 0
    fvcore_flops: int | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None


NOTHING = Work(bytes_read=0, bytes_written=0)
"""The answer of a formula where the call moves and computes nothing."""

Formula = Callable[[OpCall], "Work | Cost | int | None"]
"""A price: `Work`; or a whole `Cost`; or an int, the MACs; or None where it cannot be told."""


@dataclass(frozen=True, slots=True)
class _Entry:
    formula: Formula
    holder: str
    whole: bool


_formulas: dict[str, _Entry] = {}
_third_parties: dict[str, bool] = {"loaded": False}


def formula(*names: str, whole: bool = True) -> Callable[[Formula], Formula]:
    """Register the decorated function as the price of the ops called `names`.

    Args:
        names: op names without overload, such as "aten::linear". An in-place op (`aten::relu_`)
            takes the price of its functional base where it has none of its own.
        whole: whether a composite op should be recorded as one op. With False the formula only
            serves where an op arrives undecomposed, and `has_formula` denies it.

    Raises:
        FlopscopeError: a name is malformed or taken; the message names the holder.
    """

    def register(function: Formula) -> Formula:
        for name in names:
            _add(name, function, whole=whole, replace=False)
        return function

    return register


def register_formula(name: str, fn: Formula, *, replace: bool = False) -> None:
    """Give the op called `name` ("mylib::foo") the price `fn(op)`.

    Args:
        name: namespace and op, without overload.
        fn: takes an `OpCall` and returns an int (MACs: FLOPs are then twice that, bytes the
            default traffic), a `Cost` (taken as it is), a `Work` (in between), or None where
            this call cannot be priced and shall be listed as uncosted.
        replace: take the place of a formula that is there already.

    Raises:
        FlopscopeError: the name is malformed, or taken and `replace` is False.
    """
    _add(name, fn, whole=True, replace=replace)


def has_formula(name: str) -> bool:
    """Whether the op has a formula of its own, so that it should be recorded whole."""
    entry = _find(name)
    return entry is not None and entry.whole


def known_names() -> Iterator[str]:
    """The names of all ops that have a formula, third parties' included."""
    _load_third_parties()
    return iter(sorted(_formulas))


def formula_of(name: str) -> Formula | None:
    """The formula of the op, or of the functional base of an in-place op; None without one."""
    entry = _find(name)
    return entry.formula if entry is not None else None


def in_aten(words: str) -> tuple[str, ...]:
    """The op names "aten::a", "aten::b" for the words "a b"."""
    return tuple(f"aten::{word}" for word in words.split())


def functional_base(name: str) -> str:
    """The name without the underscore of an in-place op; private and dunder names stay."""
    bare = name.rpartition("::")[2]
    in_place = bare.endswith("_") and not bare.endswith("__")
    return name[:-1] if in_place else name


def _add(name: str, function: Formula, *, whole: bool, replace: bool) -> None:
    if not all(name.partition("::")):
        raise FlopscopeError(
            f"{name!r} is not the name of an operator",
            hint='Write namespace and name, without the overload: "mylib::foo".',
        )
    holder = f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"
    taken = _formulas.get(name)
    if taken is not None and not replace:
        raise FlopscopeError(
            f"{name} already has a formula: {taken.holder}",
            hint="Pass replace=True to register_formula to take its place.",
        )
    _formulas[name] = _Entry(function, holder, whole)


def _find(name: str) -> _Entry | None:
    entry = _formulas.get(name) or _formulas.get(functional_base(name))
    if entry is None and not name.startswith(("aten::", "prim::")) and _load_third_parties():
        entry = _formulas.get(name) or _formulas.get(functional_base(name))
    return entry


def _load_third_parties() -> bool:
    """Load the entry points, once per process; True if this call did it."""
    if _third_parties["loaded"]:
        return False
    _third_parties["loaded"] = True
    for point in entry_points(group=ENTRY_POINT_GROUP):
        _load(point)
    return True


def _load(point: EntryPoint) -> None:
    """Load one entry point: a formula under its op's name, or a module that registers its own."""
    try:
        loaded = point.load()
        if "::" in point.name:
            _add(point.name, loaded, whole=True, replace=False)
    # Importing somebody else's module can fail in any of these ways; none may stop a count.
    except (ImportError, NameError, AttributeError, SyntaxError, TypeError, ValueError) as error:
        _warn(point, error)
    except (LookupError, ArithmeticError, OSError, RuntimeError, FlopscopeError) as error:
        _warn(point, error)


def _warn(point: EntryPoint, error: BaseException) -> None:
    warnings.warn(
        f"the formula {point.name!r} of {point.value!r} was not loaded: {error!r}; "
        "its ops are listed as uncosted",
        RuntimeWarning,
        stacklevel=2,
    )
