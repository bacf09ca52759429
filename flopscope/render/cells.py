"""Rows -> cells: the headings and the short texts of a table made to be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from flopscope.diagnosis.wholes import NOTICEABLE, OUT_OF_PROPORTION
from flopscope.records import label_of
from flopscope.render.parts import PARTS, SHARES, Traits, doubtful, named, parts_of, reasons, traits, withheld
from flopscope.render.registry import Options
from flopscope.render.rows import Row, available, layer_row, require, whole_of
from flopscope.units import (
    bytes_text,
    count_text,
    giga_text,
    milliseconds_text,
    number_text,
    shape_text,
    share_text,
)

if TYPE_CHECKING:
    from flopscope.reports import Report

NOT_APPLICABLE = "-"
NOT_MEASURED = "?"


@dataclass(frozen=True, slots=True)
class Column:
    """How one column is shown: its heading, the text of a value, its side, its stand-in for None."""

    heading: str
    text: Callable[[Any], str] = str
    right: bool = True
    unknown: str = NOT_APPLICABLE


def default_columns(report: Report, options: Options) -> tuple[str, ...]:
    """The columns of a table made to be read; those of the time only where it was measured."""
    if options.columns is not None:
        require(options.columns, available(options))
        return tuple("label" if name == "path" else name for name in options.columns)
    if options.by == "op":
        return ("op", "calls", "macs", "flops", "flops_share", "bytes", "arithmetic_intensity", "priced_by")
    columns: tuple[str, ...]
    if options.by is not None:
        columns = (options.by, "layers", "params", "macs", "flops_share", "bytes", *_TIMED, *SHARES, "ratio")
    else:
        columns = (*_LAYER, "macs", "flops_share", "bytes", "arithmetic_intensity", *_TIMED)
        columns += ("limit", "findings", "mark")
    absent = _absent(report, options)
    return tuple(name for name in columns if name not in absent)


def _absent(report: Report, options: Options) -> set[str]:
    """The columns of which nothing is known, or nothing may be said."""
    rows = report.layers if options.depth is None else report.tree
    absent: set[str] = set()
    if whole_of(report).latency_s is None:
        absent |= {*_TIMED, "ratio", "mark"}
    if withheld(report) or not any(layer.limit for layer in rows):
        absent.add("limit")
    if withheld(report) or not any(layer.verdicts for layer in rows):
        absent.add("findings")
    if withheld(report) or parts_of(report.layers) is None:
        absent.update(SHARES)
    return absent


def headings(report: Report, columns: Sequence[str]) -> list[str]:
    """The headings of the columns."""
    found = parts_of(report.layers, traits(report)) if {"kernel_s", *SHARES} & {*columns} else None
    if found is None or not found.cheap:
        return [CATALOGUE[name].heading for name in columns]
    return [CATALOGUE[name].heading.replace("kernel", named("kernel", cheap=True)) for name in columns]


def sides(columns: Sequence[str]) -> list[str]:
    """The alignment of the columns, as tabulate wants it."""
    return ["right" if CATALOGUE[name].right else "left" for name in columns]


def cells(row: Row, columns: Sequence[str]) -> list[str]:
    """The texts of one row."""
    return [_cell(row, name) for name in columns]


def total_cells(report: Report, columns: Sequence[str]) -> list[str]:
    """The texts of the total; blank where a column does not add up."""
    total = layer_row(report.total, whole_of(report), Traits(doubtful(report, report.total)))
    total["rate"] = total["flops_per_s"] if total["macs"] else total["bytes_per_s"]
    total["parts"] = found = parts_of(report.layers, traits(report))
    total |= dict.fromkeys(SHARES, found)
    total |= {
        "label": "total",
        "flops_share": 1.0 if report.total.flops else None,
        "layers": len(report.layers),
        "uncosted_ops": sum(report.uncosted.values()),
    }
    texts = []
    for place, name in enumerate(columns):
        text = _cell(total, name) if name in _TOTALLED and total[name] is not None else ""
        texts.append("total" if place == 0 and not text else text)
    return texts


def label(row: Row) -> str:
    """What a layer is called in a table: its path, and what it is where the path does not say."""
    text = label_of(row["path"], row["type"])
    return text if row["calls"] else f"{text} (not run)"


def tree_labels(rows: Sequence[Row]) -> list[str]:
    """Labels for rows of the module tree: indented, and without what the row above it says."""
    held: list[str] = []
    labels = []
    for row in rows:
        path = row["path"]
        while held and not path.startswith(held[-1] + "."):
            held.pop()
        short = path[len(held[-1]) + 1 :] if held else path
        labels.append("  " * len(held) + label({**row, "path": short}))
        if path:
            held.append(path)
    return labels


def out_of_proportion(row: Row) -> bool:
    """Whether a row takes a share of the time that its share of the FLOPs does not explain."""
    time, ratio = row.get("latency_share"), row.get("time_per_flops")
    if time is None or time < NOTICEABLE:
        return False
    return not row["flops"] or (ratio is not None and ratio >= OUT_OF_PROPORTION)


def _cell(row: Row, name: str) -> str:
    if name in _COMPOSED:
        return _COMPOSED[name](row)
    column, value = CATALOGUE[name], row[name]
    if row["calls"] == 0 and name in _RUN_ONLY:
        return NOT_APPLICABLE
    text = column.unknown if value is None else column.text(value)
    return f"≥ {text}" if name in ("macs", "flops") and row["uncosted_ops"] else text


def _type(row: Row) -> str:
    """Class and detail: "Conv2d 3x3 s2 16>64 x3"; of the unnamed `(ops)`, what they amount to."""
    own = row["kind"] if row["bytes"] or row["flops"] else "between layers"
    words = [own if row["type"].startswith("(") else row["type"], row["detail"]]
    if row["calls"] > 1:
        words.append(f"x{row['calls']}")
    return " ".join(word for word in words if word)


def _latency(row: Row) -> str:
    """Milliseconds; marked where something else ran while the layer was timed."""
    if row["latency_s"] is None or row["calls"] == 0:
        return NOT_MEASURED if row["calls"] else NOT_APPLICABLE
    return ("~" if row["traits"].doubtful else "") + milliseconds_text(row["latency_s"])


def _rate(row: Row) -> str:
    """GFLOP/s, as the heading says; of what has no MACs GB/s, for its FLOP/s mean nothing."""
    if row["calls"] == 0 or not (row["macs"] or row["bytes"]):
        return NOT_APPLICABLE
    rate = row["flops_per_s"] if row["macs"] else row["bytes_per_s"]
    if rate is None:
        return NOT_MEASURED
    return giga_text(rate) if row["macs"] else f"{giga_text(rate)} GB/s"


def _limit(row: Row) -> str:
    """The largest part, by its name; "kernel?" where the parts had to be cut to fit."""
    if row["limit"] is None:
        return NOT_APPLICABLE
    trait = row["traits"]
    return named(row["limit"], cheap=trait.form == "cheap") + ("?" if trait.clamped else "")


def _part(row: Row, part: str) -> str:
    """One part as a share of the row's own time."""
    found = row.get("parts")
    return NOT_APPLICABLE if found is None else percent(found.share(part))


def percent(share: float) -> str:
    """A share in whole percent, with the sign: 0.523 -> "52 %"."""
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _ratio(row: Row) -> str:
    if row["latency_s"] is None:
        return NOT_MEASURED if row["calls"] else NOT_APPLICABLE
    if not row["flops"]:
        return "no FLOPs"
    return NOT_APPLICABLE if row["time_per_flops"] is None else _times(row["time_per_flops"])


def _mark(row: Row) -> str:
    return _ratio(row) if out_of_proportion(row) else ""


def _names(value: Sequence[str]) -> str:
    return " ".join(value)


def _times(value: float) -> str:
    return f"{value:.1f}x" if value < 100 else f"{value:.0f}x"


def _time(heading: str) -> Column:
    return Column(heading, milliseconds_text, unknown=NOT_MEASURED)


_LAYER = ("label", "what", "output_shape", "params")
_TIMED = ("latency_s", "latency_share", "rate")
_RUN_ONLY = (
    *("macs", "flops", "bytes_read", "bytes_written", "bytes", "arithmetic_intensity", "output_shape"),
    *("latency_s", "flops_share", "latency_share", "flops_per_s", "bytes_per_s"),
)
"""What a layer that did not run has not; its parameters it has."""
_TOTALLED = (
    *("layers", "params", "param_bytes", "macs", "flops", "bytes_read", "bytes_written", "bytes"),
    *("arithmetic_intensity", "latency_s", "latency_floor_s", "flops_share", "flops_per_s", "bytes_per_s"),
    *("uncosted_ops", "rate", *SHARES),
)
_COMPOSED: Mapping[str, Callable[[Row], str]] = {
    "label": lambda row: str(row["label"]) if "label" in row else label(row),
    "what": _type,
    "latency_s": _latency,
    "rate": _rate,
    "limit": _limit,
    "findings": lambda row: _names(reasons(row["verdicts"])[:2]),
    "finding": lambda row: _names(reasons(row["verdicts"])[:1]),
    **{f"{part}_part": partial(_part, part=part) for part in PARTS},
    "mark": _mark,
    "ratio": lambda row: _ratio(row) + (" !" if out_of_proportion(row) else ""),
}
CATALOGUE: Mapping[str, Column] = {
    "label": Column("layer", right=False),
    "what": Column("type", right=False),
    "mark": Column("time/FLOPs"),
    "ratio": Column("time/FLOPs"),
    "time_per_flops": Column("time/FLOPs", _times),
    **{name: Column(name, right=False) for name in ("type", "kind", "dtype", "op", "priced_by")},
    **{name: Column(name, right=False) for name in ("detail", "limit", "quality")},
    **{name: Column("verdicts", _names, right=False) for name in ("findings", "finding", "verdicts")},
    **{f"{part}_part": Column(part) for part in PARTS},
    "rate": Column("GFLOP/s", unknown=NOT_MEASURED),
    **{name: Column(name) for name in ("calls", "layers", "depth", "uncosted_ops")},
    "input_shape": Column("input", shape_text, right=False),
    "output_shape": Column("output", shape_text, right=False),
    "params": Column("params", count_text),
    "param_bytes": Column("param B", bytes_text),
    "macs": Column("MACs", count_text),
    "flops": Column("FLOPs", count_text),
    "bytes_read": Column("read", bytes_text),
    "bytes_written": Column("written", bytes_text),
    "bytes": Column("R+W", bytes_text),
    "formula_bytes": Column("formula R+W", bytes_text),
    "arithmetic_intensity": Column("FLOP/B", number_text),
    "latency_s": _time("ms"),
    "latency_floor_s": _time("floor ms"),
    "latency_low_s": _time("low ms"),
    "latency_high_s": _time("high ms"),
    "samples": Column("samples", unknown=NOT_MEASURED),
    "flops_share": Column("FLOPs %", share_text),
    "latency_share": Column("time %", share_text, unknown=NOT_MEASURED),
    "flops_per_s": Column("GFLOP/s", giga_text, unknown=NOT_MEASURED),
    "bytes_per_s": Column("GB/s", giga_text, unknown=NOT_MEASURED),
    **{
        f"{name}_s": _time(f"{name} ms") for name in ("compute", "kernel", "overhead", "allocation", "memory")
    },
    "headroom": Column("headroom", _times, unknown=NOT_MEASURED),
}
