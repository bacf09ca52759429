"""The options that commands share: how a model is given, how it runs, how a report is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from flopscope.commands.usage import option

EFFORTS = ("quick", "normal", "thorough")
FORMS = {"csv": "csv", "json": "json", "md": "markdown", "latex": "latex"}
"""Format flags, and the renderers that they name."""

Decorator = Callable[[Any], Any]


def together(*decorators: Decorator) -> Decorator:
    """One decorator of several, in the order in which they shall stand in the help."""

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def argument(metavar: str, *, optional: bool = False) -> Decorator:
    """The argument of a command; more than one is taken here, to be refused with a better message."""
    shown = f"[{metavar}]" if optional else metavar
    return click.argument("words", nargs=-1, metavar=shown, type=click.Path())


model_options = together(
    option("Model and input", "-i", "--input", "inputs", multiple=True, metavar="SHAPE",
           help="Shape of an input: 1,3,224,224 or ids=1,128:int64. Repeatable. Default: the model's own."),
    option("Model and input", "--arg", "args", multiple=True, metavar="K=V",
           help="Keyword argument for the callable that an address names. Repeatable."),
    option("Model and input", "--key", metavar="NAME",
           help="Entry to take where a file holds a dict of models."),
    option("Model and input", "--allow", multiple=True, metavar="PKG",
           help="Also build nn.Module classes of this package from a file. Repeatable."),
    option("Model and input", "--trust", is_flag=True,
           help="Run whatever code the file holds. Only for files that you made."),
)  # fmt: skip

count_options = together(
    option("Run", "--device", metavar="DEVICE", help="Where to run: cpu, cuda:0. Default: the model's own."),
    option("Run", "--dtype", metavar="DTYPE", help="Convert a copy to this dtype: bfloat16."),
    option("Run", "--channels-last", is_flag=True, help="Run a copy in channels_last memory format."),
    option("Run", "--train", is_flag=True, help="One training step: forward, loss (mean), backward."),
    option(
        "Run",
        "--optimizer",
        metavar="NAME",
        help="With --train: also the step of this optimizer of torch.optim, e.g. sgd or adamw.",
    ),
    option("Run", "--seed", type=int, default=0, help="For the values of made inputs.", show_default=True),
    option(
        "Run",
        "--strict",
        is_flag=True,
        help="Fail (exit code 5) where an op has no price, or timing was disturbed.",
    ),
)

latency_options = together(
    option("Run", "--no-latency", is_flag=True,
           help="Count only: no data, no weights, milliseconds."),
    option("Run", "--threads", type=click.IntRange(min=1), metavar="N",
           help="Threads of one operator. Default: torch's own."),
    option("Run", "--machine", metavar="SHEET",
           help="Hold latencies against a data sheet (name or FILE.toml) instead of this machine's roofs."),
)  # fmt: skip

effort_options = together(
    option("Run", "--effort", type=click.Choice(EFFORTS), default="normal",
           help="Sample for at most 1.5, 5 or 15 seconds; quick tries no operator alone.", show_default=True),
    option("Run", "--max-seconds", type=click.FloatRange(min=0, min_open=True), metavar="S",
           help="Seconds of sampling, instead of those of --effort."),
)  # fmt: skip

form_options = together(
    option("Output", "--csv", "csv", is_flag=True, help="CSV on stdout: base units, no total."),
    option("Output", "--json", "json", is_flag=True, help="JSON on stdout: the whole report."),
    option("Output", "--md", "md", is_flag=True, help="A Markdown table on stdout."),
    option("Output", "--latex", "latex", is_flag=True, help="A LaTeX tabular on stdout."),
)

plot_options = together(
    option("Output", "--plot", is_flag=True,
           help="Pictures in characters, not the table: FLOPs against time, parts, a roofline."),
)  # fmt: skip

force_option = option(
    "Output", "--force", is_flag=True, help="Let -o replace a file that flopscope did not write."
)


def output_option(suffixes: str) -> Decorator:
    """`-o FILE`, with the suffixes that its command can write."""
    text = f"Write FILE too: {suffixes}. Repeatable."
    return option("Output", "-o", "--output", "outputs", multiple=True, metavar="FILE", help=text)


file_options = together(
    output_option(".html .svg .csv .json .md .tex .tsv .txt .speedscope.json .trace.json"), force_option
)

sum_options = together(
    option("Table", "--by", type=click.Choice(("kind", "type", "op")), help="Add up the layers, or the ops."),
    option("Table", "--depth", type=click.IntRange(min=0), metavar="N",
           help="Show the module tree, inclusive, down to this level."),
)  # fmt: skip

order_options = together(
    option("Table", "--top", type=click.IntRange(min=0), metavar="N",
           help="Rows to show: those that take most, or the first of --sort. 0: all."),
    option("Table", "--sort", metavar="COLUMN", help="Largest first, or from A; -COLUMN the other way."),
    option("Table", "--columns", metavar="A,B", help="Columns to show, in this order."),
)  # fmt: skip

message_options = together(
    option("Messages", "-q", "--quiet", is_flag=True, help="No notes and no progress."),
    option("Messages", "-v", "--verbose", is_flag=True, help="Tracebacks, and Python's own warnings."),
    option("Messages", "--color", type=click.Choice(("auto", "always", "never")), default="auto",
           help="Colours. NO_COLOR and FORCE_COLOR are honoured.", show_default=True),
)  # fmt: skip
