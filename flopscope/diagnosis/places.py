"""What a user calls a part of the model -> the layers that are meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flopscope.errors import InputError
from flopscope.records import Layer

if TYPE_CHECKING:
    from flopscope.reports import Report


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a report: its `scope` ("whole", "container", "layer"), path and places in `layers`."""

    scope: str
    path: str
    places: tuple[int, ...]


def find(report: Report, path: str) -> Place:
    """Find a layer or container by its path, its label ("block (ops)"), or a suffix that only it has.

    Raises:
        InputError: Nothing is called so, or several things are.
    """
    asked = path.strip()
    if not asked:
        return Place("whole", "", tuple(range(len(report.layers))))
    layers = report.layers
    labels = [layer.label for layer in layers]
    if asked in labels:
        place = labels.index(asked)
        return Place("layer", labels[place], (place,))
    containers = dict.fromkeys(name for layer in layers for name in _above(layer.path))
    if asked in containers:
        return _container(layers, asked)
    same = [place for place, layer in enumerate(layers) if layer.path == asked]
    if same:
        return _rows(layers, asked, same)
    return _by_suffix(report, asked, labels, list(containers))


def _container(layers: Sequence[Layer], path: str) -> Place:
    beneath = [
        place for place, layer in enumerate(layers) if layer.path == path or layer.path.startswith(f"{path}.")
    ]
    return Place("container", path, tuple(beneath))


def _rows(layers: Sequence[Layer], path: str, places: list[int]) -> Place:
    """The one row of this path, or all of them as a container."""
    if len(places) == 1:
        return Place("layer", layers[places[0]].label, tuple(places))
    return _container(layers, path)


def _by_suffix(report: Report, asked: str, labels: Sequence[str], containers: Sequence[str]) -> Place:
    paths = [layer.path for layer in report.layers if layer.path]
    names = list(dict.fromkeys([*labels, *paths, *containers]))
    ends = [name for name in names if name.endswith(f".{asked}")]
    if len(ends) == 1:
        return find(report, ends[0])
    if ends:
        raise InputError(f"{asked!r} is the end of {len(ends)} names", hint=f"give one of {_listed(ends)}")
    near = difflib.get_close_matches(asked, names, 3, 0.5)
    near += [name for name in names if asked.lower() in name.lower() and name not in near]
    hint = (
        f"did you mean {_listed(near)}?" if near else "flopscope report MODEL --no-latency lists all layers"
    )
    raise InputError(f"no layer is called {asked!r}", hint=hint)


def _listed(names: Sequence[str]) -> str:
    more = f" … ({len(names)} in all)" if len(names) > 5 else ""
    return " or ".join(names[:5]) + more


def _above(path: str) -> list[str]:
    """The paths of all containers of a path: "a.b.c" -> "a", "a.b"."""
    words = path.split(".")
    return [".".join(words[:end]) for end in range(1, len(words))]
