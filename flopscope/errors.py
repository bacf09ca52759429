"""What can go wrong, said so that the reader knows what to do next.

Every error has a `hint` (the way out) and the `exit_code` that the command line ends with.
"""

from __future__ import annotations

from typing import Any


class FlopscopeError(Exception):
    """Base of all errors that flopscope raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ModelLoadError(FlopscopeError):
    """The model cannot be loaded: no such file or address, or a format that holds no model."""

    exit_code = 3


class UntrustedModelError(ModelLoadError):
    """Loading the file would run code that nobody vouched for."""


class InputError(FlopscopeError):
    """The input is missing or malformed."""

    exit_code = 2


class ForwardError(FlopscopeError):
    """The model rejected the input or failed while it ran."""

    exit_code = 4


class MeasurementError(FlopscopeError):
    """The measurement cannot be trusted, or ops have no price, and `strict` was asked for.

    `report` is what was measured all the same, where that was done.
    """

    exit_code = 5

    def __init__(self, message: str, *, hint: str = "", report: Any = None) -> None:
        super().__init__(message, hint=hint)
        self.report = report


class BudgetError(FlopscopeError):
    """A budget was exceeded or could not be read."""

    exit_code = 1
