"""`flopscope machine`: the roofs of this machine, measured and kept; or those of a data sheet."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flopscope.commands import options, outputs
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
  flopscope machine -o roofs.svg -o here.json
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
@option(
    "Machine",
    "--force",
    is_flag=True,
    help="Show what was measured on a disturbed machine; let -o replace a file that flopscope did not write.",
)
@option("Output", "--json", "json", is_flag=True, help="JSON on stdout: all of it, in base units.")
@options.output_option(".json .svg .txt")
@options.message_options
def machine(sheet: str | None, json: bool, **given: Any) -> None:
    """Show what this machine can do at best: peaks by dtype, bandwidth, costs of a call and a page fault.

    What is measured takes some seconds and is kept for this processor, number of threads and torch.
    """
    voice, files = Voice.of(given), given.pop("outputs")
    sources = [sheet] if sheet is not None and Path(sheet).is_file() else []
    outputs.require_writable(
        files, models=sources, force=given["force"], writers=outputs.OF_MACHINES, what="sheet"
    )
    shown = _measured(voice, **given) if sheet is None else _of_sheet(sheet, given, files)
    _show(shown, files, json=json)
    if files:
        voice.note(f"wrote {', '.join(files)}")
    if json or shown.form == "sheet":  # the text says them itself
        for text in shown.warnings:
            voice.warning(text)


def _show(machine: Machine, files: Sequence[str], *, json: bool) -> None:
    """Write the files, and print the machine."""
    from flopscope.machines import as_json
    from flopscope.render.machines import machine_text
    from flopscope.render.svg import machine_svg

    forms = {
        "json": lambda: as_json(machine),
        "svg": lambda: machine_svg(machine),
        "text": lambda: outputs.titled("machine", machine_text(machine)),
    }
    outputs.write_each(files, outputs.OF_MACHINES, lambda name: forms[name]())
    if json:
        emit(as_json(machine))
        return
    width, plain = terminal_width(sys.stdout), not is_rich(sys.stdout)
    emit(machine_text(machine, width=width, plain=plain), readable=True)


def _measured(
    voice: Voice, *, device: str, threads: int | None, refresh: bool, force: bool, **messages: Any
) -> Machine:
    del messages
    from flopscope.machines import machine as machine_of
    from flopscope.progress import shown

    with captured_warnings(voice), reserved_stdout(), shown(False if voice.quiet else None) as told:
        return machine_of(device, threads, refresh=refresh, progress=told, strict=not force)


def _of_sheet(sheet: str, given: dict[str, Any], files: Sequence[str]) -> Machine:
    from flopscope.machines import from_sheet

    asked = ("threads", "refresh") if files else ("threads", "refresh", "force")
    idle = [name for name in asked if given[name]]
    if idle:
        raise Misuse(f"--{idle[0]} does not apply to a data sheet.", hint="leave out --machine to measure")
    return from_sheet(sheet)
