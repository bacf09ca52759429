"""OpCall -> Rebuilt: the operator ready to run alone, on tensors laid out as in the network.

The tensors lie in memory mapped for them alone: making and freeing them leaves the C library's
allocator as the network left it, for its state decides what the operator's own results cost.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from flopscope.records import Input, OpCall, TensorSpec

from .entries import REFUSALS, entry
from .values import STRUCTURED, Values, bounds

_LINE = 64  # bytes to which torch aligns what it allocates
_UNREADABLE = frozenset({"data_dependent_output", "dynamic_output_shape"})
_CHANGES_SHAPE = frozenset({"aten::resize_", "aten::set_", "aten::resize_as_"})
_WITHOUT_LISTING = 2 << 30


class UnbuildableError(Exception):
    """An operator cannot be run alone; the message says why."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """One operator, or several in a row, ready to run.

    `run` runs it once; `refill`, where it writes into its inputs, makes them what they were before.
    `tensors` are its inputs, in the order of `OpCall.inputs`.
    """

    run: Callable[[], Any]
    refill: Callable[[], None] | None
    tensors: tuple[torch.Tensor, ...] = ()


def rebuild(op: OpCall, values: Values) -> Rebuilt:
    """Make the tensors and the call.

    Raises:
        UnbuildableError: the operator depends on the data, or on what a trace does not hold.
    """
    _refuse(op)
    tensors, blocks = _tensors(op.inputs)
    limits = bounds(op)
    for flat, users in blocks:
        values.fill(flat, next((limits[place] for place in users if place in limits), None))
    call = entry(op, arguments_of(op, tensors))
    if call is None:
        raise UnbuildableError("torch has no operator of that name that takes its arguments")
    written = [flat for flat, users in blocks if not set(users).isdisjoint(op.written)]
    rebuilt = Rebuilt(call, _refill(written) if written else None, tensors)
    if op.outputs:
        _check(op, rebuilt)
    return rebuilt


def in_a_row(parts: Sequence[Rebuilt]) -> Rebuilt:
    """Several operators run one after the other, each on inputs of its own."""
    if len(parts) == 1:
        return parts[0]
    calls = [part.run for part in parts]
    refills = [part.refill for part in parts if part.refill is not None]

    def run() -> None:
        for call in calls:
            call()

    def refill() -> None:
        for again in refills:
            again()

    return Rebuilt(
        run, refill if refills else None, tuple(tensor for part in parts for tensor in part.tensors)
    )


def untouched(op: OpCall) -> tuple[torch.Tensor, ...]:
    """The inputs of `op` laid out, but not filled: their memory is reserved and never touched."""
    return _tensors(op.inputs)[0]


def arguments_of(op: OpCall, tensors: Sequence[torch.Tensor]) -> dict[str, Any]:
    """The arguments as torch takes them: tensors in their places, dtypes and layouts out of their names."""
    return {name: _value(name, value, tensors) for name, value in op.arguments.items()}


def _value(name: str, value: Any, tensors: Sequence[torch.Tensor]) -> Any:
    if isinstance(value, Input):
        return tensors[value.index]
    if isinstance(value, tuple):
        return [_value(name, item, tensors) for item in value]
    if isinstance(value, str):
        if name == "device":
            return torch.device("cpu")
        named = getattr(torch, value, None) if value.isidentifier() else None
        if isinstance(named, torch.dtype | torch.layout | torch.memory_format):
            return named
    return value


def _refuse(op: OpCall) -> None:
    if not op.op.startswith("aten::"):
        raise UnbuildableError("not an operator of torch's own: what its values mean is not known")
    if op.op in _CHANGES_SHAPE:
        raise UnbuildableError("it changes the shape of its input")
    if op.tags & _UNREADABLE and not op.op.startswith("aten::index"):
        raise UnbuildableError("its result depends on the data")
    if op.op.startswith(("aten::index", "aten::_unsafe_index")) and any(
        spec.dtype == "bool" for spec in op.tensors("indices")
    ):
        raise UnbuildableError("its result depends on the data")
    if "weight_shape" in op.arguments:
        raise UnbuildableError("its weights are packed in an object of torch's own")
    if any(op.tensors(name) for name in STRUCTURED):
        raise UnbuildableError("it takes lengths or offsets that only the data tell")
    results = {spec.storage: spec for spec in (*op.inputs, *op.outputs)}.values()
    if 2 * sum(spec.distinct_bytes for spec in results) > _memory():
        raise UnbuildableError("its tensors would fill the memory of the machine")


def _check(op: OpCall, rebuilt: Rebuilt) -> None:
    """Run it once: it must make what it made in the network."""
    try:
        result = rebuilt.run()
    except REFUSALS as refusal:
        raise UnbuildableError(f"torch refused it: {str(refusal).partition(chr(10))[0]}") from refusal
    made = [(tuple(item.shape), str(item.dtype).removeprefix("torch.")) for item in flat_tensors(result)]
    if made != [(spec.shape, spec.dtype) for spec in op.outputs]:
        raise UnbuildableError("run alone it makes another result")
    if rebuilt.refill is not None:
        rebuilt.refill()


def flat_tensors(result: Any) -> list[torch.Tensor]:
    """The tensors in a result: one, or a tuple or list of them."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, tuple | list):
        return [tensor for item in result for tensor in flat_tensors(item)]
    return []


def _refill(written: Iterable[torch.Tensor]) -> Callable[[], None]:
    pairs = [(flat, _mapped(flat.nbytes).view(flat.dtype).copy_(flat)) for flat in written]

    def refill() -> None:
        for flat, before in pairs:
            flat.copy_(before)

    return refill


def _tensors(
    specs: Sequence[TensorSpec],
) -> tuple[tuple[torch.Tensor, ...], list[tuple[torch.Tensor, list[int]]]]:
    """Tensors as the specs say, those of one storage in one block; and each block with its users.

    A block begins where its first tensor does, rounded down to a cache line: what lies before and
    behind in the network's storage is not looked at.
    """
    users: dict[int, list[int]] = {}
    for place, spec in enumerate(specs):
        users.setdefault(spec.storage, []).append(place)
    starts = {key: min(_begin(specs[place]) for place in places) for key, places in users.items()}
    starts = {key: start // _LINE * _LINE for key, start in starts.items()}
    ends = {key: max(_end(specs[place]) for place in places) for key, places in users.items()}
    sizes = {key: max(_rounded(ends[key] - starts[key]), _LINE) for key in users}
    memory = mmap.mmap(-1, sum(sizes.values()) + _LINE) if users else None
    tensors: dict[int, torch.Tensor] = {}
    blocks: list[tuple[torch.Tensor, list[int]]] = []
    place_of = _LINE
    for key, places in users.items():
        raw = torch.frombuffer(memory, dtype=torch.uint8, count=sizes[key], offset=place_of)
        place_of += sizes[key]
        for place in places:
            tensors[place] = _view(raw, specs[place], starts[key])
        blocks.append((raw.view(_dtype(specs[places[0]].dtype)), places))
    return tuple(tensors[place] for place in range(len(specs))), blocks


def _mapped(nbytes: int) -> torch.Tensor:
    return torch.frombuffer(mmap.mmap(-1, nbytes), dtype=torch.uint8)


def _view(raw: torch.Tensor, spec: TensorSpec, start: int) -> torch.Tensor:
    offset = spec.offset - start // spec.itemsize
    return raw.view(_dtype(spec.dtype)).as_strided(spec.shape, spec.strides, offset)


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or name.startswith("q"):
        raise UnbuildableError(f"tensors of {name} cannot be laid out by hand")
    return found


def _begin(spec: TensorSpec) -> int:
    return spec.offset * spec.itemsize


def _end(spec: TensorSpec) -> int:
    if 0 in spec.shape:
        return _begin(spec)
    reach = sum(stride * (size - 1) for size, stride in zip(spec.shape, spec.strides, strict=True))
    return _begin(spec) + (reach + 1) * spec.itemsize


def _rounded(nbytes: int) -> int:
    return -(-nbytes // _LINE) * _LINE


@cache
def _memory() -> int:
    """Bytes of memory that were available when first asked; 2 GiB where the system does not tell."""
    listing = Path("/proc/meminfo")
    lines = listing.read_text(encoding="ascii").splitlines() if listing.exists() else []
    found = _numbers(line.split() for line in lines)
    return found.get("MemAvailable:", _WITHOUT_LISTING >> 10) << 10


def _numbers(lines: Iterable[list[str]]) -> Mapping[str, int]:
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
