"""`flopscope view REPORT.json`: show a saved report, without torch."""

from __future__ import annotations

from typing import Any

import click

from flopscope.commands import options, outputs
from flopscope.commands.displays import Display
from flopscope.commands.usage import Command, sole
from flopscope.commands.voices import Voice
from flopscope.errors import ModelLoadError

_EXAMPLES = """\b
Examples:
  flopscope view report.json --depth 2
  flopscope view report.json --by op --csv
  flopscope view report.json --sort latency_s --top 10 -o slowest.md
"""


_OTHERS = {
    "comparison": (
        "a comparison",
        "it holds no reports to be shown anew; what compare -o x.html writes opens in a browser",
    ),
    "why": (
        "an explanation",
        "flopscope why REPORT LAYER shows one; -o x.md or -o x.txt is the same to read",
    ),
    "machine": ("a machine", "flopscope machine --machine FILE shows it"),
}
"""What else flopscope writes: what to call it, and the way out."""


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
    _require_report(path)
    display.show(load(path), voice, model=path)


def _require_report(path: str) -> None:
    """Name what else flopscope wrote, and what shows that.

    Raises:
        ModelLoadError: The file is something else of ours than a report.
    """
    what = outputs.other_than_report(path)
    if what is not None:
        raise ModelLoadError(f"{path} is {_OTHERS[what][0]}, not a report", hint=_OTHERS[what][1])
