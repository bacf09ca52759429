"""The doors of the price table: names, duplicates, third parties, what is not priced."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint

import pytest
from opcalls import call, tensor

from flopscope.costs import (
    NOTHING,
    Work,
    formula,
    has_formula,
    known_names,
    price,
    price_all,
    register_formula,
    registry,
)
from flopscope.errors import FlopscopeError
from flopscope.records import Cost


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    monkeypatch.setattr(registry, "_formulas", dict(registry._formulas))
    monkeypatch.setattr(registry, "_third_parties", {"loaded": False})


def foo(**more):
    return call("mylib::foo", tensor(10), x=tensor(20), **more)


# ----------------------------------------------------------------- what a formula may say


def test_an_int_is_the_macs():
    register_formula("mylib::foo", lambda op: 5 * op.inputs[0].numel)
    priced = price(foo())
    assert priced.cost == Cost(macs=100, flops=200, bytes_read=80, bytes_written=40)
    assert (priced.priced_by, priced.fvcore_flops) == ("formula", 100)


def test_a_cost_stands_as_it_is():
    register_formula("mylib::foo", lambda op: Cost(1, 2, 3, 4))
    assert price(foo()).cost == Cost(1, 2, 3, 4)


def test_a_work_leaves_the_rest_to_the_default():
    register_formula("mylib::foo", lambda op: Work(macs=3, other_flops=4, bytes_read=5))
    assert price(foo()).cost == Cost(macs=3, flops=10, bytes_read=5, bytes_written=40)


def test_none_lists_the_call():
    register_formula("mylib::foo", lambda op: None)
    priced = price(foo())
    assert (priced.priced_by, priced.cost) == ("uncosted", Cost(0, 0, 80, 40))


def test_nothing_is_zero():
    register_formula("mylib::foo", lambda op: NOTHING)
    assert price(foo()).priced_by == "zero"


@pytest.mark.parametrize("answer", ["12", 1.5, True])
def test_anything_else_is_refused(answer):
    register_formula("mylib::foo", lambda op: answer)
    with pytest.raises(FlopscopeError, match="mylib::foo") as caught:
        price(foo())
    assert "MACs" in caught.value.hint


def test_an_error_in_a_users_formula_is_not_hidden():
    register_formula("mylib::foo", lambda op: op.inputs[7].numel)
    with pytest.raises(IndexError):
        price(foo())


# ----------------------------------------------------------------- names


def test_a_taken_name_raises_and_names_its_holder():
    with pytest.raises(FlopscopeError, match=r"contractions\._linear") as caught:
        register_formula("aten::linear", lambda op: 1)
    assert "replace=True" in caught.value.hint
    with pytest.raises(FlopscopeError, match="already"):
        formula("aten::linear")(lambda op: 1)


def test_replacing_is_said_aloud():
    register_formula("aten::linear", lambda op: 7, replace=True)
    operands = {"input": tensor(2, 3), "weight": tensor(4, 3)}
    assert price(call("aten::linear", tensor(2, 4), **operands)).cost.macs == 7


@pytest.mark.parametrize("name", ["foo", "mylib.foo", "::foo", "mylib::"])
def test_malformed_names(name):
    with pytest.raises(FlopscopeError, match="not the name"):
        register_formula(name, lambda op: 1)


def test_in_place_names_fall_back_to_their_base():
    assert has_formula("aten::relu_")
    assert has_formula("aten::copy_")
    assert registry.functional_base("aten::add_") == "aten::add"
    assert registry.functional_base("aten::__and__") == "aten::__and__"
    assert registry.functional_base("aten::_softmax") == "aten::_softmax"
    # an in-place name of its own comes first
    register_formula("mylib::foo", lambda op: 1)
    register_formula("mylib::foo_", lambda op: 2)
    assert price(call("mylib::foo_", tensor(10), x=tensor(20))).cost.macs == 2


def test_known_names():
    names = list(known_names())
    assert names == sorted(names)
    assert {"aten::convolution", "aten::scaled_dot_product_attention", "aten::lstm"} <= set(names)


def test_every_name_is_known_to_torch():
    torch = pytest.importorskip("torch")
    known = {
        name
        for name in known_names()
        for spelling in (name, f"{name}_")  # an in-place operator may have no functional form
        if hasattr(torch.ops.aten, spelling.removeprefix("aten::"))
    }
    unknown = {name for name in known_names() if name.startswith("aten::")} - known
    assert unknown <= {"aten::cholesky"}  # gone from torch 2.14


# ----------------------------------------------------------------- unknown operators


def test_an_unknown_operator_is_listed_with_its_bytes():
    priced = price(foo())
    assert (priced.priced_by, priced.cost) == ("uncosted", Cost(0, 0, 80, 40))
    assert not has_formula("mylib::foo")


def test_a_built_in_formula_that_lacks_an_operand_lists_the_call():
    assert price(call("aten::linear", tensor(2, 4), input=tensor(2, 3))).priced_by == "uncosted"


def test_equal_signatures_share_one_price():
    ops = [foo(signature=1), foo(signature=1), foo(signature=2)]
    first, second, third = price_all(ops)
    assert first is second
    assert first is not third
    assert first == third


# ----------------------------------------------------------------- third parties


def offered(monkeypatch, *points):
    asked = []

    def entry_points(*, group):
        asked.append(group)
        return points

    monkeypatch.setattr(registry, "entry_points", entry_points)
    return asked


def ten_macs(op):
    return 10


def test_a_formula_may_come_as_an_entry_point(monkeypatch):
    asked = offered(monkeypatch, EntryPoint("mylib::foo", f"{__name__}:ten_macs", "flopscope.formulas"))
    assert price(foo()).cost.macs == 10
    assert price(call("mylib::bar", tensor(1))).priced_by == "uncosted"
    assert asked == ["flopscope.formulas"]  # once


def test_ops_of_torch_do_not_load_entry_points(monkeypatch):
    asked = offered(monkeypatch)
    price(call("aten::relu", tensor(1), self=tensor(1)))
    price(call("aten::unheard_of", tensor(1), self=tensor(1)))
    assert asked == []


@pytest.mark.parametrize("value", ["no.such.module:foo", f"{__name__}:missing", f"{__name__}:"])
def test_a_broken_entry_point_warns(monkeypatch, value):
    offered(
        monkeypatch,
        EntryPoint("mylib::broken", value, "flopscope.formulas"),
        EntryPoint("mylib::foo", f"{__name__}:ten_macs", "flopscope.formulas"),
    )
    with pytest.warns(RuntimeWarning, match="mylib::broken"):
        assert price(foo()).cost.macs == 10


def test_an_entry_point_cannot_take_a_name(monkeypatch):
    offered(monkeypatch, EntryPoint("aten::linear", f"{__name__}:ten_macs", "flopscope.formulas"))
    with pytest.warns(RuntimeWarning, match="already has a formula"):
        list(known_names())


def test_no_entry_points_no_warning(monkeypatch):
    offered(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(known_names())


def test_the_room_is_dry():
    seen = "import sys, flopscope.costs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", seen], check=False).returncode == 0
