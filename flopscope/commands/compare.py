"""`flopscope compare A B [C...]`: models and saved reports side by side, live ones timed in turns."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from flopscope.commands import options, outputs
from flopscope.commands.requests import Request
from flopscope.commands.streams import emit, is_rich, reserved_stdout, terminal_width, wants_color
from flopscope.commands.usage import Command, Misuse, option
from flopscope.commands.voices import Voice, captured_warnings
from flopscope.errors import BudgetError, MeasurementError

if TYPE_CHECKING:
    from flopscope.comparison import Comparison

_EXAMPLES = """\b
Examples:
  flopscope compare zoo:mobilenet_v2 zoo:fasternet_t0 --threads 1
  flopscope compare 'op:dwconv?channels=96' 'op:pconv?channels=96' --threads 1
  flopscope compare before.json after.json --fail-on 'macs:+1%'
  flopscope compare net.py:old net.py:new --fail-on 'latency:+5%'
  flopscope compare net.py:old net.py:new -o compared.html
\b
The first is what the others are held against. Exit codes: 0 done, 1 a gate of --fail-on failed,
2 a gate cannot be judged.
"""

comparison_forms = options.together(
    option("Output", "--csv", "csv", is_flag=True, help="The layers side by side as CSV: base units."),
    option("Output", "--json", "json", is_flag=True, help="JSON on stdout: all of it."),
    option("Output", "--md", "md", is_flag=True, help="Markdown tables on stdout."),
    option("Output", "--plot", is_flag=True, help="Pictures in characters: ratios with intervals, kinds."),
    options.output_option(".html .svg .csv .json .md .tex"),
    options.force_option,
    option("Output", "--top", type=click.IntRange(min=0), metavar="N",
           help="Layers to show of two models: those that differ most. 0: all, in order."),
)  # fmt: skip


@click.command(cls=Command, epilog=_EXAMPLES, short_help="Set models or saved reports side by side.")
@click.argument("words", nargs=-1, metavar="A B [C...]", type=click.Path())
@options.model_options
@options.latency_options
@options.count_options
@options.effort_options
@option(
    "Gates",
    "--fail-on",
    "gates",
    multiple=True,
    metavar="'METRIC:+N%'",
    help="Exit 1 where a metric rose by more: macs, params, flops, bytes, peak_activation_bytes, latency.",
)
@comparison_forms
@options.message_options
def compare(words: tuple[str, ...], gates: tuple[str, ...], **given: Any) -> None:
    """Set models, addresses and saved reports side by side.

    Models are timed in turns of one run, so that what drifts drifts for all; the ratio comes with an
    interval and a verdict. Saved reports are compared by their counts, without a verdict on latency.
    """
    voice = Voice.of(given)
    if len(words) < 2:
        raise Misuse("compare takes at least two models or reports.", hint="flopscope compare A B")
    if given["machine"]:
        raise Misuse(
            "--machine does not go with compare.", hint="ratios are held against no roof: leave it out"
        )
    _require_gates(gates, given)
    form = comparison_form(given)
    check_files(words, given)
    contenders = {}
    for name, word in zip(_names(words), words, strict=True):
        contenders[name] = Request.of(word, given).contender(voice)
    found = _compared(contenders, Request.of(words[0], given), voice)
    show(found, form, voice, words, given)
    _gate(found, gates, voice)
    require_trust(found, given)


def comparison_form(given: dict[str, Any]) -> str:
    """The one format that was asked for.

    Raises:
        Misuse: There are several.
    """
    asked = [name for name in ("csv", "json", "md", "plot") if given[name]]
    if len(asked) > 1:
        flags = " and ".join(f"--{name}" for name in asked)
        raise Misuse(f"{flags} exclude each other.", hint="one on stdout; call it again for another")
    return {"md": "markdown"}.get(asked[0], asked[0]) if asked else "text"


def check_files(words: Sequence[str], given: Mapping[str, Any]) -> None:
    """Refuse files of `-o` that cannot or must not be written, before any work is done.

    Raises:
        InputError: See `outputs.require_writable`.
    """
    outputs.require_writable(
        given["outputs"], models=words, force=given["force"], writers=outputs.OF_COMPARISONS
    )


def show(found: Comparison, form: str, voice: Voice, words: Sequence[str], given: Mapping[str, Any]) -> None:
    """Write the files of a comparison, print it, and say what the reader should know.

    Raises:
        InputError: A file cannot be written.
    """
    check_files(words, given)
    top, color = given["top"], given["color"]
    outputs.write_comparison(found, given["outputs"], top=top)
    width = terminal_width(sys.stdout) if form in ("text", "plot") else None
    if form == "plot":
        from flopscope.render import Options
        from flopscope.render.compared import plotted

        colored = wants_color(color, sys.stdout)
        options = Options(width=width, color=colored, blocks=is_rich(sys.stdout))
        emit(plotted(found, options), readable=True)
    else:
        emit(found.table(form, top=top, width=width), readable=form == "text")
    for text in found.warnings:
        voice.warning(text)
    for text in found.notes:
        voice.note(text)
    if given["outputs"]:
        voice.note(f"wrote {', '.join(given['outputs'])}")


def _compared(contenders: dict[str, Any], request: Request, voice: Voice) -> Comparison:
    from flopscope.contests import compare as set_side_by_side
    from flopscope.progress import shown

    with captured_warnings(voice), reserved_stdout(), shown(False if voice.quiet else None) as told:
        return set_side_by_side(
            contenders,
            device=request.device,
            dtype=request.dtype,
            threads=request.threads,
            channels_last=request.channels_last,
            train=request.train,
            optimizer=request.optimizer_class(),
            latency=request.latency,
            effort=request.effort,
            max_seconds=request.max_seconds,
            seed=request.seed,
            progress=told,
        )


def _names(words: Sequence[str]) -> list[str]:
    """The words, told apart where one stands twice: a model against itself shows the noise."""
    return [word if words.index(word) == place else f"{word} #{words[:place].count(word) + 1}"
            for place, word in enumerate(words)]  # fmt: skip


def require_trust(found: Comparison, given: Mapping[str, Any]) -> None:
    """With `--strict`: refuse ops without a price, and timing that was disturbed.

    Raises:
        MeasurementError: There is either; what was found has been shown by then.
    """
    if not given["strict"]:
        return
    for side, report in zip(found.sides, found.reports, strict=True):
        if report.uncosted:
            raise MeasurementError(
                f"{side.name}: ops without a price: {', '.join(report.uncosted)}",
                hint="give them one with flopscope.register_formula, or leave --strict out",
            )
        if side.measured and report.quality is not None and report.quality.word != "good":
            reasons = "; ".join(report.quality.reasons)
            raise MeasurementError(
                f"{side.name}: timing is {report.quality.word}: {reasons}", hint=report.quality.remedy
            )


def _require_gates(gates: Sequence[str], given: Mapping[str, Any]) -> None:
    """Refuse gates that cannot be read or judged, before any work is done.

    Raises:
        Misuse: There is one.
    """
    from flopscope.comparison import parse_gate

    try:
        metrics = [parse_gate(gate)[0] for gate in gates]
    except BudgetError as wrong:
        raise Misuse(f"{wrong}.", hint=wrong.hint) from wrong
    if "latency" in metrics and given["no_latency"]:
        raise Misuse("a gate asks for latency, and --no-latency was given.", hint="drop one of the two")


def _gate(found: Comparison, gates: Sequence[str], voice: Voice) -> None:
    """Exit 1 where a side got worse by more than was allowed.

    Raises:
        Misuse: Nothing did, but a gate cannot be judged by what was measured.
    """
    regressions, unjudged = [], None
    for gate in gates:
        try:
            regressions += found.check(gate)
        except BudgetError as wrong:
            unjudged = wrong
    for worse in regressions:
        voice.error(
            f"{worse.side}: {worse.metric} +{100 * worse.rise:.2f} %, allowed +{100 * worse.allowed:g} %"
        )
    if regressions:
        raise click.exceptions.Exit(1)
    if unjudged is not None:
        raise Misuse(f"{unjudged}.", hint=unjudged.hint)
