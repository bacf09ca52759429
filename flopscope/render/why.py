"""Why -> text for a terminal, blocks for other formats, JSON: verdict, evidence, reasons, advice, doubts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from flopscope.records import Fact
from flopscope.render.bars import BLOCKS, LETTERS, stacked
from flopscope.render.findings import TITLES, Figures, sentence
from flopscope.render.grid import Grid, printable
from flopscope.render.parts import PARTS, named, parts_of
from flopscope.render.phrases import filled, milliseconds, percent
from flopscope.render.why_advice import advised
from flopscope.render.why_compared import compared
from flopscope.render.why_lines import GAP, Block, Table, labelled_blocks, pieces, table_block, table_text
from flopscope.render.why_sums import findings, kinds, out_of_proportion, recoverable, terms, where
from flopscope.units import (
    bytes_text,
    count_text,
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
_UNDISTURBED = "undisturbed"
"""What the floor of a latency is called: the time with nothing else in the way."""
WHOLLY = 0.95
"""From this share of the time on, all of it counts as taken apart."""

_VERDICTS = {
    "near-compute-roof": "near the compute roof: {times} as long as its FLOPs at this machine's peak",
    "near-bandwidth": "near the memory roof: {times} as long as its bytes at the measured bandwidth",
    "below-both-roofs": "below both roofs: {times} as long as {what}",
    "not-taken-apart": "its time was not taken apart",
    "void": "void: the measurement does not allow one",
    "sum": "",
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
_NOT_MEASURED_OF_SEVERAL = {
    "hot-replays": "replays of the layers alone",
    "counterfactuals": "alternatives to these layers",
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
        width: Characters that a line may have; None for no limit.
        blocks: Whether bars may be drawn with block characters; letters, where they cannot be shown.
    """
    if why.scope == "layer":
        parts = [
            _head(why, width),
            _layer_verdict(why, width),
            _roofs(why, width),
            _because(why, width),
            _bar(why, width, blocks=blocks),
            _allocator(why, width),
            table_text(compared(why), width),
            advised(why, width),
        ]
    else:
        summary = [_sum_verdict(why, width), _bar(why, width, blocks=blocks), where(why, width)]
        summary.append(advised(why, width, most=3))
        parts = [_head(why, width), "\n".join(filter(None, summary)), terms(why, width)]
        parts += [table_text(table, width) for table in _tables(why)]
    return "\n\n".join(part for part in [*parts, _closing(why, width)] if part)


def why_blocks(why: Why) -> list[Block]:
    """The same, before it has a format: the first block is what is explained, the last what is left open."""
    first, *lines = _head(why, None).replace(GAP, " · ").splitlines()
    found: list[Block | None] = [Block(first, lines=tuple(lines))]
    if why.scope == "layer":
        found += [*labelled_blocks(_layer_verdict(why, None)), _roof_block(why), _cause_block(why)]
        found += [_part_block(why), *labelled_blocks(_allocator(why, None))]
        found += [table_block(compared(why)), _advice_block(why)]
    else:
        found += [*labelled_blocks(_sum_verdict(why, None)), _part_block(why)]
        found += [*labelled_blocks(where(why, None)), _advice_block(why), *labelled_blocks(terms(why, None))]
        found += [table_block(table) for table in _tables(why)]
    found.append(Block("", lines=tuple(_last_lines(why))))
    return [block for block in found if block is not None]


def _advice_block(why: Why) -> Block | None:
    """All advice that is worth it: there is room."""
    found = labelled_blocks(advised(why, None, most=len(why.advice)))
    lines = [line for block in found for line in block.lines if not line.startswith("…")]
    return Block("Try", lines=tuple(lines), listed=True) if lines else None


def _tables(why: Why) -> list[Table]:
    return [kinds(why), out_of_proportion(why), recoverable(why), findings(why)]


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


def _head(why: Why, width: int | None) -> str:
    """What it is; what it takes, with its interval; where that was measured."""
    layer, numbers = why.layer, why.summary.numbers
    name = why.path or why.model
    kind = f"{layer.type} {layer.detail}".strip() if why.scope == "layer" else why.scope
    if why.scope == "whole":
        count = numbers.get("layers")
        kind = f"{count} layer{'' if count == 1 else 's'}"
    words = [name] if kind in name else [name, kind]
    if why.scope == "layer" and layer.output_shape:
        words.append(f"-> {'x'.join(map(str, layer.output_shape))} {layer.dtype or ''}".strip())
    if layer.calls > 1 and why.scope == "layer":
        words.append(f"{layer.calls} calls")
    times = [f"{milliseconds(why.summary.seconds)}{_interval(why)} {_UNDISTURBED}"]
    observed = numbers.get("latency_s")
    if isinstance(observed, (int, float)):
        times.append(f"{milliseconds(observed)} observed")
    if why.scope != "whole":
        times.append(f"{percent(numbers, 'latency_share')} of the time")
        times.append(f"{percent(numbers, 'flops_share')} of the FLOPs")
    rows = ([printable(word) for word in words], times, [printable(why.machine)])
    return "\n".join(pieces(row, width, 2) for row in rows)


def _interval(why: Why) -> str:
    low, high = why.layer.latency_low_s, why.layer.latency_high_s
    return "" if low is None or high is None else f" ({milliseconds_text(low)}-{milliseconds_text(high)})"


def _layer_verdict(why: Why, width: int | None) -> str:
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
        text = _VERDICTS[code].format(times=times, what=what)
    if why.layer.limit and code != "void":
        text += f". The largest part is {_limit(why)}, {percent(numbers, 'limit_share')}"
    return filled(f"Verdict  {text}.", width, 9)


def _limit(why: Why) -> str:
    """The largest part; of what roofs leave over nobody knows that the kernel took it."""
    cheap = "cheap" in why.doubts and why.layer.limit == "kernel"
    return "what the roofs do not explain" if cheap else f"{why.layer.limit}"


def _sum_verdict(why: Why, width: int | None) -> str:
    numbers, code = why.summary.numbers, why.summary.code
    text = _VERDICTS[code].format(times="", what="")
    if code == "sum":
        text = f"the largest part of its time is {_limit(why)}, {percent(numbers, 'limit_share')}"
        apart = numbers.get("taken_apart_share")
        if isinstance(apart, float) and apart < WHOLLY:
            text += f" of the {share_text(apart)} % that were taken apart"
    return filled(f"Verdict  {text}.", width, 9)


def _roofs(why: Why, width: int | None) -> str:
    """What FLOPs and bytes would take, and what was measured: all three, with both rates."""
    rows = _roof_rows(why)
    widest = [max((len(row[place]) for row in rows), default=0) for place in range(4)]
    narrow = width is not None and 6 + widest[0] + widest[2] + widest[3] > width
    named = 1 if narrow else 0
    return "\n".join(
        f"  {row[named]:<{widest[named]}}  {row[2]:<{widest[2]}}  {row[3]:>{widest[3]}}" for row in rows
    )


def _roof_block(why: Why) -> Block | None:
    rows = [[row[0], row[2], row[3]] for row in _roof_rows(why)]
    grid = Grid(("what", "amount and rate", "time"), ("left", "left", "right"), rows)
    return Block("Its work at the roofs, and its time", grid) if rows else None


def _roof_rows(why: Why) -> list[tuple[str, str, str, str]]:
    """Name, short name, amount and rate, time."""
    found = {fact.code: fact for fact in why.evidence}
    rows = []
    flops, moved, measured = (found.get(k) for k in ("flops-at-roof", "bytes-at-bandwidth", "measured"))
    if flops is not None and (flops.numbers.get("flops") or 0) != 0:
        rows.append(("its FLOPs at the compute roof", "compute roof", *_against(flops, "flops", "FLOP")))
    if moved is not None:
        rows.append(("its bytes at the bandwidth", "bandwidth", *_against(moved, "nbytes", "B")))
    if measured is not None:
        its = Figures(measured)
        rates = [its.rate("flops_per_s", "FLOP/s")] if its.known("flops_per_s") else []
        rates += [its.rate("bytes_per_s", "B/s")] if its.known("bytes_per_s") else []
        its_time = milliseconds(measured.seconds)
        rows.append((f"measured, {_UNDISTURBED}", _UNDISTURBED, ", ".join(rates), its_time))
    return rows


def _against(fact: Fact, amount: str, unit: str) -> tuple[str, str]:
    """An amount beside its roof, and what that would take."""
    rate = Figures(fact).rate(f"{'flops' if unit == 'FLOP' else 'bytes'}_per_s", f"{unit}/s")
    value = fact.numbers.get(amount)
    many = f"{count_text(value)}{unit}" if unit == "FLOP" and isinstance(value, (int, float)) else ""
    if unit == "B" and isinstance(value, (int, float)):
        many = bytes_text(value)
    return f"{many} / {rate}" if rate != "?" else f"{many}, no roof", milliseconds(fact.seconds)


def _because(why: Why, width: int | None) -> str:
    if not why.reasons:
        return f"Because\n  {_no_cause(why)}"
    widest = max(len(finding.code) for finding in why.reasons)
    lines = ["Because"]
    for place, finding in enumerate(why.reasons, 1):
        first = f"  {place}. {finding.code:<{widest}}  "
        lines.append(filled(first + printable(sentence(finding)), width, len(first)))
    return "\n".join(lines)


def _cause_block(why: Why) -> Block:
    found = [f"{finding.code}: {printable(sentence(finding))}" for finding in why.reasons]
    return Block("Because", lines=tuple(found or [_no_cause(why)]), listed=bool(found))


def _no_cause(why: Why) -> str:
    near = why.summary.code.startswith("near-")
    return "this is what its work takes here." if near else "no rule finds a cause of a notable part of it."


# --------------------------------------------------------------------------- parts, terms, allocator


def _bar(why: Why, width: int | None, *, blocks: bool) -> str:
    """One bar of five parts, and what each comes to."""
    parts = parts_of([why.layer])
    if why.layer.limit is None or parts is None:
        return ""
    signs, cheap = BLOCKS if blocks else LETTERS, "cheap" in why.doubts
    shown = []
    for part in PARTS:
        amount = f"{_part(parts.seconds[part])} ({share_text(parts.share(part))} %)"
        shown.append(f"{signs[part]} {named(part, cheap=cheap)} {amount}")
    room = BAR if width is None else max(10, min(BAR, width - 11))
    legend = pieces([" " * 9 + shown[0], *shown[1:]], width, 9)
    return f"Parts    [{stacked(parts, room, blocks=blocks)}]\n{legend}"


def _part_block(why: Why) -> Block | None:
    parts = parts_of([why.layer])
    if why.layer.limit is None or parts is None:
        return None
    cheap = "cheap" in why.doubts
    rows = [
        [named(part, cheap=cheap), _part(parts.seconds[part]), f"{share_text(parts.share(part))} %"]
        for part in PARTS
    ]
    return Block("Parts", Grid(("part", "time", "share"), ("left", "right", "right"), rows))


def _part(seconds: float) -> str:
    return milliseconds(seconds) if seconds else "0 ms"


def _allocator(why: Why, width: int | None) -> str:
    fact = next((fact for fact in why.evidence if fact.code == "allocator"), None)
    if fact is None:
        return ""
    its = Figures(fact)
    text = _ALLOCATOR[its.text("state")].format(allocator=its.text("allocator"), faults=its.text("faults"))
    text += f" {_THREE_STATES}" if "glibc" in its.text("allocator") else ""
    return filled(f"Memory   {printable(text)}", width, 9)


# --------------------------------------------------------------------------- the end


def _closing(why: Why, width: int | None) -> str:
    return "\n".join(filled(line, width, 2) for line in _last_lines(why))


def _last_lines(why: Why) -> Iterator[str]:
    if why.not_measured:
        missing = {**_NOT_MEASURED, **({} if why.scope == "layer" else _NOT_MEASURED_OF_SEVERAL)}
        yield f"Not measured: {', '.join(missing.get(code, code) for code in why.not_measured)}."
    doubts = [_DOUBTS.get(code, code) for code in why.doubts]
    yield f"Confidence: {why.confidence}" + (f" ({'; '.join(doubts)})." if doubts else ".")
    costliest = next(
        (fact for fact in why.evidence if fact.code in ("out-of-proportion", "recoverable")), None
    )
    if why.scope != "layer" and costliest is not None:
        path = printable(str(costliest.numbers.get("path")))
        yield f"One layer in full: flopscope why MODEL {shlex.quote(path)}"
    pages = [finding.code for finding in why.reasons if finding.code in TITLES]
    if pages:
        more = f" and {len(pages) - 3} more" if len(pages) > 3 else ""
        yield f"More in docs/findings/: {', '.join(f'{page}.md' for page in pages[:3])}{more}"
