"""Each command of the README works where nothing but `make run` has been done; long ones with small values."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request

import nbformat
import numpy as np
import pytest

from effnet_utils.experiments.run import TRIALS
from tools.notebooks import ROOT, tags

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the commands are for make and a POSIX shell"),
]

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Fenced blocks without a language hold commands, one a line.
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"^```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
# These need the network: they are read, and tests/notebooks/colab.py installs the package from a git address.
FROM_NETWORK = ("git clone ", "cd ", "pip install git+")
# An epoch of two steps; of a third of B0's widths and depths in all but the first command.
SHORT = "-p epochs=1 -p max_train_samples=128"
THIRD = '{"width": 0.3, "depth": 0.3}'
SMALL = f"{SHORT} -p overrides='{THIRD}'"
QUOTED = SMALL.replace('"', r"\"")
# How the commands that train are shortened.
SHORTER = {
    "make run": f'make run ARGS="{SHORT}"',
    "-p epochs=3": SMALL,
    "-p epochs=2": SMALL,
    "-p epochs 2": f"-p epochs 1 -p max_train_samples 128 -r overrides '{THIRD}'",
    "-p epochs=10": f"{QUOTED} -p data_dir=small.npz",
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout with its environment, as it is after `make run`."""
    folder = tmp_path_factory.mktemp("readme") / "efficientnet"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    # Without the cells that `run --no-trials` leaves out, too; test_notebooks.py runs all.
    seven = nbformat.read(folder / "notebooks" / "07_train_cifar10.ipynb", 4)
    seven.cells = [cell for cell in seven.cells if not TRIALS & set(tags(cell))]
    nbformat.write(seven, folder / "notebooks" / "07_train_cifar10.ipynb")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (256, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(256, dtype=np.uint8) % 10
    np.savez(folder / "small.npz", x_train=images, y_train=labels, x_test=images, y_test=labels, source="noise")
    return folder


def shell(activated=False):
    """The variables of a shell in which no environment is activated, or this project's."""
    path = [folder for folder in os.environ["PATH"].split(os.pathsep) if ".venv" not in folder]
    if activated:
        path.insert(0, str(ROOT / ".venv" / "bin"))
    private = ("MAKE", "MFLAGS", "PYTHON", "VIRTUAL_ENV", "KERAS", "PYTEST", "ARGS", "BENCH", "NB")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(private)}
    return kept | {"PATH": os.pathsep.join(path)}


def shortened(command):
    for text, replacement in SHORTER.items():
        if text == command or (" " in text and text.startswith("-p") and text in command):
            return command.replace(text, replacement)
    return command


@pytest.mark.parametrize("command", [line for line in COMMANDS if not line.startswith((*FROM_NETWORK, "make lab"))])
def test_command(checkout, command):
    if "jupyterlab" in command:
        opens_lab(f"{command} --no-browser --allow-root", checkout, shell(activated=True))
        return
    environment = shell(activated=command.startswith("python "))
    done = subprocess.run(
        shortened(command), shell=True, cwd=checkout, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    if ">" in command:
        assert "def efficientnet(" in (checkout / command.split("> ")[1]).read_text()


def test_make_lab(checkout):
    assert "make lab" in COMMANDS
    assert opens_lab('make lab ARGS="--no-browser"', checkout, shell()) == "/lab/tree/notebooks/00_start_here.ipynb"


def opens_lab(command, folder, environment):
    """The page whose address the command prints; its notebooks have the environment's kernel."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment["JUPYTER_PORT"] = str(port)
    server = subprocess.Popen(
        command, shell=True, cwd=folder, env=environment, text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    too_late = threading.Timer(120, os.killpg, (server.pid, signal.SIGKILL))
    too_late.start()
    try:
        found = None
        while found is None:
            line = server.stderr.readline()
            assert line, "the server printed no address, and has ended"
            found = re.search(rf"http://127\.0\.0\.1:{port}(/lab\S*)\?token=(\w+)", line)
        page, token = found.groups()
        assert list(kernels(f"http://127.0.0.1:{port}/api/kernelspecs?token={token}")) == ["python3"]
        return page
    finally:
        too_late.cancel()
        os.killpg(server.pid, signal.SIGKILL)  # while it starts, it may not hear a gentler signal
        server.communicate()


def kernels(address):
    """What the server offers. It prints its address a moment before it listens."""
    for _ in range(40):
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)["kernelspecs"]
        except urllib.error.URLError:
            time.sleep(0.5)
    raise TimeoutError(f"nothing answers at {address}")


def test_addresses_are_those_of_the_project():
    with (ROOT / "pyproject.toml").open("rb") as file:
        repository = tomllib.load(file)["project"]["urls"]["Repository"]
    assert COMMANDS[:2] == [f"git clone {repository}.git efficientnet", "cd efficientnet"]
    assert f"pip install git+{repository}.git" in COMMANDS


def test_it_is_one_page():
    # As GitHub shows it: without addresses, HTML and comments.
    shown = re.sub(r"<!--.*?-->|<[^>]*>|\]\([^)]*\)|[|`*\[\]!-]", " ", README, flags=re.DOTALL)
    assert len([word for word in shown.split() if re.search(r"\w", word)]) <= 1200
