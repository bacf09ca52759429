"""Why -> text for a terminal, or JSON: verdict, evidence, reasons, alternatives, advice, doubts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from flopscope.records import Counterfactual, Fact
from flopscope.render.bars import BLOCKS, LETTERS, stacked
from flopscope.render.findings import TITLES, Figures, remedy_text, sentence
from flopscope.render.grid import Grid, lay_out_ruled, printable
from flopscope.render.parts import PARTS, named, parts_of
from flopscope.render.phrases import filled, milliseconds, percent
from flopscope.render.why_sums import findings, kinds, out_of_proportion, recoverable, terms
from flopscope.units import (
    bytes_text,
    count_text,
    giga_text,
    milliseconds_text,
    number_text,
    share_text,
)

if TYPE_CHECKING:
    from flopscope.diagnosis import Why

FORMAT, VERSION = "flopscope-why", 1
BAR = 50
"""Characters of the bar of five parts."""
WIDTH = 100
WHOLLY = 0.95
"""From this share of the time on, all of it counts as taken apart."""

_VERDICTS = {
    "near-compute-roof": "near the compute roof: {times} as long as its FLOPs at this machine's peak",
    "near-bandwidth": "near the memory roof: {times} as long as its bytes at the measured bandwidth",
    "below-both-roofs": "below both roofs: {times} as long as {what}",
    "not-taken-apart": "its time was not taken apart",
    "void": "void: the measurement does not allow one",
    "sum": "{limit} takes most of its time",
}
_NOT_MEASURED = {
    "roofs": "this machine's roofs (flopscope machine)",
    "hot-replays": "replays of the layer alone",
    "page-faults": "page faults",
    "waits": "waiting for a processor",
    "counterfactuals": "alternatives to this layer",
    "kernel-log": "the library's log of its kernels",
    "cache-misses": "cache misses (no hardware counters are read)",
}
_DOUBTS = {
    "void": "the measurement is void",
    "not-taken-apart": "the time was not taken apart",
    "clamped": "the parts had to be cut to fit",
    "unknown": "part of the time is unexplained",
    "disturbed": "the measurement was disturbed",
    "cheap": "nothing was replayed: what is called kernel is unexplained",
    "roofs-unsure": "the roofs are a data sheet's, or were measured on a disturbed machine",
    "few-samples": "few samples",
    "brief": "so short that the clock itself is seen",
}
_ALLOCATOR = {
    "faulting": "{allocator} faults pages in again at every use here ({faults} page faults).",
    "steady": "{allocator} keeps its buffers at this point of the process ({faults} page faults).",
}
_THREE_STATES = (
    "The same layer has three states: a fresh process, whose large buffers go back to the system at every "
    "free; one that has freed a larger buffer before, and keeps them; an allocator that pools, and always "
    "keeps them."
)


def why_text(why: Why, *, width: int | None = WIDTH, blocks: bool = True) -> str:
    """The explanation as a reader wants it.

    Args:
        why: What is to be said.
        width: Characters that a line of sentences may have; None for no limit.
        blocks: Whether bars may be drawn with block characters; letters, where they cannot be shown.
    """
    if why.scope == "layer":
        parts = [_head(why), _layer_verdict(why), _roofs(why), _because(why, width), _bar(why, blocks=blocks)]
        parts += [_allocator(why, width), _compared(why)]
    else:
        parts = [
            _head(why),
            _sum_verdict(why),
            _bar(why, blocks=blocks),
            terms(why, width),
            kinds(why, width),
        ]
        parts += [out_of_proportion(why), recoverable(why), findings(why, width)]
    parts += [_try(why, width), _closing(why, width)]
    return "\n\n".join(part for part in parts if part)


def why_json(why: Why) -> str:
    """The explanation as JSON: codes and numbers in base units, no wording."""
    top = {"format": FORMAT, "version": VERSION, **_plain(why)}
    return json.dumps(top, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


# --------------------------------------------------------------------------- head and verdict


def _head(why: Why) -> str:
    layer, numbers = why.layer, why.summary.numbers
    name = why.path or why.model
    kind = f"{layer.type} {layer.detail}".strip() if why.scope == "layer" else why.scope
    kind = kind if why.scope != "whole" else f"{numbers.get('layers')} layers"
    words = [name] if kind in name else [name, kind]
    if why.scope == "layer" and layer.output_shape:
        words.append(f"-> {'x'.join(map(str, layer.output_shape))} {layer.dtype or ''}".strip())
    words.append(milliseconds(why.summary.seconds))
    if why.scope != "whole":
        words.append(f"{percent(numbers, 'latency_share')} of the time")
        words.append(f"{percent(numbers, 'flops_share')} of the FLOPs")
    return printable("   ".join(words)) + f"\n{printable(why.machine)}"


def _layer_verdict(why: Why) -> str:
    numbers, code = why.summary.numbers, why.summary.code
    compute, memory = numbers.get("times_compute"), numbers.get("times_memory")
    what, ratio = "its FLOPs at this machine's peak", compute
    by_bytes = isinstance(memory, (int, float)) and (
        not isinstance(compute, (int, float)) or memory < compute
    )
    if code == "near-bandwidth" or (code == "below-both-roofs" and by_bytes):
        what, ratio = "its bytes at the measured bandwidth", memory
    if code == "below-both-roofs" and not isinstance(ratio, (int, float)):
        text = "there is no roof to hold it against"
    else:
        times = f"{number_text(ratio)}x" if isinstance(ratio, (int, float)) else "?"
        text = _VERDICTS[code].format(times=times, what=what, limit="")
    lines = [f"Verdict: {text}."]
    if why.layer.limit and code != "void":
        lines.append(f"         {_limit(why)} takes most of it, {percent(numbers, 'limit_share')}.")
    return "\n".join(lines)


def _limit(why: Why) -> str:
    """The largest part; of what roofs leave over nobody knows that the kernel took it."""
    cheap = "cheap" in why.doubts and why.layer.limit == "kernel"
    return "what the roofs do not explain" if cheap else f"{why.layer.limit}"


def _sum_verdict(why: Why) -> str:
    numbers, code = why.summary.numbers, why.summary.code
    text = _VERDICTS[code].format(limit=_limit(why), times="", what="")
    if code == "sum":
        text += f" ({percent(numbers, 'limit_share')})"
        apart = numbers.get("taken_apart_share")
        if isinstance(apart, float) and apart < WHOLLY:
            text += f", of the {share_text(apart)} % that were taken apart"
    return f"Verdict: {text}."


def _roofs(why: Why) -> str:
    """What FLOPs and bytes would take, and what was measured: all three, with both rates."""
    found = {fact.code: fact for fact in why.evidence}
    rows = []
    flops, moved, measured = (found.get(k) for k in ("flops-at-roof", "bytes-at-bandwidth", "measured"))
    if flops is not None and (flops.numbers.get("flops") or 0) != 0:
        rows.append(_against("its FLOPs at the compute roof", flops, "flops", "FLOP"))
    if moved is not None:
        rows.append(_against("its bytes at the bandwidth", moved, "nbytes", "B"))
    if measured is not None:
        its = Figures(measured)
        rates = [its.rate("flops_per_s", "FLOP/s")] if its.known("flops_per_s") else []
        rates += [its.rate("bytes_per_s", "B/s")] if its.known("bytes_per_s") else []
        rows.append(("measured", ", ".join(rates), milliseconds(measured.seconds)))
    return "\n".join(f"  {name:<30}  {amount:<34}  {time:>10}" for name, amount, time in rows)


def _against(name: str, fact: Fact, amount: str, unit: str) -> tuple[str, str, str]:
    rate = Figures(fact).rate(f"{'flops' if unit == 'FLOP' else 'bytes'}_per_s", f"{unit}/s")
    value = fact.numbers.get(amount)
    many = f"{count_text(value)}{unit}" if unit == "FLOP" and isinstance(value, (int, float)) else ""
    if unit == "B" and isinstance(value, (int, float)):
        many = bytes_text(value)
    return name, f"{many} / {rate}" if rate != "?" else f"{many}, no roof", milliseconds(fact.seconds)


def _because(why: Why, width: int | None) -> str:
    if not why.reasons:
        near = why.summary.code.startswith("near-")
        cause = (
            "this is what its work takes here." if near else "no rule finds a cause of a notable part of it."
        )
        return f"Because\n  {cause}"
    widest = max(len(finding.code) for finding in why.reasons)
    lines = ["Because"]
    for place, finding in enumerate(why.reasons, 1):
        first = f"  {place}. {finding.code:<{widest}}  "
        lines.append(filled(first + printable(sentence(finding)), width, len(first)))
    return "\n".join(lines)


# --------------------------------------------------------------------------- parts, terms, allocator


def _bar(why: Why, *, blocks: bool) -> str:
    """One bar of five parts, and what each comes to."""
    parts = parts_of([why.layer])
    if why.layer.limit is None or parts is None:
        return ""
    signs, cheap = BLOCKS if blocks else LETTERS, "cheap" in why.doubts
    shown = [
        f"{signs[part]} {named(part, cheap=cheap)} {milliseconds(parts.seconds[part])}"
        f" ({share_text(parts.share(part))} %)"
        for part in PARTS
    ]
    lines = ["   ".join(shown[:3]), "   ".join(shown[3:])]
    return "\n         ".join([f"Parts    [{stacked(parts, BAR, blocks=blocks)}]", *lines])


def _allocator(why: Why, width: int | None) -> str:
    fact = next((fact for fact in why.evidence if fact.code == "allocator"), None)
    if fact is None:
        return ""
    its = Figures(fact)
    text = _ALLOCATOR[its.text("state")].format(allocator=its.text("allocator"), faults=its.text("faults"))
    text += f" {_THREE_STATES}" if "glibc" in its.text("allocator") else ""
    return filled(f"Memory   {printable(text)}", width, 9)


# --------------------------------------------------------------------------- alternatives and advice


def _compared(why: Why) -> str:
    if not why.counterfactuals:
        return ""
    this = why.counterfactuals[0].this_s
    calls = max(why.layer.calls, 1)
    macs, flops = why.layer.macs // calls, why.layer.flops // calls
    rows = [_row("this layer", macs, flops, this, "")]
    rows += [_alternative(found, flops) for found in why.counterfactuals]
    sides = ["left", "right", "right", "right", "right", "left"]
    grid = Grid(["alternative", "MACs", "FLOPs", "ms", "GFLOP/s", "beside this"], sides, rows)
    return f"Compared on this machine (measured beside each other, run alone)\n{lay_out_ruled(grid)}"


def _alternative(found: Counterfactual, flops: int) -> list[str]:
    ratio = f"{number_text(found.latency_s / found.this_s)}x the time" if found.this_s else ""
    if found.flops and flops and found.flops != flops:
        ratio = f"{number_text(found.flops / flops)}x the FLOPs, {ratio}"
    texts = [ratio, "" if found.same_function else "another function", found.note]
    return _row(
        found.title, found.macs, found.flops, found.latency_s, ", ".join(text for text in texts if text)
    )


def _row(title: str, macs: int | None, flops: int | None, seconds: float, more: str) -> list[str]:
    counts = ["-" if value is None else count_text(value) for value in (macs, flops)]
    rate = giga_text(flops / seconds) if flops and seconds else "-"
    return [printable(text) for text in (title, *counts, milliseconds_text(seconds), rate, more)]


def _try(why: Why, width: int | None) -> str:
    lines: list[str] = []
    for fact in why.advice[:5]:
        words, gain = remedy_text(fact.code), fact.seconds
        if fact.numbers.get("basis") == "measured" and gain is not None:
            times = fact.numbers.get("times")
            faster = f" ({number_text(times)}x as fast)" if isinstance(times, (int, float)) else ""
            words += f": measured alone, {milliseconds(gain)} less{faster}"
        elif gain is not None:
            words += f": estimated, at most {milliseconds(gain)} less"
        else:
            words += ": gain not measured"
        layers = fact.numbers.get("layers")
        words += f" in {layers} layer{'' if layers == 1 else 's'}" if layers else ""
        lines.append(filled(f"{'Try' if not lines else '':<9}{printable(words)}", width, 9))
    return "\n".join(lines)


# --------------------------------------------------------------------------- the end


def _closing(why: Why, width: int | None) -> str:
    return "\n".join(filled(line, width, 2) for line in _last_lines(why))


def _last_lines(why: Why) -> Iterator[str]:
    if why.not_measured:
        yield f"Not measured: {', '.join(_NOT_MEASURED.get(code, code) for code in why.not_measured)}."
    doubts = [_DOUBTS.get(code, code) for code in why.doubts]
    yield f"Confidence: {why.confidence}" + (f" ({'; '.join(doubts)})." if doubts else ".")
    pages = [f"docs/findings/{finding.code}.md" for finding in why.reasons if finding.code in TITLES]
    if pages:
        more = f" and {len(pages) - 3} more" if len(pages) > 3 else ""
        yield f"More: {', '.join(pages[:3])}{more}"
