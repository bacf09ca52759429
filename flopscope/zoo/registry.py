"""Networks and their published figures: what is in the zoo, and how an entry gets in.

An entry is registered where its constructor stands, so that a network and what its paper prints
about it are read together.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from flopscope.errors import InputError, ModelLoadError


@dataclass(frozen=True, slots=True)
class Published:
    """What a source prints about a network.

    `params_m` is in millions and `macs_g` in 10^9, as printed, in the source's own `convention`
    ("MAC", "fvcore", "MAC, BN folded", ...). `options` are the arguments with which the network is
    the one that the source describes; `resolution` is the side of the square input, where it is
    not the entry's. `reason` says why ours differs, where it does beyond rounding.
    """

    source: str
    params_m: float | None = None
    macs_g: float | None = None
    convention: str = "MAC"
    resolution: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """An entry of the zoo.

    `params` and `macs` are the exact integers of the network as `build()` makes it, for one image
    of `resolution` and 1000 classes; `variants` are the exact (params, macs) of other forms, by
    the query that selects them ("deploy=true").
    """

    name: str
    family: str
    build: Callable[..., Any]
    resolution: int
    paper: str
    params: int
    macs: int
    published: tuple[Published, ...] = ()
    variants: Mapping[str, tuple[int, int]] = field(default_factory=dict)


_NETWORKS: dict[str, Network] = {}


def network(
    name: str,
    *,
    family: str,
    resolution: int,
    paper: str,
    params: int,
    macs: int,
    published: Sequence[Published] = (),
    variants: Mapping[str, tuple[int, int]] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a constructor under `name`.

    Args:
        name: as in `zoo:NAME`, lower case.
        family: the name of the family, as its paper writes it.
        resolution: side of the square input that the network is made for.
        paper: where it is described ("arXiv 1905.11946, Table 1").
        params: exact number of parameters, with 1000 classes.
        macs: exact number of MACs of one image at `resolution`.
        published: what the sources print.
        variants: exact (params, macs) of other forms, by query.

    Raises:
        ValueError: the name is taken; the message names the holder.
    """

    def register(build: Callable[..., Any]) -> Callable[..., Any]:
        if name in _NETWORKS:
            holder = _NETWORKS[name].build
            raise ValueError(
                f"the network {name!r} is already that of {holder.__module__}.{holder.__qualname__}"
            )
        _NETWORKS[name] = Network(
            name, family, build, resolution, paper, params, macs, tuple(published), dict(variants or {})
        )
        return build

    return register


def registered() -> Mapping[str, Network]:
    """All entries by name, in the order of their registration."""
    return MappingProxyType(_NETWORKS)


def build_network(entry: Network, **options: Any) -> Any:
    """Construct a network of the zoo.

    The model gets the attribute `flopscope_resolution`, from which its input is inferred.

    Raises:
        InputError: the constructor has no such option.
    """
    known = inspect.signature(entry.build).parameters
    strange = sorted(set(options) - set(known))
    if strange:
        raise InputError(
            f"zoo:{entry.name} has no option {strange[0]!r}", hint=f"it has {', '.join(known) or 'none'}"
        )
    model = entry.build(**options)
    model.flopscope_resolution = entry.resolution
    return model


def find(name: str) -> Network:
    """The entry called `name`.

    Raises:
        ModelLoadError: there is none; the hint names close matches.
    """
    if name in _NETWORKS:
        return _NETWORKS[name]
    near = get_close_matches(name, _NETWORKS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "flopscope zoo lists all"
    raise ModelLoadError(f"the zoo has no network {name!r}", hint=hint)
