"""Layers, their ops and the machine's roofs -> bounds, and each layer's time in five parts."""

from __future__ import annotations

from flopscope.convolutions import convolution_of

from .dots import Dot, dots
from .explaining import METHOD, explained
from .geometry import executed_flops
from .parts import PARTS, Parts, Terms, taken_apart
from .roofs import attainable_s, exceeded, exceeds

__all__ = [
    "METHOD",
    "PARTS",
    "Dot",
    "Parts",
    "Terms",
    "attainable_s",
    "convolution_of",
    "dots",
    "exceeded",
    "exceeds",
    "executed_flops",
    "explained",
    "taken_apart",
]
