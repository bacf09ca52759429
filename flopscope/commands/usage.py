"""The form of commands: sections in their help, and what is said of a misused one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from flopscope.commands.voices import Voice
from flopscope.errors import FlopscopeError

_SUFFIXES = {"csv": (".csv", ".tsv"), "json": (".json",), "md": (".md",), "latex": (".tex",)}
"""What a file would be called that somebody gives to a flag that takes none."""


class Misuse(click.UsageError):
    """A command line that cannot be meant as it stands, with the way out."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Option(click.Option):
    """An option that stands in a section of the help."""

    def __init__(self, *args: Any, section: str = "Options", **given: Any) -> None:
        super().__init__(*args, **given)
        self.section = section


class Command(click.Command):
    """A command with sections in its help, and an end for whatever it raises."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section, in the order in which they were declared."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                sections.setdefault(getattr(param, "section", "Messages"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an exception becomes a message and an exit code."""
        with Ending(Voice.of(ctx.params)):
            return super().invoke(ctx)


class Ending:
    """Turn what a command raises into a message and one of the documented exit codes.

    A bug in flopscope ends with 1, as an uncaught exception does in Python.
    """

    def __init__(self, voice: Voice) -> None:
        self.voice = voice

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, (click.exceptions.Exit, click.ClickException, click.Abort)):
            return
        if isinstance(error, KeyboardInterrupt):
            self.voice.error("interrupted.")
            raise click.exceptions.Exit(130) from None
        if isinstance(error, (Exception, SystemExit)):
            self.voice.failure(error)
            raise click.exceptions.Exit(_exit_code(error)) from None


def option(section: str, *names: str, **given: Any) -> Callable[[Any], Any]:
    """Declare an option of a section."""
    return click.option(*names, cls=Option, section=section, **given)


def sole(words: Sequence[str], command: str, form: str | None = None, *, what: str = "MODEL") -> str:
    """The one argument of a command.

    Args:
        words: the arguments as given.
        command: the command's name.
        form: the format flag that was given, without its dashes.
        what: what the argument is called.

    Raises:
        Misuse: There is none, or more than one; the hint is what was probably meant.
    """
    if len(words) == 1:
        return words[0]
    if not words:
        example = "report.json" if what.startswith("REPORT") else "model.pt"
        raise Misuse(f"{what} is missing.", hint=f"flopscope {command} {example}     (all options: --help)")
    suffixes = _SUFFIXES.get(form or "", ())
    extra = next((word for word in words if Path(word).suffix.lower() in suffixes), words[-1])
    subject = shlex.quote(next((word for word in words if word != extra), extra))
    if form and Path(extra).suffix.lower() in suffixes:
        raise Misuse(
            f"unexpected argument {extra!r}. --{form} prints to standard output.",
            hint=f"flopscope {command} {subject} --{form} > {extra}     or     -o {extra}",
        )
    if extra and all(part.strip().isdigit() for part in extra.split(",")):
        raise Misuse(f"unexpected argument {extra!r}.", hint=f"flopscope {command} {subject} -i {extra}")
    written = Path(extra).suffix.lower() in {suffix for some in _SUFFIXES.values() for suffix in some}
    raise Misuse(
        f"unexpected argument {extra!r}: {command} takes one {what}.",
        hint=f"to write a file:  -o {extra}" if written else f"call it once for each {what}",
    )


def misuse(wrong: click.ClickException) -> tuple[str, str]:
    """What is wrong with a command line, and the way out, in flopscope's words."""
    if isinstance(wrong, Misuse):
        return wrong.message, wrong.hint
    place = wrong.ctx.command_path if isinstance(wrong, click.UsageError) and wrong.ctx else "flopscope"
    listing = f"all options: {place} --help"
    if isinstance(wrong, click.NoSuchOption):
        near = f"did you mean {' or '.join(wrong.possibilities)}?" if wrong.possibilities else listing
        return f"no such option: {wrong.option_name}", near
    message = wrong.format_message().splitlines()[0] if wrong.format_message() else "no command was given."
    return message[:1].lower() + message[1:], listing


def _exit_code(error: BaseException) -> int:
    if isinstance(error, FlopscopeError):
        return error.exit_code
    return 4 if isinstance(error, (MemoryError, SystemExit)) else 1
