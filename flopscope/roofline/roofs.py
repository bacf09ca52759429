"""Layers and evidence -> layers above a roof, and the time that the roofs would allow the whole."""

from __future__ import annotations

from collections.abc import Iterable

from flopscope.records import Convolution, Evidence, Layer, Machine

_TOLERANCE = 1.05
# Lavin and Gray 2016: F(4x4, 3x3) takes 36 multiplications where the definition takes 144.
_WINOGRAD = 4.0
# A copy that reads each line before it writes it moves three bytes for two that are counted: what is
# read only, or written in place, may exceed a bandwidth of copies by as much.
_WRITE_ALLOCATE = 1.5


def exceeds(layer: Layer, evidence: Evidence, machine: Machine) -> bool:
    """Whether a layer is above 105 % of a roof, and neither padding nor Winograd explains it."""
    return exceeded(layer, evidence, machine) is not None


def exceeded(layer: Layer, evidence: Evidence, machine: Machine) -> str | None:
    """Name the roof, "compute" or "memory", that a layer is above of, so that it cannot be one.

    Taps on padding do not count as executed. Dense 3x3 convolutions of stride 1 may be 4 times above
    (Winograd). Bytes may pass at the bandwidth of half the working set, for what the layer before has
    just written may still be in a cache, and 1.5 times that, for a copy moves more than is counted.
    """
    floor = layer.latency_floor_s
    if not floor:
        return None
    compute, memory = evidence.compute_s, evidence.memory_s
    if compute is not None and compute > _TOLERANCE * _algorithm(evidence.convolution) * floor:
        return "compute"
    if memory is not None and memory > _TOLERANCE * _residency(evidence, machine) * floor:
        return "memory"
    return None


def attainable_s(evidence: Iterable[Evidence]) -> float | None:
    """Seconds in which the ops would run at the roofs, one after the other; None where a roof is missing.

    A bound and no forecast: nothing runs at its roofs throughout.
    """
    terms = [item.least_s for item in evidence]
    known = [term for term in terms if term is not None]
    return sum(known) if known and len(known) == len(terms) else None


def _algorithm(convolution: Convolution | None) -> float:
    """How many times fewer multiplications an algorithm may take than the definition."""
    if convolution is None or convolution.transposed or convolution.groups != 1:
        return 1.0
    plain = {*convolution.stride, *convolution.dilation} == {1}
    return _WINOGRAD if plain and convolution.kernel == (3, 3) else 1.0


def _residency(evidence: Evidence, machine: Machine) -> float:
    """How many times faster than at its working set bytes may pass."""
    working_set = evidence.working_set_bytes or 0
    here, nearer = machine.bytes_per_s(working_set), machine.bytes_per_s(working_set // 2)
    return _WRITE_ALLOCATE * max(1.0, nearer / here if here and nearer else 1.0)
