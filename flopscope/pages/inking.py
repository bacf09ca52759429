"""Pictures -> the same pictures, smaller: looks that repeat become rules of the page's style sheet.

A picture of hundreds of layers says the same colours and strokes hundreds of times. It comes with every text
in it escaped, so that neither `<` nor `>` stands in a text or between quotes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

_ELEMENT = re.compile(r"<(rect|circle|path|line|text)( [^>]*?)(/?)>")
_LOOKS = (
    *("fill", "stroke", "stroke-width", "stroke-dasharray", "fill-opacity", "stroke-opacity"),
    *("height", "font-size", "font-weight"),
)
_LENGTHS = ("height", "font-size", "stroke-width")
_LOOK = re.compile(rf' ({"|".join(_LOOKS)})="([^"]*)"')
_FALLBACK = re.compile(r"(var\(--[\w-]+),#[0-9a-f]{6}\)")
_UNUSED = re.compile(r' tabindex="0"|(?<=<g) class="(?:tile|box)"| data-path="[^"]*"')
_LEAST = 3
"""A look that is there so often gets a rule."""


def inked(pictures: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Pictures by name -> the same with classes in place of looks, and the rules of these.

    What the script adds (stops of the keyboard), what a page always defines (colours in place of variables)
    and what it makes no use of is left out.
    """
    plain = {name: _FALLBACK.sub(r"\1)", _UNUSED.sub("", svg)) for name, svg in pictures.items()}
    counts = Counter(_look(found[2]) for svg in plain.values() for found in _ELEMENT.finditer(svg))
    named = {look: f"i{number}" for number, (look, count) in enumerate(counts.most_common())
             if look and count >= _LEAST}  # fmt: skip

    def classed(found: re.Match[str]) -> str:
        look = _look(found[2])
        if look not in named:
            return found[0]
        return f"<{found[1]}{_LOOK.sub('', found[2])} class={named[look]}{' /' if found[3] else ''}>"

    rules = "".join(f".{name}{{{look}}}\n" for look, name in named.items())
    return {name: _ELEMENT.sub(classed, svg) for name, svg in plain.items()}, rules


def _look(attributes: str) -> str:
    """The looks among an element's attributes, as declarations."""
    return ";".join(f"{name}:{_length(name, value)}" for name, value in _LOOK.findall(attributes))


def _length(name: str, value: str) -> str:
    return f"{value}px" if name in _LENGTHS else value
