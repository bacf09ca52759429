"""Report -> paragraphs on the experimental set-up for a paper: what was counted, where and how it was timed.

Every number is one that the report holds. What it does not hold is not said, but for the definitions of its
figures, which are those of docs/measuring.md and docs/conventions.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from flopscope.errors import InputError
from flopscope.render.grid import printable
from flopscope.render.headers import FAULTS, dtype_of
from flopscope.render.latex import escape
from flopscope.render.machines import levels
from flopscope.units import bytes_text, count_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from flopscope.comparison import Comparison
    from flopscope.records import Machine, Ratio
    from flopscope.reports import Report

_OPEN, _CLOSE = "\ue000", "\ue001"
"""Stand round names until the style is known; `printable` lets none in from outside."""
_SHAPE = re.compile(r"\d+(?:x\d+)+")
_ROUTES = {
    "meta": "without data, from shapes alone",
    "real": "in a real run",
    "exported": "from an exported graph, which was read and not run",
}
_STOPS = {
    "steady": "the medians of the epochs agreed within 10 %",
    "time": "the time for it was spent",
    "rounds": "enough rounds were taken",
}


def methods_text(report: Report, style: str = "text") -> str:
    """Paragraphs on what was counted, and, where it was measured, on how it was timed and against what.

    Args:
        report: what is written about.
        style: "text" or "latex".

    Raises:
        InputError: There is no such style.
    """
    paragraphs = [_counted(report)]
    if report.total.latency_s is not None:
        paragraphs += [_place([report]), _timed(report), _held_against(report)]
    return _styled(paragraphs, style)


def comparison_methods_text(comparison: Comparison, style: str = "text") -> str:
    """Paragraphs on the sides, and on the paired design by which their latencies are compared.

    Raises:
        InputError: There is no such style.
    """
    paragraphs = [_sides(comparison)]
    timed = [report for report in comparison.reports if report.total.latency_s is not None]
    if timed:
        paragraphs += [_place(timed), _design(comparison)]
    return _styled(paragraphs, style)


def _styled(paragraphs: Sequence[Iterator[str]], style: str) -> str:
    finish: dict[str, Callable[[str], str]] = {"text": _as_text, "latex": _as_latex}
    if style not in finish:
        raise InputError(f"no style {style!r} for a text on methods", hint="style takes text or latex")
    texts = [" ".join(sentences) for sentences in paragraphs]
    return "\n\n".join(finish[style](text) for text in texts if text) + "\n"


def _as_text(text: str) -> str:
    return text.replace(_OPEN, "").replace(_CLOSE, "")


def _as_latex(text: str) -> str:
    """Escaped; names in typewriter, shapes with crosses, no break before a unit."""
    pieces = re.split(f"({_OPEN}[^{_CLOSE}]*{_CLOSE})", text)
    text = "".join(
        piece
        if piece.startswith(_OPEN)
        else _SHAPE.sub(lambda found: "\ue002" + found[0].replace("x", "\ue003") + "\ue002", piece)
        for piece in pieces
    )
    text = escape(re.sub(r"(?<=\d) (?=(?:%|ms|[kMGTP]?B(?:/s)?|[kMGTP]?FLOP/s)(?!\w))", "\ue004", text))
    for mark, sign in (
        (_OPEN, r"\texttt{"),
        (_CLOSE, "}"),
        ("\ue002", "$"),
        ("\ue003", r" \times "),
        ("\ue004", "~"),
    ):
        text = text.replace(mark, sign)
    return text


def _name(text: str) -> str:
    return f"{_OPEN}{printable(text)}{_CLOSE}"


# --------------------------------------------------------------------------- counts


def _counted(report: Report) -> Iterator[str]:
    """Model, input, and the counts with what they mean."""
    total, settings = report.total, report.settings
    held = f"{total.params:,} parameters, {bytes_text(report.param_bytes)}"
    dtype = dtype_of(report)
    given = [f"on an input of {printable(settings.inputs)}"] if settings.inputs else []
    given += [f"in {dtype}"] if dtype else []
    given += ["in channels-last memory format"] if settings.channels_last else []
    version = report.environment.flopscope
    yield f"{' '.join([f'{_name(report.model)} ({held}) was profiled with flopscope {version}', *given])}."
    what = "one training step" if settings.train else "one forward pass in evaluation mode"
    phases = [phase.name for phase in report.phases]
    what += f" ({', '.join(phases)})" if phases else ""
    bound = "at least " if report.uncosted else ""
    yield (
        f"Counted {_ROUTES.get(report.route, report.route)}, {what} takes {bound}{total.macs:,}"
        f" multiply-accumulates (MACs) and {bound}{total.flops:,} FLOPs, where one MAC is two FLOPs and"
        " element-wise operations and reductions are counted too."
    )
    yield (
        f"Its operators, as executed, read {bytes_text(total.bytes_read)} and write"
        f" {bytes_text(total.bytes_written)}; at most {bytes_text(report.peak.nbytes)} of activations are"
        " alive at once."
    )
    if report.uncosted:
        named = ", ".join(f"{_name(op)} ({calls})" for op, calls in report.uncosted.items())
        yield f"Calls of operators without a cost formula are not in these counts: {named}."


# --------------------------------------------------------------------------- times


def _place(reports: Sequence[Report]) -> Iterator[str]:
    """Hardware, threads, allocator, software, date; nothing of reports that were made in several places."""
    here, settings = reports[0].environment, reports[0].settings
    if len({(found.environment.cpu, found.environment.torch) for found in reports}) > 1:
        return
    threads = list(dict.fromkeys(found.settings.threads or found.environment.threads for found in reports))
    known = [f"{here.cores} processors", *(printable(x) for x in (here.capability, here.platform) if x)]
    device = f", device {printable(settings.device)}" if settings.device else ""
    yield (
        f"Latencies were measured on {printable(here.cpu)} ({', '.join(known)}){device} with"
        f" {' and '.join(map(str, threads))} thread{'' if threads == [1] else 's'}, PyTorch"
        f" {printable(here.torch)}, Python {printable(here.python)} and {printable(here.allocator)} as"
        f" allocator, on {printable(here.date[:10])}."
    )
    faults = here.other.get(FAULTS)
    if faults is not None and len(reports) == 1:
        yield f"A pass took {printable(faults)} page faults, in the median."


def _timed(report: Report) -> Iterator[str]:
    """The rounds, the estimators and the interval, how the layers make up the whole, the quality."""
    total, other = report.total, report.environment.other
    layered = any(layer.latency_s is not None for layer in report.layers)
    rounds = total.samples or (len(report.whole.samples) if report.whole else 0)
    how = [f"after {other['warmup_rounds']} warm-up passes,"] if "warmup_rounds" in other else []
    how += [f"in {rounds} rounds"] if rounds else []
    how += [f"spread over {other['epochs']} epochs"] if "epochs" in other else []
    how += [f"and in {other['processes']} processes"] if other.get("processes", "1") != "1" else []
    subject = "Training steps" if report.settings.train else "Whole passes"
    turns = ", bare and with a mark at every module boundary in turn," if layered else ""
    made = f" on inputs made with seed {report.settings.seed}"
    stop = _STOPS.get(other.get("stop_reason", ""))
    ended = f"; sampling ended when {stop}" if stop else ""
    yield f"{subject} were timed{turns}{made}, {' '.join(how)}{ended}."
    yield f"The latency of the whole is the median of the bare ones, {_ms(total.latency_s)}{_floor(report)}."
    if layered:
        yield (
            "That of a layer is its mean over the faster half of the rounds, the same for all layers, so that"
            f" layers add up{_terms(report)}."
        )
    phases = [
        f"{phase.name} {_ms(phase.latency_s)}" for phase in report.phases if phase.latency_s is not None
    ]
    if phases:
        yield f"The phases take, each in its median, {', '.join(phases)}."
    if report.quality is not None:
        reasons = "; ".join(printable(reason).rstrip(".") for reason in report.quality.reasons)
        doubt = f" ({reasons})" if reasons else ""
        yield f"By what the system told meanwhile, the timing is {report.quality.word}{doubt}."


def _floor(report: Report) -> str:
    """The 10th percentile, and the range of it; "" where they are not known."""
    total = report.total
    if total.latency_floor_s is None:
        return ""
    text = f"; their 10th percentile is {_ms(total.latency_floor_s)}"
    if total.latency_low_s is None or total.latency_high_s is None:
        return text
    low, high = _ms(total.latency_low_s), _ms(total.latency_high_s)
    return f"{text} ({low} to {high}: the range of the 10th percentiles of the epochs, widened by 10 %)"


def _terms(report: Report) -> str:
    """How the sum of the layers becomes the whole."""
    if not report.rows_of_the_whole:
        return ""
    terms = [f"{printable(row.name)} {_ms(row.latency_s)}" for row in report.rows_of_the_whole]
    return f"; the whole is the sum of {', '.join(terms)}"


def _held_against(report: Report) -> Iterator[str]:
    """The roofs, and by which means latencies were taken apart."""
    machine = report.machine
    if machine is None:
        return
    roofs = list(_roofs(machine, dtype_of(report)))
    if machine.form == "sheet":
        name = printable(machine.name)
        yield f"Estimates of attainable time rest on the data sheet of {name}: {', '.join(roofs)}."
        return
    yield f"The roofs of the machine were measured in {machine.passes} passes: {', '.join(roofs)}."
    forms = [seen.form for seen in report.evidence]
    if "replayed" in forms:
        yield (
            "Latencies were taken apart by these roofs and by running operators alone"
            f" ({forms.count('replayed')} of {len(forms)} layers)."
        )
    elif "cheap" in forms:
        yield "Latencies were taken apart by these roofs alone."


def _roofs(machine: Machine, dtype: str | None) -> Iterator[str]:
    peak = machine.peak(dtype)
    if peak is not None:
        yield f"{rate_text(peak)} in {dtype}"
    for _, level in levels(machine):
        size = bytes_text(level.working_set_bytes)
        yield f"{rate_text(level.bytes_per_s, 'B/s')} over a working set of {size}"


def _ms(seconds: float | None) -> str:
    return "?" if seconds is None else f"{milliseconds_text(seconds)} ms"


# --------------------------------------------------------------------------- comparisons


def _sides(comparison: Comparison) -> Iterator[str]:
    """Each side with its input and its counts."""
    versions = ", ".join(dict.fromkeys(report.environment.flopscope for report in comparison.reports))
    yield f"{len(comparison.sides)} models were compared with flopscope {versions}."
    for side, report in zip(comparison.sides, comparison.reports, strict=True):
        bound, total = "at least " if report.uncosted else "", report.total
        model = "" if side.name == report.model else f" ({_name(report.model)})"
        inputs = f" on {printable(report.settings.inputs)}" if report.settings.inputs else ""
        changed = side.rewrote is not None and side.rewrote.function == "changed"
        fresh = ", another function with fresh weights," if changed else ""
        yield (
            f"{_name(side.name)}{model}{fresh} has {count_text(total.params)} parameters and takes"
            f" {bound}{count_text(total.macs)} MACs and {bound}{count_text(total.flops)} FLOPs{inputs}."
        )
    yield "One MAC is two FLOPs; element-wise operations and reductions are counted too."


def _design(comparison: Comparison) -> Iterator[str]:
    """How ratios were measured, and what they are; or that there are none, and why."""
    from flopscope.comparison import BLOCKS, RESAMPLES

    ratios = [ratio for ratio in comparison.ratios if ratio is not None]
    if not ratios:
        yield "Latencies were not measured in turns of one run; no ratio of them is given."
        return
    first = comparison.sides[0].name
    turns = min(ratio.turns for ratio in ratios)
    yield (
        f"The design is paired: in each of {turns} turns of one run every model took a bare and a marked"
        " pass, in an order drawn anew, so that what drifts on the machine drifts for all."
    )
    yield (
        "A ratio is the median over the turns of a model's latency divided by that of"
        f" {_name(first)} in the same turn; its 95 % interval comes of drawing {min(BLOCKS, turns)} whole"
        f" blocks of neighbouring turns anew {RESAMPLES:,} times."
    )
    margin = f"{100 * comparison.margin:g} %"
    yield f"Models are called the same where the interval lies within {margin} of 1."
    for side, ratio in zip(comparison.sides, comparison.ratios, strict=True):
        if ratio is not None:
            yield f"{_name(side.name)} takes {_ratio(ratio)} as long as {_name(first)}."
    words = dict.fromkeys(report.quality.word for report in comparison.reports if report.quality)
    if words:
        yield f"By what the system told meanwhile, the timing is {' and '.join(words)}."


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.value:.3g} times ({ratio.low:.3g} to {ratio.high:.3g}; {ratio.verdict})"
