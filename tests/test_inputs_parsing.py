"""The command line's -i texts."""

from __future__ import annotations

import pytest

from flopscope.errors import InputError
from flopscope.inputs import Spec, parse, parse_all


@pytest.mark.parametrize(
    ("written", "name", "spec"),
    [
        ("1,3,224,224", None, Spec((1, 3, 224, 224))),
        ("1x3x224x224", None, Spec((1, 3, 224, 224))),
        (" ( 1, 3, ) ", None, Spec((1, 3))),
        ("[5]", None, Spec((5,))),
        ("128", None, Spec((128,))),
        ("()", None, Spec(())),
        ("t=():int64", "t", Spec((), "int64")),
        ("x=1,10,64", "x", Spec((1, 10, 64))),
        ("ids=1,128:int64", "ids", Spec((1, 128), "int64")),
        ("mask=1,10:bool", "mask", Spec((1, 10), "bool")),
        ("1,128:int64<30522", None, Spec((1, 128), "int64", high=30522)),
        ("1,128<30522", None, Spec((1, 128), "int64", high=30522)),
        ("ids=1,128:int32>=5<9", "ids", Spec((1, 128), "int32", low=5, high=9)),
        ("1,3:half", None, Spec((1, 3), "float16")),
    ],
)
def test_every_form(written: str, name: str | None, spec: Spec) -> None:
    assert parse(written) == (name, spec)


@pytest.mark.parametrize(
    "written",
    ["", "1,3,", "1,,3", "1,a", "1.5,3", "-1,3", "=1,3", "1,3:", "a b=1", "1;3", "ids=", "1,3<x", "(1,3"],
)
def test_malformed_text_is_answered_with_examples(written: str) -> None:
    with pytest.raises(InputError, match="is not a shape") as caught:
        parse(written)
    assert "-i 1,3,224,224" in caught.value.hint
    assert caught.value.exit_code == 2


def test_unknown_dtype_is_named() -> None:
    with pytest.raises(InputError, match="'int65'"):
        parse("1,3:int65")


def test_all_together() -> None:
    call = parse_all(["1,3,8,8", "mask=1,8:bool", "2,2"])
    assert call.args == (Spec((1, 3, 8, 8)), Spec((2, 2)))
    assert call.kwargs == {"mask": Spec((1, 8), "bool")}


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"x=\.\.\. is given twice"):
        parse_all(["x=1", "x=2"])
