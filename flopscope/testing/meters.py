"""Budgets, a model -> a passed or a failed test: what the fixture `flopscope_meter` can do."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

import flopscope
from flopscope.budgets import MEASURED, excess_text, judge, parsed, value_text
from flopscope.errors import BudgetError

if TYPE_CHECKING:
    from flopscope.comparison import Comparison
    from flopscope.records import Ratio, Violation
    from flopscope.reports import Report

MARKER = "flopscope_budget"
_SIGNS = ("<=", ">=", "==", "<", ">")
_SHOWN = 3
_TOTALS = ("params", "macs", "flops")


class UnclearLatencyWarning(UserWarning):
    """Latencies were compared, and the measurement allows no verdict: nothing failed, nothing is shown."""


class Meter:
    """Counts models for a test and holds them against its budgets; compares latencies in one run.

    Attributes:
        budgets: Those of the test's markers: "macs<=600M".
        counted: One line for each report that was held against them.
    """

    def __init__(self, budgets: Sequence[str]) -> None:
        self.budgets = tuple(budgets)
        self.counted: list[str] = []

    def count(self, model: Any, inputs: Any = None, **keywords: Any) -> Report:
        """Count a model as `flopscope.count` does, and fail the test where a budget is not kept.

        Args:
            model: A module, or an address such as "zoo:fasternet_t0".
            inputs: As for `flopscope.count`.
            keywords: Of `flopscope.count`.

        Returns:
            The report, for assertions of the test's own.
        """
        if isinstance(model, str):
            model = flopscope.load_model(model)
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
            pytest.fail(f"{wrong}\n{wrong.hint or ''}".rstrip(), pytrace=False)
        broken = [numbers for kept, numbers in judged if not kept]
        if broken:
            lines = [f"{report.model} does not keep its budgets", *(_told(report, item) for item in broken)]
            if report.uncosted:
                lines.append("ops without a price are not in these numbers, which are lower bounds")
            pytest.fail("\n".join(lines), pytrace=False)

    def compare(
        self, models: Mapping[str, Any], inputs: Any = None, *, at_most: float = 1.05, **keywords: Any
    ) -> Comparison:
        """Time models in turns of one run; fail where one takes more than `at_most` times the first's time.

        The whole interval must lie above: what noise may explain is a warning, `UnclearLatencyWarning`.

        Args:
            models: By name; the first is what the others are held against.
            inputs: As for `flopscope.compare`.
            at_most: The largest ratio allowed.
            keywords: Of `flopscope.compare`; `effort` is "quick" unless given.

        Returns:
            The comparison, for assertions of the test's own.
        """
        __tracebackhide__ = True
        found = flopscope.compare(models, inputs, **{"effort": "quick", **keywords})
        sides = list(zip(found.sides, found.ratios, strict=True))[1:]
        slower = [_ratio_told(side.name, ratio) for side, ratio in sides if ratio and ratio.low > at_most]
        if slower:
            first = found.sides[0].name
            pytest.fail("\n".join([f"slower than {at_most:g} times {first}", *slower]), pytrace=False)
        for side, ratio in sides:
            if ratio is None or ratio.high > at_most:
                told = "no ratio was measured" if ratio is None else _ratio_told(side.name, ratio)
                warnings.warn(
                    f"{side.name}: whether it takes at most {at_most:g} times as long is unclear: {told}",
                    UnclearLatencyWarning,
                    stacklevel=2,
                )
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


def _budget(name: str, limit: Any) -> str:
    text = str(limit)
    return f"{name}{text}" if text.lstrip().startswith(_SIGNS) else f"{name}<={text}"


def _told(report: Report, broken: Violation) -> str:
    """A budget that is not kept: the value, how far off it is, and what takes most of it."""
    value = value_text(broken.metric, broken.actual)
    line = f"  {broken.budget}: {value}, {excess_text(broken.actual, broken.limit)}"
    kind, _, name = broken.metric.rpartition(".")
    if broken.actual <= broken.limit:
        return line
    if name == "peak_activation_bytes":
        parts = [f"{what} ({value_text(name, size)})" for what, size in report.peak.alive[:_SHOWN]]
        return f"{line}\n    held at {report.peak.path or 'the root'}: {', '.join(parts)}" if parts else line
    layers = [layer for layer in report.layers if not kind or layer.kind == kind]
    sizes = [(layer.label, getattr(layer, name, None)) for layer in layers]
    ranked = sorted(((size, label) for label, size in sizes if isinstance(size, int) and size), reverse=True)
    most = [f"{label} ({value_text(name, size)})" for size, label in ranked[:_SHOWN]]
    return f"{line}\n    most of it: {', '.join(most)}" if most else line


def _ratio_told(name: str, ratio: Ratio) -> str:
    return (
        f"{name} takes {ratio.value:.3g} times as long ({ratio.low:.3g} to {ratio.high:.3g}, {ratio.verdict})"
    )
