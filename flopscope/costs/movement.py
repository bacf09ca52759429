"""Copies, factories, gathers and scatters: bytes and no arithmetic; and ops that move nothing."""

from __future__ import annotations

from flopscope.costs.operands import broadcast, operand, product, result, works_on_floats
from flopscope.costs.registry import NOTHING, Work, formula, in_aten
from flopscope.costs.traffic import bytes_read, bytes_written, indices_of
from flopscope.records import OpCall, TensorSpec

_NOTHING = in_aten("""
    alias as_strided chunk detach diagonal expand expand_as lift lift_fresh movedim narrow permute
    scalar_tensor
    requires_grad select slice split split_with_sizes squeeze swapaxes swapdims t transpose unbind
    unflatten unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze view view_as
    view_as_complex view_as_real _unsafe_view _reshape_alias _conj _neg_view conj numpy_T mT mH
    adjoint real imag tensor_split hsplit vsplit dsplit moveaxis atleast_1d atleast_2d atleast_3d
    empty empty_like empty_strided new_empty new_empty_strided empty_permuted _efficientzerotensor
    resize set sym_size sym_stride sym_numel sym_storage_offset sym_is_contiguous size stride numel
    dim is_pinned is_nonzero item _local_scalar_dense _assert_async _assert_scalar
    _functional_assert_async _functional_assert_scalar _assert_tensor_metadata sym_constrain_range
    sym_constrain_range_for_size _linalg_check_errors record_stream is_same_size _version output_nr
    result_type can_cast promote_types is_floating_point is_complex
    _has_compatible_shallow_copy_type _nested_tensor_size _is_zerotensor
    _nested_tensor_from_mask_left_aligned
""")
_COPIES = in_aten("""
    clone contiguous cat concat concatenate stack hstack vstack dstack column_stack block_diag
    _to_copy to type_as resolve_conj resolve_neg equal one_hot reshape reshape_as flatten ravel pad
    constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
    replication_pad2d replication_pad3d _pad_circular roll rot90 repeat repeat_interleave tile flip
    fliplr flipud pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle masked_fill
    where tril triu slice_scatter select_scatter diagonal_scatter as_strided_scatter masked_select
    masked_scatter im2col diag_embed diag complex conj_physical lift_fresh_copy
    _pack_padded_sequence _pad_packed_sequence max_unpool2d max_unpool3d unfold_copy view_copy
    alias_copy expand_copy permute_copy transpose_copy slice_copy select_copy narrow_copy t_copy
    squeeze_copy unsqueeze_copy split_copy split_with_sizes_copy unbind_copy detach_copy
    as_strided_copy _reshape_copy _foreach_copy _foreach_zero _foreach_clone
    mkldnn_reorder_conv2d_weight to_mkldnn mkldnn_reorder_conv3d_weight to_dense _to_dense
    to_padded_tensor _nested_tensor_from_mask meshgrid cartesian_prod unfold_backward slice_backward
    select_backward
""")
_SELECTIONS = in_aten("""
    sort msort argsort topk kthvalue median nanmedian mode nonzero nonzero_numpy argwhere
    unique_consecutive _unique _unique2 unique_dim bincount histc searchsorted bucketize isin
    multinomial argmax argmin
""")
_FACTORIES = in_aten("""
    zeros ones full arange range linspace logspace eye rand randn randint randperm normal zeros_like
    ones_like full_like rand_like randn_like randint_like new_zeros new_ones new_full
    tril_indices triu_indices hann_window hamming_window blackman_window bartlett_window fill zero
    uniform random exponential geometric log_normal cauchy
""")
_TABLES = in_aten("embedding index_select gather take take_along_dim index _unsafe_index")


@formula(*_NOTHING)
def _nothing(_: OpCall) -> Work:
    """Views, memory that is not filled, metadata, the reading of one number."""
    return NOTHING


@formula(*_COPIES)
def _copied(_: OpCall) -> Work:
    """Read once, written once; converting a number or choosing between two is no FLOP."""
    return Work()


@formula(*_SELECTIONS, "torchvision::nms")
def _selected(_: OpCall) -> Work:
    """How many comparisons it takes depends on the values: bytes only."""
    return Work()


@formula(*_FACTORIES)
def _made(op: OpCall) -> Work:
    """The output is written; a tensor that lent its shape is not read."""
    lenders = indices_of(op, "self")
    return Work(bytes_read=bytes_read(op, unread=lenders))


@formula("aten::bernoulli")
def _drawn(_: OpCall) -> Work:
    """A functional draw reads its probabilities; `bernoulli_` only writes."""
    return Work()


@formula("aten::copy")
def _overwritten(op: OpCall) -> Work:
    """The source is read, the target written, never read."""
    return Work(bytes_read=bytes_read(op, unread=indices_of(op, "self")))


@formula(*_TABLES)
def _gathered(op: OpCall) -> Work:
    """No more of the table than the output holds, and at most all of it; the indices besides."""
    return Work(bytes_read=_table_and_rest(op, "weight" if op.op == "aten::embedding" else "self"))


@formula("aten::embedding_bag", "aten::_embedding_bag", "aten::_embedding_bag_forward_only")
def _bagged(op: OpCall) -> Work:
    """Rows gathered and added: 1 per element gathered, 2 where each row has a weight."""
    table, indices = operand(op, "weight"), operand(op, "indices")
    gathered = indices.numel * product(table.shape[1:])
    per_element = 2 if op.tensor("per_sample_weights") else 1
    rest = bytes_read(op, unread=indices_of(op, "weight"))
    return Work(
        other_flops=per_element * gathered,
        bytes_read=rest + min(gathered * table.itemsize, table.distinct_bytes),
    )


@formula("aten::nll_loss_forward", "aten::nll_loss2d_forward", "aten::nll_loss", "aten::nll_loss2d")
def _picked(op: OpCall) -> Work:
    """One log-probability per target is read, and added."""
    table, targets = operand(op, "self"), operand(op, "target").numel
    rest = bytes_read(op, unread=indices_of(op, "self"))
    read = rest + min(targets * table.itemsize, table.distinct_bytes)
    return Work(other_flops=targets if op.value("reduction", 1) else 0, bytes_read=read)


@formula("aten::index_put", "aten::_index_put_impl", "aten::_unsafe_index_put")
def _put(op: OpCall) -> Work:
    """The indexed places take `values`; accumulating reads them first and adds."""
    indexed = _indexed_elements(op, operand(op, "self"))
    return _scattered(op, indexed, added=bool(op.value("accumulate", False)))


@formula("aten::scatter", "aten::scatter_add", "aten::scatter_reduce")
def _scatter(op: OpCall) -> Work:
    """One place per index, and as many elements of the source, which may be larger."""
    added = op.op.startswith(("aten::scatter_add", "aten::scatter_reduce")) or op.value("reduce") is not None
    return _scattered(op, operand(op, "index").numel, added=added)


@formula("aten::index_add", "aten::index_copy", "aten::index_fill", "aten::index_reduce")
def _rows(op: OpCall) -> Work:
    """Whole slices along `dim`, one per index."""
    target, places = operand(op, "self"), operand(op, "index").numel
    sizes = list(target.shape) or [1]
    sizes[op.value("dim", 0)] = places
    return _scattered(op, product(sizes), added=op.op.startswith(("aten::index_add", "aten::index_reduce")))


def _table_and_rest(op: OpCall, table_name: str) -> int:
    table = operand(op, table_name)
    rest = bytes_read(op, unread=indices_of(op, table_name))
    return rest + min(result(op).numel * table.itemsize, table.distinct_bytes)


def _scattered(op: OpCall, elements: int, *, added: bool) -> Work:
    """In place only the touched elements are written; the functional form writes a copy of all."""
    target = operand(op, "self")
    touched = min(elements * target.itemsize, target.distinct_bytes)
    in_place = bool(op.written)
    sources = {index for name in ("src", "source", "values", "value") for index in indices_of(op, name)}
    rest = bytes_read(op, unread={*indices_of(op, "self"), *sources})
    given = sum(_at_most(op.inputs[index], elements) for index in sources)
    old = (touched if added else 0) if in_place else target.distinct_bytes
    return Work(
        other_flops=elements if added and works_on_floats(op) else 0,
        bytes_read=rest + given + old,
        bytes_written=touched if in_place else bytes_written(op),
    )


def _at_most(spec: TensorSpec, elements: int) -> int:
    return min(elements * spec.itemsize, spec.distinct_bytes)


def _indexed_elements(op: OpCall, target: TensorSpec) -> int:
    """Places that the indices name; of a boolean mask as many as there are values, else all."""
    indices = op.tensors("indices")
    if any(spec.dtype.removeprefix("torch.") in ("bool", "uint8") for spec in indices):
        values = operand(op, "values").numel
        return values if values > 1 else target.numel
    places = product(broadcast(*(spec.shape for spec in indices)))
    given = op.value("indices", ())
    indexed = [place for place, item in enumerate(given) if item is not None]
    return places * product([s for dim, s in enumerate(target.shape) if dim not in indexed])
