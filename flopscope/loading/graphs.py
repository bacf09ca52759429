"""The JSON of an exported graph -> plain values, checked. Nothing in it is evaluated; needs no torch.

The format is `torch/_export/serde/schema.py`, major version 8. A union is a dict of one item,
e.g. `{"as_int": 3}`; enumerations are numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flopscope.errors import ModelLoadError
from flopscope.records import Shape

from .archives import Members, damaged

MAX_JSON_BYTES = 64 * 2**20
"""A graph of 10,000 operators needs 20 MB; parsed JSON takes up to 20 times its size."""

SCHEMA_MAJOR = 8

MAX_NUMBER = 2**62

DTYPES = {
    1: ("uint8", 1),
    2: ("int8", 1),
    3: ("int16", 2),
    4: ("int32", 4),
    5: ("int64", 8),
    6: ("float16", 2),
    7: ("float32", 4),
    8: ("float64", 8),
    9: ("complex32", 4),
    10: ("complex64", 8),
    11: ("complex128", 16),
    12: ("bool", 1),
    13: ("bfloat16", 2),
    28: ("uint16", 2),
    29: ("float8_e4m3fn", 1),
    30: ("float8_e5m2", 1),
    31: ("float8_e4m3fnuz", 1),
    32: ("float8_e5m2fnuz", 1),
    33: ("float8_e8m0fnu", 1),
    34: ("uint32", 4),
    35: ("uint64", 8),
}
MEMORY_FORMATS = {1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 4: "preserve_format"}
LAYOUTS = {1: "sparse_coo", 2: "sparse_csr", 3: "sparse_csc", 4: "sparse_bsr", 5: "sparse_bsc", 7: "strided"}

_ATEN = re.compile(r"torch\.ops\.([A-Za-z_]\w*)\.([A-Za-z_]\w*)\.([A-Za-z_]\w*)", re.ASCII)
_HIGHER = re.compile(r"torch\.ops\.higher_order\.([A-Za-z_]\w*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tensor:
    """What the file says of one tensor."""

    shape: Shape
    dtype: str
    itemsize: int
    strides: Shape
    offset: int
    device: str
    trainable: bool


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor by its name in the graph."""

    name: str


@dataclass(frozen=True, slots=True)
class Symbol:
    """A value of one of torch's enumerations: kind "dtype", "memory_format", "layout" or "device"."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Target:
    """What a node calls: an operator (`namespace::name.overload`), or a higher-order one."""

    namespace: str
    name: str
    overload: str = ""

    @property
    def op(self) -> str:
        """The name without the overload: "aten::conv2d"."""
        return f"{self.namespace}::{self.name}"


def read_program(path: Path, members: Members, key: str | None) -> Mapping[str, Any]:
    """Read the graph of a `.pt2` archive as JSON.

    Raises:
        ModelLoadError: There is none called `key`, several and no `key`, or another schema.
    """
    names = {
        name.removeprefix("models/").removesuffix(".json"): name
        for name in members
        if name.startswith("models/") and name.endswith(".json")
    }
    wanted = key if key is not None else "model" if "model" in names else next(iter(names))
    if wanted not in names or (key is None and len(names) > 1 and "model" not in names):
        raise ModelLoadError(
            f"{path} holds {len(names)} graphs: {', '.join(names)}; not {wanted!r} alone.",
            hint=f"choose one:  --key {next(iter(names))}",
        )
    program = read_json(path, members, names[wanted])
    major = program.get("schema_version", {}).get("major")
    if major != SCHEMA_MAJOR:
        raise ModelLoadError(
            f"{path} is an exported graph of schema {major}; schema {SCHEMA_MAJOR} is read.",
            hint='re-export it:  torch.export.save(torch.export.export(model, args), "net.pt2")',
        )
    return program


def read_json(path: Path, members: Members, name: str) -> Mapping[str, Any]:
    """Read a member as a JSON object of bounded size."""
    try:
        found = json.loads(members.read(name, limit=MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"{name} is not JSON") from error
    if not isinstance(found, dict):
        raise damaged(path, f"{name} is not a JSON object")
    return found


def target(text: str) -> Target | None:
    """Take an operator's name apart; None for Python functions (arithmetic on sizes)."""
    found = _ATEN.fullmatch(text)
    if found:
        return Target(*found.groups())
    found = _HIGHER.fullmatch(text)
    return Target("higher_order", found.group(1)) if found else None


def tensor(meta: Mapping[str, Any]) -> Tensor:
    """Read a `TensorMeta`; symbolic sizes by their hints.

    Raises:
        ValueError: A size is absurd or has no hint.
    """
    dtype, itemsize = DTYPES[meta["dtype"]]
    shape = tuple(whole(size) for size in meta["sizes"])
    strides = tuple(whole(step) for step in meta["strides"])
    if len(strides) != len(shape):
        strides = contiguous(shape)
    offset = whole(meta["storage_offset"])
    if len(shape) > 64 or math.prod(shape) * itemsize > MAX_NUMBER:
        raise ValueError("a tensor of absurd size")
    return Tensor(
        shape, dtype, itemsize, strides, offset, str(meta["device"]["type"]), bool(meta["requires_grad"])
    )


def contiguous(shape: Shape) -> Shape:
    """Strides of a dense row-major tensor, in elements."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def whole(size: Mapping[str, Any]) -> int:
    """Read a `SymInt`: a number, or an expression by its hint (its text is never evaluated)."""
    value = size["as_int"] if "as_int" in size else (size["as_expr"]["hint"] or {}).get("as_int")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
        raise ValueError("a symbolic size without a known value" if value is None else f"a size of {value!r}")
    return value


def hints(graph: Mapping[str, Any]) -> dict[str, int | float | bool]:
    """The values of a graph's symbolic numbers, where known."""
    found: dict[str, int | float | bool] = {}
    for group in ("sym_int_values", "sym_float_values", "sym_bool_values"):
        for name, value in graph.get(group, {}).items():
            known = next(iter(value.values()))
            if isinstance(known, dict):
                known = next(iter((known.get("hint") or {"": None}).values()))
            if isinstance(known, (int, float)):
                found[name] = known
    return found


def argument(given: Mapping[str, Any], numbers: Mapping[str, Any]) -> Any:
    """Read an `Argument`: numbers and text as they are, tensors as `Ref`, lists as tuples."""
    ((kind, value),) = given.items()
    reader = _READERS.get(kind)
    return _plain(value) if reader is None else reader(value, numbers)


def refs(value: Any) -> Iterator[Ref]:
    """The tensors in an argument, in order."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from refs(item)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**63:
        raise ValueError("an absurd number")
    return value


def _number(value: Mapping[str, Any], numbers: Mapping[str, Any]) -> Any:
    return numbers.get(value["as_name"]) if "as_name" in value else _plain(next(iter(value.values())))


def _optional(value: Mapping[str, Any], numbers: Mapping[str, Any]) -> Ref | None:
    return Ref(value["as_tensor"]["name"]) if "as_tensor" in value else None


def _list_of(read: Any) -> Any:
    return lambda values, numbers: tuple(read(value, numbers) for value in values)


def _ref(value: Mapping[str, Any], numbers: Mapping[str, Any]) -> Ref:
    return Ref(str(value["name"]))


_READERS: dict[str, Any] = {
    "as_none": lambda value, numbers: None,
    "as_tensor": _ref,
    "as_tensors": _list_of(_ref),
    "as_nested_tensors": _list_of(_list_of(_ref)),
    "as_optional_tensor": _optional,
    "as_optional_tensors": _list_of(_optional),
    "as_sym_int": _number,
    "as_sym_ints": _list_of(_number),
    "as_sym_float": _number,
    "as_sym_floats": _list_of(_number),
    "as_sym_bool": _number,
    "as_sym_bools": _list_of(_number),
    "as_scalar_type": lambda value, numbers: Symbol("dtype", DTYPES[value][0]),
    "as_memory_format": lambda value, numbers: Symbol("memory_format", MEMORY_FORMATS[value]),
    "as_layout": lambda value, numbers: Symbol("layout", LAYOUTS.get(value, "strided")),
    "as_device": lambda value, numbers: Symbol("device", str(value["type"])),
    "as_complex": lambda value, numbers: complex(value["real"], value["imag"]),
    "as_custom_obj": lambda value, numbers: str(value["class_fqn"]),
    "as_graph": lambda value, numbers: value,
    "as_string_to_argument": lambda value, numbers: None,
}
