"""What the system counts of this process, read from listings of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flopscope import counters
from flopscope.records import percentile


def tasks(root: Path, **threads: str) -> Path:
    """A /proc/self/task with these threads' schedstat."""
    for name, text in threads.items():
        (root / name[1:]).mkdir(parents=True)
        (root / name[1:] / "schedstat").write_text(text)
    return root


def test_waiting_is_added_up_over_threads(tmp_path: Path) -> None:
    found = tasks(tmp_path, t7="5000 1000000000 3\n", t8="0 500000000 1\n")
    assert counters.run_delays(found) == {7: 1.0, 8: 0.5}
    assert counters.run_delay_s(found) == 1.5


def test_a_kernel_that_counts_nothing_tells_nothing(tmp_path: Path) -> None:
    assert counters.run_delays(tasks(tmp_path, t7="0 0 0\n")) is None
    assert counters.run_delay_s(tmp_path / "absent") is None


def test_a_thread_that_ended_is_left_out(tmp_path: Path) -> None:
    found = tasks(tmp_path, t7="1 2000000000 1\n")
    (found / "8").mkdir()  # its file is gone
    assert counters.run_delays(found) == {7: 2.0}


def test_busy_and_stolen_time_of_the_wanted_processors(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    #                     user nice system idle iowait irq softirq steal guest
    stat.write_text("cpu 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 1\ncpu1 10 0 0 0 0 0 0 2 0\nintr 5\n")
    # 1 + 2 + 3 + 6 + 7 = 19 ticks of 10 ms, and 10 more of the other processor
    assert counters.processor_times(stat, (0,), 0.01) == (pytest.approx(0.19), pytest.approx(0.08))
    assert counters.processor_times(stat, (0, 1), 0.01) == (pytest.approx(0.29), pytest.approx(0.10))
    assert counters.processor_times(stat, (7,), 0.01) == (None, None)
    assert counters.processor_times(tmp_path / "absent", (0,)) == (None, None)


@pytest.mark.skipif(counters.page_faults() is None, reason="this platform counts no page faults")
def test_new_pages_are_faulted_in() -> None:
    import mmap

    before = counters.page_faults()
    pages = mmap.mmap(-1, 64 * mmap.PAGESIZE)
    for place in range(64):
        pages[place * mmap.PAGESIZE] = 1
    after = counters.page_faults()
    assert before is not None
    assert after is not None
    assert after > before
    assert counters.switches() is not None
    assert counters.major_faults() is not None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this platform does not tell")
def test_the_processors_that_may_be_used() -> None:
    assert counters.processors() == tuple(sorted(os.sched_getaffinity(0)))


def test_percentiles_are_interpolated() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile([1.0, 2.0, 3.0], 0.1) == pytest.approx(1.2)  # a fifth of the way from 1 to 2
    assert percentile([5.0], 0.1) == 5.0
