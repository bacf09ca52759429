"""Records made by hand: a run of a model, written down op by op."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

from flopscope.records import (
    Cost,
    Input,
    Module,
    ModuleCall,
    OpCall,
    OpCost,
    Parameter,
    Shape,
    Storage,
    TensorSpec,
    Trace,
)


class Run:
    """A trace in the making. Ops belong to the module call that is open; fp32 throughout.

    The price of an op is what is given as `macs` and `flops` (2·macs where only those are given);
    it reads its inputs and writes its outputs once, and a view does neither.
    """

    def __init__(self, type: str = "Net") -> None:
        self.modules = [Module("", type)]
        self.calls: list[ModuleCall] = []
        self.ops: list[OpCall] = []
        self.costs: list[OpCost] = []
        self.storages: list[Storage] = []
        self.parameters: list[Parameter] = []
        self._stack: list[int] = []
        self._known: dict[str, TensorSpec] = {}
        self._open("", type)

    def input(self, *shape: int) -> TensorSpec:
        return self._storage(shape, "input", None, -1)

    def parameter(self, path: str, *shape: int, module: str = "Linear") -> TensorSpec:
        """A parameter, made once; its owner is registered as a module if it is not yet."""
        if path not in self._known:
            owner = path.rpartition(".")[0]
            self.register(owner, module)
            self.parameters.append(Parameter(path, owner, shape, "float32", prod(shape), 4 * prod(shape)))
            self._known[path] = self._storage(shape, "parameter", path, -1)
        return self._known[path]

    def register(self, path: str, type: str) -> None:
        if path not in {module.path for module in self.modules}:
            self.modules.append(Module(path, type))

    @contextmanager
    def call(self, path: str, type: str) -> Iterator[None]:
        """Everything inside runs in a call of this module."""
        self.register(path, type)
        index = self._open(path, type)
        yield
        self._close(index)

    def op(
        self,
        name: str,
        /,
        *inputs: TensorSpec,
        out: Shape | None = None,
        macs: int = 0,
        flops: int | None = None,
        priced_by: str = "formula",
        fvcore: int = 0,
        tags: Sequence[str] = (),
        **arguments: Any,
    ) -> TensorSpec:
        """A computing op; its result is new memory, of the first input's shape unless `out` is given."""
        shape = inputs[0].shape if out is None else out
        made = self._storage(shape, "activation", None, len(self.ops))
        work = 2 * macs if flops is None else flops
        read = sum(4 * spec.numel for spec in inputs)
        self._append(
            name, inputs, (made,), arguments, Cost(macs, work, read, 4 * made.numel), priced_by, fvcore, tags
        )
        return made

    def write(self, name: str, target: TensorSpec, *inputs: TensorSpec, flops: int = 0) -> TensorSpec:
        """An op that changes `target` in place."""
        cost = Cost(0, flops, sum(4 * spec.numel for spec in inputs), 4 * target.numel)
        self._append(name, (target, *inputs), (target,), {}, cost, "formula", 0, (), written=(0,))
        return target

    def view(
        self, name: str, source: TensorSpec, *shapes: Shape, offsets: Sequence[int] = (0,), keep: bool = False
    ) -> Any:
        """Views of `source`: contiguous ones, or such as `keep` its strides (slices), at `offsets`."""
        seen = tuple(
            replace(
                source,
                shape=shape,
                strides=source.strides if keep else _contiguous(shape),
                offset=source.offset + offset,
            )
            for shape, offset in zip(shapes, offsets, strict=True)
        )
        self._append(name, (source,), seen, {}, Cost(), "zero", 0, (), view=True)
        return seen if len(seen) > 1 else seen[0]

    def channels(self, source: TensorSpec, *sizes: int, first: int = 0, name: str = "aten::slice") -> Any:
        """Slices of the channels (dimension 1) of `source`, one after the other from `first` on."""
        starts = [first + sum(sizes[:at]) for at in range(len(sizes))]
        shapes = [(source.shape[0], size, *source.shape[2:]) for size in sizes]
        return self.view(
            name, source, *shapes, offsets=[start * source.strides[1] for start in starts], keep=True
        )

    def conv(
        self,
        source: TensorSpec,
        weight: TensorSpec,
        bias: TensorSpec | None = None,
        *,
        stride: int = 1,
        groups: int = 1,
        size: Sequence[int] | None = None,
        **settings: Any,
    ) -> TensorSpec:
        """A convolution that keeps the plane's size, or gives `size`; MACs = outputs x weights per output."""
        plane = tuple(source.shape[2:] if size is None else size)
        shape = (source.shape[0], weight.shape[0], *plane)
        names: dict[str, Any] = {"input": Input(0), "weight": Input(1), "bias": Input(2) if bias else None}
        return self.op(
            "aten::convolution",
            source,
            weight,
            *([bias] if bias else []),
            out=shape,
            macs=prod(shape) * prod(weight.shape[1:]),
            **names,
            stride=(stride,) * len(plane),
            groups=groups,
            **settings,
        )

    def linear(self, source: TensorSpec, weight: TensorSpec) -> TensorSpec:
        shape = (*source.shape[:-1], weight.shape[0])
        names = {"input": Input(0), "weight": Input(1)}
        return self.op("aten::linear", source, weight, out=shape, macs=prod(shape) * weight.shape[1], **names)

    def cat(self, *pieces: TensorSpec, dim: int = 1) -> TensorSpec:
        shape = list(pieces[0].shape)
        shape[dim] = sum(piece.shape[dim] for piece in pieces)
        named = tuple(Input(at) for at in range(len(pieces)))
        return self.op("aten::cat", *pieces, out=tuple(shape), flops=0, tensors=named, dim=dim)

    def free(self, *specs: TensorSpec) -> None:
        """The tensors' memory is given back now."""
        for spec in specs:
            self.storages[spec.storage] = replace(self.storages[spec.storage], died=len(self.ops))

    def trace(self) -> Trace:
        """Close what is open, and hand over the records."""
        while self._stack:
            self._close(self._stack[-1])
        return Trace(
            modules=tuple(self.modules),
            calls=tuple(self.calls),
            ops=tuple(self.ops),
            storages=tuple(self.storages),
            parameters=tuple(self.parameters),
            buffers=(),
            route="meta",
            device="cpu",
            torch_version="2.14.1",
        )

    def _storage(self, shape: Shape, role: str, name: str | None, born: int) -> TensorSpec:
        self.storages.append(Storage(4 * prod(shape), role, name, born))
        return TensorSpec(shape, "float32", 4, _contiguous(shape), 0, len(self.storages) - 1)

    def _append(
        self,
        name: str,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        arguments: Mapping[str, Any],
        cost: Cost,
        priced_by: str,
        fvcore: int,
        tags: Sequence[str],
        *,
        written: tuple[int, ...] = (),
        view: bool = False,
    ) -> None:
        call = self._stack[-1]
        index = len(self.ops)
        self.ops.append(
            OpCall(
                name,
                call,
                inputs,
                outputs,
                arguments,
                index,
                written=written,
                view=view,
                tags=frozenset(tags),
            )
        )
        self.costs.append(OpCost(cost, priced_by, fvcore))

    def _open(self, path: str, type: str) -> int:
        parent = self._stack[-1] if self._stack else None
        self._stack.append(len(self.calls))
        self.calls.append(ModuleCall(path, type, parent, (), (), len(self.ops), len(self.ops)))
        return self._stack[-1]

    def _close(self, index: int) -> None:
        """End a call; its shapes are those of the first tensor read and the last one made in it."""
        assert self._stack.pop() == index
        call = self.calls[index]
        ran = self.ops[call.first_op :]
        self.calls[index] = replace(
            call,
            end_op=len(self.ops),
            input_shapes=(ran[0].inputs[0].shape,) if ran else (),
            output_shapes=(ran[-1].outputs[0].shape,) if ran else (),
        )


def _contiguous(shape: Shape) -> Shape:
    return tuple(prod(shape[at + 1 :]) for at in range(len(shape)))
