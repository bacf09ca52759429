"""docs/conventions.md says what the code does: its tables, its touchstone, its worked network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from opcalls import call, tensor

from flopscope.costs import backward, optimizers, price, table
from flopscope.records import Cost

PAGE = (Path(__file__).parent.parent / "docs" / "conventions.md").read_text(encoding="utf-8")


def rows_under(heading):
    """The rows of the table under a heading, cell by cell, without head and rule."""
    section = PAGE.split(f"{heading}\n", 1)[1]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("### Per output element", table.PER_OUTPUT),
        ("### Per complex output element", table.PER_OUTPUT_COMPLEX),
        ("### Per input element", table.PER_INPUT),
        ("### Per element of a loss", table.PER_PAIR),
        ("### Other terms", table.TERM),
        ("### Gradients", backward.PER_GRADIENT),
    ],
)
def test_tables_are_those_of_the_code(heading, expected):
    printed = {
        name: int(number)
        for names, number, *_ in rows_under(heading)
        for name in re.findall(r"`([^`]+)`", names)
    }
    assert printed == dict(expected)


def worked_network():
    """The network of the page: conv 3 -> 8, batch norm, relu, flatten, linear, on 3 x 16 x 16."""
    image, maps, normed, positive = tensor(1, 3, 16, 16), *(tensor(1, 8, 16, 16) for _ in range(3))
    flat = tensor(1, 2048, of=positive)
    statistics = {name: tensor(8) for name in ("weight", "bias", "running_mean", "running_var")}
    return {
        "conv": call("aten::convolution", maps, input=image, weight=tensor(8, 3, 3, 3), transposed=False),
        "batch norm": call("aten::batch_norm", normed, input=maps, **statistics, training=False),
        "relu": call("aten::relu", positive, self=normed, tags=["pointwise"]),
        "flatten": call("aten::view", flat, self=positive, view=True),
        "linear": call("aten::linear", tensor(1, 10), input=flat, weight=tensor(10, 2048), bias=tensor(10)),
    }


def value(cell):
    """The number that a cell ends with: "8·16·16 × 3·3·3 = 55,296" is 55296."""
    return int(cell.replace("*", "").rsplit("=", 1)[-1].strip().replace(",", ""))


def test_worked_network():
    printed = {row[0].strip("*"): Cost(*map(value, row[1:])) for row in rows_under("## A worked network")[:6]}
    costs = {name: price(op).cost for name, op in worked_network().items()}
    total = printed.pop("total")
    assert printed == costs
    assert total == sum(costs.values(), Cost())
    # by hand: 2,048 outputs of 27 taps, and 2,048 x 10
    assert total.macs == 2048 * 27 + 20_480 == 75_776


def test_worked_network_in_fvcores_convention():
    total = sum(price(op).fvcore_flops for op in worked_network().values())
    assert total == 75_776 + 2 * 2048 == 79_872
    assert f"| fvcore 0.1.5 | {total:,} |" in PAGE


def test_fvcore_itself_says_so():
    fvcore = pytest.importorskip("fvcore.nn")
    torch = pytest.importorskip("torch")
    nn = torch.nn
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2048, 10),
    ).eval()
    counted = fvcore.FlopCountAnalysis(net, torch.zeros(1, 3, 16, 16)).unsupported_ops_warnings(False)
    assert counted.total() == sum(price(op).fvcore_flops for op in worked_network().values())


def test_torchs_counter_itself_says_so():
    torch = pytest.importorskip("torch")
    counters = pytest.importorskip("torch.utils.flop_counter")
    nn = torch.nn
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2048, 10),
    ).eval()
    with counters.FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, 16, 16))
    assert counter.get_total_flops() == 2 * 75_776
    assert f"| torch's `FlopCounterMode` | {2 * 75_776:,} |" in PAGE


def test_the_touchstone_is_printed():
    printed = {row[0]: value(row[1]) for row in rows_under("## Bytes")}
    assert printed["depthwise 3 × 3"] == 1_607_936
    assert printed["PConv on 16 channels, split and cat"] == 2_016_256
    assert printed["PConv on 16 channels, clone and slice assignment"] == 2_417_664
    # elements: 56 * 56 * 2 * 16 + 9 * 16 * 16
    assert printed["PConv, the paper's formula"] == 4 * (100_352 + 2_304)


def test_fused_steps_of_optimizers_are_those_of_the_code():
    page = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
    printed = re.findall(r"^\| ([A-Za-z, ]+) \| (\d+) \| (.+) \|$", page, flags=re.MULTILINE)
    per_step = {name.lower(): int(number) for names, number, _ in printed for name in names.split(", ")}
    assert per_step == optimizers.FUSED
    extras = {
        name: int(number) for *_, added in printed for name, number in re.findall(r"([a-zN ]+) (\d)", added)
    }
    assert {name.strip(): number for name, number in extras.items()} == {
        "amsgrad": optimizers.MAXIMUM,
        "weight decay": optimizers.DECAY,
        "momentum": optimizers.MOMENTUM,
        "Nesterov": optimizers.NESTEROV,
    }
