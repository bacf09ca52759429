"""Numbers and texts -> SVG elements: escaped, short, with or without CSS variables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from flopscope.pictures.palette import NAMED

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
SIZE = 12
"""Of texts, in the picture's own units."""

_WIDTHS = {
    **dict.fromkeys(" ',./:;IJ\\ijl|", 0.33),
    **dict.fromkeys("!()-[]frt", 0.42),
    **dict.fromkeys('"*?_`csz', 0.53),
    **dict.fromkeys("ABCKNRUVXZ", 0.72),
    **dict.fromkeys("#&+<=>DGHOQ^w~≥→", 0.84),
    **dict.fromkeys("%@MWm…", 1.0),
}
"""Of characters in DejaVu Sans, the widest of these fonts, in font sizes."""
_USUAL, _FULL = 0.64, 1.0
_SAYS = 3
"""So many characters at least must be left of a text that is cut."""

_UNSHOWABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Brush:
    """Makes elements in one of two ways: with fixed colours (`static`), or with variables of the page."""

    def __init__(self, *, static: bool) -> None:
        self.static = static

    def colour(self, name: str) -> str:
        """A colour by its name in the palette."""
        fixed = NAMED[name].light
        return fixed if self.static else f"var(--{name},{fixed})"

    def svg(self, width: float, height: float, label: str, parts: Sequence[str]) -> str:
        """The whole picture; a static one paints its own ground, to be seen on dark pages too."""
        ground = rect(0, 0, width, height, self.colour("ground")) if self.static else ""
        space = 'xmlns="http://www.w3.org/2000/svg" ' if self.static else ""
        size = f'width="{number(width)}" height="{number(height)}" ' if self.static else ""
        return (
            f'<svg {space}viewBox="0 0 {number(width)} {number(height)}" {size}role="img" '
            f'aria-label="{clean(label)}" font-family="{FONT}" font-size="{SIZE}">'
            f"{ground}{''.join(parts)}</svg>"
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        colour: str = "ink",
        anchor: str = "start",
        size: float = SIZE,
        bold: bool = False,
        **given: str,
    ) -> str:
        """One line of text; `anchor` is "start", "middle" or "end" of it at `x`, `y` its base line."""
        more = "" if anchor == "start" else f' text-anchor="{anchor}"'
        more += "" if size == SIZE else f' font-size="{number(size)}"'
        more += ' font-weight="600"' if bold else ""
        more += attributes(given)
        place = f'x="{number(x)}" y="{number(y)}"'
        return f'<text {place} fill="{self.colour(colour)}"{more}>{clean(words)}</text>'

    def line(self, x: float, y: float, x2: float, y2: float, colour: str = "line", **given: str) -> str:
        """A straight line; `given` are attributes, underscores for hyphens."""
        ends = f'x1="{number(x)}" y1="{number(y)}" x2="{number(x2)}" y2="{number(y2)}"'
        return f'<line {ends} stroke="{self.colour(colour)}"{attributes(given)}/>'

    def group(
        self,
        parts: Sequence[str],
        *,
        title: str = "",
        row: int | None = None,
        path: str = "",
        **given: str,
    ) -> str:
        """Elements of one thing, with its title; on a page it can be found by its row, and focused."""
        about = f"<title>{clean(title)}</title>" if title else ""
        marks = ""
        if not self.static and row is not None:
            marks = f' class="tile" data-row="{row}" tabindex="0"'
        elif not self.static and path:
            marks = f' class="box" data-path="{clean(path)}"'
        return f"<g{marks}{attributes(given)}>{about}{''.join(parts)}</g>"


def rect(x: float, y: float, width: float, height: float, fill: str = "", **given: str) -> str:
    """A rectangle; without a fill it has its group's."""
    place = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
    return f"<rect {place}{attributes(_filled(fill, given))}/>"


def path(steps: str, fill: str = "", **given: str) -> str:
    """A path by its steps ("M0 0L1 1"); without a fill it has its group's."""
    return f'<path d="{steps}"{attributes(_filled(fill, given))}/>'


def _filled(fill: str, given: dict[str, str]) -> dict[str, str]:
    return {"fill": fill, **given} if fill else given


def attributes(given: dict[str, str]) -> str:
    """Names and values as they stand in an element; underscores stand for hyphens."""
    return "".join(f' {name.replace("_", "-")}="{value}"' for name, value in given.items())


def number(value: float) -> str:
    """A coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


def clean(words: str) -> str:
    """Text of anybody's making, fit for XML: escaped, without characters that XML forbids."""
    return escape(_UNSHOWABLE.sub("�", words))


def fitting(words: str, room: float, size: float = SIZE) -> str:
    """As much of a text as finds room, with a sign of what was cut; "" where that says nothing.

    A number at the end is kept, for it tells names apart: "encoder_layer_11" -> "encod…11".
    """
    if length(words, size) <= room:
        return words
    number_at_end = re.search(r"\d{1,3}$", words)
    end = "…" + (number_at_end[0] if number_at_end else "")
    kept, left = 0, room - length(end, size)
    while kept < len(words) and (left := left - length(words[kept], size)) >= 0:
        kept += 1
    return words[:kept] + end if kept >= _SAYS else ""


def length(words: str, size: float = SIZE) -> float:
    """An ample width of a text."""
    return size * sum(_WIDTHS.get(letter) or (_FULL if letter >= "\u1100" else _USUAL) for letter in words)
