"""Numbers that may be missing -> the short texts that explanations are made of."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from flopscope.records import Number
from flopscope.units import milliseconds_text, share_text


def filled(text: str, width: int | None, indent: int) -> str:
    """The text in lines of at most `width`, all but the first indented; in one where there is no width."""
    if width is None:
        return text
    room = max(width, indent + 20)
    return textwrap.fill(
        text, room, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def milliseconds(seconds: float | None) -> str:
    """Seconds as "0.154 ms", or "?"."""
    return "?" if seconds is None else f"{milliseconds_text(seconds)} ms"


def percent(numbers: Mapping[str, Number], name: str) -> str:
    """A share of 0..1 as "28.4 %", or "?"."""
    value = numbers.get(name)
    return f"{share_text(value)} %" if isinstance(value, (int, float)) else "?"


def as_float(value: Number) -> float | None:
    """A number as a float; None where it is none."""
    return float(value) if isinstance(value, (int, float)) else None
