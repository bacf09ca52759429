"""`flopscope check MODEL|REPORT --budget 'macs<=600M'`: a gate for continuous integration."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from flopscope.commands import options
from flopscope.commands.requests import Request
from flopscope.commands.streams import emit, wants_color
from flopscope.commands.usage import Command, Misuse, option, sole
from flopscope.commands.voices import Voice
from flopscope.errors import BudgetError
from flopscope.units import bytes_text, count_text, number_text, parse_quantity, rate_text, seconds_text

if TYPE_CHECKING:
    from flopscope.reports import Report

_EXAMPLES = """\b
Examples:
  flopscope check model.pt --budget 'macs<=600M' --budget 'params<=6M'
  flopscope check report.json --budget 'peak_activation_bytes<40MB'
  flopscope check net.py:build --budget 'depthwise_conv.latency<2ms' --threads 1
\b
Exit codes: 0 all budgets are kept, 1 one is not, 2 a budget cannot be judged.
"""

_MEASURED = ("latency", "latency_s", "latency_floor_s", "flops_per_s", "bytes_per_s")


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget taken apart: "macs<=600M" is a metric, a sign and a limit."""

    text: str
    metric: str
    sign: str
    limit: str

    @property
    def measured(self) -> bool:
        """Whether it takes a measurement to judge it."""
        return self.metric.rpartition(".")[2] in _MEASURED


@click.command(cls=Command, epilog=_EXAMPLES)
@options.argument("MODEL|REPORT")
@option(
    "Budgets",
    "-b",
    "--budget",
    "budgets",
    multiple=True,
    metavar="'METRIC<=LIMIT'",
    help="macs, params, latency, ... or KIND.metric: depthwise_conv.latency. Repeatable.",
)
@options.model_options
@options.latency_options
@options.count_options
@options.effort_options
@options.message_options
def check(words: tuple[str, ...], budgets: tuple[str, ...], **given: Any) -> None:
    """Compare a model, or a saved report, with budgets.

    Nothing is measured unless a budget asks for latency. A saved report needs no torch.
    """
    voice = Voice.of(given)
    model = sole(words, "check", what="MODEL|REPORT")
    if not budgets:
        raise Misuse("no --budget was given.", hint=f"flopscope check {model} --budget 'macs<=600M'")
    parsed = [_parsed(text) for text in budgets]
    latency = any(budget.measured for budget in parsed)
    if latency and given["no_latency"]:
        raise Misuse("a budget asks for latency, and --no-latency was given.", hint="drop one of the two")
    report = Request.of(model, {**given, "latency": latency}).report(voice)
    verdicts = [_judged(report, budget) for budget in parsed]
    color = wants_color(given["color"], sys.stdout)
    emit("\n".join(_lines(parsed, verdicts, color=color)), readable=True)
    for text in report.warnings:
        voice.warning(text)
    for text in report.notes:
        voice.note(text)
    if report.uncosted:
        voice.warning("ops without a price are not in these numbers, which are lower bounds")
    if not all(kept for kept, _, _ in verdicts):
        raise click.exceptions.Exit(1)


def _parsed(text: str) -> Budget:
    """Take a budget apart before any work is done.

    Raises:
        Misuse: It has another form.
    """
    sign = next((sign for sign in ("<=", ">=", "==", "<", ">") if sign in text), "")
    metric, _, limit = (part.strip() for part in text.partition(sign)) if sign else ("", "", "")
    if not metric or not limit:
        raise Misuse(
            f"not a budget: {text!r}.",
            hint="a metric, one of <= < >= > ==, and a limit, quoted: 'macs<=600M', 'latency<5ms'",
        )
    try:
        parse_quantity(limit)
    except BudgetError as wrong:
        raise Misuse(f"budget {text!r}: {wrong}.", hint=wrong.hint) from wrong
    return Budget(text.strip(), metric, sign, limit)


def _judged(report: Report, budget: Budget) -> tuple[bool, float, float]:
    """Whether a budget is kept, the actual value and the limit.

    Raises:
        Misuse: The metric is unknown or was not measured, or the limit is in another unit.
    """
    from flopscope.budgets import judge

    try:
        kept, numbers = judge(report, budget.text)
    except BudgetError as wrong:
        raise Misuse(f"{wrong}.", hint=wrong.hint) from wrong
    return kept, numbers.actual, numbers.limit


def _lines(budgets: list[Budget], verdicts: list[tuple[bool, float, float]], *, color: bool) -> list[str]:
    widest = max(len(budget.text) for budget in budgets)
    lines = []
    for budget, (kept, actual, limit) in zip(budgets, verdicts, strict=True):
        word = "ok    " if kept else "FAILED"
        if color:
            word = f"\x1b[{32 if kept else 31}m{word}\x1b[0m"
        line = f"{word}  {budget.text:<{widest}}  actual {_value(budget.metric, actual)}"
        lines.append(line + (f", {_excess(actual, limit)}" if not kept and limit else ""))
    return lines


def _value(metric: str, value: float) -> str:
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


def _excess(actual: float, limit: float) -> str:
    """How far off a value is, as a share of the limit, or in times the limit where it is far above."""
    share = (actual - limit) / limit
    if share > 1:
        return f"{number_text(actual / limit)} times the limit"
    return (
        f"{number_text(abs(100 * share))} % {'above' if share > 0 else 'below'} the limit"
        if share
        else "at the limit"
    )
