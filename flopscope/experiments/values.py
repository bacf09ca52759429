"""OpCall -> what its tensors hold when it is run alone: values that no kernel stumbles over.

Floats are uniform in [0.5, 1.5), so that nothing is denormal, zero or infinite; masks are all true;
integers are valid indices where the operator takes indices, else one (zero for operators that
might look something up by them).
"""

from __future__ import annotations

from math import prod

import torch

from flopscope.records import Input, OpCall, Shape, TensorSpec

_PERIOD = 1 << 13  # elements after which values repeat: drawing every one would take longer than running

# Integers with a meaning that shapes do not tell: wrong ones would make a kernel read astray.
STRUCTURED = frozenset(
    {
        *("offsets", "batch_sizes", "lengths", "input_lengths", "target_lengths", "seq_lens"),
        *("cum_seq_q", "cum_seq_k", "cu_seqlens_q", "cu_seqlens_k", "offs", "block_table"),
    }
)


class Values:
    """Fills memory from a private generator; the process's own random state is not touched."""

    def __init__(self) -> None:
        self._generator = torch.Generator(device="cpu").manual_seed(0)
        self._patterns: dict[torch.dtype, torch.Tensor] = {}

    def fill(self, flat: torch.Tensor, bound: int | None) -> None:
        """Fill a vector; `bound` is the number of valid indices, None where it holds no indices."""
        if flat.dtype == torch.bool:
            flat.fill_(True)
        elif bound is not None:
            flat.random_(0, max(bound, 1), generator=self._generator)
        elif flat.is_floating_point() or flat.is_complex():
            self._tile(flat)
        else:
            flat.fill_(1)

    def _tile(self, flat: torch.Tensor) -> None:
        pattern = self._patterns.get(flat.dtype)
        if pattern is None:
            kind = torch.float64 if flat.dtype in (torch.float64, torch.complex128) else torch.float32
            drawn = torch.empty(_PERIOD, dtype=kind, device="cpu").uniform_(
                0.5, 1.5, generator=self._generator
            )
            pattern = self._patterns[flat.dtype] = drawn.to(flat.dtype)
        whole = flat.numel() // _PERIOD * _PERIOD
        flat[:whole].view(-1, _PERIOD).copy_(pattern)
        flat[whole:].copy_(pattern[: flat.numel() - whole])


def bounds(op: OpCall) -> dict[int, int]:
    """By input that holds integers: how many values are valid there (0 up to that, exclusive).

    Inputs of element-wise operators, whose integers are numbers, are left out.
    """
    whole = [place for place, spec in enumerate(op.inputs) if "int" in spec.dtype and "q" not in spec.dtype]
    found = {} if "pointwise" in op.tags else dict.fromkeys(whole, 1)
    found.update({place: bound for place, bound in _indices(op).items() if place in whole})
    return found


def _indices(op: OpCall) -> dict[int, int]:
    """What is known of the operators that look something up."""
    name, source = op.op.removeprefix("aten::").rstrip("_"), op.tensor("self")
    if name == "embedding":
        weight = op.tensor("weight")
        return {} if weight is None else _at(op, "indices", weight.shape[0])
    if name == "embedding_dense_backward":
        return _at(op, "indices", int(op.value("num_weights", 1)))
    if source is None:
        return {}
    if name in ("index", "index_put", "_unsafe_index", "_index_put_impl", "_unsafe_index_put"):
        return _by_position(op, source)
    if name.startswith(("nll_loss", "cross_entropy")):
        return _at(op, "target", source.shape[1] if len(source.shape) > 1 else prod(source.shape))
    if name.startswith("max_pool") and "indices" in name:
        return _at(op, "indices", _plane(name, source.shape))
    if name.startswith("max_unpool"):
        return _at(op, "indices", prod(op.value("output_size") or (1,)))
    if name == "take":
        return _at(op, "index", source.numel)
    dim = op.value("dim", 0)
    return _at(op, "index", source.shape[dim]) if source.shape and isinstance(dim, int) else {}


def _by_position(op: OpCall, source: TensorSpec) -> dict[int, int]:
    given = op.value("indices") or ()
    pairs = zip(given, source.shape, strict=False)
    return {item.index: size for item, size in pairs if isinstance(item, Input)}


def _plane(name: str, shape: Shape) -> int:
    return prod(shape[-3:] if "3d" in name else shape[-2:])


def _at(op: OpCall, name: str, bound: int) -> dict[int, int]:
    given = op.value(name)
    return {given.index: bound} if isinstance(given, Input) else {}
