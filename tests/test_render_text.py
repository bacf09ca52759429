"""The table for a terminal: what is in it, what gives way, and what it says in words."""

# ruff: noqa: E501 (a table is as wide as it is)

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from made_reports import add, conv, depthwise, layer, report

from flopscope.errors import InputError
from flopscope.records import Layer
from flopscope.render import Options, render

# FLOPs: 600 + 200 + 200 = 1000. Time: 2 + 6 + 2 = 10 µs. The depthwise layer has 20 % of the FLOPs
# and 60 % of the time, 3.0x. Rates: 600 FLOP in 2 µs are 0.300 GFLOP/s, 200 in 6 µs 0.0333; the addition
# has no MACs, so what counts is 300 B in 2 µs, 0.150 GB/s.
WIDE = """\
flopscope 0.1.0   net.py:Net   1x4x2x2 float32   counted without data, timed in 3 rounds
Some CPU, AVX512   1 thread of 2 cores   torch 2.14.1   glibc

layer    type           output   params  MACs  FLOPs %    R+W  FLOP/B     ms  time %     GFLOP/s  time/FLOPs
-------  -------------  -------  ------  ----  -------  -----  ------  -----  ------  ----------  ----------
a.conv   Conv2d 3x3     1x4x2x2      40   300     60.0  100 B    6.00  0.002    20.0       0.300
a.dw     Conv2d 3x3 g4  1x4x2x2      10   100     20.0  200 B    1.00  0.006    60.0      0.0333        3.0x
a (ops)  elementwise    1x4x2x2       0     0     20.0  300 B   0.667  0.002    20.0  0.150 GB/s
-------  -------------  -------  ------  ----  -------  -----  ------  -----  ------  ----------  ----------
total                                50   400      100  600 B    1.67  0.011              0.0909

whole model 0.011 ms = layers 0.010 + interference 0.001
1 MAC = 2 FLOPs   params 50 (200 B), buffers 16 B   peak activation memory 4.10 kB at a

kind            layers  params  MACs  FLOPs %    R+W     ms  time %     GFLOP/s  time/FLOPs
--------------  ------  ------  ----  -------  -----  -----  ------  ----------  ----------
depthwise_conv       1      10   100     20.0  200 B  0.006    60.0      0.0333      3.0x !
conv                 1      40   300     60.0  100 B  0.002    20.0       0.300        0.3x
elementwise          1       0     0     20.0  300 B  0.002    20.0  0.150 GB/s        1.0x

depthwise_conv: 20.0 % of the FLOPs, 60.0 % of the time; 0.0333 GFLOP/s against 0.300 for conv (1.00 FLOP/B against 6.00)
conv: 60.0 % of the FLOPs, 20.0 % of the time; 0.300 GFLOP/s
elementwise: 20.0 % of the FLOPs, 20.0 % of the time; 0.150 GB/s"""

NARROW = """\
flopscope 0.1.0   net.py:Net   1x4x2x2
  float32   counted without data, timed in
  3 rounds
Some CPU, AVX512   1 thread of 2 cores
  torch 2.14.1   glibc

layer    FLOPs %     ms  time %
-------  -------  -----  ------
a.conv      60.0  0.002    20.0
a.dw        20.0  0.006    60.0
a (ops)     20.0  0.002    20.0
-------  -------  -----  ------
total        100  0.011

no room for output, FLOP/B, params,
  time/FLOPs, R+W, type, MACs, GFLOP/s
  (--csv has all)"""


def rows_of(text: str) -> list[str]:
    """The first words of the lines between the first two rules."""
    lines = text.splitlines()
    first, second = [k for k, line in enumerate(lines) if line.startswith("---")][:2]
    return [line.split("  ")[0] for line in lines[first + 1 : second]]


def test_wide() -> None:
    assert report().table() == WIDE


def test_narrow() -> None:
    text = report().table(width=42)
    assert text.startswith(NARROW)
    assert max(map(len, text.splitlines())) <= 42


@pytest.mark.parametrize("width", [30, 60, 80, 100, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, report().table(width=width).splitlines())) <= max(width, 42)


def test_a_long_path_is_cut_at_its_front_when_nothing_else_can_go() -> None:
    path = "encoder.stages.0.blocks.1.branches.2.depthwise"
    text = report(replace(conv(), path=path)).table(width=40)
    assert "branches.2.depthwise" in text
    assert "encoder.stages" not in text
    assert max(map(len, text.splitlines())) <= 40


def test_named_columns_are_not_dropped() -> None:
    text = report().table(columns=["path", "kind", "bytes_read", "formula_bytes", "headroom"], width=20)
    assert "layer    kind             read  formula R+W  headroom" in text


def test_without_a_measurement_there_are_no_times() -> None:
    text = report(conv(), depthwise()).table()
    for word in (" ms", "time", "GFLOP/s", "whole model"):
        assert word not in text


def test_uncosted_ops_make_lower_bounds() -> None:
    layers = (conv(), add(uncosted_ops=2))
    text = report(*layers, uncosted={"my::op": 2}).table()
    assert "≥: 2 of 3 op calls have no cost formula (my::op x2)" in text
    lines = text.splitlines()
    assert next(line for line in lines if line.startswith("total")).split()[2:4] == ["≥", "300"]
    assert "≥ 0" in next(line for line in lines if line.startswith("a (ops)"))
    assert "≥" not in next(line for line in lines if line.startswith("a.conv"))


def test_published_formula_beside_what_was_moved() -> None:
    block = layer("p", "PConv", "pconv", bytes_read=1_000_000, bytes_written=1_020_000, formula_bytes=411_000)
    assert "pconv moves 2.02 MB as written, 411 kB by its published formula" in report(block).table()
    kept = replace(block, formula_bytes=2_020_000)
    assert "published" not in report(kept).table()


def test_calls_and_layers_that_did_not_run() -> None:
    idle = layer("drop", "Dropout", "other")
    unused = layer("head", "Linear", "linear", calls=0, params=12, output_shape=None)
    reused = layer("act", "ReLU", "activation", calls=3, flops=9, bytes_read=9)
    text = report(unused, idle, reused, conv()).table()
    assert rows_of(text) == ["act", "a.conv", "head (not run)"]
    assert "ReLU x3" in text
    assert "… 1 more layer: 0 MACs (--top 0 or --csv for all)" in text
    assert next(line for line in text.splitlines() if line.startswith("head")).split() == (
        ["head", "(not", "run)", "Linear", "-", "12", "-", "-", "-", "-"]
    )
    assert rows_of(report(unused, idle, reused, conv()).table(top=0))[-1] == "head (not run)"
    assert "drop" in report(idle, conv()).table(top=0)


def test_an_idle_layer_that_takes_time_is_shown() -> None:
    sleeper = layer("sleep", "Sleep", "other", latency_s=0.5)
    text = report(conv(latency_s=0.5), sleeper).table()
    assert "sleep" in rows_of(text)
    assert "other: no FLOPs, 0 B moved, 50.0 % of the time" in text


def many(count: int) -> tuple[Layer, ...]:
    """Layers l0, l1, ... with 1, 2, ... MACs and as many microseconds."""
    return tuple(
        layer(f"l{k}", "Linear", "linear", macs=k + 1, flops=2 * k + 2, latency_s=1e-6 * (k + 1))
        for k in range(count)
    )


def test_sixty_rows_are_shown_and_of_more_the_thirty_heaviest_in_order() -> None:
    assert len(rows_of(report(*many(60)).table())) == 60
    text = report(*many(61)).table()
    assert rows_of(text) == [f"l{k}" for k in range(31, 61)]
    # l0 ... l30 are left out: 1 + 2 + ... + 31 = 31 * 32 / 2 = 496 MACs, and 496 µs.
    assert "… 31 more layers: 496 MACs, 0.496 ms (--top 0 or --csv for all)" in text
    assert len(rows_of(report(*many(61)).table(top=0))) == 61


def test_top_and_sort() -> None:
    assert rows_of(report(*many(9)).table(top=2)) == ["l7", "l8"]
    assert rows_of(report(*many(9)).table(top=2, sort="macs")) == ["l8", "l7"]
    assert rows_of(report(*many(9)).table(top=2, sort="-macs")) == ["l0", "l1"]
    assert rows_of(report(*many(9)).table(top=2, sort="path")) == ["l0", "l1"]
    assert rows_of(report(*many(9)).table(top=2, sort="-path")) == ["l8", "l7"]


def test_what_is_unknown_is_sorted_last_either_way() -> None:
    layers = (layer("none", "X", "other", flops=1), *many(2))
    assert rows_of(report(*layers).table(sort="latency_s")) == ["l1", "l0", "none"]
    assert rows_of(report(*layers).table(sort="-latency_s")) == ["l0", "l1", "none"]


def test_the_root_takes_no_place_among_the_top_of_a_tree() -> None:
    """The root is the total below; `--depth 1 --top 2` shows two modules."""
    root = layer("", "Sequential", "other", flops=9, bytes_read=9, depth=0)
    modules = [
        layer(name, "Conv2d", "conv", flops=size, depth=1) for name, size in (("a", 1), ("b", 5), ("c", 3))
    ]
    made = replace(report(), tree=(root, *modules))
    text = made.table(depth=1, top=2)
    shown = [line.split()[0] for line in text.splitlines() if " Conv2d " in line]
    assert shown == ["b", "c"]


def test_depth_shows_the_tree_by_indentation() -> None:
    def module(path: str, depth: int) -> Layer:
        return layer(path, "Sequential", "other", flops=5, bytes_read=5, depth=depth)

    tree = (module("", 0), module("a", 1), module("a.b", 2), module("a.b.c", 3), module("ab", 1))
    lines = report(tree=tree).table(depth=2).splitlines()
    body = lines[5:8]
    assert [line.split("  Sequential")[0].rstrip() for line in body] == ["a", "  b", "ab"]


def test_by_kind_type_and_op() -> None:
    assert rows_of(report().table(by="kind")) == ["depthwise_conv", "conv", "elementwise"]
    text = report().table(by="type")
    assert rows_of(text) == ["Conv2d", "(ops)"]
    # Conv2d: 40 + 10 params, 300 + 100 MACs, 80 % of the FLOPs, 8 of 10 µs; 800 FLOP in 8 µs.
    (row,) = (line for line in text.splitlines() if line.startswith("Conv2d"))
    assert row.split() == ["Conv2d", "2", "50", "400", "80.0", "300", "B", "0.008", "80.0", "0.100", "1.0x"]
    text = report().table(by="op")
    assert rows_of(text) == ["aten::convolution", "aten::add.Tensor"]
    (row,) = (line for line in text.splitlines() if line.startswith("aten::conv"))
    assert row.split() == ["aten::convolution", "2", "400", "800", "80.0", "300", "B", "2.67", "formula"]


def test_a_floor_that_some_layers_lack_is_not_added_up() -> None:
    layers = (conv(latency_s=4e-3, latency_floor_s=1e-3), conv(latency_s=4e-3))
    (row,) = (line for line in report(*layers).table("tsv", by="kind").splitlines()[1:])
    named = dict(
        zip(report(*layers).table("tsv", by="kind").split("\n")[0].split("\t"), row.split("\t"), strict=True)
    )
    assert named["latency_floor_s"] == ""
    assert float(named["flops_per_s"]) == pytest.approx(1200 / 8e-3)


def test_low_rates_are_never_called_slow() -> None:
    assert "slow" not in str(report())


def test_colour_only_on_request() -> None:
    plain, coloured = report().table(), render(report(), "text", Options(color=True))
    assert "\x1b" not in plain
    assert "\x1b[33m3.0x\x1b[0m" in coloured
    bare = coloured.replace("\x1b[33m", "").replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert [line.rstrip() for line in bare.splitlines()] == plain.splitlines()


def test_control_characters_of_a_foreign_report_do_not_reach_the_terminal() -> None:
    shown = report(replace(conv(), path="a\x1b[2Jb\nc"), model="m\x1b[31m", warnings=("w\x07",))
    assert "\x1b" not in str(shown)
    assert "\x07" not in str(shown)
    assert r"a\x1b[2Jb\nc" in str(shown)


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"columns": ["mac"]}, "no column 'mac'", "macs"),
        ({"sort": "latency"}, "no column 'latency'", "latency_s"),
        ({"by": "name"}, "cannot add up by 'name'", "kind, type or op"),
        ({"by": "op", "columns": ["params"]}, "no column 'params'", "op"),
        ({"by": "kind", "depth": 1}, "both given", "one"),
        ({"top": -1}, "top is -1", "0 or more"),
        ({"format": "txt"}, "no renderer for the format 'txt'", "text"),
    ],
)
def test_options_that_make_no_table(options: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        report().table(**options)
    assert hint in caught.value.hint


def test_a_row_that_moves_nothing_is_named_by_what_its_time_is() -> None:
    """A container without operators of its own still has the gaps between its children."""
    idle = layer("", "(ops)", "data_movement", latency_s=5e-6)
    (line,) = (line for line in report(conv(), idle).table().splitlines() if line.startswith("(ops)"))
    assert "between layers" in line
