"""An address -> a module built by the code that it names: timm, torchvision, zoo, the user's own."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from flopscope.errors import ModelLoadError

from .addresses import Address
from .blame import Blamed
from .checkpoints import importable
from .sniffing import refusal

Built = tuple[Any, tuple[tuple[int, ...], ...] | None]
"""A module, and the shapes of its inputs where its source knows them."""


def build(address: Address, *, meta: bool = False) -> Built:
    """Build the module that an address names.

    Args:
        address: any but a file's.
        meta: build without allocating weights, where its code allows that.

    Raises:
        ModelLoadError: No such name, package or argument, or the builder failed.
    """
    return _BUILDERS[address.scheme](address, meta)


def _timm(address: Address, meta: bool) -> Built:
    timm = _library("timm", "pip install timm")
    if address.place not in timm.list_models():
        base = address.place.partition(".")[0]
        if base not in timm.list_models():
            raise _unknown("timm", address.place, timm.list_models(), "timm.list_models()")
    keywords = {"pretrained": False, **address.args}
    model = _made(lambda: timm.create_model(address.place, **keywords), address, meta)
    size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size")
    channels = address.args.get("in_chans")
    if not isinstance(size, (tuple, list)) or len(size) != 3:
        return model, None
    return model, ((1, channels or size[0], *_image_size(address.args.get("img_size"), size[1:])),)


def _image_size(given: Any, default: Iterable[int]) -> tuple[int, ...]:
    if given is None:
        return tuple(default)
    return (given, given) if isinstance(given, int) else tuple(given)


def _torchvision(address: Address, meta: bool) -> Built:
    models = _library("torchvision", "pip install torchvision").models
    if address.place not in models.list_models():
        raise _unknown("torchvision", address.place, models.list_models(), "torchvision.models.list_models()")
    keywords = {"weights": None, **address.args}
    builder = models.get_model_builder(address.place)
    if "weights_backbone" in inspect.signature(builder).parameters:
        keywords.setdefault("weights_backbone", None)
    return _made(lambda: models.get_model(address.place, **keywords), address, meta), None


def _zoo(address: Address, meta: bool) -> Built:
    try:
        zoo = importlib.import_module("flopscope.zoo")
    except ModuleNotFoundError as error:
        raise ModelLoadError(
            f"{address.text}: there is no zoo in this version of flopscope.",
            hint="name the model's code: timm:NAME, torchvision:NAME, pkg.mod:callable or file.py:callable",
        ) from error
    make = zoo.operator if address.scheme == "op" else zoo.build
    return _made(lambda: make(address.place, **address.args), address, meta), None


def _source(address: Address, meta: bool) -> Built:
    path = Path(address.place)
    if not path.is_file():
        raise refusal(path, "absent")
    name = f"{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelLoadError(f"{path} cannot be imported.", hint="give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    with importable(path.resolve().parent):
        sys.modules[name] = module
        try:
            with Blamed(f"importing {path}"):
                spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        return _of_user(address, module, meta)


def _imported(address: Address, meta: bool) -> Built:
    with importable(Path.cwd()):
        with Blamed(
            f"importing {address.place}", hint=f"is {address.place} installed, or in the current folder?"
        ):
            module = importlib.import_module(address.place)
        return _of_user(address, module, meta)


def _of_user(address: Address, module: Any, meta: bool) -> Built:
    """The module that `address.attribute` is, or gives when it is called."""
    from torch import nn

    found: Any = module
    for part in address.attribute.split("."):
        if not hasattr(found, part):
            names = [
                name for name in vars(module) if not name.startswith("_") and callable(getattr(module, name))
            ]
            raise _unknown(
                address.place, address.attribute, names, f"it has {', '.join(names[:8]) or 'none'}"
            )
        found = getattr(found, part)
    if isinstance(found, nn.Module) and not address.args:
        return found, None
    if not callable(found) or isinstance(found, nn.Module):
        raise ModelLoadError(
            f"{address.text}: {address.attribute} is a {type(found).__name__}, which takes no arguments.",
            hint="name an nn.Module class, a function that returns a module, or a module.",
        )
    model = _made(lambda: found(**address.args), address, meta)
    if not isinstance(model, nn.Module):
        raise ModelLoadError(
            f"{address.text}: {address.attribute} returned a {type(model).__name__}, not an nn.Module.",
            hint="name an nn.Module class, or a function that returns a module.",
        )
    return model, None


def _made(make: Callable[[], Any], address: Address, meta: bool) -> Any:
    """Call a builder, on the meta device first where that is asked for."""
    import torch

    if meta:
        # What fails here fails below too, and is blamed there, unless it was the meta device's fault.
        with contextlib.suppress(ModelLoadError), Blamed(address.text), torch.device("meta"):
            return make()
    arguments = ", ".join(f"{name}={value!r}" for name, value in address.args.items())
    hint = f"it was called with ({arguments}); give its keywords with --arg name=value"
    with Blamed(f"building {address.text}", hint=hint):
        return make()


def _library(name: str, install: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise ModelLoadError(f"{name} is installed but broken: {error}.", hint=install) from error
        raise ModelLoadError(f"{name} is not installed.", hint=install) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise ModelLoadError(
            f"{name} is installed but broken: {error}.", hint=f"{install} --upgrade"
        ) from error


def _unknown(source: str, name: str, known: Iterable[str], listing: str) -> ModelLoadError:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"see {listing}" if "(" in listing else listing
    return ModelLoadError(f"{source} has no {name!r}.", hint=hint)


_BUILDERS: Mapping[str, Callable[[Address, bool], Built]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "zoo": _zoo,
    "op": _zoo,
    "source": _source,
    "import": _imported,
}
