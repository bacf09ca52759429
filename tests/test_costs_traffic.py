"""Bytes as executed: distinct regions once, views free, gathers no more than they need."""

from __future__ import annotations

import pytest
from opcalls import call, tensor

from flopscope.costs import price

MAP = 64 * 56 * 56 * 4  # 802,816 bytes: a 64 x 56 x 56 map in float32
PART = 16 * 56 * 56 * 4  # 200,704 bytes: a quarter of its channels


def moved(op):
    cost = price(op).cost
    return cost.bytes_read, cost.bytes_written


def total(*ops):
    return sum(sum(moved(op)) for op in ops)


# ----------------------------------------------------------------- the touchstone


def partial_convolution(whole):
    part = tensor(1, 16, 56, 56, strides=(200704, 3136, 56, 1), of=whole)
    answer = tensor(1, 16, 56, 56)
    operands = {"input": part, "weight": tensor(16, 16, 3, 3), "bias": None}
    return part, answer, call("aten::convolution", answer, **operands, transposed=False)


def test_partial_convolution_by_split_and_cat():
    whole = tensor(1, 64, 56, 56)
    part, answer, convolution = partial_convolution(whole)
    rest = tensor(1, 48, 56, 56, strides=(200704, 3136, 56, 1), offset=16 * 3136, of=whole)
    split = call("aten::split_with_sizes", [part, rest], self=whole, view=True)
    cat = call("aten::cat", tensor(1, 64, 56, 56), tensors=[answer, rest], dim=1)
    # convolution 2 * 200,704 + 16*16*9*4 = 410,624; cat 2 * 802,816
    assert total(split, convolution, cat) == 2 * PART + 9_216 + 2 * MAP == 2_016_256


def test_partial_convolution_by_clone_and_slice_assignment():
    whole, copied = tensor(1, 64, 56, 56), tensor(1, 64, 56, 56)
    clone = call("aten::clone", copied, self=whole)
    part, answer, convolution = partial_convolution(copied)
    assign = call("aten::copy_", part, self=part, src=answer, written=["self"])
    assert total(clone, convolution, assign) == 2 * MAP + (2 * PART + 9_216) + 2 * PART == 2_417_664


def test_depthwise_convolution():
    operands = {"input": tensor(1, 64, 56, 56), "weight": tensor(64, 1, 3, 3), "bias": None}
    depthwise = call("aten::convolution", tensor(1, 64, 56, 56), **operands, transposed=False)
    assert total(depthwise) == 2 * MAP + 64 * 9 * 4 == 1_607_936


# ----------------------------------------------------------------- regions


def test_an_expanded_tensor_costs_its_memory():
    row = tensor(100, 8, strides=(0, 1))
    # 8 floats read once, 800 read in full, 800 written
    op = call("aten::add", tensor(100, 8), self=tensor(100, 8), other=row, tags=["pointwise"])
    assert moved(op) == (3200 + 32, 3200)


def test_a_tensor_given_twice_is_read_once():
    same = tensor(10)
    assert moved(call("aten::mul", tensor(10), self=same, other=same)) == (40, 40)


def test_a_tensor_and_its_transpose_are_one_region():
    matrix = tensor(4, 6)
    turned = tensor(6, 4, strides=(1, 6), of=matrix)
    assert moved(call("aten::mm", tensor(4, 4), self=matrix, mat2=turned)) == (96, 64)


def test_a_part_inside_the_whole_is_read_with_it():
    whole = tensor(10)
    op = call("aten::cat", tensor(14), tensors=[whole, tensor(4, offset=3, of=whole)])
    assert moved(op) == (40, 56)


def test_interleaved_parts_are_read_apart():
    # q, k and v inside one projection [4, 3 * 8]: 32 floats each, none read twice
    joint = tensor(4, 24)
    parts = {
        name: tensor(4, 8, strides=(24, 1), offset=8 * place, of=joint)
        for place, name in enumerate(("query", "key", "value"))
    }
    assert moved(call("aten::scaled_dot_product_attention", tensor(4, 8), **parts)) == (3 * 128, 128)


def test_each_tensor_counts_at_its_own_dtype():
    op = call("aten::_to_copy", tensor(10, dtype="bfloat16"), self=tensor(10))
    assert moved(op) == (40, 20)


# ----------------------------------------------------------------- nothing moves


@pytest.mark.parametrize(
    "op",
    [
        call("aten::view", tensor(10), self=tensor(10), view=True),
        call("mylib::anything", tensor(10), self=tensor(10), view=True),
        call("aten::_unsafe_view", tensor(10), self=tensor(10)),
        call("aten::t_", tensor(2, 3), self=tensor(3, 2), written=["self"]),
        call("aten::empty", tensor(10), size=(10,)),
        call("aten::empty_like", tensor(10), self=tensor(10)),
        call("aten::_local_scalar_dense", self=tensor()),
        call("aten::dropout", tensor(10), input=tensor(10), p=0.5, train=False),
    ],
    ids=lambda op: op.op,
)
def test_zero_by_definition(op):
    priced = price(op)
    assert priced.priced_by == "zero"
    assert priced.cost.bytes_read == priced.cost.bytes_written == priced.cost.flops == 0


def test_a_contiguous_that_returns_its_input_is_a_view():
    source = tensor(10)
    assert price(call("aten::contiguous", source, self=source)).priced_by == "zero"
    assert moved(call("aten::contiguous", tensor(2, 5), self=tensor(2, 5, strides=(1, 2)))) == (40, 40)


# ----------------------------------------------------------------- in place


def test_in_place_reads_what_it_changes():
    target = tensor(10)
    assert moved(call("aten::relu_", target, self=target, written=["self"])) == (40, 40)
    added = call("aten::add_", target, self=target, other=tensor(10), written=["self"])
    assert moved(added) == (80, 40)


@pytest.mark.parametrize("name", ["fill_", "zero_", "normal_", "uniform_", "bernoulli_", "exponential_"])
def test_overwriting_reads_nothing(name):
    target = tensor(10)
    assert moved(call(f"aten::{name}", target, self=target, written=["self"])) == (0, 40)


def test_copying_into_a_tensor_does_not_read_it():
    target = tensor(10)
    op = call("aten::copy_", target, self=target, src=tensor(1, dtype="float64"), written=["self"])
    assert moved(op) == (8, 40)


def test_an_out_argument_is_only_written():
    target = tensor(10)
    op = call("aten::add", target, self=tensor(10), other=tensor(10), out=target, written=["out"])
    assert moved(op) == (80, 40)
    # the same for a name that is an ordinary argument elsewhere
    values, indices = tensor(4), tensor(4, dtype="int64")
    written = ["values", "indices"]
    op = call(
        "aten::topk", [values, indices], self=tensor(10), values=values, indices=indices, written=written
    )
    assert moved(op) == (40, 16 + 32)


def test_lists_of_tensors_changed_in_place():
    first, second = [tensor(3), tensor(5)], [tensor(3), tensor(5)]
    op = call("aten::_foreach_add_", self=first, other=second, written=["self"])
    assert moved(op) == (64, 32)
    assert price(op).cost.flops == 8


# ----------------------------------------------------------------- tables


@pytest.mark.parametrize(("rows", "expected"), [(1000, 5 * 8 * 4), (3, 3 * 8 * 4)])
def test_embedding_reads_at_most_its_table(rows, expected):
    op = call(
        "aten::embedding",
        tensor(5, 8),
        weight=tensor(rows, 8),
        indices=tensor(5, dtype="int64"),
        padding_idx=-1,
    )
    assert moved(op) == (expected + 5 * 8, 5 * 8 * 4)
    assert price(op).cost.flops == 0


def test_other_gathers():
    table, places = tensor(100, 8), tensor(5, dtype="int64")
    assert moved(call("aten::index_select", tensor(5, 8), self=table, dim=0, index=places)) == (160 + 40, 160)
    assert moved(call("aten::index", tensor(5, 8), self=table, indices=[places])) == (160 + 40, 160)
    wide = tensor(5, 8, dtype="int64")
    assert moved(call("aten::gather", tensor(5, 8), self=table, dim=0, index=wide)) == (160 + 320, 160)


def test_embedding_bag_adds_what_it_gathers():
    op = call(
        "aten::_embedding_bag",
        tensor(2, 8),
        weight=tensor(100, 8),
        indices=tensor(5, dtype="int64"),
        offsets=tensor(2, dtype="int64"),
    )
    assert moved(op) == (5 * 8 * 4 + 40 + 16, 64)
    assert price(op).cost.flops == 40


def test_scattering_in_place_writes_the_touched_rows():
    table, places, values = tensor(100, 8), tensor(5, dtype="int64"), tensor(5, 8)
    put = call("aten::index_put_", table, self=table, indices=[places], values=values, written=["self"])
    assert moved(put) == (40 + 160, 160)
    added = call(
        "aten::index_put_",
        table,
        self=table,
        indices=[places],
        values=values,
        accumulate=True,
        written=["self"],
    )
    assert moved(added) == (40 + 160 + 160, 160)
    assert price(added).cost.flops == 40
    rows = call("aten::index_add_", table, self=table, dim=0, index=places, source=values, written=["self"])
    assert moved(rows) == (40 + 160 + 160, 160)


def test_scattering_into_a_new_tensor_copies_all():
    wide = tensor(5, 8, dtype="int64")
    # of the larger source only as many elements as there are indices
    op = call("aten::scatter", tensor(100, 8), self=tensor(100, 8), dim=0, index=wide, src=tensor(50, 8))
    assert moved(op) == (3200 + 320 + 160, 3200)


# ----------------------------------------------------------------- factories, statistics


def test_factories_write_and_do_not_read():
    assert moved(call("aten::zeros", tensor(10), size=(10,))) == (0, 40)
    assert moved(call("aten::zeros_like", tensor(10), self=tensor(10))) == (0, 40)
    assert moved(call("aten::arange", tensor(10, dtype="int64"), end=10)) == (0, 80)


def batch_norm(*, training):
    names = ("weight", "bias", "running_mean", "running_var")
    statistics = {name: tensor(8) for name in names}
    answer = tensor(2, 8, 4, 4)
    return call("aten::batch_norm", answer, input=tensor(2, 8, 4, 4), **statistics, training=training)


def test_batch_norm_reads_its_statistics_and_in_training_writes_them():
    assert moved(batch_norm(training=False)) == (1024 + 4 * 32, 1024)
    assert moved(batch_norm(training=True)) == (1024 + 4 * 32, 1024 + 2 * 32)


def test_declared_writes_of_statistics_count_once():
    running = {"running_mean": tensor(8), "running_var": tensor(8)}
    op = call(
        "aten::_native_batch_norm_legit",
        [tensor(2, 8, 4, 4), tensor(8), tensor(8)],
        input=tensor(2, 8, 4, 4),
        **running,
        training=True,
        written=list(running),
    )
    # 1024 and two new vectors of 32, and the running ones
    assert moved(op) == (1024 + 64, 1024 + 64 + 64)


def test_a_strided_convolution_reads_its_whole_input():
    operands = {"input": tensor(1, 4, 8, 8), "weight": tensor(4, 4, 1, 1)}
    assert moved(call("aten::convolution", tensor(1, 4, 4, 4), **operands)) == (1024 + 64, 256)
