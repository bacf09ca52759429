"""A file of torch.save -> the module in it, without running pickled code unless trusted."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flopscope.errors import ModelLoadError, UntrustedModelError
from flopscope.units import count_text

from . import allowlist, pickles
from .archives import damaged, open_members
from .blame import Blamed

OLDEST_TORCH = (2, 10)
"""Older weights-only unpicklers had memory faults (CVE-2025-32434, CVE-2026-24747)."""

MAX_DEPTH = 200
MAX_VISITS = 1_000_000

_NAMES_TRIED = ("ema", "model_ema", "model", "net", "module")
_RESAVE = "save it again:  torch.save(model, path)"


def load_checkpoint(
    path: Path, *, allow: Sequence[str] = (), key: str | None = None, meta: bool = False
) -> Any:
    """Load the `nn.Module` that a zip file of torch.save holds.

    Args:
        path: the file.
        allow: packages whose `nn.Module` classes may be built besides the known libraries'.
        key: which entry to take where the file holds a dict.
        meta: leave the weights in the file; every tensor is on the meta device.

    Raises:
        UntrustedModelError: It names classes or functions that nobody vouched for.
        ModelLoadError: It holds no module, or is damaged.
    """
    _check_torch()
    with open_members(path) as members:
        members.refuse_bombs()
        code = members.read("data.pkl", limit=pickles.MAX_BYTES)
        try:
            reading = pickles.read_pickle(code)
            with importable(Path.cwd()):
                allowed = allowlist.vouch(
                    reading, allow=allow, nbytes=lambda name: members.nbytes(f"data/{name}")
                )
        except allowlist.NotAllowedError as refused:
            raise _foreign(path, refused.names) from None
        except pickles.PickleRefusedError as refused:
            raise ModelLoadError(f"{path} is refused: it {refused}.", hint=_RESAVE) from None
        if not allowlist.holds_module(reading):
            raise _weights_only(path, _weights_of(path))
    found = _unpickle(path, code, allowed, meta=meta)
    return _well_formed(path, pick_module(path, found, key))


def load_trusted(path: Path, *, key: str | None = None) -> tuple[Any, str]:
    """Unpickle a file with whatever code it brings, because the user said so.

    Returns:
        The module, and the file's sha256.
    """
    import torch

    digest = sha256(path)
    hint = (
        "the classes it names must be importable here, from the folder in which they were when it was saved."
    )
    with importable(Path.cwd(), path.resolve().parent), Blamed(f"loading {path}", hint=hint):
        found = torch.load(path, map_location="cpu", weights_only=False)
    return pick_module(path, found, key), digest


def sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def pick_module(path: Path, found: Any, key: str | None) -> Any:
    """The module in what a file held: itself, or the entry of a dict that is one.

    Raises:
        ModelLoadError: There is none, or several and no `key`.
    """
    from torch import nn

    if isinstance(found, nn.Module) and key is None:
        return found
    if not isinstance(found, dict):
        what = f"a {type(found).__name__}, so it has no entry {key!r}" if key else f"a {type(found).__name__}"
        raise ModelLoadError(f"{path} holds {what}, not a model.", hint=_RESAVE)
    modules = {name: value for name, value in found.items() if isinstance(value, nn.Module)}
    if key is not None:
        if key in modules:
            return modules[key]
        raise ModelLoadError(
            f"{path} has no model under the key {key!r}.",
            hint=f"it has {', '.join(map(repr, modules)) or 'no model under any key'}.",
        )
    if len(set(map(id, modules.values()))) == 1:
        return next(iter(modules.values()))
    if not modules:
        if _tensors(found):
            raise _weights_only(path, _summary(found))
        raise ModelLoadError(f"{path} holds a dict without a model: keys {_listed(found)}.", hint=_RESAVE)
    best = next((name for name in _NAMES_TRIED if name in modules), next(iter(modules)))
    raise ModelLoadError(
        f"{path} holds {len(modules)} models: {', '.join(map(repr, modules))}.",
        hint=f"choose one:  --key {best}",
    )


def weights_of_safetensors(path: Path) -> ModelLoadError:
    """The refusal of a .safetensors file, with what it holds as its header says."""
    tensors = numbers = 0
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > pickles.MAX_BYTES:
            return damaged(path, f"its header claims {length} bytes")
        try:
            header = json.loads(stream.read(length))
            for name, entry in header.items():
                if name != "__metadata__":
                    tensors += 1
                    numbers += math.prod(entry["shape"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return damaged(path, "its header cannot be read")
    return _weights_only(path, f"safetensors: {tensors} tensors, {count_text(numbers)} parameters")


@contextlib.contextmanager
def importable(*folders: Path) -> Iterator[None]:
    """Put folders on `sys.path` while a user's code is imported, and take them off again."""
    added = [str(folder) for folder in folders if str(folder) not in sys.path]
    sys.path[:0] = added
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in added:
            with contextlib.suppress(ValueError):
                sys.path.remove(folder)


# --------------------------------------------------------------------------- unpickling


def _check_torch() -> None:
    import torch

    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < OLDEST_TORCH:
        raise ModelLoadError(
            f"torch {torch.__version__} has known faults in reading untrusted files, mended in 2.10.",
            hint="upgrade torch, or name the code that builds the model:  file.py:callable",
        )


def _unpickle(path: Path, code: bytes, allowed: list[tuple[Any, str]], *, meta: bool) -> Any:
    import torch

    hint = f"the file may be damaged, or of a release whose classes differ; {_RESAVE}"
    with Blamed(f"reading {path}", hint=hint):
        # torch reads zips with a reader of its own: both must have seen the same instructions.
        if torch._C.PyTorchFileReader(str(path)).get_record("data.pkl") != code:
            raise damaged(path, "its members are ambiguous")
        unsafe = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        needed: list[Any] = [(found, name) for found, name in allowed if name in unsafe]
        with torch.serialization.safe_globals(needed):
            return torch.load(path, map_location="meta" if meta else "cpu", weights_only=True)


def _well_formed(path: Path, model: Any) -> Any:
    """Refuse a tree of modules that would break or never end a walk over it: cycles, depth, sharing."""
    from torch import nn

    visits_of: dict[int, int] = {}
    open_now: set[int] = set()
    pending: list[Any] = [model]
    while pending:
        module = pending[-1]
        children = module.__dict__.get("_modules") if isinstance(module, nn.Module) else None
        if not isinstance(children, dict) or not _has_registers(module):
            raise damaged(path, "one of its modules lacks its state")
        below = [child for child in children.values() if child is not None]
        if id(module) not in open_now and id(module) not in visits_of:
            open_now.add(id(module))
            if any(id(child) in open_now for child in below) or len(open_now) > MAX_DEPTH:
                raise ModelLoadError(
                    f"{path}: its modules contain each other, or nest deeper than {MAX_DEPTH} levels.",
                    hint="name the code that builds the model:  file.py:callable",
                )
            pending.extend(child for child in below if id(child) not in visits_of)
            continue
        pending.pop()
        open_now.discard(id(module))
        visits_of[id(module)] = 1 + sum(visits_of[id(child)] for child in below)
        if visits_of[id(module)] > MAX_VISITS:
            raise ModelLoadError(f"{path}: it has more than {MAX_VISITS} modules.", hint=_RESAVE)
    return model


def _has_registers(module: Any) -> bool:
    import torch

    parameters = module.__dict__.get("_parameters")
    buffers = module.__dict__.get("_buffers")
    if not isinstance(parameters, dict) or not isinstance(buffers, dict):
        return False
    held = (*parameters.values(), *buffers.values())
    return all(value is None or isinstance(value, torch.Tensor) for value in held)


# --------------------------------------------------------------------------- refusals


def _foreign(path: Path, names: Sequence[str]) -> UntrustedModelError:
    packages = sorted({name.partition(".")[0] for name in names})
    package = packages[0]
    owner = next((name for name in names if not name.startswith(("builtins.", "functools."))), names[0])
    module, _, cls = owner.rpartition(".")
    lines = []
    if package == "__main__" or owner.startswith("__main__."):
        lines.append(
            f"best   flopscope report SCRIPT.py:{cls} -i 1,3,224,224     (the script that defines it)"
        )
    else:
        lines.append(f"best   flopscope report {module}:{cls} -i 1,3,224,224")
        lines.append(
            f"or     flopscope report {path} {' '.join(f'--allow {name}' for name in packages)}"
            f"     (imports {', '.join(packages)}, builds only its nn.Module classes)"
        )
    lines.append(
        f"or     flopscope report {path} --trust     (runs whatever the file says; only if you made it)"
    )
    return UntrustedModelError(
        f"{path} is a pickled module; loading it would run code from outside the known libraries:\n"
        f"{', '.join(names)}",
        hint="\n".join(lines),
    )


def _weights_only(path: Path, what: str) -> ModelLoadError:
    return ModelLoadError(
        f"{path} holds weights only ({what}), not a model.",
        hint="weights are not needed to profile. Name the architecture:\n"
        "flopscope report torchvision:resnet18 -i 1,3,224,224",
    )


def _weights_of(path: Path) -> str:
    """What a file of tensors holds; its numbers stay in the file."""
    import torch

    with Blamed(f"reading {path}", hint=_RESAVE):
        found = torch.load(path, map_location="meta", weights_only=True)
    return _summary(found)


def _summary(found: Any) -> str:
    if not isinstance(found, dict):
        tensors = _tensors({"": found})
        return f"{len(tensors)} tensors, {count_text(sum(tensors))} parameters"
    if _tensors(found):
        return _state_dict(found)
    inner = {name: value for name, value in found.items() if isinstance(value, dict) and _tensors(value)}
    if not inner:
        return f"a dict of {_listed(found)}"
    name = next(
        (name for name in ("state_dict", "model", "model_state_dict") if name in inner), next(iter(inner))
    )
    return f"checkpoint of {_listed(found)}; {name!r} is a {_state_dict(inner[name])}"


def _state_dict(found: dict[Any, Any]) -> str:
    tensors = _tensors(found)
    return f"state_dict: {len(tensors)} tensors, {count_text(sum(tensors))} parameters"


def _tensors(found: dict[Any, Any]) -> list[int]:
    import torch

    return [value.numel() for value in found.values() if isinstance(value, torch.Tensor)]


def _listed(found: dict[Any, Any]) -> str:
    names = [repr(name)[:40] for name in list(found)[:8]]
    return ", ".join(names) + (", ..." if len(found) > 8 else "")
