"""Memory -> bandwidth over the working set, and the price of a page fault.

Bytes are those that an op reads plus those that it writes. That a processor first reads the line it is
about to write ("write-allocate") is not counted, as it is not in the costs of layers.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from flopscope import counters

from .stopwatch import Work, beyond, least

SMALLEST, LARGEST = 2**15, 2**28
_STAGGER = 272  # floats between operands: 17 cache lines, so that they do not fall on the same sets
_FRESH = 2**23  # bytes of the tensor that is made anew: larger than any block that malloc keeps at first
_FRESH_RUNS = 5


class Memory:
    """One buffer from which the operands of all working sets are cut, so that no page is fresh.

    Args:
        limit: the largest working set in bytes; it is bounded by a quarter of the free memory.
    """

    def __init__(self, limit: int = LARGEST, device: str = "cpu") -> None:
        self.largest = min(limit, max(SMALLEST * 4, free_bytes() // 4))
        self._buffer = torch.zeros(self.largest // 4 + 2 * _STAGGER, dtype=torch.float32, device=device)
        few = self._buffer[:48].view(3, 16)
        self._few = (few[0], few[1], few[2])

    def sizes(self) -> tuple[int, ...]:
        """Working sets in bytes: powers of two, 14 of them where there is memory for 268 MB."""
        powers = range(SMALLEST.bit_length() - 1, LARGEST.bit_length())
        return tuple(2**power for power in powers if 2**power <= self.largest)

    def curve(self, seconds: float) -> Iterator[tuple[int, float]]:
        """Bytes per second at each working set: the better of a copy and an addition.

        What a call costs whatever its size is taken off: it is a roof of its own.
        """
        sizes = self.sizes()
        share = seconds / (2 * len(sizes))
        first, second, third = self._few
        for size in sizes:
            copy, copied = self._copy(size)
            add, added = self._add(size)
            copy_s = beyond(copy, lambda: second.copy_(first), share)
            add_s = beyond(add, lambda: torch.add(first, second, out=third), share)
            yield size, max(copied / copy_s, added / add_s)

    def _copy(self, size: int) -> tuple[Work, int]:
        count = size // 8
        source, target = self._cut(count, 0), self._cut(count, 1)
        return lambda: target.copy_(source), 8 * count

    def _add(self, size: int) -> tuple[Work, int]:
        count = size // 12
        left, right, out = (self._cut(count, place) for place in range(3))
        return lambda: torch.add(left, right, out=out), 12 * count

    def _cut(self, count: int, place: int) -> torch.Tensor:
        start = place * (count // 16 * 16 + _STAGGER)
        return self._buffer[start : start + count]


def fault_price() -> tuple[float, int] | None:
    """Seconds of one page fault, handing the page back included, and the bytes that it hands out.

    A tensor on freshly mapped memory is filled and the memory given back; against that, the same
    tensor is filled where it stays. The difference, by the faults that the system counted.

    Returns:
        None where the platform counts no faults, or has no private anonymous mappings.
    """
    if counters.page_faults() is None or not hasattr(mmap, "MAP_PRIVATE"):
        return None
    resident = torch.zeros(_FRESH // 4)
    stays = least(lambda: resident.fill_(1.0), 0.0, runs=_FRESH_RUNS)
    runs = sorted(_fresh() for _ in range(_FRESH_RUNS))
    seconds, faults = runs[0]
    if faults < 2 or seconds <= stays:
        return None
    return (seconds - stays) / faults, _page_bytes(faults)


def free_bytes() -> int:
    """Memory that may be taken without harm: what the system has free, or less in a container."""
    found = [2**30]  # where nothing tells: cautious
    listing = Path("/proc/meminfo")
    if listing.exists():
        lines = listing.read_text(encoding="ascii", errors="replace").splitlines()
        found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")] or found
    group = Path("/sys/fs/cgroup")
    try:
        most, now = ((group / name).read_text() for name in ("memory.max", "memory.current"))
        found.append(int(most) - int(now))
    except (OSError, ValueError):
        pass  # no container, or one without a limit ("max")
    return max(0, min(found))


def _fresh() -> tuple[float, int]:
    """Seconds and page faults of filling a tensor on memory that is mapped and given back again."""
    before, start = counters.page_faults() or 0, time.perf_counter()
    pages = mmap.mmap(-1, _FRESH, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    fresh = torch.frombuffer(pages, dtype=torch.float32)
    fresh.fill_(1.0)
    del fresh  # or the mapping would be held
    pages.close()
    seconds = time.perf_counter() - start
    return seconds, (counters.page_faults() or 0) - before


def _page_bytes(faults: int) -> int:
    """What one fault handed out: a page, or several at once where the system uses large ones."""
    each = _FRESH / faults
    if each < 1.5 * mmap.PAGESIZE:
        return mmap.PAGESIZE
    return int(2 ** round(torch.log2(torch.tensor(each)).item()))
