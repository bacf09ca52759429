"""Report -> the module tree as two rows of tiles: shares of the FLOPs, shares of the time.

What the SVG and the matplotlib picture are both drawn from. Leaves are the layers of the partition, so that
widths add up; a container's width is the sum of its leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flopscope.reports import Report

MOST_LEVELS = 5
"""Of containers below the root; what lies deeper hangs on the deepest one that is shown."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Tile:
    """A layer or a container: where it begins and ends in 0..1 of the FLOPs, and of the time.

    `row` is the layer's place in `Report.layers`, None for a container; `level` the root's is 0.
    `more` layers were joined to this one.
    """

    name: str
    path: str
    level: int
    row: int | None
    flops: Span
    time: Span | None
    more: int = 0

    @property
    def wide(self) -> float:
        """The greater of its two shares."""
        return max(end - start for start, end in (self.flops, self.time or (0.0, 0.0)))


@dataclass(frozen=True, slots=True)
class Sheet:
    """All tiles, containers before what they hold; how many levels of containers there are, root included."""

    tiles: tuple[Tile, ...]
    levels: int

    @property
    def leaves(self) -> tuple[Tile, ...]:
        """The tiles of layers."""
        return tuple(tile for tile in self.tiles if tile.row is not None)

    @property
    def boxes(self) -> tuple[Tile, ...]:
        """The tiles of containers."""
        return tuple(tile for tile in self.tiles if tile.row is None)


@dataclass(slots=True)
class _Node:
    name: str
    path: str
    row: int | None = None
    children: dict[str, _Node] = field(default_factory=dict)

    def rows(self) -> Iterator[int]:
        """The layers in it, in the order of their places."""
        if self.row is not None:
            yield self.row
        for child in self.children.values():
            yield from child.rows()


def sheet(report: Report) -> Sheet:
    """Lay the tiles out, in the order of execution within each container."""
    root = _collapsed(_tree(report))
    root = _Node(report.model, "", None, root.children if root.row is None else {"": root})
    flops = [float(layer.flops) for layer in report.layers]
    timed = any(layer.latency_s is not None for layer in report.layers)
    times = [layer.latency_s or 0.0 for layer in report.layers] if timed else None
    sums = (sum(flops), sum(times) if times else 0.0)
    tiles: list[Tile] = []

    def place(node: _Node, level: int, at: tuple[float, float]) -> tuple[float, float]:
        rows = list(node.rows())
        ends = (
            at[0] + (sum(flops[row] for row in rows) / sums[0] if sums[0] else 0.0),
            at[1] + (sum(times[row] for row in rows) / sums[1] if times and sums[1] else 0.0),
        )
        time = (at[1], ends[1]) if times and sums[1] else None
        if node.row is not None or level <= MOST_LEVELS:
            tiles.append(Tile(node.name, node.path, level, node.row, (at[0], ends[0]), time))
        here = at
        for child in node.children.values():
            here = place(child, level + 1, here)
        return ends

    place(root, 0, (0.0, 0.0))
    return Sheet(tuple(tiles), 1 + max((tile.level for tile in tiles if tile.row is None), default=0))


def joined(leaves: Sequence[Tile], least: float) -> Iterator[Tile]:
    """The same leaves, but neighbours that are narrower than `least` in both rows joined until they are not.

    What was joined goes by the layer that is the widest of them, so nothing is left out, and a picture of
    thousands of layers has no more tiles than can be seen.
    """
    run: list[Tile] = []
    for tile in leaves:
        if tile.wide >= least:
            yield from _one(run)
            yield tile
            run = []
            continue
        run.append(tile)
        if (whole := next(_one(run))).wide >= least:
            yield whole
            run = []
    yield from _one(run)


def _one(run: Sequence[Tile]) -> Iterator[Tile]:
    """Neighbours as one tile; nothing of none."""
    if not run:
        return
    first, last, widest = run[0], run[-1], max(run, key=lambda tile: tile.wide)
    time = (first.time[0], last.time[1]) if first.time and last.time else None
    level = min(tile.level for tile in run)
    more = len(run) - 1
    yield replace(widest, level=level, flops=(first.flops[0], last.flops[1]), time=time, more=more)


def _tree(report: Report) -> _Node:
    """Layers by the words of their paths; a container's own work is a leaf of it."""
    root = _Node("", "")
    for row, layer in enumerate(report.layers):
        words = layer.path.split(".") if layer.path else []
        own = layer.type.startswith("(") or not words
        node = root
        for place, word in enumerate(words if own else words[:-1], start=1):
            node = node.children.setdefault(word, _Node(word, ".".join(words[:place])))
        name = layer.type if own else words[-1]
        node.children[f"{name} {row}"] = _Node(name, layer.path, row)
    return root


def _collapsed(node: _Node) -> _Node:
    """The same without containers that hold one thing only: they would be a row that says nothing."""
    children = {key: _collapsed(child) for key, child in node.children.items()}
    if node.row is None and len(children) == 1 and node.path:
        (child,) = children.values()
        named = f"{node.name}.{child.name}" if not child.name.startswith("(") else f"{node.name} {child.name}"
        return _Node(named, child.path, child.row, child.children)
    return _Node(node.name, node.path, node.row, children)
