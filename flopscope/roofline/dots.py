"""Layers -> the dots of a roofline picture: intensity against achieved FLOP/s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flopscope.records import Layer


@dataclass(frozen=True, slots=True)
class Dot:
    """One layer of the picture.

    `intensity` is in FLOP/B, `share` its part of the layers' time (0..1).
    """

    label: str
    kind: str
    intensity: float
    flops_per_s: float
    share: float


def dots(layers: Sequence[Layer]) -> tuple[Dot, ...]:
    """One dot for each layer that computes, moves and was timed; the longest first."""
    whole = sum(layer.latency_s or 0.0 for layer in layers)
    found = [
        Dot(_label(layer), layer.kind, intensity, rate, (layer.latency_s or 0.0) / whole if whole else 0.0)
        for layer in layers
        if (intensity := layer.arithmetic_intensity) and (rate := layer.flops_per_s)
    ]
    return tuple(sorted(found, key=lambda dot: dot.share, reverse=True))


def _label(layer: Layer) -> str:
    """The path; of a container's own ops with their type, for the path is the container's."""
    return f"{layer.path} {layer.type}".strip() if layer.type.startswith("(") else layer.path or layer.type
