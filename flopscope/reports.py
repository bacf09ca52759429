"""Records -> Report; Report <-> JSON, tables, data frames: what a user holds in hand.

The one place where data meets its own display: `flopscope.render` and pandas are opened late,
inside the methods that need them.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flopscope.errors import InputError, ModelLoadError
from flopscope.records import (
    Coverage,
    Environment,
    Evidence,
    Latency,
    Layer,
    Machine,
    MemoryPeak,
    OpRow,
    Phase,
    Quality,
    Settings,
    Violation,
    WholeRow,
)
from flopscope.units import count_text, seconds_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from flopscope.diagnosis import Why

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """What every layer of a model costs and takes; frozen, compares by value.

    Attributes:
        model: The model's address or class.
        layers: The partition: every op in exactly one row, in execution order.
        tree: Every module, inclusive, root first.
        ops: One row per op call.
        total: The whole model; its `latency_s` is the bare model's median.
        conventions: The totals as others count them, by name.
        uncosted: Ops without a formula or rule, and how often each was called.
        coverage: The share of ops, bytes and time that was priced.
        peak: The most activation memory alive at once, and when.
        phases: Of a training step, what each phase costs and takes; else empty.
        held_bytes: Of a training step, bytes by role: "saved" for the backward, "gradient", "optimizer".
        param_bytes: Bytes of all parameters, shared ones once.
        buffer_bytes: Bytes of all buffers.
        environment: Where the report was made.
        settings: How it was made.
        warnings: What may make a number wrong.
        notes: What the reader should know besides.
        whole: Measurements of the bare model; None where nothing was measured.
        rows_of_the_whole: The terms that add up to `total.latency_s`.
        machine: The roofs that latencies are held against; None where they are not known.
        quality: How far the latencies can be trusted; None where nothing was measured.
        evidence: What is known of each layer besides; parallel to `layers`, empty without latencies.
        route: How the ops were obtained: "meta", "real" or "exported".
        loaded_by: How the model was loaded: "object", "import", "allowlist", "static", "trusted".
    """

    model: str
    layers: tuple[Layer, ...]
    tree: tuple[Layer, ...]
    ops: tuple[OpRow, ...]
    total: Layer
    conventions: Mapping[str, int]
    uncosted: Mapping[str, int]
    coverage: Coverage
    peak: MemoryPeak
    param_bytes: int
    buffer_bytes: int
    environment: Environment
    settings: Settings
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    whole: Latency | None = None
    rows_of_the_whole: tuple[WholeRow, ...] = ()
    machine: Machine | None = None
    quality: Quality | None = None
    evidence: tuple[Evidence, ...] = ()
    phases: tuple[Phase, ...] = ()
    held_bytes: Mapping[str, int] = field(default_factory=dict)
    route: str
    loaded_by: str = "object"

    @property
    def peak_activation_bytes(self) -> int:
        """Bytes of activations alive at the worst moment; parameters and buffers not included."""
        return self.peak.nbytes

    @property
    def saved_activation_bytes(self) -> int | None:
        """Of a training step, the bytes that autograd keeps from the forward for the backward."""
        return self.held_bytes.get("saved")

    @property
    def df(self) -> pd.DataFrame:
        """The layers as a data frame; counts are nullable integers."""
        from flopscope.render.frames import frame
        from flopscope.render.rows import COLUMNS, layer_row, whole_of

        whole = whole_of(self)
        return frame([layer_row(layer, whole) for layer in self.layers], COLUMNS)

    @property
    def tree_df(self) -> pd.DataFrame:
        """Every module, inclusive, as a data frame; the columns of `df` and `depth`."""
        from flopscope.render.frames import frame
        from flopscope.render.rows import COLUMNS, layer_row, whole_of

        whole = whole_of(self)
        return frame([layer_row(layer, whole) for layer in self.tree], (*COLUMNS, "depth"))

    @property
    def ops_df(self) -> pd.DataFrame:
        """The op calls as a data frame."""
        from flopscope.render.frames import frame
        from flopscope.render.rows import OP_COLUMNS, op_row

        return frame([op_row(op) for op in self.ops], OP_COLUMNS)

    def table(
        self,
        format: str = "text",  # noqa: A002
        *,
        columns: typing.Sequence[str] | None = None,
        depth: int | None = None,
        by: str | None = None,
        sort: str | None = None,
        top: int | None = None,
        width: int | None = None,
    ) -> str:
        """Show the report as a table.

        Args:
            format: "text", "markdown", "latex", "html", "tsv" or "csv"; "plot" and "bars": pictures
                in characters; "json" is all of it.
            columns: Columns of `df` to show, or "bytes", "formula_bytes", "detail", "depth",
                "uncosted_ops", "time_per_flops".
            depth: Show the module tree, inclusive, down to this level.
            by: Add up the layers by "kind" or "type", or the op calls by "op".
            sort: A column: numbers from the largest, text from A; "-column" turns it round.
            top: Rows to show: without `sort` those that take most; 0 for all.
            width: Characters a line of text may have; columns that find no room are named.

        Raises:
            InputError: A column, format or `by` is unknown, or the options exclude each other.
        """
        from flopscope.render import Options, render

        named = None if columns is None else tuple(columns)
        options = Options(columns=named, depth=depth, by=by, sort=sort, top=top, width=width)
        return render(self, format, options)

    def save(self, path: PathLike) -> None:
        """Write the report as JSON, which `flopscope.load` reads back; atomically."""
        self.to_json(path)

    def to_json(self, path: PathLike | None = None) -> str:
        """The whole report as JSON; also written to `path` if one is given."""
        return self._written("json", path)

    def to_csv(self, path: PathLike | None = None) -> str:
        """The layers as CSV in base units; also written to `path` if one is given."""
        return self._written("csv", path)

    def to_markdown(self, path: PathLike | None = None) -> str:
        """The layers as a Markdown table; also written to `path` if one is given."""
        return self._written("markdown", path)

    def to_latex(
        self, path: PathLike | None = None, *, caption: str = "", label: str = "", **shape: Any
    ) -> str:
        """The layers as a LaTeX tabular, with a caption or label in a `table`; also written to `path`.

        `shape` takes `columns`, `depth`, `by`, `sort` and `top`, as `table` does.
        """
        from flopscope.render.latex import floating

        text = self.table("latex", **shape)
        text = floating(text, caption=caption, label=label) if caption or label else text
        if path is not None:
            write_text(path, text)
        return text

    def to_html(self, path: PathLike | None = None) -> str:
        """One page for a browser: tables, pictures, explanations, the report itself; also written to `path`.

        It fetches nothing and reads well without scripts; `flopscope.load` reads it back.
        """
        from flopscope.pages import report_page

        text = report_page(self)
        if path is not None:
            write_text(path, text)
        return text

    def to_svg(self, path: PathLike | None = None, *, picture: str = "") -> str:
        """A picture that stands alone: FLOPs against time, "parts", "roofline" or "memory"; also written."""
        return self._written(f"{picture}-svg" if picture else "svg", path)

    def plot_roofline(self, path: PathLike | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw layers under the measured roofs with matplotlib, for a paper; saved if `path` is given."""
        from flopscope.pictures.papers import plot_roofline

        return plot_roofline(self, path, ax=ax)

    def plot_icicle(self, path: PathLike | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw FLOPs above, time below with matplotlib, for a paper; saved if `path` is given."""
        from flopscope.pictures.papers import plot_icicle

        return plot_icicle(self, path, ax=ax)

    def to_speedscope(self, path: PathLike | None = None) -> str:
        """One run for speedscope, put together from the layers' latencies; also written to `path`.

        Raises:
            InputError: No latencies were measured.
        """
        return self._written("speedscope", path)

    def to_chrome_trace(self, path: PathLike | None = None) -> str:
        """The same run as a Chrome trace, which Perfetto shows; also written to `path` if one is given.

        Raises:
            InputError: No latencies were measured.
        """
        return self._written("chrome-trace", path)

    def metrics(self) -> dict[str, float]:
        """Flat names and numbers for trackers: "macs", "latency_s", "kind/depthwise_conv/latency_share"."""
        from flopscope.render.metrics import metrics

        return metrics(self)

    def methods_text(self, style: str = "text") -> str:
        """Paragraphs for a paper on what was counted and how it was timed; `style` is "text" or "latex".

        Raises:
            InputError: There is no such style.
        """
        from flopscope.render.methods import methods_text

        return methods_text(self, style)

    def check(self, *budgets: str) -> list[Violation]:
        """Compare the report with budgets such as "macs<=600M" or "depthwise_conv.latency<2ms".

        Totals with ops that have no price are judged by what is known of them, a lower bound.

        Returns:
            The budgets that are not kept; none means all is well.

        Raises:
            BudgetError: A budget cannot be read, or its metric is unknown or was not measured.
        """
        from flopscope.budgets import judge

        judged = [judge(self, budget) for budget in budgets]
        return [numbers for kept, numbers in judged if not kept]

    def why(self, path: str = "") -> Why:
        """Explain a layer, a container ("features.1") or, by default, the whole: `print(report.why())`.

        Nothing is measured here: what the report does not hold is named as not measured.

        Raises:
            InputError: There is no such layer.
        """
        from flopscope.diagnosis import why

        return why(self, path)

    def _written(self, name: str, path: PathLike | None) -> str:
        text = self.table(name)
        if path is not None:
            write_text(path, text)
        return text

    def __str__(self) -> str:
        from flopscope.render import Options, render

        return render(self, "text", Options(messages=True))

    def __repr__(self) -> str:
        bound = "≥ " if self.uncosted else ""
        total = self.total
        counts = [f"{count_text(total.params)} params", f"{bound}{count_text(total.macs)} MACs"]
        counts.append(f"{bound}{count_text(total.flops)} FLOPs")
        if total.latency_s is not None:
            counts.append(seconds_text(total.latency_s))
        return f"<Report of {self.model!r}: {', '.join(counts)}, {len(self.layers)} layers>"

    def _repr_html_(self) -> str:
        from flopscope.render import render

        return render(self, "notebook")


# --------------------------------------------------------------------------- files


def load(path: PathLike) -> Report:
    """Read a report that `Report.save` or `Report.to_html` wrote; needs neither torch nor pandas.

    Raises:
        ModelLoadError: No such file, not a report, a damaged one, or one of a newer flopscope.
    """
    from flopscope.pages.embedded import json_in
    from flopscope.render.json_text import FORMAT, VERSION, restored

    if not is_report(path):
        raise ModelLoadError(
            f"{os.fspath(path)} is not a saved report",
            hint='a report is what Report.save or "flopscope report MODEL -o report.json" (.html) writes',
        )
    try:
        text = json_in(Path(path).read_text(encoding="utf-8"), FORMAT)
        top = json.loads(text, parse_constant=_refuse_constant)
        version = top["version"]
        if isinstance(version, int) and version > VERSION:
            raise ModelLoadError(
                f"{os.fspath(path)} has format version {version}, this flopscope reads up to {VERSION}",
                hint="it was written by a newer flopscope: bring this one up to date",
            )
        if version != VERSION or isinstance(version, bool):
            raise ValueError(f"version: expected {VERSION}, got {version!r}")
        report: Report = restored(Report, top, "report")
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise ModelLoadError(
            f"{os.fspath(path)} is a damaged report: {error}",
            hint="make it again; reports are written whole or not at all, so it was changed since",
        ) from error
    return report


def is_report(path: PathLike) -> bool:
    """Whether the file begins as a saved report does.

    Raises:
        ModelLoadError: The file cannot be read.
    """
    from flopscope.pages.embedded import signed
    from flopscope.render.json_text import FORMAT

    try:
        with Path(path).open("rb") as file:
            start = file.read(200)
    except OSError as error:
        raise ModelLoadError(
            f"cannot read {os.fspath(path)}: {error.strerror}", hint="give the path of a file that is there"
        ) from error
    written = re.match(rb'\s*\{\s*"format"\s*:\s*"%b"' % FORMAT.encode(), start)
    return written is not None or signed(start) == "report"


def write_text(path: PathLike, text: str) -> None:
    """Write a whole file or nothing: an error on the way leaves what was there before.

    Raises:
        InputError: The file cannot be written.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        if target.exists() and not target.is_file():
            target.write_text(text, encoding="utf-8")  # A pipe or a device cannot be replaced.
            return
        with part.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
        part.replace(target)
    except OSError as error:
        raise InputError(
            f"cannot write {os.fspath(path)}: {error.strerror}",
            hint="name a file in a directory that is there",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _refuse_constant(name: str) -> typing.NoReturn:
    raise ValueError(f"{name} is no number of a report")
