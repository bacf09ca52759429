"""Several Reports -> Comparison: ratios with their certainty, layers side by side, what got worse."""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from flopscope.errors import BudgetError
from flopscope.records import Layer, Match, Ratio, Refused, Regression, Side, percentile
from flopscope.reports import PathLike, Report, write_text
from flopscope.units import count_text

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 0.02
"""Ratios within this of 1 are called the same: what interleaved runs of one model differ by at times."""
BLOCKS = 10
RESAMPLES = 1000
_VOID = "void"
_FEWEST_TURNS = 5
METRICS = ("params", "macs", "flops", "bytes", "peak_activation_bytes", "latency")
_GATE = re.compile(r"\s*(?P<metric>\w+)\s*:\s*\+\s*(?P<rise>\d+(\.\d+)?)\s*%\s*")


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison:
    """Models side by side; frozen, compares by value.

    Attributes:
        sides: What is compared; the others are held against the first.
        reports: One for each side.
        ratios: Latency over the first side's; None for the first, and where not timed in one run with it.
        matches: The layers that belong together, in the order of the first side.
        refused: Rewrites that were asked for and do not apply.
        margin: Ratios that lie within so much of 1 are called the same.
        notes: What the reader should know besides.
        warnings: What may make a number wrong.
    """

    sides: tuple[Side, ...]
    reports: tuple[Report, ...]
    ratios: tuple[Ratio | None, ...]
    matches: tuple[Match, ...]
    refused: tuple[Refused, ...] = ()
    margin: float = MARGIN
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Report:
        """The report of the side called `name`."""
        names = [side.name for side in self.sides]
        if name not in names:
            raise KeyError(f"no side is called {name!r}; there are {', '.join(names)}")
        return self.reports[names.index(name)]

    def ranking(self) -> tuple[int, ...]:
        """The sides but for the first, the fastest first; those without a ratio last."""
        others = range(1, len(self.sides))
        return tuple(sorted(others, key=lambda place: _value(self.ratios[place])))

    def ranking_text(self) -> str:
        """The ranking in one line: "fold-bn 0.81x, channels-last 0.9x"."""
        pairs = [(self.sides[place].name, self.ratios[place]) for place in self.ranking()]
        return ", ".join(f"{name} {ratio.value:.3g}x" for name, ratio in pairs if ratio is not None)

    @property
    def df(self) -> pd.DataFrame:
        """One row per side: totals in base units, ratio and verdict."""
        import pandas as pd

        from flopscope.render.compared import side_rows

        return pd.DataFrame(side_rows(self))

    @property
    def layers_df(self) -> pd.DataFrame:
        """One row per match: path, kind and shape of the layer, and each number of every side."""
        import pandas as pd

        from flopscope.render.compared import layer_rows

        return pd.DataFrame(layer_rows(self))

    def first_difference(self, place: int = 1) -> tuple[Layer, Layer] | None:
        """The first two layers that are matched by path and whose output shapes differ."""
        for match in self.matches:
            one, other = match.rows[0], match.rows[place]
            if one is None or other is None or match.by != "path":
                continue
            layers = self.reports[0].layers[one], self.reports[place].layers[other]
            if layers[0].path == layers[1].path and layers[0].output_shape != layers[1].output_shape:
                return layers
        return None

    def check(self, *gates: str) -> list[Regression]:
        """Compare every side with the first by gates such as "macs:+1%" or "latency:+5%".

        Latency is judged by the whole interval, which must lie above what is allowed: chance fails nothing.

        Returns:
            The sides that got worse by more than was allowed; none means all is well.

        Raises:
            BudgetError: A gate cannot be read, or latencies were not measured in this run, or are void.
        """
        return [found for gate in gates for found in self._regressions(*parse_gate(gate))]

    def table(self, format: str = "text", *, top: int | None = None, width: int | None = None) -> str:  # noqa: A002
        """Show the comparison: "text", "plot", "markdown", "latex", "svg" (ratios), "csv" (layers), "json".

        Args:
            format: one of these.
            top: Rows of the table of layers; those that differ most by default, 0 for all.
            width: Characters a line of text may have.

        Raises:
            InputError: There is no such format.
        """
        from flopscope.render.compared import rendered

        return rendered(self, format, top=top, width=width)

    def methods_text(self, style: str = "text") -> str:
        """Paragraphs for a paper on what was compared and how it was timed; `style` is "text" or "latex".

        Raises:
            InputError: There is no such style.
        """
        from flopscope.render.methods import comparison_methods_text

        return comparison_methods_text(self, style)

    def to_json(self, path: PathLike | None = None) -> str:
        """The comparison as JSON; also written to `path` if one is given."""
        text = self.table("json")
        if path is not None:
            write_text(path, text)
        return text

    def to_csv(self, path: PathLike | None = None) -> str:
        """The layers side by side as CSV in base units; also written to `path` if one is given."""
        text = self.table("csv")
        if path is not None:
            write_text(path, text)
        return text

    def to_html(self, path: PathLike | None = None) -> str:
        """One page for a browser, which fetches nothing; also written to `path` if one is given."""
        from flopscope.pages import comparison_page

        text = comparison_page(self)
        if path is not None:
            write_text(path, text)
        return text

    def _regressions(self, metric: str, allowed: float) -> list[Regression]:
        if metric == "latency":
            return self._slower(allowed)
        base = metric_of(self.reports[0], metric)
        found = []
        for side, report in zip(self.sides[1:], self.reports[1:], strict=True):
            value = metric_of(report, metric)
            rise = (value - base) / base if base else float(value > 0)
            if rise > allowed:
                found.append(Regression(side.name, metric, rise, allowed))
        return found

    def _slower(self, allowed: float) -> list[Regression]:
        found = []
        for side, report, ratio in list(zip(self.sides, self.reports, self.ratios, strict=True))[1:]:
            if ratio is None:
                raise BudgetError(
                    f"latency of {side.name} and {self.sides[0].name} was not measured in one run",
                    hint="compare the models themselves, not saved reports, and without --no-latency",
                )
            if _VOID in (_word(self.reports[0]), _word(report)):
                raise BudgetError(
                    f"timing of {side.name} against {self.sides[0].name} is void, so that it judges nothing",
                    hint="measure again on a machine at rest, or gate counts: 'macs:+1%'",
                )
            if ratio.low - 1 > allowed:
                found.append(Regression(side.name, "latency", ratio.value - 1, allowed))
        return found

    def __str__(self) -> str:
        return self.table("text")

    def __repr__(self) -> str:
        parts = [f"{side.name} {count_text(report.total.macs)} MACs" for side, report in self._pairs()]
        return f"<Comparison: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        from flopscope.render.notebooks import comparison_html

        return comparison_html(self)

    def _pairs(self) -> list[tuple[Side, Report]]:
        return list(zip(self.sides, self.reports, strict=True))


def compared(
    sides: Sequence[Side],
    reports: Sequence[Report],
    *,
    turns: Sequence[Sequence[int]] = (),
    refused: Sequence[Refused] = (),
    margin: float = MARGIN,
    notes: Sequence[str] = (),
) -> Comparison:
    """Set reports side by side.

    Args:
        sides: names, and whether each was measured in this run.
        reports: one for each side.
        turns: for each side the turn of each of its samples; empty where it was not measured here.
        refused: rewrites that could not be done.
        margin: what is called the same.
        notes: to be kept with the comparison.
    """
    ratios: list[Ratio | None] = [None]
    for place in range(1, len(sides)):
        ratios.append(_ratio_of_sides(sides, reports, turns, place, margin))
    warnings = [
        f"{side.name}: {text}"
        for side, report in zip(sides, reports, strict=True)
        for text in report.warnings
    ]
    return Comparison(
        sides=tuple(sides),
        reports=tuple(reports),
        ratios=tuple(ratios),
        matches=matched([report.layers for report in reports]),
        refused=tuple(refused),
        margin=margin,
        notes=(*notes, *_without_verdict(sides, reports)),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def ratio(this: Mapping[int, float], other: Mapping[int, float], *, margin: float = MARGIN) -> Ratio | None:
    """`other` over `this`, from seconds by turn; None where fewer than five turns have both.

    Neighbours are divided by each other, so that what drifts cancels. Whole blocks of turns are resampled:
    neighbouring turns are alike, and an interval that took them for independent would be too narrow.
    """
    shared = sorted(this.keys() & other.keys())
    if len(shared) < _FEWEST_TURNS:
        return None
    ratios = [other[turn] / this[turn] for turn in shared]
    count = min(BLOCKS, len(ratios))
    blocks = [
        ratios[place * len(ratios) // count : (place + 1) * len(ratios) // count] for place in range(count)
    ]
    chance = random.Random(0)
    drawn = [
        median(value for block in chance.choices(blocks, k=count) for value in block)
        for _ in range(RESAMPLES)
    ]
    value, low, high = median(ratios), percentile(drawn, 0.025), percentile(drawn, 0.975)
    low, high = min(low, value), max(high, value)
    return Ratio(value, low, high, verdict(low, high, margin), len(shared))


def verdict(low: float, high: float, margin: float) -> str:
    """What an interval of a ratio of latencies comes to: faster, slower, same or unclear."""
    if 1 - margin <= low and high <= 1 + margin:
        return "same"
    if high < 1:
        return "faster"
    return "slower" if low > 1 else "unclear"


def matched(layers: Sequence[Sequence[Layer]]) -> tuple[Match, ...]:
    """Layers that belong together, by path and then by position, kind and shape; in the first one's order."""
    found = [_partners(layers[0], others) for others in layers[1:]]
    rows = []
    for place in range(len(layers[0])):
        partners = [partner.get(place) for partner in found]
        ways = {way for _, way in filter(None, partners)}
        by = "" if not ways else "path" if ways == {"path"} else "shape"
        rows.append(Match((place, *(partner[0] if partner else None for partner in partners)), by))
    for number, partner in enumerate(found, 1):
        taken = {other for other, _ in partner.values()}
        for place in range(len(layers[number])):
            if place not in taken:
                alone = [None] * len(layers)
                rows.append(Match((*alone[:number], place, *alone[number + 1 :]), ""))
    return tuple(rows)


def metric_of(report: Report, metric: str) -> int:
    """A count of the whole by its name in `METRICS`."""
    total = report.total
    if metric == "bytes":
        return total.bytes_read + total.bytes_written
    if metric == "peak_activation_bytes":
        return report.peak_activation_bytes
    return int(getattr(total, metric))


def parse_gate(text: str) -> tuple[str, float]:
    """Read "macs:+1%" -> ("macs", 0.01).

    Raises:
        BudgetError: It has another form, or the metric is unknown.
    """
    found = _GATE.fullmatch(text)
    if found is None:
        raise BudgetError(f"not a gate: {text!r}", hint="write metric:+N%, as in 'macs:+1%' or 'latency:+5%'")
    metric = found["metric"].removesuffix("_s")
    if metric not in METRICS:
        raise BudgetError(f"unknown metric {metric!r} in {text!r}", hint=f"metrics: {', '.join(METRICS)}")
    return metric, float(found["rise"]) / 100


def _partners(first: Sequence[Layer], other: Sequence[Layer]) -> dict[int, tuple[int, str]]:
    """For places in `first` the place in `other`, and whether path or shape told."""
    named = {layer.label: place for place, layer in reversed(list(enumerate(other)))}
    found: dict[int, tuple[int, str]] = {}
    taken: set[int] = set()
    for place, layer in enumerate(first):
        partner = named.get(layer.label)
        if partner is not None and partner not in taken:
            found[place] = (partner, "path")
            taken.add(partner)
    left = [place for place in range(len(first)) if place not in found]
    right = [place for place in range(len(other)) if place not in taken]
    keys = [[_form(layers[place]) for place in places] for layers, places in ((first, left), (other, right))]
    aligned = difflib.SequenceMatcher(None, keys[0], keys[1], autojunk=False)
    for block in aligned.get_matching_blocks():
        for step in range(block.size):
            found[left[block.a + step]] = (right[block.b + step], "shape")
    return found


def _form(layer: Layer) -> tuple[Any, ...]:
    return layer.kind, layer.output_shape


def _ratio_of_sides(
    sides: Sequence[Side],
    reports: Sequence[Report],
    turns: Sequence[Sequence[int]],
    place: int,
    margin: float,
) -> Ratio | None:
    if not (sides[0].measured and sides[place].measured):
        return None
    seconds = []
    for number in (0, place):
        whole, items = reports[number].whole, sides[number].items
        samples = () if whole is None else whole.samples
        seconds.append({turn: taken / items for turn, taken in zip(turns[number], samples, strict=True)})
    found = ratio(seconds[0], seconds[1], margin=margin)
    if found is not None and _VOID in (_word(reports[0]), _word(reports[place])):
        return replace(found, verdict="unclear")
    return found


def _word(report: Report) -> str:
    return report.quality.word if report.quality is not None else ""


def _without_verdict(sides: Sequence[Side], reports: Sequence[Report]) -> list[str]:
    """Why some latencies get no verdict: a void measurement, or reports that were not made in one run."""
    notes = []
    if any(side.measured and _word(report) == _VOID for side, report in zip(sides, reports, strict=True)):
        notes.append("timing is void, so no verdict is given: measure again on a machine at rest")
    apart = [
        side.name
        for side, report in zip(sides, reports, strict=True)
        if not side.measured and report.total.latency_s is not None
    ]
    if not apart:
        return notes
    places = {(report.environment.cpu, report.environment.platform) for report in reports}
    why = "were made on different machines" if len(places) > 1 else "were not made in one run, in turns"
    return [*notes, f"no verdict on latency: these measurements {why}; compare the models themselves for one"]


def _value(ratio: Ratio | None) -> float:
    return float("inf") if ratio is None else ratio.value
