"""A file or an address -> an opened model, exported graph or report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flopscope.errors import ModelLoadError
from flopscope.records import Shape, Trace

from . import checkpoints
from .addresses import Address, parse_address
from .sniffing import refusal, sniff

if TYPE_CHECKING:
    from torch import nn

_TRUSTED_KINDS = ("torch-save", "legacy-torch-save")


@dataclass(frozen=True, slots=True)
class Opened:
    """What an address gave.

    `kind` is "model" (then `model` is set), "exported" (then `trace`) or "report" (then only
    `path`). `loaded_by` is "allowlist", "static", "trusted", "import" or "report".
    `default_inputs` are the shapes of the positional inputs where the source knows them.
    `sha256` is the file's where code from it was run.
    """

    kind: str
    name: str
    loaded_by: str
    path: Path | None = None
    model: nn.Module | None = None
    trace: Trace | None = None
    default_inputs: tuple[Shape, ...] | None = None
    notes: tuple[str, ...] = ()
    sha256: str | None = None


def load_model(
    address: str | os.PathLike[str],
    *,
    args: Mapping[str, Any] | None = None,
    allow: Sequence[str] = (),
    trust: bool = False,
    key: str | None = None,
) -> nn.Module:
    """Load a model from a file or an address, as the command line does.

    A file of torch.save is loaded without running code that is pickled in it, unless `trust`.

    Args:
        address: a file, or `timm:NAME`, `torchvision:NAME`, `zoo:NAME`, `pkg.mod:callable`,
            `file.py:callable`.
        args: keyword arguments of the builder that the address names.
        allow: packages whose `nn.Module` classes a file may name besides the known libraries'.
        trust: run whatever code the file holds.
        key: which entry to take where the file holds a dict of several modules.

    Raises:
        UntrustedModelError: The file names code that nobody vouched for.
        ModelLoadError: There is no such model, or the file holds none. A `.pt2` is a graph, not
            a module, and raises too.
    """
    opened = open_address(address, args=args, allow=allow, trust=trust, key=key)
    if opened.model is not None:
        return opened.model
    if opened.kind == "exported":
        raise ModelLoadError(
            f"{opened.path} is an exported graph (.pt2), which is read for its counts only and never loaded.",
            hint=f"on the command line:  flopscope report {opened.path}",
        )
    raise ModelLoadError(
        f"{opened.path} is a saved report, not a model.",
        hint=f'flopscope.load("{opened.path}") reads it.',
    )


def open_address(
    address: str | os.PathLike[str],
    *,
    args: Mapping[str, Any] | None = None,
    allow: Sequence[str] = (),
    trust: bool = False,
    key: str | None = None,
    meta: bool = False,
    keep: Callable[[str], bool] | None = None,
) -> Opened:
    """Open whatever an address names.

    Args:
        address: as in `load_model`; a `.pt2` and a saved report are opened too.
        args: as in `load_model`.
        allow: as in `load_model`.
        trust: as in `load_model`. A `.pt2` is read as plain data all the same.
        key: as in `load_model`.
        meta: allocate no weights: build under the meta device where the code allows it, and
            leave a file's weights in the file.
        keep: of exported graphs: tells of an operator name whether it is priced as a whole and
            so not taken apart (default: those of `exported.KEPT`).

    Raises:
        ModelLoadError: As in `load_model`.
    """
    where = parse_address(address, args)
    if where.scheme == "file":
        return _open_file(where, allow=allow, trust=trust, key=key, meta=meta, keep=keep)
    from .builders import build

    model, shapes = build(where, meta=meta)
    return Opened("model", where.text, "import", model=model, default_inputs=shapes)


def _open_file(
    where: Address,
    *,
    allow: Sequence[str],
    trust: bool,
    key: str | None,
    meta: bool,
    keep: Callable[[str], bool] | None,
) -> Opened:
    path = Path(where.place)
    kind = sniff(path)
    if where.args and kind != "absent":
        raise ModelLoadError(
            f"{path} is a file; it takes no arguments, got {', '.join(where.args)}.",
            hint="arguments go to the builder that an address names, e.g. file.py:build?width=64",
        )
    if kind == "report":
        return Opened("report", path.name, "report", path=path)
    if kind == "exported":
        from . import exported

        trace = exported.read_exported(path, keep=keep or exported.KEPT.__contains__, key=key)
        return Opened(
            "exported",
            path.name,
            "static",
            path=path,
            trace=trace,
            default_inputs=trace.calls[0].input_shapes,
        )
    if trust and kind in _TRUSTED_KINDS:
        model, digest = checkpoints.load_trusted(path, key=key)
        note = f"ran code stored in {path} (sha256 {digest})"
        return Opened("model", path.name, "trusted", path=path, model=model, notes=(note,), sha256=digest)
    if kind == "torch-save":
        model = checkpoints.load_checkpoint(path, allow=allow, key=key, meta=meta)
        return Opened("model", path.name, "allowlist", path=path, model=model)
    if kind == "safetensors":
        raise checkpoints.weights_of_safetensors(path)
    raise refusal(path, kind)
