"""A model, an input that it rejected and the exception -> an error that tells what to give instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from flopscope.errors import ForwardError
from flopscope.inputs import signatures
from flopscope.inputs.companions import companion
from flopscope.inputs.entries import Entry, first_entry
from flopscope.inputs.faults import Failure, Finding, finding, first_line, located
from flopscope.inputs.inferring import entry_specs, infer
from flopscope.inputs.repairs import batched, lead
from flopscope.inputs.specs import Inputs, Made, Spec, command_line, shape_text, text

Works = Callable[[Inputs], bool]
_TRIES = 12  # each is a forward without data, and the fault may lie elsewhere
_INDENT = " " * 7  # as wide as "error: ", which the command line writes before a message


def explain(
    model: nn.Module,
    exc: BaseException,
    *,
    inputs: Inputs | Made,
    path: str | None = None,
    works: Works | None = None,
) -> ForwardError:
    """Turn what a forward raised into a message with the way out; raise it `from exc`.

    Args:
        model: the model that ran.
        exc: what its forward raised.
        inputs: what it was given; the description rather than the tensors made of it, if there
            is a choice, for then the hint keeps the user's own words.
        path: the innermost module that raised; found in the traceback where it is not given.
        works: tells whether the model runs on some inputs. With it, only inputs that run are
            offered; without it, those that the layers' attributes ask for.
    """
    call = Inputs(*inputs.args, **dict(inputs.kwargs))
    mismatch = _call_mismatch(model, exc, call)
    if mismatch is not None:
        return mismatch
    failure = located(model, exc, call=call, path=path)
    found = finding(failure)
    fact = found.fact if found else f"{type(exc).__name__}: {first_line(exc)}".rstrip(": ")
    place = f" at {failure.path}" if failure.path else ""
    message = f"forward failed{place} ({failure.type}): {fact}\n{_INDENT}input was {text(call)}"
    return ForwardError(message, hint=_way_out(failure, found, works))


def _call_mismatch(model: nn.Module, exc: BaseException, call: Inputs) -> ForwardError | None:
    """Say which arguments are missing or too many, where the call does not fit the signature."""
    if not isinstance(exc, TypeError):
        return None
    count, names = len(call.args), call.kwargs
    name = f"{type(signatures.unwrapped(model)).__name__}.forward()"
    surplus, unknown = signatures.surplus(model, count), signatures.unexpected(model, names)
    doubled, missing = signatures.doubled(model, count, names), signatures.missing(model, count, names)
    if surplus:
        takes = len(signatures.by_place(model))
        fact = f"{name} takes {takes} positional argument{'s' * (takes != 1)}, but {count} were given"
    elif unknown:
        fact = f"{name} got an unexpected argument {unknown[0]!r}"
    elif doubled:
        fact = f"{name} got {doubled[0]!r} twice, by place and by name"
    elif missing:
        listed = ", ".join(repr(item) for item in missing)
        fact = f"{name} missing {len(missing)} required argument{'s' * (len(missing) > 1)}: {listed}"
    else:
        return None
    way = command_line(_fitting(model, call))
    hint = f"signature is {signatures.text(model)}." + (f"  Give each:  {way}" if way else "")
    return ForwardError(f"{fact}\n{_INDENT}input was {text(call)}", hint=hint)


def _fitting(model: nn.Module, call: Inputs) -> Inputs:
    """The call by names, without what is too much, with what is missing."""
    places = signatures.by_place(model)
    given = {name: value for name, value in call.kwargs.items() if signatures.takes_keyword(model, name)}
    given |= dict(zip(places, call.args, strict=False))
    leading = lead(Inputs(**given))
    for item in signatures.required(model):
        if item.name not in given:
            given[item.name] = _companion(item.name, leading, model)
    if list(given) == places[:1]:
        return Inputs(*given.values())
    ordered = sorted(given, key=lambda name: places.index(name) if name in places else len(places))
    return Inputs(**{name: given[name] for name in ordered})


def _companion(name: str, leading: Any, model: nn.Module) -> Spec:
    spec = leading if isinstance(leading, Spec) else None
    if isinstance(leading, Tensor):
        spec = Spec(tuple(leading.shape))
    if spec is None:
        found = first_entry(model)
        return entry_specs(found, model)[0] if found is not None else Spec((1, 3, 224, 224))
    return companion(name, spec, model=model, spec_of=lambda found, whole: entry_specs(found, whole)[0])


def _way_out(failure: Failure, found: Finding | None, works: Works | None) -> str:
    """Word the hint: a repair of the user's own input if there is one, else an inferred input."""
    call = failure.call
    if found is None:
        return _inferred(failure.model, call, works)
    for repair in found.repairs:
        if command_line(repair) and text(repair) != text(call) and (works is None or works(repair)):
            remark = f"     ({found.remark})" if found.remark else ""
            return f"{found.advice} {command_line(repair)}{remark}".strip()
    return _inferred(failure.model, call, works) if found.guess else found.advice


def _inferred(model: nn.Module, call: Inputs, works: Works | None) -> str:
    whole = batched(call, model)
    if whole is not None and (works is None or works(whole)):
        return f"the batch dimension is part of the shape: {command_line(whole)}"
    first = first_entry(model)
    asks = f"   (first layer {first.path} is {_asks(first)})" if first is not None and first.path else ""
    candidates = [item for item in infer(model) if text(item) != text(call) and command_line(item)]
    if works is not None:
        fitting = next((item for item in candidates[:_TRIES] if works(item)), None)
        return f"this input runs: {command_line(fitting)}{asks}" if fitting is not None else ""
    given, offered = lead(call), lead(candidates[0]) if candidates else None
    if offered is None or (given is not None and tuple(given.shape) == tuple(offered.shape)):
        return ""
    return f"the model may expect: {command_line(candidates[0])}{asks}"


def _asks(first: Entry) -> str:
    if first.role == "channels":
        return f"{first.type} with {first.size} input channel{'s' * (first.size != 1)}"
    if first.role == "features":
        return f"{first.type} with {shape_text(first.tail)} input features"
    return f"{first.type} of {first.size} rows"
