"""A CUDA device -> a Session, by events on its stream, in this process.

Written from documentation and tested with stand-ins: it has never run on a GPU.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from flopscope.clocks import Clock, CudaClock

from .passes import Pass, Session

DTYPES = ("float32", "tf32", "bfloat16", "float16", "float64", "int8")
_SIZE = 4096  # 137 GFLOP a product: milliseconds on any card, and the operands fit anywhere
_SMALLEST, _LARGEST = 2**20, 2**30
_RUNS = 10
_LAUNCHES = 1000
_QUEUED_S = 1e-4  # more than the host takes to hand over one call

Progress = Callable[[str, float], None]


def calibrate(
    device: str,
    threads: int,
    *,
    passes: int,
    progress: Progress | None = None,
    clock: Clock | None = None,
    size: int = _SIZE,
    largest: int | None = None,
) -> Session:
    """Measure products by dtype, copies over working sets, and launches.

    Args:
        device: "cuda:0".
        threads: of the host, for the record.
        passes: how many.
        progress: is told the stage and the share done.
        clock: marks moments in the device's work.
        size: of the square matrices.
        largest: working set in bytes; by default a quarter of the free memory, at most 1 GB.
    """
    clock = clock or CudaClock()
    if largest is None:
        largest = min(_LARGEST, torch.cuda.mem_get_info(device)[0] // 4)
    absent: dict[str, str] = {}
    done = []
    with torch.inference_mode():
        for place in range(passes):
            if progress is not None:
                progress(f"roofs: pass {place + 1}", place / passes)
            rates = _rates(device, clock, size, absent)
            curve = tuple(_curve(device, clock, largest))
            done.append(Pass(rates, curve, {"op": _launch_s(device, clock)}))
    how = {dtype: f"mm {size}x{size}x{size}, {_mode(dtype)}" for dtype in done[0].flops_per_s}
    lacking = ("interference on the device", "convolution, product and module overheads")
    return Session(threads, tuple(done), how, absent, lacking)


def _rates(device: str, clock: Clock, size: int, absent: dict[str, str]) -> dict[str, float]:
    rates = {}
    for dtype in DTYPES:
        try:
            with _tf32(dtype == "tf32"):
                rates[dtype] = 2 * size**3 / least(clock, _product(dtype, device, size))
        except (RuntimeError, NotImplementedError) as error:
            absent[dtype] = f"no product in it here: {(str(error).splitlines() or [''])[0][:120]}"
    return rates


def _product(dtype: str, device: str, size: int) -> Callable[[], object]:
    if dtype == "int8":
        multiply: Any = getattr(torch, "_int_mm", None)
        if multiply is None:
            raise NotImplementedError("this torch has no product of int8 matrices")
        # The right-hand one by columns, which is what the tensor cores take.
        one = torch.ones(size, size, dtype=torch.int8, device=device)
        two = torch.ones(size, size, dtype=torch.int8, device=device).t()
        return lambda: multiply(one, two)
    kind = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
    left, right, out = (torch.ones(size, size, dtype=kind, device=device) for _ in range(3))
    return lambda: torch.mm(left, right, out=out)


def _curve(device: str, clock: Clock, largest: int) -> Iterator[tuple[int, float]]:
    """Bytes read and written a second by a copy, over working sets."""
    size = min(_SMALLEST, largest)
    while size <= largest:
        source, target = (torch.zeros(size // 8, dtype=torch.float32, device=device) for _ in range(2))
        yield size, size // 8 * 8 / least(clock, functools.partial(target.copy_, source))
        size *= 2


def _launch_s(device: str, clock: Clock) -> float:
    """Seconds that the host takes to hand over one small op, the device being quick enough to keep up."""
    row = torch.ones(16, device=device)
    least(clock, lambda: torch.relu(row))
    start = time.perf_counter()
    for _ in range(_LAUNCHES):
        torch.relu(row)
    seconds = time.perf_counter() - start
    clock.settle([clock.mark(), clock.mark()])  # the device finishes before anything else begins
    return seconds / _LAUNCHES


def least(clock: Clock, work: Callable[[], object]) -> float:
    """The least seconds between marks around one call; all calls are queued before the clock is settled."""
    work()
    clock.lead(_RUNS * _QUEUED_S)  # the host queues all calls while the device is still held up
    marks = [clock.mark()]
    for _ in range(_RUNS):
        work()
        marks.append(clock.mark())
    return min(clock.settle(marks))


def _mode(dtype: str) -> str:
    return {"float32": "TF32 off", "tf32": "float32 operands, TF32 on"}.get(
        dtype, "tensor cores where it has them"
    )


@contextmanager
def _tf32(wanted: bool) -> Iterator[None]:
    """Products of float32 in TF32 or not; given back as it was."""
    flags = torch.backends.cuda.matmul
    before = flags.allow_tf32
    flags.allow_tf32 = wanted
    try:
        yield
    finally:
        flags.allow_tf32 = before
