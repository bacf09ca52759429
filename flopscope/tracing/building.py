"""Raw notes -> Trace: the records, made once the run is over."""

from __future__ import annotations

from itertools import accumulate, repeat
from typing import Any

import torch

from flopscope.records import ModuleCall, OpCall, Parameter, Shape, Storage, TensorSpec, Trace

from .inventory import Inventory
from .notes import FORWARD, GONE, Mark, Seen
from .recorder import Recorder


def build(
    recorder: Recorder, listed: Inventory, *, route: str, device: str, warnings: tuple[str, ...] = ()
) -> Trace:
    """Make the records of a run out of what the recorder noted and what the model has registered."""
    modules = tuple(listed.modules)
    blocks = recorder.blocks
    places = list(accumulate((block.died != GONE for block in blocks), initial=0))
    marks = recorder.marks or repeat(FORWARD, len(recorder.ops))
    return Trace(
        modules=modules,
        calls=tuple(
            ModuleCall(
                path=modules[call.module].path,
                type=modules[call.module].type,
                parent=call.parent,
                input_shapes=call.inputs,
                output_shapes=call.outputs,
                first_op=call.first_op,
                end_op=call.end_op,
            )
            for call in recorder.calls
        ),
        ops=tuple(_op(raw, mark, places) for raw, mark in zip(recorder.ops, marks, strict=True)),
        storages=tuple(
            Storage(block.nbytes, block.role, block.name, block.born, block.died, block.saved)
            for block in blocks
            if block.died != GONE
        ),
        parameters=tuple(parameter(path, tensor) for path, tensor in listed.parameters.values()),
        buffers=tuple(parameter(path, tensor) for path, tensor in listed.buffers.values()),
        route=route,
        device=device,
        torch_version=torch.__version__,
        warnings=warnings,
    )


def _op(raw: Any, mark: Mark, places: list[int]) -> OpCall:
    signature, call, tensors, results = raw
    plan = signature.plan
    inputs = tuple(seen.spec or _spec(seen, places) for seen in tensors)
    outputs = tuple(seen.spec or _spec(seen, places) for seen in results)
    return OpCall(
        plan.name,
        call,
        inputs,
        outputs,
        signature.arguments,
        signature.index,
        signature.written,
        not signature.written and _only_aliases(tensors, results),
        plan.tags,
        *mark,
    )


def _only_aliases(tensors: tuple[Seen, ...], results: tuple[Seen, ...]) -> bool:
    if not results:
        return False
    held = [seen.storage for seen in tensors]
    return all(seen.storage in held for seen in results)


def _spec(seen: Seen, places: list[int]) -> TensorSpec:
    layout = seen.layout
    dtype = layout.dtype
    seen.spec = spec = TensorSpec(
        layout.shape, dtype_text(dtype), dtype.itemsize, layout.strides, seen.offset, places[seen.storage]
    )
    return spec


def dtype_text(dtype: torch.dtype) -> str:
    """The name of a dtype without its package: "float32"."""
    return str(dtype).removeprefix("torch.")


def parameter(path: str, tensor: torch.Tensor) -> Parameter:
    """The record of a parameter or buffer."""
    shape: Shape = tuple(tensor.shape)
    numel = tensor.numel()
    return Parameter(
        path=path,
        owner=path.rpartition(".")[0],
        shape=shape,
        dtype=dtype_text(tensor.dtype),
        numel=numel,
        nbytes=numel * tensor.element_size(),
        trainable=tensor.requires_grad,
    )
