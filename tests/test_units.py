"""Numbers to text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flopscope import units
from flopscope.errors import BudgetError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (2304, "2.30 k"),
        (999_499, "999 k"),
        (999_500, "1.00 M"),  # Rounded to three digits it has a seventh place.
        (1_814_073_344, "1.81 G"),
        (int(1.5e18), "1500 P"),  # There is no prefix beyond.
    ],
)
def test_counts(value: int, text: str) -> None:
    assert units.count_text(value) == text


def test_other_quantities() -> None:
    assert units.bytes_text(512) == "512 B"
    assert units.bytes_text(1_605_632) == "1.61 MB"
    assert units.seconds_text(0.000154) == "154 µs"
    assert units.seconds_text(1.2) == "1.20 s"
    assert units.rate_text(6.5e10) == "65.0 GFLOP/s"
    assert units.rate_text(8.9e10, "B/s") == "89.0 GB/s"
    assert units.number_text(1234.5) == "1234"
    assert units.number_text(0.0123) == "0.0123"
    assert units.shape_text((1, 64, 56, 56)) == "1x64x56x56"
    assert units.shape_text(()) == "scalar"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0"), (0.0004, "<0.1"), (0.0005, "0.1"), (0.284, "28.4"), (0.9996, "100"), (1.0, "100")],
)
def test_shares_tell_little_from_nothing(share: float, text: str) -> None:
    assert units.share_text(share) == text


def test_milliseconds_tell_little_from_nothing() -> None:
    assert units.milliseconds_text(0.0) == "0.000"
    assert units.milliseconds_text(4e-7) == "<0.001"
    assert units.milliseconds_text(0.0123456) == "12.346"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("600M", 600_000_000),
        ("6.5 G", 6_500_000_000),
        ("0.6G", 600_000_000),
        ("40MB", 40_000_000),
        ("600 MMACs", 600_000_000),
        ("2GFLOP/s", 2_000_000_000),
        ("1e9", 1_000_000_000),
        ("1_000", 1000),
        ("12", 12),
        ("1.5", 1.5),
        ("5ms", 0.005),
        ("3 µs", 3e-6),
        ("3us", 3e-6),
        ("2 s", 2),
    ],
)
def test_quantities(text: str, value: float) -> None:
    read = units.parse_quantity(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("600m", "for millions write M"),
        ("40MiB", "decimal"),
        ("abc", "6.5 G"),
        ("", "6.5 G"),
        ("nan", "6.5 G"),
        ("-3", "6.5 G"),
        ("1e999", "6.5 G"),
    ],
)
def test_what_is_no_quantity(text: str, hint: str) -> None:
    with pytest.raises(BudgetError) as caught:
        units.parse_quantity(text)
    assert hint in caught.value.hint
    assert repr(text) in str(caught.value)


def test_a_quantity_in_another_unit() -> None:
    assert units.parse_quantity("600 MMACs", unit="") == 600_000_000
    assert units.parse_quantity("600M", unit="B") == 600_000_000
    with pytest.raises(BudgetError, match="is in B, but in s was expected"):
        units.parse_quantity("5MB", unit="s")
    with pytest.raises(BudgetError, match="a count was expected"):
        units.parse_quantity("5MB", unit="")


@given(st.integers(min_value=1, max_value=10**17))
def test_a_count_reads_back_to_three_digits(value: int) -> None:
    # Three digits kept: the error is at most half a unit of the third, 0.5 % of the value.
    assert abs(units.parse_quantity(units.count_text(value)) - value) <= 0.005 * value
