"""What users give as inputs -> `Inputs`, and back to text."""

from __future__ import annotations

import pickle
import shlex
import subprocess
import sys
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch

from flopscope.errors import InputError
from flopscope.inputs import Inputs, Spec, command_line, describe, parse_all, text

IMAGE = Spec((1, 3, 224, 224))


@pytest.mark.parametrize(
    "given",
    [
        (1, 3, 224, 224),
        [1, 3, 224, 224],
        torch.Size((1, 3, 224, 224)),
        tuple(np.array([1, 3, 224, 224])),
        IMAGE,
        ((1, 3, 224, 224),),
        Inputs((1, 3, 224, 224)),
    ],
)
def test_one_shape_in_every_form_is_one_positional_argument(given: object) -> None:
    assert describe(given).args == (IMAGE,)
    assert describe(given).kwargs == {}


def test_tuple_of_shapes_specs_and_tensors_is_positional() -> None:
    tensor = torch.zeros(2)
    call = describe([(1, 3), Spec((4,), torch.int64), tensor, None, True, 0.5, "sum"])
    assert call.args[:2] == (Spec((1, 3)), Spec((4,), "int64"))
    assert call.args[2] is tensor
    assert call.args[3:] == (None, True, 0.5, "sum")


def test_mapping_gives_keyword_arguments() -> None:
    call = describe(OrderedDict(ids=Spec((1, 8), "int64"), mask=(1, 8), use_cache=False))
    assert call.args == ()
    assert call.kwargs == {"ids": Spec((1, 8), "int64"), "mask": Spec((1, 8)), "use_cache": False}


def test_list_of_tensors_inside_is_one_argument() -> None:
    first, second = torch.zeros(3, 8, 8), torch.zeros(3, 6, 6)
    call = describe(([first, second], [{"boxes": (5, 4)}]))
    assert call.args[0][0] is first
    assert call.args[0][1] is second
    assert call.args[1] == [{"boxes": Spec((5, 4))}]


def test_named_tuples_keep_their_class() -> None:
    pair = namedtuple("pair", "x y")
    assert describe((pair((1, 2), None),)).args == (pair(Spec((1, 2)), None),)


def test_empty_tuple_is_a_scalar_and_empty_inputs_are_no_arguments() -> None:
    assert describe(()).args == (Spec(()),)
    assert describe(Inputs()).args == ()
    assert describe({}).args == ()


def test_zero_sizes_are_legal() -> None:
    assert describe((0, 3)).args == (Spec((0, 3)),)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((1, 3, 224.0, 224), "whole numbers"),
        (((1, 3, 2.0), (1, 3)), "whole numbers"),
        ((1, -3), "negative"),
        ([], "empty list"),
        ("1,3,224,224", "the text"),
        (7, "the number 7"),
        (None, "NoneType"),
        (np.zeros((1, 3)), "numpy.ndarray"),
        ((np.zeros((1, 3)),), "numpy array"),
        ({1: (1, 3)}, "the key 1"),
    ],
)
def test_what_is_no_input_is_refused_with_a_way_out(given: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        describe(given)
    assert caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.bfloat16, "bfloat16"),
        ("long", "int64"),
        ("half", "float16"),
        ("torch.bool", "bool"),
        (None, None),
    ],
)
def test_dtypes_are_kept_by_name(dtype: torch.dtype | str | None, name: str | None) -> None:
    assert Spec((1,), dtype).dtype == name


def test_bounds_make_integers_and_are_checked() -> None:
    assert Spec((1,), high=10).dtype == "int64"
    with pytest.raises(InputError, match="integer dtype"):
        Spec((1,), "float32", high=10)
    with pytest.raises(InputError, match=r"no integer lies in 5\.\.4"):
        Spec((1,), low=5, high=5)
    with pytest.raises(InputError, match="'int65' is not known"):
        Spec((1,), "int65")


def test_specs_are_values() -> None:
    spec = Spec([1, 8], "int64", high=9)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert {spec: 1}[Spec((1, 8), torch.int64, high=9)] == 1
    with pytest.raises(AttributeError):
        spec.shape = (2,)  # type: ignore[misc]


def test_text_names_shapes_dtypes_and_arguments() -> None:
    assert text(describe((1, 3, 224, 224))) == "1x3x224x224"
    assert text(describe(torch.zeros(1, 3))) == "1x3 float32"
    assert text(describe({"ids": Spec((1, 128), "int64", high=9)})) == "ids=1x128 int64 <9"
    assert text(Inputs([(3, 8, 8), (3, 6, 6)], Spec(()), None)) == "[3x8x8, 3x6x6], (), None"
    assert text(Inputs()) == "no arguments"


@pytest.mark.parametrize(
    "call",
    [
        Inputs((1, 3, 224, 224)),
        Inputs((1, 4), ids=Spec((1, 8), "int64", low=2, high=9), mask=Spec((1, 8), "bool")),
        Inputs(Spec((), "int64")),
    ],
)
def test_command_line_says_the_same_call(call: Inputs) -> None:
    options = [word for word in shlex.split(command_line(call)) if word != "-i"]
    again = parse_all(options)
    assert (again.args, again.kwargs) == (call.args, call.kwargs)


def test_command_line_is_quoted_and_silent_where_it_cannot_say_the_call() -> None:
    assert command_line(Inputs(Spec((1, 8), high=9))) == "-i '1,8:int64<9'"
    assert command_line(Inputs(torch.zeros(1, 3), None)) == "-i 1,3"
    assert command_line(Inputs([(3, 8, 8)])) == ""


def test_parsing_needs_no_torch() -> None:
    code = (
        "import sys; from flopscope.inputs import parse_all, describe; parse_all(['1,3']); describe((1, 3));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
