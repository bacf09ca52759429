"""A model -> a copy that computes something else, with fresh weights where it has new ones.

For asking what a design would cost before it is trained. What is replaced is found in the run; the module
tree and all forwards stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from flopscope.errors import InputError
from flopscope.records import Trace
from flopscope.rewrites import Rewritten, rewrite
from flopscope.rewrites.dataflow import Flow, is_depthwise
from flopscope.rewrites.folding import refuse_options
from flopscope.rewrites.fresh import PartialConv2d, Weights
from flopscope.rewrites.gates import gates
from flopscope.rewrites.surgery import Places, exchange, private, untouchable

__all__ = ["PURPOSE", "convolve_fully", "convolve_partially", "drop_gates", "obstacle", "settled"]

DIVISOR = 4  # FasterNet convolves a quarter of the channels (arXiv 2303.03667, section 3.3)
PURPOSE = "its layers are replaced"


@rewrite("drop-se", exact=False)
def drop_gates(model: nn.Module, trace: Trace, text: str | None = None) -> Rewritten:
    """Leave out squeeze-and-excitation; the function changes, the maps are no longer weighed.

    nn.Identity stands where it was.

    Args:
        model: in eval mode; left as it is.
        trace: of one call of it.
        text: None; the rewrite takes no options.

    Returns:
        The copy, with the paths of what was left out.

    Raises:
        InputError: there is none that is a module of its own, the model is in training mode, or options
            were given.
    """
    refuse_options("drop-se", text)
    copied = private(model, PURPOSE)
    flow, places = Flow(trace), Places(copied)
    reasons: dict[str, str] = {}
    runs: dict[str, int] = {}
    for gate in gates(flow):
        runs[gate.path] = runs.get(gate.path, 0) + 1
        reasons[gate.path] = reasons.get(gate.path) or gate.reason
    for path in reasons:
        if not reasons[path] and len(flow.calls(path)) != runs[path]:
            reasons[path] = "it is also called otherwise"
        reasons[path] = reasons[path] or obstacle(copied, path, places)
    for path in (path for path, reason in reasons.items() if not reason):
        exchange(copied, copied.get_submodule(path), nn.Identity().eval())
    return settled(copied, reasons, "squeeze-and-excitation blocks")


@rewrite("dw-to-conv", exact=False)
def convolve_fully(model: nn.Module, trace: Trace, text: str | None = None) -> Rewritten:
    """Make depthwise convolutions regular ones of the same kernel; the function changes, weights are fresh.

    Stride, padding, dilation, bias and widths stay, those of a depth multiplier too.

    Args:
        model: in eval mode; left as it is.
        trace: of one call of it.
        text: None; the rewrite takes no options.

    Returns:
        The copy, with the paths of the convolutions.

    Raises:
        InputError: there is none that can be replaced, the model is in training mode, or options were given.
    """
    refuse_options("dw-to-conv", text)
    copied = private(model, PURPOSE)
    weights, reasons = Weights(copied), dict[str, str]()
    for found in _depthwise(copied, Flow(trace)):
        reasons[found.path] = found.reason
        if found.layer is not None:
            weights.resize(found.layer, found.layer.in_channels, found.layer.out_channels)
    return settled(copied, reasons, "depthwise convolutions")


@rewrite("dw-to-pconv", exact=False)
def convolve_partially(model: nn.Module, trace: Trace, text: str | None = None) -> Rewritten:
    """Make depthwise convolutions partial ones, as FasterNet has; the function changes, weights are fresh.

    A regular convolution of the same kernel on the first quarter of the channels, the others pass through
    (arXiv 2303.03667). "dw-to-pconv=8" convolves an eighth.

    Args:
        model: in eval mode; left as it is.
        trace: of one call of it.
        text: the divisor of the channels, a whole number of at least 2; None for 4.

    Returns:
        The copy, with the paths of the convolutions.

    Raises:
        InputError: there is none that can be replaced, the model is in training mode, or the divisor is none.
    """
    divisor = _divisor(text)
    copied = private(model, PURPOSE)
    flow, weights, places = Flow(trace), Weights(copied), Places(copied)
    reasons = dict[str, str]()
    for found in list(_depthwise(copied, flow)):
        reasons[found.path] = found.reason
        if found.layer is None:
            continue
        if reason := _no_partial(found.layer, found.path, flow, divisor) or _loose(found.layer, places):
            reasons[found.path] = reason
        else:
            partial = PartialConv2d.replacing(found.layer, divisor, weights)
            copied = exchange(copied, found.layer, partial)
    return settled(copied, reasons, "depthwise convolutions")


@dataclass(frozen=True, slots=True)
class _Depthwise:
    """A depthwise convolution of the run: its layer, or the reason why there is none to replace."""

    path: str
    layer: nn.Conv2d | None
    reason: str = ""


def _depthwise(model: nn.Module, flow: Flow) -> Iterator[_Depthwise]:
    """The depthwise convolutions that ran, each once, in the order of the run."""
    places = Places(model)
    paths = [flow.path(index) for index, op in enumerate(flow.trace.ops) if is_depthwise(op)]
    for path in dict.fromkeys(paths):
        layer = model.get_submodule(path)
        if not isinstance(layer, nn.Conv2d):
            reason = f"{type(layer).__name__} convolves in its own forward, without a layer"
            yield _Depthwise(path, None, reason)
        elif reason := untouchable(layer) or _tied(layer, places):
            yield _Depthwise(path, None, reason)
        else:
            yield _Depthwise(path, layer)


def _no_partial(layer: nn.Conv2d, path: str, flow: Flow, divisor: int) -> str:
    """Why no partial convolution can stand in the layer's place, or ""."""
    if max(layer.stride) > 1:
        stride = max(layer.stride)
        return f"stride {stride}: a partial convolution passes channels through, so it cannot shrink the map"
    if layer.out_channels != layer.in_channels:
        return (
            f"{layer.in_channels} -> {layer.out_channels} channels: "
            "a partial convolution passes channels through, so it cannot add any"
        )
    if any(call.input_shapes != call.output_shapes for call in flow.calls(path)):
        return "its padding changes the size of the map, which a partial convolution keeps"
    if layer.in_channels < divisor:
        return f"{layer.in_channels} channels: one in {divisor} of them is none"
    return ""


def _divisor(text: str | None) -> int:
    if text is None:
        return DIVISOR
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and int(digits) >= 2):
        raise InputError(
            f"dw-to-pconv convolves one in so many channels, and {text!r} is no number of at least 2",
            hint=f"write dw-to-pconv alone (one in {DIVISOR}) or dw-to-pconv=2",
        )
    return int(digits)


def _tied(module: nn.Module, places: Places) -> str:
    return "its numbers are tied to another module's" if places.tied(module) else ""


def _loose(module: nn.Module, places: Places) -> str:
    return "it is also held outside the module tree" if places.loose(module) else ""


def obstacle(model: nn.Module, path: str, places: Places) -> str:
    """Why the module at `path` cannot be exchanged for another, or ""."""
    module = model.get_submodule(path)
    if module._forward_hooks or module._forward_pre_hooks:
        return "it has forward hooks"
    return _loose(module, places)


def settled(copied: nn.Module, reasons: dict[str, str], what: str) -> Rewritten:
    """What was made, by the reason of each path, "" for what was changed.

    Raises:
        InputError: nothing was changed.
    """
    changed = tuple(path for path, reason in reasons.items() if not reason)
    skipped = tuple(
        f"{path or type(copied).__name__}: {reason}" for path, reason in reasons.items() if reason
    )
    if not changed:
        raise _nothing(type(copied).__name__, what, skipped)
    return Rewritten(copied, changed, skipped)


def _nothing(model: str, what: str, skipped: Sequence[str]) -> InputError:
    """The error where nothing was changed, with the reasons."""
    if not skipped:
        return InputError(f"{model} has no {what}", hint="they are looked for in what one call runs")
    more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
    return InputError(
        f"none of the {what} of {model} can be replaced: {skipped[0]}{more}",
        hint="docs/rewrites-inexact.md tells what is left alone and why",
    )
