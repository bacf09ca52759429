"""whatif(): a model and the names of rewrites -> Comparison of the model with what they make of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from flopscope import comparison, costs, inputs, rewrites, timing, tracing
from flopscope.comparison import Comparison
from flopscope.errors import FlopscopeError, InputError
from flopscope.inputs import Inputs
from flopscope.profiling import Asked, Walk, room_to_nest, settings_of
from flopscope.progress import Progress, shown
from flopscope.records import Refused, Rewrote, Settings, Trace
from flopscope.rewrites.checking import difference
from flopscope.subjects import Subject

from .entrants import Entrant, Told, contested
from .forms import FORMS, form_of, samples_of

Early = Callable[[Comparison], None]

AS_IT_IS = "as it is"
TOGETHER = "together"
TOLERANCE = 1e-3
"""Largest difference of an exact rewrite's outputs over the largest output, in the model's own dtype ..."""
TOLERANCE_PRECISE = 1e-4
"""... and in float64, where what is left comes of weights that were rounded once when they were folded."""
EARLY_SECONDS = 1.0
"""Of sampling for each side before the early answer."""
_APART = ("compile", "batch", "threads")


def whatif(  # noqa: D417 - what is as in `profile` is listed in one line
    model: nn.Module,
    inputs: Any = None,
    *names: str,
    device: str | None = None,
    dtype: Any = None,
    threads: int | None = None,
    channels_last: bool = False,
    latency: bool = True,
    effort: str = "normal",
    max_seconds: float | None = None,
    seed: int = 0,
    margin: float = comparison.MARGIN,
    progress: Told = None,
    early: Early | None = None,
) -> Comparison:
    """Rewrite copies of a model, check what the rewrites promise, and time all in turns of one run.

    Args:
        model: any module; it is left as it is.
        inputs: as in `profile`.
        names: of rewrites (docs/rewrites.md): "fold-bn", "channels-last", "threads=2". Without any: all
            that apply but `compile` and `batch`. Each is done alone, and those of the same function together.
        device, dtype, threads, channels_last, progress: as in `profile`.
        latency: measure; without it only the counts are compared.
        effort: "quick", "normal", "thorough": 1.5, 5, 15 seconds of sampling for each side.
        max_seconds: seconds of sampling for all together.
        seed: for the values of made inputs, on which outputs are compared too.
        margin: ratios whose interval lies within so much of 1 are called the same.
        early: called with a first, rough comparison of all sides after about a second of each.

    Returns:
        The comparison; `refused` says which rewrites were not done and why, `sides[k].rewrote` what was.

    Raises:
        InputError: a rewrite is unknown, or of several that were named none applies.
        ForwardError: the model rejected the input.
    """
    settings = settings_of(
        device=device, dtype=dtype, threads=threads, channels_last=channels_last, latency=latency,
        effort=effort, max_seconds=max_seconds, seed=seed,
    )  # fmt: skip
    _require_known(names)
    with shown(progress) as told, timing.without_collection(), room_to_nest():
        first = _Original(model, inputs, settings, told)
        sides, refused = _sides(first, names or _all(settings), named=bool(names))
        if len(sides) == 1:
            reasons = "; ".join(f"{one.name}: {one.reason}" for one in refused)
            raise InputError(
                f"none of these rewrites applies: {reasons}", hint=refused[0].hint if refused else ""
            )
        if early is not None and latency:
            rough = contested(
                sides, refused, seconds=EARLY_SECONDS * len(sides), progress=told, margin=margin
            )
            early(rough)
            sides = _prepared(sides, rough)
        seconds = max_seconds or timing.SECONDS[effort] * len(sides)
        return contested(sides, refused, seconds=seconds, progress=told, margin=margin)


def _require_shapes(first: _Original, model: nn.Module) -> None:
    """Make sure that a model of another function still runs, and puts out what the first one does.

    Raises:
        InputError: it does not.
    """
    try:
        shapes = first.trace_of(model).calls[0].output_shapes
    except tracing.TraceError as failure:
        raise InputError(f"what it makes does not run: {failure.__cause__ or failure}") from failure
    if shapes != first.trace.calls[0].output_shapes:
        raise InputError(
            f"its outputs have the shapes {shapes}, the model's {first.trace.calls[0].output_shapes}"
        )


def _prepared(sides: Sequence[Entrant], rough: Comparison) -> list[Entrant]:
    """The sides, each with what preparing it took: what is compiled once is not compiled again."""
    spent = [side.rewrote.prepare_s if side.rewrote else None for side in rough.sides]
    return [dataclasses.replace(side, prepare_s=took) for side, took in zip(sides, spent, strict=True)]


class _Original:
    """The model as it is: a private copy to rewrite, its trace, and the call for comparing outputs."""

    def __init__(self, model: nn.Module, given: Any, settings: Settings, progress: Progress) -> None:
        self.progress = progress
        self.settings = settings
        walk = Walk(Subject(model, settings), settings, Asked(given, machine=False), progress)
        with walk.conditions():
            self.trace = walk.traced()
            self.call: Inputs = walk.call
            if not walk.subject.has_data:
                raise InputError(
                    "the model is on the meta device: it has no weights to rewrite",
                    hint="build it with weights; random ones do",
                )
            self.run = walk.run()
        # In eval mode throughout: in training batch norm is no fixed map, and nothing could be folded.
        self.model = self.run.model.eval()
        self.entrant = Entrant(
            AS_IT_IS, self.model, self.call, settings, title=type(model).__name__, items=samples_of(self.call)
        )

    def trace_of(self, model: nn.Module) -> Trace:
        """The trace of the same call of a model that was rewritten."""
        made = inputs.make(
            self.call, model=model, device="meta", dtype=self.settings.dtype, seed=self.settings.seed
        )
        return tracing.trace(
            model, made.args, made.kwargs, keep=costs.has_formula, meta=True, device=self.trace.device
        )


def _all(settings: Settings) -> tuple[str, ...]:
    """What is tried where nothing was named; the other number of threads is one, or all of them."""
    current = settings.threads or torch.get_num_threads()
    other = 1 if current > 1 else _processors()
    threads = (f"threads={other}",) if other != current else ()
    return (*rewrites.rewrites(), "channels-last", "bf16", *threads)


def _processors() -> int:
    from flopscope import counters

    return len(counters.processors() or ()) or 1


def _require_known(names: Sequence[str]) -> None:
    """Refuse unknown names before anything is done."""
    for text in names:
        name = text.partition("=")[0]
        if form_of(name) is None and name not in rewrites.rewrites():
            try:
                rewrites.find(name)
            except InputError as unknown:
                known = ", ".join((*rewrites.rewrites(), *FORMS))
                raise InputError(str(unknown), hint=f"{unknown.hint}; all: {known}") from None


def _sides(first: _Original, names: Sequence[str], *, named: bool) -> tuple[list[Entrant], list[Refused]]:
    """The model as it is, each rewrite that applies alone, and those that may be done together."""
    sides, refused = [first.entrant], list[Refused]()
    for number, text in enumerate(dict.fromkeys(names)):
        first.progress(f"rewriting: {text}", number / len(names))
        try:
            sides.append(_checked(first, _applied(first, first.entrant, text)))
        except FlopscopeError as reason:
            refused.append(Refused(text, str(reason), reason.hint))
    chosen = [side.name for side in sides[1:] if _goes_with_others(side, named=named)]
    if len(chosen) > 1:
        both = first.entrant
        done: list[str] = []
        for text in chosen:
            try:
                both = _applied(first, both, text)
                done.append(text)
            except FlopscopeError as reason:
                refused.append(Refused(f"{text} ({TOGETHER})", str(reason), reason.hint))
        if len(done) > 1:
            sides.append(_checked(first, dataclasses.replace(both, name=f"{TOGETHER}: {' + '.join(done)}")))
    return sides, refused


def _goes_with_others(side: Entrant, *, named: bool) -> bool:
    """Whether a rewrite is also done together with others: those that keep the function, or were named."""
    assert side.rewrote is not None
    if side.name.partition("=")[0] in _APART:
        return False
    return named or side.rewrote.function == "same"


def _applied(first: _Original, before: Entrant, text: str) -> Entrant:
    """`before`, with one rewrite more."""
    name, equals, value = text.partition("=")
    form = form_of(name)
    given = value if equals else None
    if form is not None:
        made = form(before, first.call, given)
        changed, skipped = tuple[str, ...](), tuple[str, ...]()
        function = made.rewrote.function if made.rewrote else "same"
        model = made.model
    else:
        found = rewrites.find(name)
        assert before.model is not None
        trace = first.trace if before.model is first.model else first.trace_of(before.model)
        rewritten = found.apply(before.model, trace, given)
        if not rewritten.changed:
            raise InputError("it can change nothing here: " + "; ".join(rewritten.skipped[:3]))
        model, changed, skipped = rewritten.model, rewritten.changed, rewritten.skipped
        function = "same" if found.exact else "changed"
        made = dataclasses.replace(before, model=model)
    earlier = before.rewrote or Rewrote(())
    worst = max(earlier.function, function, key=("same", "precision", "changed").index)
    rewrote = Rewrote(
        (*earlier.names, text), worst, (*earlier.changed, *changed), (*earlier.skipped, *skipped)
    )
    return dataclasses.replace(made, name=text, model=model, rewrote=rewrote)


def _checked(first: _Original, side: Entrant) -> Entrant:
    """The side with the difference of its outputs; refused where it promised more than it keeps.

    Raises:
        InputError: the outputs differ by more than rounding, or in shape.
    """
    rewrote = side.rewrote
    assert rewrote is not None
    assert side.model is not None
    if side.model is first.model:
        return side
    if rewrote.function == "changed":
        _require_shapes(first, side.model)
        return side
    found = difference(first.model, side.model, first.run.args, dict(first.run.kwargs))
    precise = found.precise_relative
    if found.relative > TOLERANCE or (precise is not None and precise > TOLERANCE_PRECISE):
        raise InputError(
            f"its outputs differ from the model's by {found.relative:.1e} of the largest one"
            + ("" if precise is None else f" ({precise:.1e} in float64)"),
            hint="it promised the same function and is not used; the model may be ill-conditioned",
        )
    told = dataclasses.replace(rewrote, relative=found.relative, precise_relative=precise)
    return dataclasses.replace(side, rewrote=told)
