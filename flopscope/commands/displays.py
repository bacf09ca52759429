"""Report -> stdout, the files of `-o` and the notes on stderr, as the options ask."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flopscope.commands import outputs
from flopscope.commands.options import FORMS
from flopscope.commands.streams import emit, is_rich, terminal_width, wants_color
from flopscope.commands.usage import Misuse
from flopscope.commands.voices import Voice

if TYPE_CHECKING:
    from flopscope.render import Options
    from flopscope.reports import Report


@dataclass(frozen=True, slots=True)
class Display:
    """How a report shall be shown.

    `form` is the format flag without dashes, None for the table; `outputs` the files of `-o`.
    """

    form: str | None = None
    outputs: tuple[str, ...] = ()
    force: bool = False
    columns: tuple[str, ...] | None = None
    by: str | None = None
    depth: int | None = None
    top: int | None = None
    sort: str | None = None
    color: str = "auto"
    plot: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Display:
        """The display that a command's options ask for.

        Raises:
            Misuse: Two formats were asked for, or options that exclude each other.
        """
        if given.get("by") is not None and given.get("depth") is not None:
            raise Misuse("--by and --depth exclude each other.", hint="give one: the sums, or the tree")
        if given.get("plot") and (given.get("by") == "op" or given.get("depth") is not None):
            raise Misuse(
                "pictures are drawn by kind or by type.", hint="--plot with --by kind, --by type or neither"
            )
        timed = [path for path in given.get("outputs", ()) if outputs.is_of_times(path)]
        if timed and given.get("no_latency"):
            raise Misuse(
                f"-o {timed[0]} needs latencies, and --no-latency was given.", hint="drop one of the two"
            )
        named = given.get("columns")
        columns = None if named is None else tuple(name.strip() for name in named.split(",") if name.strip())
        if columns == ():
            raise Misuse("--columns names no column.", hint="e.g. --columns path,macs,latency_s")
        same = {
            name: given[name]
            for name in ("force", "by", "depth", "top", "sort", "color", "plot")
            if name in given
        }
        return cls(form=form_of(given), outputs=tuple(given.get("outputs", ())), columns=columns, **same)

    def check(self, model: str) -> None:
        """Refuse what cannot be shown or written, before any work is done.

        Raises:
            InputError: A column is unknown, or a file must not be written.
        """
        from flopscope.render.rows import available, require

        known = available(self.options())
        require(self.columns or (), known)
        require([self.sort.removeprefix("-")] if self.sort else (), known)
        outputs.require_writable(self.outputs, models=(model,), force=self.force)

    def options(self) -> Options:
        """The options for a renderer; without the terminal's."""
        from flopscope.render import Options

        return Options(columns=self.columns, by=self.by, depth=self.depth, top=self.top, sort=self.sort)

    def show(self, report: Report, voice: Voice, *, model: str) -> None:
        """Write the files, print the report, and say what the reader should know.

        Raises:
            InputError: A file cannot be written.
        """
        from flopscope.render import render

        options = self.options()
        outputs.require_writable(self.outputs, models=(model,), force=self.force)
        outputs.write(report, self.outputs, dataclasses.replace(options, messages=True))
        if self.form is None:
            color, width = wants_color(self.color, sys.stdout), terminal_width(sys.stdout)
            here = dataclasses.replace(options, color=color, width=width, blocks=is_rich(sys.stdout))
            emit(render(report, "plot" if self.plot else "text", here), readable=True)
        else:
            emit(render(report, FORMS[self.form], options))
        self._tell(report, voice)

    def _tell(self, report: Report, voice: Voice) -> None:
        for text in report.warnings:
            voice.warning(text)
        for text in report.notes:
            voice.note(text)
        chosen = ("columns", "sort") if self.plot else ("columns", "by", "depth", "top", "sort")
        idle = [f"--{name}" for name in chosen if getattr(self, name) is not None]
        if self.form == "json" and idle:
            voice.note(f"JSON is always the whole report; {_listed(idle)} had no effect on it")
        if self.plot and idle:
            voice.note(f"{_listed(idle)} had no effect on the pictures")
        if self.outputs:
            voice.note(f"wrote {_listed(self.outputs)}")


def form_of(given: Mapping[str, Any]) -> str | None:
    """The one format flag that was given, without its dashes.

    Raises:
        Misuse: There are several.
    """
    asked = [name for name in FORMS if given.get(name)]
    if len(asked) > 1:
        flags = " and ".join(f"--{name}" for name in asked)
        raise Misuse(f"{flags} exclude each other.", hint="one on stdout, the others by -o FILE")
    if asked and given.get("plot"):
        raise Misuse(f"--{asked[0]} and --plot exclude each other.", hint="call it once for each")
    return asked[0] if asked else None


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words)
