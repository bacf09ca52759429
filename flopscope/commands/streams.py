"""Text -> stdout, and nothing else on it: purity, closed pipes, colours, the terminal's width."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from typing import TextIO

from flopscope.errors import InputError


def emit(text: str, *, readable: bool = False) -> None:
    """Write to stdout; a reader who left early (`| head`) is no error.

    Args:
        text: what to write; a last line break is added where it is missing.
        readable: the text is for people and takes the terminal's encoding. Other texts are
            UTF-8 with plain line breaks wherever they go.

    Raises:
        InputError: stdout cannot be written to (a full disk).
    """
    stream = sys.stdout
    if stream is None:
        return
    text = text if text.endswith("\n") else f"{text}\n"
    try:
        stream.flush()
        if readable or not hasattr(stream, "buffer"):
            stream.write(text)
        else:
            stream.buffer.write(text.encode("utf-8", "replace"))
        stream.flush()
    except BrokenPipeError:
        _abandon(stream)
    except OSError as reason:
        _abandon(stream)
        raise InputError(
            f"cannot write to standard output: {reason.strerror}", hint="or write to a file:  -o FILE"
        ) from reason


@contextlib.contextmanager
def reserved_stdout() -> Iterator[None]:
    """Keep stdout for the result: what a model's code prints meanwhile goes to stderr.

    Of a real process the file descriptor is turned as well, for libraries and child processes
    that do not go through Python.
    """
    real = _is_real(sys.stdout, 1) and _is_real(sys.stderr, 2)
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
        if real:
            saved = os.dup(1)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, 1)
            stack.callback(_flush_libraries)
            os.dup2(2, 1)
        yield


def wants_color(choice: str, stream: TextIO | None) -> bool:
    """Whether a stream is to be coloured, by `--color`, NO_COLOR, FORCE_COLOR and TERM, in this order."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def terminal_width(stream: TextIO | None) -> int | None:
    """Columns of the terminal; None where the stream is none, so that nothing is cut."""
    return shutil.get_terminal_size().columns if is_terminal(stream) else None


def is_rich(stream: TextIO | None) -> bool:
    """Whether a stream can show blocks, braille and the other signs that pictures are made of."""
    try:
        "█━⣿└µ".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody watches this stream; a closed one counts as unwatched."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def accept_any_text() -> None:
    """Let a terminal that cannot show a sign (≥ in ASCII) show a question mark instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and "utf" not in (stream.encoding or "").lower():
            reconfigure(errors="replace")


def _abandon(stream: TextIO) -> None:
    """Point a stream that failed at nowhere: Python would flush it again, and complain, at its exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _is_real(stream: TextIO | None, number: int) -> bool:
    """Whether a stream is the process's own: tests and notebooks put others in its place."""
    try:
        return stream in (sys.__stdout__, sys.__stderr__) and stream is not None and stream.fileno() == number
    except (OSError, ValueError):
        return False


def _flush_libraries() -> None:
    """Make C libraries write what they hold back now, not when stdout is stdout again."""
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).fflush(None)
