"""A path -> what kind of file lies there, told by its content and never by its suffix.

Reads a few kilobytes and a zip's list of members. Needs no torch.
"""

from __future__ import annotations

import ast
import os
import re
import stat
from pathlib import Path

from flopscope.errors import ModelLoadError

from .archives import DamagedError, open_members

HEAD_BYTES = 4096

_REPORT = re.compile(rb'"flopscope[-_]report"')
_REPORT_PAGE = re.compile(rb"<!doctype html><!-- flopscope \d\S* report -->", re.IGNORECASE)
_LEGACY = bytes.fromhex("80028a0a6cfc9c46f920 6aa85019".replace(" ", ""))

_EXPORT = 'torch.export.save(torch.export.export(model, args), "net.pt2")'

REFUSALS: dict[str, tuple[str, str]] = {
    "directory": (
        "is a directory, not a model file.",
        "name a file in it, or an address such as timm:resnet18.",
    ),
    "special": ("is not a regular file.", "give a file on disk, or an address such as timm:resnet18."),
    "empty": ("is empty.", "save the model again; the write may have been cut off."),
    "damaged-zip": (
        "is damaged: a zip archive without its end.",
        "the file may be cut short; copy or download it again, or save it again.",
    ),
    "torchscript": (
        "is a TorchScript archive. TorchScript is deprecated and gives no per-layer view.",
        f"re-export from the Python model:  {_EXPORT}",
    ),
    "aotinductor": (
        "is an AOTInductor package: compiled machine code without a graph.",
        f"export the model without compiling it:  {_EXPORT}",
    ),
    "exported-old": (
        "was written by torch.export of torch 2.7 or older, whose format is no longer read.",
        f"re-export with a newer torch:  {_EXPORT}",
    ),
    "onnx": (
        "is an ONNX model, which flopscope does not read.",
        "give the PyTorch model it was made from; for ONNX itself see onnx-tool or onnxruntime.",
    ),
    "hdf5": (
        "is an HDF5 file (Keras writes these), which holds no PyTorch model.",
        "give a PyTorch model or an address such as timm:resnet18.",
    ),
    "tflite": (
        "is a TensorFlow Lite model, which flopscope does not read.",
        "give the PyTorch model it was made from.",
    ),
    "gguf": (
        "is a GGUF file: weights for llama.cpp, not a PyTorch model.",
        "weights are not needed to profile; name the architecture, e.g. file.py:build",
    ),
    "numpy": (
        "is a NumPy file: arrays, not a model.",
        "weights are not needed to profile; name the architecture, e.g. torchvision:resnet18",
    ),
    "legacy-torch-save": (
        "was written by torch.save before torch 1.6 (or with _use_new_zipfile_serialization=False).",
        "save it again with a current torch:  torch.save(model, path)\n"
        "or name the code that builds the model:  file.py:callable",
    ),
    "pickle": (
        "is a plain pickle, not a file of torch.save; unpickling would run code from it.",
        "save the model with torch.save(model, path), or name the code that builds it:  file.py:callable",
    ),
    "tar": (
        "is a tar archive, not a model.",
        "unpack it first, then name the model file in it.",
    ),
    "git-lfs": (
        "is a Git LFS pointer: the model itself was not downloaded.",
        "fetch it:  git lfs pull",
    ),
    "html": (
        "is a web page, not a model: the download gave an error page.",
        "download the file itself (a link that ends in /raw or /resolve).",
    ),
    "json": (
        "is JSON, but not a report saved by flopscope.",
        "give a model, or a report written by:  flopscope report MODEL -o report.json",
    ),
    "zip": (
        "is a zip archive, but none that torch.save or torch.export.save wrote.",
        "unpack it first, or save the model again with torch.save(model, path).",
    ),
    "unknown": (
        "is of no kind that flopscope knows.",
        "a model is a file of torch.save or torch.export.save, or an address such as timm:resnet18.",
    ),
}
"""Kinds that are refused: what the file is, and the way out."""


def sniff(path: str | os.PathLike[str]) -> str:
    """Tell the kind of a file by its content.

    Returns:
        "torch-save", "exported", "report", "safetensors", "python", "absent", or a key of
        `REFUSALS`.
    """
    place = Path(path)
    try:
        mode = place.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"{place} cannot be read: {error}.", hint="check the name and its rights."
        ) from error
    if stat.S_ISDIR(mode):
        return "directory"
    if not stat.S_ISREG(mode):
        return "special"
    head = _head(place)
    if not head:
        return "empty"
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(place)
    return _kind_of_bytes(head, place.stat().st_size) or _kind_of_text(head)


def refusal(path: Path, kind: str) -> ModelLoadError:
    """The error for a kind that is not loaded."""
    if kind == "absent":
        return ModelLoadError(
            f"there is no file {path}.",
            hint="check the path, or name a model: torchvision:resnet18, timm:resnet18, file.py:callable",
        )
    if kind == "python":
        return ModelLoadError(
            f"{path} is Python source; say which class or function in it gives the model.",
            hint=_callables(path),
        )
    if kind == "damaged-zip":
        try:
            with open_members(path) as members:
                members.refuse_bombs()
        except ModelLoadError as error:
            return error
    what, way_out = REFUSALS[kind]
    return ModelLoadError(f"{path} {what}", hint=way_out)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error}.", hint="check its rights.") from error


def _kind_of_zip(path: Path) -> str:
    try:
        with open_members(path) as members:
            names = set(members)
            mark = members.read("archive_format", limit=64) if "archive_format" in names else b""
    except DamagedError:
        return "damaged-zip"
    if "serialized_exported_program.json" in names:
        return "exported-old"
    if mark.strip() == b"pt2":
        exported = any(name.startswith("models/") and name.endswith(".json") for name in names)
        return "exported" if exported else "aotinductor"
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    return "torch-save" if "data.pkl" in names else "zip"


def _kind_of_bytes(head: bytes, size: int) -> str | None:
    if head.startswith(_LEGACY):
        return "legacy-torch-save"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if head[4:8] == b"TFL3":
        return "tflite"
    if head.startswith(b"GGUF"):
        return "gguf"
    if head.startswith(b"\x93NUMPY"):
        return "numpy"
    if head[257:262] == b"ustar":
        return "tar"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors"
    # ModelProto: field 1 (ir_version, a small varint), then any field that may follow it.
    if (
        len(head) > 2
        and head[0] == 8
        and 1 <= head[1] <= 20
        and head[2] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)
    ):
        return "onnx"
    return None


def _kind_of_text(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"version https://git-lfs"):
        return "git-lfs"
    if text[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "report" if _REPORT_PAGE.match(text) else "html"
    if text.startswith(b"{"):
        return "report" if _REPORT.search(text) else "json"
    if b"\0" in head:
        return "unknown"
    python = re.search(rb"^(import |from \S+ import |def |class |@)", head, re.MULTILINE)
    return "python" if python else "unknown"


def _callables(path: Path) -> str:
    """Addresses of the classes and functions that a source file defines, as far as it parses."""
    try:
        tree = ast.parse(path.read_bytes()[: 2**20])
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return f"e.g. {path}:build"
    names = [
        node.name
        for node in tree.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
    ]
    return "e.g. " + "  ".join(f"{path}:{name}" for name in names[:5] or ["build"])
