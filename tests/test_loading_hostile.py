"""Hostile files: nothing that they name is ever called, and nothing of theirs fills the machine."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from flopscope.errors import ModelLoadError, UntrustedModelError
from flopscope.loading import load_model, open_address
from flopscope.loading.allowlist import method_of
from flopscope.loading.pickles import Name, PickleRefusedError, read_pickle

# --------------------------------------------------------------------------- a pickle by hand


def fetch(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    size = (value.bit_length() + 8) // 8
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def group(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def call(function: bytes, *args: bytes) -> bytes:
    return function + group(*args) + b"R"


def new(module: str, name: str) -> bytes:
    return fetch(module, name) + b")\x81"


def program(*steps: bytes) -> bytes:
    return b"\x80\x02" + b"".join(steps) + b"."


def archive(path: Path, code: bytes, records: dict[str, bytes] | None = None) -> Path:
    members = {
        "data.pkl": code,
        "byteorder": b"little",
        **{f"data/{k}": v for k, v in (records or {}).items()},
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"archive/{name}", content)
        file.writestr("archive/version", b"3\n")
    return path


LINEAR = ("torch.nn.modules.linear", "Linear")
STATE = b"}"
MODULE = new(*LINEAR) + STATE + b"b"


def storage(numel: int, *, key: str = "0", location: str = "cpu") -> bytes:
    return (
        group(text("storage"), fetch("torch", "FloatStorage"), text(key), text(location), number(numel))
        + b"Q"
    )


def tensor(numel: int, size: tuple[int, ...], stride: tuple[int, ...], *, offset: int = 0) -> bytes:
    return call(
        fetch("torch._utils", "_rebuild_tensor_v2"),
        storage(numel),
        number(offset),
        group(*map(number, size)),
        group(*map(number, stride)),
        b"\x89",
        call(fetch("collections", "OrderedDict")),
    )


def refused(path: Path, **keywords: Any) -> str:
    """Open a file, which must be refused quickly, and give the words of the refusal."""
    start = time.process_time()
    with pytest.raises(ModelLoadError) as caught:
        load_model(path, **keywords)
    assert time.process_time() - start < 20
    assert "weights_only" not in f"{caught.value} {caught.value.hint}"
    assert caught.value.hint
    return str(caught.value)


# --------------------------------------------------------------------------- code


class Mark:
    """Pickles as a call that writes a marker file."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("way", ["system", "eval", "exec", "open", "popen", "import"])
def test_a_pickled_call_never_runs(way: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    mark = {
        "system": Mark(os.system, f"touch {marker}"),
        "eval": Mark(eval, f"open({str(marker)!r}, 'w')"),
        "exec": Mark(exec, f"open({str(marker)!r}, 'w')"),
        "open": Mark(open, str(marker), "w"),
        "popen": Mark(os.popen, f"touch {marker}"),
        "import": Mark(__import__, "antigravity"),
    }[way]
    torch.save({"model": nn.Linear(2, 2), "mark": mark}, tmp_path / "net.pt")
    with pytest.raises(UntrustedModelError):
        load_model(tmp_path / "net.pt")
    with pytest.raises(UntrustedModelError):
        load_model(tmp_path / "net.pt", allow=["somewhere"])
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_plain_or_legacy_pickle_never_runs(protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    mark = Mark(os.system, f"touch {marker}")
    (tmp_path / "net.pt").write_bytes(pickle.dumps(mark, protocol=protocol))
    torch.save(mark, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    refused(tmp_path / "net.pt")
    refused(tmp_path / "old.pt")
    assert not marker.exists()


def test_trust_is_what_runs_it(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    torch.save({"model": nn.Linear(2, 2), "mark": Mark(os.system, f"touch {marker}")}, tmp_path / "net.pt")
    open_address(tmp_path / "net.pt", trust=True)
    assert marker.exists()


def test_a_module_of_a_foreign_package_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "evil_package.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "net.pt", program(new("evil_package", "Net"), STATE, b"b"))
    assert "evil_package.Net" in refused(path)
    assert "evil_package.Net" in refused(path, allow=["other"])
    assert not marker.exists()


CALLS: dict[str, tuple[bytes, str]] = {
    "a class": (call(fetch(*LINEAR), number(10**6), number(10**6)), "calls torch.nn.modules.linear.Linear"),
    "a class with arguments to new": (fetch(*LINEAR) + group(number(1)) + b"\x81", "makes an object of"),
    "what it made": (MODULE + group() + b"R", "calls something that it made"),
    "a function": (call(fetch("torch.nn.functional", "relu"), MODULE), "calls torch.nn.functional.relu"),
    "getattr of a class": (
        call(fetch("__builtin__", "getattr"), fetch(*LINEAR), text("forward")),
        "calls builtins.getattr with",
    ),
    "getattr of a property": (
        call(fetch("builtins", "getattr"), MODULE, text("__dict__")),
        "fetches the attribute '__dict__'",
    ),
    "getattr of a base method": (
        call(fetch("builtins", "getattr"), MODULE, text("load_state_dict")),
        "fetches the attribute 'load_state_dict'",
    ),
    "getattr of a computed name": (
        call(fetch("builtins", "getattr"), MODULE, call(fetch("torch", "Size"), group())),
        "calls builtins.getattr with",
    ),
    "partial of a function": (
        call(fetch("functools", "partial"), fetch("torch.nn.functional", "relu")),
        "calls functools.partial with",
    ),
    "partial of getattr": (
        call(fetch("functools", "partial"), fetch("builtins", "getattr")),
        "calls functools.partial with",
    ),
    "a partial with another function put in": (
        call(fetch("functools", "partial"), fetch(*LINEAR))
        + group(fetch("builtins", "getattr"), b")", b"}", b"N")
        + b"b",
        "sets the state of functools.partial",
    ),
    "a rebuilder with a class inside": (
        call(
            fetch("torch._tensor", "_rebuild_from_type_v2"),
            fetch(*LINEAR),
            fetch("torch", "Tensor"),
            group(),
            b"}",
        ),
        "calls torch._tensor._rebuild_from_type_v2 with",
    ),
    "an encoder with another codec": (
        call(fetch("_codecs", "encode"), text("a"), text("idna")),
        "calls _codecs.encode with",
    ),
    "the state of a class": (fetch(*LINEAR) + b"}b", "sets the state of something"),
    "a state that is no dict": (
        new(*LINEAR) + group(b"}", b"}") + b"b",
        "sets the state of torch.nn.modules",
    ),
    "a stack global": (text("os") + text("system") + b"\x93", "instruction 0x93"),
    "a dict key of nested tuples": (b"}" + group(group(number(1))) + b"Ns", "dict key"),
    "items of a module": (MODULE + text("a") + b"Ns", "no dict"),
    "a foreign persistent id": (group(text("module"), text("x")) + b"Q", "no storage"),
}


@pytest.mark.parametrize("what", CALLS)
def test_calls_that_no_saved_module_makes_are_refused_before_torch_reads_the_file(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, says = CALLS[what]
    path = archive(tmp_path / "net.pt", program(MODULE, steps))
    monkeypatch.setattr(torch, "load", lambda *args, **keywords: pytest.fail("torch.load was called"))
    assert says in refused(path)


@pytest.mark.parametrize(
    "name",
    [
        ("torch.jit._script", "RecursiveScriptModule"),
        ("torch.fx.graph_module", "GraphModule"),
        ("torch.distributed.nn.api.remote_module", "RemoteModule"),
        ("torch.hub", "load"),
        ("torch.nn.modules.module", "register_module_forward_hook"),
        ("torch.nn.modules.linear", "torch"),
        ("torch.nn.modules.linear", "init.calculate_gain"),
        ("torch.nn.modules.container", "Linear"),
        ("torch.nn.modules.nowhere", "Net"),
        ("torch.nn.modules...os", "system"),
        ("timm.models._hub", "load_model_config_from_hf"),
        ("timm.models._features_fx", "FeatureGraphNet"),
        ("torchvision.models.feature_extraction", "DualGraphModule"),
        ("torchvision.models._api", "get_model"),
        ("builtins", "bytearray"),
        ("builtins", "eval"),
        ("torch", "FloatTensor"),
        ("torch._utils", "_rebuild_wrapper_subclass"),
    ],
)
def test_only_module_classes_defined_in_known_packages_have_names(
    name: tuple[str, str], tmp_path: Path
) -> None:
    path = archive(tmp_path / "net.pt", program(MODULE, fetch(*name)))
    with pytest.raises(UntrustedModelError, match="would run code"):
        load_model(path)


def test_the_stand_in_for_getattr_runs_nothing() -> None:
    class Trap(nn.Module):
        forward_trap = property(lambda self: pytest.fail("a property ran"))

        def __getattr__(self, name: str) -> Any:
            pytest.fail("__getattr__ ran")

        def forward_real(self) -> str:
            return "real"

    trap = Trap.__new__(Trap)
    assert method_of(trap, "forward_real")() == "real"
    for name in ("forward_trap", "forward_absent", "zero_grad", "forward", 3):
        with pytest.raises(PickleRefusedError):
            method_of(trap, name)
    with pytest.raises(PickleRefusedError):
        method_of("text", "format")


# --------------------------------------------------------------------------- memory and time


def test_a_zip_bomb_is_refused_unopened(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", program(MODULE))
        file.writestr("archive/data/0", bytes(50_000_000))
    assert path.stat().st_size < 100_000
    assert "compressed" in refused(path)


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    # Two entries of the list point at one stored member: their sizes add up to more than the file.
    path = archive(tmp_path / "net.pt", program(MODULE), {"0": bytes(5000)})
    content = path.read_bytes()
    at = content.index(b"PK\x01\x02")
    end = content.rindex(b"PK\x05\x06")
    entries = content[at:end]
    first = entries[: entries.index(b"PK\x01\x02", 4)]
    twin = entries.replace(b"data/0", b"data/1")
    fake = (
        content[:at]
        + entries
        + twin.replace(b"data.pkl", b"data.pkm")
        .replace(b"version", b"versiom")
        .replace(b"byteorder", b"byteordes")
    )
    size = len(fake) - at
    count = struct.unpack("<H", content[end + 10 : end + 12])[0] * 2
    fake += b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, count, count, size, at, 0)
    assert first
    path.write_bytes(fake)
    assert "more than the file has" in refused(path)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "net.pt", program(MODULE))
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("archive/data.pkl", program(fetch("posix", "system"), b"0"))
    assert "damaged" in refused(path)


def test_a_directory_of_millions_of_members_is_refused_by_its_declared_size(tmp_path: Path) -> None:
    path = archive(tmp_path / "net.pt", program(MODULE))
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = struct.pack("<L", 2_000_000_000)
    path.write_bytes(bytes(content))
    assert "list of members has 2000000000 bytes" in refused(path)


@pytest.mark.parametrize(
    ("numel", "size", "stride", "offset"),
    [
        (10**12, (2, 2), (2, 1), 0),  # a storage larger than its record
        (4, (10**6, 10**6), (10**6, 1), 0),  # a tensor larger than its storage: torch would grow it
        (4, (2, 2), (2, 1), 1),  # the same by the offset: 1 + 2 + 1 + 1 = 5 numbers of 4
        (4, (2, -2), (2, 1), 0),
    ],
)
def test_tensors_and_storages_fit_their_records(
    numel: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int, tmp_path: Path
) -> None:
    code = program(MODULE, tensor(numel, size, stride, offset=offset))
    path = archive(tmp_path / "net.pt", code, {"0": bytes(16)})
    assert "is refused" in refused(path)


def test_an_expanded_tensor_is_no_bomb(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    model.register_buffer("mask", torch.zeros(1).expand(10**9))
    torch.save(model, tmp_path / "net.pt")
    assert load_model(tmp_path / "net.pt").mask.stride() == (0,)


def test_a_pickle_longer_than_any_models_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("flopscope.loading.pickles.MAX_STEPS", 1000)
    path = archive(tmp_path / "net.pt", program(b"]" * 2000))
    assert "more than 1000 instructions" in refused(path)


def children(*modules: bytes) -> bytes:
    """The state of a container: registers without content but for its children."""
    named = b"".join(text(str(place)) + module for place, module in enumerate(modules))
    registers = text("_parameters") + b"}" + text("_buffers") + b"}" + text("_modules") + b"}(" + named + b"u"
    return b"}(" + registers + b"u"


SEQUENTIAL = ("torch.nn.modules.container", "Sequential")


def test_modules_that_contain_each_other_are_refused(tmp_path: Path) -> None:
    # q\x01 remembers the module, h\x01 names it again inside its own children.
    code = program(new(*SEQUENTIAL), b"q\x01", children(b"h\x01"), b"b")
    assert "contain each other" in refused(archive(tmp_path / "net.pt", code))


def test_modules_nested_without_end_are_refused(tmp_path: Path) -> None:
    inner = new(*SEQUENTIAL) + children() + b"b"
    for _ in range(300):
        inner = new(*SEQUENTIAL) + children(inner) + b"b"
    assert "nest deeper" in refused(archive(tmp_path / "net.pt", program(inner)))


def test_a_tree_that_doubles_at_each_level_is_refused(tmp_path: Path) -> None:
    # 60 levels, each with the level below twice: a walk would visit 2^60 modules.
    steps = [new(*SEQUENTIAL) + children() + b"b" + b"q\x00"]
    for level in range(60):
        steps.append(new(*SEQUENTIAL) + children(b"h" + bytes([level]), b"h" + bytes([level])) + b"b")
        steps.append(b"q" + bytes([level + 1]))
    assert "more than" in refused(archive(tmp_path / "net.pt", program(*steps)))


def test_a_module_without_its_state_is_refused(tmp_path: Path) -> None:
    assert "lacks its state" in refused(archive(tmp_path / "net.pt", program(new(*LINEAR))))


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_a_truncated_file_is_refused(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(nn.Linear(32, 32), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    assert "damaged" in refused(path)


def test_any_flipped_byte_of_the_pickle_loads_or_is_refused_in_plain_words(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    code = next(name for name in members if name.endswith("data.pkl"))
    for place in range(0, len(members[code]), 7):
        changed = bytearray(members[code])
        changed[place] ^= 0x15
        with zipfile.ZipFile(path, "w") as file:
            for name, content in members.items():
                file.writestr(name, bytes(changed) if name == code else content)
        with contextlib.suppress(ModelLoadError):
            assert isinstance(load_model(path), nn.Module)


# --------------------------------------------------------------------------- reading pickles


def test_a_pickle_is_read_as_the_calls_that_it_makes() -> None:
    reading = read_pickle(program(tensor(4, (2, 2), (2, 1)), MODULE, b"0")[:-2] + b".")
    assert reading.names == {
        Name("torch._utils", "_rebuild_tensor_v2"),
        Name("torch", "FloatStorage"),
        Name("collections", "OrderedDict"),
        Name(*LINEAR),
    }
    assert [str(made.by) for made in reading.made] == [
        "collections.OrderedDict",
        "torch._utils._rebuild_tensor_v2",
        "torch.nn.modules.linear.Linear",
    ]
    assert reading.storages["0"].numel == 4


@pytest.mark.parametrize(
    "code", [b"", b"\x80", b"\x80\x02", program(b"R"), program(b"t"), program(b"h\x05"), b"X\xff\xff\xff\xff"]
)
def test_nonsense_is_refused(code: bytes) -> None:
    with pytest.raises(PickleRefusedError):
        read_pickle(code)
