"""One run for speedscope and for Perfetto: order, nesting, sums, and what the formats ask for."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command_lines import CommandLine
from hypothesis import given
from hypothesis import strategies as st
from made_reports import add, conv, depthwise, layer, report

import flopscope
from flopscope.errors import InputError
from flopscope.records import Layer, OpRow, Phase
from flopscope.render.timeline import Span, timeline
from flopscope.reports import Report

# Written from the types that speedscope publishes: src/lib/file-format-spec.ts of
# https://github.com/jlfwong/speedscope; the events' order is a comment there, see `check_speedscope`.
SPEEDSCOPE: dict[str, Any] = {
    "type": "object",
    "required": ["$schema", "shared", "profiles"],
    "properties": {
        "$schema": {"const": "https://www.speedscope.app/file-format-schema.json"},
        "name": {"type": "string"},
        "activeProfileIndex": {"type": "integer", "minimum": 0},
        "exporter": {"type": "string"},
        "shared": {
            "type": "object",
            "required": ["frames"],
            "properties": {
                "frames": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "file": {"type": "string"}},
                        "additionalProperties": False,
                    },
                }
            },
            "additionalProperties": False,
        },
        "profiles": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "name", "unit", "startValue", "endValue", "events"],
                "properties": {
                    "type": {"const": "evented"},
                    "name": {"type": "string"},
                    "unit": {"enum": ["none", "nanoseconds", "microseconds", "milliseconds", "seconds"]},
                    "startValue": {"type": "number"},
                    "endValue": {"type": "number"},
                    "events": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["type", "frame", "at"],
                            "properties": {
                                "type": {"enum": ["O", "C"]},
                                "frame": {"type": "integer", "minimum": 0},
                                "at": {"type": "number"},
                            },
                            "additionalProperties": False,
                        },
                    },
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}


def op(index: int, path: str, call: int, **given: Any) -> OpRow:
    counts = {"macs": 0, "flops": 0, "bytes_read": 0, "bytes_written": 0, **given}
    return OpRow(index, "aten::x", path, call, (), (), "float32", priced_by="rule", **counts)


def of_run(calls: list[tuple[str, int]], layers: list[Layer], tree: dict[str, tuple[str, int]]) -> Report:
    """A report of layers whose ops ran at these (path, call), in a tree of path -> (type, calls)."""
    rows = tuple(layer(path, kind, "other", calls=times) for path, (kind, times) in tree.items())
    ops = tuple(op(index, path, call) for index, (path, call) in enumerate(calls))
    return replace(report(*layers), ops=ops, tree=rows)


def one_block(**given: Any) -> Report:
    """Net > a > conv, dw and the block's own add: 2, 6 and 2 µs; the peak at the depthwise layer's op."""
    layers = (conv(latency_s=2e-6), depthwise(latency_s=6e-6), add(latency_s=2e-6, ops=(2,)))
    made = report(*layers)
    tree = (made.total, replace(made.tree[1], type="Block"), *layers[:2])
    return replace(made, tree=tree, **{"peak": replace(made.peak, op=1), **given})


def drawn(spans: tuple[Span, ...], depth: int = 0) -> list[str]:
    """Spans as indented lines, with nanoseconds from the beginning to the end."""
    lines = []
    for span in spans:
        lines += [f"{'  ' * depth}{span.name} {span.begin}..{span.end}", *drawn(span.inner, depth + 1)]
    return lines


def check_speedscope(text: str) -> list[list[tuple[str, str, float]]]:
    """The events of every profile by name, after a check that frames close in the order of a stack."""
    top = json.loads(text)
    jsonschema.validate(top, SPEEDSCOPE)
    assert top["activeProfileIndex"] < len(top["profiles"])
    names = [frame["name"] for frame in top["shared"]["frames"]]
    found = []
    for profile in top["profiles"]:
        stack: list[int] = []
        before = profile["startValue"]
        for event in profile["events"]:
            assert before <= event["at"] <= profile["endValue"]
            before = event["at"]
            if event["type"] == "O":
                stack.append(event["frame"])
            else:
                assert stack.pop() == event["frame"]
        assert not stack
        assert before == profile["endValue"]
        found.append([(event["type"], names[event["frame"]], event["at"]) for event in profile["events"]])
    return found


def check_trace(text: str) -> list[dict[str, Any]]:
    """The slices of a Chrome trace, after a check that each lies in one round it or after its neighbour.

    Checked in decimals as they are written, and once more in floats, as most viewers add them.
    """
    for number in (Decimal, float):
        top = json.loads(text, parse_float=number)
        slices = [event for event in top["traceEvents"] if event["ph"] == "X"]
        for event in slices:
            assert {"name", "cat", "ts", "dur", "pid", "tid", "args"} == {*event} - {"ph"}
            assert event["dur"] > 0
        stack: list[Any] = []
        for event in slices:
            begin, end = event["ts"], event["ts"] + event["dur"]
            while stack and stack[-1] <= begin:
                stack.pop()
            assert all(end <= outer for outer in stack)
            stack.append(end)
        assert [event["ts"] for event in slices] == sorted(event["ts"] for event in slices)
    named = {event["name"]: event["args"]["name"] for event in top["traceEvents"] if event["ph"] == "M"}
    assert set(named) == {"process_name", "thread_name"}
    return slices


# --------------------------------------------------------------------------- the timeline


def test_modules_lie_over_their_layers() -> None:
    """2 µs, then 6, then 2."""
    assert drawn(timeline(one_block())) == [
        "Net 0..10000",
        "  a Block 0..10000",
        "    a.conv Conv2d 0..2000",
        "    a.dw Conv2d 2000..8000",
        "    a (ops) 8000..10000",
    ]


def test_a_layer_called_twice_has_equal_shares() -> None:
    relu = layer("relu", "ReLU", "activation", calls=2, ops=(1, 3), latency_s=2e-6)
    one = layer("one", "Linear", "linear", ops=(0,), latency_s=4e-6)
    two = layer("two", "Linear", "linear", ops=(2,), latency_s=5e-6)
    run = [("one", 1), ("relu", 2), ("two", 3), ("relu", 4)]
    tree = {"": ("Net", 1), "one": ("Linear", 1), "relu": ("ReLU", 2), "two": ("Linear", 1)}
    spans = timeline(of_run(run, [one, relu, two], tree))
    assert drawn(spans) == [
        "Net 0..11000",
        "  one Linear 0..4000",
        "  relu ReLU 4000..5000",
        "  two Linear 5000..10000",
        "  relu ReLU 10000..11000",
    ]
    assert [span.places for span in spans[0].inner] == [1, 2, 1, 2]


def test_two_calls_in_a_row_are_two() -> None:
    """Ops 0 and 1 are of the first call, op 2 of the second."""
    twice = layer("fc", "Linear", "linear", calls=2, ops=(0, 1, 2), latency_s=4e-6)
    spans = timeline(of_run([("fc", 1), ("fc", 1), ("fc", 2)], [twice], {"": ("Net", 1)}))
    assert drawn(spans) == ["Net 0..4000", "  fc Linear 0..2000", "  fc Linear 2000..4000"]
    assert [span.ops for span in spans[0].inner] == [(0, 1), (2,)]


def test_a_block_is_a_layer_with_its_inner_ops() -> None:
    """A PConv's own split and cat, and the convolution in it: three calls and paths, one place."""
    block = layer("m", "PConv", "pconv", ops=(0, 1, 2), latency_s=3e-6)
    tree = {"": ("Net", 1), "m": ("PConv", 1), "m.conv": ("Conv2d", 1)}
    spans = timeline(of_run([("m", 1), ("m.conv", 2), ("m", 1)], [block], tree))
    assert drawn(spans) == ["Net 0..3000", "  m PConv 0..3000"]


def test_a_container_called_twice_is_two_frames() -> None:
    """A shared block of a linear layer and a ReLU that is called twice within each call."""
    linear = layer("b.fc", "Linear", "linear", calls=2, ops=(1, 4), latency_s=4e-6)
    relu = layer("b.relu", "ReLU", "activation", calls=4, ops=(0, 2, 3, 5), latency_s=4e-6)
    run = [("b.relu", 2), ("b.fc", 3), ("b.relu", 4), ("b.relu", 6), ("b.fc", 7), ("b.relu", 8)]
    tree = {"": ("Net", 1), "b": ("Block", 2), "b.fc": ("Linear", 2), "b.relu": ("ReLU", 4)}
    spans = timeline(of_run(run, [relu, linear], tree))
    assert drawn(spans) == [
        "Net 0..8000",
        "  b Block 0..4000",
        "    b.relu ReLU 0..1000",
        "    b.fc Linear 1000..3000",
        "    b.relu ReLU 3000..4000",
        "  b Block 4000..8000",
        "    b.relu ReLU 4000..5000",
        "    b.fc Linear 5000..7000",
        "    b.relu ReLU 7000..8000",
    ]


def test_calls_that_are_not_alike_are_not_told_apart() -> None:
    """Three places of two calls: nobody knows which call had two of them."""
    relu = layer("b.relu", "ReLU", "activation", calls=3, ops=(0, 1, 2), latency_s=3e-6)
    run = [("b.relu", 2), ("b.relu", 3), ("b.relu", 5)]
    spans = timeline(of_run(run, [relu], {"": ("Net", 1), "b": ("Block", 2), "b.relu": ("ReLU", 3)}))
    assert [line.strip() for line in drawn(spans)][:2] == ["Net 0..3000", "b Block 0..3000"]


def test_a_module_without_operators_runs_between_its_neighbours() -> None:
    """`b.drop` follows `b.fc` in the report; of the two gaps before `c` the one inside `b` breaks nothing."""
    relu = layer("b.relu", "ReLU", "activation", calls=2, ops=(0, 2), latency_s=2e-6)
    linear = layer("b.fc", "Linear", "linear", ops=(1,), latency_s=4e-6)
    drop = layer("b.drop", "Dropout", "other", latency_s=1e-6)
    last = layer("c", "Linear", "linear", ops=(3,), latency_s=1e-6)
    run = [("b.relu", 2), ("b.fc", 3), ("b.relu", 5), ("c", 6)]
    tree = {"": ("Net", 1), "b": ("Block", 1), "b.relu": ("ReLU", 2), "c": ("Linear", 1)}
    spans = timeline(of_run(run, [relu, linear, drop, last], tree))
    assert [line.strip() for line in drawn(spans)] == [
        "Net 0..8000",
        "b Block 0..7000",
        "b.relu ReLU 0..1000",
        "b.fc Linear 1000..5000",
        "b.drop Dropout 5000..6000",
        "b.relu ReLU 6000..7000",
        "c Linear 7000..8000",
    ]


def test_a_training_step_has_phases() -> None:
    """Of the linear layer's 9 µs 6 are the backward's; the sum needs no gradient op and comes first there."""
    linear = layer("b.fc", "Linear", "linear", ops=(0, 3), latency_s=9e-6, backward_s=6e-6)
    plus = layer("b", "(ops)", "elementwise", ops=(1,), latency_s=3e-6, backward_s=1e-6)
    loss = layer("", "(loss)", "reduction", ops=(2,), latency_s=1e-6, backward_s=0.0)
    step = layer("", "(optimizer)", "elementwise", ops=(4,), latency_s=2e-6, backward_s=0.0)
    run = [("b.fc", 2), ("b", 1), ("", 0), ("b.fc", 2), ("", 0)]
    tree = {"": ("Net", 1), "b": ("Block", 1), "b.fc": ("Linear", 1)}
    made = of_run(run, [linear, plus, loss, step], tree)
    phases = tuple(Phase(name, 0, 0, 0, 0, 1e-6) for name in ("forward", "loss", "backward", "optimizer"))
    assert drawn(timeline(replace(made, phases=phases))) == [
        "Net 0..15000",
        "  (forward) 0..5000",
        "    b Block 0..5000",
        "      b.fc Linear 0..3000",
        "      b (ops) 3000..5000",
        "  (loss) 5000..6000",
        "  (backward) 6000..13000",
        "    b Block 6000..13000",
        "      b (ops) 6000..7000",
        "      b.fc Linear 7000..13000",
        "  (optimizer) 13000..15000",
    ]


def test_a_model_that_is_one_layer_is_one_span() -> None:
    whole = layer("", "Linear", "linear", ops=(0,), latency_s=3e-6)
    assert drawn(timeline(of_run([("", 0)], [whole], {"": ("Linear", 1)}))) == ["Linear 0..3000"]


@given(st.lists(st.floats(1e-7, 1e-2), min_size=1, max_size=12))
def test_spans_add_up_to_the_layers_however_their_edges_are_rounded(seconds: list[float]) -> None:
    layers = [
        layer(f"a.{k}", "Linear", "linear", ops=(k,), latency_s=second) for k, second in enumerate(seconds)
    ]
    made = of_run([(layer.path, 1) for layer in layers], layers, {"": ("Net", 1), "a": ("Block", 1)})
    spans = timeline(made)
    assert spans[-1].end == pytest.approx(1e9 * sum(seconds), abs=0.5001)
    check_speedscope(made.to_speedscope())
    slices = check_trace(made.to_chrome_trace())
    assert 1000 * slices[0]["dur"] == pytest.approx(1e9 * sum(seconds), abs=62.6)  # half an eighth of a µs


def test_counts_alone_have_no_timeline() -> None:
    for write in (report(conv()).to_speedscope, report(conv()).to_chrome_trace):
        with pytest.raises(InputError, match="needs latencies") as caught:
            write()
        assert "--no-latency" in caught.value.hint


# --------------------------------------------------------------------------- the formats


def test_speedscope_has_the_run_by_module_and_by_kind() -> None:
    modules, kinds = check_speedscope(one_block().to_speedscope())
    assert modules == [
        ("O", "Net", 0.0),
        ("O", "a Block", 0.0),
        ("O", "a.conv Conv2d", 0.0),
        ("C", "a.conv Conv2d", 2e-6),
        ("O", "a.dw Conv2d", 2e-6),
        ("C", "a.dw Conv2d", 8e-6),
        ("O", "a (ops)", 8e-6),
        ("C", "a (ops)", 1e-5),
        ("C", "a Block", 1e-5),
        ("C", "Net", 1e-5),
    ]
    assert kinds[:4] == [
        ("O", "conv", 0.0),
        ("O", "a.conv Conv2d", 0.0),
        ("C", "a.conv Conv2d", 2e-6),
        ("C", "conv", 2e-6),
    ]
    top = json.loads(one_block().to_speedscope())
    assert {"name": "a.dw Conv2d", "file": "depthwise_conv"} in top["shared"]["frames"]
    assert "A typical run, not a recorded one" in top["name"]


def test_a_trace_has_slices_with_their_costs() -> None:
    root, block, dense, narrow, plus = check_trace(one_block().to_chrome_trace())
    assert (root["name"], root["ts"], root["dur"]) == ("Net", 0, 10)
    assert block["args"] == {"path": "a", "type": "Block", "macs": 400, "flops": 1000, "bytes": 600}
    assert (narrow["ts"], narrow["dur"], narrow["cat"]) == (2, 6, "depthwise_conv")
    # Microseconds: 60 + 40 bytes of the convolution; the depthwise layer reads 120 and writes 80.
    assert dense["args"]["bytes"] == 100
    assert narrow["args"]["bytes"] == 200
    assert narrow["args"]["kind"] == "depthwise_conv"
    assert "limit" not in narrow["args"]
    assert plus["args"]["flops"] == 200


def test_a_trace_marks_the_peak_of_memory_and_says_what_it_is() -> None:
    top = json.loads(one_block().to_chrome_trace())
    mark = top["traceEvents"][-1]
    assert (mark["ph"], mark["ts"], mark["name"]) == ("i", 2.0, "peak of activation memory: 4.10 kB")
    assert "typical run" in top["otherData"]["basis"]
    assert top["otherData"]["model"] == "net.py:Net"


def test_memory_is_a_counter_where_it_is_known() -> None:
    """Alive while the three ops run: 1, 4 and 2 kB; they begin at 0, 2 and 8 µs."""
    held = one_block(peak=replace(report().peak, over_run=(1000, 4000, 2000)))
    for made, counted in ((held, [(0, 1000), (2, 4000), (8, 2000)]), (one_block(), [])):
        events = json.loads(made.to_chrome_trace())["traceEvents"]
        found = [(event["ts"], event["args"]["bytes"]) for event in events if event["ph"] == "C"]
        assert found == counted
        assert {event["name"] for event in events if event["ph"] == "C"} <= {"activation memory"}


def test_shares_are_told() -> None:
    relu = layer("relu", "ReLU", "activation", calls=2, ops=(0, 1), latency_s=2e-6)
    made = of_run([("relu", 1), ("relu", 2)], [relu], {"": ("Net", 1)})
    slices = check_trace(made.to_chrome_trace())
    assert slices[1]["args"]["share"] == "one of 2 equal shares of the layer's latency"


def test_names_from_anybody_stay_text() -> None:
    odd = layer('a"\\</script>\n', "T", "other", ops=(0,), latency_s=1e-6)
    made = of_run([(odd.path, 1)], [odd], {"": ("Net", 1)})
    assert check_trace(made.to_chrome_trace())[1]["name"] == f"{odd.path} T"
    check_speedscope(made.to_speedscope())


def test_of_a_measured_model_all_of_it_fits() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Dropout())
            self.again = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x: Any) -> Any:
            x = self.block(x)
            return self.again(self.again(x)) + x

    measured = flopscope.profile(Net(), (1, 3, 16, 16), effort="quick", max_seconds=0.1)
    step = flopscope.profile(Net(), (1, 3, 16, 16), effort="quick", max_seconds=0.1, train=True)
    for found in (measured, step):
        spans = timeline(found)
        spent = sum(item.latency_s or 0.0 for item in found.layers)
        assert spans[-1].end == pytest.approx(1e9 * spent, abs=1)
        assert sorted({at for span in spans for at in span.ops}) == list(range(len(found.ops)))
        check_speedscope(found.to_speedscope())
        check_trace(found.to_chrome_trace())
    assert int(measured.environment.other["epochs"]) >= 1
    assert " warm-up passes, in " in measured.methods_text()
    names = [span.name for span in timeline(measured)[0].walk()]
    assert names.count("again Conv2d") == 2
    assert names.index("block.2 Dropout") == names.index("block.1 ReLU") + 1


# --------------------------------------------------------------------------- on the command line


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    one_block().save(path)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def test_two_suffixes_decide(saved: Path, tmp_path: Path, run: CommandLine) -> None:
    names = ("run.speedscope.json", "run.trace.json", "RUN2.Trace.JSON", "trace.json")
    found = run("view", saved, *(word for name in names for word in ("-o", tmp_path / name)))
    assert found.code == 0, found.err
    check_speedscope((tmp_path / names[0]).read_text(encoding="utf-8"))
    check_trace((tmp_path / names[1]).read_text(encoding="utf-8"))
    check_trace((tmp_path / names[2]).read_text(encoding="utf-8"))
    assert flopscope.load(tmp_path / "trace.json") == one_block()


def test_ours_are_written_again_and_others_not(saved: Path, tmp_path: Path, run: CommandLine) -> None:
    for name in ("run.speedscope.json", "run.trace.json"):
        path = tmp_path / name
        assert run("view", saved, "-o", path).code == 0
        assert run("view", saved, "-o", path).code == 0
        path.write_text('{"traceEvents": []}\n', encoding="utf-8")
        refused = run("view", saved, "-o", path)
        assert refused.code == 2
        assert "flopscope did not write it" in refused.err


def test_without_latencies_nothing_is_written(tmp_path: Path, run: CommandLine) -> None:
    path, out = tmp_path / "counts.json", tmp_path / "run.trace.json"
    report(conv()).save(path)
    found = run("view", path, "-o", out)
    assert found.code == 2
    assert "needs latencies" in found.err
    assert not out.exists()


def test_files_of_times_are_refused_before_a_count(tmp_path: Path, run: CommandLine) -> None:
    found = run("report", "zoo:resnet18", "--no-latency", "-o", tmp_path / "run.speedscope.json")
    assert found.code == 2
    assert "--no-latency was given" in found.err
    assert found.out == ""
