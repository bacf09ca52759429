"""Somebody else's code that fails -> a ModelLoadError that says whose code it was."""

from __future__ import annotations

from types import TracebackType

from flopscope.errors import FlopscopeError, ModelLoadError


class Blamed:
    """Turn whatever code of others raises into a `ModelLoadError`, the cause kept.

    Users' modules and builders may raise anything, `SystemExit` included (a script without a
    `__main__` guard); Ctrl-C goes through.

    Args:
        what: what was being done, e.g. "importing net.py".
        hint: the way out.
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        self.what = what
        self.hint = hint

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, FlopscopeError):
            return
        if isinstance(error, SystemExit):
            raise ModelLoadError(
                f"{self.what} ended the program (SystemExit).",
                hint='put what the script does under  if __name__ == "__main__":',
            ) from error
        if isinstance(error, Exception):
            text = str(error).strip().partition("\n")[0]
            raise ModelLoadError(
                f"{self.what} failed: {type(error).__name__}: {text}", hint=self.hint
            ) from error
