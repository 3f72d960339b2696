"""JupyterLab as a reader's browser shows it: the lessons and a short training run to the end and draw every figure.

Copies of 01 to 06 and of 07 with the small values of overrides.yaml, without their outputs, run offline.
"""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import nbformat
import pytest

from tests.browser.looking import not_drawn, pictures
from tests.notebooks.copies import OFFLINE, with_small_values
from tools.notebooks import COLLAPSED, NOTEBOOKS, code_cells, read, tags

OPENED = [path for path in NOTEBOOKS if "01" <= path.name[:2] <= "07"]
TOKEN = secrets.token_hex(16)
# Every cell is in the page, not only those in view; no question to the reader and to the network.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
START = 60  # seconds that the server may take
RUN = 600  # seconds that one notebook may take

READY = """async () => {
    await window.jupyterapp.started;
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
}"""
RUN_ALL = """() => {
    const ended = () => { window.ended = true; };
    window.jupyterapp.commands.execute("notebook:run-all-cells").then(ended, ended);
}"""
# Remembers whether a bar that shows how far a training is has ever been in the page.
WATCH = """() => {
    const look = () => { window.sawBar ||= !!document.querySelector(".jp-OutputArea-output progress"); };
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
}"""
TALLEST = 16_000  # pixels that a screenshot keeps; Chromium draws no more
# With the bars above and below the notebook.
HEIGHT = "document.querySelector('.jp-NotebookPanel-notebook .jp-WindowedPanel-outer').scrollHeight + 200"


def free_port():
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(address, server, log):
    for _ in range(4 * START):
        try:
            return urllib.request.urlopen(f"{address}/api/status?token={TOKEN}", timeout=START).close()
        except urllib.error.URLError:
            assert server.poll() is None, f"JupyterLab ended: {log.read_text()[-3000:]}"
            time.sleep(0.25)
    raise AssertionError(f"JupyterLab did not answer within {START} s: {log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """(address, folder) of a JupyterLab that knows nothing of the user's settings and workspaces."""
    folder = tmp_path_factory.mktemp("notebooks")
    home = tmp_path_factory.mktemp("home")
    for name, values in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    variables = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    variables |= {f"JUPYTERLAB_{kind}_DIR": str(home / kind.lower()) for kind in ("SETTINGS", "WORKSPACES")}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")]))
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"]
    command += [f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"]
    log = home / "log.txt"
    with log.open("w") as file:
        server = subprocess.Popen(command, env=os.environ | variables, stdout=file, stderr=file)
    address = f"http://127.0.0.1:{port}"
    wait_for(address, server, log)
    yield address, folder
    server.terminate()
    server.wait(START)


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    # Only one kernel at a time: each takes up to two gigabytes.
    page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
    page.close()


def bare_copy(path, folder):
    copy = with_small_values(path, folder)
    notebook = read(copy)
    for cell in code_cells(notebook):
        cell.outputs = []
        cell.execution_count = None
    nbformat.write(notebook, copy)
    return copy


def open_notebook(page, address, name):
    """Open a notebook and wait until it can be run."""
    page.goto(f"{address}/lab/tree/{name}?token={TOKEN}&reset", wait_until="domcontentloaded")
    page.locator(".jp-NotebookPanel:visible").wait_for(timeout=1000 * START)
    page.evaluate(READY)


def run_cells(page, seconds):
    """Run all cells of the open notebook and wait for the end."""
    page.evaluate(RUN_ALL)
    page.wait_for_function("window.ended", timeout=1000 * seconds)


def run_all(page, address, name):
    """Open a notebook and run it as a reader does; returns it with its outputs."""
    open_notebook(page, address, name)
    mode = page.evaluate("window.jupyterapp.shell.currentWidget.content.notebookConfig.windowingMode")
    assert mode == "none", f"JupyterLab shows cells by {mode}: it refuses settings with a name that it does not know"
    page.evaluate(WATCH)
    run_cells(page, RUN)
    return nbformat.from_dict(page.evaluate("window.jupyterapp.shell.currentWidget.content.model.toJSON()"))


def figures(notebook):
    """The alt text of each figure among the outputs; JupyterLab keeps it in the notebook, not in its page."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [each.metadata["image/png"]["alt"] for each in outputs if "image/png" in each.get("data", {})]


@pytest.mark.parametrize("path", OPENED, ids=lambda path: path.stem)
def test_notebook_runs_whole_and_draws_its_figures(path, lab, page, screenshots):
    address, folder = lab
    done = run_all(page, address, bare_copy(path, folder).name)
    errors = [output for cell in code_cells(done) for output in cell.outputs if output.output_type == "error"]
    assert not errors, "\n".join(errors[0].traceback)
    assert [cell.execution_count for cell in code_cells(done)] == list(range(1, len(code_cells(done)) + 1))

    # The notebook scrolls inside the window.
    page.set_viewport_size({"width": 1280, "height": min(page.evaluate(HEIGHT), TALLEST)})
    page.screenshot(path=screenshots / f"lab_{path.stem}.png")
    images = pictures(page, "css:light=.jp-OutputArea-output img")  # not those that a live figure draws
    assert len(images) == len(figures(done)) == len(figures(read(path))) > 0
    assert not not_drawn(images) and all(text.strip() for text in figures(done))
    folded = [cell for cell in code_cells(done) if COLLAPSED in tags(cell)]
    assert page.locator(".jp-InputPlaceholder").count() == len(folded) > 0
    trains = path.name.startswith("07")
    assert page.evaluate("!!window.sawBar") == trains and page.locator(".jp-OutputArea-output progress").count() == 0
    assert not page.errors
