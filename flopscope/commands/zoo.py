"""`flopscope zoo`: the reference networks, their exact counts and what their papers print."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from flopscope.commands import options
from flopscope.commands.displays import form_of
from flopscope.commands.sheets import sheet
from flopscope.commands.streams import emit, reserved_stdout, terminal_width
from flopscope.commands.usage import Command, Misuse, option
from flopscope.commands.voices import Voice, captured_warnings

if TYPE_CHECKING:
    from flopscope.zoo import Network
    from flopscope.zoo.figures import Figure

_EXAMPLES = """\b
Examples:
  flopscope zoo --family RepVGG
  flopscope zoo --csv > zoo.csv
  flopscope zoo --check
  flopscope report 'zoo:repvgg_a0?deploy=true' --no-latency
\b
Exit codes: 0 done, 1 with --check: a network does not have the counts that are on record.
"""
_HEADINGS = (
    "name", "family", "resolution", "params", "macs", "published_params_m", "published_macs_g", "convention",
    "params_deviation_percent", "macs_deviation_percent", "source", "reason",
)  # fmt: skip
_CHECKED = ("name", "resolution", "params", "counted_params", "macs", "counted_macs", "equal")


@click.command(cls=Command, epilog=_EXAMPLES)
@option("Networks", "--family", metavar="NAME", help="Only the networks of this family: FasterNet.")
@option(
    "Networks", "--check", is_flag=True, help="Count each network now, and compare with what is on record."
)
@options.form_options
@options.message_options
def zoo(family: str | None, check: bool, **given: Any) -> None:
    """List the reference networks: their exact params and MACs beside the published ones.

    A deviation is that of the printed from the exact figure. `zoo:NAME` is a MODEL for every command.
    """
    voice, form = Voice.of(given), form_of(given)
    entries = _entries(family)
    if check:
        _check(entries, form, voice)
        return
    from flopscope.zoo.figures import figures

    found = [figure for entry in entries for figure in figures(entry)]
    if form is None:
        emit(_readable(found), readable=True)
    else:
        emit(sheet(_HEADINGS, [_row(figure) for figure in found], form))


def _entries(family: str | None) -> list[Network]:
    """The networks of a family, or all.

    Raises:
        Misuse: There is no such family.
    """
    from flopscope.zoo import networks

    entries = list(networks().values())
    if family is None:
        return entries
    names = {entry.family.lower(): entry.family for entry in entries}
    if family.lower() not in names:
        near = difflib.get_close_matches(family.lower(), names, 1)
        hint = f"did you mean {names[near[0]]}?" if near else f"families: {', '.join(names.values())}"
        raise Misuse(f"the zoo has no family {family!r}.", hint=hint)
    return [entry for entry in entries if entry.family.lower() == family.lower()]


# --------------------------------------------------------------------------- the list


def _row(figure: Figure) -> list[Any]:
    """A figure in full, for programs."""
    item = figure.published
    return [
        figure.name,
        figure.family,
        figure.resolution,
        figure.params,
        figure.macs,
        item and item.params_m,
        item and item.macs_g,
        item and item.convention,
        _percent(figure.params_deviation),
        _percent(figure.macs_deviation),
        item and item.source,
        figure.reason or None,
    ]


def _readable(found: Sequence[Figure]) -> str:
    """A table for people: reasons stand below it, each once, by their number."""
    numbers: dict[str, int] = {}
    rows = [_short_row(figure, numbers) for figure in found]
    headings = ("name", "size", "params", "MACs", "printed M", "G", "M off", "G off", "why", "in", "source")
    text = sheet(headings, rows, width=terminal_width(sys.stdout))
    notes = [f"[{number}] {reason}" for reason, number in numbers.items()]
    return "\n".join([text.rstrip("\n"), "", *notes]) if notes else text


def _short_row(figure: Figure, numbers: dict[str, int]) -> list[Any]:
    item, why = figure.published, None
    if figure.reason:
        why = f"[{numbers.setdefault(figure.reason, len(numbers) + 1)}]"
    return [
        figure.name,
        figure.resolution,
        f"{figure.params:>11,}",
        f"{figure.macs:>14,}",
        item and item.params_m,
        item and item.macs_g,
        _off(figure.params_deviation),
        _off(figure.macs_deviation),
        why,
        item and item.convention,
        item and item.source,
    ]


def _off(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:+6.1f} %"


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 3)


# --------------------------------------------------------------------------- the check


def _check(entries: Sequence[Network], form: str | None, voice: Voice) -> None:
    """Count every form of every network, print both counts, and fail where they differ."""
    rows = list(_checked(entries, voice))
    emit(sheet(_CHECKED, rows, form, width=terminal_width(sys.stdout)), readable=form is None)
    wrong = [row[0] for row in rows if row[-1] != "yes"]
    if wrong:
        voice.error(f"{len(wrong)} of {len(rows)} differ from what is on record: {', '.join(wrong)}")
        raise click.exceptions.Exit(1)
    voice.note(f"{len(rows)} networks and forms have exactly the counts that are on record")


def _checked(entries: Sequence[Network], voice: Voice) -> Iterator[list[Any]]:
    from flopscope.progress import shown

    with captured_warnings(voice), reserved_stdout(), shown(False if voice.quiet else None) as told:
        for place, entry in enumerate(entries):
            told(f"counting {entry.name}", place / len(entries))
            for query, (params, macs) in {"": (entry.params, entry.macs), **entry.variants}.items():
                name = f"{entry.name}?{query}" if query else entry.name
                counted = _counted(name, entry.resolution)
                equal = "yes" if counted == (params, macs) else "NO"
                yield [name, entry.resolution, params, counted[0], macs, counted[1], equal]


def _counted(name: str, resolution: int) -> tuple[int, int]:
    """Params and MACs of what an address of the zoo builds, for one image."""
    from flopscope.loading import open_address
    from flopscope.profiling import count

    model = open_address(f"zoo:{name}", meta=True).model
    assert model is not None
    total = count(model, (1, 3, resolution, resolution), progress=False).total
    return total.params, total.macs
