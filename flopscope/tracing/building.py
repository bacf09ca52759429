"""Raw notes -> Trace: the records, made once the run is over."""

from __future__ import annotations

from typing import Any

import torch

from flopscope.records import Module, ModuleCall, OpCall, Parameter, Shape, Storage, TensorSpec, Trace

from .notes import Seen
from .recorder import Recorder


def build(
    recorder: Recorder,
    *,
    modules: tuple[Module, ...],
    parameters: tuple[Parameter, ...],
    buffers: tuple[Parameter, ...],
    route: str,
    device: str,
    warnings: tuple[str, ...] = (),
) -> Trace:
    """Make the records of a run out of what the recorder noted."""
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
        ops=tuple(_op(raw) for raw in recorder.ops),
        storages=tuple(
            Storage(block.nbytes, block.role, block.name, block.born, block.died) for block in recorder.blocks
        ),
        parameters=parameters,
        buffers=buffers,
        route=route,
        device=device,
        torch_version=torch.__version__,
        warnings=warnings,
    )


def _op(raw: Any) -> OpCall:
    signature, call, tensors, results = raw
    plan = signature.plan
    inputs = tuple(seen.spec or _spec(seen) for seen in tensors)
    outputs = tuple(seen.spec or _spec(seen) for seen in results)
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
    )


def _only_aliases(tensors: tuple[Seen, ...], results: tuple[Seen, ...]) -> bool:
    if not results:
        return False
    held = [seen.storage for seen in tensors]
    return all(seen.storage in held for seen in results)


def _spec(seen: Seen) -> TensorSpec:
    layout = seen.layout
    dtype = layout.dtype
    seen.spec = spec = TensorSpec(
        layout.shape, dtype_text(dtype), dtype.itemsize, layout.strides, seen.offset, seen.storage
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
