"""`flopscope report MODEL`: profile a model and show what each layer costs and takes."""

from __future__ import annotations

from typing import Any

import click

from flopscope.commands import options
from flopscope.commands.displays import Display
from flopscope.commands.requests import Request
from flopscope.commands.usage import Command, sole
from flopscope.commands.voices import Voice
from flopscope.errors import MeasurementError

_EXAMPLES = """\b
Examples:
  flopscope report model.pt --csv > layers.csv
  flopscope report torchvision:resnet50 --no-latency --by kind
  flopscope report timm:fasternet_t0 --threads 1 --effort thorough -o report.json
  flopscope report net.py:build --arg width=64 -i 8,3,32,32 --channels-last
  flopscope report net.py:Encoder -i ids=1,128:int64 -i mask=1,128:bool
"""


@click.command(cls=Command, epilog=_EXAMPLES, short_help="Tell what each layer of MODEL costs and takes.")
@options.argument("MODEL")
@options.model_options
@options.latency_options
@options.count_options
@options.effort_options
@options.form_options
@options.plot_options
@options.file_options
@options.sum_options
@options.order_options
@options.message_options
def report(words: tuple[str, ...], **given: Any) -> None:
    """Tell what each layer of MODEL costs, and what it takes on this machine.

    Without a format flag: a table to read. Without -i the input is taken from the model or
    guessed from its first layer, and named on stderr. A saved report is shown like `view` does.
    """
    voice, display = Voice.of(given), Display.of(given)
    model = sole(words, "report", display.form)
    display.check(model)
    try:
        found = Request.of(model, given).report(voice)
    except MeasurementError as doubt:
        if doubt.report is not None:
            display.show(doubt.report, voice, model=model)
        raise
    display.show(found, voice, model=model)
