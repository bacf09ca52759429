"""Settings of a report -> the command, or the lines of Python, that make it again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flopscope.reports import Report

_INPUT = re.compile(
    r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<sizes>\d+(?:x\d+)*|\(\))(?: (?P<dtype>[a-z]+\d*))?", re.ASCII
)

_OF_TIMING = ("threads", "effort", "max_seconds")


def reproduced(report: Report) -> tuple[str, str]:
    """What makes this report again, and what it leaves open ("" where nothing is).

    A model that was given as an object has no address: its lines of Python begin with the model at hand.
    """
    inputs = _inputs(report.settings.inputs)
    told = (
        "" if inputs is not None or not report.settings.inputs else "Its inputs cannot be written on a line"
    )
    if report.loaded_by == "object":
        return _python(report, inputs), told or "Here model is the model itself, which has no address"
    words = ["flopscope", "report", shlex.quote(report.model)]
    for name, sizes, dtype in inputs or ():
        words += ["-i", shlex.quote(f"{name}{'=' if name else ''}{sizes}{f':{dtype}' if dtype else ''}")]
    words += _options(report)
    if report.loaded_by == "trusted":
        words.append("--trust")
    return " ".join(words), told or _open(report)


def _open(report: Report) -> str:
    if report.settings.train and any(phase.name == "optimizer" for phase in report.phases):
        return "The optimizer is not named in a report: add --optimizer NAME"
    return ""


def _inputs(text: str) -> list[tuple[str, str, str]] | None:
    """Name, sizes and dtype (no floating one) of each input; None where one has another form."""
    found = []
    for word in text.split(", ") if text else ():
        match = _INPUT.fullmatch(word)
        if match is None:
            return None
        dtype = match["dtype"] or ""
        dtype = "" if dtype.startswith(("float", "bfloat")) else dtype
        found.append((match["name"] or "", match["sizes"].replace("x", ","), dtype))
    return found


def _options(report: Report) -> Iterator[str]:
    settings = report.settings
    values: dict[str, object] = {
        "device": settings.device,
        "dtype": settings.dtype,
        "threads": settings.threads,
    }
    values |= {
        "seed": settings.seed or None,
        "max-seconds": settings.max_seconds,
        "machine": settings.machine,
    }
    if settings.latency and settings.effort != "normal":
        values["effort"] = settings.effort
    for name, value in values.items():
        if value is not None:
            yield from (f"--{name}", shlex.quote(str(value)))
    flags = {"no-latency": not settings.latency, "channels-last": settings.channels_last}
    flags |= {"train": settings.train, "strict": settings.strict}
    yield from (f"--{name}" for name, on in flags.items() if on)


def _python(report: Report, inputs: list[tuple[str, str, str]] | None) -> str:
    settings = report.settings
    values: dict[str, object] = {
        "device": settings.device, "dtype": settings.dtype, "threads": settings.threads,
        "channels_last": settings.channels_last or None, "train": settings.train or None,
        "effort": settings.effort if settings.effort != "normal" else None,
        "max_seconds": settings.max_seconds, "seed": settings.seed or None, "strict": settings.strict or None,
    }  # fmt: skip
    if not settings.latency:
        values = {name: value for name, value in values.items() if name not in _OF_TIMING}
    given = "".join(f", {name}={value!r}" for name, value in values.items() if value is not None)
    call = "profile" if settings.latency else "count"
    return f"report = flopscope.{call}(model, {_shapes(inputs)}{given})"


def _shapes(inputs: list[tuple[str, str, str]] | None) -> str:
    if not inputs:
        return "..."
    specs = [_spec(sizes, dtype) for _, sizes, dtype in inputs]
    if any(name for name, _, _ in inputs):
        pairs = zip(inputs, specs, strict=True)
        given = ", ".join(f"{name}={spec}" if name else spec for (name, _, _), spec in pairs)
        return f"flopscope.Inputs({given})"
    return specs[0] if len(specs) == 1 else f"[{', '.join(specs)}]"


def _spec(sizes: str, dtype: str) -> str:
    shape = "()" if sizes == "()" else f"({sizes.replace(',', ', ')}{'' if ',' in sizes else ','})"
    return f"flopscope.Spec({shape}, {dtype!r})" if dtype else shape
