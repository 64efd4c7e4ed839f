"""A pytest plugin: what tests `record_property("told", …)` is shown at the end, in any process."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    told = [
        text
        for report in reports
        if report.when == "call"
        for name, text in report.user_properties
        if name == "told"
    ]
    if told:
        terminalreporter.section("what the pages say to type")
        terminalreporter.write_line("\n".join(sorted(told)))
