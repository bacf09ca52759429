"""`check`: budgets against a saved report made by hand; without torch."""

from __future__ import annotations

import json
from pathlib import Path

import made_reports
import pytest
from command_lines import CommandLine


@pytest.fixture
def flop(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    made_reports.report(warnings=(), notes=()).save("r.json")
    return CommandLine(capsys)


# The report's totals: 50 params, 400 MACs, 1000 FLOPs, 380 bytes read, 11 µs;
# of these depthwise_conv has 100 MACs and 6 µs.


def test_kept_budgets_end_with_0_and_are_listed(flop: CommandLine) -> None:
    said = flop("check", "r.json", "--budget", "macs<=400", "-b", "depthwise_conv.macs == 100")
    assert said.code == 0
    assert said.out == (
        "ok      macs<=400                   actual 400\nok      depthwise_conv.macs == 100  actual 100\n"
    )
    assert said.err == ""


def test_a_broken_budget_ends_with_1_and_says_by_how_much(flop: CommandLine) -> None:
    said = flop("check", "r.json", "-b", "params<=40", "-b", "macs<=400", "-b", "flops>=2k", "-b", "macs<100")
    assert said.code == 1
    assert said.out == (
        "FAILED  params<=40  actual 50, 25.0 % above the limit\n"  # 50 / 40 - 1
        "ok      macs<=400   actual 400\n"
        "FAILED  flops>=2k   actual 1.00 k (1000), 50.0 % below the limit\n"  # 1 - 1000 / 2000
        "FAILED  macs<100    actual 400, 4.00 times the limit\n"
    )
    assert flop("check", "r.json", "-b", "macs==0").out == "FAILED  macs==0  actual 400, above the limit\n"


def test_a_budget_that_cannot_be_read_is_refused_before_any_work(flop: CommandLine) -> None:
    said = flop("check", "not-there.json", "-b", "macz<=3")
    assert said.code == 2
    assert "unknown metric 'macz'" in said.err


@pytest.mark.parametrize(
    ("budget", "code", "actual"),
    [
        ("latency<20us", 0, "11.0 µs"),
        ("latency<=5us", 1, "11.0 µs"),
        ("depthwise_conv.latency<=6us", 0, "6.00 µs"),
        ("bytes_read<1kB", 0, "380 B"),
        ("peak_activation_bytes<=4096B", 0, "4.10 kB (4096)"),
        ("macs<400", 1, "400"),
        ("macs>400", 1, "400"),
        ("macs>=400", 0, "400"),
        ("macs==400", 0, "400"),
        ("macs==401", 1, "400"),
        ("fvcore_like<=410", 0, "410"),
        ("flops_per_s<1GFLOP/s", 0, "90.9 MFLOP/s"),  # 1000 FLOPs in 11 µs
        ("arithmetic_intensity<2", 0, "1.67 FLOP/B"),  # 1000 / (380 + 220) bytes
    ],
)
def test_every_sign_and_unit(flop: CommandLine, budget: str, code: int, actual: str) -> None:
    said = flop("check", "r.json", "-b", budget)
    assert said.code == code
    assert f"actual {actual}" in said.out


@pytest.mark.parametrize(
    ("budget", "fact"),
    [
        ("macs", "not a budget: 'macs'."),
        ("<=3", "not a budget: '<=3'."),
        ("macs<=many", "not a quantity: 'many'"),
        ("macz<=3", "unknown metric 'macz'"),
        ("conv3.macs<=3", "unknown kind 'conv3'"),
        ("recurrent.macs<=3", "no layer of kind 'recurrent'"),
        ("conv.peak_activation_bytes<=3", "unknown metric 'conv.peak_activation_bytes'"),
        ("latency<=3MB", "is in B"),
    ],
)
def test_a_budget_that_cannot_be_judged_is_a_usage_error(flop: CommandLine, budget: str, fact: str) -> None:
    said = flop("check", "r.json", "-b", budget)
    assert (said.code, said.out) == (2, "")
    assert fact in said.err
    assert "hint:  " in said.err


def test_what_was_not_measured_is_no_failed_budget(flop: CommandLine) -> None:
    made_reports.report(made_reports.conv()).save("counts.json")
    said = flop("check", "counts.json", "-b", "latency<1s")
    assert said.code == 2
    assert said.err.startswith("error: latency was not measured")


def test_no_budget_and_contradicting_options(flop: CommandLine) -> None:
    assert flop("check", "r.json").err.startswith("error: no --budget was given.")
    said = flop("check", "r.json", "-b", "latency<1s", "--no-latency")
    assert said.code == 2


def test_lower_bounds_are_called_so(flop: CommandLine) -> None:
    made_reports.report(uncosted={"x::y": 2}).save("bound.json")
    assert "lower bounds" in flop("check", "bound.json", "-b", "macs<=400").err


def test_a_table_for_a_job_summary(flop: CommandLine) -> None:
    said = flop("check", "r.json", "-b", "params<=40", "-b", "macs<=400", "--md")
    assert said.code == 1
    assert said.out.splitlines()[0] == "**net.py:Net**"
    assert "| **broken** | `params<=40` |       50 | 25.0 % above the limit |" in said.out
    assert "| kept       | `macs<=400`  |      400 |                        |" in said.out


def test_verdicts_as_json(flop: CommandLine) -> None:
    said = flop("check", "r.json", "-b", "params<=40", "-b", "macs<=400", "--json")
    assert said.code == 1
    top = json.loads(said.out)
    assert (top["format"], top["version"], top["model"]) == ("flopscope-check", 1, "net.py:Net")
    assert top["budgets"] == [
        {"budget": "params<=40", "metric": "params", "kept": False, "actual": 50, "limit": 40},
        {"budget": "macs<=400", "metric": "macs", "kept": True, "actual": 400, "limit": 400},
    ]
    assert flop("check", "r.json", "-b", "macs<=400", "--json", "--md").code == 2
