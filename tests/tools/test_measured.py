"""Records of code that has changed are told from the others, and so are those of code that was never committed."""

import json
import subprocess

import pytest

from tools import measured


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a file and two records of it; the file's code is changed after the first."""

    def git(*arguments):
        who = ("-c", "user.name=n", "-c", "user.email=e")
        return subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True, text=True)

    def commit(text):
        (tmp_path / "code.py").write_text(text)
        git("add", ".")
        git("commit", "-qm", "x")
        return git("rev-parse", "HEAD").stdout.strip()

    def record(name, commit):
        (tmp_path / "records" / f"{name}.json").write_text(json.dumps({"environment": {"commit": commit}}))

    git("init", "-q")
    (tmp_path / "records").mkdir()
    record("old_0", commit("a = 1\n"))
    record("old_1", commit('"""Said more."""\n\n# why\na = 2\n'))
    (tmp_path / "code.py").write_text('"""Said otherwise."""\n\na = 2  # two\n')
    monkeypatch.setattr(measured, "ROOT", tmp_path)
    monkeypatch.setattr(measured, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(measured, "LIST", tmp_path / "records" / "measured_before.txt")
    monkeypatch.setattr(measured, "CODE", {"old_": ("code.py",)})
    measured.changed.cache_clear()
    measured.known.cache_clear()
    yield record
    measured.changed.cache_clear()
    measured.known.cache_clear()


def test_code_that_changed_is_told_from_words_that_changed(repository):
    assert measured.measured_before() == (["old_0"], [])
    (problem,) = measured.problems()
    assert "not right about old_0; `make tables` writes it" in problem
    measured.main()
    assert measured.listed() == ["old_0"] and not [*measured.problems()]


def test_a_record_of_uncommitted_code_is_refused(repository):
    measured.main()
    commit = measured.commits()["old_1"]
    repository("old_1", f"{commit}-dirty")
    (problem,) = measured.problems()
    assert problem.startswith("records/old_1.json was measured with code that is not committed")


def test_a_commit_that_is_not_in_the_history_is_named_and_not_guessed(repository):
    measured.main()
    repository("old_0", 40 * "0")
    assert measured.measured_before() == ([], ["old_0"]) and not [*measured.problems()]
    with pytest.raises(SystemExit, match="does not have the commits of old_0"):
        measured.main()


def test_a_new_kind_of_record_asks_for_its_files(repository):
    repository("new_0", measured.commits()["old_1"])
    with pytest.raises(KeyError, match="no files are named for this kind"):
        measured.measured_before()


def test_each_file_named_is_there():
    for files in measured.CODE.values():
        assert all((measured.ROOT / file).is_file() for file in files)
