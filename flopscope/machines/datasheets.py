"""A TOML file -> a Machine of form "sheet": roofs as a maker states them, for hardware that is not here."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import replace
from pathlib import Path

from flopscope.errors import InputError
from flopscope.records import Bandwidth, Machine, Peak

from .reading import Keys
from .saved import from_json

_SHELF = Path(__file__).parent / "sheets"
DTYPES = ("float64", "float32", "tf32", "bfloat16", "float16", "int8")
_ANY = 2**30  # a sheet's bandwidth without a working set is the device memory's


def listed_sheets() -> tuple[str, ...]:
    """The names of the sheets that ship with flopscope."""
    return tuple(sorted(path.stem for path in _SHELF.glob("*.toml")))


def from_sheet(name_or_path: str | Path) -> Machine:
    """A machine by its data sheet, or one that was measured elsewhere.

    Args:
        name_or_path: the name of a sheet that ships with flopscope, a TOML file, or a JSON file that
            `flopscope machine --json` wrote on another machine.

    Raises:
        InputError: There is no such sheet, or it is malformed; the key is named.
    """
    path = _place(str(name_or_path))
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint="name a TOML file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no UTF-8 text", hint="name a TOML file") from error
    if path.suffix.lower() == ".json":
        machine = from_json(text, file=path.name)
        return replace(machine, form="sheet", source=machine.source or f"measured elsewhere: {path.name}")
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path.name}: no TOML: {error}", hint="the form is in docs/machine.md") from error
    return _machine(Keys(given, file=path.name))


def _place(given: str) -> Path:
    """The file that is meant: a path, or a name on the shelf."""
    path = Path(given)
    known = listed_sheets()
    if given in known:
        return _SHELF / f"{given}.toml"
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        raise InputError(f"no such file: {given}", hint=f"sheets by name: {', '.join(known)}")
    near = difflib.get_close_matches(given.lower(), known, 1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"sheets: {', '.join(known)}; or a TOML file"
    raise InputError(f"no sheet is called {given!r}", hint=hint)


def _machine(keys: Keys) -> Machine:
    name, device, source = keys.text("name"), keys.text("device"), keys.text("source", "")
    peaks, absent = keys.table("peaks"), keys.table("absent")
    for dtype in (*peaks.names(), *absent.names()):
        if dtype not in DTYPES:
            near = difflib.get_close_matches(dtype, DTYPES, 1, cutoff=0.3)
            hint = f"did you mean {near[0]}?" if near else f"dtypes: {', '.join(DTYPES)}"
            raise InputError(f"{keys.file}: peaks.{dtype}: no such dtype", hint=hint)
    points = sorted((_point(one) for one in keys.tables("bandwidth")), key=lambda one: one.working_set_bytes)
    if not list(peaks.names()) or not points:
        what = "bandwidth" if list(peaks.names()) else "peaks"
        raise InputError(f"{keys.file}: {what} is missing", hint="the form of a sheet is in docs/machine.md")
    vector, cores = keys.maybe("vector_bytes"), keys.maybe("cores")
    machine = Machine(
        name=name,
        device=device,
        threads=keys.whole("threads", 1),
        peaks=tuple(_peak(dtype, peaks.table(dtype)) for dtype in peaks.names()),
        bandwidth=tuple(points),
        vector_bytes=None if vector is None else int(vector),
        cores=None if cores is None else int(cores),
        form="sheet",
        quality="good",
        source=source,
        absent={dtype: absent.text(dtype) for dtype in absent.names()},
    )
    keys.finish()
    return machine


def _peak(dtype: str, keys: Keys) -> Peak:
    rate, meaning = keys.number("flops_per_s"), keys.text("means", "")
    source = keys.text("source", "")
    keys.finish()
    return Peak(dtype, rate, how=f"{meaning} ({source})" if source else meaning)


def _point(keys: Keys) -> Bandwidth:
    size, rate = keys.whole("working_set_bytes", _ANY), keys.number("bytes_per_s")
    keys.text("means", "")
    keys.text("source", "")
    keys.finish()
    return Bandwidth(size, rate)
