"""A running model -> raw notes of every module call and operator: the hot path.

Nothing is made here that can be made after the run: layouts and argument lists are interned,
records are built by `building`. On the meta route an operator that was seen before with equal
arguments does not run again; its results are made from the layouts noted the first time.
"""

from __future__ import annotations

import dataclasses
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from flopscope.records import Input

from .operators import Plan, fused_attention, in_cpu_format, plan

# In-run constants up to this size (arange, linspace, masks of one sequence) stay real on the meta
# route, so that control flow on them works as it does in a real run.
CONSTANT_NUMEL = 65536

META = torch.device("meta")

_HASHABLE = frozenset(
    {torch.dtype, torch.device, torch.layout, torch.memory_format, complex}
)
_CONVOLUTION = "aten::convolution"
_ATTENTION = "aten::scaled_dot_product_attention"


class Layout:
    """Shape, strides and dtype of a tensor; one object per distinct combination."""

    __slots__ = ("dtype", "shape", "strides")

    def __init__(self, dtype: torch.dtype, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.shape = shape
        self.strides = strides


class Seen:
    """One tensor of the run: its layout and the storage that it looks at."""

    __slots__ = ("layout", "offset", "original", "real", "spec", "storage")

    def __init__(self, layout: Layout, storage: int, offset: int, *, real: bool = False) -> None:
        self.layout = layout
        self.storage = storage
        self.offset = offset
        self.real = real
        self.original: Any = None
        self.spec: Any = None


class Block:
    """A storage of the run: its size, role and life. `ref` is a weak reference to it."""

    __slots__ = ("born", "died", "name", "nbytes", "ref", "role")

    def __init__(self, nbytes: int, role: str, name: str | None, born: int) -> None:
        self.nbytes = nbytes
        self.role = role
        self.name = name
        self.born = born
        self.died: int | None = None
        self.ref: Any = None


class Signature:
    """One operator with one set of arguments: everything that its calls share."""

    __slots__ = ("arguments", "index", "layouts", "memo", "plan", "single", "written")

    def __init__(self, index: int, operator: Plan, arguments: dict[str, Any], written: tuple[int, ...]) -> None:
        self.index = index
        self.plan = operator
        self.arguments = arguments
        self.written = written
        self.memo = False
        self.layouts: tuple[Layout, ...] = ()
        self.single = False


class Dispatch:
    """One operator on its way: what came in, and what is known of it."""

    __slots__ = ("args", "func", "key", "kwargs", "plan", "signature", "tensors")

    def __init__(self, func: Any, operator: Plan, args: Any, kwargs: dict[str, Any]) -> None:
        self.func = func
        self.plan = operator
        self.args = args
        self.kwargs = kwargs
        self.key: list[Any] = []
        self.tensors: list[Seen] = []
        self.signature: Signature | None = None


class Call:
    """One execution of a module, as noted while it ran."""

    __slots__ = ("end_op", "first_op", "inputs", "module", "outputs", "parent")

    def __init__(self, module: int, parent: int | None, first_op: int) -> None:
        self.module = module
        self.parent = parent
        self.first_op = first_op
        self.end_op = first_op
        self.inputs: tuple[tuple[int, ...], ...] = ()
        self.outputs: tuple[tuple[int, ...], ...] = ()


class Recorder(TorchDispatchMode):
    """Notes module calls (by global hooks) and operators (by dispatch) of one run.

    Args:
        modules: id of every registered module -> its index.
        state: id of every parameter and buffer -> (role, path).
        keep: tells of an operator name whether it is priced whole.
        meta: run without data: tensors of the model are replaced by twins on the meta device.
        asks_cpu: attention runs as the CPU would choose, fused or in parts.
    """

    def __init__(
        self,
        modules: dict[int, int],
        *,
        state: dict[int, tuple[str, str]],
        keep: Callable[[str], bool],
        meta: bool,
        asks_cpu: bool,
    ) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.ops: list[tuple[Signature, int, tuple[Seen, ...], tuple[Seen, ...]]] = []
        self.blocks: list[Block] = []
        self.failures: list[tuple[BaseException, int]] = []
        self._modules = modules
        self._state = state
        self._keep = keep
        self._stack: list[int] = []
        self._entered: list[bool] = []
        self._plans: dict[Any, Plan] = {}
        self._layouts: dict[Any, Layout] = {}
        self._signatures: dict[Any, Signature] = {}
        self._storages: dict[int, int] = {}
        self._known: dict[int, Seen] = {}
        self._twins: dict[int, torch.Tensor] = {}
        self._held: list[Any] = []
        self._meta = meta
        self._asks_cpu = asks_cpu
        self._closed = False

    # ----------------------------------------------------------------- module calls

    def enter(self, module: nn.Module, args: Any) -> None:
        """Forward pre-hook of every module."""
        index = self._modules.get(id(module))
        self._entered.append(index is not None)
        if index is not None:
            parent = self._stack[-1] if self._stack else None
            self._stack.append(len(self.calls))
            self.calls.append(Call(index, parent, len(self.ops)))

    def leave(self, module: nn.Module, args: Any, *rest: Any) -> None:
        """Forward hook of every module: `rest` is its keyword arguments and its result.

        It is called after exceptions too; torch then leaves the keyword arguments out.
        """
        if not self._entered or not self._entered.pop():
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

    def _repeat(self, signature: Signature, args: Any, tensors: list[Seen]) -> Any:
        """Answer a call whose like was seen before: new tensors of the noted layouts."""
        if signature.plan.in_place:
            self.ops.append((signature, self._stack[-1] if self._stack else 0, tuple(tensors), (tensors[0],)))
            return args[0]
        results = []
        outputs = []
        for layout in signature.layouts:
            tensor = torch.empty_strided(layout.shape, layout.strides, dtype=layout.dtype, device="meta")
            seen = Seen(layout, self._new_storage(tensor.untyped_storage(), "activation", None), 0)
            tensor._flopscope = seen  # type: ignore[attr-defined]
            results.append(tensor)
            outputs.append(seen)
        self.ops.append((signature, self._stack[-1] if self._stack else 0, tuple(tensors), tuple(outputs)))
        return results[0] if signature.single else tuple(results)

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
            self._look_again(call.args[0])
        known = len(self.blocks)
        outputs = tuple(self._look(tensor) for tensor in flat_tensors(result))
        signature = call.signature
        if signature is None:
            signature = self._new_signature(call)
            self._remember(signature, call, result, outputs, fresh=len(self.blocks) - known)
        self.ops.append((signature, self._stack[-1] if self._stack else 0, tuple(call.tensors), outputs))
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
            args = mapped(args, self._twin)
            kwargs = {name: mapped(value, self._twin) for name, value in kwargs.items()}
        with self:
            return func.decompose(*args, **kwargs)

    def _attention(self, call: Dispatch) -> Any:
        """Attention, fused or in parts: whichever the CPU would choose for these layouts."""
        if not fused_attention(*call.args, **call.kwargs):
            with self:
                return torch.ops.aten._scaled_dot_product_attention_math.default.decompose(*call.args, **call.kwargs)[0]
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
        if call.plan.reads or (call.tensors and all(seen.real for seen in call.tensors)):
            return
        for index in self._written(call):
            call.tensors[index].real = False  # its values are no longer what the run would see
        call.args = mapped(call.args, self._twin)
        call.kwargs = {name: mapped(value, self._twin) for name, value in call.kwargs.items()}
        self._replace_device(call)

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

    def _replace_device(self, call: Dispatch) -> None:
        place = call.plan.device_at
        if place is None:
            return
        if call.kwargs.get("device") is not None:
            call.kwargs = {**call.kwargs, "device": META}
        elif len(call.args) > place and call.args[place] is not None:
            call.args = (*call.args[:place], META, *call.args[place + 1 :])

    def _twin(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor itself if it is on meta, else a stand-in of the same layout that is."""
        if tensor.is_meta:
            return tensor
        twin = self._twins.get(id(tensor))
        if twin is None:
            seen = self._see(tensor)
            layout = seen.layout
            # A view of an ordinary tensor must be one too, even under inference mode.
            with torch.inference_mode(tensor.is_inference()):
                twin = torch.empty_strided(layout.shape, layout.strides, dtype=layout.dtype, device=META)
            self._storages[twin.untyped_storage()._cdata] = seen.storage
            stand_in = Seen(layout, seen.storage, seen.offset)
            stand_in.original = tensor
            twin._flopscope = stand_in  # type: ignore[attr-defined]
            self._twins[id(tensor)] = twin
            self._held.append(tensor)
        return twin

    # ----------------------------------------------------------------- tensors and storages

    def expect(self, tensor: torch.Tensor) -> None:
        """Note an argument of the model, which the caller holds during the whole run."""
        seen = self._known[id(tensor)] = self._first_look(tensor, "input", None)
        seen.real = self._meta and not tensor.is_meta
        self._held.append(tensor)

    def close(self, output: Any) -> None:
        """Stop noting when storages die: the run is over, and `output` has outlived it."""
        self._closed = True
        self._twins.clear()
        self._known.clear()
        self._held.clear()

    def _note(self, value: Any, key: list[Any], tensors: list[Seen]) -> None:
        """Add an argument to the key of its call, and its tensors to the list of them."""
        kind = type(value)
        if isinstance(value, torch.Tensor):
            seen = getattr(value, "_flopscope", None)
            if seen is None:
                seen = self._see(value)
            tensors.append(seen)
            key.append(seen.layout)
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

    def _see(self, tensor: torch.Tensor) -> Seen:
        """What is known of a tensor that the run did not make."""
        seen = self._known.get(id(tensor))
        if seen is None:
            role, name = self._state.get(id(tensor), ("constant", None))
            seen = self._known[id(tensor)] = self._first_look(tensor, role, name)
            self._held.append(tensor)
        return seen

    def _look(self, tensor: torch.Tensor) -> Seen:
        """What is known of a tensor that an operator returned."""
        seen: Seen | None = getattr(tensor, "_flopscope", None) or self._known.get(id(tensor))
        if seen is None:
            seen = self._first_look(tensor, "activation", None)
            seen.real = self._meta and not tensor.is_meta
            tensor._flopscope = seen  # type: ignore[attr-defined]
        return seen

    def _look_again(self, tensor: torch.Tensor) -> None:
        """Forget the layout of a tensor that an operator changed in place."""
        if id(tensor) in self._known:
            old = self._known.pop(id(tensor))
            self._known[id(tensor)] = Seen(self._layout(tensor), old.storage, tensor.storage_offset())
        elif hasattr(tensor, "_flopscope"):
            old = tensor._flopscope
            seen = Seen(self._layout(tensor), old.storage, tensor.storage_offset(), real=old.real)
            seen.original = old.original
            tensor._flopscope = seen

    def _first_look(self, tensor: torch.Tensor, role: str, name: str | None) -> Seen:
        layout = self._layout(tensor)
        try:
            storage = tensor.untyped_storage()
            offset = int(tensor.storage_offset())
        except (NotImplementedError, RuntimeError):  # sparse and other opaque tensors have none
            self.blocks.append(Block(tensor.numel() * tensor.element_size(), role, name, len(self.ops)))
            return Seen(layout, len(self.blocks) - 1, 0)
        index = self._storages.get(storage._cdata)
        if index is None:
            index = self._new_storage(storage, role, name)
        return Seen(layout, index, offset)

    def _new_storage(self, storage: Any, role: str, name: str | None) -> int:
        index = len(self.blocks)
        block = Block(storage.nbytes(), role, name, len(self.ops) if role == "activation" else -1)
        end = _End(storage, self._died)
        end.block = block
        end.key = storage._cdata
        block.ref = end
        self._storages[end.key] = index
        self.blocks.append(block)
        return index

    def _died(self, end: _End) -> None:
        if not self._closed:
            end.block.died = len(self.ops)
            self._storages.pop(end.key, None)

    def _layout(self, tensor: torch.Tensor) -> Layout:
        try:
            shape, strides = tuple(tensor.shape), tensor.stride()
        except RuntimeError:  # sparse tensors have no strides, nested ones not even a shape
            shape = (tensor.numel(),) if tensor.is_nested else tuple(tensor.shape)
            strides = contiguous_strides(shape)
        key = (tensor.dtype, shape, strides)
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = Layout(tensor.dtype, shape, strides)
        return layout

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
        place, written = 0, []
        for name, value in named:
            width = len(flat_tensors(value))
            if name in call.plan.written:
                written.extend(range(place, place + width))
            place += width
        return tuple(written)


class _End(weakref.ref):  # type: ignore[type-arg]
    """A weak reference that knows which storage's life it marks the end of."""

    __slots__ = ("block", "key")
    block: Block
    key: int


def _plain(value: Any, count: Iterator[int]) -> Any:
    """An argument as a plain value: tensors become placeholders, torch's own types text."""
    if isinstance(value, torch.Tensor):
        return Input(next(count))
    if isinstance(value, list | tuple):
        return tuple(_plain(item, count) for item in value)
    if value is None or isinstance(value, bool | int | float | complex | str):
        return value
    return str(value).removeprefix("torch.") if type(value) in _HASHABLE else type(value).__name__


def shapes(value: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of all tensors in a nest of tuples, lists, mappings and dataclasses."""
    if isinstance(value, torch.Tensor):
        return ((value.numel(),),) if value.is_nested else (tuple(value.shape),)
    return tuple(shape for tensor in flat_tensors(value) for shape in shapes(tensor))


def flat_tensors(value: Any) -> list[torch.Tensor]:
    """All tensors in a nest of tuples, lists, mappings and dataclasses, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in flat_tensors(item)]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in flat_tensors(item)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [tensor for item in dataclasses.fields(value) for tensor in flat_tensors(getattr(value, item.name))]
    return []


def mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same nest of tuples and lists with every tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple) and value:
        return type(value)(mapped(item, change) for item in value)
    return value


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a dense tensor of this shape."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))
