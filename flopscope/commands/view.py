"""`flopscope view REPORT.json`: show a saved report, without torch."""

from __future__ import annotations

from typing import Any

import click

from flopscope.commands import options
from flopscope.commands.displays import Display
from flopscope.commands.usage import Command, sole
from flopscope.commands.voices import Voice

_EXAMPLES = """\b
Examples:
  flopscope view report.json --depth 2
  flopscope view report.json --by op --csv
  flopscope view report.json --sort latency_s --top 10 -o slowest.md
"""


@click.command(cls=Command, epilog=_EXAMPLES)
@options.argument("REPORT.json")
@options.form_options
@options.plot_options
@options.file_options
@options.sum_options
@options.order_options
@options.message_options
def view(words: tuple[str, ...], **given: Any) -> None:
    """Show a saved report in any format. Needs no torch."""
    from flopscope.reports import load

    voice, display = Voice.of(given), Display.of(given)
    path = sole(words, "view", display.form, what="REPORT.json")
    display.check(path)
    display.show(load(path), voice, model=path)
