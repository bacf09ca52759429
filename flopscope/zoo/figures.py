"""Exact counts of a network and what sources print -> how far apart they are, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flopscope.zoo.registry import Network, Published


@dataclass(frozen=True, slots=True)
class Figure:
    """One form of a network, and one source's figures for it (None: nobody prints any).

    `name` is an address without its `zoo:`, such as "repvgg_a0?deploy=true". Deviations are those
    of the printed from the exact figure, as a share of the exact one; None where one is unknown.
    `reason` says why they differ; "" where they agree as printed.
    """

    name: str
    family: str
    resolution: int
    params: int
    macs: int
    published: Published | None = None
    params_deviation: float | None = None
    macs_deviation: float | None = None
    reason: str = ""


def figures(entry: Network) -> Iterator[Figure]:
    """Give every form of a network with every figure that is printed for it, as it is built first."""
    forms = {"": (entry.params, entry.macs), **entry.variants}
    for query, (params, macs) in forms.items():
        name = f"{entry.name}?{query}" if query else entry.name
        plain = Figure(name, entry.family, entry.resolution, params, macs)
        found = [item for item in entry.published if query_of(item.options) == query]
        yield from (_compared(plain, item) for item in found) if found else (plain,)


def query_of(options: Mapping[str, Any]) -> str:
    """Options as they stand in an address: {"deploy": True} -> "deploy=true"."""
    return "&".join(f"{name}={_text(value)}" for name, value in options.items())


def agrees(exact: int, printed: float | None, scale: float) -> bool:
    """Whether a figure is the exact one as printed, be it rounded or truncated.

    Args:
        exact: the integer.
        printed: the figure, in units of `scale`; None agrees with everything.
        scale: 1e6 or 1e9.
    """
    if printed is None:
        return True
    more = exact / scale - printed
    return abs(more) <= last_digit(printed) / 2 or 0 <= more < last_digit(printed)


def last_digit(printed: float) -> float:
    """What one more in the last printed digit would add: 0.01 for 4.11, 1 for 28.

    An `int` has no decimals; of a float the zeros at its end are not known, and 0.30 counts as 0.3.
    """
    decimals = str(printed).partition(".")[2]
    return float(10 ** -len(decimals))


# What makes figures of another convention differ from params and MACs as they are counted here.
_CONVENTIONS = {
    "fvcore": "fvcore counts norms and pools on top of MACs",
    "MAC, BN folded": "params are of the network with batch norms folded into convolutions",
    "TF count": "TensorFlow's counter lies above the MACs",
    "mmcv": "mmcv's counter counts batch norm, bias and ReLU on top of MACs",
}


def _compared(plain: Figure, item: Published) -> Figure:
    agree = agrees(plain.params, item.params_m, 1e6) and agrees(plain.macs, item.macs_g, 1e9)
    convention = item.convention.partition(":")[0]
    return replace(
        plain,
        resolution=item.resolution or plain.resolution,
        published=item,
        params_deviation=_deviation(plain.params, item.params_m, 1e6),
        macs_deviation=_deviation(plain.macs, item.macs_g, 1e9),
        reason=item.reason or ("" if agree else _CONVENTIONS.get(convention, "")),
    )


def _deviation(exact: int, printed: float | None, scale: float) -> float | None:
    return None if printed is None else printed * scale / exact - 1


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
