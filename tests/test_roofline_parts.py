"""The five parts of a layer's time: every branch by hand, and the sum for whatever is given."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flopscope.roofline import PARTS, Parts, Terms, taken_apart


def _parts(found: Parts) -> tuple[float, ...]:
    return tuple(getattr(found, f"{name}_s") for name in PARTS)


def test_each_part_in_its_order() -> None:
    """t 100: compute 20, loss 15, overhead 30, faults 10; 100 - 75 = 25 are left to memory."""
    found = taken_apart(100.0, Terms(20.0, 35.0, 30.0, 10.0, hot_loss_s=15.0))
    assert _parts(found) == (20.0, 15.0, 30.0, 10.0, 25.0)
    assert found.limit == "overhead"
    assert not found.clamped


def test_the_cheap_form_takes_memory_second_and_leaves_the_rest_unexplained() -> None:
    """t 100: compute 20, memory 35 - 20 = 15, overhead 30, faults 10; kernel is the rest, 25."""
    found = taken_apart(100.0, Terms(20.0, 35.0, 30.0, 10.0))
    assert _parts(found) == (20.0, 25.0, 30.0, 10.0, 15.0)
    assert not found.clamped


def test_faults_may_take_all_that_is_left() -> None:
    """The last cut says that nothing is left for memory; it casts no doubt."""
    found = taken_apart(100.0, Terms(20.0, 20.0, 30.0, 500.0, hot_loss_s=0.0))
    assert _parts(found) == (20.0, 0.0, 30.0, 50.0, 0.0)
    assert not found.clamped


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        # More computing than there was time: the roof was too low, or an algorithm took fewer FLOPs.
        (Terms(120.0, 120.0, 5.0, 0.0, hot_loss_s=0.0), (100.0, 0.0, 0.0, 0.0, 0.0)),
        # The replay loses 90 where 80 are left.
        (Terms(20.0, 20.0, 0.0, 0.0, hot_loss_s=95.0), (20.0, 80.0, 0.0, 0.0, 0.0)),
        # The replay was faster than the roofs and its twin together by 30.
        (Terms(20.0, 20.0, 40.0, 0.0, hot_loss_s=-30.0), (20.0, 0.0, 40.0, 0.0, 40.0)),
        # Overhead of 90 where 60 are left.
        (Terms(20.0, 20.0, 90.0, 0.0, hot_loss_s=20.0), (20.0, 20.0, 60.0, 0.0, 0.0)),
        # The cheap form: 140 of memory where 80 are left.
        (Terms(20.0, 160.0, 10.0, 0.0), (20.0, 0.0, 0.0, 0.0, 80.0)),
    ],
)
def test_a_cut_among_the_first_three_is_told(terms: Terms, expected: tuple[float, ...]) -> None:
    found = taken_apart(100.0, terms)
    assert _parts(found) == expected
    assert found.clamped


def test_a_cut_within_the_noise_is_none() -> None:
    """Overhead is 8 too much and the replay 5 too fast, both less than a tenth of 100."""
    found = taken_apart(100.0, Terms(20.0, 20.0, 88.0, 0.0, hot_loss_s=-5.0))
    assert _parts(found) == (20.0, 0.0, 80.0, 0.0, 0.0)
    assert not found.clamped


def test_no_time_has_no_limit() -> None:
    found = taken_apart(0.0, Terms(0.0, 0.0, 0.0, 0.0))
    assert _parts(found) == (0.0,) * 5
    assert found.limit is None


def test_the_first_of_equals_is_the_limit() -> None:
    assert taken_apart(10.0, Terms(5.0, 5.0, 5.0, 0.0, hot_loss_s=0.0)).limit == "compute"


_SECONDS = st.floats(min_value=0, max_value=1e3, allow_nan=False)
_SIGNED = st.floats(min_value=-1e3, max_value=1e3, allow_nan=False)


@given(floor=_SECONDS, compute=_SECONDS, beyond=_SECONDS, overhead=_SIGNED, faults=_SECONDS,
       loss=st.none() | _SIGNED)  # fmt: skip
def test_parts_are_never_negative_and_add_up(
    floor: float, compute: float, beyond: float, overhead: float, faults: float, loss: float | None
) -> None:
    found = _parts(taken_apart(floor, Terms(compute, compute + beyond, overhead, faults, loss)))
    assert all(part >= 0 for part in found)
    assert math.isclose(sum(found), floor, rel_tol=1e-14, abs_tol=1e-300)
    # No part is more than its cause: rounding apart, what a cause takes never grows.
    assert found[0] <= compute * (1 + 1e-12) or math.isclose(found[0], compute, abs_tol=1e-12)
