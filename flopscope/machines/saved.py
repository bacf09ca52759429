"""Machine <-> JSON text, for the cache and for `flopscope machine --json`."""

from __future__ import annotations

import json
from dataclasses import asdict

from flopscope.errors import InputError
from flopscope.records import Bandwidth, Machine, Peak

from .reading import Keys

FORMAT = "flopscope-machine"
VERSION = 1


def as_json(machine: Machine) -> str:
    """All of a machine; base units."""
    return json.dumps({"format": FORMAT, "version": VERSION, **asdict(machine)}, ensure_ascii=False, indent=1)


def from_json(text: str, *, file: str = "machine") -> Machine:
    """The machine that `as_json` wrote.

    Raises:
        InputError: The text is no JSON, or not of this form; the key is named.
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise InputError(f"{file}: no JSON: {error}", hint="flopscope machine --json > FILE.json") from error
    keys = Keys(given, file=file)
    if keys.given.get("format") != FORMAT or keys.given.get("version") != VERSION:
        raise InputError(
            f"{file}: no machine of version {VERSION}", hint="flopscope machine --json > FILE.json"
        )
    optional = {name: keys.maybe(name) for name in ("fault_s", "vector_bytes", "cores")}
    vector, cores = optional["vector_bytes"], optional["cores"]
    return Machine(
        name=keys.text("name"),
        device=keys.text("device"),
        threads=keys.whole("threads"),
        peaks=tuple(_peak(one) for one in keys.tables("peaks")),
        bandwidth=tuple(_point(one) for one in keys.tables("bandwidth")),
        overheads_s=_numbers(keys.table("overheads_s")),
        fault_s=optional["fault_s"],
        page_bytes=keys.whole("page_bytes"),
        vector_bytes=None if vector is None else int(vector),
        cores=None if cores is None else int(cores),
        **{name: keys.text(name) for name in _TEXTS},
        passes=keys.whole("passes", least=0),
        absent={dtype: keys.table("absent").text(dtype) for dtype in keys.table("absent").names()},
        warnings=keys.texts("warnings"),
        spreads=_numbers(keys.table("spreads")),
    )


_TEXTS = ("form", "fingerprint", "quality", "date", "torch", "source")


def _peak(keys: Keys) -> Peak:
    rate, spread = keys.number("flops_per_s"), keys.number("spread", least=0)
    return Peak(keys.text("dtype"), rate, spread, keys.text("how"))


def _point(keys: Keys) -> Bandwidth:
    size, rate = keys.whole("working_set_bytes"), keys.number("bytes_per_s")
    return Bandwidth(size, rate, keys.number("spread", least=0))


def _numbers(keys: Keys) -> dict[str, float]:
    return {name: keys.number(name, least=0) for name in keys.names()}
