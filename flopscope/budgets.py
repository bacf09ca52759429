"""Report, budget -> whether it is kept: "macs<=600M", "depthwise_conv.latency<2ms"."""

from __future__ import annotations

import operator
import typing
from typing import TYPE_CHECKING

from flopscope.errors import BudgetError
from flopscope.records import KINDS, Violation
from flopscope.units import bytes_text, count_text, number_text, parse_quantity, rate_text, seconds_text

if TYPE_CHECKING:
    from flopscope.reports import Report

_OPERATORS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt}
_LAYER_METRICS = {
    **dict.fromkeys(("params", "macs", "flops", "calls", "arithmetic_intensity"), ""),
    **dict.fromkeys(("param_bytes", "bytes", "bytes_read", "bytes_written"), "B"),
    **dict.fromkeys(("latency", "latency_s", "latency_floor_s"), "s"),
    "flops_per_s": "FLOP/s",
    "bytes_per_s": "B/s",
}
_REPORT_METRICS = {"peak_activation_bytes": "B", "buffer_bytes": "B"}
_CONVENTIONS = dict.fromkeys(("fvcore_like", "winograd_muls", "params_folded"), "")
_METRICS = {**_LAYER_METRICS, **_REPORT_METRICS, **_CONVENTIONS}
"""What can be limited, and the unit of each; of one kind, `_LAYER_METRICS` alone."""

MEASURED = ("latency", "latency_s", "latency_floor_s", "flops_per_s", "bytes_per_s")
"""Metrics that take a measurement to judge."""


def parsed(budget: str) -> tuple[str, str, str]:
    """Take a budget apart: "macs<=600M" is a metric, a sign and a limit.

    Raises:
        BudgetError: It has another form, its metric or kind is unknown, or its limit no number of its unit.
    """
    sign = next((sign for sign in _OPERATORS if sign in budget), "")
    metric, _, limit = (part.strip() for part in budget.partition(sign)) if sign else ("", "", "")
    if not metric or not limit:
        raise BudgetError(
            f"not a budget: {budget!r}",
            hint="a metric, one of <= < >= > ==, and a limit, quoted: 'macs<=600M', 'latency<5ms'",
        )
    kind, _, name = metric.rpartition(".")
    known = _LAYER_METRICS if kind else _METRICS
    if name not in known:
        raise BudgetError(f"unknown metric {metric!r} in {budget!r}", hint=f"metrics: {', '.join(known)}")
    if kind and kind not in KINDS:
        raise BudgetError(f"unknown kind {kind!r} in {budget!r}", hint=f"kinds: {', '.join(KINDS)}")
    try:
        parse_quantity(limit, unit=known[name])
    except BudgetError as wrong:
        raise BudgetError(f"budget {budget!r}: {wrong}", hint=wrong.hint) from wrong
    return metric, sign, limit


def judge(report: Report, budget: str) -> tuple[bool, Violation]:
    """Tell whether a budget is kept, and the numbers by which it was judged.

    Raises:
        BudgetError: The budget cannot be read, or its metric was not measured or its kind is not there.
    """
    metric, sign, limit = parsed(budget)
    kind, _, name = metric.rpartition(".")
    actual = _metric(report, kind, name)
    if actual is None:
        raise BudgetError(f"{metric} was not measured", hint="profile with latency, or drop this budget")
    bound = parse_quantity(limit)
    return _OPERATORS[sign](actual, bound), Violation(budget.strip(), metric, actual, bound)


def value_text(metric: str, value: float) -> str:
    """A value with its unit, and in full where it is a count: three digits may hide a difference."""
    name = metric.rpartition(".")[2]
    exact = f" ({value})" if isinstance(value, int) and value >= 1000 else ""
    if "latency" in name:
        return seconds_text(value)
    if name.endswith("_per_s"):
        return rate_text(value, "FLOP/s" if name.startswith("flops") else "B/s")
    if name == "arithmetic_intensity":
        return f"{number_text(value)} FLOP/B"
    return (bytes_text(value) if "bytes" in name else count_text(value)) + exact


def excess_text(actual: float, limit: float) -> str:
    """How far off a value is, as a share of the limit, or in times the limit where it is far above."""
    if not limit:
        return "above the limit" if actual else "at the limit"
    share = (actual - limit) / limit
    if share > 1:
        return f"{number_text(actual / limit)} times the limit"
    return (
        f"{number_text(abs(100 * share))} % {'above' if share > 0 else 'below'} the limit"
        if share
        else "at the limit"
    )


def _metric(report: Report, kind: str, name: str) -> int | float | None:
    """One number of the whole, or of the layers of a kind; None where it was not measured."""
    from flopscope.render.rows import by_layers, layer_row, whole_of

    if not kind and name not in _LAYER_METRICS:
        found = getattr(report, name) if name in _REPORT_METRICS else report.conventions[name]
        return typing.cast(int, found)
    name = {"latency": "latency_s"}.get(name, name)
    whole = whole_of(report)
    if not kind:
        return typing.cast("int | float | None", layer_row(report.total, whole)[name])
    groups = {row["kind"]: row for row in by_layers(report.layers, "kind", whole)}
    if kind not in groups:
        raise BudgetError(f"no layer of kind {kind!r}", hint=f"kinds here: {', '.join(sorted(groups))}")
    return typing.cast("int | float | None", groups[kind][name])
