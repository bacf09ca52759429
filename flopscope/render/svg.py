"""Report, Machine -> a picture as a file that stands alone, or as an image in a notebook."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

from flopscope.errors import InputError
from flopscope.render.registry import Options, renderer

if TYPE_CHECKING:
    from flopscope.records import Machine
    from flopscope.reports import Report

_MEASURE = "profile the model with latency on this machine"


@renderer("svg")
def render_svg(report: Report, options: Options) -> str:  # noqa: ARG001
    """FLOPs against time, the whole report as one picture with its title, machine and legend.

    Raises:
        InputError: The report has no layer.
    """
    from flopscope.pictures import icicles

    return _drawn(
        icicles(report, static=True),
        "a report without layers cannot be drawn",
        "profile a model that runs something",
    )


@renderer("parts-svg")
def render_parts(report: Report, options: Options) -> str:  # noqa: ARG001
    """The five parts of the time, of the whole and by kind.

    Raises:
        InputError: No time was taken apart, or the measurement is void.
    """
    from flopscope.pictures import breakdown

    return _drawn(
        breakdown(report, static=True),
        "the five parts of the time are not known, or withheld where the measurement is void",
        _MEASURE,
    )


@renderer("roofline-svg")
def render_roofline(report: Report, options: Options) -> str:  # noqa: ARG001
    """The layers under the measured roofs.

    Raises:
        InputError: The report has no roofs or no latencies.
    """
    from flopscope.pictures import roofline

    return _drawn(
        roofline(report, static=True),
        "a roofline needs measured roofs and latencies, which this report does not hold",
        _MEASURE,
    )


@renderer("memory-svg")
def render_memory(report: Report, options: Options) -> str:  # noqa: ARG001
    """The activation memory over the run.

    Raises:
        InputError: The report does not hold it: nothing ran, or an older flopscope made the file.
    """
    from flopscope.pictures import memory

    return _drawn(
        memory(report, static=True),
        "the report does not hold its activation memory over the run",
        "an older flopscope made it: count the model again",
    )


def machine_svg(machine: Machine) -> str:
    """The roofs of a machine alone.

    Raises:
        InputError: The machine has no peak.
    """
    from flopscope.pictures import machine_roofline

    return _drawn(
        machine_roofline(machine, static=True),
        f"{machine.name}: no peak is known, so there are no roofs to draw",
        "measure it: flopscope machine",
    )


def _drawn(svg: str, fault: str, hint: str) -> str:
    if not svg:
        raise InputError(fault, hint=hint)
    return svg + "\n"


def image(svg: str, words: str) -> str:
    """A drawn picture as an `<img>` that holds its own bytes; "" for one that was not drawn.

    Hosts of notebooks clean the HTML of outputs. JupyterLab drops an `<svg>` that stands in it and shows an
    image with its bytes in a `data:` address, into which no style of the page reaches. A host that drops
    that too shows `words` in its place.
    """
    if not svg:
        return ""
    coded = b64encode(svg.encode()).decode()
    return f'<img alt="{escape(words)}" src="data:image/svg+xml;base64,{coded}">'
