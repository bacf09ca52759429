"""A model -> inputs that it takes. Each candidate is run on the meta device, as the caller does."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flopscope.inputs import Inputs, Spec, infer, make, text


def chosen(model: nn.Module) -> str:
    """The first candidate that runs without data, as text."""
    twin = copy.deepcopy(model).eval().to("meta")
    for call in infer(twin):
        if runs(twin, call):
            return text(call)
    return "none"


def runs(twin: nn.Module, call: Inputs) -> bool:
    made = make(call, model=twin, device="meta")

    def moved(value: Any) -> Any:
        return value.to("meta") if isinstance(value, Tensor) else value

    try:
        with torch.no_grad(), torch.device("meta"):
            twin(*[moved(item) for item in made.args], **{name: moved(v) for name, v in made.kwargs.items()})
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError, AttributeError):
        return False
    return True


class Lenet(nn.Module):
    """Functional pools hide from whoever looks at modules: 28 -> 24 -> 12 -> 8 -> 4, 16 * 4 * 4 = 256."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(channels, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc = nn.Linear(features, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.max_pool2d(self.c2(F.max_pool2d(self.c1(x), 2)), 2).flatten(1))


class PartialConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first, rest = x.split([16, 48], 1)
        return torch.cat([self.conv(first), rest], 1)


class Language(nn.Module):
    """Has places for 32 tokens only."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(50, 8)
        self.position = nn.Embedding(32, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)

    def forward(self, src: Tensor, src_key_padding_mask: Tensor) -> Tensor:
        places = self.position(torch.arange(src.shape[1]))
        return self.layer(self.token(src) + places, src_key_padding_mask=src_key_padding_mask)


class Recommender(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.item_table, self.user_table = nn.Embedding(20, 4), nn.Embedding(10, 4)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return self.user_table(user) * self.item_table(item)


class Describer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.conv = nn.Embedding(9, 4), nn.Conv2d(3, 4, 3)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return self.conv(image).mean((2, 3)) + self.words(text).mean(1)


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.step = nn.Conv2d(3, 4, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        waves = torch.sin(t[:, None].float() * torch.arange(8))
        return self.conv(x) + self.step(waves)[:, :, None, None]


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(16, 8)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = self.lin(x)
        return torch.zeros_like(h).index_add(0, edge_index[1], h[edge_index[0]])


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, first: Tensor, *, second: Tensor) -> Tensor:
        return self.conv(first) + self.conv(second)


class HeadFirst(nn.Module):
    """Registers its last layer first."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.conv = nn.Linear(10, 2), nn.Conv2d(3, 10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).mean((2, 3)))


class Bare(nn.Module):
    """Knows no layers, only a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Nothing(nn.Module):
    def forward(self) -> Tensor:
        return torch.zeros(3)


def chain(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (chain(nn.Conv2d(3, 4, 3)), "1x3x224x224"),
        (chain(nn.Conv3d(3, 4, 3)), "1x3x16x112x112"),
        (chain(nn.Conv1d(1, 4, 3)), "1x1x16000"),
        (chain(nn.Conv1d(80, 4, 3)), "1x80x1024"),
        (chain(nn.Linear(7, 3)), "1x7"),
        (chain(nn.Flatten(), nn.Linear(784, 3)), "1x784"),
        (chain(nn.Embedding(9, 3)), "1x128 int64"),
        (chain(nn.ConvTranspose2d(100, 8, 4)), "1x100x1x1"),
        (chain(nn.LayerNorm(12)), "1x128x12"),
        (chain(nn.BatchNorm1d(5), nn.Linear(5, 2)), "1x5"),
        (chain(nn.BatchNorm2d(5)), "1x5x224x224"),
        (chain(nn.ReLU()), "1x3x224x224"),
        (lambda: nn.LSTM(8, 4), "128x1x8"),
        (lambda: nn.GRU(8, 4, batch_first=True), "1x128x8"),
        (lambda: nn.LSTMCell(8, 4), "1x8"),
        (lambda: nn.MultiheadAttention(16, 2), "128x1x16, 128x1x16, 128x1x16"),
        (lambda: nn.Transformer(16, 2, 1, 1, 8, batch_first=True), "1x128x16, 1x128x16"),
        (lambda: nn.TransformerDecoderLayer(16, 2, 8), "128x1x16, 128x1x16"),
        # 46 out of the second convolution's 48 - 2, pooled to 23: (23 - 1) * 2 + 2 = 46, + 2 = 48
        (
            chain(
                nn.Conv2d(2, 4, 3), nn.Conv2d(4, 8, 1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 23**2, 5)
            ),
            "1x2x48x48",
        ),
        (lambda: Lenet(1, 256), "1x1x28x28"),
        (lambda: Lenet(3, 400), "1x3x32x32"),
        (PartialConv, "1x64x224x224"),
        (Language, "1x32 int64, 1x32 bool"),
        (Recommender, "1x128 int64, 1x128 int64"),
        (Describer, "1x3x224x224, 1x128 int64"),
        (Denoiser, "1x3x224x224, 1 int64"),
        (Graph, "128x16, 2x512 int64 <128"),
        (Pair, "1x3x224x224, second=1x3x224x224"),
        (HeadFirst, "1x3x224x224"),
        (Bare, "1x6"),
        (Nothing, "no arguments"),
    ],
)
def test_first_candidate_that_runs(build: Callable[[], nn.Module], expected: str) -> None:
    assert chosen(build()) == expected


def test_usual_sizes_are_the_first_guess() -> None:
    assert text(infer(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1)))[0]) == "1x1x224x224"


def test_zoo_resolution_and_lightning_example_come_first() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    model.flopscope_resolution = 192  # type: ignore[assignment]
    assert text(infer(model)[0]) == "1x3x192x192"
    model.flopscope_resolution = (64, 56, 56)  # type: ignore[assignment]
    assert text(infer(model)[0]) == "1x64x56x56"
    del model.flopscope_resolution
    example = torch.zeros(2, 3, 8, 8)
    model.example_input_array = example
    assert infer(model)[0].args[0] is example


def test_stated_configs_of_other_kinds_are_passed_over() -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    model.config = SimpleNamespace(hidden_size=4)  # type: ignore[assignment]
    model.default_cfg = {"input_size": None}  # type: ignore[assignment]
    model.example_input_array = "none"  # type: ignore[assignment]
    assert text(infer(model)[0]) == "1x4"


def test_default_cfg_of_timm_gives_size_and_the_layer_gives_channels() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3))
    model.default_cfg = {"input_size": (3, 320, 320)}  # type: ignore[assignment]
    assert text(infer(model)[0]) == "1x1x320x320"


def test_wrapped_models_are_seen_through() -> None:
    assert text(infer(nn.DataParallel(nn.Sequential(nn.Conv2d(3, 4, 3))))[0]) == "1x3x224x224"


def test_weight_normed_layers_are_layers() -> None:
    assert chosen(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 3)))) == "1x5"


def test_inferring_leaves_the_model_alone() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2))
    before = {name: type(item) for name, item in model.named_parameters()}
    assert text(infer(model)[0]) == "1x3x224x224"
    assert {name: type(item) for name, item in model.named_parameters()} == before


# ------------------------------------------------------------------------------ real libraries


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", "1x3x224x224"),
        ("inception_v3", "1x3x224x224"),
        ("vit_b_16", "1x3x224x224"),
        ("r3d_18", "1x3x16x112x112"),
        ("mvit_v2_s", "1x3x16x224x224"),
        ("raft_small", "1x3x224x224, 1x3x224x224"),
    ],
)
def test_torchvision(name: str, expected: str) -> None:
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        model = models.get_model(name, weights=None)
    assert chosen(model) == expected


def test_torchvision_detectors_take_lists_of_images() -> None:
    detection = pytest.importorskip("torchvision.models.detection", reason="torchvision is not installed")
    model = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    call = infer(model)[0]
    assert text(call) == "[3x320x320]"
    made = make(call, model=model)
    with torch.no_grad():
        assert "boxes" in model(*made.args)[0]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("fasternet_t0", {}, "1x3x224x224"),
        ("efficientnet_b4", {}, "1x3x320x320"),
        ("vit_tiny_patch16_224", {"img_size": 96}, "1x3x96x96"),
        ("mobilenetv3_small_100", {"in_chans": 4}, "1x4x224x224"),
        ("tresnet_m", {}, "1x3x224x224"),  # its first convolution sees 48 channels
    ],
)
def test_timm(name: str, options: dict[str, int], expected: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        model = timm.create_model(name, **options)
    assert chosen(model) == expected


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("Bert", {"num_hidden_layers": 1}, "input_ids=1x128 int64"),
        ("GPT2", {"n_layer": 1, "n_positions": 64}, "input_ids=1x64 int64"),
        ("ViT", {"num_hidden_layers": 1, "image_size": 96}, "pixel_values=1x3x96x96"),
        ("T5", {"num_layers": 1}, "input_ids=1x128 int64, decoder_input_ids=1x128 int64"),
        (
            "Whisper",
            {"encoder_layers": 1, "decoder_layers": 1},
            "input_features=1x80x3000, decoder_input_ids=1x128 int64",
        ),
        ("Wav2Vec2", {"num_hidden_layers": 1}, "input_values=1x16000"),
    ],
)
def test_transformers(name: str, options: dict[str, int], expected: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    with torch.device("meta"):
        model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**options))
    assert chosen(model) == expected


def test_transformers_run_on_the_values_that_are_made() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = transformers.BertModel(transformers.BertConfig(vocab_size=40, **small)).eval()
    call = Inputs(input_ids=(2, 9), attention_mask=(2, 9), token_type_ids=(2, 9))
    made = make(call, model=model)
    assert int(made.kwargs["input_ids"].max()) > 1  # words, not bounded by the two token types
    with torch.no_grad():
        assert model(**made.kwargs).last_hidden_state.shape == (2, 9, 16)


def test_spec_of_inferred_ids_is_typed() -> None:
    assert infer(nn.Embedding(4, 2))[0].args == (Spec((1, 128), "int64"),)
