"""Shapes, tensors, dicts and nested structures -> `Inputs`, and `Inputs` -> text. No torch needed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from flopscope.errors import InputError
from flopscope.records import Shape

if TYPE_CHECKING:
    import torch

INTEGERS = ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")
COMPLEX = ("complex32", "complex64", "complex128")
FLOATS = (
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
)
_ALIASES = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "fp16": "float16",
    "fp32": "float32",
    "fp64": "float64",
    "bf16": "bfloat16",
    "cfloat": "complex64",
    "cdouble": "complex128",
    "byte": "uint8",
    "short": "int16",
    "int": "int32",
    "long": "int64",
}
_EXAMPLE = "a shape such as (1, 3, 224, 224), a tensor, a tuple or dict of them, or flopscope.Inputs(...)"


@dataclass(frozen=True, slots=True, init=False)
class Spec:
    """A tensor to be made: stands anywhere a shape may stand.

    `dtype` is kept by its name ("int64"); None means the model's own floating dtype, or an
    integer where the model clearly wants one. `low` (inclusive) and `high` (exclusive) bound
    integer values and make the dtype int64 where none is given.

    Raises:
        InputError: the shape holds something other than whole numbers >= 0, the dtype is not
            known, or the bounds are empty or given for a dtype that is not an integer.
    """

    shape: Shape
    dtype: str | None
    high: int | None
    low: int | None

    def __init__(
        self,
        shape: Sequence[int],
        dtype: str | torch.dtype | None = None,
        *,
        high: int | None = None,
        low: int | None = None,
    ) -> None:
        bounded = high is not None or low is not None
        name = dtype_name(dtype) or ("int64" if bounded else None)
        if bounded and name not in INTEGERS:
            raise InputError(
                f"bounds {_bounds(low, high)} were given for {name} values; they need an integer dtype.",
                hint='e.g. Spec((1, 128), "int64", high=30522)',
            )
        if high is not None and high <= (low or 0):
            raise InputError(
                f"no integer lies in {low or 0}..{high - 1}: high={high} is exclusive and low={low or 0}.",
                hint='e.g. Spec((1, 128), "int64", high=30522)',
            )
        object.__setattr__(self, "shape", _checked_shape(shape))
        object.__setattr__(self, "dtype", name)
        object.__setattr__(self, "high", high)
        object.__setattr__(self, "low", low)


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Inputs:
    """The arguments of one call: each a shape, a `Spec`, a tensor, a nested structure or a plain value.

    Shapes become `Spec`s on the way in; tensors and plain values (None, flags, strings) stay as
    they are. `Inputs()` is a call without arguments. Compares by identity, since tensors do not
    compare by value.

    Raises:
        InputError: an argument is a malformed shape or a numpy array.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        object.__setattr__(self, "args", tuple(_normal(value) for value in args))
        object.__setattr__(self, "kwargs", {name: _normal(value) for name, value in kwargs.items()})


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """The arguments of one call as tensors, and what had to be assumed to make them."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())


def describe(inputs: Any) -> Inputs:
    """Normalise everything that `profile` and `count` take as inputs.

    A tuple or list of ints is one shape, `()` included (a 0-d tensor). Any other tuple or list
    holds the positional arguments, a mapping the keyword arguments.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(inputs, Inputs):
        return inputs
    if isinstance(inputs, Mapping):
        return Inputs(**_named(inputs))
    if isinstance(inputs, Spec) or is_tensor(inputs) or _is_shape(inputs):
        return Inputs(inputs)
    if isinstance(inputs, (tuple, list)) and inputs:
        if all(_is_number(item) for item in inputs):
            raise _malformed_shape(inputs)
        return Inputs(*inputs)
    raise _not_inputs(inputs)


def text(inputs: Inputs | Made) -> str:
    """Write a call for headers and settings: "1x3x224x224 float32", "ids=1x128 int64"."""
    parts = [_value_text(value) for value in inputs.args]
    parts += [f"{name}={_value_text(value)}" for name, value in inputs.kwargs.items()]
    return ", ".join(parts) or "no arguments"


def command_line(inputs: Inputs | Made) -> str:
    """Write a call as `-i` options; "" where the command line cannot say it (lists of tensors).

    Plain values among the arguments (None, flags) are left out, as are the floating dtypes of
    tensors: the command line takes the model's own.
    """
    named = [("", value) for value in inputs.args]
    named += [(f"{name}=", value) for name, value in inputs.kwargs.items()]
    options = []
    for prefix, value in named:
        if is_leaf(value):
            options.append("-i " + shlex.quote(prefix + _option(value)))
        elif any(True for _ in leaves(value)):
            return ""
    return " ".join(options)


def shape_text(shape: Sequence[int]) -> str:
    """Write a shape as "1x3x224x224"; a 0-d one as "()"."""
    return "x".join(str(size) for size in shape) or "()"


def dtype_name(dtype: str | torch.dtype | None) -> str | None:
    """Name a dtype as torch does, without "torch."; common short names are understood.

    Raises:
        InputError: there is no such dtype.
    """
    if dtype is None:
        return None
    name = str(dtype).removeprefix("torch.").strip().lower()
    name = _ALIASES.get(name, name)
    if name not in (*INTEGERS, *FLOATS, *COMPLEX, "bool"):
        raise InputError(
            f"dtype {str(dtype)!r} is not known.",
            hint="one of float32, float16, bfloat16, float64, int64, int32, uint8, bool, complex64",
        )
    return name


def is_tensor(value: Any) -> bool:
    """Tell whether a value is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")  # where nobody imported torch, nothing is a tensor
    return torch is not None and isinstance(value, torch.Tensor)


def is_leaf(value: Any) -> bool:
    """Tell whether a value stands for one tensor."""
    return isinstance(value, Spec) or is_tensor(value)


def leaves(value: Any) -> Iterator[Any]:
    """Yield the `Spec`s and tensors in a value or a whole call, in order."""
    if is_leaf(value):
        yield value
    elif isinstance(value, (Inputs, Made)):
        yield from leaves([*value.args, *value.kwargs.values()])
    elif isinstance(value, Mapping):
        yield from leaves(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from leaves(item)


def rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    """Copy a nested structure with `change` applied to everything that is not a container."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(rebuilt(item, change) for item in value))
    if isinstance(value, (tuple, list)) and not _is_shape(value):
        made = [rebuilt(item, change) for item in value]
        return made if isinstance(value, list) else tuple(made)
    if isinstance(value, Mapping):
        return {key: rebuilt(item, change) for key, item in value.items()}
    return change(value)


def leaf_dtype(leaf: Any) -> str | None:
    """Name the dtype of a `Spec` or tensor; None where the spec leaves it open."""
    return leaf.dtype if isinstance(leaf, Spec) else str(leaf.dtype).removeprefix("torch.")


def _normal(value: Any) -> Any:
    """Turn the shapes in an argument into `Spec`s; keep tensors and plain values."""
    if is_leaf(value):
        return value
    if _is_shape(value):
        return Spec(value)
    if isinstance(value, (tuple, list)):
        whole = [_is_whole(item) for item in value]
        if any(whole) and all(_is_number(item) for item in value):
            raise _malformed_shape(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(_normal(item) for item in value))
        made = [_normal(item) for item in value]
        return made if isinstance(value, list) else tuple(made)
    if isinstance(value, Mapping):
        return {key: _normal(item) for key, item in value.items()}
    if type(value).__module__ == "numpy" and hasattr(value, "shape") and value.shape:
        raise InputError(
            f"an argument is a numpy array of shape {tuple(value.shape)}; a tensor or a shape was expected.",
            hint="torch.from_numpy(array), or its shape",
        )
    return value


def _checked_shape(shape: Any) -> Shape:
    if not isinstance(shape, (tuple, list)) or not all(_is_whole(size) for size in shape):
        raise _malformed_shape(shape)
    sizes = tuple(int(size) for size in shape)
    if any(size < 0 for size in sizes):
        raise InputError(
            f"shape {sizes} has a negative size; every size must be 0 or more.",
            hint="give the batch size as a number, e.g. (1, 3, 224, 224)",
        )
    return sizes


def _named(inputs: Mapping[Any, Any]) -> dict[str, Any]:
    for name in inputs:
        if not isinstance(name, str):
            raise InputError(
                f"a dict of inputs has the key {name!r}; its keys are the names of forward's arguments.",
                hint='e.g. {"input_ids": flopscope.Spec((1, 128), "int64")}',
            )
    return dict(inputs)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)  # numpy's integers are Integral too


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_shape(value: Any) -> bool:
    if not isinstance(value, (tuple, list)) or value == []:
        return False
    return all(_is_whole(size) for size in value)


def _malformed_shape(shape: Any) -> InputError:
    return InputError(
        f"{shape!r} is not a shape: a shape is a tuple of whole numbers.",
        hint="e.g. (1, 3, 224, 224); the batch dimension is part of the shape",
    )


def _not_inputs(inputs: Any) -> InputError:
    if isinstance(inputs, list):
        return InputError(
            "the inputs are an empty list.",
            hint="() is a 0-d tensor, flopscope.Inputs() a call without arguments",
        )
    if isinstance(inputs, str):
        return InputError(
            f"the inputs are the text {inputs!r}; {_EXAMPLE} was expected.",
            hint="text is for the command line (-i 1,3,224,224); in Python give a tuple of ints",
        )
    if _is_whole(inputs):
        return InputError(
            f"the inputs are the number {inputs!r}; {_EXAMPLE} was expected.",
            hint=f"a shape of one dimension is written ({inputs!r},)",
        )
    shown = f"{type(inputs).__module__}.{type(inputs).__qualname__}"
    way = "torch.from_numpy(array), or its shape" if shown.startswith("numpy.") else f"give {_EXAMPLE}"
    return InputError(f"the inputs are a {shown}; {_EXAMPLE} was expected.", hint=way)


def _bounds(low: int | None, high: int | None) -> str:
    return (f">={low}" if low is not None else "") + (f"<{high}" if high is not None else "")


def _value_text(value: Any) -> str:
    if is_leaf(value):
        words = [shape_text(value.shape), leaf_dtype(value) or ""]
        if isinstance(value, Spec):
            words.append(_bounds(value.low, value.high))
        return " ".join(word for word in words if word)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_value_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_value_text(item) for item in value) + "]"
    shown = repr(value)
    return shown if len(shown) <= 40 else f"<{type(value).__name__}>"


def _option(leaf: Any) -> str:
    sizes = ",".join(str(size) for size in leaf.shape) or "()"
    dtype = leaf_dtype(leaf)
    if dtype is None or (dtype in FLOATS and not isinstance(leaf, Spec)):
        return sizes
    return f"{sizes}:{dtype}" + (_bounds(leaf.low, leaf.high) if isinstance(leaf, Spec) else "")
