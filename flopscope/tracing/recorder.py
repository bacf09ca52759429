"""A running model -> raw notes of every module call and operator: the hot path.

Nothing is made here that can be made after the run: layouts and argument lists are interned,
records are built by `building`. On the meta route an operator that was seen before with equal
arguments does not run again; its results are made from the layouts noted the first time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import zip_longest
from math import prod
from threading import get_ident
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from flopscope.records import Input

from .ledger import META, Ledger
from .nests import flat_tensors, mapped, shapes
from .notes import Block, Call, Dispatch, Mark, Seen, Signature
from .operators import Plan, fused_attention, in_cpu_format, plan

# In-run constants up to this size (arange, linspace, masks of one sequence) stay real on the meta
# route, so that control flow on them works as it does in a real run.
CONSTANT_NUMEL = 65536
LARGEST_CONSTANT = 1 << 22  # what is computed of them, a mask of all pairs of tokens say

_HASHABLE = frozenset({torch.dtype, torch.device, torch.layout, torch.memory_format, complex})
_CONVOLUTION = "aten::convolution"
_ATTENTION = "aten::scaled_dot_product_attention"


class Recorder(TorchDispatchMode):
    """Notes module calls (by global hooks) and operators (by dispatch) of one run.

    Args:
        modules: id of every registered module -> its index.
        state: id of every parameter and buffer -> (role, path).
        keep: tells of an operator name whether it is priced whole.
        meta: run without data: tensors of the model are replaced by twins on the meta device.
        device: the type of the device that the run stands for.
    """

    def __init__(
        self,
        modules: dict[int, int],
        *,
        state: dict[int, tuple[str, str]],
        keep: Callable[[str], bool],
        meta: bool,
        device: str,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.ops: list[tuple[Signature, int, tuple[Seen, ...], tuple[Seen, ...]]] = []
        self.failures: list[tuple[BaseException, int]] = []
        self.marks: list[Mark] = []  # by op; none where all that is recorded is a forward
        self._ledger = Ledger(state, self.ops, meta=meta)
        self._modules = modules
        self._keep = keep
        self._stack: list[int] = []
        self._entered: list[bool] = []
        self._thread = get_ident()
        self._plans: dict[Any, Plan] = {}
        self._signatures: dict[Any, Signature] = {}
        self._meta = meta
        self._device = device
        self._lower: torch.dtype | None = None
        self._asks_cpu = device == "cpu"

    @property
    def blocks(self) -> list[Block]:
        """The storages of the run."""
        return self._ledger.blocks

    def expect(self, tensor: torch.Tensor) -> None:
        """Note an argument of the model, which the caller holds during the whole run."""
        self._ledger.expect(tensor)

    def close(self) -> None:
        """Stop noting: the run is over. Its output must still be held."""
        self._ledger.close()

    def heed_autocast(self) -> None:
        """Look whether autocast is on: inside a dispatch it always looks off."""
        enabled = self._meta and torch.is_autocast_enabled(self._device)
        self._lower = torch.get_autocast_dtype(self._device) if enabled else None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare every operator a wrapper that only torch.compile needs, and the process its import."""
        return False

    # ----------------------------------------------------------------- module calls

    def enter(self, module: nn.Module, _args: Any) -> None:
        """Forward pre-hook of every module."""
        if get_ident() != self._thread:
            return  # the hooks are global: another thread runs a model of its own
        index = self._modules.get(id(module))
        self._entered.append(index is not None)
        if index is not None:
            parent = self._stack[-1] if self._stack else None
            self._stack.append(len(self.calls))
            self.calls.append(Call(index, parent, len(self.ops)))

    def leave(self, _module: nn.Module, args: Any, *rest: Any) -> None:
        """Forward hook of every module: `rest` is its keyword arguments and its result.

        It is called after exceptions too; torch then leaves the keyword arguments out.
        """
        if get_ident() != self._thread or not self._entered or not self._entered.pop():
            return
        call = self.calls[self._stack.pop()]
        call.end_op = len(self.ops)
        call.inputs = (*shapes(args), *shapes(rest[0])) if len(rest) > 1 and rest[0] else shapes(args)
        call.outputs = shapes(rest[-1])
        failure = sys.exc_info()[1]
        if failure is not None and all(known is not failure for known, _ in self.failures):
            self.failures.append((failure, call.module))

    # ----------------------------------------------------------------- operators

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operator = self._plans.get(func)
        if operator is None:
            operator = self._plans[func] = plan(func, self._keep)
        if operator.silent:
            return func(*args, **(kwargs or {}))
        if operator.lowered and self._lower is not None:
            args = mapped(args, self._lowered)
        if operator.decompose:
            return self._in_parts(func, args, kwargs or {})
        tensors: list[Seen] = []
        key: list[Any] = [func]
        for value in args:
            self._note(value, key, tensors)
        if kwargs:
            for name, value in kwargs.items():
                key.append(name)
                self._note(value, key, tensors)
        if len(tensors) > 1:
            storages = [seen.storage for seen in tensors]
            if len(set(storages)) < len(storages):
                key.append(tuple((storages.index(seen.storage), seen.offset) for seen in tensors))
        signature = self._signatures.get(tuple(key))
        if signature is not None and signature.memo:
            return self._repeat(signature, args, tensors)
        call = Dispatch(func, operator, args, kwargs or {})
        call.key, call.tensors, call.signature = key, tensors, signature
        return self._run(call)

    def _add(self, signature: Signature, tensors: list[Seen], outputs: tuple[Seen, ...]) -> None:
        """Write an operator down, in the call of the module that is running."""
        self.ops.append((signature, self._stack[-1] if self._stack else 0, tuple(tensors), outputs))

    def _lowered(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor as autocast would hand it on, the conversion recorded."""
        if tensor.dtype in (self._lower, torch.float64) or not tensor.is_floating_point():
            return tensor
        with self:
            return tensor.to(self._lower)

    def _repeat(self, signature: Signature, args: Any, tensors: list[Seen]) -> Any:
        """Answer a call whose like was seen before: new tensors of the noted layouts."""
        if signature.plan.in_place:
            self._add(signature, tensors, (tensors[0],))
            return args[0]
        results = tuple(self._ledger.new(layout) for layout in signature.layouts)
        outputs = tuple(tensor._flopscope for tensor in results)  # type: ignore[attr-defined]
        self._add(signature, tensors, outputs)
        return results[0] if signature.single else results

    def _run(self, call: Dispatch) -> Any:
        """Run an operator for the first time with these arguments, or without memory of them."""
        if self._meta:
            self._without_data(call)
        if call.plan.name == _ATTENTION and self._asks_cpu:
            return self._attention(call)
        stand_in = call.plan.stand_in if self._meta or call.plan.always_stands_in else None
        result = (stand_in or call.func)(*call.args, **call.kwargs)
        if self._meta and self._asks_cpu and call.plan.name == _CONVOLUTION:
            result = in_cpu_format(result, *call.args[:2])
        return self._noted(call, result)

    def _noted(self, call: Dispatch, result: Any) -> Any:
        """Note an operator that ran; give back what the model is to see of its result."""
        if call.plan.resizes:
            self._ledger.look_again(call.args[0])
        known = len(self._ledger.blocks)
        outputs = tuple(self._ledger.look(tensor) for tensor in flat_tensors(result))
        signature = call.signature
        if signature is None:
            signature = self._new_signature(call)
            self._remember(signature, call, result, outputs, fresh=len(self._ledger.blocks) - known)
        self._add(signature, call.tensors, outputs)
        if len(outputs) == 1 and outputs[0].original is not None and isinstance(result, torch.Tensor):
            return outputs[0].original
        return result

    def _remember(
        self, signature: Signature, call: Dispatch, result: Any, outputs: tuple[Seen, ...], *, fresh: int
    ) -> None:
        """Decide whether equal calls may be answered from now on without running."""
        if not self._meta or not outputs or any(seen.real for seen in outputs):
            return
        signature.single = isinstance(result, torch.Tensor)
        signature.layouts = tuple(seen.layout for seen in outputs)
        if call.plan.in_place:
            signature.memo = bool(call.tensors) and outputs[0] is call.tensors[0]
        elif call.plan.memo and fresh == len(outputs):
            signature.memo = signature.single or (isinstance(result, tuple) and len(result) == fresh)

    def _in_parts(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if self._meta:
            args = mapped(args, self._ledger.twin)
            kwargs = {name: mapped(value, self._ledger.twin) for name, value in kwargs.items()}
        with self:
            return func.decompose(*args, **kwargs)

    def _attention(self, call: Dispatch) -> Any:
        """Attention, fused or in parts: whichever the CPU would choose for these layouts."""
        if not fused_attention(*call.args, **call.kwargs):
            with self:
                parts = torch.ops.aten._scaled_dot_product_attention_math.default
                return parts.decompose(*call.args, **call.kwargs)[0]
        if not self._meta:
            return self._noted(call, call.func(*call.args, **call.kwargs))
        # The fused CPU kernel lays its result out as its query is.
        return self._noted(call, torch.empty_like(call.args[0]))

    # ----------------------------------------------------------------- running without data

    def _without_data(self, call: Dispatch) -> None:
        """Turn the arguments of `call` into ones that hold no data.

        Constants that the run itself made stay real among themselves; as soon as one meets a
        tensor without data, or one of the model's, all are replaced by twins on meta.
        """
        if call.plan.factory:
            self._without_device(call)
            return
        if call.plan.reads:
            return
        if (
            call.tensors
            and all(seen.real for seen in call.tensors)
            and _spread(call.tensors) <= LARGEST_CONSTANT
        ):
            self._replace_device(call, torch.device("cpu"))
            return
        for index in self._written(call):
            call.tensors[index].real = False  # its values are no longer what the run would see
        call.args = mapped(call.args, self._ledger.twin)
        call.kwargs = {name: mapped(value, self._ledger.twin) for name, value in call.kwargs.items()}
        self._replace_device(call, META)

    def _without_device(self, call: Dispatch) -> None:
        """Make a large new tensor on meta, and a small one for real, so that its values exist."""
        asked = call.kwargs.get("device")
        if call.plan.device_at is None or (asked is not None and torch.device(asked).type == "meta"):
            return
        args, kwargs = call.args, call.kwargs
        call.kwargs = {**kwargs, "device": META}
        size = call.func(*args, **call.kwargs).numel()
        if size <= CONSTANT_NUMEL:
            call.kwargs = {**kwargs, "device": torch.device("cpu")}

    def _replace_device(self, call: Dispatch, device: torch.device) -> None:
        """Keep what a call makes where its arguments are, whatever device it asks for."""
        place = call.plan.device_at
        if place is None:
            return
        if call.kwargs.get("device") is not None:
            call.kwargs = {**call.kwargs, "device": device}
        elif len(call.args) > place and call.args[place] is not None:
            call.args = (*call.args[:place], device, *call.args[place + 1 :])

    def _note(self, value: Any, key: list[Any], tensors: list[Seen]) -> None:
        """Add an argument to the key of its call, and its tensors to the list of them."""
        kind = type(value)
        if isinstance(value, torch.Tensor):
            seen = getattr(value, "_flopscope", None)
            if seen is None:
                seen = self._ledger.see(value)
            tensors.append(seen)
            key.append(seen.layout)
            if seen.real:
                key.append(META)  # what is answered without data must not answer where there are some
        elif kind is int or kind is str or value is None:
            key.append(value)
        elif kind is bool or kind is float:
            key.append(kind)
            key.append(value)
        elif kind is list or kind is tuple:
            key.append(len(value))
            for item in value:
                self._note(item, key, tensors)
        else:
            key.append(value if kind in _HASHABLE else id(value))

    # ----------------------------------------------------------------- signatures

    def _new_signature(self, call: Dispatch) -> Signature:
        count = iter(range(len(call.tensors)))
        arguments: dict[str, Any] = {}
        for name, value in zip(call.plan.arguments, call.args, strict=False):
            arguments[name] = _plain(value, count)
        for name, value in call.kwargs.items():
            arguments[name] = _plain(value, count)
        arguments.update(call.plan.extra)
        for value in call.args:
            if isinstance(value, torch.ScriptObject) and hasattr(value, "unpack"):
                arguments["weight_shape"] = tuple(value.unpack()[0].shape)
        signature = Signature(len(self._signatures), call.plan, arguments, self._written(call))
        self._signatures[tuple(call.key)] = signature
        return signature

    def _written(self, call: Dispatch) -> tuple[int, ...]:
        """Indices, among the call's tensors, of those that it changes in place."""
        if not call.plan.written:
            return ()
        named = [*zip(call.plan.arguments, call.args, strict=False), *call.kwargs.items()]
        place = 0
        written: list[int] = []
        for name, value in named:
            width = len(flat_tensors(value))
            if name in call.plan.written:
                written.extend(range(place, place + width))
            place += width
        return tuple(written)


def _spread(tensors: list[Seen]) -> int:
    """The elements of what these tensors broadcast to: the most that an operator on them makes."""
    ranks = zip_longest(*(reversed(seen.layout.shape) for seen in tensors), fillvalue=1)
    return prod(max(sizes) for sizes in ranks)


def _plain(value: Any, count: Iterator[int]) -> Any:
    """An argument as a plain value: tensors become placeholders, torch's own types text."""
    if isinstance(value, torch.Tensor):
        return Input(next(count))
    if isinstance(value, list | tuple):
        return tuple(_plain(item, count) for item in value)
    if value is None or isinstance(value, bool | int | float | complex | str):
        return value
    return str(value).removeprefix("torch.") if type(value) in _HASHABLE else type(value).__name__
