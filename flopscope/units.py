"""Number <-> text: how a quantity is shown to people, and what people may write for one."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from flopscope.errors import BudgetError

PREFIXES = {"n": -9, "µ": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
"""SI prefixes and their powers of ten; the only table of them in flopscope."""

UNITS = ("B", "s", "FLOP/s", "B/s", "FLOPs", "FLOP", "MACs", "MAC", "params")
"""Units that `parse_quantity` understands; without one, a number is in base units."""


def count_text(value: float) -> str:
    """A count in three digits: 1814073344 -> "1.81 G", 999 -> "999"."""
    return _scaled(value, "", lowest=0)


def bytes_text(value: float) -> str:
    """Bytes in three digits: 1605632 -> "1.61 MB"."""
    return _scaled(value, "B", lowest=0)


def seconds_text(value: float) -> str:
    """Seconds in three digits: 0.000154 -> "154 µs"."""
    return _scaled(value, "s", lowest=-9)


def rate_text(value: float, unit: str = "FLOP/s") -> str:
    """A rate in three digits: 6.5e10 -> "65.0 GFLOP/s"."""
    return _scaled(value, unit, lowest=0)


def number_text(value: float) -> str:
    """A plain number in three digits and without an exponent: 1234.5 -> "1234", 9.04 -> "9.04"."""
    if not value:
        return "0"
    exponent = _exponent(value)
    return f"{value:.{max(0, 2 - exponent)}f}"


def share_text(share: float) -> str:
    """A share of 0..1 in percent, without the sign: 0.284 -> "28.4", 0.0001 -> "<0.1"."""
    if not share:
        return "0"
    if abs(share) < 0.0005:
        return "<0.1"
    return "100" if round(share, 3) == 1 else f"{100 * share:.1f}"


def giga_text(value: float) -> str:
    """A number in units of 1e9, for a column: 6.5e10 -> "65.0", 3e5 -> "<0.01"."""
    return "<0.01" if 0 < value < 5e6 else number_text(value / 1e9)


def milliseconds_text(value: float) -> str:
    """Seconds as milliseconds with three places, for a column: 0.000154 -> "0.154"."""
    if value and abs(value) < 5e-7:
        return "<0.001"
    return f"{1e3 * value:.3f}"


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape: (1, 64, 56, 56) -> "1x64x56x56"; a scalar's is "scalar"."""
    return "x".join(str(size) for size in shape) or "scalar"


def parse_quantity(text: str, *, unit: str | None = None) -> int | float:
    """Read a quantity as people write it: "600M", "6.5 G", "40MB", "5ms", "1e9", "1_000".

    Args:
        text: A number, an SI prefix and a unit of `UNITS`; prefix and unit may be left out.
        unit: The base unit that is expected ("B", "s", ...; "" for a count); None takes any.

    Returns:
        The value in base units; an int where it is whole.

    Raises:
        BudgetError: The text is not a quantity, or one in another unit.
    """
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        raise BudgetError(f"not a quantity: {text!r}", hint=_hint(text))
    number, prefix, given = found["number"], found["prefix"], found["unit"]
    prefix = {"K": "k", "u": "µ", "μ": "µ"}.get(prefix, prefix)
    if PREFIXES[prefix] < 0 and given != "s":
        raise BudgetError(f"{text!r} has a prefix for fractions but is no time", hint=_hint(text))
    if unit is not None and given and _BASE.get(given, given) != unit:
        wanted = f"in {unit}" if unit else "a count"
        raise BudgetError(f"{text!r} is in {given}, but {wanted} was expected", hint=_hint(text))
    return _exact(number.replace("_", ""), PREFIXES[prefix], text)


_BASE = {"FLOPs": "", "FLOP": "", "MACs": "", "MAC": "", "params": ""}
_QUANTITY = re.compile(
    r"(?P<number>\+?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*"
    r"(?P<prefix>[numkKMGTPµμ]?)(?P<unit>" + "|".join(map(re.escape, UNITS)) + r")?",
    re.ASCII,
)


def _exact(number: str, exponent: int, text: str) -> int | float:
    """`number` times ten to `exponent`, by decimal arithmetic, so that 0.6 G is 600000000."""
    value = Decimal(number).scaleb(exponent)
    if not math.isfinite(float(value)):
        raise BudgetError(f"{text!r} is too large", hint=_hint(text))
    return int(value) if value == value.to_integral_value() else float(value)


def _hint(text: str) -> str:
    if re.search(r"\dm$", text.strip()):
        return "m is milli; for millions write M, as in 600M"
    if re.search(r"[kKMGT]i?B?$", text) and "i" in text:
        return "prefixes are decimal: 1 MB is 1,000,000 bytes; write 41.9MB for 40 MiB"
    return "write a number with an SI prefix and a unit if any, as in 600M, 6.5 G, 40MB, 5ms, 1e9"


def _scaled(value: float, unit: str, *, lowest: int) -> str:
    """Three significant digits with the prefix that leaves 1..999 before the point."""
    if not value:
        return f"0 {unit}".rstrip()
    exponent = _exponent(value)
    power = min(max(exponent // 3 * 3, lowest), max(PREFIXES.values()))
    if power == 0 and isinstance(value, int):
        return f"{value} {unit}".rstrip()
    prefix = next(name for name, size in PREFIXES.items() if size == power)
    places = max(0, 2 - (exponent - power))
    return f"{value / 10.0**power:.{places}f} {prefix}{unit}".rstrip()


def _exponent(value: float) -> int:
    """The power of ten of `value` when it is rounded to three digits: 999.6 -> 3."""
    return int(f"{value:.2e}".split("e")[1])
