"""Numbers that may be missing -> the short texts that explanations are made of."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping

from flopscope.records import Number
from flopscope.units import milliseconds_text, share_text

_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|[nµm]?s|[kMGTP]?B|[kMGTP]?FLOP)\b|%)")
"""A number stays with its unit."""


def filled(text: str, width: int | None, indent: int) -> str:
    """The text in lines of at most `width`, all but the first indented; in one where there is no width."""
    if width is None:
        return text
    room = max(width, indent + 20)
    whole = _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", text)
    lines = textwrap.fill(
        whole, room, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    return lines.replace("\N{NO-BREAK SPACE}", " ")


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
