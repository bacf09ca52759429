"""The command line's `-i` texts -> `Inputs`. No torch needed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flopscope.errors import InputError
from flopscope.inputs.specs import Inputs, Spec

_FORM = re.compile(
    r"""
    \s* (?: (?P<name>[A-Za-z_]\w*) \s* = )?          # ids=
    \s* (?P<sizes> [^:<>=]*? )                       # 1,128
    \s* (?: : \s* (?P<dtype>[A-Za-z]\w*) )?          # :int64
    \s* (?: >= \s* (?P<low>-?\d+) )?                 # >=5
    \s* (?: < \s* (?P<high>-?\d+) )? \s*             # <30522
    """,
    re.VERBOSE,
)
_EXAMPLES = "e.g. -i 1,3,224,224   -i ids=1,128:int64   -i mask=1,10:bool   -i 'ids=1,128:int64<30522'"


def parse(text: str) -> tuple[str | None, Spec]:
    """Read one `-i`: `[NAME=]SIZES[:DTYPE][>=LOW][<HIGH]` -> (name or None, spec).

    SIZES are separated by commas or `x`; `()` is a 0-d tensor.

    Raises:
        InputError: the text has another form.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise _malformed(text)
    low, high = match["low"], match["high"]
    spec = Spec(
        _sizes(match["sizes"], text=text),
        match["dtype"],
        low=None if low is None else int(low),
        high=None if high is None else int(high),
    )
    return match["name"], spec


def parse_all(texts: Sequence[str]) -> Inputs:
    """Read every `-i`: those without a name are positional, in order; the others by keyword.

    Raises:
        InputError: one has another form, or a name is given twice.
    """
    args: list[Spec] = []
    kwargs: dict[str, Spec] = {}
    for text in texts:
        name, spec = parse(text)
        if name is None:
            args.append(spec)
        elif name in kwargs:
            raise InputError(f"-i {name}=... is given twice.", hint="give each argument once")
        else:
            kwargs[name] = spec
    return Inputs(*args, **kwargs)


def _sizes(written: str, *, text: str) -> tuple[int, ...]:
    bare = written.strip()
    bracketed = bare[:1] + bare[-1:] in ("()", "[]")
    if bracketed:
        bare = bare[1:-1].strip().removesuffix(",")
    if bracketed and not bare:
        return ()
    sizes = [size.strip() for size in re.split(r"[,x×X]", bare)]
    if not all(re.fullmatch(r"[0-9]+", size) for size in sizes):
        raise _malformed(text)
    return tuple(int(size) for size in sizes)


def _malformed(text: str) -> InputError:
    return InputError(
        f"-i {text!r} is not a shape: whole numbers separated by commas were expected, "
        "with NAME= before and :DTYPE after them where needed.",
        hint=_EXAMPLES,
    )
