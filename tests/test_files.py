"""Paths, atomic writes, and the files that ship with the package."""

import os
import stat

import pytest

from effnet_utils import files


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    (root / "effnet_utils").mkdir(parents=True)
    (root / "effnet_utils" / "files.py").touch()
    (root / "pyproject.toml").touch()
    (root / "notebooks" / "deep").mkdir(parents=True)
    return root


def test_the_python_of_the_checkout_is_called_by_its_path(repository, monkeypatch):
    monkeypatch.chdir(repository / "notebooks")
    monkeypatch.setattr(files.sys, "prefix", str(repository / ".venv"))
    assert files.python_command() == f".venv/{'Scripts' if os.name == 'nt' else 'bin'}/python"
    monkeypatch.setattr(files.sys, "prefix", "/usr")
    assert files.python_command() == "python"


def test_relative_paths_count_from_the_repository_root(repository, monkeypatch):
    for here in (repository, repository / "notebooks" / "deep"):
        monkeypatch.chdir(here)
        assert files.project_path("data") == repository / "data"


def test_relative_paths_without_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert files.project_path("here") == tmp_path / "here"
    assert files.project_path("~/data") == tmp_path / "home" / "data"
    assert files.project_path(tmp_path / "absolute") == tmp_path / "absolute"


def test_atomic_write_replaces_a_file_only_when_it_is_complete(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with files.atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert any(other.name.startswith(files.PARTIAL) for other in tmp_path.iterdir())
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()])
def test_interrupted_atomic_write_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), files.atomic_write(path) as file:
        file.write(b"ne")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_shipped_files_are_found_in_a_checkout_and_in_an_installed_package(tmp_path, monkeypatch):
    records, data = files.shipped_folders()
    assert (records / "benchmarks").is_dir()
    assert (data / "published.json").is_file()
    assert {"cat", "espresso", "rocket"} <= set(files.photographs())
    assert files.shipped_script("predict.py").is_file()
    inside = tmp_path / "_data"
    (inside / "photos").mkdir(parents=True)
    (inside / "photos" / "a.jpg").touch()
    monkeypatch.setattr(files, "__file__", str(tmp_path / "files.py"))
    assert files.shipped_folders() == (inside / "records", inside)
    assert files.photographs() == {"a": inside / "photos" / "a.jpg"}
    assert files.shipped_script("predict.py") == inside / "scripts" / "predict.py"


def test_published_tables_have_sources():
    table = files.read_published("imagenet_v5")
    assert "EfficientNet" in table["source"] and {"where", "columns", "rows"} <= set(table)
    with pytest.raises(KeyError, match="no table 'imagenet'; tables: .*imagenet_v5"):
        files.read_published("imagenet")
