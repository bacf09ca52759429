"""Report -> rows: a mapping from column to plain value for each layer, group or op."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from flopscope.errors import InputError
from flopscope.records import Layer, OpRow
from flopscope.render.parts import Traits, codes_of, doubtful, joined, parts_of, seconds_of, traits
from flopscope.render.registry import Options

if TYPE_CHECKING:
    from flopscope.reports import Report

Row = Mapping[str, Any]

COLUMNS = (
    *("path", "type", "kind", "calls", "input_shape", "output_shape", "dtype"),
    *("params", "param_bytes", "macs", "flops", "bytes_read", "bytes_written", "arithmetic_intensity"),
    *("latency_s", "latency_floor_s", "latency_low_s", "latency_high_s", "samples"),
    *("flops_share", "latency_share", "flops_per_s", "bytes_per_s"),
    *("compute_s", "kernel_s", "overhead_s", "allocation_s", "memory_s", "limit", "headroom"),
    *("verdicts", "quality"),
)
"""The columns of `Report.df`, CSV and JSON layers, in their fixed order."""

ON_REQUEST = ("bytes", "formula_bytes", "detail", "depth", "uncosted_ops", "time_per_flops")
"""Further columns of a layer, shown where they are named."""

OP_COLUMNS = (
    *("index", "op", "path", "call", "input_shapes", "output_shapes", "dtype"),
    *("macs", "flops", "bytes_read", "bytes_written", "priced_by"),
)
"""The columns of `Report.ops_df`."""

_SUMS = ("params", "param_bytes", "macs", "flops", "bytes_read", "bytes_written")
_CALLS = ("calls", "uncosted_ops")
_TIMES = ("latency_s", "latency_floor_s")
_PARTS = ("compute_s", "kernel_s", "overhead_s", "allocation_s", "memory_s")
_GROUP = (
    *("layers", "calls", *_SUMS, "arithmetic_intensity", "latency_s", "latency_floor_s"),
    *("flops_share", "latency_share", "flops_per_s", "bytes_per_s"),
    *("compute_s", "kernel_s", "overhead_s", "allocation_s", "memory_s", "limit"),
)
_BY_OP = (
    *("op", "calls", "macs", "flops", "bytes_read", "bytes_written"),
    *("arithmetic_intensity", "flops_share", "priced_by"),
)


@dataclass(frozen=True, slots=True)
class Whole:
    """What shares are shares of: all FLOPs, and the sum of the layers' seconds (None: not measured)."""

    flops: int
    latency_s: float | None


def whole_of(report: Report) -> Whole:
    """The whole to which the rows of this report are related."""
    return Whole(report.total.flops, _sum_known(layer.latency_s for layer in report.layers))


def layer_row(layer: Layer, whole: Whole, trait: Traits | None = None) -> dict[str, Any]:
    """All columns of one layer, those derived from the whole included; and what is known besides."""
    row = {name: getattr(layer, name, None) for name in (*COLUMNS, *ON_REQUEST)}
    row["traits"] = trait or Traits()
    row["bytes"] = layer.bytes_read + layer.bytes_written
    row["flops_share"] = _ratio(layer.flops, whole.flops)
    row["latency_share"] = _ratio(layer.latency_s, whole.latency_s)
    row["time_per_flops"] = _ratio(row["latency_share"], row["flops_share"])
    return row


def _ratio(part: float | None, whole: float | None) -> float | None:
    """`part / whole`; None where one is unknown, or where no number comes out."""
    if part is None or not whole:
        return None
    ratio = part / whole
    return ratio if isfinite(ratio) else None


def op_row(op: OpRow) -> dict[str, Any]:
    """The columns of one op call."""
    return {name: getattr(op, name) for name in OP_COLUMNS}


def gather(report: Report, options: Options) -> list[Row]:
    """The rows that the options choose, in execution order: layers, the tree, or groups.

    Raises:
        InputError: `by` is unknown, or given together with `depth`; a number is negative.
    """
    whole = whole_of(report)
    for name, value in (("top", options.top), ("depth", options.depth)):
        if value is not None and value < 0:
            raise InputError(f"{name} is {value}", hint=f"give a {name} of 0 or more")
    if options.by is not None and options.depth is not None:
        raise InputError("depth and by were both given", hint="give one: the tree, or the sums")
    if options.depth is not None:
        modules = [layer for layer in report.tree if layer.depth <= options.depth]
        return [layer_row(layer, whole, Traits(doubtful(report, layer))) for layer in modules]
    if options.by is None:
        pairs = zip(report.layers, traits(report), strict=True)
        return [layer_row(layer, whole, trait) for layer, trait in pairs]
    if options.by == "op":
        return _by_op(report.ops, whole)
    if options.by in ("kind", "type"):
        return by_layers(report.layers, options.by, whole, traits(report))
    raise InputError(f"cannot add up by {options.by!r}", hint="by takes kind, type or op")


def by_layers(layers: Iterable[Layer], by: str, whole: Whole, found: Sequence[Traits] = ()) -> list[Row]:
    """Rows that add up the layers of one "kind" or "type", by time or FLOPs, largest first.

    Args:
        layers: What is added up.
        by: "kind" or "type".
        whole: What shares are shares of.
        found: The traits of the layers, in parallel.
    """
    groups: dict[str, tuple[list[Layer], list[Traits]]] = {}
    for place, layer in enumerate(layers):
        members, theirs = groups.setdefault(getattr(layer, by), ([], []))
        members.append(layer)
        theirs.append(found[place] if place < len(found) else Traits())
    rows: list[Row] = []
    for name, (members, theirs) in groups.items():
        row = layer_row(_added_up(members), whole, joined(members, theirs))
        row |= {by: name, "layers": len(members)}
        rows.append({**row, "parts": parts_of(members, theirs), "codes": codes_of(members)})
    return sorted(rows, key=weight, reverse=True)


def arrange(rows: Sequence[Row], options: Options) -> list[Row]:
    """Sort rows as `options.sort` says; unknown values come last either way."""
    if options.sort is None:
        return list(rows)
    name = options.sort.removeprefix("-")
    require([name], available(options))
    known = [row for row in rows if row[name] is not None]
    numbers = all(isinstance(row[name], (int, float)) for row in known)

    def key(row: Row) -> Any:
        return row[name] if numbers else str(row[name])

    known.sort(key=key, reverse=numbers != options.sort.startswith("-"))
    return known + [row for row in rows if row[name] is None]


def cut(rows: Sequence[Row], options: Options) -> tuple[list[Row], list[Row]]:
    """Split rows into those to show and the rest, at `options.top`.

    Sorted rows are cut at the end; unsorted ones keep their order and lose the lightest.
    """
    if not options.top or options.top >= len(rows):
        return list(rows), []
    order: Sequence[int] = range(len(rows))
    if options.sort is None:
        order = sorted(order, key=lambda index: weight(rows[index]), reverse=True)
    kept = set(order[: options.top])
    shown = [row for index, row in enumerate(rows) if index in kept]
    return shown, [row for index, row in enumerate(rows) if index not in kept]


def select(report: Report, options: Options) -> list[Row]:
    """Rows gathered, sorted and cut: all that a plain table needs."""
    return cut(arrange(gather(report, options), options), options)[0]


def weight(row: Row) -> tuple[float, int]:
    """What makes a row matter: its time, then its FLOPs."""
    return (row.get("latency_s") or 0.0, row["flops"])


def available(options: Options) -> tuple[str, ...]:
    """The names of the columns that these rows have."""
    if options.by is None:
        return (*COLUMNS, *ON_REQUEST)
    if options.by == "op":
        return (*_BY_OP, "bytes")
    return (options.by, *_GROUP, "bytes", "uncosted_ops", "time_per_flops")


def plain_columns(options: Options) -> tuple[str, ...]:
    """The columns of a machine-readable table: those asked for, or all of the contract's."""
    if options.columns is not None:
        require(options.columns, available(options))
        return options.columns
    if options.by == "op":
        return _BY_OP
    if options.by is not None:
        return (options.by, *_GROUP)
    return COLUMNS if options.depth is None else (*COLUMNS, "depth")


def require(columns: Iterable[str], known: Sequence[str]) -> None:
    """Raise InputError for a column that is not there, naming near ones."""
    for name in columns:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"columns: {', '.join(known)}"
            raise InputError(f"no column {name!r} in this table", hint=hint)


def _by_op(ops: Iterable[OpRow], whole: Whole) -> list[Row]:
    groups: dict[str, list[OpRow]] = {}
    for op in ops:
        groups.setdefault(op.op, []).append(op)
    rows: list[Row] = []
    for name, members in groups.items():
        row: dict[str, Any] = {"op": name, "calls": len(members)}
        row |= {key: sum(getattr(op, key) for op in members) for key in _SUMS[2:]}
        moved = row["bytes"] = row["bytes_read"] + row["bytes_written"]
        row["arithmetic_intensity"] = row["flops"] / moved if moved else None
        row["flops_share"] = row["flops"] / whole.flops if whole.flops else None
        row["uncosted_ops"] = sum(op.priced_by == "uncosted" for op in members)
        row["priced_by"] = "+".join(sorted({op.priced_by for op in members}))
        rows.append(row)
    return sorted(rows, key=lambda row: (row["flops"], row["bytes"]), reverse=True)


def _added_up(layers: Sequence[Layer]) -> Layer:
    """One layer with the sums of several, and nothing that does not add up."""
    bare = Layer("", "", "", 0, None, None, None, 0, 0, 0, 0, 0, 0)
    counts: dict[str, Any] = {
        name: sum(getattr(layer, name) for layer in layers) for name in (*_SUMS, *_CALLS)
    }
    timed = [layer for layer in layers if layer.latency_s is not None]
    times: dict[str, Any] = {name: _sum_if_all(getattr(layer, name) for layer in timed) for name in _TIMES}
    spent = [layer for layer in timed if layer.latency_floor_s or layer.latency_s]
    if spent and all(seconds_of(layer) is not None for layer in spent):
        times |= {name: sum(getattr(layer, name) for layer in spent) for name in _PARTS}
        found = parts_of(spent)
        times["limit"] = None if found is None else found.limit
    return replace(bare, **counts, **times)


def _sum_if_all(values: Iterable[float | None]) -> float | None:
    """The sum, or None where a term is unknown: half a sum would pass for the whole."""
    terms = list(values)
    known = [value for value in terms if value is not None]
    return sum(known) if known and len(known) == len(terms) else None


def _sum_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
