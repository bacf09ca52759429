"""What a command found -> files of `-o`: the suffix decides; only what flopscope wrote is overwritten."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flopscope.errors import InputError
from flopscope.render.grid import printable
from flopscope.version import __version__

if TYPE_CHECKING:
    from flopscope.comparison import Comparison
    from flopscope.render import Options
    from flopscope.reports import Report

_PAGE = "page"
RENDERERS = {
    ".csv": "csv",
    ".html": _PAGE,
    ".json": "json",
    ".md": "markdown",
    ".svg": "svg",
    ".tex": "latex",
    ".tsv": "tsv",
    ".txt": "text",
    ".speedscope.json": "speedscope",
    ".trace.json": "chrome-trace",
}
"""The suffix of a file, two where they are here, and what writes it."""
PICTURES = {".memory.svg": "memory-svg", ".parts.svg": "parts-svg", ".roofline.svg": "roofline-svg"}
"""The same of further pictures, for reports that hold what they show; "roofline.svg" needs no name before."""
_OF_REPORTS = {**RENDERERS, **PICTURES}
OF_COMPARISONS = {
    ".csv": "csv",
    ".html": _PAGE,
    ".json": "json",
    ".md": "markdown",
    ".svg": "svg",
    ".tex": "latex",
}
"""The same of a comparison."""
OF_EXPLANATIONS = {".json": "json", ".md": "markdown", ".txt": "text"}
"""The same of an explanation."""
OF_MACHINES = {".json": "json", ".svg": "svg", ".txt": "text"}
"""The same of a machine."""
_SIGNATURES = {
    "markdown": f"<!-- flopscope {__version__} -->\n",
    **dict.fromkeys(("svg", *PICTURES.values()), f"<!-- flopscope {__version__} -->\n"),
    "latex": f"% flopscope {__version__}\n",
}
"""The first line of what does not say by itself who wrote it."""
_SIGNED_JSON = re.compile(
    rb'\{"exporter": "flopscope@\d|\{"traceEvents": \[\n\{"name": "process_name", [^\n]{0,80}"flopscope \d'
)
_OURS = re.compile(rb'\{\s*"format": "flopscope-(comparison|why|machine)"|path,kind,output_shape,by,')
_SIGNED = re.compile(r"(<!-- flopscope \d\S* -->|% flopscope \d\S*|flopscope \d\S* {3}.*)\s*")


def require_writable(
    paths: Sequence[str],
    *,
    models: Sequence[str],
    force: bool,
    writers: Mapping[str, str] = _OF_REPORTS,
    what: str = "MODEL",
) -> None:
    """Refuse, before any work is done, what could not or must not be written in the end.

    Args:
        paths: the files of `-o`.
        models: what is profiled: their own files are never written to, not even with `force`.
        force: replace files that flopscope did not write.
        writers: what can be written, by suffix.
        what: what `models` are, for messages.

    Raises:
        InputError: A suffix has no writer, a folder is not there, or a file is somebody else's.
    """
    sources = [Path(place) for place in _files_of(models)]
    for place, path in enumerate(map(Path, paths)):
        if writer_of(path, writers) is None:
            raise InputError(
                f"-o {path}: no output has the suffix {path.suffix!r}.",
                hint=f"suffixes: {' '.join(writers)}",
            )
        if any(_same(path, source) for source in sources):
            raise InputError(f"-o {path} is the {what} itself.", hint="name another file")
        if any(_same(path, Path(other)) for other in paths[:place]):
            raise InputError(f"-o {path} is given twice.", hint="name two files")
        if not path.parent.is_dir():
            raise InputError(f"-o {path}: there is no folder {path.parent}.", hint="make it first")
        if path.is_dir():
            raise InputError(f"-o {path} is a folder.", hint="name a file in it")
        if not force and path.is_file() and not is_ours(path):
            raise InputError(
                f"-o {path}: the file is there, and flopscope did not write it.",
                hint="name another file, or replace it with --force",
            )


def write(report: Report, paths: Sequence[str], options: Options) -> None:
    """Write a report to each file, whole or not at all.

    Raises:
        InputError: A file cannot be written.
    """
    from flopscope.render import render

    # A page is always the whole report, as JSON is.
    write_each(
        paths, _OF_REPORTS, lambda name: report.to_html() if name == _PAGE else render(report, name, options)
    )


def write_comparison(found: Comparison, paths: Sequence[str], *, top: int | None = None) -> None:
    """Write a comparison to each file, whole or not at all.

    Raises:
        InputError: A file cannot be written, or there is no ratio that an .svg could show.
    """
    write_each(
        paths, OF_COMPARISONS, lambda name: found.to_html() if name == _PAGE else found.table(name, top=top)
    )


def write_each(paths: Sequence[str], writers: Mapping[str, str], drawn: Callable[[str], str]) -> None:
    """Write what `drawn` makes of a writer's name to each file, signed, whole or not at all.

    Raises:
        InputError: A file cannot be written.
    """
    from flopscope.reports import write_text

    for path in paths:
        name = writer_of(Path(path), writers)
        assert name is not None, f"{path} was to be refused by require_writable"
        text = _SIGNATURES.get(name, "") + drawn(name)
        write_text(path, text if text.endswith("\n") else f"{text}\n")


def titled(what: str, text: str) -> str:
    """A text below the line by which a file of ours is known."""
    return f"flopscope {__version__}   {printable(what)}\n\n{text}"


def writer_of(path: Path, writers: Mapping[str, str] = _OF_REPORTS) -> str | None:
    """The renderer for a file, by its last two suffixes ("run.trace.json") or its last; None: no such."""
    suffixes, bare = [suffix.lower() for suffix in path.suffixes], f".{path.name.lower()}"
    if bare in PICTURES and bare in writers:
        return writers[bare]
    return writers.get("".join(suffixes[-2:])) or writers.get("".join(suffixes[-1:]))


def is_of_times(path: str) -> bool:
    """Whether a file shows what a report without latencies has not."""
    return writer_of(Path(path)) in ("speedscope", "chrome-trace", "parts-svg", "roofline-svg")


def is_ours(path: Path) -> bool:
    """Whether a file is an earlier output of flopscope, told by how it begins; or empty.

    A CSV is known by the header of a table whose columns nobody chose: one with `--columns`
    might be anybody's.

    Raises:
        ModelLoadError: The file cannot be read.
    """
    from flopscope.pages.embedded import signed
    from flopscope.reports import is_report

    if is_report(path):
        return True
    with path.open("rb") as file:
        head = file.read(4096)
    if signed(head) or _SIGNED_JSON.match(head) or _OURS.match(head):
        return True
    line = head.partition(b"\n")[0].decode("utf-8", "replace").rstrip("\r")
    return not head or line in _headers() or _SIGNED.fullmatch(line) is not None


def other_than_report(path: str) -> str | None:
    """What else of ours a file holds: "comparison", "why" or "machine"; None where it is none of these."""
    from flopscope.pages.embedded import signed

    if not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        head = file.read(200)
    found = _OURS.match(head)
    if found is not None and found[1]:
        return found[1].decode()
    return "comparison" if signed(head) == "comparison" else None


def _headers() -> Iterator[str]:
    """The first lines of CSV and TSV tables."""
    from flopscope.render import Options
    from flopscope.render.rows import plain_columns

    shapes = [Options(), Options(depth=0), *(Options(by=by) for by in ("kind", "type", "op"))]
    for delimiter in (",", "\t"):
        yield from (delimiter.join(plain_columns(options)) for options in shapes)


def _files_of(models: Sequence[str]) -> Iterator[str]:
    """The files that MODEL arguments name, of those that name one."""
    from flopscope.loading.addresses import parse_address

    for address in map(parse_address, models):
        if address.scheme in ("file", "source"):
            yield address.place


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)
