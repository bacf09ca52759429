"""Report -> the rows of the page's table of layers: containers with their sums, and the layers below them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flopscope.records import Layer
from flopscope.render import Options
from flopscope.render.cells import cells, default_columns, headings, out_of_proportion, sides, total_cells
from flopscope.render.parts import Traits, doubtful, traits
from flopscope.render.rows import Row, layer_row, whole_of

if TYPE_CHECKING:
    from flopscope.reports import Report

_SHARE_OF = {"flops_share": "flops", "latency_share": "latency_s"}
_SUMMED = (
    *("output_shape", "params", "macs", "flops_share", "bytes", "arithmetic_intensity"),
    *("latency_s", "latency_share", "rate"),
)
"""Columns of which a container has a value; the others speak of a layer alone."""
_NUMBERS = (
    *("params", "macs", "flops_share", "bytes", "arithmetic_intensity", "latency_s", "latency_share"),
    *("rate", "headroom", "mark"),
)

MEANINGS: Mapping[str, str] = {
    "what": "class and details; of (ops), which are operators of the container itself, what they amount to",
    "kind": "what the layer is recognised as, by what it does",
    "output_shape": "of the first call",
    "params": "parameters; shared ones count once",
    "macs": "multiply-accumulates of contractions",
    "flops_share": "share of the FLOPs: 2 for each MAC, and element-wise work",
    "bytes": "bytes read and written by the operators",
    "arithmetic_intensity": "FLOPs for each byte read or written",
    "latency_s": "latency as observed; ~ where it was disturbed. It adds up over layers",
    "latency_share": "share of the sum of all layers",
    "rate": "FLOPs over the undisturbed latency; GB/s of layers without MACs",
    "limit": "the largest of the five parts; with ? where they had to be cut to fit",
    "headroom": "undisturbed latency over the least possible by the roofs",
    "findings": "what was found to take time: see Findings below",
    "mark": "share of the time over share of the FLOPs, from 2 times on and from 1 % of the time on",
}
"""What the columns are, in a few words."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, and the number by which its column is sorted ("": the text; what is none comes last)."""

    text: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: a layer, by its place in `Report.layers`, or a container (`place` None).

    `above` is the part of the name that the container's line says already; `name` the rest.
    """

    place: int | None
    depth: int
    above: str
    name: str
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Headings with their sides and what they are called in scripts, lines, and the total."""

    columns: tuple[str, ...]
    headings: tuple[str, ...]
    right: tuple[bool, ...]
    numeric: tuple[bool, ...]
    lines: tuple[Line, ...]
    total: tuple[str, ...]

    @property
    def meanings(self) -> list[tuple[str, str]]:
        """Headings and what they mean, of the columns that need it."""
        pairs = zip(self.columns, self.headings, strict=True)
        return [(heading, MEANINGS[name]) for name, heading in pairs if name in MEANINGS]

    @property
    def nested(self) -> bool:
        """Whether some lines are containers of others."""
        return any(line.place is None for line in self.lines)


@dataclass(slots=True)
class _Node:
    """A container: its place in the tree, and what lies in it, in the order of the run."""

    path: str
    inside: list[_Node | int] = field(default_factory=list)


def layer_table(report: Report) -> Table:
    """The table of all layers, in the order of the run, below the containers that they belong to."""
    columns = [name for name in default_columns(report, Options()) if name != "label"]
    columns.insert(columns.index("what") + 1, "kind")
    if "limit" in columns and any(layer.headroom is not None for layer in report.layers):
        columns.insert(columns.index("limit") + 1, "headroom")
    lines = tuple(_lines(report, columns))
    right = tuple(side == "right" for side in sides(columns))
    return Table(
        columns=tuple(columns),
        headings=tuple(headings(report, columns)),
        right=right,
        numeric=tuple(name in _NUMBERS for name in columns),
        lines=lines,
        total=tuple(total_cells(report, ["label", *columns])),
    )


def alignment(table: Table) -> str:
    """The rules of columns (numbers right, findings in several lines): shorter than marks on all cells."""
    places = [place for place, right in enumerate(table.right, 1) if right]
    cells = ",".join(f".layers td:nth-of-type({place})" for place in places)
    rules = f"{cells}{{text-align:right}}\n" if cells else ""
    if "findings" in table.columns:
        cell = f".layers td:nth-of-type({1 + table.columns.index('findings')})"
        rules += f"@media (min-width:90rem){{{cell}{{white-space:normal;min-width:7.5rem}}}}\n"
    return rules


def _lines(report: Report, columns: Sequence[str]) -> Iterator[Line]:
    whole, found = whole_of(report), traits(report)
    modules = {module.path: module for module in reversed(report.tree)}
    stack: list[tuple[_Node, int]] = [(_grown(report, modules), 0)]
    # Depth first, without recursion: nobody says how deep a report from elsewhere nests.
    waiting = [(item, 1) for item in reversed(stack[0][0].inside)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, int):
            layer = report.layers[item]
            row = layer_row(layer, whole, found[item])
            yield Line(item, depth, *_named(layer), layer.kind, tuple(_cells(row, columns)))
            continue
        module = modules[item.path]
        row = layer_row(module, whole, Traits(doubtful(report, module)))
        yield Line(None, depth, *split(item.path), "", tuple(_sums(row, columns)))
        waiting += [(inner, depth + 1) for inner in reversed(item.inside)]


def _grown(report: Report, modules: Mapping[str, Layer]) -> _Node:
    """The containers that hold layers, each where its first layer ran."""
    nodes = {"": _Node("")}
    for place, layer in enumerate(report.layers):
        node = nodes[""]
        own = layer.path if layer.type.startswith("(") else layer.path.rpartition(".")[0]
        for path in _upwards(own):
            if path not in modules:
                continue
            if path not in nodes:
                nodes[path] = _Node(path)
                node.inside.append(nodes[path])
            node = nodes[path]
        node.inside.append(place)
    return nodes[""]


def _upwards(path: str) -> Iterator[str]:
    """All paths on the way to one: of "a.b.c" these are "a", "a.b" and "a.b.c"; of "" none."""
    words = path.split(".") if path else []
    for count in range(1, len(words) + 1):
        yield ".".join(words[:count])


def _named(layer: Layer) -> tuple[str, str]:
    """What stands before the last word of a label, and that word with its type where it has one."""
    above, name = split(layer.path)
    bare = layer.label.removeprefix(layer.path).strip()
    text = f"{name} {bare}".strip() if bare else name
    return above, text if layer.calls else f"{text} (not run)"


def split(path: str) -> tuple[str, str]:
    """What stands before the last word of a path, its dot included, and that word."""
    above, dot, name = path.rpartition(".")
    return above + dot, name


def _cells(row: Row, columns: Sequence[str]) -> Iterator[Cell]:
    for name, text in zip(columns, cells(row, columns), strict=True):
        value = _value(row, name) if name in _NUMBERS else ""
        yield Cell(text, "" if value == text else value)  # a plain number is its own key


def _sums(row: Row, columns: Sequence[str]) -> Iterator[Cell]:
    known = [name for name in columns if name in _SUMMED]
    texts = dict(zip(known, cells(row, known), strict=True))
    for name in columns:
        yield Cell(row["type"] if name == "what" else texts.get(name, ""))


def _value(row: Row, name: str) -> str:
    """The raw number behind a cell, in base units; a share's is that of what it is a share of."""
    found: Any
    if name == "rate":
        found = row["flops_per_s"] if row["macs"] else None
    elif name == "mark":
        found = row["time_per_flops"]
    else:
        found = row[_SHARE_OF.get(name, name)]
    if found is None or not row["calls"] or (name == "mark" and not out_of_proportion(row)):
        return ""
    return str(found) if isinstance(found, int) else f"{found:.6g}"
