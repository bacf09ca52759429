"""OpCall -> bytes read and written, as eager execution moves them.

Every distinct region of memory that the inputs cover is read once, every new output and every
input changed in place is written once. An expanded dimension covers its memory once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from flopscope.costs.registry import functional_base, in_aten
from flopscope.records import Input, OpCall, TensorSpec

OVERWRITING = frozenset(
    in_aten(
        """
        copy fill zero normal uniform random exponential geometric log_normal cauchy bernoulli
        _foreach_copy _foreach_zero
        """
    )
)
"""In-place ops, named by their base, whose result does not depend on what was there before."""

_TARGETS = (
    *("out", "out0", "out1", "out2", "out3", "out4", "out5", "out6", "output", "values", "indices"),
    *("grad_input", "grad_weight", "grad_bias", "max", "max_values", "min", "min_indices"),
    *("buffer", "noise"),
)
"""Arguments that, where a call writes them, it only writes: `out=` in all its spellings."""


def bytes_read(op: OpCall, *, unread: Collection[int] = ()) -> int:
    """Bytes of the distinct regions of all inputs, save those that are only overwritten.

    Args:
        op: the call.
        unread: further inputs, by index, whose values the call does not need.
    """
    skipped = overwritten(op) | set(unread)
    return covered_bytes(spec for index, spec in enumerate(op.inputs) if index not in skipped)


def bytes_written(op: OpCall) -> int:
    """Bytes of the new outputs and of the inputs changed in place, each region once."""
    changed = covered_bytes(op.inputs[index] for index in op.written)
    return changed + sum(spec.distinct_bytes for spec in op.fresh_outputs)


def overwritten(op: OpCall) -> set[int]:
    """The written inputs whose old values are not read: `out=` targets, `copy_`, `fill_` ..."""
    if not op.written:
        return set()
    if functional_base(op.op) in OVERWRITING:
        return set(op.written)
    return {index for name in _TARGETS for index in indices_of(op, name)} & set(op.written)


def indices_of(op: OpCall, name: str) -> tuple[int, ...]:
    """The indices, in `op.inputs`, of the tensors given as the argument `name`."""
    given = op.arguments.get(name)
    items = given if isinstance(given, tuple) else (given,)
    return tuple(item.index for item in items if isinstance(item, Input))


def covered_bytes(specs: Iterable[TensorSpec]) -> int:
    """Bytes of memory that the tensors cover together, overlaps of one storage counted once."""
    by_storage: dict[int, set[TensorSpec]] = {}
    for spec in specs:
        by_storage.setdefault(spec.storage, set()).add(spec)
    return sum(_covered_in_one_storage(group) for group in by_storage.values())


def _covered_in_one_storage(specs: set[TensorSpec]) -> int:
    """At most the sum of the regions, and at most the stretches of memory that they span.

    The first is exact for disjoint regions, also interleaved ones (q, k, v of one projection);
    the second for a tensor seen twice (x and its transpose) or a part inside the whole.
    """
    if len(specs) == 1:
        return next(iter(specs)).distinct_bytes
    separate = sum(spec.distinct_bytes for spec in specs)
    spanned = 0
    reached = 0
    for start, end in sorted(map(_span, specs)):
        spanned += max(0, end - max(start, reached))
        reached = max(reached, end)
    return min(separate, spanned)


def _span(spec: TensorSpec) -> tuple[int, int]:
    """First and end byte of the stretch of storage that the tensor touches."""
    start = spec.offset * spec.itemsize
    if 0 in spec.shape:
        return start, start
    pairs = zip(spec.shape, spec.strides, strict=True)
    reach = 1 + sum(abs(stride) * (size - 1) for size, stride in pairs)
    return start, start + reach * spec.itemsize
