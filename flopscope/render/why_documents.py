"""Why -> Markdown for a file, HTML for a notebook: its blocks with tables for tables and lists for lists."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

from flopscope.render import markdown
from flopscope.render.grid import escaped, lay_out
from flopscope.render.why import why_blocks
from flopscope.render.why_lines import Block

if TYPE_CHECKING:
    from flopscope.diagnosis import Why


def why_markdown(why: Why) -> str:
    """The explanation as Markdown: its first line is the title, each table has a heading."""
    first, *blocks = why_blocks(why)
    title = [f"# {markdown.escape(first.heading)}", "  \n".join(map(markdown.escape, first.lines))]
    return "\n\n".join(part for part in (*title, *map(_markdown_block, blocks)) if part) + "\n"


def why_html(why: Why) -> str:
    """The explanation as HTML without styles and scripts; texts are escaped."""
    first, *blocks = why_blocks(why)
    title = [
        _paragraph(escape(first.heading), bold=True),
        *(_paragraph(escape(line)) for line in first.lines),
    ]
    return "\n".join([*title, *(part for block in blocks for part in _html_block(block))]) + "\n"


def _markdown_block(block: Block) -> str:
    heading, lines = markdown.escape(block.heading), [markdown.escape(line) for line in block.lines]
    if block.grid is not None:
        table = lay_out(escaped(block.grid, markdown.escape), "pipe")
        return "\n\n".join([f"## {heading}", table, *lines])
    if block.listed:
        return "\n".join([f"**{heading}**", "", *(f"- {line}" for line in lines)])
    return _joined(f"**{heading}**" if heading else "", lines, "\n\n".join)


def _html_block(block: Block) -> list[str]:
    heading, lines = escape(block.heading), [escape(line) for line in block.lines]
    if block.grid is not None:
        table = lay_out(block.grid, "html")
        return [_paragraph(heading, bold=True), table, *map(_paragraph, lines)]
    if block.listed:
        items = "".join(f"<li>{line}</li>" for line in lines)
        return [_paragraph(heading, bold=True), f"<ul>{items}</ul>"]
    if not heading:
        return [_paragraph(line) for line in lines]
    return [_paragraph(_joined(f"<b>{heading}</b>", lines, "<br>".join))]


def _joined(heading: str, lines: list[str], join: Callable[[list[str]], str]) -> str:
    """A heading and its text on one line."""
    return " ".join(part for part in (heading, join(lines)) if part)


def _paragraph(content: str, *, bold: bool = False) -> str:
    return f"<p><b>{content}</b></p>" if bold else f"<p>{content}</p>"
