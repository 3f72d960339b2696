"""What tests have to say besides passing: printed at the end, also when they ran in several processes."""

import pytest


@pytest.fixture
def say(record_property):
    return lambda text: record_property("said", text)


def pytest_terminal_summary(terminalreporter):
    reports = [report for group in terminalreporter.stats.values() for report in group if hasattr(report, "when")]
    for report in reports:
        for name, text in report.user_properties if report.when == "call" else ():
            if name == "said":
                terminalreporter.write_line(text)
