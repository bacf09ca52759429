"""`flopscope doctor`: whether this machine is fit for timing now, and what to change."""

from __future__ import annotations

import sys
from typing import Any

import click

from flopscope.commands import options
from flopscope.commands.streams import emit, reserved_stdout, terminal_width, wants_color
from flopscope.commands.usage import Command, option
from flopscope.commands.voices import Voice, captured_warnings

_EXAMPLES = """\b
Examples:
  flopscope doctor
  flopscope doctor --threads 1 --strict && flopscope report model.pt --threads 1
  flopscope doctor --json
\b
Exit codes: 0 done, 5 with --strict: not fit now.
"""


@click.command(cls=Command, epilog=_EXAMPLES)
@option(
    "Run",
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads of the runs that are to be timed. Default: torch's own.",
)
@option(
    "Run",
    "--seconds",
    type=click.FloatRange(min=0, min_open=True, max=60),
    default=1.5,
    show_default=True,
    help="How long to multiply, in all.",
)
@option("Run", "--strict", is_flag=True, help="Fail (exit code 5) where the machine is not fit now.")
@option("Output", "--json", "json", is_flag=True, help="JSON on stdout.")
@options.message_options
def doctor(threads: int | None, seconds: float, strict: bool, json: bool, **given: Any) -> None:
    """Look whether this machine is fit for timing now, and say what to change.

    A matrix product runs for a moment while the system's own counters are read. Nothing is changed.
    """
    from flopscope.quality import fitness
    from flopscope.render.checkups import checkups_json, checkups_text

    voice = Voice.of(given)
    voice.note(f"multiplying for {seconds:g} s and reading the system's counters")
    with captured_warnings(voice), reserved_stdout():
        from flopscope.checkups import checkups

        found = checkups(seconds=seconds, threads=threads)
    summary = fitness(found)
    if json:
        emit(checkups_json(found, summary))
    else:
        color, width = wants_color(given["color"], sys.stdout), terminal_width(sys.stdout)
        emit(checkups_text(found, summary, width=width, color=color, everything=voice.verbose), readable=True)
    if strict and summary.word == "void":
        raise click.exceptions.Exit(5)
