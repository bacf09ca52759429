"""What was measured against a target -> a row, and rows -> Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One target: what it asks, what was measured, whether it is met; None where nothing was promised."""

    what: str
    target: str
    measured: str
    met: bool | None = None
    value: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one part, and all numbers behind them."""

    rows: tuple[Row, ...]
    raw: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    networks: tuple[str, ...]
    times: int
    seconds: float | None
    thorough: bool
    quick: bool

    @property
    def sampling(self) -> dict[str, float]:
        """The keyword of `profile`, where the time of sampling is not the one of its effort."""
        return {} if self.seconds is None else {"max_seconds": self.seconds}


def at_most(
    what: str,
    value: float | None,
    limit: float,
    text: Callable[[float], str],
    *,
    detail: str = "",
    note: str = "",
) -> Row:
    """A row that is met by a value up to a limit; never by one that is missing."""
    return _against(what, value, f"≤ {text(limit)}", lambda x: x <= limit, text, detail, note)


def at_least(
    what: str,
    value: float | None,
    limit: float,
    text: Callable[[float], str],
    *,
    detail: str = "",
    note: str = "",
) -> Row:
    """A row that is met by a value from a limit on; never by one that is missing."""
    return _against(what, value, f"≥ {text(limit)}", lambda x: x >= limit, text, detail, note)


def seen(what: str, measured: str, *, value: float | None = None, note: str = "") -> Row:
    """A row that no target goes with."""
    return Row(what, "-", measured, None, value, note)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %".replace(".0 %", " %")


def seconds(value: float) -> str:
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns" if value else "0 s"


def plain(value: float) -> str:
    return f"{value:.3g}"


def table(parts: dict[str, Part]) -> str:
    """All rows, by part."""
    lines = ["| part | what | target | measured | met? | |", "|:--|:--|:--|:--|:--|:--|"]
    for name, part in parts.items():
        for row in part.rows:
            met = {True: "yes", False: "**no**", None: "-"}[row.met]
            cells = (name, row.what, row.target, row.measured, met, row.note)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def verdict(parts: dict[str, Part]) -> str:
    """How many targets are met, in a sentence."""
    judged = [row for part in parts.values() for row in part.rows if row.met is not None]
    met = sum(row.met is True for row in judged)
    return f"{met} of {len(judged)} targets are met."


def threads_text(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"


def listed(names: Sequence[str]) -> str:
    """Words and how often each was said."""
    counted = {name: names.count(name) for name in sorted(set(names))}
    return ", ".join(f"{name} × {times}" for name, times in counted.items())


def _against(
    what: str,
    value: float | None,
    target: str,
    keeps: Callable[[float], bool],
    text: Callable[[float], str],
    detail: str,
    note: str,
) -> Row:
    if value is None:
        return Row(what, target, "not measured", False, None, note)
    measured = f"{text(value)} ({detail})" if detail else text(value)
    return Row(what, target, measured, keeps(value), value, note)
