"""pytest -> the marker `flopscope_budget` and the fixture `flopscope_meter`; loaded by its entry point."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from flopscope.errors import BudgetError

if TYPE_CHECKING:
    from flopscope.testing.meters import Meter

MARKER = "flopscope_budget"
FIXTURE = "flopscope_meter"
_PROPERTY = "flopscope"
_METER: pytest.StashKey[Meter] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--flopscope`: tell what was counted, also of tests that passed."""
    group = parser.getgroup("flopscope", "costs of models")
    group.addoption(
        "--flopscope", action="store_true", help="list the counts of every model that a test counted"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f'{MARKER}(*budgets, macs="600M", params="6M", ...): upper bounds, or budgets such as'
        f' "depthwise_conv.macs<=20M", for the models that the test counts with {FIXTURE}.',
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a marker that cannot be read, and one that nothing would be held against."""
    marks = list(item.iter_markers(MARKER))
    if not marks:
        return
    from flopscope.testing.meters import budgets_of, refusal

    if FIXTURE not in getattr(item, "fixturenames", ()):
        pytest.fail(
            f"{MARKER} needs the fixture {FIXTURE}, by which the test counts its model", pytrace=False
        )
    try:
        budgets_of(marks)
    except BudgetError as wrong:
        raise refusal(wrong) from None


@pytest.fixture
def flopscope_meter(request: pytest.FixtureRequest) -> Meter:
    """Counts models and holds them against the budgets of the test's markers; compares latencies."""
    from flopscope.testing.meters import Meter, budgets_of

    meter = Meter(budgets_of(list(request.node.iter_markers(MARKER))))
    request.node.stash[_METER] = meter
    return meter


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test whose budgets nothing was held against; keep what it counted for the summary."""
    try:
        yield
    finally:
        meter = item.stash.get(_METER, None)
        for line in meter.counted if meter else ():
            item.user_properties.append((_PROPERTY, line))
    if meter and meter.budgets and not meter.counted:
        pytest.fail(
            f"{MARKER}: the test counted no model, so no budget was held against anything", pytrace=False
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the largest layers below a test whose model broke a budget."""
    report = yield
    meter = item.stash.get(_METER, None)
    if meter and call.when == "call" and report.failed:
        report.sections += meter.tables
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List what was counted, where that was asked for."""
    if not config.getoption("--flopscope"):
        return
    lines = [
        f"{report.nodeid}: {value}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == _PROPERTY
    ]
    terminalreporter.section("flopscope")
    terminalreporter.write_line("\n".join(lines) if lines else "no test counted a model")
