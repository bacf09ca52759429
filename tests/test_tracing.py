"""Tracing: what is noted of a run, on each route, and that nothing of it is left behind."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from flopscope.costs import has_formula
from flopscope.records import Input, OpCall, Trace
from flopscope.tracing import TraceError, trace


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def traced(model: nn.Module, *args: Any, **kwargs: Any) -> Trace:
    return trace(model, args, kwargs, keep=has_formula)


def run(model: nn.Module, *args: Any, **kwargs: Any) -> Trace:
    return trace(model, args, kwargs, keep=has_formula, meta=False)


def names(found: Trace) -> list[str]:
    return [op.op for op in found.ops]


def shown(op: OpCall) -> tuple[Any, ...]:
    """What must not depend on the route: the op, its arguments and the layouts of its tensors."""
    layouts = [(spec.shape, spec.dtype, spec.strides) for spec in (*op.inputs, *op.outputs)]
    arguments = {name: value for name, value in op.arguments.items() if name != "device"}
    return (op.op, op.call, layouts, arguments, op.written, op.view)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)) + x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(self.block(x))
        return self.head(x.mean((2, 3)))


def test_calls_and_ops_of_a_module_used_twice() -> None:
    found = traced(Net(), meta(1, 4, 8, 8))
    assert [(call.path, call.parent) for call in found.calls] == [
        ("", None),
        ("block", 0), ("block.conv", 1), ("block.bn", 1),
        ("block", 0), ("block.conv", 4), ("block.bn", 4),
        ("head", 0),
    ]  # fmt: skip
    block = ["aten::convolution", "aten::batch_norm", "aten::add", "aten::relu"]
    assert names(found) == [*block, *block, "aten::mean", "aten::linear"]
    assert [op.call for op in found.ops] == [2, 3, 1, 1, 5, 6, 4, 4, 0, 7]
    assert (found.calls[1].first_op, found.calls[1].end_op) == (0, 4)
    assert found.calls[7].input_shapes == ((1, 4),)
    assert found.calls[7].output_shapes == ((1, 2),)


def test_equal_calls_share_a_signature_and_nothing_else() -> None:
    found = traced(Net(), meta(1, 4, 8, 8))
    first, second = found.ops[0], found.ops[4]
    assert first.signature == second.signature
    assert first.arguments is second.arguments
    assert first.inputs[0].storage != second.inputs[0].storage
    assert first.inputs[1].storage == second.inputs[1].storage, "the weight is the same one"
    assert first.signature != found.ops[1].signature


def test_a_signature_tells_kinds_of_numbers_and_aliases_apart() -> None:
    class Adds(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
            return x + 1, x + 1.0, x + True, x + x, x + y, y + x

    found = traced(Adds(), meta(3, dtype=torch.int64), meta(3, dtype=torch.int64))
    dtypes = [op.outputs[0].dtype for op in found.ops]
    assert dtypes == ["int64", "float32", "int64", "int64", "int64", "int64"]
    signatures = [op.signature for op in found.ops]
    assert len(set(signatures[:5])) == 5
    assert signatures[4] == signatures[5], "two different tensors, in either order"


def test_arguments_are_named_and_tensors_are_placeholders() -> None:
    found = traced(Net(), meta(1, 4, 8, 8))
    conv = found.ops[0]
    assert conv.value("groups", 1) == 1
    assert conv.value("transposed") is False
    assert tuple(conv.value("padding")) == (1, 1)
    assert conv.arguments["weight"] == Input(1)
    weight = conv.tensor("weight")
    assert weight is not None
    assert weight.shape == (4, 4, 3, 3)
    assert found.storages[weight.storage].name == "block.conv.weight"
    assert found.storages[weight.storage].role == "parameter"


def test_a_view_is_told_from_a_copy_by_its_storage() -> None:
    class Reshapes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(-1).reshape(4, 3).t().reshape(-1)

    ops = traced(Reshapes(), meta(3, 4)).ops
    assert [(op.op, op.view) for op in ops] == [
        ("aten::reshape", True),
        ("aten::reshape", True),
        ("aten::t", True),
        ("aten::reshape", False),
    ]


def test_what_is_written_in_place() -> None:
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            y.add_(x)
            y[0] = x[1]
            torch.add(x, x, out=y)
            return y

    ops = [op for op in traced(Writes(), meta(3, 4)).ops if not op.view]
    assert [(op.op, op.written) for op in ops] == [
        ("aten::mul", ()),
        ("aten::add_", (0,)),
        ("aten::copy_", (0,)),
        ("aten::add", (2,)),
    ]
    assert ops[1].outputs == (ops[1].inputs[0],)


def test_storages_live_as_long_as_eager_tensors() -> None:
    class Chain(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a = x * 2  # op 0; dies when b is made and a is rebound
            b = a + 1  # op 1
            del a
            c = b.view(-1) - 1  # ops 2, 3: the view keeps b's storage
            del b
            return c * c  # op 4

    found = traced(Chain(), meta(4))
    lives = [(item.role, item.born, item.died) for item in found.storages]
    assert lives == [
        ("input", -1, None),
        ("activation", 0, 2),
        ("activation", 1, 4),
        ("activation", 3, 5),
        ("activation", 4, None),
    ]


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Net(), (1, 4, 8, 8)),
        (nn.Sequential(nn.Conv2d(3, 6, 3, padding="same"), nn.GroupNorm(2, 6), nn.SiLU()), (2, 3, 9, 9)),
        (nn.Sequential(nn.Conv2d(3, 6, 4, padding="same"), nn.AdaptiveAvgPool2d(1)), (2, 3, 9, 9)),
        (
            nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.Upsample(scale_factor=2)),
            (1, 4, 5, 5),
        ),
        (nn.LSTM(8, 5, num_layers=2, bidirectional=True, batch_first=True), (2, 7, 8)),
        (nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), (2, 5, 16)),
        (nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2), (2, 5, 16)),
        (nn.TransformerEncoderLayer(15, 3, 32, batch_first=True), (2, 5, 15)),
        (nn.TransformerEncoderLayer(16, 4, 32), (5, 2, 16)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "x".join(map(str, value)),
)
def test_both_routes_see_the_same(model: nn.Module, shape: tuple[int, ...]) -> None:
    without, real = traced(model, meta(*shape)), run(model, torch.randn(shape))
    assert [shown(op) for op in without.ops] == [shown(op) for op in real.ops]
    assert without.calls == real.calls
    assert without.parameters == real.parameters


@pytest.mark.parametrize("query_last", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_layouts_without_data_are_those_of_a_real_run(
    query_last: bool, memory_format: torch.memory_format
) -> None:
    """torch's own meta kernels answer otherwise for channels_last convolutions and attention."""

    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, groups=1, bias=False)
            self.depthwise = nn.Conv2d(8, 8, 3, groups=8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.depthwise(self.stem(x))
            tokens = x.flatten(2).unsqueeze(1)
            tokens = tokens if query_last else tokens.transpose(2, 3)
            y = F.scaled_dot_product_attention(tokens, tokens, tokens)
            return y.transpose(1, 2).reshape(x.shape[0], -1)

    x = torch.randn(2, 3, 9, 9).to(memory_format=memory_format)
    without = traced(Attends(), torch.empty_like(x, device="meta"))
    real = run(Attends(), x)
    assert [shown(op) for op in without.ops] == [shown(op) for op in real.ops]


def test_no_weight_is_read_on_the_meta_route() -> None:
    """Every kernel that runs gets tensors without data only."""
    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.extend(
                f"{func} on {item.device}"
                for item in args
                if isinstance(item, torch.Tensor) and not item.is_meta
            )
            return func(*args, **(kwargs or {}))

    model = Net()
    with Watch():  # below the recorder: sees what the recorder lets through
        traced(model, meta(1, 4, 8, 8))
    assert seen == []


def test_constants_of_the_run_steer_it_as_they_do_for_real() -> None:
    class Steers(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for share in torch.linspace(0, 1, 4).tolist():
                x = x * share if share > 0.5 else x + 1
            if torch.arange(5).sum().item() == 10:
                x = x - 1
            return x[:, torch.arange(2)] + torch.zeros(70_000)[0]

    found = traced(Steers(), meta(2, 3))
    arithmetic = [name for name in names(found) if name in ("aten::mul", "aten::add", "aten::sub")]
    assert arithmetic == ["aten::add", "aten::add", "aten::mul", "aten::mul", "aten::sub", "aten::add"]
    large = next(item for item in found.storages if item.nbytes == 280_000)
    assert large.role == "activation"


def test_values_of_an_integer_argument_steer_too() -> None:
    class Masks(nn.Module):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return x if mask.all() else x * mask[..., None]

    model = Masks()
    assert "aten::mul" not in names(traced(model, meta(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)))
    assert "aten::mul" in names(traced(model, meta(1, 3, 4), torch.zeros(1, 3, dtype=torch.bool)))


def test_values_survive_a_move_to_where_the_activations_are() -> None:
    """As in transformers' masks: `mask.to(device=x.device)` and then `if mask.all():`."""

    class Moves(nn.Module):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            y = x.to(torch.int64).sum() + 1  # the same operators and layouts without data
            mask = mask.to(device=x.device, dtype=torch.bool)
            return x * y if mask.all() else x

    found = traced(Moves(), meta(1, 3), torch.ones(1, 3, dtype=torch.int64))
    assert names(found)[-1] == "aten::mul"


def test_constants_that_grow_large_lose_their_values_and_cost_nothing() -> None:
    class Pairs(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            row = torch.arange(50_000)
            return x + (row[:, None] < row[None, :])  # 2.5 GB, were it real

    found = traced(Pairs(), meta(1))
    assert max(item.nbytes for item in found.storages) == 50_000 * 50_000 * 4


def test_control_flow_on_activations_needs_a_real_run() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(TraceError) as caught:
        traced(nn.Sequential(nn.Identity(), Asks()), meta(3))
    assert caught.value.path == "1"
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert names(run(Asks(), torch.ones(3)))[0] == "aten::sum"


def test_a_buffer_changed_in_place_is_changed_in_the_run_only() -> None:
    class Counts(nn.Module):
        calls: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.tensor(0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            self.last = x
            return x + self.calls

    model = Counts()
    buffer = model.calls
    found = traced(model, meta(3))
    assert names(found) == ["aten::add_", "aten::add"]
    assert found.storages[found.ops[0].inputs[0].storage].name == "calls"
    assert model.calls is buffer
    assert int(buffer) == 0
    assert not hasattr(model, "last")
    assert not hasattr(buffer, "_flopscope")


def test_tied_and_shared_parameters_are_listed_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    found = traced(model, meta(2, 3))
    assert [item.path for item in found.parameters] == ["0.weight", "0.bias", "1.bias"]
    weights = [op.tensor("weight") for op in found.ops]
    assert weights[0] == weights[1]


def test_modules_that_are_not_of_the_model_belong_to_their_caller() -> None:
    class Makes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.ReLU()(x)

    found = traced(Makes(), meta(3))
    assert [call.path for call in found.calls] == [""]
    assert [op.call for op in found.ops] == [0]


def test_a_model_that_another_thread_runs_meanwhile_is_not_noted() -> None:
    other, row = nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.ones(1, 3)

    class Waits(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            worker = threading.Thread(target=other, args=(row,))
            worker.start()
            worker.join()
            return x + 1

    found = traced(nn.Sequential(Waits(), other), meta(1, 3))
    assert [call.path for call in found.calls] == ["", "0", "1", "1.0", "1.1"]
    assert names(found) == ["aten::add", "aten::linear", "aten::relu"]


def test_a_padded_batch_stays_dense_on_both_routes() -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[0, 3:] = True
    x = torch.randn(2, 5, 16)
    without = traced(model, torch.empty_like(x, device="meta"), src_key_padding_mask=padding)
    real = run(model, x, src_key_padding_mask=padding)
    assert names(without) == names(real)
    assert names(real).count("aten::_transformer_encoder_layer_fwd") == 2
    assert all(spec.shape[:2] == (2, 5) for op in real.ops for spec in op.outputs if len(spec.shape) == 3)


def test_nothing_is_left_after_an_exception() -> None:
    from torch.nn.modules import module as torch_module

    class Fails(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.half_done = x
            raise ValueError("no")

    model = nn.Sequential(nn.ReLU(), Fails()).train()
    fast = torch.utils.backend_registration._privateuse1_backend_name
    with pytest.raises(TraceError) as caught:
        traced(model, meta(3))
    assert caught.value.path == "1"
    assert isinstance(caught.value.__cause__, ValueError)
    assert not torch_module._global_forward_hooks
    assert not torch_module._global_forward_pre_hooks
    assert not torch_module._global_forward_hooks_always_called
    assert torch.utils.backend_registration._privateuse1_backend_name == fast
    assert all(module.training for module in model.modules())
    assert not hasattr(model[1], "half_done")


def test_tensors_of_the_run_die_with_it() -> None:
    gc.collect()
    before = sum(isinstance(item, torch.Tensor) and item.is_meta for item in gc.get_objects())
    kept = traced(Net(), meta(1, 4, 8, 8))
    gc.collect()
    after = sum(isinstance(item, torch.Tensor) and item.is_meta for item in gc.get_objects())
    assert kept.ops
    assert after == before


def test_operators_reach_the_recorder_directly() -> None:
    """torch wraps dispatch modes for its compiler, at the cost of its import and of every operator."""
    from flopscope.tracing.recorder import Recorder

    assert not hasattr(Recorder.__torch_dispatch__, "__wrapped__")
