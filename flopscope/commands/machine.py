"""`flopscope machine`: the roofs of this machine, measured and kept; or those of a data sheet."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from flopscope.commands import options
from flopscope.commands.streams import emit, is_rich, reserved_stdout, terminal_width
from flopscope.commands.usage import Command, Misuse, option
from flopscope.commands.voices import Voice, captured_warnings

if TYPE_CHECKING:
    from flopscope.records import Machine

_EXAMPLES = """\b
Examples:
  flopscope machine                        measured once, then kept
  flopscope machine --threads 1 --refresh
  flopscope machine --machine a100-40gb    a data sheet
  flopscope machine --json > here.json
\b
Exit codes: 0 done, 5 the machine was disturbed (--force shows it all the same).
"""


@click.command(cls=Command, epilog=_EXAMPLES)
@option("Machine", "--threads", type=click.IntRange(min=1), metavar="N", help="Threads of one operator.")
@option("Machine", "--device", default="cpu", metavar="DEVICE", help="cpu or cuda:0.", show_default=True)
@option("Machine", "--refresh", is_flag=True, help="Measure anew, though there are roofs from before.")
@option(
    "Machine",
    "--machine",
    "sheet",
    metavar="FILE|NAME",
    help="Show a data sheet: a TOML file, one that ships with flopscope, or the JSON of another machine.",
)
@option("Machine", "--force", is_flag=True, help="Show what was measured on a disturbed machine.")
@option("Output", "--json", "json", is_flag=True, help="JSON on stdout: all of it, in base units.")
@options.message_options
def machine(sheet: str | None, json: bool, **given: Any) -> None:
    """Show what this machine can do at best: peaks by dtype, bandwidth, costs of a call and a page fault.

    What is measured takes some seconds and is kept for this processor, number of threads and torch.
    """
    voice = Voice.of(given)
    shown = _measured(voice, **given) if sheet is None else _of_sheet(sheet, given)
    if json:
        from flopscope.machines import as_json

        emit(as_json(shown))
    else:
        from flopscope.render.machines import machine_text

        width, plain = terminal_width(sys.stdout), not is_rich(sys.stdout)
        emit(machine_text(shown, width=width, plain=plain), readable=True)
    if json or shown.form == "sheet":  # the text says them itself
        for text in shown.warnings:
            voice.warning(text)


def _measured(
    voice: Voice, *, device: str, threads: int | None, refresh: bool, force: bool, **messages: Any
) -> Machine:
    del messages
    from flopscope.machines import machine as machine_of
    from flopscope.progress import shown

    with captured_warnings(voice), reserved_stdout(), shown(False if voice.quiet else None) as told:
        return machine_of(device, threads, refresh=refresh, progress=told, strict=not force)


def _of_sheet(sheet: str, given: dict[str, Any]) -> Machine:
    from flopscope.machines import from_sheet

    idle = [name for name in ("threads", "refresh", "force") if given[name]]
    if idle:
        raise Misuse(f"--{idle[0]} does not apply to a data sheet.", hint="leave out --machine to measure")
    return from_sheet(sheet)
