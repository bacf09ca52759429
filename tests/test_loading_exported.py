"""A `.pt2` is read as plain data: its ops, calls, parameters and memory equal what was worked out by hand."""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from flopscope.errors import ModelLoadError
from flopscope.loading import load_model, open_address
from flopscope.loading.exported import read_exported
from flopscope.records import Input, OpCall, Trace


def export(model: nn.Module, path: Path, *args: Any, **keywords: Any) -> Path:
    torch.export.save(torch.export.export(model.eval(), args, **keywords), path)
    return path


def ops(trace: Trace) -> list[str]:
    return [op.op.removeprefix("aten::") for op in trace.ops if not op.view]


def macs(trace: Trace) -> int:
    """Multiply-accumulates by the textbook: outputs times the length of each sum."""
    return sum(map(macs_of, trace.ops))


def macs_of(op: OpCall) -> int:
    if op.op == "aten::convolution":
        outputs = op.inputs[0] if op.value("transposed") else op.outputs[0]
        weight = op.tensor("weight")
        assert weight is not None
        return outputs.numel * math.prod(weight.shape[1:])
    if op.op == "aten::linear":
        return op.outputs[0].numel * op.inputs[1].shape[1]
    if op.op in ("aten::mm", "aten::bmm"):
        return op.outputs[0].numel * op.inputs[0].shape[-1]
    if op.op == "aten::addmm":
        return op.outputs[0].numel * op.inputs[1].shape[-1]
    if op.op == "aten::scaled_dot_product_attention":
        query, key, value = op.inputs[:3]
        return query.numel * key.shape[-2] + math.prod(query.shape[:-1]) * key.shape[-2] * value.shape[-1]
    return 0


# --------------------------------------------------------------------------- small nets


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 5)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(x).mean((2, 3)))


def test_a_small_net_is_read_whole(tmp_path: Path) -> None:
    opened = open_address(export(Small(), tmp_path / "net.onnx", torch.ones(2, 3, 4, 4)))
    trace = opened.trace
    assert (opened.kind, opened.loaded_by, opened.model) == ("exported", "static", None)
    assert opened.default_inputs == ((2, 3, 4, 4),)
    assert trace is not None
    assert (trace.route, trace.device, trace.torch_version) == ("exported", "cpu", torch.__version__)
    assert ops(trace) == ["convolution", "batch_norm", "relu", "mean", "linear"]
    # 2x8x4x4 outputs of 3x3x3 products, and 2x5 outputs of 8: 256*27 + 10*8.
    assert macs(trace) == 6912 + 80
    assert [(call.path, call.type, call.parent, call.first_op, call.end_op) for call in trace.calls] == [
        ("", "Small", None, 0, 5),
        ("stem", "Sequential", 0, 0, 3),
        ("stem.0", "Conv2d", 1, 0, 1),
        ("stem.1", "BatchNorm2d", 1, 1, 2),
        ("stem.2", "ReLU", 1, 2, 3),
        ("head", "Linear", 0, 4, 5),
    ]
    assert (trace.calls[1].input_shapes, trace.calls[1].output_shapes) == (((2, 3, 4, 4),), ((2, 8, 4, 4),))
    assert (trace.calls[0].input_shapes, trace.calls[0].output_shapes) == (((2, 3, 4, 4),), ((2, 5),))
    assert [op.call for op in trace.ops] == [2, 3, 4, 0, 5]
    assert [module.path for module in trace.modules] == [
        "",
        "stem",
        "stem.0",
        "stem.1",
        "stem.2",
        "head",
        "unused",
    ]


def test_parameters_and_buffers_are_those_of_the_model(tmp_path: Path) -> None:
    model = Small()
    trace = read_exported(export(model, tmp_path / "net.pt2", torch.ones(2, 3, 4, 4)))
    # 8*27 + 8, 8 + 8, 5*8 + 5, 2*2 + 2
    assert sum(item.numel for item in trace.parameters) == 224 + 16 + 45 + 6
    assert [item.path for item in trace.parameters] == [name for name, _ in model.named_parameters()]
    assert [item.path for item in trace.buffers] == [name for name, _ in model.named_buffers()]
    weight = trace.parameters[0]
    assert (weight.owner, weight.shape, weight.dtype, weight.nbytes) == (
        "stem.0",
        (8, 3, 3, 3),
        "float32",
        864,
    )
    assert all(item.trainable for item in trace.parameters)
    assert not any(item.trainable for item in trace.buffers)


def test_arguments_have_the_schemas_names_and_inputs_for_tensors(tmp_path: Path) -> None:
    net = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)
    (op,) = read_exported(export(net, tmp_path / "net.pt2", torch.ones(1, 4, 9, 9))).ops
    assert op.op == "aten::convolution"
    assert dict(op.arguments) == {
        "input": Input(0),
        "weight": Input(1),
        "bias": Input(2),
        "stride": (2, 2),
        "padding": (1, 1),
        "dilation": (2, 2),
        "groups": 2,
        "transposed": False,
    }
    assert op.tensor("weight") == op.inputs[1]
    # (9 + 2*1 - 2*(3 - 1) - 1) // 2 + 1 = 4
    assert op.outputs[0].shape == (1, 6, 4, 4)


def test_transposed_convolutions_say_so(tmp_path: Path) -> None:
    net = nn.ConvTranspose2d(4, 6, 2, stride=2, bias=False)
    trace = read_exported(export(net, tmp_path / "net.pt2", torch.ones(1, 4, 5, 5)))
    assert trace.ops[0].value("transposed") is True
    # every one of 4*5*5 inputs meets 6*2*2 weights
    assert macs(trace) == 100 * 24


def test_padding_same_shows_as_a_convolution(tmp_path: Path) -> None:
    trace = read_exported(
        export(nn.Conv1d(2, 4, 3, padding="same", bias=False), tmp_path / "net.pt2", torch.ones(1, 2, 10))
    )
    assert ops(trace) == ["convolution"]
    assert trace.ops[0].value("padding") == (1,)
    assert macs(trace) == 40 * 6


class Repeated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.layer.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tied(self.layer(self.layer(x)))


def test_a_module_called_twice_has_two_calls_and_tied_weights_count_once(tmp_path: Path) -> None:
    trace = read_exported(export(Repeated(), tmp_path / "net.pt2", torch.ones(1, 4)))
    assert [call.path for call in trace.calls] == ["", "layer", "layer", "tied"]
    assert [op.call for op in trace.ops] == [1, 2, 3]
    assert sum(item.numel for item in trace.parameters) == 16 + 4 + 4
    assert len({op.inputs[1].storage for op in trace.ops}) == 1
    assert len({op.signature for op in trace.ops}) == 1
    assert macs(trace) == 3 * 16


class Products(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        folded = x @ y  # (2, 3, 4) by (4, 5)
        batched = x @ x.transpose(1, 2)  # 2 products of (3, 4) by (4, 3)
        summed = torch.einsum("bij,jk->bk", x, y)  # 2x5 sums over i and j
        return folded, batched, summed


def test_composite_products_are_taken_apart_as_in_a_run(tmp_path: Path) -> None:
    path = export(Products(), tmp_path / "net.pt2", torch.ones(2, 3, 4), torch.ones(4, 5))
    trace = read_exported(path)
    by_run = {"aten::mm", "aten::bmm"}
    assert {op.op for op in trace.ops if macs_of(op)} == by_run
    # 2*3*5 outputs of 4; 2*3*3 outputs of 4; einsum sums over i first, then 2*5 outputs of 4
    assert macs(trace) == 120 + 72 + 40
    assert [call.output_shapes for call in trace.calls] == [((2, 3, 5), (2, 3, 3), (2, 5))]
    kept = read_exported(path, keep={"aten::matmul", "aten::einsum"}.__contains__)
    assert ops(kept) == ["matmul", "matmul", "einsum"]
    assert kept.ops[-1].value("equation") == "bij,jk->bk"
    assert kept.ops[-1].tensors("tensors") == kept.ops[-1].inputs


class Attention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, x, x, is_causal=True)


def test_attention_stays_whole(tmp_path: Path) -> None:
    trace = read_exported(export(Attention(), tmp_path / "net.pt2", torch.ones(2, 3, 7, 8)))
    assert ops(trace) == ["scaled_dot_product_attention"]
    assert trace.ops[0].value("is_causal") is True
    assert macs(trace) == 2 * 3 * (7 * 7 * 8 + 7 * 7 * 8)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_nets_stay_whole_or_come_apart_step_by_step(
    kind: type[nn.Module], gates: int, tmp_path: Path
) -> None:
    path = export(kind(3, 5), tmp_path / "net.pt2", torch.ones(7, 1, 3))
    name = {4: "lstm", 3: "gru", 1: "rnn_tanh"}[gates]
    assert ops(read_exported(path)).count(name) == 1
    # Every step: the input's 3 and the state's 5 meet gates*5 rows of weights.
    assert macs(read_exported(path, keep={"aten::linear"}.__contains__)) == 7 * gates * 5 * (3 + 5)


class Memory(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = x * 2  # op 0, new
        b = a.view(4, 2)  # op 1, a's memory
        c = b.t().reshape(8)  # ops 2 (view) and 3 (a copy: the transpose is not contiguous)
        c.add_(1)  # op 4, in place
        return c.reshape(2, 4)  # op 5, c's memory


def test_views_copies_and_writes_share_storages_as_in_a_run(tmp_path: Path) -> None:
    trace = read_exported(export(Memory(), tmp_path / "net.pt2", torch.ones(2, 4)))
    assert [op.op for op in trace.ops] == [
        f"aten::{name}" for name in ("mul", "view", "t", "reshape", "add_", "reshape")
    ]
    assert [op.view for op in trace.ops] == [False, True, True, False, False, True]
    assert [op.written for op in trace.ops] == [(), (), (), (), (0,), ()]
    x, a, c = 0, 1, 2
    assert [op.outputs[0].storage for op in trace.ops] == [a, a, a, c, c, c]
    assert [(item.role, item.nbytes, item.born, item.died) for item in trace.storages] == [
        ("input", 32, -1, None),
        ("activation", 32, 0, 4),  # last seen by op 3, so it is gone when op 4 runs
        ("activation", 32, 3, None),  # the result
    ]
    assert trace.ops[0].inputs[0].storage == x
    assert "pointwise" in trace.ops[0].tags


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x * 2) + 1


def test_arguments_of_a_call_live_until_it_returns(tmp_path: Path) -> None:
    trace = read_exported(export(Block(), tmp_path / "net.pt2", torch.ones(4)))
    # ops: 0 mul, 1..3 relu, 4 add. What mul gave is last seen by op 1, but the Sequential holds it
    # as its argument until op 3 has run; what op 1 gave is the argument of the second ReLU only.
    assert [(item.born, item.died) for item in trace.storages if item.role == "activation"] == [
        (0, 4),
        (1, 3),
        (2, 4),
        (3, None),
        (4, None),
    ]


def test_dropout_in_eval_is_a_view(tmp_path: Path) -> None:
    (op,) = read_exported(export(nn.Dropout(0.5), tmp_path / "net.pt2", torch.ones(3))).ops
    assert (op.op, op.view) == ("aten::dropout", True)


class Pieces(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, rest = torch.split(x, [2, 6], 1)
        return torch.cat((self.conv(first), rest), 1)


def test_pieces_of_a_split_look_at_the_whole(tmp_path: Path) -> None:
    trace = read_exported(export(Pieces(), tmp_path / "net.pt2", torch.ones(1, 8, 4, 4)))
    split, conv, cat = trace.ops
    assert split.view
    assert [spec.storage for spec in split.outputs] == [split.inputs[0].storage] * 2
    # The second piece begins after 2 channels of 4x4.
    assert [(spec.shape, spec.offset) for spec in split.outputs] == [((1, 2, 4, 4), 0), ((1, 6, 4, 4), 32)]
    assert macs_of(conv) == 2 * 16 * 2 * 9
    assert cat.tensors("tensors") == cat.inputs
    assert trace.calls[1].input_shapes == ((1, 2, 4, 4),)


class Guarded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x = self.inner(x) * 2
        return x + torch.arange(3)


def test_a_no_grad_block_is_read_through(tmp_path: Path) -> None:
    trace = read_exported(export(Guarded(), tmp_path / "net.pt2", torch.ones(2, 3)))
    assert [name for name in ops(trace) if name in ("linear", "mul", "add")] == ["linear", "mul", "add"]
    assert macs(trace) == 18
    assert trace.warnings == ()


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda y: y @ y, lambda y: y + 1, (x,))


def test_what_runs_inside_a_condition_is_named_as_not_counted(tmp_path: Path) -> None:
    trace = read_exported(export(Branching(), tmp_path / "net.pt2", torch.ones(3, 3)))
    assert "higher_order::cond" in [op.op for op in trace.ops]
    assert trace.warnings == ("cond: what runs inside it is not counted",)


def test_symbolic_sizes_stand_at_the_values_they_were_exported_with(tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=2, max=64)
    net = nn.Sequential(nn.Linear(4, 3), nn.Flatten(0))
    path = export(net, tmp_path / "net.pt2", torch.ones(6, 4), dynamic_shapes=({0: batch},))
    trace = read_exported(path)
    assert trace.calls[0].input_shapes == ((6, 4),)
    assert trace.calls[0].output_shapes == ((18,),)
    assert macs(trace) == 6 * 3 * 4


def test_an_exported_graph_in_core_operators_counts_the_same(tmp_path: Path) -> None:
    program = torch.export.export(Small().eval(), (torch.ones(2, 3, 4, 4),))
    torch.export.save(program.run_decompositions(), tmp_path / "net.pt2")
    assert macs(read_exported(tmp_path / "net.pt2")) == 6912 + 80


def test_load_model_of_an_exported_graph_says_what_to_do(tmp_path: Path) -> None:
    path = export(nn.Linear(2, 2), tmp_path / "net.pt2", torch.ones(1, 2))
    for trust in (False, True):
        with pytest.raises(ModelLoadError, match="counts only") as caught:
            load_model(path, trust=trust)
        assert "flopscope report" in caught.value.hint


# --------------------------------------------------------------------------- known networks


@pytest.mark.parametrize(
    ("name", "expected"), [("resnet18", 1_814_073_344), ("mobilenet_v3_small", 56_510_400)]
)
def test_networks_of_torchvision_have_their_published_macs(name: str, expected: int, tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    model = models.get_model(name, weights=None)
    trace = read_exported(export(model, tmp_path / "net.pt2", torch.ones(1, 3, 224, 224)))
    assert macs(trace) == expected
    assert sum(item.numel for item in trace.parameters) == sum(item.numel() for item in model.parameters())


@pytest.mark.parametrize(
    ("name", "expected"), [("fasternet_t0", 335_422_720), ("vit_tiny_patch16_224", 1_253_683_200)]
)
def test_networks_of_timm_have_their_known_macs(name: str, expected: int, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    trace = read_exported(export(timm.create_model(name), tmp_path / "net.pt2", torch.ones(1, 3, 224, 224)))
    assert macs(trace) == expected


# --------------------------------------------------------------------------- hostile archives


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def edit(ending: str, change: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    def inside(members: dict[str, bytes]) -> None:
        name = next(name for name in members if name.endswith(ending))
        content = json.loads(members[name])
        change(content)
        members[name] = json.dumps(content).encode()

    return inside


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    return export(nn.Linear(2, 3), tmp_path / "net.pt2", torch.ones(1, 2))


class Mark:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (open, (str(self.marker), "w"))


def test_nothing_that_the_archive_holds_is_run(linear: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    code = f"open({str(marker)!r}, 'w')"

    def poison(members: dict[str, bytes]) -> None:
        for name in list(members):
            if "sample_inputs" in name or "weights/weight_" in name:
                members[name] = pickle.dumps(Mark(marker))

    def pickled(config: Any) -> None:
        for entry in config["config"].values():
            entry["use_pickle"] = True

    def scripted(program: Any) -> None:
        program["guards_code"] = [code]
        graph = program["graph_module"]["graph"]
        size = {"as_expr": {"expr_str": code, "hint": {"as_int": 1}}}
        graph["tensor_values"]["x" if "x" in graph["tensor_values"] else "input"]["sizes"][0] = size
        graph["sym_int_values"]["s0"] = size
        node = json.loads(json.dumps(graph["nodes"][0]))
        for target in (
            "builtins.eval",
            "os.system",
            "torch.ops.aten.__class__.mro",
            "torch.ops.os.system.default",
        ):
            graph["nodes"].append({**node, "target": target, "outputs": [], "inputs": []})

    rewrite(linear, poison)
    rewrite(linear, edit("weights_config.json", pickled))
    rewrite(linear, edit("models/model.json", scripted))
    for trust in (False, True):
        trace = open_address(linear, trust=trust).trace
        assert trace is not None
        assert macs(trace) == 6
    assert not marker.exists()


def test_an_unknown_operator_is_recorded_by_its_name(linear: Path) -> None:
    def rename(program: Any) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.mylib.foo.default"

    (op,) = read_exported(rewrite(linear, edit("models/model.json", rename))).ops
    assert (op.op, op.view, op.tags) == ("mylib::foo", False, frozenset())
    assert op.outputs[0].shape == (1, 3)


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("sizes", [{"as_int": 10**30}, {"as_int": 2}]),
        ("sizes", [{"as_int": -1}, {"as_int": 2}]),
        ("sizes", [{"as_int": 1}] * 1000),
        ("sizes", [{"as_expr": {"expr_str": "u0", "hint": None}}, {"as_int": 2}]),
        ("dtype", 99),
        ("sizes", "text"),
        ("device", None),
    ],
)
def test_absurd_tensors_are_refused(what: str, value: Any, linear: Path) -> None:
    def change(program: Any) -> None:
        for meta in program["graph_module"]["graph"]["tensor_values"].values():
            meta[what] = value

    rewrite(linear, edit("models/model.json", change))
    with pytest.raises(ModelLoadError, match="graph cannot be read"):
        read_exported(linear)


def test_a_size_of_terabytes_costs_nothing_and_a_long_recurrence_stays_whole(tmp_path: Path) -> None:
    path = export(nn.LSTM(3, 5), tmp_path / "net.pt2", torch.ones(7, 1, 3))

    def lengthen(program: Any) -> None:
        for meta in program["graph_module"]["graph"]["tensor_values"].values():
            for size in meta["sizes"]:
                if size.get("as_int") == 7:
                    size["as_int"] = 10**9

    rewrite(path, edit("models/model.json", lengthen))
    trace = read_exported(path, keep=lambda op: False)
    assert ops(trace).count("lstm") == 1


@pytest.mark.parametrize(
    "text", [b"", b"[1]", b"{}", b"[" * 100_000, b'{"schema_version": {"major": 8}}', b"\xff"]
)
def test_a_graph_that_is_no_graph_is_refused(text: bytes, linear: Path) -> None:
    def replace(members: dict[str, bytes]) -> None:
        members[next(name for name in members if "/models/" in name)] = text

    rewrite(linear, replace)
    with pytest.raises(ModelLoadError) as caught:
        read_exported(linear)
    assert caught.value.hint


def test_another_schema_is_refused_with_the_recipe(linear: Path) -> None:
    def age(program: Any) -> None:
        program["schema_version"] = {"major": 7, "minor": 3}

    rewrite(linear, edit("models/model.json", age))
    with pytest.raises(ModelLoadError, match="schema 7") as caught:
        read_exported(linear)
    assert "torch.export.save" in caught.value.hint


def test_a_compressed_archive_is_refused(linear: Path) -> None:
    with zipfile.ZipFile(linear) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(linear, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ModelLoadError, match="compressed"):
        read_exported(linear)
