"""OpCall and its rebuilt arguments -> a call that takes the same way into torch as a model's does.

Python's fast bindings (`torch.add`) cost some microseconds less than `torch.ops`; which binding belongs
to an operator is not guessed but tried: it must dispatch to the same operator.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from flopscope.convolutions import spread
from flopscope.records import OpCall

# Whatever torch raises at arguments that it does not like.
REFUSALS = (
    RuntimeError,  # NotImplementedError and out-of-memory errors of torch included
    TypeError,
    ValueError,
    IndexError,
    KeyError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
)

_BUILT_IN = (types.BuiltinFunctionType, types.MethodDescriptorType)


def entry(op: OpCall, arguments: Mapping[str, Any]) -> Callable[[], Any] | None:
    """A call without arguments that runs `op`; None where torch has no operator that takes them."""
    if op.op in ("aten::convolution", "aten::_convolution"):
        return _convolution(arguments)
    namespace, _, name = op.op.partition("::")
    packet = getattr(getattr(torch.ops, namespace), name, None)
    overload = None if packet is None else _reached(partial(packet, **arguments))
    if overload is None or overload.overloadpacket is not packet:
        return None
    args, kwargs = _in_order(overload, arguments)
    for binding in _bindings(name):
        called = partial(binding, *args, **kwargs)
        found = _reached(called)
        if found is not None and found.overloadpacket is packet:
            return called
    return partial(overload, *args, **kwargs)


def _convolution(arguments: Mapping[str, Any]) -> Callable[[], Any] | None:
    """`torch.conv2d` and its like, which is what models call."""
    source, weight = arguments["input"], arguments["weight"]
    rank = weight.dim() - 2
    stride = spread(arguments.get("stride"), rank, 1)
    padding = spread(arguments.get("padding"), rank, 0)
    dilation = spread(arguments.get("dilation"), rank, 1)
    groups = arguments.get("groups", 1)
    given = (source, weight, arguments.get("bias"), stride, padding)
    if arguments.get("transposed"):
        beyond = spread(arguments.get("output_padding"), rank, 0)
        binding = getattr(torch, f"conv_transpose{rank}d", None)
        return partial(binding, *given, beyond, groups, dilation) if binding else None
    binding = getattr(torch, f"conv{rank}d", None)
    return partial(binding, *given, dilation, groups) if binding else None


def _in_order(overload: Any, arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments by place, defaults filled in up to the last one given, and the keyword-only rest."""
    declared = [item for item in overload._schema.arguments if not item.kwarg_only]
    last = max((place for place, item in enumerate(declared) if item.name in arguments), default=-1)
    args = [arguments.get(item.name, item.default_value) for item in declared[: last + 1]]
    named = {item.name for item in declared}
    return args, {name: value for name, value in arguments.items() if name not in named}


def _bindings(name: str) -> Iterator[Any]:
    for place in (torch, torch._C._nn, torch.Tensor):
        binding = getattr(place, name, None)
        if isinstance(binding, _BUILT_IN):
            yield binding


def _reached(call: Callable[[], Any]) -> Any:
    """The operator that a call dispatches to first; nothing is computed. None where it refuses."""
    try:
        with _Watch():
            call()
    except _Reached as arrived:
        return arrived.operator
    except REFUSALS:
        return None
    return None


class _Reached(BaseException):
    """Ends a call as soon as it is known which operator it is."""

    def __init__(self, operator: Any) -> None:
        super().__init__()
        self.operator = operator


class _Watch(TorchDispatchMode):
    """Stops at the first operator."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # spares the process the import of torch.compile

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise _Reached(func)
