"""A kind or a part -> its colour, light and dark.

Chosen so that the kinds that readers must tell apart (conv, pointwise, depthwise, PConv, SE, BN,
activation) stay apart in simulated deuteranopia and protanopia, and every colour has a contrast of 3:1
or more against its ground (WCAG 2.2, 1.4.11). Related kinds share a hue. A test computes both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Colour:
    """One colour on a light and on a dark ground, as "#rrggbb"."""

    light: str
    dark: str

    @property
    def text(self) -> Colour:
        """What can be read on it: black or white, of which one always has 4.5:1."""
        return Colour(_readable(self.light), _readable(self.dark))


def _readable(ground: str) -> str:
    """The one of black and white that stands out more, by WCAG's relative luminance."""
    red, green, blue = (_linear(int(ground[place : place + 2], 16) / 255) for place in (1, 3, 5))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    white, black = 1.05 / (luminance + 0.05), (luminance + 0.05) / 0.05
    return "#ffffff" if white >= black else "#000000"


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


GROUND = Colour("#ffffff", "#12151a")
INK = Colour("#1b1f24", "#e7eaee")
MUTED = Colour("#57606a", "#a2abb6")
LINE = Colour("#d9dde3", "#323a44")
BOX = Colour("#eceef1", "#262c35")
"""A container, which has no kind."""

_BLUE, _SKY, _RED = Colour("#0f3f86", "#5b7fe6"), Colour("#3a97dc", "#8accff"), Colour("#b8330a", "#f0652a")
_GREEN, _PLUM, _GOLD = (
    Colour("#0a7d55", "#2fc594"),
    Colour("#93287a", "#e89ad2"),
    Colour("#b98a00", "#f0d25a"),
)
_GREY = Colour("#888d94", "#7e858e")

COLOURS: Mapping[str, Colour] = {
    "conv": _BLUE,
    "pointwise_conv": _SKY,
    "depthwise_conv": _RED,
    "group_conv": Colour("#6478b4", "#a3b4e8"),
    "transposed_conv": Colour("#34547a", "#7f9cc4"),
    "pconv": _GREEN,
    "se": _PLUM,
    "linear": Colour("#1e7f8c", "#57c3d1"),
    "matmul": Colour("#3d8f99", "#7dd3dd"),
    "attention": Colour("#6a4fb3", "#b29df0"),
    "recurrent": Colour("#8a63a8", "#cdaae6"),
    "batch_norm": _GOLD,
    "norm": Colour("#a07b1f", "#d9bb55"),
    "activation": _GREY,
    "pooling": Colour("#6f7d4f", "#a9b87f"),
    "resampling": Colour("#7f8a3c", "#b9c56a"),
    "embedding": Colour("#4f7f5f", "#8fc4a1"),
    "elementwise": Colour("#8a6f5c", "#c4a791"),
    "reduction": Colour("#9b7d6d", "#b6968a"),
    "data_movement": Colour("#a0525f", "#d98a96"),
    "other": Colour("#6b7078", "#9aa1aa"),
}
"""By kind, all 21 of `flopscope.records.KINDS`."""

PARTS: Mapping[str, Colour] = {
    "compute": _BLUE,
    "kernel": _SKY,
    "overhead": _RED,
    "allocation": _GOLD,
    "memory": _GREEN,
}
"""By part of a layer's time."""

NAMED: Mapping[str, Colour] = {
    **{f"kind-{kind}": colour for kind, colour in COLOURS.items()},
    **{f"part-{part}": colour for part, colour in PARTS.items()},
    **{f"on-{kind}": colour.text for kind, colour in COLOURS.items()},
    **{f"on-{part}": colour.text for part, colour in PARTS.items()},
    "ground": GROUND,
    "ink": INK,
    "muted": MUTED,
    "line": LINE,
    "box": BOX,
}
"""By the name of the CSS variable that a page may set."""
