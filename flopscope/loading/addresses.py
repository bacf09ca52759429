"""An address as text -> its parts: scheme, name, keyword arguments. Needs no torch."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from flopscope.errors import ModelLoadError

SCHEMES = ("timm", "torchvision", "zoo", "op")
"""Sources of models by name; `pkg.mod:callable` and `file.py:callable` are told by their form."""

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model comes from.

    `scheme` is "file", one of `SCHEMES`, "source" (`file.py:callable`) or "import"
    (`pkg.mod:callable`). `place` is the path, the model's name or the module; `attribute` the
    callable in it.
    """

    scheme: str
    text: str
    place: str
    attribute: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)


def parse_address(given: str | os.PathLike[str], args: Mapping[str, Any] | None = None) -> Address:
    """Read an address.

    Args:
        given: a path, or `scheme:name`, `pkg.mod:callable`, `file.py:callable`, each with
            `?a=1&b=x` behind it where arguments are given.
        args: more keyword arguments; text among them is read as a Python literal where it is one.

    Raises:
        ModelLoadError: It has none of these forms.
    """
    text = os.fspath(given)
    if not isinstance(text, str):
        raise ModelLoadError(f"a path or an address is text, got {text!r}.", hint="decode it first.")
    if isinstance(given, os.PathLike) or os.path.lexists(text):
        return Address("file", text, text, args=_literals(args or {}))
    head, question, query = text.partition("?")
    pairs = dict(parse_qsl(query, keep_blank_values=True)) if question else {}
    place, colon, attribute = head.rpartition(":")
    keywords = _literals({**pairs, **(args or {})})
    scheme = head.partition(":")[0]
    if colon and scheme in SCHEMES:
        return Address(scheme, text, head.partition(":")[2], args=keywords)
    if colon and _DOTTED.fullmatch(attribute):
        if place.endswith(".py"):
            return Address("source", text, place, attribute, keywords)
        if _DOTTED.fullmatch(place):
            return Address("import", text, place, attribute, keywords)
    if colon and not _is_path(text):
        raise ModelLoadError(
            f"{text!r} is not an address.",
            hint="give timm:NAME, torchvision:NAME, zoo:NAME, op:NAME, pkg.mod:callable or file.py:callable",
        )
    return Address("file", text, text, args=keywords)


def parse_literal(text: Any) -> Any:
    """A value as people write it: "3" -> 3, "(1, 2)" -> (1, 2), "true" -> True, "abc" -> "abc"."""
    if not isinstance(text, str) or len(text) > 10_000:
        return text
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _literals(pairs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: parse_literal(value) for name, value in pairs.items()}


def _is_path(text: str) -> bool:
    return os.sep in text or bool(os.altsep and os.altsep in text) or bool(Path(text).suffix)
