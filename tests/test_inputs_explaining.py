"""What a model raised -> a message that says what to give instead (the forms of the manual)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flopscope.errors import ForwardError
from flopscope.inputs import Inputs, Spec, describe, explain, make, needs_values


def rejected(model: nn.Module, inputs: Any, *, tried: bool = False, path: str | None = None) -> ForwardError:
    """Run a model on inputs that it rejects, and explain; with `tried`, hints are run first."""
    call = describe(inputs)
    made = make(call, model=model)

    def works(other: Inputs) -> bool:
        again = make(other, model=model)
        try:
            copy.deepcopy(model).eval()(*again.args, **again.kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError):
            return False
        return True

    try:
        model.eval()(*made.args, **made.kwargs)
    except (RuntimeError, LookupError, TypeError, ValueError, AssertionError) as raised:
        return explain(model, raised, inputs=call, path=path, works=works if tried else None)
    raise AssertionError("the model took the input")


class Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.stem(x))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(64, 4)

    def forward(self, x: Tensor, mask: Tensor, scale: float = 1.0) -> Tensor:
        return self.proj(x) * mask[..., None] * scale


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30522, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x)


def flat_net() -> nn.Module:
    """28 -> conv 5 -> 24 -> pool 2 -> 12, 2 * 12 * 12 = 288 features."""
    return nn.Sequential(nn.Conv2d(1, 2, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, 3))


def test_batch_missing() -> None:
    error = rejected(Stem(), (3, 224, 224))
    assert str(error) == (
        "forward failed at bn (BatchNorm2d): expected 4D input (got 3D input)\n       input was 3x224x224"
    )
    assert error.hint == "the batch dimension is part of the shape: -i 1,3,224,224"
    assert error.exit_code == 4


def test_batch_missing_that_shows_only_behind_a_flatten() -> None:
    error = rejected(flat_net(), (1, 28, 28), tried=True)
    assert "forward failed at 3 (Linear): expected 288 features" in str(error)
    assert error.hint == "the batch dimension is part of the shape: -i 1,1,28,28"


def test_wrong_channels() -> None:
    error = rejected(Stem(), (1, 1, 32, 32))
    assert str(error) == (
        "forward failed at stem (Conv2d): expected 3 channels, got 1\n       input was 1x1x32x32"
    )
    assert error.hint == "-i 1,3,32,32"


@pytest.mark.parametrize(
    ("model", "shape", "fact", "hint"),
    [
        (nn.Conv1d(2, 4, 3), (1, 5, 32), "expected 2 channels, got 5", "-i 1,2,32"),
        (nn.Conv2d(3, 4, 3), (1, 32, 32, 3), "expected 3 channels, got 32", "-i 1,3,32,32"),
        (nn.Conv2d(3, 4, 3), (32, 32), "expected 4D input (got 2D input)", "-i 1,3,32,32"),
        (nn.Conv3d(3, 4, 3), (1, 1, 8, 8, 8), "expected 3 channels, got 1", "-i 1,3,8,8,8"),
        (nn.ConvTranspose2d(3, 4, 3), (1, 1, 8, 8), "expected 3 channels, got 1", "-i 1,3,8,8"),
        (nn.BatchNorm2d(3), (1, 4, 8, 8), "expected 3 channels, got 4", "-i 1,3,8,8"),
        (nn.BatchNorm1d(3), (2, 4), "expected 3 channels, got 4", "-i 2,3"),
        (nn.GroupNorm(1, 3), (1, 4, 8), "expected 3 channels, got 4", "-i 1,3,8"),
        (nn.Linear(7, 3), (2, 5), "expected 7 features, got 5 (in 2x5)", "-i 2,7"),
        (nn.LayerNorm((4, 5)), (2, 5, 4), "expected a shape that ends in 4x5, got 2x5x4", "-i 2,4,5"),
        (nn.LSTM(8, 4), (5, 1, 9), "expected 8 features, got 9 (in 5x1x9)", "-i 5,1,8"),
    ],
)
def test_axes_of_every_kind_of_layer(model: nn.Module, shape: tuple[int, ...], fact: str, hint: str) -> None:
    error = rejected(nn.Sequential(model), shape)
    assert f"forward failed at 0 ({type(model).__name__}): {fact}\n" in str(error)
    assert error.hint == hint


def test_arguments_alike_are_repaired_alike() -> None:
    error = rejected(nn.MultiheadAttention(16, 2), ((4, 1, 8),) * 3)
    assert "expected 16 features, got 8" in str(error)
    assert error.hint == "-i 4,1,16 -i 4,1,16 -i 4,1,16"


def test_wrong_size_before_a_linear_is_answered_with_a_size_that_runs() -> None:
    error = rejected(flat_net(), (1, 1, 224, 224), tried=True)
    # 224 - 4 = 220, pooled to 110: 2 * 110 * 110 = 24200
    assert "forward failed at 3 (Linear): expected 288 features, got 24200 (in 1x24200)" in str(error)
    assert error.hint == "this input runs: -i 1,1,28,28   (first layer 0 is Conv2d with 1 input channel)"


def test_too_small_for_the_kernel() -> None:
    error = rejected(nn.Sequential(nn.Conv2d(3, 4, 7, padding=1)), (1, 3, 4, 4), tried=True)
    assert "expected an input of at least 5x5, got 4x4" in str(error)  # 1 (7 - 1) + 1 - 2 * 1 = 5
    assert "-i 1,3,224,224" in error.hint


def test_embedding_wants_integers() -> None:
    error = rejected(Words(), Spec((1, 128), "float32"))
    assert str(error) == (
        "forward failed at embed (Embedding): indices must be int64 or int32, got float32\n"
        "       input was 1x128 float32"
    )
    assert error.hint == "-i 1,128:int64     (values are drawn from 0..num_embeddings-1 = 0..30521)"


def test_index_out_of_range() -> None:
    error = rejected(Words(), torch.tensor([[5, 99999]]))
    assert "indices must lie in 0..num_embeddings-1 = 0..30521, got 5..99999" in str(error)
    assert error.hint == "-i '1,2:int64<30522'"


def test_argument_missing() -> None:
    error = rejected(Two(), (1, 10, 64))
    assert str(error) == "Two.forward() missing 1 required argument: 'mask'\n       input was 1x10x64"
    assert error.hint == (
        "signature is forward(x, mask, scale=1.0).  Give each:  -i x=1,10,64 -i mask=1,10:bool"
    )


@pytest.mark.parametrize(
    ("call", "fact"),
    [
        (Inputs((1, 10, 64), (1, 10), 1.0, 2.0), "takes 3 positional arguments, but 4 were given"),
        (Inputs((1, 10, 64), (1, 10), masks=(1, 10)), "got an unexpected argument 'masks'"),
        (Inputs((1, 10, 64), (1, 10), x=(1, 10, 64)), "got 'x' twice, by place and by name"),
    ],
)
def test_arguments_that_do_not_fit(call: Inputs, fact: str) -> None:
    error = rejected(Two(), call)
    assert str(error).startswith(f"Two.forward() {fact}\n")
    assert "signature is forward(x, mask, scale=1.0)." in error.hint
    assert "-i x=1,10,64 -i mask=1,10" in error.hint


def test_type_errors_inside_are_not_taken_for_missing_arguments() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return len(3)  # type: ignore[arg-type, return-value]

    error = rejected(nn.Sequential(Inner()), (1, 3))
    assert "forward failed at 0 (Inner): TypeError: object of type 'int' has no len()" in str(error)


@pytest.mark.parametrize(
    ("given", "name"), [(Spec((2, 7), "float16"), "float16"), (Spec((2, 7), "int64"), "int64")]
)
def test_wrong_dtype(given: Spec, name: str) -> None:
    error = rejected(nn.Sequential(nn.Linear(7, 3)), given)
    assert f"expected float32 like its weights, got {name}" in str(error)
    assert error.hint == "leave the dtype out, then the model's own is taken: -i 2,7"


def test_mixed_dtypes_inside() -> None:
    error = rejected(nn.Sequential(nn.Linear(7, 3), nn.Linear(3, 2).double()), (2, 7))
    assert "forward failed at 1 (Linear): expected float64 like its weights, got float32" in str(error)
    assert "--dtype" in error.hint


def test_anything_else_keeps_its_type_and_first_line() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("first\nsecond")

    class Silent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError

    assert str(rejected(Odd(), (1, 3))).startswith("forward failed (Odd): KeyError: 'first\\nsecond'\n")
    assert str(rejected(Silent(), (1, 3))).startswith("forward failed (Silent): AssertionError\n")


def test_hints_are_not_offered_that_do_not_run() -> None:
    class Never(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.conv(x), x], 1)

    assert rejected(Never(), (1, 3, 8, 8), tried=True).hint == ""


def test_copies_are_explained_by_their_path() -> None:
    model, call = Stem(), describe((1, 1, 32, 32))
    twin = copy.deepcopy(model).to("meta")
    made = make(call, model=twin, device="meta")
    with pytest.raises(RuntimeError) as raised:
        twin(*made.args)
    error = explain(model, raised.value, inputs=call, path="stem")
    assert "forward failed at stem (Conv2d): expected 3 channels, got 1" in str(error)


def test_a_path_that_the_model_does_not_have_is_passed_over() -> None:
    error = rejected(Stem(), (1, 1, 32, 32), path="not.here")
    assert "forward failed at stem (Conv2d): expected 3 channels, got 1" in str(error)


def test_values_that_do_not_exist() -> None:
    with torch.device("meta"):
        model = nn.Linear(3, 3)
    with pytest.raises(RuntimeError) as raised:
        model(torch.empty(1, 3, device="meta")).sum().item()
    assert needs_values(raised.value)
    assert not needs_values(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    error = explain(model, raised.value, inputs=describe((1, 3)))
    assert "needs values" in str(error)
    assert "real device" in error.hint


def test_memory_that_does_not_suffice() -> None:
    error = explain(nn.ReLU(), MemoryError("no room"), inputs=describe((1, 3)))
    assert "out of memory: no room" in str(error)
    assert "smaller batch" in error.hint


def test_transformers_get_names() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = transformers.BertModel(transformers.BertConfig(vocab_size=40, **small))
    error = rejected(model, (1, 3, 224, 224), tried=True)
    assert error.hint.startswith("this input runs: -i input_ids=1,128:int64")
