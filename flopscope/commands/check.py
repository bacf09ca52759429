"""`flopscope check MODEL|REPORT --budget 'macs<=600M'`: a gate for continuous integration."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from flopscope.budgets import MEASURED, excess_text, judge, parsed, value_text
from flopscope.commands import options
from flopscope.commands.requests import Request
from flopscope.commands.streams import emit, wants_color
from flopscope.commands.usage import Command, Misuse, option, sole
from flopscope.commands.voices import Voice
from flopscope.errors import BudgetError

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
        return self.metric.rpartition(".")[2] in MEASURED


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
@option("Output", "--md", is_flag=True, help="A Markdown table on stdout, for a job's summary.")
@option("Output", "--json", is_flag=True, help="JSON on stdout: each budget, whether it is kept, the values.")
@options.message_options
def check(words: tuple[str, ...], budgets: tuple[str, ...], **given: Any) -> None:
    """Compare a model, or a saved report, with budgets.

    Nothing is measured unless a budget asks for latency. A saved report needs no torch.
    """
    voice = Voice.of(given)
    model = sole(words, "check", what="MODEL|REPORT")
    if not budgets:
        raise Misuse("no --budget was given.", hint=f"flopscope check {model} --budget 'macs<=600M'")
    if given["md"] and given["json"]:
        raise Misuse("--md and --json exclude each other.", hint="one on stdout; call it again for another")
    wanted = [_parsed(text) for text in budgets]
    latency = any(budget.measured for budget in wanted)
    if latency and given["no_latency"]:
        raise Misuse("a budget asks for latency, and --no-latency was given.", hint="drop one of the two")
    report = Request.of(model, {**given, "latency": latency}).report(voice)
    verdicts = [_judged(report, budget) for budget in wanted]
    _show(report, wanted, verdicts, given)
    for text in report.warnings:
        voice.warning(text)
    for text in report.notes:
        voice.note(text)
    if report.uncosted:
        voice.warning("ops without a price are not in these numbers, which are lower bounds")
    if not all(kept for kept, _, _ in verdicts):
        raise click.exceptions.Exit(1)


Verdict = tuple[bool, float, float]
"""Whether a budget is kept, the value, the limit."""


def _show(report: Report, budgets: list[Budget], verdicts: list[Verdict], given: Mapping[str, Any]) -> None:
    if given["json"]:
        emit(_json(report, budgets, verdicts))
    elif given["md"]:
        emit(_markdown(report, budgets, verdicts))
    else:
        color = wants_color(given["color"], sys.stdout)
        emit("\n".join(_lines(budgets, verdicts, color=color)), readable=True)


def _json(report: Report, budgets: list[Budget], verdicts: list[Verdict]) -> str:
    rows = [
        {"budget": budget.text, "metric": budget.metric, "kept": kept, "actual": actual, "limit": limit}
        for budget, (kept, actual, limit) in zip(budgets, verdicts, strict=True)
    ]
    top = {"format": "flopscope-check", "version": 1, "model": report.model, "budgets": rows}
    return json.dumps(top, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def _markdown(report: Report, budgets: list[Budget], verdicts: list[Verdict]) -> str:
    from flopscope.render.grid import Grid, lay_out, printable
    from flopscope.render.markdown import escape

    rows = [
        ["kept" if kept else "**broken**", f"`{budget.text}`", value_text(budget.metric, actual),
         "" if kept else excess_text(actual, limit)]
        for budget, (kept, actual, limit) in zip(budgets, verdicts, strict=True)
    ]  # fmt: skip
    table = lay_out(Grid(["", "budget", "actual", ""], ["left", "left", "right", "left"], rows), "pipe")
    return f"**{escape(printable(report.model))}**\n\n{table}\n"


def _parsed(text: str) -> Budget:
    """Take a budget apart before any work is done.

    Raises:
        Misuse: It has another form, its metric or kind is unknown, or its limit is in another unit.
    """
    try:
        metric, sign, limit = parsed(text)
    except BudgetError as wrong:
        raise Misuse(f"{wrong}.", hint=wrong.hint) from wrong
    return Budget(text.strip(), metric, sign, limit)


def _judged(report: Report, budget: Budget) -> tuple[bool, float, float]:
    """Whether a budget is kept, the actual value and the limit.

    Raises:
        Misuse: The metric was not measured, or no layer is of the kind.
    """
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
        line = f"{word}  {budget.text:<{widest}}  actual {value_text(budget.metric, actual)}"
        lines.append(line if kept else f"{line}, {excess_text(actual, limit)}")
    return lines
