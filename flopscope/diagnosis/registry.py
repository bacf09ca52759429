"""A finding's code -> its rule: the table, and the door through which others add to it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from flopscope.errors import FlopscopeError
from flopscope.records import Verdict

if TYPE_CHECKING:
    from flopscope.diagnosis.cases import Case

ENTRY_POINT_GROUP = "flopscope.rules"

Judge = Callable[["Case"], Verdict | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry: its code, the function, and what a finding of it stands for.

    `explains` names the parts of a layer's time ("kernel", "memory", "overhead") that need no further
    cause where it fires; an `informative` finding costs no time by itself; a `last` rule is asked
    after all others and sees what they explained.
    """

    code: str
    judge: Judge
    explains: frozenset[str] = frozenset()
    informative: bool = False
    last: bool = False

    @property
    def holder(self) -> str:
        """Where the function stands, for messages."""
        return f"{self.judge.__module__}.{getattr(self.judge, '__qualname__', repr(self.judge))}"


RULES: dict[str, Rule] = {}
_third_parties: dict[str, bool] = {"loaded": False}


def rule(
    code: str, *, explains: Iterable[str] = (), informative: bool = False, last: bool = False
) -> Callable[[Judge], Judge]:
    """Enter the decorated function `Case -> Verdict | None` as the rule of the finding `code`.

    Args:
        code: A slug that stays: scripts and docs refer to it.
        explains: The parts of the time that need no further cause where the rule fires.
        informative: The finding says what is so, not what takes time.
        last: Ask this rule after all others; `Case.explained` then holds what they explained.

    Raises:
        FlopscopeError: The code is no slug, or taken; the message names the holder.
    """

    def enter(function: Judge) -> Judge:
        if not code or code != code.lower() or not code.replace("-", "").isalnum():
            raise FlopscopeError(f"{code!r} is no code of a finding", hint='write a slug: "layout-reorder"')
        taken = RULES.get(code)
        if taken is not None:
            raise FlopscopeError(
                f"the finding {code!r} already has a rule: {taken.holder}", hint="choose another code"
            )
        RULES[code] = Rule(code, function, frozenset(explains), informative, last)
        return function

    return enter


def load_third_parties() -> None:
    """Load the modules of the entry points, once per process; each registers its own rules."""
    if _third_parties["loaded"]:
        return
    _third_parties["loaded"] = True
    for point in entry_points(group=ENTRY_POINT_GROUP):
        _load(point)


def _load(point: EntryPoint) -> None:
    try:
        point.load()
    # Importing somebody else's module can fail in any of these ways; none may stop a diagnosis.
    except (ImportError, NameError, AttributeError, SyntaxError, TypeError, ValueError) as error:
        _warn(point, error)
    except (LookupError, ArithmeticError, OSError, RuntimeError, FlopscopeError) as error:
        _warn(point, error)


def _warn(point: EntryPoint, error: BaseException) -> None:
    warnings.warn(
        f"the rules {point.name!r} of {point.value!r} were not loaded: {error!r}",
        RuntimeWarning,
        stacklevel=3,
    )
