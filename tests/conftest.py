"""What tests share: a working folder, and what they have to say besides passing, which is printed at the end."""

import gc
import time

import pytest

FAST = 60  # seconds that `make test-fast` may take on two cores, set-up of the environment aside
START = time.monotonic()


@pytest.fixture
def say(record_property):
    return lambda text: record_property("said", text)


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """An empty folder in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pytest_collection_finish():
    # What is imported by now stays. Else the collector looks through it again and again, for 7 % of the time of the
    # tests that build networks.
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    reports = [report for group in terminalreporter.stats.values() for report in group if hasattr(report, "when")]
    for report in reports:
        for name, text in report.user_properties if report.when == "call" else ():
            if name == "said":
                terminalreporter.write_line(text)
    seconds = time.monotonic() - START
    if terminalreporter.config.option.markexpr == "not slow" and seconds > FAST:
        terminalreporter.write_line(
            f"the fast tests took {seconds:.0f} s, more than {FAST}; unless the machine was busy, shorten the "
            "slowest ones or mark them with @pytest.mark.slow"
        )
