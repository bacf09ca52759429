"""The partition, the tree and the total, on records made by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest
from traces import Run

from flopscope.layers import assignment, kind_of_layer, partition, total, tree
from flopscope.recognition import blocks, kinds
from flopscope.records import Cost, Layer, OpCost, Trace

COUNTS = ("params", "param_bytes", "macs", "flops", "bytes_read", "bytes_written", "uncosted_ops")


def _partition(run: Run) -> tuple[Layer, ...]:
    trace = run.trace()
    return partition(trace, run.costs, kinds=kinds(trace), blocks=blocks(trace))


def _both(run: Run) -> tuple[Trace, tuple[Layer, ...], tuple[Layer, ...]]:
    trace = run.trace()
    known = kinds(trace)
    layers = partition(trace, run.costs, kinds=known, blocks=blocks(trace))
    return trace, layers, tree(trace, run.costs, kinds=known, layers=layers)


def _named(layers: tuple[Layer, ...]) -> list[tuple[str, str, str]]:
    return [(layer.path, layer.type, layer.kind) for layer in layers]


def _residual() -> Run:
    """Two convolutions with an activation, and an addition that is the block's own."""
    run = Run()
    image = run.input(1, 8, 4, 4)
    with run.call("block", "Block"):
        with run.call("block.conv1", "Conv2d"):
            seen = run.conv(image, run.parameter("block.conv1.weight", 8, 8, 3, 3, module="Conv2d"))
        with run.call("block.act", "ReLU"):
            seen = run.op("aten::relu", seen, flops=128)
        with run.call("block.conv2", "Conv2d"):
            seen = run.conv(seen, run.parameter("block.conv2.weight", 8, 8, 1, 1, module="Conv2d"))
        run.op("aten::add", seen, image, flops=128)
    return run


def test_a_containers_own_ops_are_a_layer_of_its_path() -> None:
    layers = _partition(_residual())
    assert _named(layers) == [
        ("block.conv1", "Conv2d", "conv"),
        ("block.act", "ReLU", "activation"),
        ("block.conv2", "Conv2d", "pointwise_conv"),
        ("block", "(ops)", "elementwise"),
    ]


def test_a_containers_own_row_names_its_ops() -> None:
    assert _partition(_residual())[-1].detail == "add"
    run = Run()
    image = run.input(1, 8, 4, 4)
    with run.call("block", "Block"):
        with run.call("block.act", "ReLU"):
            seen = run.op("aten::relu", image, flops=128)
        for name in ("aten::add_", "aten::mul", "aten::mul", "aten::sub", "aten::sigmoid"):
            seen = run.op(name, seen, image, flops=128)
    assert _partition(run)[-1].detail == "add mul sub …"


def test_a_row_says_what_its_ops_cost() -> None:
    first = _partition(_residual())[0]
    # 1x8x4x4 outputs, each 8 channels of 3x3: 128 * 72 MACs; 128 numbers read and 576 weights, 128 written
    assert (first.macs, first.flops) == (9216, 18432)
    assert (first.bytes_read, first.bytes_written) == ((128 + 576) * 4, 512)
    assert (first.params, first.param_bytes) == (576, 2304)
    assert (first.input_shape, first.output_shape, first.dtype) == ((1, 8, 4, 4), (1, 8, 4, 4), "float32")
    assert (first.calls, first.depth, first.ops, first.detail) == (1, 2, (0,), "3x3 8>8")
    assert first.latency_s is None


def test_published_bytes_of_plain_convolutions() -> None:
    run = Run()
    image = run.input(2, 8, 4, 4)
    for at, (shape, groups, stride) in enumerate(
        [((8, 8, 3, 3), 1, 1), ((8, 1, 3, 3), 8, 1), ((8, 8, 3, 3), 1, 2), ((4, 8, 1, 1), 1, 1)]
    ):
        with run.call(f"c{at}", "Conv2d"):
            size = (4 // stride,) * 2
            run.conv(image, run.parameter(f"c{at}.weight", *shape), groups=groups, stride=stride, size=size)
    # eq. 3: 2 samples * 4*4 * 2*8 = 512 numbers, and 3*3*8*8 weights; eq. 2: the same, and 3*3*8 weights
    expected = [(512 + 576) * 4, (512 + 72) * 4, None, None]
    assert [layer.formula_bytes for layer in _partition(run)] == expected


def test_every_op_belongs_to_one_layer_and_counts_add_up() -> None:
    run = _residual()
    trace, layers, _ = _both(run)
    assert sorted(index for layer in layers for index in layer.ops) == list(range(len(trace.ops)))
    assert assignment(layers, len(trace.ops)) == (0, 1, 2, 3)
    whole = total(trace, run.costs)
    for name in COUNTS:
        assert sum(getattr(layer, name) for layer in layers) == getattr(whole, name)


def test_called_children_make_a_container_registered_ones_do_not() -> None:
    run = Run()
    with run.call("attention", "MultiheadAttention"):
        run.parameter("attention.out_proj.weight", 4, 4)
        run.op("aten::_native_multi_head_attention", run.input(1, 3, 4), macs=10)
    (layer,) = _partition(run)
    assert (layer.path, layer.kind, layer.params) == ("attention", "attention", 16)


def test_a_module_that_never_ran_comes_last_with_its_parameters() -> None:
    run = Run()
    run.parameter("spare.weight", 2, 3)
    with run.call("fc", "Linear"):
        run.linear(run.input(1, 3), run.parameter("fc.weight", 4, 3))
    layers = _partition(run)
    assert _named(layers) == [("fc", "Linear", "linear"), ("spare", "Linear", "other")]
    assert (layers[1].calls, layers[1].params, layers[1].ops) == (0, 6, ())


def test_a_containers_own_parameter_makes_an_ops_layer_even_without_ops() -> None:
    run = Run()
    run.parameter("cls_token", 1, 1, 4)
    with run.call("fc", "Linear"):
        run.linear(run.input(1, 3), run.parameter("fc.weight", 4, 3))
    layers = _partition(run)
    assert _named(layers) == [("", "(ops)", "data_movement"), ("fc", "Linear", "linear")]
    assert (layers[0].params, layers[0].calls, layers[0].depth) == (4, 1, 0)


def test_a_model_that_is_one_module_is_one_layer() -> None:
    run = Run("Linear")
    run.linear(run.input(1, 3), run.parameter("weight", 4, 3))
    assert _named(_partition(run)) == [("", "Linear", "linear")]


def test_calls_of_a_shared_module_add_up_and_its_parameters_do_not() -> None:
    run = Run()
    seen = run.input(1, 4)
    for _ in range(3):
        with run.call("fc", "Linear"):
            seen = run.linear(seen, run.parameter("fc.weight", 4, 4))
    (layer,) = _partition(run)
    assert (layer.calls, layer.params, layer.macs, layer.ops) == (3, 16, 48, (0, 1, 2))


def test_a_leaf_without_ops_stands_where_it_ran() -> None:
    run = Run()
    with run.call("fc", "Linear"):
        seen = run.linear(run.input(1, 4), run.parameter("fc.weight", 4, 4))
    with run.call("skip", "Identity"):
        pass
    run.op("aten::relu", seen, flops=4)
    expected = [("fc", "Linear", "linear"), ("skip", "Identity", "other"), ("", "(ops)", "elementwise")]
    assert _named(_partition(run)) == expected


def _with_se(*, inline: bool) -> Run:
    """A convolution, an SE (its projections being modules), and an activation that it shares."""
    run = Run()
    path = "block" if inline else "block.se"
    with run.call("block", "Block"):
        with run.call("block.conv", "Conv2d"):
            image = run.conv(run.input(1, 8, 4, 4), run.parameter("block.conv.weight", 8, 8, 1, 1))
        if inline:
            gated = _squeeze_and_excite(run, image, path)
        else:
            with run.call("block.se", "Squeeze"):
                gated = _squeeze_and_excite(run, image, path)
        with run.call("block.act", "ReLU"):
            run.op("aten::relu", gated, flops=128)
    return run


def _squeeze_and_excite(run: Run, image: Any, path: str) -> Any:
    pooled = run.op("aten::mean", image, out=(1, 8, 1, 1), dim=(2, 3), flops=128)
    with run.call(f"{path}.fc1", "Conv2d"):
        small = run.conv(pooled, run.parameter(f"{path}.fc1.weight", 2, 8, 1, 1))
    with run.call("block.act", "ReLU"):
        small = run.op("aten::relu", small, flops=2)
    with run.call(f"{path}.fc2", "Conv2d"):
        gate = run.conv(small, run.parameter(f"{path}.fc2.weight", 8, 2, 1, 1))
    return run.op("aten::mul", image, run.op("aten::sigmoid", gate, flops=8), flops=128)


def test_an_se_module_is_one_layer_with_all_that_it_holds() -> None:
    layers = _partition(_with_se(inline=False))
    assert _named(layers) == [
        ("block.conv", "Conv2d", "pointwise_conv"),
        ("block.se", "Squeeze", "se"),
        ("block.act", "ReLU", "activation"),
    ]
    # 8>2 and 2>8: 16 MACs and 16 parameters each
    assert (layers[1].macs, layers[1].params, layers[1].calls, layers[1].detail) == (32, 32, 1, "8>2>8")


def test_an_inline_se_takes_the_modules_that_ran_wholly_inside_it() -> None:
    layers = _partition(_with_se(inline=True))
    assert _named(layers) == [
        ("block.conv", "Conv2d", "pointwise_conv"),
        ("block", "(se)", "se"),
        ("block.act", "ReLU", "activation"),  # shared: this one ran outside as well
    ]
    assert (layers[1].macs, layers[1].params, layers[1].calls) == (32, 32, 1)
    assert (layers[1].input_shape, layers[1].output_shape) == ((1, 8, 4, 4), (1, 8, 4, 4))
    assert (layers[2].calls, layers[2].flops) == (1, 128)


@pytest.mark.parametrize("inline", [False, True])
def test_the_tree_shows_what_is_inside_a_block(inline) -> None:
    trace, layers, rows = _both(_with_se(inline=inline))
    found = {row.path: row for row in rows}
    prefix = "block" if inline else "block.se"
    assert (found[f"{prefix}.fc1"].kind, found[f"{prefix}.fc1"].detail) == ("pointwise_conv", "1x1 8>2")
    assert found[""].macs == sum(layer.macs for layer in layers) == 32 + 8 * 8 * 16
    assert rows[0].path == ""
    assert rows[0].ops == tuple(range(len(trace.ops)))


def test_a_repeated_inline_block_counts_its_blocks() -> None:
    run = Run()
    image = run.input(1, 8, 4, 4)
    for _ in range(2):
        with run.call("stage", "Stage"):
            first, rest = run.channels(image, 2, 6)
            mixed = run.conv(first, run.parameter("stage.conv.weight", 2, 2, 3, 3))
            image = run.op("aten::relu", run.cat(mixed, rest), flops=128)
    layers = _partition(run)
    assert _named(layers) == [("stage", "(pconv)", "pconv"), ("stage", "Stage", "activation")]
    # each block: 4 * 4 * 2 * 2 numbers and 9 * 2 * 2 weights
    assert (layers[0].calls, layers[0].formula_bytes) == (2, 2 * (64 + 36) * 4)
    assert layers[0].detail == "3x3 2>2 of 8"
    assert (layers[0].params, layers[1].params) == (0, 36)


def _cost(macs: int = 0, flops: int = 0, moved: int = 0) -> OpCost:
    return OpCost(Cost(macs, flops, moved, 0), "formula")


def test_kind_goes_by_macs_then_flops_then_bytes() -> None:
    assert kind_of_layer(["linear", "activation"], [_cost(5, 10), _cost(0, 99)]) == "linear"
    assert kind_of_layer(["activation", "norm"], [_cost(0, 9), _cost(0, 10)]) == "norm"
    assert kind_of_layer(["data_movement", "embedding"], [_cost(moved=1), _cost(moved=2)]) == "embedding"
    assert kind_of_layer([], []) == "other"


def test_attention_inside_makes_a_layer_attention() -> None:
    assert kind_of_layer(["linear", "attention"], [_cost(100, 200), _cost(1, 2)]) == "attention"


def test_kind_of_a_containers_own_ops() -> None:
    def own(*pairs: tuple[str, OpCost]) -> str:
        return kind_of_layer([kind for kind, _ in pairs], [cost for _, cost in pairs], functional=True)

    assert own(("reduction", _cost(0, 5)), ("data_movement", _cost(moved=9))) == "elementwise"
    assert own(("activation", _cost(0, 5))) == "elementwise"
    assert own(("data_movement", _cost(moved=9))) == "data_movement"
    assert own(("elementwise", _cost(0, 50)), ("depthwise_conv", _cost(3, 6))) == "depthwise_conv"
    assert own(("batch_norm", _cost(0, 5)), ("data_movement", _cost(moved=9))) == "batch_norm"
    assert own(("batch_norm", _cost(0, 5)), ("elementwise", _cost(0, 1))) == "elementwise"


@pytest.mark.parametrize(
    ("shape", "settings", "text"),
    [
        (
            (64, 1, 3, 3),
            {"groups": 64, "stride": 2, "size": (2, 2), "dilation": (2, 2)},
            "3x3 s2 64>64 g64 d2",
        ),
        ((32, 64, 1, 1), {}, "1x1 64>32"),
        ((64, 16, 2, 4), {"transposed": True, "groups": 2}, "2x4 64>32 g2"),
    ],
)
def test_detail_of_a_convolution(shape, settings, text) -> None:
    run = Run()
    with run.call("c", "Conv2d"):
        run.conv(run.input(1, 64, 4, 4), run.parameter("c.weight", *shape), **settings)
    assert _partition(run)[0].detail == text


def test_detail_of_linear_and_pooling() -> None:
    run = Run()
    with run.call("fc", "Linear"):
        run.linear(run.input(2, 5, 768), run.parameter("fc.weight", 3072, 768))
    with run.call("pool", "MaxPool2d"):
        run.op("aten::max_pool2d", run.input(1, 8, 8, 8), out=(1, 8, 4, 4), kernel_size=(3, 3), stride=(2, 2))
    assert [layer.detail for layer in _partition(run)] == ["768>3072", "3x3 s2"]


def test_recursion_counts_an_op_once_for_each_module() -> None:
    run = Run()
    image = run.input(1, 4)
    with run.call("rec", "Recursive"):
        run.op("aten::relu", image, flops=1)
        with run.call("rec", "Recursive"):
            run.op("aten::relu", image, flops=10)
    _, layers, rows = _both(run)
    assert _named(layers) == [("rec", "(ops)", "elementwise")]
    assert [(row.path, row.flops, row.ops) for row in rows] == [("", 11, (0, 1)), ("rec", 11, (0, 1))]


def test_a_module_list_has_what_its_members_did() -> None:
    run = Run()
    run.register("layers", "ModuleList")
    for at in range(2):
        with run.call(f"layers.{at}", "Linear"):
            run.linear(run.input(1, 4), run.parameter(f"layers.{at}.weight", 4, 4))
    _, layers, rows = _both(run)
    held = next(row for row in rows if row.path == "layers")
    assert (held.calls, held.macs, held.params, held.kind) == (0, 32, 32, "linear")
    assert [layer.path for layer in layers] == ["layers.0", "layers.1"]


def test_tree_leaves_out_what_neither_ran_nor_owns_anything() -> None:
    run = _residual()
    run.register("block.unused", "Dropout")
    _, _, rows = _both(run)
    assert [row.path for row in rows] == ["", "block", "block.conv1", "block.act", "block.conv2"]
    assert [row.depth for row in rows] == [0, 1, 2, 2, 2]


def _grow(run: Run, path: str, chance: random.Random, depth: int) -> None:
    """Fill a module call with a random mixture of ops, children, parameters and repeats."""
    for at in range(chance.randint(0, 3)):
        child = f"{path}.{at}".lstrip(".")
        if depth and chance.random() < 0.6:
            for _ in range(chance.choice((1, 1, 2))):
                with run.call(child, "Sequential"):
                    _grow(run, child, chance, depth - 1)
        elif chance.random() < 0.5:
            with run.call(child, "Linear"):
                run.linear(run.input(1, 4), run.parameter(f"{child}.weight", 3, 4))
        if chance.random() < 0.3:
            run.parameter(f"{child}.extra.weight", 5)
        if chance.random() < 0.5:
            run.op("aten::relu", run.input(2, 2), flops=chance.randint(0, 9), priced_by="uncosted")


@pytest.mark.parametrize("seed", range(40))
def test_layers_add_up_to_the_total_whatever_the_model(seed) -> None:
    run = Run()
    _grow(run, "", random.Random(seed), 4)
    trace, layers, rows = _both(run)
    whole = total(trace, run.costs)
    for name in COUNTS:
        assert sum(getattr(layer, name) for layer in layers) == getattr(whole, name)
    assert sorted(index for layer in layers for index in layer.ops) == list(range(len(trace.ops)))
    assert len({(layer.path, layer.type) for layer in layers}) == len(layers)
    if rows:
        assert [getattr(rows[0], name) for name in COUNTS] == [getattr(whole, name) for name in COUNTS]
