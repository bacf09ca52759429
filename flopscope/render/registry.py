"""A format's name -> its renderer, and the options that every renderer is given."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flopscope.errors import InputError

if TYPE_CHECKING:
    from flopscope.reports import Report


@dataclass(frozen=True, slots=True)
class Options:
    """What a reader may ask of a table; each format takes what concerns it.

    Attributes:
        columns: Names of columns, in order; None for the format's own choice.
        depth: Show the module tree, inclusive, down to this level in place of the layers.
        by: Add up the layers by "kind" or "type", or the op calls by "op".
        sort: A column: numbers from the largest, text from A; "-column" turns it round.
        top: How many rows; 0 for all; None for all, or in the text format for what is readable.
        width: Columns of a terminal that the text format should fit into; None for no limit.
        color: Whether the text format may use ANSI colours.
        messages: Whether the text format ends with the report's warnings and notes.
        blocks: Whether bars may be drawn with block characters; letters, where they cannot be shown.
    """

    columns: tuple[str, ...] | None = None
    depth: int | None = None
    by: str | None = None
    sort: str | None = None
    top: int | None = None
    width: int | None = None
    color: bool = False
    messages: bool = False
    blocks: bool = True


Renderer = Callable[["Report", Options], str]
RENDERERS: dict[str, Renderer] = {}


def renderer(name: str) -> Callable[[Renderer], Renderer]:
    """Enter a function as the renderer of the format `name`.

    Raises:
        ValueError: The name is taken; the message names the holder.
    """

    def enter(function: Renderer) -> Renderer:
        holder = RENDERERS.get(name)
        if holder is not None:
            raise ValueError(f"format {name!r} is rendered by {holder.__module__}.{holder.__name__}")
        RENDERERS[name] = function
        return function

    return enter


def render(report: Report, name: str, options: Options | None = None) -> str:
    """Turn a report into text of the format `name`.

    Raises:
        InputError: There is no such format, or the options ask for what the report has not.
    """
    function = RENDERERS.get(name)
    if function is None:
        near = difflib.get_close_matches(name, RENDERERS, 1)
        known = ", ".join(sorted(RENDERERS))
        raise InputError(
            f"no renderer for the format {name!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"formats: {known}",
        )
    return function(report, options or Options())
