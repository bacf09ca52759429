"""`flopscope why MODEL|REPORT [LAYER]`: why a layer, or the whole model, takes what it takes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from flopscope.commands import options, outputs
from flopscope.commands.requests import Request
from flopscope.commands.streams import emit, terminal_width
from flopscope.commands.usage import Command, Misuse, option, sole
from flopscope.commands.voices import Voice
from flopscope.errors import MeasurementError

if TYPE_CHECKING:
    from flopscope.diagnosis import Why

_EXAMPLES = """\b
Examples:
  flopscope why timm:fasternet_t0 --threads 1
  flopscope why net.py:build features.3.conv -i 8,3,32,32
  flopscope why report.json "layer1 (ops)"
  flopscope why report.json layer1 --json
  flopscope why report.json layer1 -o layer1.md
\b
LAYER is a layer's path, its label, a container, or an end that only one has.
Without it the whole model is explained.
"""


@click.command(cls=Command, epilog=_EXAMPLES, short_help="Tell why a layer takes what it takes.")
@options.argument("MODEL|REPORT [LAYER]")
@options.model_options
@options.latency_options
@options.count_options
@options.effort_options
@option("Output", "--json", "json", is_flag=True, help="JSON on stdout: codes and numbers, no wording.")
@option("Output", "--md", "md", is_flag=True, help="Markdown on stdout.")
@options.output_option(".json .md .txt")
@options.force_option
@options.message_options
def why(words: tuple[str, ...], **given: Any) -> None:
    """Tell why a layer takes what it takes on this machine: evidence, causes, alternatives.

    Of a saved report nothing is measured again: what it does not hold is named as not measured,
    and no torch is needed.
    """
    from flopscope.diagnosis import why as explain

    voice = Voice.of(given)
    model, layer = _words(words)
    if given["no_latency"]:
        raise Misuse(
            "why explains measured times, and --no-latency measures none.",
            hint=f"flopscope report {model} --no-latency     shows the counts alone",
        )
    if given["json"] and given["md"]:
        raise Misuse("--json and --md exclude each other.", hint="one on stdout, the other by -o FILE")
    _require_writable(model, given)
    doubt: MeasurementError | None = None
    try:
        report = Request.of(model, {**given, "explain": layer}).report(voice)
    except MeasurementError as found:
        if found.report is None:
            raise
        doubt, report = found, found.report
    _require_writable(model, given)
    _show(explain(report, layer), given)
    for text in report.warnings:
        voice.warning(text)
    for text in report.notes:
        voice.note(text)
    if given["outputs"]:
        voice.note(f"wrote {', '.join(given['outputs'])}")
    if doubt is not None:
        raise doubt


def _require_writable(model: str, given: Mapping[str, Any]) -> None:
    outputs.require_writable(
        given["outputs"], models=(model,), force=given["force"], writers=outputs.OF_EXPLANATIONS
    )


def _show(found: Why, given: Mapping[str, Any]) -> None:
    """Write the files, and print the explanation."""
    from flopscope.render.why import why_json, why_text
    from flopscope.render.why_documents import why_markdown

    title = f"why {found.model} {found.path}".rstrip()
    forms = {
        "json": lambda: why_json(found),
        "markdown": lambda: why_markdown(found),
        "text": lambda: outputs.titled(title, why_text(found)),
    }
    outputs.write_each(given["outputs"], outputs.OF_EXPLANATIONS, lambda name: forms[name]())
    if given["json"] or given["md"]:
        emit(forms["json" if given["json"] else "markdown"]())
        return
    width, encoding = terminal_width(sys.stdout) or 100, sys.stdout.encoding or "utf-8"
    emit(why_text(found, width=width, blocks="utf" in encoding.lower()), readable=True)


def _words(words: tuple[str, ...]) -> tuple[str, str]:
    """The model, and the layer where one is given; "" is the whole.

    Raises:
        Misuse: There is no model, or something follows the layer.
    """
    shape = len(words) == 2 and words[1].replace(",", "").isdigit() and "," in words[1]
    if len(words) == 2 and not shape:
        return words[0], words[1]
    if len(words) > 2:
        raise Misuse(
            f"unexpected argument {words[2]!r}: why takes a MODEL and one LAYER.",
            hint='a label with a blank is quoted:  "layer1 (ops)"',
        )
    return sole(words, "why", what="MODEL|REPORT"), ""
