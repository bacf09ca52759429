"""Why -> what to try: by remedy, what was measured before what is estimated, and what the figures mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flopscope.records import Fact
from flopscope.render.findings import remedy_text
from flopscope.render.grid import printable
from flopscope.render.phrases import filled, milliseconds
from flopscope.units import number_text, share_text

if TYPE_CHECKING:
    from flopscope.diagnosis import Why

MOST = 5
"""Remedies that are listed; the others are counted."""
SUPPOSABLE = ("fold-bn", "channels-last", "threads", "batch", "compile")
"""Remedies that `flopscope whatif` does and measures, by the same names."""
LEAST = 0.005
"""A gain below this share of the time is not listed."""


def advised(why: Why, width: int | None, *, most: int = MOST) -> str:
    """The remedies, the surest and largest first; "" where there are none."""
    ranked = _ranked(why)
    worth = [facts for facts in ranked if _is_worth(facts, why.summary.seconds)]
    lines = [_line(facts, why) for facts in worth[:most]]
    if not lines:
        return ""
    if len(ranked) > len(lines):
        lines.append(f"… {len(ranked) - len(lines)} more (--json has all)")
    shown = [fact for facts in worth[:most] for fact in facts]
    if any(fact.numbers.get("layers") for fact in shown):
        lines.append(
            "Gains are those of single layers, added up: the whole was not run so, and they overlap."
            + _measurable([fact.code for fact in shown])
        )
    return "\n".join(
        filled(f"{'Try' if not place else '':<9}{printable(line)}", width, 9)
        for place, line in enumerate(lines)
    )


def _measurable(remedies: Sequence[str]) -> str:
    """The command that measures these remedies on the whole model; "" where there is none."""
    whole = [remedy for remedy in dict.fromkeys(remedies) if not remedy.endswith("=N")]
    named = [remedy for remedy in whole if remedy.partition("=")[0] in SUPPOSABLE]
    return f" Measured:  flopscope whatif MODEL {' '.join(named)}" if named else ""


def _ranked(why: Why) -> list[list[Fact]]:
    """Facts by the words of their remedy; remedies with a measured gain first, then by seconds."""
    groups: dict[str, list[Fact]] = {}
    for fact in why.advice:
        groups.setdefault(remedy_text(fact.code), []).append(fact)
    for facts in groups.values():
        facts.sort(key=lambda fact: (_rank(fact), -(fact.seconds or 0.0)))
    return sorted(groups.values(), key=lambda facts: (_rank(facts[0]), -(facts[0].seconds or 0.0)))


def _rank(fact: Fact) -> int:
    order = ("measured", "estimated", "open")
    basis = str(fact.numbers.get("basis"))
    return order.index(basis) if basis in order else len(order)


def _is_worth(facts: Sequence[Fact], whole_s: float | None) -> bool:
    """Whether something notable is to be won, or nobody knows what."""
    known = [fact.seconds for fact in facts if fact.seconds is not None]
    return not known or max(known) >= LEAST * (whole_s or 0.0)


def _line(facts: Sequence[Fact], why: Why) -> str:
    return f"{remedy_text(facts[0].code)}: {'; '.join(_gain(fact, why) for fact in facts)}"


def _gain(fact: Fact, why: Why) -> str:
    if fact.seconds is None:
        return "gain not measured"
    item = " per item" if fact.code.startswith("batch") else ""
    amount = f"{milliseconds(fact.seconds)} less{item}"
    layers = fact.numbers.get("layers")
    if fact.numbers.get("basis") == "measured":
        text = f"measured, alone: {amount}"
        times = fact.numbers.get("times")
        text += f" ({number_text(times)}x as fast)" if isinstance(times, (int, float)) else ""
    else:
        text = f"estimated: at most {amount}"
    if layers:
        whole = why.summary.seconds
        share = f", {share_text(fact.seconds / whole)} % of the time" if whole else ""
        text += f" in {layers} layer{'' if layers == 1 else 's'}{share}"
    return text
