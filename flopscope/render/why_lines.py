"""Words, rows, a width -> lines and tables that keep within it: what explanations are laid out with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flopscope.render.grid import Grid, lay_out_ruled, printable
from flopscope.render.phrases import filled

GAP = "   "
LABEL = 9
"""Characters that a label at the beginning of a line takes."""
_LEAST_LABEL = 12


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under names. `spare` are the columns that give way where there is no room, in this order.

    The first column is the label; where all has given way it is cut, at its front with `cut_front`.
    `hidden` rows are not shown. `lines` follow below.
    """

    heading: str
    names: tuple[str, ...]
    sides: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    spare: tuple[str, ...] = ()
    cut_front: bool = True
    hidden: int = 0
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of an explanation before it has a format: a heading, a table where there is one, lines below.

    `listed` lines stand for one thing each.
    """

    heading: str
    grid: Grid | None = None
    lines: tuple[str, ...] = ()
    listed: bool = False


def pieces(words: Sequence[str], width: int | None, indent: int = 0) -> str:
    """Words that stay whole, as many on a line as fit, all lines but the first indented."""
    lines: list[str] = []
    for word in filter(None, words):
        longer = f"{lines[-1]}{GAP}{word}" if lines else word
        if lines and width is not None and len(longer) > width:
            lines.append(" " * indent + word)
        elif lines:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(filled(line, width, max(indent, 2)) if "  " not in line else line for line in lines)


def table_text(table: Table | None, width: int | None) -> str:
    """The table with its heading, within the width; "" where it has no rows."""
    if table is None or not table.rows:
        return ""
    table = replace(table, rows=[[printable(text) for text in row] for row in table.rows])
    gone: list[str] = []
    while width is not None and _taken(table) > width and len(gone) < len(table.spare):
        gone.append(table.spare[len(gone)])
        table = _without(table, gone[-1])
    if width is not None:
        table = _cut(table, width)
    more = [f"… {table.hidden} more"] if table.hidden else []
    said = [f"(no room for {', '.join(gone)}; --json has all)"] if gone else []
    under = [filled(line, width, 2) for line in (*more, *table.lines, *said)]
    body = lay_out_ruled(Grid(table.names, table.sides, table.rows))
    return "\n".join([filled(table.heading, width, 2), body, *under])


def table_block(table: Table | None) -> Block | None:
    """The whole table, whatever its width; None where it has no rows."""
    if table is None or not table.rows:
        return None
    rows = [[printable(text) for text in row] for row in table.rows]
    more = [f"… {table.hidden} more"] if table.hidden else []
    return Block(table.heading, Grid(table.names, table.sides, rows), (*more, *table.lines))


def labelled_blocks(text: str) -> list[Block]:
    """Lines of a text that begin with a label or are indented by its room -> a block for each label."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if label := line[:LABEL].strip():
            found.append((label, []))
        found[-1][1].append(line[LABEL:].strip())
    return [Block(label, lines=tuple(lines), listed=len(lines) > 1) for label, lines in found]


def _taken(table: Table) -> int:
    widest = [max(map(len, texts)) for texts in zip(table.names, *table.rows, strict=True)]
    return sum(widest) + 2 * (len(widest) - 1)


def _without(table: Table, name: str) -> Table:
    if name not in table.names:
        return table
    place = table.names.index(name)
    names, sides = (tuple(_dropped(each, place)) for each in (table.names, table.sides))
    return replace(table, names=names, sides=sides, rows=[_dropped(row, place) for row in table.rows])


def _dropped(row: Sequence[str], place: int) -> list[str]:
    return [*row[:place], *row[place + 1 :]]


def _cut(table: Table, width: int) -> Table:
    """The table with its labels cut by as much as it is too wide, and as they bear."""
    beyond = _taken(table) - width
    if beyond <= 0:
        return table
    room = max(_LEAST_LABEL, max(len(row[0]) for row in table.rows) - beyond)
    rows = [[_shortened(row[0], room, front=table.cut_front), *row[1:]] for row in table.rows]
    return replace(table, rows=rows)


def _shortened(label: str, room: int, *, front: bool) -> str:
    if len(label) <= room:
        return label
    return f"…{label[len(label) - room + 1 :]}" if front else f"{label[: room - 1]}…"
