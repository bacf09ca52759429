"""Everything per op -> `Layer`s: the partition of a run, the module tree, and their latencies."""

from __future__ import annotations

from .latency import (
    LayerTimes,
    by_layer,
    rows_of_the_whole,
    tree_with_latency,
    with_latency,
    with_latency_of_the_whole,
)
from .partition import assignment, kind_of_layer, partition, total
from .tree import tree

__all__ = [
    "LayerTimes",
    "assignment",
    "by_layer",
    "kind_of_layer",
    "partition",
    "rows_of_the_whole",
    "total",
    "tree",
    "tree_with_latency",
    "with_latency",
    "with_latency_of_the_whole",
]
