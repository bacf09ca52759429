"""What the user should know -> lines on stderr: `error:`, `hint:`, `warning:`, `note:`."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flopscope.commands.streams import wants_color
from flopscope.errors import FlopscopeError

_COLORS = {"error": "31", "warning": "33", "hint": "36", "note": "36"}
_HOUSE = str(Path(__file__).parents[1])
_INDENT = 7  # "error: ", "hint:  ", "note:  "


@dataclass(frozen=True, slots=True)
class Voice:
    """How a command speaks: `quiet` leaves notes out, `verbose` adds tracebacks and Python's warnings."""

    quiet: bool = False
    verbose: bool = False
    color: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Voice:
        """The voice that a command's options ask for."""
        color = wants_color(given.get("color") or "auto", sys.stderr)
        return cls(bool(given.get("quiet")), bool(given.get("verbose")), color)

    def note(self, text: str) -> None:
        """Say what is good to know."""
        if not self.quiet:
            self._say("note", text)

    def warning(self, text: str) -> None:
        """Say what may make a number wrong."""
        self._say("warning", text.removeprefix("warning: "))

    def danger(self, text: str) -> None:
        """Warn of what may do harm, in red."""
        self._say("warning", text, color=_COLORS["error"])

    def error(self, text: str, *, hint: str = "") -> None:
        """Say what went wrong, and the way out."""
        self._say("error", text)
        if hint:
            self._say("hint", hint)

    def failure(self, error: BaseException) -> None:
        """Say what an exception means to the user; with `verbose`, where it came from."""
        if isinstance(error, FlopscopeError):
            self.error(str(error), hint=error.hint)
        elif isinstance(error, MemoryError):
            self.error("out of memory.", hint="--no-latency counts without weights and activations")
        elif isinstance(error, SystemExit):
            self.error("the model's own code ended the program (SystemExit).", hint="take sys.exit out of it")
        else:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            self.error(
                f"unexpected {what}\nthis is a bug in flopscope.",
                hint="-v adds the traceback; please report it with that",
            )
        if self.verbose:
            _write("".join(traceback.format_exception(error)))

    def _say(self, word: str, text: str, *, color: str = "") -> None:
        head, *rest = [_shown(line) for line in text.strip().splitlines()] or [""]
        label = f"{word}:"
        room = max(len(label) + 1, _INDENT)
        gap = " " * (room - len(label))
        if self.color:
            label = f"\x1b[1;{color or _COLORS[word]}m{label}\x1b[0m"
        if self.color and color:
            head = f"\x1b[{color}m{head}\x1b[0m"
        indented = [line if line.startswith(" " * room) else " " * room + line.lstrip() for line in rest]
        _write("\n".join([f"{label}{gap}{head}", *indented]) + "\n")


@contextlib.contextmanager
def captured_warnings(voice: Voice) -> Iterator[None]:
    """Keep Python's own warnings off the screen: `-v` shows them; flopscope's are always shown."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            yield
        finally:
            for found in caught:
                # A third party's formula that cannot be loaded makes counts wrong; torch's news do not.
                ours = found.category is RuntimeWarning and found.filename.startswith(_HOUSE)
                if ours:
                    voice.warning(str(found.message))
                elif voice.verbose:
                    voice.warning(
                        f"{found.message} ({found.category.__name__}, {found.filename}:{found.lineno})"
                    )


def _shown(line: str) -> str:
    """One line with control characters spelled out: names in messages may come from anybody's file."""
    from flopscope.render.grid import printable

    return printable(line)


def _write(text: str) -> None:
    """Write to stderr; where nobody listens any more there is nobody to tell."""
    if sys.stderr is not None:
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(text)
            sys.stderr.flush()
