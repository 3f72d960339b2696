"""Each notebook as Colab runs it: `make test-colab`. Not part of `make test`: it installs a TensorFlow for each Python.

An environment with Colab's versions and a stand-in for google.colab; the notebook alone in an empty folder; the set-up
cell installs the package from a git URL (this checkout's last commit), and must leave all other packages as they are.
"""

import glob
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.notebooks.copies import prepare, run
from tests.test_environment import EXTRAS
from tools.notebooks import NOTEBOOKS, ROOT, code_cells, read

# What Google Colab has installed, of what this package touches. The package must fit in without changing any of it.
COLAB = {
    "tensorflow": "2.20.0",
    "keras": "3.13.2",
    "matplotlib": "3.10.0",
    "h5py": "3.16.0",
    "protobuf": "5.29.6",
    "pydantic": "2.13.4",
}
# Python 3.13 is the present runtime, 3.12 that of 2026.07.
NUMPY = {"3.12": "2.0.2", "3.13": "2.1.3"}
PYTHONS = os.environ.get("COLAB_PYTHONS", "3.12 3.13").split()
# IPython and ipykernel in Colab's versions, which are years old; nbval runs the cells and compares.
INSTALLED = [f"{name}=={version}" for name, version in COLAB.items()]
INSTALLED += ["filelock", "tqdm", "ipython==7.34.0", "ipykernel==6.17.1", "nbval", "pytest", "pip"]
INSTALLED += ["aiohttp", "pyyaml", "click", "nbclient", "tenacity"]  # what papermill needs and Colab has
# What a notebook may install besides: weights, names of classes, exporters and runtimes, and what these bring along.
BESIDES = {Requirement(line).name for line in EXTRAS["pretrained"] + EXTRAS["deploy"]} | {"backports.strenum"}
BESIDES |= {"papermill", "entrypoints"}


def call(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {(done.stderr + done.stdout)[-3000:]}"
    return done.stdout


def find_python(version):
    """A working interpreter of that version: on the PATH, or one of pyenv's."""
    for found in (f"python{version}", *sorted(glob.glob(str(Path.home() / f".pyenv/versions/{version}.*/bin/python")))):
        try:
            call(found, "-c", "import venv")
            return found
        except (OSError, AssertionError):
            continue
    pytest.fail(f"Python {version} is not installed; install it, or name others: make test-colab COLAB_PYTHONS=3.13")


@pytest.fixture(scope="session", params=PYTHONS)
def colab(request, tmp_path_factory):
    """(python of the environment, variables): Colab's versions, IPython's start-up imports the stand-in."""
    folder = tmp_path_factory.mktemp(f"colab{request.param}")
    uv = [sys.executable, "-m", "uv"]
    call(*uv, "venv", "-q", "--python", find_python(request.param), "--no-python-downloads", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    call(*uv, "pip", "install", "-q", "--python", python, f"numpy=={NUMPY[request.param]}", *INSTALLED)
    (folder / "stand-in" / "google" / "colab").mkdir(parents=True)
    (folder / "stand-in" / "google" / "colab" / "__init__.py").touch()
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-colab.py").write_text("import google.colab\n")
    source = folder / "source.git"
    call("git", "clone", "-q", "--bare", ROOT, source)
    call("git", "-C", source, "branch", "-f", "copy", call("git", "-C", ROOT, "rev-parse", "HEAD").strip())
    return str(python), {
        "PYTHONPATH": str(folder / "stand-in"),
        "IPYTHONDIR": str(folder / "ipython"),
        "EFFNET_UTILS_SRC": f"git+file://{source}@copy",
    }


def freeze(python):
    return {line for line in call(python, "-m", "pip", "freeze").splitlines() if not line.startswith("effnet-utils")}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_as_on_colab(path, colab, tmp_path):
    python, variables = colab
    call(python, "-m", "pip", "uninstall", "-q", "-y", "effnet-utils", *BESIDES)
    before = freeze(python)
    run(prepare(path, tmp_path), python, variables)
    after = freeze(python)
    assert before <= after and {line.split("==")[0] for line in after - before} <= BESIDES
    assert f"tensorflow=={COLAB['tensorflow']}" in before


def test_set_up_cell_says_that_the_name_is_not_set(colab, tmp_path):
    python, variables = colab
    call(python, "-m", "pip", "uninstall", "-q", "-y", "effnet-utils")
    (tmp_path / "setup.ipy").write_text(code_cells(read(NOTEBOOKS[0]))[0].source)
    unset = {name: value for name, value in (os.environ | variables).items() if name != "EFFNET_UTILS_SRC"}
    ipython = [python, "-m", "IPython", "--colors=NoColor", "setup.ipy"]
    done = subprocess.run(ipython, cwd=tmp_path, env=unset, capture_output=True, text=True)
    unnamed = "OWNER/REPO" in (ROOT / "pyproject.toml").read_text()
    assert ("does not name its repository yet" in done.stdout + done.stderr) == unnamed
