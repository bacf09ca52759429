"""Operator overload -> Plan: how the recorder treats it. The place for facts about torch's operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

# One name for one computation, whatever entry point the model used.
_CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})
_TRANSPOSED = frozenset({"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})

# Composite operators that return their input or a copy of it, as the layout has it. They run
# whole: the storage of what comes back tells which of the two it was.
_ALIAS_OR_COPY = frozenset(
    {"reshape", "contiguous", "flatten", "to", "type_as", "expand_as", "dropout", "unflatten"}
)

# What autocast runs in lower precision. It works above the dispatch mode and by device, so that
# tensors on meta slip past it: the recorder does for them what autocast does on the CPU.
_LOWERED = frozenset(
    {
        *_CONVOLUTIONS,
        *_TRANSPOSED,
        *("linear", "matmul", "mm", "bmm", "baddbmm", "addmm", "addbmm", "linalg_vecdot", "conv_tbc"),
        *("scaled_dot_product_attention", "_native_multi_head_attention", "mkldnn_rnn_layer"),
    }
)

# Operators through which Python learns a tensor's value.
_READS = frozenset({"item", "_local_scalar_dense", "is_nonzero", "equal"})

# Asked before a padded batch is packed. Answering "no" on every route keeps it dense: it counts
# in full, whatever the values of its mask.
_LEFT_ALIGNED = "aten::_nested_tensor_from_mask_left_aligned"

# Fused CPU/CUDA operators that have no meta kernel: their results follow from their arguments.
_LIKE_FIRST = frozenset({"aten::_transformer_encoder_layer_fwd"})


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is known of one operator overload before it runs.

    `memo`: equal arguments give equal new tensors, so a second call need not run on meta.
    `in_place`: it changes its first argument and returns it. `decompose`: record its parts.
    `factory`: it makes tensors from numbers alone. `device_at`: where its device argument
    stands (None: it has none). `reads`: it returns the value that a tensor holds. `stand_in` does
    what the meta kernel would that torch lacks; `always_stands_in` replaces the real one too.
    `lowered`: autocast runs it in lower precision. `silent`: a question of Python's, not an operator.
    """

    name: str
    arguments: tuple[str, ...]
    written: frozenset[str]
    tags: frozenset[str]
    memo: bool
    in_place: bool
    resizes: bool
    decompose: bool
    factory: bool
    device_at: int | None
    extra: dict[str, Any]
    reads: bool
    stand_in: Callable[..., Any] | None
    always_stands_in: bool
    lowered: bool
    silent: bool


def plan(func: Any, keep: Callable[[str], bool]) -> Plan:
    """Classify an operator overload.

    Args:
        func: a `torch._ops.OpOverload`.
        keep: tells of an operator name whether it has a price as a whole.
    """
    schema = func._schema
    base = func._opname
    name = f"{func.namespace}::{base}"
    extra: dict[str, Any] = {}
    if func.namespace == "aten" and base in _CONVOLUTIONS | _TRANSPOSED:
        name = "aten::convolution"
        extra = {"transposed": base in _TRANSPOSED}
    written = frozenset(
        argument.name for argument in schema.arguments if argument.alias_info and argument.alias_info.is_write
    )
    tags = frozenset(str(tag).rpartition(".")[2] for tag in func.tags)
    returns_tensors = bool(schema.returns) and all("Tensor" in str(item.type) for item in schema.returns)
    aliases = any(item.alias_info is not None for item in schema.returns)
    takes_tensors = any("Tensor" in str(argument.type) for argument in schema.arguments)
    devices = [place for place, argument in enumerate(schema.arguments) if argument.name == "device"]
    reads = base in _READS
    resizes = "inplace_view" in tags or base in ("resize_", "set_", "resize_as_")
    in_place = (
        len(written) == 1 and bool(schema.arguments) and schema.arguments[0].name in written and not resizes
    )
    return Plan(
        name=name,
        arguments=tuple(argument.name for argument in schema.arguments),
        written=written,
        tags=tags,
        memo=returns_tensors and not written and not aliases and takes_tensors and not _reads_values(tags),
        in_place=in_place and len(schema.returns) == 1,
        resizes=resizes,
        decompose=not reads and _decomposes(func, name, tags, keep),
        factory=not takes_tensors and returns_tensors,
        device_at=devices[0] if devices else None,
        extra=extra,
        reads=reads,
        stand_in=_stand_in(name),
        always_stands_in=name == _LEFT_ALIGNED,
        silent=func.namespace in ("prim", "profiler"),
        lowered=func.namespace == "aten" and base in _LOWERED,
    )


def _reads_values(tags: frozenset[str]) -> bool:
    return "data_dependent_output" in tags or "dynamic_output_shape" in tags


def _decomposes(func: Any, name: str, tags: frozenset[str], keep: Callable[[str], bool]) -> bool:
    if name == "aten::convolution":
        return bool(func._overloadname == "padding")  # padding="same": what it pads shows in its parts
    if func._opname in _ALIAS_OR_COPY or keep(name) or "pointwise" in tags or "reduction" in tags:
        return False
    if func.namespace == "prim":
        return False
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    aliases = any(item.alias_info is not None for item in func._schema.returns)
    return bool(composite) and not aliases


def _stand_in(name: str) -> Callable[..., Any] | None:
    if name in _LIKE_FIRST:
        return lambda source, *rest, **named: torch.empty_like(source)
    if name == "aten::_native_multi_head_attention":
        return _native_multi_head_attention
    if name == "aten::mkldnn_rnn_layer_backward":
        return _rnn_layer_backward
    if name == _LEFT_ALIGNED:
        return lambda source, mask: False
    return None


def _rnn_layer_backward(
    source: Any, first: Any, second: Any, _bias: Any, _other: Any, hidden: Any, cells: Any, *_rest: Any
) -> tuple[Any, ...]:
    """A gradient for each; torch's meta kernel gives the two biases one tensor, and so a copy to make."""
    like = (source, first, second, first[:, 0], first[:, 0], hidden, cells)
    return tuple(torch.empty(item.shape, dtype=item.dtype, device=item.device) for item in like)


def _native_multi_head_attention(query: Any, key: Any, *rest: Any, **named: Any) -> tuple[Any, Any]:
    """Results of the fused attention: [batch, length, width], and weights where asked for.

    After `query, key` come `value, embed_dim, num_head, qkv_weight, qkv_bias, proj_weight,
    proj_bias, mask=None, need_weights=True, average_attn_weights=True, mask_type=None`.
    """
    need_weights = rest[8] if len(rest) > 8 else named.get("need_weights", True)
    average = rest[9] if len(rest) > 9 else named.get("average_attn_weights", True)
    weights = None
    if need_weights:
        batch, length, _ = query.shape
        heads = () if average else (rest[2],)
        weights = torch.empty((batch, *heads, length, key.shape[1]), dtype=query.dtype, device=query.device)
    return torch.empty_like(query), weights


def fused_attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, *rest: Any, **named: Any
) -> bool:
    """Tell whether torch runs this `scaled_dot_product_attention` as one fused CPU kernel.

    The choice looks at layouts alone, so tensors that are allocated and never touched serve.
    """
    given = [_untouched(item) for item in (query, key, value)]
    mask = None if attn_mask is None else _untouched(attn_mask)
    choose: Any = torch._fused_sdp_choice  # typed without its optional arguments
    return bool(choose(*given, mask, *rest, **named) != 0)


def _untouched(tensor: Any) -> Any:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")


def in_cpu_format(result: Any, source: Any, weight: Any) -> Any:
    """The result of a convolution on meta, laid out as the CPU's kernels lay it out.

    They answer in channels_last if the input or the weight is; torch's meta kernel does not.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    wanted = formats.get(result.dim())
    if wanted is None or not any(_channels_last(item, wanted) for item in (source, weight)):
        return result
    return torch.empty_like(result, memory_format=wanted)


def _channels_last(tensor: Any, wanted: torch.memory_format) -> bool:
    """Whether torch itself would call the tensor channels_last rather than contiguous."""
    return bool(torch._prims_common.suggest_memory_format(tensor) is wanted)
