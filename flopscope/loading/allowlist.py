"""What a pickle would do -> the globals that it may have, or the names that are refused.

A file may name `nn.Module` classes of the known libraries and of packages that the user allows,
and the few pure functions and plain records listed here. Every call that the pickle makes is
checked against `_CALLS` before torch sees the file, so that no class is *called* by it: objects
come from `cls.__new__` and get their state, as pickle does it for modules.
"""

from __future__ import annotations

import enum
import functools
import importlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flopscope.errors import FlopscopeError

from .blame import Blamed
from .pickles import Made, Name, PickleRefusedError, Reading, Storage, check_key
from .pickles import Mapping as Dict

KNOWN = (
    "torch.nn.modules",
    "torchvision.models",
    "torchvision.ops",
    "timm.models",
    "timm.layers",
    "flopscope.zoo",
)
"""Packages whose `nn.Module` classes may be built from a file without asking."""

FUNCTIONS = frozenset(
    {
        f"torch.nn.functional.{name}"
        for name in ("relu", "relu6", "leaky_relu", "elu", "silu", "mish", "hardswish")
    }
    | {
        f"torch.nn.functional.{name}"
        for name in ("hardsigmoid", "hardtanh", "sigmoid", "tanh", "softplus", "selu")
    }
    | {"torch._C._nn.gelu", "torch.nn.functional.gelu", "torch._C._nn.softplus", "torch._C._nn.log_sigmoid"}
    | {"timm.layers.activations.gelu", "torchvision.ops.boxes.box_iou"}
    | {"torchvision.models.optical_flow.raft._pass_through_h"}
)
"""Pure functions of tensors that modules of the known libraries keep as attributes."""

ENUMS = frozenset({"timm.layers.format.Format"})

RECORDS = frozenset(
    f"torchvision.models.detection._utils.{name}"
    for name in ("BalancedPositiveNegativeSampler", "BoxCoder", "BoxLinearCoder", "Matcher", "SSDMatcher")
)
"""Plain classes, not modules, that torchvision's detectors hold."""

_DENIED = ("hub", "script", "jit", "remote", "interpreter", "fx", "extraction")

_ITEMSIZE = {
    f"torch.{name}Storage": size
    for name, size in {
        "Float": 4,
        "Double": 8,
        "Half": 2,
        "BFloat16": 2,
        "Long": 8,
        "Int": 4,
        "Short": 2,
        "Char": 1,
        "Byte": 1,
        "Bool": 1,
        "ComplexFloat": 8,
        "ComplexDouble": 16,
    }.items()
} | {"torch.storage.UntypedStorage": 1}

_BUILTIN_NAMES = frozenset(_ITEMSIZE) | {"torch.Tensor", "torch.nn.parameter.Parameter"}


class NotAllowedError(Exception):
    """The pickle names globals that nobody vouched for; `names` lists them."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = tuple(names)


def vouch(
    reading: Reading, *, allow: Sequence[str], nbytes: Callable[[str], int | None]
) -> list[tuple[Any, str]]:
    """Check everything that a pickle would do.

    Args:
        reading: the pickle, read through.
        allow: packages whose `nn.Module` classes the user vouches for.
        nbytes: key of a storage -> bytes of its record; None where there is none.

    Returns:
        The globals to allow in torch's weights-only unpickler, as (object, name).

    Raises:
        NotAllowedError: Some names are foreign.
        PickleRefusedError: It makes a call that no saved module makes, or storages do not fit.
    """
    resolved: dict[Name, Any] = {}
    foreign = []
    for name in sorted(reading.names, key=str):
        found = _resolve(name, allow)
        if found is None:
            foreign.append(str(name))
        else:
            resolved[name] = found
    if foreign:
        raise NotAllowedError(foreign)
    for storage in reading.storages.values():
        _check_storage(storage, nbytes)
    for made in reading.made:
        _check_made(made, resolved)
    for target, state in reading.built:
        _check_state(target, state, resolved)
    return [(found, str(name)) for name, found in resolved.items() if found is not _BY_TORCH]


def holds_module(reading: Reading) -> bool:
    """Tell whether the pickle makes an object of any class (a file of weights makes none)."""
    return any(made.new for made in reading.made)


# --------------------------------------------------------------------------- names

# torch's unpickler knows the name itself.
_BY_TORCH = object()


def _resolve(name: Name, allow: Sequence[str]) -> Any:
    full = str(name)
    if full in _BUILTIN_NAMES or full in _CALLS or _is_dtype(name):
        return {"builtins.getattr": method_of, "functools.partial": functools.partial}.get(full, _BY_TORCH)
    known = _inside(name.module, KNOWN)
    listed = full in FUNCTIONS | ENUMS | RECORDS
    if not (known or listed or _inside(name.module, allow)):
        return None
    module = _import(name.module)
    if module is None:
        return None
    found: Any = module
    for part in name.name.split("."):
        found = vars(found).get(part) if isinstance(found, (types.ModuleType, type)) else None
    if listed:
        kind = enum.Enum if full in ENUMS else object
        return found if full not in ENUMS or (isinstance(found, type) and issubclass(found, kind)) else None
    return found if _is_module_class(found, name, KNOWN if known else tuple(allow)) else None


def _inside(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def _is_dtype(name: Name) -> bool:
    import torch

    return name.module == "torch" and isinstance(vars(torch).get(name.name), torch.dtype)


def _import(module: str) -> types.ModuleType | None:
    if not all(part.isidentifier() for part in module.split(".")):
        return None
    try:
        with Blamed(f"importing {module}"):
            return importlib.import_module(module)
    except FlopscopeError as error:
        if isinstance(error.__cause__, ImportError):
            return None
        raise


def _is_module_class(found: Any, name: Name, packages: Sequence[str]) -> bool:
    """An `nn.Module` class that is defined where the file says, by people who are vouched for."""
    import torch

    if not isinstance(found, type) or not issubclass(found, torch.nn.Module):
        return False
    if (found.__module__, found.__qualname__) != (name.module, name.name):
        return False
    bases = {base.__module__ for base in found.__mro__ if issubclass(base, torch.nn.Module)}
    if any(_inside(base, ("torch.fx", "torch.jit", "torch.distributed")) for base in bases):
        return False
    if _inside(name.module, KNOWN):
        words = set(name.module.lower().replace(".", "_").split("_"))
        return not words & set(_DENIED) and all(
            _inside(base, packages) or _inside(base, KNOWN) for base in bases
        )
    return True


# --------------------------------------------------------------------------- calls


def method_of(owner: Any, name: Any) -> Any:
    """Stand in for `builtins.getattr`: give a `forward...` method of a module, running nothing.

    timm's FasterNet keeps `self.forward = self.forward_split_cat`, which is pickled as a call of
    `getattr`. The function is taken from the class, so that no property, descriptor or
    `__getattr__` runs; the owner's state may not be there yet, and is not needed.
    """
    return types.MethodType(_forward_function(type(owner), name), owner)


def _forward_function(owner: type, name: Any) -> types.FunctionType:
    import torch

    if isinstance(name, str) and name.startswith("forward") and issubclass(owner, torch.nn.Module):
        for base in owner.__mro__:
            found = vars(base).get(name)
            if isinstance(found, types.FunctionType) and base is not torch.nn.Module:
                return found
    raise PickleRefusedError(f"fetches the attribute {name!r} of {owner.__qualname__}")


def _check_made(made: Made, resolved: Mapping[Name, Any]) -> None:
    full = str(made.by)
    found = resolved[made.by]
    if made.new:
        if made.args or not isinstance(found, type) or full in _CALLS or full in ENUMS:
            raise PickleRefusedError(f"makes an object of {full} in a way that torch.save does not")
    elif full in _CALLS:
        if not _CALLS[full](made.args, resolved):
            raise PickleRefusedError(f"calls {full} with arguments that torch.save does not write")
    elif full in ENUMS:
        if not all(isinstance(value, (str, int)) for value in made.args):
            raise PickleRefusedError(f"calls {full} with something that is no value")
    else:
        raise PickleRefusedError(f"calls {full}, which no saved module does")


def _check_state(target: Made, state: Any, resolved: Mapping[Name, Any]) -> None:
    full = str(target.by)
    if full == "functools.partial":
        match state:
            case (Name() as called, tuple(), Dict(), None | Dict()) if _class_in(called, resolved):
                return
    elif isinstance(state, Dict) and (target.new or full == "collections.OrderedDict"):
        return
    raise PickleRefusedError(f"sets the state of {full} in a way that torch.save does not")


def _class_in(value: Any, resolved: Mapping[Name, Any]) -> bool:
    return isinstance(value, Name) and isinstance(resolved.get(value), type)


def _check_storage(storage: Storage, nbytes: Callable[[str], int | None]) -> None:
    itemsize = _ITEMSIZE.get(str(storage.type))
    if itemsize is None:
        raise PickleRefusedError(f"holds a storage of {storage.type}, which is not read")
    if storage.location == "meta":
        return
    held = nbytes(storage.key)
    if held is None or storage.numel * itemsize > held:
        raise PickleRefusedError(
            f"claims {storage.numel * itemsize} bytes for storage {storage.key}, which has {held or 0}"
        )


def _fits(storage: Any, offset: Any, size: Any, stride: Any, *, itemsize: int | None = None) -> bool:
    """A tensor lies inside its storage, so that torch need not grow the storage for it."""
    if not isinstance(storage, Storage) or not _whole(size) or not _whole(stride):
        return False
    if len(size) != len(stride) or len(size) > 64 or not _whole((offset,)):
        return False
    reach = 0 if 0 in size else offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
    return bool(reach * (itemsize or 1) <= storage.numel)


def _whole(values: Any) -> bool:
    if not isinstance(values, tuple):
        return False
    return all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 for value in values
    )


def _tensor_v2(args: tuple[Any, ...], resolved: Mapping[Name, Any]) -> bool:
    return 5 <= len(args) <= 7 and _fits(*args[:4])


def _tensor_v3(args: tuple[Any, ...], resolved: Mapping[Name, Any]) -> bool:
    import torch

    if not 7 <= len(args) <= 8 or not isinstance(args[6], Name):
        return False
    dtype = vars(torch).get(args[6].name)
    return isinstance(dtype, torch.dtype) and _fits(*args[:4], itemsize=dtype.itemsize)


def _meta_tensor(args: tuple[Any, ...], resolved: Mapping[Name, Any]) -> bool:
    return len(args) == 4 and _whole(args[1]) and _whole(args[2])


def _parameter(args: tuple[Any, ...], resolved: Mapping[Name, Any]) -> bool:
    return 3 <= len(args) <= 4 and isinstance(args[0], Made)


def _tensor_with_attributes(args: tuple[Any, ...], resolved: Mapping[Name, Any]) -> bool:
    match args:
        case (Name() as called, Name() as kind, tuple(inner), _) if str(kind) in _BUILTIN_NAMES:
            check = _TENSORS.get(str(called))
            return check is not None and check(inner, resolved)
    return False


def _partial(args: tuple[Any, ...], resolved: Mapping[Name, Any]) -> bool:
    return len(args) == 1 and _class_in(args[0], resolved)


def _method(args: tuple[Any, ...], resolved: Mapping[Name, Any]) -> bool:
    match args:
        case (Made(new=True) as owner, str(name)):
            _forward_function(resolved[owner.by], name)
            return True
    return False


def _set(args: tuple[Any, ...], resolved: Mapping[Name, Any]) -> bool:
    for group in args:
        for item in group if isinstance(group, list) else ((),):
            check_key(item)
    return len(args) <= 1 and all(isinstance(group, list) for group in args)


_TENSORS: dict[str, Callable[[tuple[Any, ...], Mapping[Name, Any]], bool]] = {
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}

_CALLS: dict[str, Callable[[tuple[Any, ...], Mapping[Name, Any]], bool]] = {
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": _tensor_with_attributes,
    "collections.OrderedDict": lambda args, resolved: not args,
    "collections.Counter": lambda args, resolved: all(isinstance(item, Dict) for item in args),
    "torch.Size": lambda args, resolved: len(args) == 1 and _whole(args[0]),
    "torch.device": lambda args, resolved: all(isinstance(item, (str, int)) for item in args),
    "builtins.set": _set,
    "builtins.complex": lambda args, resolved: all(isinstance(item, float) for item in args),
    "_codecs.encode": lambda args, resolved: args[1:] == ("latin1",) and isinstance(args[0], str),
    "builtins.getattr": _method,
    "functools.partial": _partial,
}
