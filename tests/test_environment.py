"""The files that say what to install agree with each other, and the Makefile sets up what they say."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NAME = re.fullmatch(r"https://github\.com/([^/]+/[^/]+)", PROJECT["urls"]["Repository"])[1]


def by_name(lines):
    """{name: [requirements]} of requirement lines; the package's own extras are left out."""
    found = {}
    for line in lines:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if name != PROJECT["name"]:
            found.setdefault(name, []).append(requirement)
    return found


CORE = by_name(PROJECT["dependencies"])
NEEDED = ("notebooks", "pretrained", "site", "browser", "dev")
ALL = by_name(PROJECT["dependencies"] + [line for name in NEEDED for line in EXTRAS[name]])


def locked():
    """The pins of requirements.lock; each entry is the requirement, then its hashes on lines of their own."""
    joined = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    return by_name(line.split("--hash")[0] for line in joined.splitlines() if line and not line.startswith("#"))


# --- What the files say -----------------------------------------------------------------------------------------


def test_ranges_not_pins():
    # A pin would make pip replace what Colab has, and TensorFlow takes minutes to replace.
    for (requirement,) in ALL.values():
        assert requirement.specifier, f"{requirement} has no lower bound"
        assert not any(part.operator in ("==", "===", "~=") for part in requirement.specifier), requirement


def test_lock_lies_in_the_ranges():
    pins = locked()
    for name, (requirement,) in ALL.items():
        assert name in pins, f"requirements.lock lacks {name}; run `make lock`"
        for pin in pins[name]:
            (version,) = pin.specifier
            assert version.version in requirement.specifier, f"{pin} is not {requirement}; run `make lock`"


def test_environment_names_what_pyproject_names():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, last = environment["dependencies"]
    # One installer for all that is Python: conda brings the interpreter only.
    assert conda == ["python=3.12", "pip"] and list(last) == ["pip"]
    named = by_name(line for line in last["pip"] if not line.startswith("-"))
    assert [line for line in last["pip"] if line.startswith("-")] == ["-e .[dev]"]
    assert {*CORE, "jupyterlab", "tensorflow", "matplotlib", "nbval", "papermill"} <= set(named)
    for name, requirements in named.items():
        assert requirements == ALL[name], f"{name}: bounds of environment.yml and pyproject.toml differ"


def test_backends_use_the_locked_versions():
    lines = (ROOT / "requirements-backends.txt").read_text().splitlines()
    named = by_name(line for line in lines if line and not line.startswith("#"))
    assert "tensorflow" not in named
    assert {*CORE} - {"tensorflow"} <= set(named)
    pins = locked()
    for name, requirements in named.items():
        if name not in ("jax", "jaxlib", "torch", "efficientnet-pytorch"):
            assert requirements == pins[name], f"{name}: requirements-backends.txt and requirements.lock differ"


def test_citation_agrees():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]
    assert citation["authors"] == PROJECT["authors"]
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])


def test_wheel_holds_the_records_and_the_published_figures(tmp_path):
    # The notebooks quote them, in Colab too, where only the installed package is there.
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("effnet_utils/**/*.py")} <= inside
    records = [path for path in (ROOT / "records").rglob("*") if path.suffix in (".json", ".csv")]
    assert {f"effnet_utils/_data/{path.relative_to(ROOT).as_posix()}" for path in records} <= inside
    assert {f"effnet_utils/_data/photos/{path.name}" for path in (ROOT / "data" / "photos").iterdir()} <= inside
    assert "effnet_utils/_data/published.json" in inside
    # What run_notebook("07") takes where there is no checkout.
    assert "effnet_utils/_data/notebooks/07_train_cifar10.ipynb" in inside
    assert "effnet_utils/_data/scripts/predict.py" in inside


# --- What the Makefile does -------------------------------------------------------------------------------------

needs_make = pytest.mark.skipif(
    sys.platform == "win32" or not shutil.which("make"), reason="needs make and a POSIX shell"
)

# Stands for a Python: tells its version, may lack venv, makes an environment that holds a copy of itself, and fails to
# install while a file "broken" is there. Every call is noted in "calls".
FAKE_PYTHON = """#!/bin/sh
echo "$@" >> calls
case "$*" in
*sys.version_info*) echo {version};;
*ensurepip*) exit {ensurepip};;
"-m venv --clear "*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python";;
*"-m uv "*) test ! -e broken -a ! -e nouv;;
*"pip "*) test ! -e broken;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """`make` in a copy of what it reads."""
    names = "Makefile pyproject.toml requirements.lock requirements-backends.txt README.md CITATION.cff"
    for name in names.split():
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns("images", ".*"))
    shutil.copytree(ROOT / "site", tmp_path / "site", ignore=shutil.ignore_patterns("_*", "explore*"))
    # Of a `make test` around these tests, nothing must reach the make that is tested.
    ours = ("MAKE", "MFLAGS", "ARGS", "REPO")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}

    def call(*arguments):
        return subprocess.run(["make", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)

    return call


def fake_python(folder, version="3.12.1", ensurepip=0):
    path = folder / "fakepython"
    path.write_text(FAKE_PYTHON.format(version=version, ensurepip=ensurepip))
    path.chmod(0o755)
    return "PYTHON=./fakepython"


@needs_make
def test_bench_lists_the_benchmarks_and_runs_the_one_that_is_named(make, tmp_path):
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    listed = [line.split()[0] for line in make("bench").stdout.splitlines()]
    assert listed == sorted(path.stem for path in ROOT.glob("benchmarks/[a-z]*.py"))
    unknown = make("bench", "BENCH=_common")
    assert unknown.returncode and "there is no benchmarks/_common.py" in unknown.stderr
    assert not (tmp_path / ".venv").exists()
    assert make("bench", "BENCH=cost", "ARGS=--tiny", fake_python(tmp_path)).returncode == 0
    assert (tmp_path / "calls").read_text().splitlines()[-1] == "-m benchmarks.cost --tiny"


@needs_make
@pytest.mark.parametrize(
    ("version", "ensurepip", "expected"),
    (
        ("3.10.13", 0, "is Python 3.10.13; needed: Python 3.11, 3.12 or 3.13. Name one: make run PYTHON=python3.12"),
        ("3.14.0", 0, "is Python 3.14.0; needed"),
        ("3.13.5", 1, "apt install python3-venv (or python3.13-venv)"),
        (None, 0, "./none is not installed; needed"),
    ),
)
def test_a_python_that_does_not_fit_stops_in_one_line(make, tmp_path, version, ensurepip, expected):
    done = make("run", fake_python(tmp_path, version, ensurepip) if version else "PYTHON=./none")
    assert done.returncode
    (line,) = done.stderr.splitlines()
    assert expected in line
    assert not (tmp_path / ".venv").exists()


@needs_make
def test_half_made_environment_is_made_again(make, tmp_path):
    python = fake_python(tmp_path)
    stamp = tmp_path / ".venv" / ".stamp"
    broken = tmp_path / "broken"
    calls = tmp_path / "calls"
    broken.touch()
    assert make(".venv/.stamp", python).returncode and not stamp.exists()
    broken.unlink()
    assert make(".venv/.stamp", python).returncode == 0
    assert calls.read_text().count("-m venv --clear") == 2

    # pip installs the lock only where uv cannot, and it is said.
    with_pip = "install -q --require-hashes -r requirements.lock"
    assert f"-m pip --disable-pip-version-check {with_pip}" not in calls.read_text()
    stamp.unlink()
    (tmp_path / "nouv").touch()
    assert "uv could not install them" in make(".venv/.stamp", python).stdout and stamp.exists()
    assert f"-m pip --disable-pip-version-check {with_pip}" in calls.read_text()

    # Complete: nothing to do, and the Python that made it is not needed any more.
    calls.unlink()
    assert make(".venv/.stamp", "PYTHON=./none").returncode == 0 and not calls.exists()


# --- The repository's name --------------------------------------------------------------------------------------


def public_text(folder):
    files = [folder / name for name in ("pyproject.toml", "README.md", "CITATION.cff")]
    files += sorted(folder.glob("notebooks/*.ipynb")) + sorted(folder.glob("site/*.md"))
    return {file.name: file.read_text(encoding="utf-8") for file in files}


@needs_make
def test_name_is_set_everywhere(make, tmp_path):
    readme = tmp_path / "README.md"
    cases = "{0} {0}. git@github.com:{0}.git https://github.com/{0}/blob"
    others = f" x{NAME} {NAME}s {NAME}.x"
    readme.write_text(readme.read_text(encoding="utf-8") + cases.format(NAME) + others, encoding="utf-8")
    before = public_text(tmp_path)
    for new in ("some-one/a.b_c", "another-one/d"):
        done = make("set-repo", f"REPO={new}")
        assert done.returncode == 0, done.stderr
        for name, text in public_text(tmp_path).items():
            assert text.count(new) == before[name].count(NAME) - (3 if name == "README.md" else 0), name
        assert readme.read_text(encoding="utf-8").endswith(cases.format(new) + others)


@needs_make
@pytest.mark.parametrize("name", ("", "name", "owner/", "/name", "a/b/c", "a b/c", "a/b'c", "a/b;c", "-a/b", "a/b.git"))
def test_malformed_name_stops_in_one_line(make, tmp_path, name):
    before = public_text(tmp_path)
    done = make("set-repo", f"REPO={name}") if name else make("set-repo")
    assert done.returncode
    (line,) = done.stderr.splitlines()
    assert "make set-repo REPO=owner/name" in line
    assert public_text(tmp_path) == before


def test_all_places_have_the_same_name():
    # Links by which a reader gets this repository's own files; links to other people's code have other forms.
    own = re.compile(
        r"(?:colab\.research\.google\.com/github/|git\+https://github\.com/|clone https://github\.com/)([\w.-]+/[\w.-]+)"
    )
    for file, text in public_text(ROOT).items():
        for found in own.findall(text):
            assert found.removesuffix(".git").rstrip(".") == NAME, file
        assert NAME == "OWNER/REPO" or "OWNER/REPO" not in text, file
