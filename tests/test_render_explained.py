"""A report whose time was taken apart: what table, header and sentences say, and when they keep silent."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_reports import add, conv, depthwise, evidence, explained, layer, parts, report, roofs

from flopscope.records import Evidence, Layer, Quality, Settings
from flopscope.render import Options, render
from flopscope.render.rows import COLUMNS
from flopscope.reports import Report

FORMATS = ("text", "markdown", "latex", "html", "notebook", "csv", "tsv", "json", "bars")

# Parts in µs, of 2 + 6 + 2 = 10: compute 1.4 + 0.5 + 0, kernel 0.2 + 3 + 0, overhead 0.2 + 2 + 0.5,
# allocation 0 + 0.25 + 0.25, memory 0.2 + 0.25 + 1.25. Depthwise: 3 / 6 = 50 % kernel, 2 / 6 = 33 % overhead.
# Convolution: 1.4 / 2 = 70 % compute. Addition: 1.25 / 2 = 62.5 % memory, 0.5 / 2 = 25 % overhead.
DEPTHWISE = (
    "depthwise_conv: 20.0 % of the FLOPs, 60.0 % of the time; 0.0333 GFLOP/s against 0.300 for conv, because "
    "its time is 50 % kernel and 33 % overhead (layout-reorder, no-gemm, dispatch-overhead)"
)
CONV = (
    "conv: 60.0 % of the FLOPs, 20.0 % of the time; 0.300 GFLOP/s, the roof is at 100; "
    "its time is 70 % compute"
)
ADD = (
    "elementwise: 20.0 % of the FLOPs, 20.0 % of the time; 0.150 GB/s; "
    "its time is 62 % memory and 25 % overhead (low-intensity)"
)


def line(text: str, start: str) -> str:
    """The first line that starts so."""
    return next(line for line in text.splitlines() if line.startswith(start))


def changed(made: Report, place: int, **given_: Any) -> Report:
    """The report with one layer changed."""
    layers = list(made.layers)
    layers[place] = replace(layers[place], **given_)
    return replace(made, layers=tuple(layers))


def with_forms(made: Report, **given_: Any) -> Report:
    """The report with all evidence changed."""
    return replace(made, evidence=tuple(replace(item, **given_) for item in made.evidence))


# --------------------------------------------------------------------------- the table


def test_the_layers_show_limit_and_the_two_weightiest_verdicts() -> None:
    text = explained().table()
    assert line(text, "layer ").split("GFLOP/s")[1].split() == ["limit", "verdicts", "time/FLOPs"]
    after = line(text, "a.dw").split("60.0")[1]
    assert after.split() == ["0.0333", "kernel", "layout-reorder", "no-gemm", "3.0x"]
    assert line(text, "a.conv").split()[-2:] == ["0.300", "compute"]
    assert line(text, "a (ops)").split()[-4:] == ["0.150", "GB/s", "memory", "low-intensity"]


def test_kinds_show_the_parts_as_shares_of_their_own_time() -> None:
    text = explained().table()
    heads = ["compute", "kernel", "overhead", "allocation", "memory", "time/FLOPs"]
    assert line(text, "kind ").split()[-6:] == heads
    # 0.5, 3, 2, 0.25 and 0.25 of 6 µs.
    shares = line(text, "depthwise_conv  ").split("0.0333")[1].split()
    assert shares == ["8", "%", "50", "%", "33", "%", "4", "%", "4", "%", "3.0x", "!"]


def test_the_whole_is_one_bar() -> None:
    text = explained().table()
    assert "undisturbed time of the layers, 0.010 ms\n███" in text
    legend = "█ compute 19.0 %   ▓ kernel 32.0 %   ▒ overhead 27.0 %   ░ allocation 5.0 %   · memory 17.0 %"
    assert legend in text


def test_sentences_say_why() -> None:
    assert explained().table().splitlines()[-3:] == [DEPTHWISE, CONV, ADD]


def test_a_kind_that_takes_next_to_no_time_gets_no_sentence() -> None:
    """0.4 of 10.4 µs are 3.8 %."""
    small = layer("s", "ReLU", "activation", flops=4, bytes_read=4, **parts(0, 0, 0.4, 0, 0))
    made = explained()
    text = replace(made, layers=(*made.layers, small), evidence=(*made.evidence, Evidence())).table()
    assert "activation: " not in text
    assert "activation " in text


def test_a_remainder_is_no_reason() -> None:
    """Where nothing was replayed, what is left over is not called a kernel, nor a cause."""
    text = with_forms(explained(), form="cheap").table()
    assert "kernel" not in text
    assert "for conv; its time is 50 % unexplained and 33 % overhead (layout-reorder" in text
    assert "unexplained" in line(text, "kind ")
    assert "unexplained" in line(text, "a.dw")
    assert "▓ unexplained 32.0 %" in text
    assert "unexplained: what the roofs leave over; nothing was replayed" in text


def test_requested_columns_and_csv_of_a_remainder() -> None:
    """CSV keeps the contract's words; a table made to be read says what they are worth."""
    made = with_forms(explained(), form="cheap")
    assert "unexplained ms" in made.table(columns=["path", "kernel_s", "limit"])
    assert "kernel ms" in explained().table(columns=["path", "kernel_s", "limit"])
    rows = list(csv.DictReader(io.StringIO(made.to_csv())))
    assert [row["limit"] for row in rows] == ["compute", "kernel", "memory"]


def test_low_confidence_is_shown_at_the_limit() -> None:
    made = explained(evidence=(evidence(), evidence(clamped=True), evidence()))
    text = made.table()
    assert "kernel?" in line(text, "a.dw")
    assert "limit?: low confidence" in text
    assert "limit?" not in explained().table()


def test_parts_as_large_as_the_second_are_named_with_it() -> None:
    """Of 10 µs memory 2.6, kernel 2.5, overhead and allocation 2.4: from 2.5 - 0.2 on like the second."""
    made = explained(
        layers=(conv(**parts(1.4, 0.2, 0.2, 0, 0.2)), depthwise(**parts(0.1, 2.5, 2.4, 2.4, 2.6)))
    )
    text = line(made.table(), "depthwise_conv: ")
    assert "its time is 26 % memory, 25 % kernel, 24 % overhead and 24 % allocation" in text
    # 2.2 are 3 points less than 2.5.
    less = explained(
        layers=(conv(**parts(1.4, 0.2, 0.2, 0, 0.2)), depthwise(**parts(0.3, 2.5, 2.4, 2.2, 2.6)))
    )
    assert line(less.table(), "depthwise_conv: ").endswith("26 % memory, 25 % kernel and 24 % overhead")


def test_a_rate_is_explained_only_where_it_is_the_lower_one() -> None:
    """10 µs of compute: the depthwise layer is as fast as its FLOPs allow, and no reason is given."""
    text = explained(layers=(conv(**parts(1, 0, 0, 0, 9)), depthwise(**parts(6, 0, 0, 0, 0)), add())).table()
    # 600 FLOP in 10 µs are 0.0600 GFLOP/s, 200 in 6 µs 0.0333.
    assert "0.0333 GFLOP/s against 0.0600 for conv; its time is 100 % compute" in text
    assert "because" not in text


def test_what_is_low_is_never_called_slow() -> None:
    assert "slow" not in str(explained())


def test_the_codes_that_matter_most_of_the_time_come_first() -> None:
    """By seconds over rank: a 6/1 + 2/2 = 7, b 6/2 = 3, c 2/1 = 2, in 22 % of the 9 µs; d in 11 %."""
    times = (parts(0, 6, 0, 0, 0), parts(0, 2, 0, 0, 0), parts(0, 1, 0, 0, 0))
    codes = (("a", "b", "cache-resident"), ("c", "a"), ("d", "disturbed"))
    layers = [depthwise(**time, verdicts=code) for time, code in zip(times, codes, strict=True)]
    text = explained(layers=(conv(**parts(1, 0, 0, 0, 0)), *layers)).table()
    assert line(text, "depthwise_conv: ").endswith("its time is 100 % kernel (a, b, c)")


def test_a_mark_says_disturbed_and_leaves_the_room_to_reasons() -> None:
    text = changed(explained(), 1, quality="disturbed", verdicts=("disturbed", "no-gemm", "unfused")).table()
    assert line(text, "a.dw").split("kernel")[1].split() == ["no-gemm", "unfused", "3.0x"]


# --------------------------------------------------------------------------- widths


def test_what_gives_way_first() -> None:
    seen: list[str] = []
    for width in range(150, 30, -1):
        text = explained().table(width=width)
        found = line(text, "layer ").split()
        seen += [name for name in ("verdicts", "MACs", "GFLOP/s", "limit") if name not in found + seen]
        assert ("second verdicts" in text) == ("no-gemm" not in line(text, "a.dw") and "verdicts" in found)
    assert seen == ["verdicts", "MACs", "GFLOP/s", "limit"]


def test_narrow_kinds_name_the_largest_part_in_place_of_all() -> None:
    text = explained().table(width=100)
    assert line(text, "kind ").split()[-2:] == ["limit", "time/FLOPs"]
    assert "kernel" in line(text, "depthwise_conv  ")


def test_a_long_path_is_cut_before_verdicts_go() -> None:
    path = "encoder.stages.0.blocks.1.branches.2.depthwise"
    text = changed(explained(), 1, path=path).table(width=100)
    row = next(line for line in text.splitlines() if "depthwise " in line)
    assert row.startswith("…")
    assert "layout-reorder" in row


@pytest.mark.parametrize("width", [20, 33, 47, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("by", [None, "kind", "type", "op"])
def test_no_line_is_wider_than_the_terminal(width: int, by: str | None) -> None:
    made = explained(quality=Quality("disturbed", ("much ran beside it",), "stop it"))
    assert max(map(len, made.table(width=width, by=by).splitlines())) <= max(width, 42)


def test_a_percent_sign_stays_with_its_number() -> None:
    for width in range(30, 120):
        assert not any(line.strip().startswith("%") for line in explained().table(width=width).splitlines())


# --------------------------------------------------------------------------- header


def test_header() -> None:
    known = replace(report().environment, allocator="glibc malloc", other={"page_faults_per_pass": "556"})
    lines = explained(environment=known).table().splitlines()
    assert lines[:4] == [
        "flopscope 0.1.0   net.py:Net   1x4x2x2 float32   counted without data",
        "Some CPU, AVX512   1 thread of 2 cores   torch 2.14.1   glibc malloc, 556 page faults a pass",
        # Ridges: 100 GFLOP/s / 80 GB/s = 1.25, / 20 GB/s = 5.
        "roofs (measured)   compute 100 GFLOP/s (float32)   cache 80.0 GB/s (1.00 MB)   "
        "DRAM 20.0 GB/s (256 MB)   ridge 1.25 and 5.00 FLOP/B",
        "timing good   3 rounds   no interference seen",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        ("0", "glibc, no page faults"),
        ("0.3", "glibc, no page faults"),
        ("1", "glibc, 1 page fault a pass"),
        ("12.6", "glibc, 13 page faults a pass"),
        ("many", "glibc"),
    ],
)
def test_the_state_of_the_allocator(count: str, text: str) -> None:
    known = replace(report().environment, other={"page_faults_per_pass": count})
    assert line(report(environment=known).table(), "Some CPU").endswith(f"   {text}")


def test_roofs_of_a_data_sheet_are_estimates() -> None:
    sheet = replace(roofs(form="sheet", bandwidth=(roofs().bandwidth[0],)), name="Some GPU")
    text = explained(machine=sheet).table()
    first = "roofs of Some GPU (estimate from data sheet)   compute 100 GFLOP/s (float32)   "
    assert line(text, "roofs") == first + "bandwidth 50.0 GB/s (1.00 kB)   ridge 2.00 FLOP/B"
    assert "the roof is at 100 by data sheet" in text


def test_a_dtype_without_a_roof() -> None:
    text = explained(settings=Settings(inputs="1x4", dtype="float16")).table()
    assert "no compute roof for float16: no fast path on this processor" in line(text, "roofs")
    assert "ridge" not in text
    assert "no compute roof for int8" in explained(settings=Settings(dtype="int8")).table()


def test_roofs_that_disagree_and_machines_without_a_curve() -> None:
    assert "roofs (measured, disturbed)" in explained(machine=roofs(quality="disturbed")).table()
    alone = line(explained(machine=roofs(bandwidth=())).table(), "roofs")
    assert alone == "roofs (measured)   compute 100 GFLOP/s (float32)"


# --------------------------------------------------------------------------- quality


def test_a_disturbed_report_warns_and_marks_the_layers_that_were() -> None:
    quality = Quality("disturbed", ("CPU/wall 0.49", "load 9.3 on 2 processors."), "pin it: taskset -c 1")
    text = changed(explained(quality=quality), 1, quality="disturbed").table()
    assert (
        "warning: timing is disturbed: CPU/wall 0.49; load 9.3 on 2 processors. "
        "Latencies marked ~ were disturbed.\nhint: pin it: taskset -c 1\n"
    ) in text
    assert "timing disturbed   3 rounds\n" in text
    assert "~0.006" in line(text, "a.dw")
    assert "~" not in line(text, "a.conv")
    assert "whole model ~0.011 ms" in text
    assert "~0.006" in line(text, "depthwise_conv  ")
    assert "~60.0 % of the time; ~0.0333 GFLOP/s against 0.300 for conv" in text
    assert "kernel" in line(text, "a.dw")


def test_layers_without_a_flag_of_their_own_have_the_report_s() -> None:
    made = report(quality=Quality("disturbed"))
    assert all("~" in line(made.table(), name) for name in ("a.conv", "a.dw", "a (ops)", "total"))
    assert "~" not in report(quality=Quality("good")).table()


def test_one_disturbed_layer_of_a_good_report() -> None:
    text = changed(explained(), 0, quality="disturbed").table()
    assert "warning: timing" not in text
    assert "~: disturbed while it was timed" in text
    assert "~0.002" in line(text, "a.conv")


def test_a_sum_is_marked_where_a_tenth_of_it_is_disturbed() -> None:
    def kind(disturbed_us: float) -> str:
        clean = conv(latency_s=9e-6, quality="good")
        other = conv(latency_s=1e-6 * disturbed_us, quality="disturbed")
        return line(report(clean, other).table(), "conv ")

    assert "~0.010" in kind(1.1)  # 1.1 of 10.1
    assert "~" not in kind(0.9)  # 0.9 of 9.9


def test_a_void_report_withholds_limits_and_verdicts() -> None:
    text = explained(quality=Quality("void", ("a foreign process took a processor",))).table()
    assert "warning: timing is void: a foreign process took a processor." in text
    assert "verdicts are withheld" in text
    assert "hint: stop other work and measure again; see flopscope doctor" in text
    assert all("~" in line(text, name) for name in ("a.conv", "a.dw", "a (ops)", "total", "conv "))
    for word in ("kernel", "no-gemm", "because", "compute 1", "█"):
        assert word not in text.replace("compute 100 GFLOP/s", "")


# --------------------------------------------------------------------------- the allocator


def test_a_material_share_of_allocation_is_said_with_its_state() -> None:
    """1.3 of 2 + 6 + 4.1 = 12.1 µs are 11 %; 1.1 of 11.9 are 9 %."""
    known = replace(report().environment, other={"page_faults_per_pass": "40"})

    def shown(allocation: float) -> str:
        layers = (
            conv(**parts(1.4, 0.2, 0.2, 0, 0.2)),
            depthwise(**parts(0.5, 3, 2, 0, 0.5)),
            add(**parts(0, 0, 0.8, allocation, 2)),
        )
        return explained(layers=layers, environment=known).table()

    said = "allocation is 11 % of the time (glibc, 40 page faults a pass): in another state of the allocator"
    assert said in shown(1.3)
    assert "another state of the allocator" not in shown(1.1)


# --------------------------------------------------------------------------- sums and formats


def test_sums_have_parts_and_a_limit_where_all_layers_have() -> None:
    made = explained(layers=(conv(**parts(1, 0, 4, 0, 0)), conv(**parts(2, 6, 0, 0, 1)), add()))
    (row,) = [
        row for row in csv.DictReader(io.StringIO(made.table("csv", by="kind"))) if row["kind"] == "conv"
    ]
    assert row["limit"] == "kernel"  # 6 µs of 3 + 6 + 4 + 0 + 1
    assert [
        float(row[f"{name}_s"]) for name in ("compute", "kernel", "overhead", "allocation", "memory")
    ] == (pytest.approx([3e-6, 6e-6, 4e-6, 0, 1e-6]))
    half = changed(made, 0, memory_s=None)
    (row,) = [
        row for row in csv.DictReader(io.StringIO(half.table("csv", by="kind"))) if row["kind"] == "conv"
    ]
    assert (row["compute_s"], row["kernel_s"], row["limit"]) == ("", "", "")


def test_a_layer_that_takes_no_time_has_no_parts_to_miss() -> None:
    made = explained(layers=(conv(**parts(1, 2, 0, 0, 0)), conv(latency_s=0.0, latency_floor_s=0.0)))
    (row,) = csv.DictReader(io.StringIO(made.table("csv", by="kind")))
    assert (row["kernel_s"], row["limit"]) == ("2e-06", "kernel")


def test_csv_holds_every_column_of_the_contract() -> None:
    _, row, _ = csv.DictReader(io.StringIO(explained().to_csv()))
    assert tuple(row) == COLUMNS
    assert row["verdicts"] == "layout-reorder no-gemm dispatch-overhead"
    assert (row["limit"], row["quality"]) == ("kernel", "good")
    known = [float(row[f"{name}_s"]) for name in ("compute", "kernel", "overhead", "allocation", "memory")]
    assert sum(known) == pytest.approx(float(row["latency_floor_s"]))


def test_a_notebook_shows_header_alarm_and_bar() -> None:
    html = explained(quality=Quality("disturbed", ("<load>",)))._repr_html_()
    assert "<p>roofs (measured)" in html
    assert "timing is disturbed: &lt;load&gt;." in html
    assert "<pre>undisturbed time of the layers" in html
    assert "because its time is 50 % kernel" in html


def test_colour_marks_the_time_where_the_mark_has_no_room() -> None:
    coloured = render(explained(), "text", Options(color=True, width=80))
    assert "\x1b[33m60.0\x1b[0m" in coloured


# --------------------------------------------------------------------------- what is not known

NEW = (
    *("latency_s", "latency_floor_s", "latency_low_s", "compute_s", "kernel_s", "overhead_s"),
    *("allocation_s", "memory_s", "limit", "headroom", "quality", "samples"),
)


@pytest.mark.parametrize(("name", "format_"), product(NEW, FORMATS))
def test_any_one_thing_may_be_unknown(name: str, format_: str) -> None:
    one = changed(explained(), 1, **{name: None})
    none = replace(one, layers=tuple(replace(item, **{name: None}) for item in one.layers))
    for made, by in product((one, none), (None, "kind")):
        text = render(made, format_, Options(by=by, width=70))
        assert text
        assert "None" not in text.replace("NoneType", "") or format_ == "json"


@pytest.mark.parametrize("format_", FORMATS)
def test_reports_with_and_without_each_of_the_new_members(format_: str) -> None:
    words = (None, Quality("good"), Quality("disturbed"), Quality("void"))
    found = ((), explained().evidence, explained().evidence[:1], (Evidence(),) * 3)
    for quality, machine, known in product(words, (None, roofs(), roofs(peaks=(), bandwidth=())), found):
        assert render(explained(quality=quality, machine=machine, evidence=known), format_, Options(width=80))
        assert render(report(conv(), machine=machine, quality=quality), format_)


some = st.none() | st.floats(0, 1e3, allow_subnormal=False)
seconds = st.fixed_dictionaries(
    {f"{name}_s": some for name in ("compute", "kernel", "overhead", "allocation", "memory", "latency")}
)
odd_layers = st.lists(
    st.builds(
        lambda base, times, **others: replace(base, **times, **others),
        st.sampled_from([conv(), depthwise(), add(), layer("n", "Dropout", "other", calls=0)]),
        seconds,
        latency_floor_s=some,
        limit=st.sampled_from([None, "compute", "kernel", "memory"]),
        verdicts=st.lists(st.sampled_from(["a-code", "disturbed", "b"]), max_size=3).map(tuple),
        quality=st.sampled_from([None, "good", "disturbed"]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(
    odd_layers,
    st.sampled_from([None, "good", "disturbed", "void"]),
    st.sampled_from(["none", "cheap", "replayed"]),
    st.integers(1, 160),
    st.sampled_from(FORMATS),
)
def test_nothing_breaks_a_table(
    layers: list[Layer], word: str | None, form: str, width: int, name: str
) -> None:
    made = report(
        *layers,
        quality=None if word is None else Quality(word, ("r",)),
        machine=roofs(),
        evidence=(Evidence(form, clamped=True),) * len(layers),
    )
    for by in (None, "kind", "type"):
        assert render(made, name, Options(by=by, width=width))
