"""A dtype -> the most FLOP/s that torch reaches in it: the best of matrix products and convolutions.

2 FLOPs a MAC; no shape is padded, so that what is nominal is also executed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .stopwatch import Work, least

DTYPES = ("float32", "bfloat16", "float16", "float64", "int8")
_SQUARES = (256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144)
_CONVOLUTIONS = ((1, 128, 28, 3), (1, 256, 28, 1), (4, 64, 56, 3))
"""Batch, channels in and out, output size, kernel: the shapes in which networks do most of their work."""
_LONGEST_S = 0.010  # shapes grow until a call takes this long: larger ones reach no more
_FAVOURITES = 3
_LOOK_S = 0.004


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to the peak: its name, its FLOPs, and the call."""

    how: str
    flops: int
    run: Work


@dataclass(frozen=True, slots=True)
class Contest:
    """By dtype the best candidates of a first look, and why a dtype has none."""

    favourites: dict[str, tuple[Candidate, ...]]
    absent: dict[str, str]


def contest(device: str = "cpu", told: Callable[[int], None] = lambda place: None) -> Contest:
    """Try all shapes of all dtypes shortly, and keep the best of each dtype; it also warms up."""
    found = Contest({}, {})
    for place, dtype in enumerate(DTYPES):
        told(place)
        try:
            found.favourites[dtype] = favourites(dtype, device)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            found.absent[dtype] = f"torch cannot multiply in it here: {_first_line(error)}"
    return found


def favourites(dtype: str, device: str = "cpu") -> tuple[Candidate, ...]:
    """The fastest shapes of a dtype.

    Raises:
        RuntimeError: torch has no product in it.
    """
    tried: list[tuple[float, Candidate]] = []
    for candidate in _products(dtype, device):
        seconds = least(candidate.run, _LOOK_S)
        tried.append((candidate.flops / seconds, candidate))
        if seconds > _LONGEST_S / 4:  # the next one is up to 3.4 times as much work
            break
    for candidate in _convolutions(dtype, device):
        tried.append((candidate.flops / least(candidate.run, _LOOK_S), candidate))
    tried.sort(key=lambda pair: pair[0], reverse=True)
    return tuple(candidate for _, candidate in tried[:_FAVOURITES])


def peak(candidates: tuple[Candidate, ...], seconds: float) -> tuple[float, str]:
    """FLOP/s of the best candidate, and which it was."""
    rates = [(one.flops / least(one.run, seconds / len(candidates)), one.how) for one in candidates]
    return max(rates)


def _products(dtype: str, device: str) -> Iterator[Candidate]:
    for size in _SQUARES:
        yield _int_product(size, device) if dtype == "int8" else _product(size, dtype, device)


def _product(size: int, dtype: str, device: str) -> Candidate:
    left, right, out = (torch.ones(size, size, dtype=getattr(torch, dtype), device=device) for _ in range(3))
    return Candidate(f"mm {size}x{size}x{size}", 2 * size**3, lambda: torch.mm(left, right, out=out))


def _int_product(size: int, device: str) -> Candidate:
    """int8 by int8 into int32, as quantised linear layers do it."""
    multiply: Any = getattr(torch, "_int_mm", None)
    if multiply is None:
        raise NotImplementedError("this torch has no product of int8 matrices")
    left, right = (torch.ones(size, size, dtype=torch.int8, device=device) for _ in range(2))
    out = torch.zeros(size, size, dtype=torch.int32, device=device)
    return Candidate(f"_int_mm {size}x{size}x{size}", 2 * size**3, lambda: multiply(left, right, out=out))


def _convolutions(dtype: str, device: str) -> Iterator[Candidate]:
    """Convolutions in channels_last, which is what libraries like best; none in int8."""
    if dtype == "int8":
        return
    for batch, channels, size, kernel in _CONVOLUTIONS:
        side = size + kernel - 1
        kind, form = getattr(torch, dtype), torch.channels_last
        image = torch.ones(batch, channels, side, side, dtype=kind, device=device).to(memory_format=form)
        weight = torch.ones(channels, channels, kernel, kernel, dtype=kind, device=device)
        weight = weight.to(memory_format=form)
        flops = 2 * batch * size**2 * kernel**2 * channels**2
        how = f"conv {kernel}x{kernel} {batch}x{channels}x{size}x{size} channels_last"
        yield Candidate(how, flops, functools.partial(torch.conv2d, image, weight))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
