"""An exception from a forward -> which module failed, what it expected and what it got."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor, nn

from flopscope.inputs.entries import Entry, entry
from flopscope.inputs.repairs import batched, corrected, replaced, source
from flopscope.inputs.specs import Inputs, Spec, leaf_dtype, shape_text


@dataclass(frozen=True, slots=True)
class Failure:
    """Where and why a forward failed, and on which tensors if the traceback still tells."""

    call: Inputs
    exc: BaseException
    model: nn.Module
    module: nn.Module
    path: str
    type: str
    given: tuple[Tensor, ...]
    takes: Entry | None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a module expected and got; `repairs` are calls that may work, `advice` introduces one."""

    fact: str
    repairs: tuple[Inputs, ...] = ()
    advice: str = ""
    remark: str = ""
    guess: bool = True


def located(model: nn.Module, exc: BaseException, *, call: Inputs, path: str | None) -> Failure:
    """Find the innermost module in the traceback, and the tensors it was called on.

    The frames of a traceback still hold the arguments of every forward, so that what a module
    got need not be read out of torch's messages, which change. What ran may have been a copy of
    `model`: then `path` is needed, and the innermost module of its class is taken.
    """
    paths = {id(module): name for name, module in model.named_modules()}
    named = dict(model.named_modules()).get(path) if path is not None else None
    found, module = path or "", named or model
    given: tuple[Tensor, ...] = ()
    for frame in _frames(exc):
        ran = frame.f_locals.get("self")
        owner = paths.get(id(ran)) if named is None else path
        is_meant = owner is not None if named is None else type(ran) is type(named)
        if isinstance(ran, nn.Module) and is_meant:
            given = _arguments(frame) or (given if ran is module else ())
            found, module = owner or "", ran
    return Failure(call, exc, model, module, found, type(module).__name__, given, entry(found, module))


def finding(failure: Failure) -> Finding | None:
    """Ask every rule what the module expected; None where none of them knows."""
    return next((found for rule in _RULES if (found := rule(failure))), None)


def needs_values(exc: BaseException) -> bool:
    """Tell whether a run without data failed only because the model looked at a value."""
    text = str(exc).lower()
    return isinstance(exc, RuntimeError) and ("meta tensor" in text or "register_meta function" in text)


def first_line(exc: BaseException) -> str:
    """The first line of an exception's message, cut to 300 characters."""
    lines = str(exc).strip().splitlines() or [""]
    return lines[0] if len(lines[0]) <= 300 else lines[0][:297] + "..."


def _out_of_memory(failure: Failure) -> Finding | None:
    said = str(failure.exc).lower()
    if not isinstance(failure.exc, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in said:
        return None
    return Finding(
        f"out of memory: {first_line(failure.exc)}",
        advice="give a smaller batch, or count without running: flopscope.count, --no-latency",
        guess=False,
    )


def _not_indices(failure: Failure) -> Finding | None:
    """An embedding was given numbers that are not integers, or integers beyond its rows."""
    takes = failure.takes
    if takes is None or takes.role != "indices" or not failure.given:
        return None
    got = failure.given[0]
    leading = source(failure.call, got)
    if got.dtype not in (torch.int64, torch.int32):
        fact = f"indices must be int64 or int32, got {_name(got.dtype)}"
        if leading is None or len(leading.shape) > 2:
            return Finding(fact)
        remark = f"values are drawn from 0..num_embeddings-1 = 0..{takes.size - 1}"
        return Finding(fact, (replaced(failure.call, leading, Spec(leading.shape, "int64")),), remark=remark)
    if not isinstance(failure.exc, IndexError):
        return None
    fact = f"indices must lie in 0..num_embeddings-1 = 0..{takes.size - 1}"
    if got.numel() and got.device.type != "meta":
        fact += f", got {int(got.min())}..{int(got.max())}"
    bounded = Spec(tuple(got.shape), "int64", high=takes.size)
    return Finding(fact, (replaced(failure.call, leading, bounded),) if leading is not None else ())


def _needs_values(failure: Failure) -> Finding | None:
    """The model asks for the value of a tensor that has none."""
    on_meta = any(parameter.device.type == "meta" for parameter in failure.model.parameters())
    if not on_meta or not needs_values(failure.exc):
        return None
    return Finding(
        f"the model needs values, but is on the meta device: {first_line(failure.exc)}",
        advice="build the model on a real device (without torch.device('meta'))",
        guess=False,
    )


def _other_device(failure: Failure) -> Finding | None:
    """A layer and its input live on two devices; the meta device is but a route of ours."""
    weight = next(failure.module.parameters(recurse=False), None)
    places = [str(item.device) for item in (weight, *failure.given[:1]) if item is not None]
    if len(set(places)) < 2 or "meta" in places:
        return None
    return Finding(
        f"weights are on {places[0]}, the input is on {places[1]}",
        advice="give shapes instead of tensors, or put the model and its tensors on one device",
        guess=False,
    )


def _other_dtype(failure: Failure) -> Finding | None:
    """A layer with weights of one dtype was given another."""
    floats = (item for item in failure.module.parameters(recurse=False) if item.is_floating_point())
    weight = next(floats, None)
    takes_numbers = failure.takes is not None and failure.takes.role != "indices"
    if weight is None or not failure.given or not takes_numbers or failure.given[0].dtype == weight.dtype:
        return None
    got = failure.given[0]
    fact = f"expected {_name(weight.dtype)} like its weights, got {_name(got.dtype)}"
    leading = source(failure.call, got)
    if leading is None or leaf_dtype(leading) is None:
        return Finding(fact, advice="the model mixes dtypes; convert all of it: --dtype", guess=False)
    bare = replaced(failure.call, leading, Spec(tuple(leading.shape)))
    return Finding(fact, (bare,), advice="leave the dtype out, then the model's own is taken:")


def _other_axes(failure: Failure) -> Finding | None:
    """The input of a layer has another number of axes, channels or features than it takes."""
    takes = failure.takes
    if takes is None or not failure.given:
        return None
    shape = tuple(failure.given[0].shape)
    fact = _axes_fact(takes, failure.module, shape)
    if fact is None:
        return None
    whole = batched(failure.call, failure.model)
    if whole is not None:
        return Finding(fact, (whole,), advice="the batch dimension is part of the shape:")
    leading = source(failure.call, failure.given[0])
    if leading is None:  # the layer is not fed by an argument: its own shape says nothing to the user
        return Finding(fact)
    repairs = [replaced(failure.call, leading, spec, alike=True) for spec in corrected(takes, leading)]
    return Finding(fact, tuple(repairs))


def _axes_fact(takes: Entry, module: nn.Module, shape: tuple[int, ...]) -> str | None:
    """What a layer expected of a shape's axes and what it got; None where they are as expected."""
    if takes.role == "features":
        return _features_fact(takes, shape)
    if takes.role != "channels":
        return None
    axes, has_kernel = takes.spatial + 2, hasattr(module, "kernel_size")
    is_unbatched = len(shape) == axes - 1 and (has_kernel or "InstanceNorm" in takes.type)
    is_free = "GroupNorm" in takes.type or ("Norm1d" in takes.type and len(shape) == 2)
    if len(shape) != axes and not is_unbatched and not (is_free and len(shape) >= 2):
        return f"expected {axes}D input (got {len(shape)}D input)"
    got = shape[0] if is_unbatched and not is_free else shape[1]
    if takes.size and got != takes.size:
        return f"expected {takes.size} channels, got {got}"
    return _too_small(takes, module, shape) if has_kernel and not takes.grows else None


def _features_fact(takes: Entry, shape: tuple[int, ...]) -> str | None:
    if takes.sequence == "time_first" and len(shape) < 2:
        return f"expected 3D input (got {len(shape)}D input)"
    if shape[max(len(shape) - len(takes.tail), 0) :] == takes.tail:
        return None
    if len(takes.tail) == 1 and shape:
        return f"expected {takes.size} features, got {shape[-1]} (in {shape_text(shape)})"
    return f"expected a shape that ends in {shape_text(takes.tail)}, got {shape_text(shape)}"


def _too_small(takes: Entry, module: nn.Module, shape: tuple[int, ...]) -> str | None:
    """Say so where the kernel does not fit into the padded input: n + 2 p < d (k - 1) + 1."""
    kernel, padding = _tuple(module, "kernel_size"), _tuple(module, "padding")
    dilation = _tuple(module, "dilation")
    if not len(kernel) == len(padding) == len(dilation) == takes.spatial:
        return None
    sizes = shape[-takes.spatial :]
    reach = [d * (k - 1) + 1 - 2 * p for k, p, d in zip(kernel, padding, dilation, strict=True)]
    if all(size >= need for size, need in zip(sizes, reach, strict=True)):
        return None
    return f"expected an input of at least {shape_text(reach)}, got {shape_text(sizes)}"


def _tuple(module: nn.Module, name: str) -> tuple[int, ...]:
    value = getattr(module, name, ())
    return tuple(value) if isinstance(value, (tuple, list)) and all(isinstance(n, int) for n in value) else ()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _frames(exc: BaseException) -> Iterator[FrameType]:
    trace = exc.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _arguments(frame: FrameType) -> tuple[Tensor, ...]:
    """The tensors among a method's own arguments, in order."""
    names = frame.f_code.co_varnames[1 : frame.f_code.co_argcount]
    values = [frame.f_locals.get(name) for name in names]
    return tuple(value for value in values if isinstance(value, Tensor))


_RULES: tuple[Callable[[Failure], Finding | None], ...] = (
    _out_of_memory,
    _not_indices,
    _needs_values,
    _other_device,
    _other_axes,
    _other_dtype,
)
