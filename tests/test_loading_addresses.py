"""Addresses: how they are read, what they build, and what is said when they name nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from flopscope.errors import ModelLoadError
from flopscope.loading import builders, load_model, open_address
from flopscope.loading.addresses import parse_address, parse_literal

NET = """
import torch
from torch import nn
import neighbour

class Net(nn.Module):
    def __init__(self, width=4, name="a"):
        super().__init__()
        self.name = name
        self.layer = nn.Linear(width, neighbour.WIDTH)

class Reading(nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = torch.linspace(0, 1, 3)[1].item()
        self.layer = nn.Linear(2, 2)

def build(width=4):
    return Net(width)

def broken():
    raise KeyError("the key")

def number():
    return 3

ready = Net(7)
text = "no module"
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with builders, beside a module that it imports; the current folder is elsewhere."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "net.py").write_text(NET)
    (tmp_path / "sub" / "neighbour.py").write_text("WIDTH = 5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "neighbour", raising=False)
    return tmp_path / "sub" / "net.py"


# --------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("text", "scheme", "place", "attribute", "args"),
    [
        ("timm:resnet18.a1_in1k", "timm", "resnet18.a1_in1k", "", {}),
        ("torchvision:resnet18?num_classes=7", "torchvision", "resnet18", "", {"num_classes": 7}),
        ("zoo:fasternet_t0", "zoo", "fasternet_t0", "", {}),
        ("op:pconv?channels=64&size=56", "op", "pconv", "", {"channels": 64, "size": 56}),
        ("pkg.mod:build?a=(1,2)&b=x", "import", "pkg.mod", "build", {"a": (1, 2), "b": "x"}),
        ("dir/net.py:Net.make", "source", "dir/net.py", "Net.make", {}),
        ("net.pt", "file", "net.pt", "", {}),
        ("dir/with:colon/net.pt", "file", "dir/with:colon/net.pt", "", {}),
    ],
)
def test_addresses_are_told_by_their_form(
    text: str, scheme: str, place: str, attribute: str, args: dict[str, Any]
) -> None:
    address = parse_address(text)
    assert (address.scheme, address.place, address.attribute, address.args) == (
        scheme,
        place,
        attribute,
        args,
    )


def test_a_file_that_exists_is_a_file_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timm:resnet18").write_bytes(b"")
    assert parse_address("timm:resnet18").scheme == "file"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-1", -1),
        ("1e-3", 0.001),
        ("True", True),
        ("false", False),
        ("None", None),
        ("(1, 2)", (1, 2)),
        ("[1, 'a']", [1, "a"]),
        ("'3'", "3"),
        ("gelu", "gelu"),
        ("__import__('os')", "__import__('os')"),
        ("(" * 5000, "(" * 5000),
        (7, 7),
    ],
)
def test_values_are_literals_or_text(text: Any, value: Any) -> None:
    found = parse_literal(text)
    assert found == value
    assert type(found) is type(value)


def test_arguments_given_apart_win_over_those_in_the_address() -> None:
    assert parse_address("a.b:c?x=1&y=2", {"y": "3"}).args == {"x": 1, "y": 3}


# --------------------------------------------------------------------------- a user's code


@pytest.mark.parametrize(
    ("attribute", "width"), [("Net", 4), ("Net?width=6", 6), ("build", 4), ("build?width=9", 9), ("ready", 7)]
)
def test_a_file_gives_classes_functions_and_modules(attribute: str, width: int, source: Path) -> None:
    before = list(sys.path)
    opened = open_address(f"sub/net.py:{attribute}")
    assert (opened.kind, opened.loaded_by, opened.default_inputs) == ("model", "import", None)
    assert opened.model.layer.weight.shape == (5, width)
    assert sys.path == before


def test_arguments_come_as_text_or_as_values(source: Path) -> None:
    assert load_model(f"{source}:Net", args={"width": "8", "name": "b"}).layer.in_features == 8
    assert load_model(f"{source}:Net?name=x.y").name == "x.y"


def test_a_module_in_the_current_folder_is_importable(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source.parent)
    name = "net_of_this_test"
    source.rename(source.with_name(f"{name}.py"))
    assert load_model(f"{name}:Net").layer.in_features == 4
    del sys.modules[name]


def test_meta_allocates_nothing_where_the_code_allows_it(source: Path) -> None:
    assert open_address(f"{source}:Net", meta=True).model.layer.weight.is_meta
    # `.item()` fails on the meta device, so this one is built for real.
    assert not open_address(f"{source}:Reading", meta=True).model.layer.weight.is_meta
    assert not load_model(f"{source}:Net").layer.weight.is_meta
    assert torch.empty(0).device.type == "cpu"


@pytest.mark.parametrize(
    ("attribute", "says", "hint"),
    [
        ("Nett", "has no 'Nett'", "did you mean Net?"),
        ("broken", "failed: KeyError: 'the key'", "--arg"),
        ("number", "returned a int", "function that returns a module"),
        ("text", "is a str", "name an nn.Module class"),
        ("Net?depth=3", "unexpected keyword argument 'depth'", "called with (depth=3)"),
        ("ready?width=3", "takes no arguments", "name an nn.Module class"),
    ],
)
def test_mistakes_of_builders_are_said_in_one_line(
    attribute: str, says: str, hint: str, source: Path
) -> None:
    with pytest.raises(ModelLoadError) as caught:
        load_model(f"{source}:{attribute}")
    assert says in str(caught.value)
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def (", "SyntaxError"),
        ("import sys; sys.exit(3)", "ended the program"),
        ("class Own(Exception): pass\nraise Own('mine')", "Own: mine"),
    ],
)
def test_a_file_that_fails_to_import_is_blamed(code: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(code)
    modules = set(sys.modules)
    with pytest.raises(ModelLoadError, match="importing") as caught:
        load_model(f"{tmp_path / 'net.py'}:build")
    assert says in str(caught.value)
    assert caught.value.__cause__ is not None
    assert not [name for name in set(sys.modules) - modules if name.startswith("net_")]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nowhere/net.py:build", "no file"),
        ("no_such_package.mod:build", "No module named 'no_such_package'"),
        ("net.pt", "no file net.pt"),
        ("a:b:c", "is not an address"),
        ("nosuch", "no file nosuch"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, says: str) -> None:
    with pytest.raises(ModelLoadError) as caught:
        load_model(address)
    assert says in str(caught.value)
    assert caught.value.hint


def test_a_file_takes_no_arguments(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt")
    with pytest.raises(ModelLoadError, match="takes no arguments"):
        load_model(tmp_path / "net.pt", args={"a": "1"})


# --------------------------------------------------------------------------- libraries


def test_torchvision_builds_without_weights() -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    opened = open_address("torchvision:resnet18?num_classes=7", meta=True)
    assert opened.model.fc.weight.shape == (7, 512)
    assert opened.model.fc.weight.is_meta
    with pytest.raises(ModelLoadError) as caught:
        load_model("torchvision:resnet1")
    assert "did you mean resnet18" in caught.value.hint


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "fcn_resnet50"])
def test_detectors_and_segmenters_download_no_backbone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    monkeypatch.setattr(
        "torch.hub.download_url_to_file", lambda *args, **named: pytest.fail("a download began")
    )
    assert open_address(f"torchvision:{name}", meta=True).model is not None


def test_timm_says_its_own_input_size() -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    assert open_address("timm:vit_tiny_patch16_384", meta=True).default_inputs == ((1, 3, 384, 384),)
    assert open_address("timm:resnet18?in_chans=1", meta=True).default_inputs == ((1, 1, 224, 224),)
    with pytest.raises(ModelLoadError) as caught:
        load_model("timm:fasternet_t00")
    assert "did you mean fasternet_t0" in caught.value.hint


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_missing_or_broken_library_is_named_with_the_way_to_install_it(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def broken(name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(builders.importlib, "import_module", absent)
    with pytest.raises(ModelLoadError, match=f"{library} is not installed") as caught:
        load_model(f"{library}:resnet18")
    assert caught.value.hint == f"pip install {library}"
    monkeypatch.setattr(builders.importlib, "import_module", broken)
    with pytest.raises(ModelLoadError, match=f"{library} is installed but broken"):
        load_model(f"{library}:resnet18")


@pytest.mark.parametrize("address", ["zoo:fasternet_t0", "op:pconv?channels=64"])
def test_a_version_without_a_zoo_says_so(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flopscope.zoo", None)
    with pytest.raises(ModelLoadError, match="no zoo in this version"):
        load_model(address)
