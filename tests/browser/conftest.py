"""One headless Chromium for the browser tests: the system's, which Playwright drives; `make test-browser`."""

import os
import shutil

import pytest

from tools.notebooks import ROOT

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Nothing outside this machine can be reached, and Chromium looks for nothing there by itself. A container allows no
# sandbox, and the pages are ours.
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --no-proxy-server"
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"


def find_chromium():
    """The browser's path; stops the tests with one line where there is none."""
    names = [os.environ["CHROMIUM"]] if os.environ.get("CHROMIUM") else NAMES
    for found in filter(None, map(shutil.which, names)):
        return found
    pytest.exit(f"no browser: found no {', '.join(names)}; apt install chromium, or name one by CHROMIUM=", 1)


def pytest_sessionstart():
    """Runs where these tests are named, not where pytest passes by."""
    find_chromium()


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=[*FLAGS.split(), OFFLINE])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def screenshots():
    """The folder that keeps what the tests saw."""
    folder = ROOT / "runs" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
