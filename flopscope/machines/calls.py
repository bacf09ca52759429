"""Calls that compute nothing worth mentioning -> the seconds that each kind of call costs at any size."""

from __future__ import annotations

import time

import torch
from torch import nn

from .stopwatch import Work

PROBE = "probe"
"""The product by which the sampler tells the processor's pace: of 128 x 128 matrices."""

_PROBE_SIDE = 128
_SAMPLES = 60
_EVICTED = 2**21  # bytes streamed between two samples, as the layers before it would
_MODULES = 16


class Calls:
    """Tiny operands of an element-wise op, a convolution, a product and a chain of empty modules.

    Samples are cold, as in a network: data of other layers pass through the caches between them. Taken
    in a tight loop these costs are several times too small.
    """

    def __init__(self) -> None:
        self._others = torch.zeros(_EVICTED // 4)
        row = torch.ones(1, 16)
        # Two images: for a single one of this size torch takes a backend of its own, not the usual one.
        images, kernel = torch.ones(2, 16, 3, 3), torch.ones(16, 16, 3, 3)
        square, bias = torch.ones(16, 16), torch.ones(16)
        left, right, product = (torch.ones(_PROBE_SIDE, _PROBE_SIDE) for _ in range(3))
        chain, empty = nn.Sequential(*(_Empty() for _ in range(_MODULES))), nn.Sequential()
        self._works: dict[str, Work] = {
            "op": lambda: torch.relu(row),
            "convolution": lambda: torch.conv2d(images, kernel, bias),
            "matmul": lambda: torch.addmm(bias, row, square),
        }
        self._probe: Work = lambda: torch.mm(left, right, out=product)
        self._chain: Work = lambda: chain(row)
        self._empty: Work = lambda: empty(row)

    def overheads(self) -> dict[str, float]:
        """Seconds by kind: the 10th percentile of cold samples, less what reading the clock costs."""
        clock = self._cold(lambda: None)
        found = {kind: max(0.0, self._cold(work) - clock) for kind, work in self._works.items()}
        found["module"] = max(0.0, self._cold(self._chain) - self._cold(self._empty)) / _MODULES
        found[PROBE] = max(0.0, self._hot(self._probe))
        return found

    def _hot(self, work: Work) -> float:
        samples = []
        for _ in range(_SAMPLES):
            start = time.perf_counter()
            work()
            samples.append(time.perf_counter() - start)
        return sorted(samples)[_SAMPLES // 10]

    def _cold(self, work: Work) -> float:
        work()
        samples = []
        for _ in range(_SAMPLES):
            self._others.add_(1.0)
            start = time.perf_counter()
            work()
            samples.append(time.perf_counter() - start)
        return sorted(samples)[_SAMPLES // 10]


class _Empty(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x
