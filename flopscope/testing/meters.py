"""Budgets, a model -> a passed or a failed test: what the fixture `flopscope_meter` can do."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import flopscope
from flopscope.budgets import MEASURED, excess_text, judge, parsed, value_text
from flopscope.errors import BudgetError, InputError
from flopscope.units import bytes_text, count_text

if TYPE_CHECKING:
    from flopscope.comparison import Comparison
    from flopscope.records import Ratio, Violation
    from flopscope.reports import Report

MARKER = "flopscope_budget"
_SIGNS = ("<=", ">=", "==", "<", ">")
_SHOWN = 3
_ROWS = 10
_TOTALS = ("params", "macs", "flops")
_ADDITIVE = (*_TOTALS, "param_bytes", "bytes", "bytes_read", "bytes_written")
"""Metrics of which a layer has its share."""
_COLUMNS = ("path", "type", "kind", "output_shape", "params", "macs", "flops")


class UnclearLatencyWarning(UserWarning):
    """Latencies were compared, and the measurement allows no verdict: nothing failed, nothing is shown."""


class Meter:
    """Counts models for a test and holds them against its budgets; compares latencies in one run.

    Attributes:
        budgets: Those of the test's markers: "macs<=600M".
        counted: One line for each report that was held against them.
        tables: A title and the largest layers of each report that did not keep them.
    """

    def __init__(self, budgets: Sequence[str]) -> None:
        self.budgets = tuple(budgets)
        self.counted: list[str] = []
        self.tables: list[tuple[str, str]] = []

    def count(self, model: Any, inputs: Any = None, **keywords: Any) -> Report:
        """Count a model as `flopscope.count` does, and fail the test where a budget is not kept.

        Args:
            model: A module, or an address such as "zoo:fasternet_t0".
            inputs: As for `flopscope.count`.
            keywords: Of `flopscope.count`.

        Returns:
            The report, for assertions of the test's own.
        """
        __tracebackhide__ = True
        if isinstance(model, str):
            report = flopscope.count(flopscope.load_model(model), inputs, **keywords)
            report = replace(report, model=model, loaded_by="import")
        else:
            report = flopscope.count(model, inputs, **keywords)
        self.check(report)
        return report

    def check(self, report: Report) -> None:
        """Hold a report that is there already against the budgets; fail the test where one is not kept."""
        __tracebackhide__ = True
        totals = [f"{value_text(name, getattr(report.total, name))} {name}" for name in _TOTALS]
        peak = value_text("peak_activation_bytes", report.peak_activation_bytes)
        self.counted.append(f"{report.model}: {', '.join(totals)}, peak activations {peak}")
        try:
            judged = [judge(report, budget) for budget in self.budgets]
        except BudgetError as wrong:
            raise refusal(wrong) from None
        broken = [numbers for kept, numbers in judged if not kept]
        if broken:
            self.tables.append(_largest(report, broken[0].metric))
            pytest.fail("\n".join(_lines(report, broken)), pytrace=False)

    def compare(
        self, models: Mapping[str, Any], inputs: Any = None, *, at_most: float = 1.05, **keywords: Any
    ) -> Comparison:
        """Time models in turns of one run; fail where one takes more than `at_most` times the first's time.

        The whole interval must lie above, in a measurement that is not void. What noise may explain is a
        warning, `UnclearLatencyWarning`.

        Args:
            models: By name; the first is what the others are held against.
            inputs: As for `flopscope.compare`.
            at_most: The largest ratio allowed.
            keywords: Of `flopscope.compare`; `effort` is "quick" unless given.

        Returns:
            The comparison, for assertions of the test's own.

        Raises:
            InputError: `at_most` is no ratio; and what `flopscope.compare` raises.
        """
        __tracebackhide__ = True
        if not at_most > 0:
            raise InputError(f"at_most is a ratio of times, got {at_most!r}", hint="1.05: 5 % slower at most")
        found = flopscope.compare(models, inputs, **{"effort": "quick", **keywords})
        slower = []
        for place, side in enumerate(found.sides[1:], 1):
            ratio, void = found.ratios[place], _is_void(found, place)
            told = "no ratio was measured" if ratio is None else _ratio_told(ratio)
            if ratio is not None and ratio.low > at_most and not void:
                slower.append(f"  {side.name}: {told}")
            elif ratio is None or void or ratio.high > at_most:
                _warn(f"{side.name}: whether it takes at most {at_most:g} times as long is unclear: {told}")
        if slower:
            title = f"slower than {at_most:g} times {found.sides[0].name}, timed in turns of this run"
            pytest.fail("\n".join([title, *slower]), pytrace=False)
        return found


def budgets_of(marks: Sequence[pytest.Mark]) -> list[str]:
    """The budgets of a test's markers: keywords are upper bounds, texts are budgets as `check` takes them.

    Raises:
        BudgetError: One cannot be read, is of a latency, or a marker has none.
    """
    found: list[str] = []
    for mark in marks:
        if not mark.args and not mark.kwargs:
            raise BudgetError(
                f"{MARKER} without a budget", hint=f'write e.g. @pytest.mark.{MARKER}(macs="600M")'
            )
        found += [str(text) for text in mark.args]
        found += [_budget(name, limit) for name, limit in mark.kwargs.items()]
    for text in found:
        metric, _, _ = parsed(text)
        if metric.rpartition(".")[2] in MEASURED:
            raise BudgetError(
                f"{text!r} is a budget of time, which differs between machines and runs",
                hint="compare two models in one run: flopscope_meter.compare({...}, inputs, at_most=1.05)",
            )
    return found


def refusal(wrong: BudgetError) -> BaseException:
    """What fails a test whose budgets cannot be judged: what is wrong with them, and the way out."""
    return pytest.fail.Exception(f"{wrong}\n{wrong.hint}".rstrip(), pytrace=False)


def _budget(name: str, limit: Any) -> str:
    text = str(limit)
    return f"{name}{text}" if text.lstrip().startswith(_SIGNS) else f"{name}<={text}"


# --------------------------------------------------------------------------- what a failed test says


def _lines(report: Report, broken: Sequence[Violation]) -> list[str]:
    """What is not kept, by how much and because of which layers; and what shows the rest."""
    from flopscope.pages.commands import reproduced

    # The first line is all that pytest's summary shows.
    told = [_told(report, item) for item in broken]
    lines = [f"{report.model} breaks {told[0]}", *(f"and {text}" for text in told[1:])]
    if report.uncosted:
        lines.append("ops without a price are not in these numbers, which are lower bounds")
    if report.loaded_by != "object":  # a module that a test built has no address
        command, left_open = reproduced(report)
        lines += [] if left_open else [f"all layers:  {command}"]
    return lines


def _told(report: Report, broken: Violation) -> str:
    """A budget that is not kept: the value, how far off it is, and what takes most of it."""
    value = value_text(broken.metric, broken.actual)
    line = f"{broken.budget}: {value}, {excess_text(broken.actual, broken.limit)}"
    kind, _, name = broken.metric.rpartition(".")
    if broken.actual <= broken.limit:
        return line
    if name == "peak_activation_bytes":
        parts = [f"{what} ({bytes_text(size)})" for what, size in report.peak.alive[:_SHOWN]]
        return f"{line}\n  held at {report.peak.path or 'the root'}: {', '.join(parts)}" if parts else line
    layers = [layer for layer in report.layers if not kind or layer.kind == kind]
    sizes = [(layer.label, _share(layer, name)) for layer in layers]
    ranked = sorted(((label, size) for label, size in sizes if size), key=lambda item: -item[1])
    shown = bytes_text if "bytes" in name else count_text
    most = [f"{label} ({shown(size)})" for label, size in ranked[:_SHOWN]]
    return f"{line}\n  most of it: {', '.join(most)}" if most else line


def _share(layer: Any, name: str) -> int:
    """What a layer has of an additive metric; 0 of another."""
    if name == "bytes":
        return int(layer.bytes_read + layer.bytes_written)
    return int(getattr(layer, name)) if name in _ADDITIVE else 0


def _largest(report: Report, metric: str) -> tuple[str, str]:
    """A title, and the table of the layers that have most of a metric, or most MACs."""
    name = metric.rpartition(".")[2]
    name = name if name in _ADDITIVE else "macs"
    columns = [*_COLUMNS, *([] if name in _COLUMNS else [name])]
    table = report.table("markdown", columns=columns, sort=name, top=_ROWS)
    return f"{report.model}: layers by {name}", table


def _is_void(found: Comparison, place: int) -> bool:
    """Whether the first side's or this side's timing is void: no ratio of it says anything."""
    qualities = (found.reports[0].quality, found.reports[place].quality)
    return any(quality is not None and quality.word == "void" for quality in qualities)


def _ratio_told(ratio: Ratio) -> str:
    return f"{ratio.value:.3g} times as long ({ratio.low:.3g} to {ratio.high:.3g}, {ratio.verdict})"


def _warn(text: str) -> None:
    # Level 3: the line of the test that called `Meter.compare`.
    warnings.warn(text, UnclearLatencyWarning, stacklevel=3)
