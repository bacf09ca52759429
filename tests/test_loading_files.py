"""Files: recognised by content, loaded without running pickled code, refused with a way out."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from flopscope.errors import ModelLoadError, UntrustedModelError
from flopscope.loading import load_model, open_address, sniff

# --------------------------------------------------------------------------- kinds and refusals


def zip_of(path: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(path))


def legacy(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path, _use_new_zipfile_serialization=False)


def safetensors(path: Path) -> None:
    # 2x3 + 4 = 10 numbers of 4 bytes in two tensors.
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
            "b": {"dtype": "F32", "shape": [4], "data_offsets": [24, 40]},
        }
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(40))


def truncated(path: Path) -> None:
    torch.save(nn.Linear(64, 64), path)
    path.write_bytes(path.read_bytes()[:-200])


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "torchscript": (torchscript, "TorchScript archive"),
    "legacy-torch-save": (legacy, "before torch 1.6"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=4)), "plain pickle"),
    "safetensors": (safetensors, "2 tensors, 10 parameters"),
    "onnx": (lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x032.4:\x02\x08\x01"), "ONNX"),
    "hdf5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "HDF5"),
    "tflite": (lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100)), "TensorFlow Lite"),
    "gguf": (lambda path: path.write_bytes(b"GGUF\x03\0\0\0" + bytes(100)), "GGUF"),
    "numpy": (lambda path: path.write_bytes(b"\x93NUMPY\x01\0" + bytes(100)), "NumPy"),
    "git-lfs": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
    "html": (lambda path: path.write_text("<!DOCTYPE html><title>404</title>"), "web page"),
    "json": (lambda path: path.write_text('{"a": 1}'), "not a report"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "directory": (lambda path: path.mkdir(), "directory"),
    "unknown": (lambda path: path.write_bytes(b"\0junk\0" * 100), "no kind"),
    "python": (
        lambda path: path.write_text("import torch\n\n\ndef build():\n    return 1\n"),
        "Python source",
    ),
    "absent": (lambda path: None, "no file"),
    "damaged-zip": (truncated, "damaged"),
    "zip": (lambda path: zip_of(path, {"a/readme.txt": b"hello"}), "none that torch"),
    "exported-old": (lambda path: zip_of(path, {"serialized_exported_program.json": b"{}"}), "2.7 or older"),
    "aotinductor": (
        lambda path: zip_of(path, {"m/archive_format": b"pt2", "m/data/aotinductor/model/x.so": b"\x7fELF"}),
        "AOTInductor",
    ),
}


@pytest.mark.parametrize("suffix", [".pt", ".json"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_recognised_by_content_and_refused_with_a_way_out(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    write, says = KINDS[kind]
    path = tmp_path / f"net{suffix}"
    write(path)
    assert sniff(path) == kind
    with pytest.raises(ModelLoadError, match=says) as caught:
        open_address(path)
    assert caught.value.hint
    assert caught.value.exit_code == 3
    assert "weights_only" not in f"{caught.value}{caught.value.hint}"


def test_a_report_is_given_back_as_a_path(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_text('{\n  "format": "flopscope-report",\n  "version": 1\n}')
    opened = open_address(path)
    assert (opened.kind, opened.path, opened.model, opened.loaded_by) == ("report", path, None, "report")
    with pytest.raises(ModelLoadError, match="saved report"):
        load_model(path)


def test_telling_kinds_apart_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"format": "flopscope-report"}')
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt")
    code = """
import sys
from flopscope.loading import open_address, sniff
from flopscope.errors import ModelLoadError
assert open_address("r.json").kind == "report"
assert sniff("net.pt") == "torch-save"
try:
    open_address("absent.pt")
except ModelLoadError as error:
    assert "no file" in str(error)
else:
    sys.exit("not refused")
sys.exit("torch was imported" if "torch" in sys.modules else 0)
"""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()


# --------------------------------------------------------------------------- what loads

NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding_mode="reflect", padding=1), nn.ReLU6()),
        (1, 3, 8, 8),
    ),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.PReLU()), (1, 3, 4, 4)),
    "norms": (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.LayerNorm(4), nn.RMSNorm(4)), (2, 4)),
    "group": (lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.Dropout(0.1)), (1, 4, 5, 5)),
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.GELU(), nn.Softmax(-1)), (2, 6)),
    "pools": (
        lambda: nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Upsample(scale_factor=2)),
        (1, 2, 8, 8),
    ),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, activation="gelu"), (3, 1, 8)),
    "encoders": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, enable_nested_tensor=False),
        (3, 1, 8),
    ),
    "half": (lambda: nn.Linear(4, 4).bfloat16(), (2, 4)),
    "nested": (lambda: nn.Sequential(nn.ModuleList([nn.Linear(2, 2)])[0], nn.Identity()), (1, 2)),
}


@pytest.mark.parametrize("meta", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_whole_modules_of_torch_load_without_being_asked(name: str, meta: bool, tmp_path: Path) -> None:
    make, shape = NETS[name]
    model = make()
    path = tmp_path / "net.onnx"
    torch.save(model, path)
    opened = open_address(path, meta=meta)
    assert (opened.kind, opened.loaded_by, opened.sha256) == ("model", "allowlist", None)
    loaded = opened.model
    assert [name for name, _ in loaded.named_modules()] == [name for name, _ in model.named_modules()]
    if meta:
        assert all(tensor.is_meta for tensor in loaded.parameters())
        return
    model.eval()
    loaded.eval()
    given = torch.ones(shape, dtype=next(model.parameters(), torch.ones(1)).dtype)
    assert torch.equal(model(given), loaded(given))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_modules_load(kind: type[nn.Module], tmp_path: Path) -> None:
    model = kind(3, 4, num_layers=2, bidirectional=True)
    torch.save(model, tmp_path / "net.pt")
    loaded = load_model(tmp_path / "net.pt")
    given = torch.ones(5, 1, 3)
    assert torch.equal(model(given)[0], loaded(given)[0])


def test_buffers_with_attributes_and_tied_weights_load(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model.extra = nn.Buffer(torch.arange(3.0))
    torch.save(model, tmp_path / "net.pt")
    loaded = load_model(tmp_path / "net.pt")
    assert loaded[0].weight is loaded[1].weight
    assert torch.equal(loaded.extra, torch.arange(3.0))


def test_loading_leaves_the_users_own_allow_list_as_it_was(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt")
    with torch.serialization.safe_globals([nn.Linear]):
        before = set(torch.serialization.get_safe_globals())
        load_model(tmp_path / "net.pt")
        assert set(torch.serialization.get_safe_globals()) == before
        assert nn.Linear in before


TORCHVISION = ("resnet18", "vit_b_16", "ssdlite320_mobilenet_v3_large", "raft_small", "swin_t")
TIMM = ("fasternet_t0", "vit_tiny_patch16_224", "mixer_s32_224", "mobilenetv3_small_050", "convnext_atto")


@pytest.mark.parametrize("name", TORCHVISION)
def test_models_of_torchvision_load(name: str, tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    keywords = {"weights_backbone": None} if name.startswith("ssd") else {}
    with torch.device("meta"):
        model = models.get_model(name, weights=None, **keywords)
    torch.save(model, tmp_path / "net.pt")
    loaded = load_model(tmp_path / "net.pt")
    assert type(loaded) is type(model)
    assert [name for name, _ in loaded.named_parameters()] == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize("name", TIMM)
def test_models_of_timm_load(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        model = timm.create_model(name)
    torch.save(model, tmp_path / "net.pt")
    loaded = load_model(tmp_path / "net.pt")
    assert type(loaded) is type(model)
    assert [name for name, _ in loaded.named_parameters()] == [name for name, _ in model.named_parameters()]


def test_fasternets_bound_method_is_rebuilt_without_calling_getattr(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    model = timm.create_model("fasternet_t0").eval()
    torch.save(model, tmp_path / "net.pt")
    loaded = load_model(tmp_path / "net.pt").eval()
    mixers = [module for module in loaded.modules() if "forward" in vars(module)]
    assert mixers
    assert all(mixer.forward.__self__ is mixer for mixer in mixers)
    given = torch.ones(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(given), loaded(given))


# --------------------------------------------------------------------------- dicts, weights, --allow, --trust


def test_a_dict_with_one_module_gives_it(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "model": nn.Linear(2, 3), "optimizer": {"lr": 0.1}}, tmp_path / "ckpt.pt")
    assert load_model(tmp_path / "ckpt.pt").out_features == 3


def test_a_dict_with_several_modules_wants_a_key(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    torch.save({"model": nn.Linear(2, 3), "ema": nn.Linear(2, 4)}, path)
    with pytest.raises(ModelLoadError, match="2 models: 'model', 'ema'") as caught:
        load_model(path)
    assert "--key ema" in caught.value.hint
    assert load_model(path, key="ema").out_features == 4
    with pytest.raises(ModelLoadError, match="no model under the key 'net'"):
        load_model(path, key="net")


@pytest.mark.parametrize(
    ("wrap", "says"),
    [
        (lambda state: state, r"state_dict: 2 tensors, 9\b"),
        (lambda state: {"epoch": 1, "state_dict": state}, r"'state_dict' is a state_dict: 2 tensors, 9\b"),
        (lambda state: state["weight"], r"1 tensors, 6\b"),
    ],
)
def test_weights_alone_are_refused_with_their_size(wrap: Callable, says: str, tmp_path: Path) -> None:
    # Linear(2, 3): 2*3 weights + 3 biases = 9 parameters in 2 tensors.
    torch.save(wrap(nn.Linear(2, 3).state_dict()), tmp_path / "net.pth")
    with pytest.raises(ModelLoadError, match=says) as caught:
        load_model(tmp_path / "net.pth")
    assert "weights only" in str(caught.value)
    assert "flopscope report torchvision:resnet18" in caught.value.hint


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of the user's, importable from the current folder only."""
    name = f"package_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(2, 3)\n"
        "        self.helper = Helper()\n"
        "    def forward(self, x):\n"
        "        return self.layer(x)\n"
        "class Helper(nn.Module):\n"
        "    pass\n"
        "class Plain:\n"
        "    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    return name


def save_with(package: str, make: str, path: Path) -> None:
    """Save an object of the package's (`p`), and forget the package again."""
    sys.path.insert(0, ".")
    try:
        torch.save(eval(make, {"p": importlib.import_module(package)}), path)
    finally:
        sys.path.remove(".")
        sys.modules.pop(package, None)


def test_foreign_classes_are_all_named_with_three_ways_out(package: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    save_with(package, "p.Net()", path)
    with pytest.raises(UntrustedModelError) as caught:
        load_model(path)
    assert f"{package}.Helper, {package}.Net" in str(caught.value)
    for way in (f"{package}:", f"--allow {package}", "--trust"):
        assert way in caught.value.hint
    assert package not in sys.modules
    assert "weights_only" not in caught.value.hint


def test_allow_builds_the_packages_modules_and_nothing_else_of_it(package: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    save_with(package, "p.Net()", path)
    before = list(sys.path)
    assert load_model(path, allow=[package]).layer.out_features == 3
    assert sys.path == before
    save_with(package, "{'model': p.Net(), 'plain': p.Plain()}", path)
    with pytest.raises(UntrustedModelError) as caught:
        load_model(path, allow=[package])
    assert f"{package}.Plain" in str(caught.value)
    assert f"{package}.Net" not in str(caught.value)


def test_trust_loads_anything_and_says_so(package: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    save_with(package, "{'model': p.Net(), 'plain': p.Plain()}", path)
    opened = open_address(path, trust=True)
    assert opened.loaded_by == "trusted"
    assert opened.model is not None
    done = subprocess.run(["sha256sum", str(path)], capture_output=True, check=True)
    assert opened.sha256 == done.stdout.split()[0].decode()
    assert opened.sha256 in opened.notes[0]


def test_trust_loads_a_legacy_file(tmp_path: Path) -> None:
    legacy(tmp_path / "net.pt")
    assert load_model(tmp_path / "net.pt", trust=True).in_features == 2


def test_an_old_torch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(ModelLoadError, match=r"mended in 2\.10"):
        load_model(tmp_path / "net.pt")
