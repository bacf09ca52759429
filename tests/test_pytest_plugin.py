"""The pytest plugin, by an inner run: budgets gate, mistakes are no passes, latency is only compared."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import made_reports as made
import pytest
from torch import nn

import flopscope
from flopscope import budgets
from flopscope.comparison import Comparison
from flopscope.errors import InputError
from flopscope.records import Quality, Ratio, Side
from flopscope.testing import meters

# Linear(4, 8): 4*8 + 8 = 40 parameters; one row takes 4*8 = 32 MACs. The input and the result are
# (4 + 8) * 4 = 48 bytes of activations. Of the net, 32 + 64 = 96 MACs, its second layer takes 64.
INNER = """
import unittest

import pytest
from torch import nn

def linear(meter):
    return meter.count(nn.Linear(4, 8), (1, 4))

def net(meter):
    return meter.count(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8)), (1, 4))

@pytest.mark.flopscope_budget(macs="32", params=40, peak_activation_bytes="48B")
def test_kept(flopscope_meter):
    assert linear(flopscope_meter).total.macs == 32

@pytest.mark.flopscope_budget("linear.macs<=1k", macs="64", params="1k")
def test_broken(flopscope_meter):
    net(flopscope_meter)

@pytest.mark.flopscope_budget(peak_activation_bytes="40B")
def test_peak(flopscope_meter):
    linear(flopscope_meter)

@pytest.mark.flopscope_budget(macs=">=100")
def test_lower(flopscope_meter):
    net(flopscope_meter)

@pytest.mark.flopscope_budget(macs="1")
def test_idle(flopscope_meter):
    pass

@pytest.mark.flopscope_budget(macs="1")
def test_no_fixture():
    pass

@pytest.mark.flopscope_budget()
def test_no_budget(flopscope_meter):
    pass

@pytest.mark.flopscope_budget(latency="5ms")
def test_latency(flopscope_meter):
    pass

@pytest.mark.flopscope_budget("conv.latency_s<1")
def test_latency_of_a_kind(flopscope_meter):
    pass

@pytest.mark.flopscope_budget(macs="many")
def test_no_number(flopscope_meter):
    pass

@pytest.mark.flopscope_budget("macs")
def test_no_sign(flopscope_meter):
    pass

@pytest.mark.flopscope_budget(mac="1")
def test_unknown(flopscope_meter):
    linear(flopscope_meter)

@pytest.mark.flopscope_budget("dw.macs<=1")
def test_unknown_kind(flopscope_meter):
    linear(flopscope_meter)

@pytest.mark.flopscope_budget(macs="1MB")
def test_unit(flopscope_meter):
    linear(flopscope_meter)

@pytest.mark.flopscope_budget("conv.macs<=1")
def test_absent_kind(flopscope_meter):
    linear(flopscope_meter)

@pytest.mark.flopscope_budget(macs=0, bytes="1kB")
def test_none_allowed(flopscope_meter):
    linear(flopscope_meter)

@pytest.mark.flopscope_budget(macs="1k")
def test_of_an_address(flopscope_meter):
    flopscope_meter.count("zoo:mobilenetv2", (1, 3, 32, 32))

class TestOfUnittest(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def take(self, flopscope_meter):
        self.meter = flopscope_meter

    @pytest.mark.flopscope_budget(macs="32")
    def test_unittest_kept(self):
        linear(self.meter)

    @pytest.mark.flopscope_budget(macs="32")
    def test_unittest_idle(self):
        pass

@pytest.mark.flopscope_budget(macs="1")
def test_own_failure(flopscope_meter):
    assert 1 == 2

@pytest.mark.flopscope_budget(macs="1M")
class TestNet:
    @pytest.mark.flopscope_budget(params="1")
    def test_both(self, flopscope_meter):
        assert len(flopscope_meter.budgets) == 2
        linear(flopscope_meter)

def test_address(flopscope_meter):
    assert flopscope_meter.count("zoo:mobilenetv2").total.params > 3e6

def test_ab(flopscope_meter):
    models = {"wide": nn.Linear(1024, 1024), "narrow": nn.Linear(1024, 8)}
    found = flopscope_meter.compare(models, (64, 1024), at_most=1.5, max_seconds=1)
    assert found.sides[1].measured
"""


class Inner:
    """What the inner run said: by test "passed", "failed" or "error", the message, the whole output."""

    def __init__(self, folder: Any) -> None:
        (folder / "test_inner.py").write_text(INNER, encoding="utf-8")
        call = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", "--flopscope"]
        call += ["--junitxml=log.xml", "test_inner.py"]
        done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
        self.output = done.stdout + done.stderr
        self.words: dict[str, str] = {}
        self.messages: dict[str, str] = {}
        for case in ET.parse(folder / "log.xml").iter("testcase"):
            bad = next((item for item in case if item.tag in ("failure", "error")), None)
            name = case.get("name") or ""
            self.words[name] = "passed" if bad is None else {"failure": "failed"}.get(bad.tag, bad.tag)
            self.messages[name] = "" if bad is None else f"{bad.get('message')}\n{bad.text}"


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> Inner:
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, check=True
    )
    assert "--flopscope" in listed.stdout, "the plugin is not installed: pip install -e . in this checkout"
    return Inner(tmp_path_factory.mktemp("inner"))


@pytest.mark.parametrize("name", ["test_kept", "test_address", "test_ab", "test_unittest_kept"])
def test_what_is_kept_passes(inner: Inner, name: str) -> None:
    assert inner.words[name] == "passed", inner.messages[name]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("test_broken", ["Sequential breaks macs<=64: 96, 50.0 % above the limit",
                         "  most of it: 2 (64), 0 (32)"]),
        ("test_peak", ["peak_activation_bytes<=40B: 48 B, 20.0 % above the limit", "32 B", "16 B"]),
        ("test_lower", ["macs>=100: 96, 4.00 % below the limit"]),
        ("test_none_allowed", ["Linear breaks macs<=0: 32, above the limit"]),
        ("test_of_an_address", ["zoo:mobilenetv2 breaks macs<=1k: ", "all layers:  flopscope report"
                                " zoo:mobilenetv2 -i 1,3,32,32 --no-latency"]),
        ("test_idle", ["counted no model"]),
        ("test_unittest_idle", ["counted no model"]),
        ("test_absent_kind", ["no layer of kind 'conv'", "kinds here: linear"]),
        ("test_both", ["params<=1: 40, 40.0 times the limit"]),
        ("test_own_failure", ["assert 1 == 2"]),
    ],
)  # fmt: skip
def test_what_is_not_kept_fails_and_says_why(inner: Inner, name: str, lines: list[str]) -> None:
    assert inner.words[name] == "failed"
    for line in lines:
        assert line in inner.messages[name]


def test_only_broken_budgets_are_told_and_no_traceback(inner: Inner) -> None:
    assert "linear.macs" not in inner.messages["test_broken"]
    assert "During handling" not in inner.output
    assert "meters.py" not in inner.output
    assert "counted no model" not in inner.messages["test_own_failure"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("test_no_fixture", "needs the fixture flopscope_meter"),
        ("test_no_budget", "flopscope_budget without a budget"),
        ("test_latency", "is a budget of time"),
        ("test_latency_of_a_kind", "is a budget of time"),
        ("test_unknown", "unknown metric 'mac' in 'mac<=1'\nmetrics: params, macs"),
        ("test_unknown_kind", "unknown kind 'dw' in 'dw.macs<=1'\nkinds: conv, "),
        ("test_unit", "is in B, but a count was expected"),
        ("test_no_number", "many"),
        ("test_no_sign", "not a budget"),
    ],
)
def test_a_marker_that_says_nothing_is_an_error(inner: Inner, name: str, words: str) -> None:
    assert inner.words[name] == "error"
    assert words in inner.messages[name]


def test_counts_are_listed_where_asked_for(inner: Inner) -> None:
    assert "= flopscope =" in inner.output
    assert "::test_kept: Linear: 40 params, 32 macs, " in inner.output
    assert "PytestUnknownMarkWarning" not in inner.output


def test_the_largest_layers_stand_below_a_broken_budget(inner: Inner) -> None:
    below = inner.output.partition("- Sequential: layers by macs -")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in below.splitlines()[1:6]]
    assert [(row[0], row[5]) for row in rows] == [
        ("layer", "MACs"), (":" + "-" * 8, "-" * 7 + ":"), ("2", "64"), ("0", "32"), ("1", "0"),
    ]  # fmt: skip


def test_pytest_runs_without_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text("def test_plain(): pass\n", encoding="utf-8")
    call = [sys.executable, "-m", "pytest", "-p", "no:flopscope", "-p", "no:cacheprovider", "test_plain.py"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_plugin_brings_no_torch_along() -> None:
    script = "import sys, flopscope.testing.plugin; sys.exit(bool({'torch', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_every_convention_of_a_report_can_be_limited() -> None:
    for name, value in flopscope.count(nn.Linear(4, 8), (1, 4)).conventions.items():
        assert budgets.parsed(f"{name}<={value}") == (name, "<=", str(value))


# --------------------------------------------------------------------------- latency, A against B


def compared(monkeypatch: pytest.MonkeyPatch, ratio: Ratio | None, word: str = "good") -> dict[str, Any]:
    """Let `flopscope.compare` find this ratio; what it was called with is filled in."""
    called: dict[str, Any] = {}

    def stand_in(models: Any, inputs: Any = None, **keywords: Any) -> Comparison:
        called.update(keywords, models=models)
        sides = (Side("old", measured=True), Side("new", measured=True))
        reports = (made.report(quality=Quality(word, ())),) * 2
        return Comparison(sides=sides, reports=reports, ratios=(None, ratio), matches=())

    monkeypatch.setattr(meters.flopscope, "compare", stand_in)
    return called


def test_a_slower_model_fails_by_the_whole_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    called = compared(monkeypatch, Ratio(1.2, 1.1, 1.3, "slower", 20))
    with pytest.raises(
        pytest.fail.Exception, match=r"new: 1\.2 times as long \(1\.1 to 1\.3, slower\)"
    ) as told:
        meters.Meter(()).compare({"old": 1, "new": 2}, (1, 4))
    assert "slower than 1.05 times old" in str(told.value)
    assert called["effort"] == "quick"


def test_within_the_bound_passes_without_a_warning(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    called = compared(monkeypatch, Ratio(1.02, 1.0, 1.04, "same", 20))
    found = meters.Meter(()).compare({"old": 1, "new": 2}, effort="normal")
    assert found.ratios[1] is not None
    assert called["effort"] == "normal"
    assert not recwarn.list


def test_a_gain_that_was_promised_and_is_not_there_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    compared(monkeypatch, Ratio(1.0, 0.99, 1.01, "same", 20))
    with pytest.raises(pytest.fail.Exception, match=r"slower than 0\.9 times old"):
        meters.Meter(()).compare({"old": 1, "new": 2}, at_most=0.9)


@pytest.mark.parametrize("at_most", [0, -1, float("nan")])
def test_a_bound_that_is_no_ratio_is_an_error(monkeypatch: pytest.MonkeyPatch, at_most: float) -> None:
    compared(monkeypatch, Ratio(1.0, 0.99, 1.01, "same", 20))
    with pytest.raises(InputError, match="is a ratio of times"):
        meters.Meter(()).compare({"old": 1, "new": 2}, at_most=at_most)


@pytest.mark.parametrize(
    ("ratio", "word"),
    [
        (Ratio(1.06, 0.9, 1.2, "unclear", 20), "good"),
        (Ratio(2.0, 1.9, 2.1, "unclear", 20), "void"),
        (None, "good"),
    ],
)
def test_what_noise_may_explain_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, ratio: Ratio | None, word: str
) -> None:
    compared(monkeypatch, ratio, word)
    with pytest.warns(
        meters.UnclearLatencyWarning, match="new: whether it takes at most 1.05 times as long is unclear"
    ):
        meters.Meter(()).compare({"old": 1, "new": 2})
