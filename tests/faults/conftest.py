"""Children that end with their test, and figures that are told after the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.children import Children


@pytest.fixture
def children() -> Iterator[Children]:
    """Start processes that do not outlive the test."""
    started = Children()
    yield started
    started.close()


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Tell a figure: it is shown when all tests have run."""

    def tell(text: str) -> None:
        record_property("figure", text)

    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures of the full forms."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if "full" in report.nodeid and getattr(report, "when", "") == "call"
    ]
    lines = [
        f"{report.nodeid}: {text}"
        for report in reports
        for name, text in report.user_properties
        if name == "figure"
    ]
    if lines:
        terminalreporter.write_sep("-", "figures")
        for line in lines:
            terminalreporter.write_line(line)
