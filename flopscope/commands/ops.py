"""`flopscope ops [MODEL]`: operators and their prices; beside other counters' with --crosscheck."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from flopscope.commands import options
from flopscope.commands.displays import Display
from flopscope.commands.requests import Request
from flopscope.commands.sheets import sheet
from flopscope.commands.streams import emit, terminal_width
from flopscope.commands.usage import Command, Misuse, option, sole
from flopscope.commands.voices import Voice

_EXAMPLES = """\b
Examples:
  flopscope ops                                  every operator that has a formula
  flopscope ops model.pt                         the operators that a model runs
  flopscope ops --crosscheck torchvision:vit_b_16
"""
_OF_A_TABLE = ("columns", "top", "sort", "outputs")
_BESIDES = "also priced: what torch tags as pointwise or as a reduction, by rule; views cost nothing."


@click.command(cls=Command, epilog=_EXAMPLES)
@options.argument("MODEL", optional=True)
@option(
    "Prices",
    "--crosscheck",
    is_flag=True,
    help="MODEL's counts beside fvcore's and torch's, per module, with the reason of each difference.",
)
@options.model_options
@options.count_options
@options.form_options
@options.file_options
@options.order_options
@options.message_options
def ops(words: tuple[str, ...], crosscheck: bool, **given: Any) -> None:
    """List the operators that have a price, or those that MODEL runs. Nothing is measured."""
    voice, display = Voice.of(given), dataclasses.replace(Display.of(given), by="op")
    if not words:
        if crosscheck:
            raise Misuse(
                "--crosscheck needs a MODEL.", hint="flopscope ops --crosscheck torchvision:resnet18"
            )
        _refuse(given, _OF_A_TABLE, "the list of prices")
        _print_sheet(("op", "family", "price"), list(_prices()), display)
        voice.note(_BESIDES)
        return
    model = sole(words, "ops", display.form)
    request = Request.of(model, given)
    if crosscheck:
        _refuse(given, (*_OF_A_TABLE, "dtype", "channels_last", "strict"), "--crosscheck")
        headings, rows = _crosschecked(request, voice)
        _print_sheet(headings, rows, display)
        return
    display.check(model)
    display.show(request.report(voice), voice, model=model)


def _prices() -> Iterator[tuple[str, str, str]]:
    """Every op that has a formula, the family that it belongs to, and what the formula says."""
    from flopscope.costs.registry import formula_of, known_names

    for name in known_names():
        formula = formula_of(name)
        if formula is not None:
            home = formula.__module__.removeprefix("flopscope.costs.")
            says = (formula.__doc__ or "").strip().partition("\n")[0]
            yield name, home, says


def _crosschecked(request: Request, voice: Voice) -> tuple[list[str], list[list[Any]]]:
    """Headings and rows of `flopscope.crosscheck`; what is not known is None."""
    from flopscope.commands.streams import reserved_stdout
    from flopscope.commands.voices import captured_warnings
    from flopscope.crosschecks import crosscheck

    model, inputs = request.opened_model(voice)
    with captured_warnings(voice), reserved_stdout():
        frame = crosscheck(model, inputs, device=request.device, seed=request.seed)
    for peer in ("fvcore", "torch"):
        if frame.attrs.get(f"{peer}_error"):
            voice.warning(f"{peer} did not count: {frame.attrs[f'{peer}_error']}")
    rows = frame.astype(object).where(frame.notna(), None)
    return [str(name) for name in frame.columns], rows.to_numpy().tolist()


def _print_sheet(headings: Sequence[str], rows: Sequence[Sequence[Any]], display: Display) -> None:
    text = sheet(headings, rows, display.form, width=terminal_width(sys.stdout))
    emit(text, readable=display.form is None)


def _refuse(given: Mapping[str, Any], idle: Sequence[str], what: str) -> None:
    """Refuse options that would silently do nothing."""
    asked = [name for name in idle if given[name] not in (None, False, ())]
    if asked:
        flag = {"outputs": "-o"}.get(asked[0], "--" + asked[0].replace("_", "-"))
        raise Misuse(f"{flag} does not apply to {what}.", hint="--csv and --json print all of it")
