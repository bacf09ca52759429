"""An operator's name -> what torch's schema says of it: arguments, aliases, tags, whether composite.

Names come from files, so nothing is fetched by a chain of attributes: a name is looked up among
the operators that torch has registered, in namespaces listed here.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any

from .graphs import Target

NAMESPACES = frozenset({"aten", "prims", "quantized", "quantized_decomposed", "torchvision"})

_COMPOSITE_NAMES = """
matmul einsum tensordot inner outer ger dot vdot chain_matmul linalg_multi_dot linalg_matmul bilinear
kron cdist cosine_similarity pairwise_distance linear linalg_vecdot
_weight_norm _batch_norm_impl_index
layer_norm group_norm batch_norm instance_norm rms_norm scaled_dot_product_attention softmax log_softmax
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d avg_pool1d max_pool1d
max_pool2d max_pool3d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d
upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d _upsample_nearest_exact1d
_upsample_nearest_exact2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa pixel_shuffle grid_sampler
pad _pad_enum _pad_circular affine_grid_generator native_channel_shuffle _convolution_mode
lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
relu6 selu silu mish hardswish glu log_sigmoid alpha_dropout feature_dropout dropout prelu
square subtract multiply divide true_divide negative absolute float_power where clip special_expit
logsumexp std var std_mean var_mean cross_entropy_loss nll_loss_nd l1_loss binary_cross_entropy_with_logits
stack hstack vstack dstack column_stack concat concatenate tile repeat_interleave cumulative_trapezoid
norm linalg_norm linalg_vector_norm frobenius_norm take_along_dim gather one_hot isclose isfinite
embedding_bag fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 stft istft
reshape contiguous flatten to type_as expand_as unflatten reshape_as view_as
"""

COMPOSITES = frozenset(f"aten::{name}" for name in _COMPOSITE_NAMES.split())
"""Composite operators that may be run on tensors without data, to see which operators they consist
of. Others stay whole: some of torch's composite operators read memory that such tensors lack."""

CONVOLUTIONS = frozenset({"aten::conv1d", "aten::conv2d", "aten::conv3d"})
TRANSPOSED = frozenset({"aten::conv_transpose1d", "aten::conv_transpose2d", "aten::conv_transpose3d"})


@dataclass(frozen=True, slots=True)
class Schema:
    """What is known of an operator overload.

    `arguments` are the names of its arguments in order; `aliased` of those that a result may
    share memory with, `written` of those that it changes. `func` is torch's operator, None where
    it is not registered here. `lists`: it returns a list of tensors.
    """

    arguments: tuple[str, ...] = ()
    aliased: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    composite: bool = False
    lists: bool = False
    func: Any = None


def op_name(op: str) -> str:
    """One name for one computation: every convolution is `aten::convolution`."""
    return "aten::convolution" if op in CONVOLUTIONS | TRANSPOSED else op


@functools.lru_cache(maxsize=4096)
def schema_of(target: Target) -> Schema:
    """Look an operator up among those that torch has registered; an unknown one is empty."""
    import torch

    if target.namespace not in NAMESPACES:
        return Schema()
    if target.namespace == "torchvision":
        _register("torchvision")
    overload = "" if target.overload == "default" else target.overload
    known = {item.overload_name for item in torch._C._jit_get_schemas_for_operator(target.op)}
    if overload not in known:
        return Schema()
    packet = getattr(getattr(torch.ops, target.namespace), target.name)
    return schema_of_func(getattr(packet, target.overload))


@functools.lru_cache(maxsize=4096)
def schema_of_func(func: Any) -> Schema:
    """What torch's schema says of one of its operators."""
    import torch

    schema = func._schema
    held = {alias for item in schema.returns if item.alias_info for alias in item.alias_info.before_set}
    aliased = [
        item.name
        for item in schema.arguments
        if item.alias_info
        and (held & set(item.alias_info.before_set) or "*" in str(item.alias_info.after_set))
    ]
    op = f"{func.namespace}::{func._opname}"
    padded = op in CONVOLUTIONS and func._overloadname == "padding"
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    return Schema(
        arguments=tuple(item.name for item in schema.arguments),
        aliased=frozenset(aliased if schema.returns else ()),
        written=frozenset(
            item.name for item in schema.arguments if item.alias_info and item.alias_info.is_write
        ),
        tags=frozenset(str(tag).rpartition(".")[2] for tag in func.tags),
        composite=bool(composite) and (op in COMPOSITES or padded),
        lists=any("[]" in str(item.type) or "List" in str(item.type) for item in schema.returns),
        func=func,
    )


def _register(library: str) -> None:
    """Import one of the libraries named here, so that its operators are known; it may be absent."""
    try:
        importlib.import_module(library)
    except (ImportError, RuntimeError, OSError):
        return
