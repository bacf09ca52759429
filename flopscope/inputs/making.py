"""`Inputs` and the model they are for -> the arguments of one call, as real or meta tensors."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from flopscope.errors import InputError
from flopscope.inputs import signatures
from flopscope.inputs.entries import Entry, entries, family, first_entry
from flopscope.inputs.specs import FLOATS, INTEGERS, Inputs, Made, Spec, dtype_name, rebuilt

_IDS = re.compile(r"(^|_)(ids|labels|offsets|edge_index|attention_mask|pixel_mask)$")
_FLOATS = re.compile(r"(^|_)(embeds|values|features|states)$")
_TOKENS = ("src", "source", "tgt", "trg", "target", "tokens", "token", "idx", "text", "words", "captions")
_TORCH_MASKS = ("mask", "attn_mask", "src_mask", "tgt_mask", "memory_mask")
STEERING_NUMEL = 65536
_OWN_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def make(inputs: Inputs, *, model: nn.Module, device: str = "cpu", dtype: Any = None, seed: int = 0) -> Made:
    """Make the arguments of one call.

    Floats without a dtype take the model's own (its first floating parameter or buffer), or
    `dtype` where it is asked for; then floating tensors are converted too. Integers are drawn
    below `high`, or below the rows of the embedding that they are meant for. Boolean masks mask
    nothing. Values depend on `seed` alone; torch's global generators are not touched. Tensors of
    the user's are copied, for a model may change its input; on the meta device they get twins of
    the same layout, and their data is not touched. Small integers and masks keep real values even
    there, on the CPU, for they may steer the model's control flow.

    Raises:
        InputError: `dtype` is not known, or a tensor is nested.
    """
    making = _Making(
        model=model,
        device=torch.device(device),
        asked=_torch_dtype(dtype_name(dtype)) if dtype is not None else None,
        own=model_dtype(model),
        generator=torch.Generator(device="cpu").manual_seed(seed),
    )
    names = signatures.by_place(model)
    args = []
    for place, value in enumerate(inputs.args):
        name = names[place] if place < len(names) else ""
        args.append(_argument(value, making, name=name, place=place))
    kwargs = {}
    for name, value in inputs.kwargs.items():
        place = names.index(name) if name in names else len(names)
        kwargs[name] = _argument(value, making, name=name, place=place)
    return Made(tuple(args), kwargs, tuple(making.notes))


def model_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the model's first floating or complex parameter or buffer; else float32."""
    for tensors in (model.parameters(), model.buffers()):
        for tensor in tensors:
            if tensor.dtype in _OWN_DTYPES or tensor.dtype.is_complex:
                return tensor.dtype
    return torch.float32


def inferred_dtype(spec: Spec, *, name: str, place: int, first: Entry | None) -> tuple[str, str] | None:
    """The dtype that an argument given as a bare shape must have, and why; None for floats.

    `first` is what the model's first layer takes.
    """
    if name == "bool_masked_pos" or "padding_mask" in name:
        return "bool", "by its name"
    if _IDS.search(name):
        return "int64", "by its name"
    if first is None or first.role != "indices" or _FLOATS.search(name) or "mask" in name:
        return None
    is_row_of_ids = len(spec.shape) <= 2 or (len(spec.shape) == 3 and spec.shape[-1] != first.width)
    if is_row_of_ids and (place == 0 or name in _TOKENS):
        return "int64", f"the first layer, {first.path or 'the model'}, is an {first.type}"
    return None


def index_bound(name: str, tables: Iterable[Entry]) -> int:
    """The number of rows that every table an argument may be meant for has at least.

    A table whose path resembles the argument's name is preferred, then those of the same family
    (positions, types, tokens), then the smallest of all. Without a table it is 2: any integer
    input can take 0 and 1.
    """
    rows = [(table.path.lower(), table.size) for table in tables if table.role == "indices"]
    stem = re.sub(r"(_ids?|_index|s)$", "", name.lower())
    alike = [size for path, size in rows if len(stem) >= 3 and stem in path]
    same = [size for path, size in rows if family(path) == family(name)]
    return min(alike or same or [size for _, size in rows] or [2])


@dataclass
class _Making:
    """What making one call's tensors needs to know, and what it has noted."""

    model: nn.Module
    device: torch.device
    asked: torch.dtype | None
    own: torch.dtype
    generator: torch.Generator
    notes: list[str] = field(default_factory=list)
    twins: dict[int, Tensor] = field(default_factory=dict)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """What the layers take; asked for integers only."""
        return tuple(entries(self.model))

    @cached_property
    def first(self) -> Entry | None:
        """What the first layer takes; asked for shapes without a dtype only."""
        return first_entry(self.model)


def _argument(value: Any, making: _Making, *, name: str, place: int) -> Any:
    def change(leaf: Any) -> Any:
        if isinstance(leaf, Spec):
            return _from_spec(leaf, making, name=name, place=place)
        return _from_tensor(leaf, making) if isinstance(leaf, Tensor) else leaf

    if isinstance(value, dict):  # a nested dict names its own tensors
        return {key: _argument(item, making, name=str(key), place=place) for key, item in value.items()}
    return rebuilt(value, change)


def _from_spec(spec: Spec, making: _Making, *, name: str, place: int) -> Tensor:
    dtype = spec.dtype
    if dtype is None:
        guess = inferred_dtype(spec, name=name, place=place, first=making.first)
        if guess is not None:
            dtype, reason = guess
            making.notes.append(_note(spec, dtype, reason, making, name=name))
    if dtype is None or (making.asked is not None and dtype in FLOATS):
        chosen = making.asked or making.own
    else:
        chosen = _torch_dtype(dtype)
    if making.device.type == "meta" and not _steers(spec, chosen):
        return torch.empty(spec.shape, dtype=chosen, device="meta")
    if making.device.type == "meta":
        return _values(spec, chosen, making, name=name)
    return _values(spec, chosen, making, name=name).to(making.device)


def _steers(spec: Spec, dtype: torch.dtype) -> bool:
    """Whether a tensor may steer the control flow: ids and masks, which cost nothing to make.

    They keep their values on the meta route, so that `if mask.all():` goes its usual way.
    """
    small = math.prod(spec.shape) <= STEERING_NUMEL
    return small and not (dtype.is_floating_point or dtype.is_complex)


def _from_tensor(given: Tensor, making: _Making) -> Tensor:
    """Pass a tensor on, or make its twin; one tensor given twice stays one tensor."""
    if id(given) not in making.twins:
        making.twins[id(given)] = _passed_on(given, making)
    return making.twins[id(given)]


def _passed_on(given: Tensor, making: _Making) -> Tensor:
    if given.is_nested:
        raise InputError(
            "a nested tensor was given; its rows have no common shape that could be counted",
            hint="pad it: tensor.to_padded_tensor(0.0)",
        )
    dtype = making.asked if making.asked is not None and given.dtype.is_floating_point else given.dtype
    if _has_no_data(given) and making.device.type != "meta":
        layout = str(given.dtype).removeprefix("torch.")
        made = _values(Spec(given.shape, layout), dtype, making, name="").to(making.device)
        making.notes.append(
            f"a tensor {tuple(given.shape)} without data was filled with values for the real run"
        )
        return made
    if making.device.type != "meta":
        return _own(given).to(dtype=dtype, device=making.device)
    steers = (
        given.device.type == "cpu" and not _has_no_data(given) and _steers(Spec(given.shape), given.dtype)
    )
    return _own(given) if steers else _twin(given, dtype)


def _own(given: Tensor) -> Tensor:
    """A copy of the same layout, for a model may change its input in place."""
    strided = given.layout == torch.strided
    return copy.deepcopy(given.detach()) if strided else given.detach().clone()


def _has_no_data(given: Tensor) -> bool:
    return given.device.type == "meta" or type(given).__name__ == "FakeTensor"


def _twin(given: Tensor, dtype: torch.dtype) -> Tensor:
    if given.layout != torch.strided or given.is_nested:
        return given.to("meta").to(dtype)
    return torch.empty_strided(given.size(), given.stride(), dtype=dtype, device="meta")


def _values(spec: Spec, dtype: torch.dtype, making: _Making, *, name: str) -> Tensor:
    if dtype == torch.bool:
        return torch.full(spec.shape, _is_true(name, making.model), dtype=dtype, device="cpu")
    if dtype.is_floating_point or dtype.is_complex:
        # torch draws normals in few dtypes only: draw in the nearest of them, then convert
        drawn = {torch.float64: torch.float64, torch.complex128: torch.complex128}.get(
            dtype, torch.complex64 if dtype.is_complex else torch.float32
        )
        return torch.randn(spec.shape, generator=making.generator, dtype=drawn, device="cpu").to(dtype)
    low, high = _range(spec, name, making.entries)
    high = min(high, torch.iinfo(dtype).max + 1)
    drawn_integers = torch.randint(low, high, spec.shape, generator=making.generator, device="cpu")
    return drawn_integers.to(dtype)


def _range(spec: Spec, name: str, tables: tuple[Entry, ...]) -> tuple[int, int]:
    """Bounds of the integers for an argument: low inclusive, high exclusive."""
    low = spec.low or 0
    if spec.high is not None:
        return low, spec.high
    if spec.low is None:
        if name.endswith("mask") or re.search(r"(^|_)(lengths?|lens)$", name):
            return 1, 2  # attend to everything; a sequence has one item at least
        if name == "offsets":
            return 0, 1  # a bag starts within the indices
        if name.endswith("labels"):
            return 0, 2  # a classifier has two classes at least
    return low, max(low + 1, index_bound(name, tables))


def _is_true(name: str, model: nn.Module) -> bool:
    """Whether True in a mask of this name means "use": in torch's own attention it means "hide"."""
    if "padding" in name:
        return False
    attends = any(isinstance(module, nn.MultiheadAttention) for module in model.modules())
    return not (attends and name in _TORCH_MASKS)


def _note(spec: Spec, dtype: str, reason: str, making: _Making, *, name: str) -> str:
    shape = "x".join(str(size) for size in spec.shape)
    said = f"{name or 'the input'} {shape} is taken as {dtype} ({reason})"
    if dtype not in INTEGERS:
        return said
    low, high = _range(spec, name, making.entries)
    return f"{said}, with values in {low}..{high - 1}"


def _torch_dtype(name: str | None) -> torch.dtype:
    chosen = getattr(torch, name or "float32", None)
    if not isinstance(chosen, torch.dtype):
        raise InputError(f"torch {torch.__version__} has no dtype {name}.", hint="take float32 or int64")
    return chosen
