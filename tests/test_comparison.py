"""Comparison: ratios and their certainty, layers that belong together, gates; on records made by hand."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from made_reports import conv, depthwise, layer, report

from flopscope.comparison import MARGIN, compared, matched, parse_gate, ratio, verdict
from flopscope.errors import BudgetError, InputError
from flopscope.records import Latency, Match, Quality, Refused, Rewrote, Side
from flopscope.reports import Report


def sides(*names: str, measured: bool = True) -> list[Side]:
    return [Side(name, measured=measured) for name in names]


def timed(samples: list[float], **given: object) -> Report:
    return replace(report(), whole=Latency(tuple(samples)), **given)  # type: ignore[arg-type]


# ------------------------------------------------------------------------- ratios


def test_a_ratio_of_constant_times_is_exact() -> None:
    this, other = dict.fromkeys(range(20), 2.0), dict.fromkeys(range(20), 3.0)
    found = ratio(this, other)
    assert found is not None
    assert (found.value, found.low, found.high, found.verdict, found.turns) == (1.5, 1.5, 1.5, "slower", 20)


def test_what_drifts_for_both_cancels() -> None:
    # The clock halves half way through: each takes twice as long, their ratio stays 0.5.
    this = {turn: 1.0 if turn < 10 else 2.0 for turn in range(20)}
    other = {turn: 0.5 * taken for turn, taken in this.items()}
    found = ratio(this, other)
    assert found is not None
    assert (found.low, found.value, found.high, found.verdict) == (0.5, 0.5, 0.5, "faster")


def test_only_shared_turns_count_and_five_are_the_fewest() -> None:
    this = dict.fromkeys(range(10), 1.0)
    assert ratio(this, dict.fromkeys(range(6, 20), 1.0)) is None  # 6, 7, 8, 9: four
    found = ratio(this, dict.fromkeys(range(5, 20), 1.0))
    assert found is not None
    assert found.turns == 5


def test_noise_as_wide_as_the_difference_is_unclear() -> None:
    chance = random.Random(1)
    this = {turn: chance.uniform(0.5, 1.5) for turn in range(40)}
    other = {turn: chance.uniform(0.5, 1.5) for turn in range(40)}
    found = ratio(this, other)
    assert found is not None
    assert found.low <= found.value <= found.high
    assert found.verdict == "unclear"


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.99, 1.01, "same"),
        (0.98, 1.02, "same"),  # the margin of 2 % itself
        (0.90, 0.97, "faster"),
        (0.97, 0.999, "faster"),
        (1.03, 1.10, "slower"),
        (0.97, 1.01, "unclear"),
        (0.99, 1.05, "unclear"),
    ],
)
def test_verdicts(low: float, high: float, word: str) -> None:
    assert verdict(low, high, MARGIN) == word


def test_latency_is_divided_by_the_samples_of_a_call() -> None:
    one, eight = timed([1.0] * 8), timed([4.0] * 8)
    found = compared([Side("one", 1, True), Side("eight", 8, True)], [one, eight], turns=[range(8), range(8)])
    assert found.ratios[1] is not None
    assert found.ratios[1].value == 0.5  # 4 s for 8 samples against 1 s for 1


def test_saved_reports_get_no_verdict_and_say_why() -> None:
    here = timed([1.0] * 8)
    there = replace(here, environment=replace(here.environment, cpu="another processor"))
    same_place = compared(sides("a", "b", measured=False), [here, here], turns=[(), ()])
    apart = compared(sides("a", "b", measured=False), [here, there], turns=[(), ()])
    assert same_place.ratios == apart.ratios == (None, None)
    assert "were not made in one run" in same_place.notes[0]
    assert "were made on different machines" in apart.notes[0]


def test_a_void_measurement_gets_no_verdict_but_keeps_its_numbers() -> None:
    void = timed([2.0] * 8, quality=Quality("void", ("threads waited",)))
    found = compared(sides("a", "b"), [timed([1.0] * 8), void], turns=[range(8)] * 2)
    assert found.ratios[1] is not None
    assert (found.ratios[1].value, found.ratios[1].verdict) == (2.0, "unclear")
    assert "timing is void" in found.notes[0]
    with pytest.raises(BudgetError, match="timing of b against a is void") as caught:
        found.check("latency:+5%")
    assert "macs:+1%" in caught.value.hint
    assert found.check("macs:+1%") == []


# ------------------------------------------------------------------------- layers


def test_layers_are_matched_by_path_then_by_kind_and_shape() -> None:
    first = [conv(), depthwise(), layer("head", "Linear", "linear", output_shape=(1, 10))]
    other = [conv(), layer("b.other", "Conv2d", "depthwise_conv"), layer("pool", "AvgPool2d", "pooling")]
    assert matched([first, other]) == (
        Match((0, 0), "path"),
        Match((1, 1), "shape"),
        Match((2, None), ""),
        Match((None, 2), ""),
    )


def test_every_layer_stands_in_exactly_one_match() -> None:
    kinds = ("conv", "linear", "pooling")
    chance = random.Random(3)
    for _ in range(50):
        rows = [
            [
                layer(f"{chance.choice('abcd')}{n}", "X", chance.choice(kinds))
                for n in range(chance.randrange(6))
            ]
            for _ in range(3)
        ]
        found = matched(rows)
        for number, layers in enumerate(rows):
            places = [match.rows[number] for match in found if match.rows[number] is not None]
            assert sorted(places) == list(range(len(layers)))  # type: ignore[type-var]


def test_the_first_layer_of_another_shape_is_named() -> None:
    strided = report(conv(), depthwise(output_shape=(1, 4, 1, 1)))
    found = compared(sides("a", "b", measured=False), [report(), strided])
    pair = found.first_difference()
    assert pair is not None
    assert pair[0].path == "a.dw"
    assert "b: the first layer of another shape is a.dw: 1x4x2x2 and 1x4x1x1" in str(found)


# ------------------------------------------------------------------------- gates


def test_gates_compare_with_the_first() -> None:
    # 400 MACs against 300 + 104: +1 %.
    more = report(conv(), depthwise(), layer("more", "Linear", "linear", macs=4))
    found = compared(sides("a", "b", measured=False), [report(conv(), depthwise()), more])
    assert found.check("macs:+1%", "params:+0%") == []
    (worse,) = found.check("macs:+0.9%")
    assert (worse.side, worse.metric, worse.rise) == ("b", "macs", 0.01)


def test_latency_fails_only_where_the_whole_interval_lies_above() -> None:
    slow = compared(sides("a", "b"), [timed([1.0] * 8), timed([1.1] * 8)], turns=[range(8), range(8)])
    assert [worse.metric for worse in slow.check("latency:+5%")] == ["latency"]
    assert slow.check("latency:+15%") == []
    noisy = [0.9, 1.3] * 8
    unclear = compared(sides("a", "b"), [timed([1.0] * 16), timed(noisy)], turns=[range(16), range(16)])
    assert unclear.check("latency:+5%") == []


def test_latency_of_saved_reports_cannot_be_judged() -> None:
    found = compared(sides("a", "b", measured=False), [report(), report()])
    with pytest.raises(BudgetError, match="was not measured in one run"):
        found.check("latency:+5%")


@pytest.mark.parametrize("text", ["macs", "macs+1%", "macs:1%", "macs:+x%", "speed:+1%", "macs:-1%"])
def test_malformed_gates(text: str) -> None:
    with pytest.raises(BudgetError):
        parse_gate(text)


# ------------------------------------------------------------------------- shown


def test_text_tells_rewrites_from_other_functions_and_what_was_refused() -> None:
    changed = Side("dw-to-pconv", 1, True, Rewrote(("dw-to-pconv",), "changed", ("a.dw",)))
    same = Side("fold-bn", 1, True, Rewrote(("fold-bn",), relative=1.5e-7, precise_relative=2.5e-16))
    reports = [timed([1.0] * 8), timed([2.0] * 8), timed([0.5] * 8)]
    found = compared(
        [Side("as it is", 1, True), changed, same], reports, turns=[range(8)] * 3,
        refused=[Refused("compile", "no compiler")],
    )  # fmt: skip
    text = str(found)
    assert text.index("fold-bn ") < text.index("dw-to-pconv (other function)")  # the fastest first
    assert "0.5x" in text
    assert "2x" in text
    assert "same function (largest difference 2.5e-16 of the largest output, in float64)" in text
    assert "dw-to-pconv: ANOTHER FUNCTION, fresh weights; changed 1: a.dw" in text
    assert "compile was not done: no compiler" in text
    assert found.ranking() == (2, 1)


def test_formats_hold_the_same_numbers() -> None:
    found = compared(sides("a", "b"), [timed([1.0] * 8), timed([2.0] * 8)], turns=[range(8)] * 2)
    top = json.loads(found.to_json())
    assert [side["macs"] for side in top["sides"]] == [400, 400]
    assert (top["sides"][1]["ratio"], top["sides"][1]["verdict"]) == (2.0, "slower")
    header, first, *_ = found.to_csv().splitlines()
    assert header.startswith("path,kind,output_shape,by,macs:a,")
    assert first.startswith("a.conv,conv,1x4x2x2,path,300,")
    assert list(found.df["macs"]) == [400, 400]
    assert list(found.layers_df["macs:b"]) == [300, 100, 0]
    assert "<table>" in found._repr_html_()
    assert "| b" in found.table("markdown")


def test_names_are_untrusted_text() -> None:
    found = compared(sides("<script>", "b\x1b[31m", measured=False), [report(), report()])
    assert "<script>" not in found._repr_html_()
    assert "\x1b" not in str(found)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="no format 'pdf'"):
        compared(sides("a", "b", measured=False), [report(), report()]).table("pdf")
