"""What every test of the suite shares."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# The networks here are small: a second thread costs more than it brings, above all where other
# programs run. Set before torch is imported, so that child processes have it too.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def roofs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Roofs for this machine in a cache of the suite's own, so that no test has to measure them."""
    from flopscope.machines import cache, here
    from flopscope.records import Bandwidth, Machine, Peak

    before = os.environ.get("FLOPSCOPE_CACHE")
    os.environ["FLOPSCOPE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    for threads in range(1, 1 + (os.cpu_count() or 1)):
        peaks = (Peak("float32", threads * 1e11), Peak("bfloat16", threads * 2e11))
        curve = (Bandwidth(100_000, 1e11), Bandwidth(1_000_000, 9e10), Bandwidth(100_000_000, 2e10))
        costs = {"op": 5e-6, "convolution": 2e-5, "matmul": 1e-5, "module": 2e-6}
        made = Machine(
            "made for tests", "cpu", threads, peaks, curve, costs, fault_s=1e-6, vector_bytes=64,
            fingerprint=here.fingerprint(here.identity("cpu", threads)),
        )  # fmt: skip
        assert cache.store(made) is None
    yield
    if before is None:
        del os.environ["FLOPSCOPE_CACHE"]
    else:
        os.environ["FLOPSCOPE_CACHE"] = before
