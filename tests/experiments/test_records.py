"""Records are whole and have the same keys; a run's folder belongs to one process."""

import csv
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from effnet_utils.experiments import records
from effnet_utils.files import PARTIAL, shipped_folders

RECORD = dict.fromkeys(records.KEYS, {})


def test_records_are_written_whole_and_with_the_right_keys(tmp_path):
    records.write_record(tmp_path / "record.json", RECORD)
    assert json.loads((tmp_path / "record.json").read_text()) == RECORD
    with pytest.raises(ValueError, match="a record has the keys parameters"):
        records.write_record(tmp_path / "other.json", {"parameters": {}})
    with pytest.raises(TypeError):
        records.write_record(tmp_path / "other.json", {**RECORD, "results": {1, 2}})
    assert os.listdir(tmp_path) == ["record.json"]


def test_every_shipped_record_has_the_same_keys():
    folder, _ = shipped_folders()
    names = sorted(path.stem for path in folder.glob("*.json"))
    assert list(records.read_records("*")) == names
    for name in names:
        record = records.read_record(name)
        assert set(record) == set(records.KEYS)
        assert set(record["dataset"]) == {"name", "official", "source", "sha256", "n_train", "n_test"}
        training = {"setup", "compile", "train", "evaluate"}
        parts = {"11_deploy": {"setup", "export", "time", "int8"}, "benchmarks/screen.py": training | {"augment"}}
        assert set(record["seconds"]) == parts.get(record["notebook"], training)
        assert set(record["environment"]) == set(records.environment())
        assert "/" not in record["parameters"].get("data_dir", "")
        assert not [value for value in record["parameters"].values() if str(value).startswith(("/", "~"))]


def test_old_names_of_parameters_are_read_in_their_present_spelling():
    given = records.read_record("cifar10-jpeg_b0_cifar_seed0")["parameters"]
    assert given["max_train_samples"] == 0 and given["eval_split"] == "test"
    assert not set(records.OLD_NAMES) & set(given)


def test_records_are_found_by_name_and_pattern():
    assert list(records.read_records("benchmarks/pro*")) == ["benchmarks/proof"]
    assert records.read_record("benchmarks/proof") == records.read_records("benchmarks/pro*")["benchmarks/proof"]
    assert records.read_records("no such record") == {}
    with pytest.raises(FileNotFoundError, match="cifar10-jpeg_b0_cifar_seed0"):
        records.read_record("no such record")


def test_validation_accuracies_are_grouped_by_row_and_seed():
    accuracies = records.validation_accuracies("pilot_b*", "pilot")
    assert list(accuracies) == ["base", "batch-64", "bn-0.99"]
    one = records.read_record("pilot_bn-0.99_2")
    assert accuracies["bn-0.99"][2] == one["results"]["validation_accuracy"]
    assert set(accuracies["base"]) == {0, 1, 2}
    assert records.validation_accuracies("no such record", "pilot") == {}


def test_a_run_has_a_folder_of_its_own(tmp_path, monkeypatch):
    folder = records.RunFolder(tmp_path / "a" / "b", "07").path
    (folder / "record.json").write_text("{}")
    with pytest.raises(ValueError, match="already holds a record"):
        records.RunFolder(folder, "07")
    monkeypatch.chdir(tmp_path)
    first, second = (records.RunFolder("", "07_x").path for _ in range(2))
    assert first.parent == tmp_path / "runs" / "07_x" and first != second
    (tmp_path / "file.txt").write_text("in the way")
    for path in ("file.txt", "file.txt/deeper"):
        with pytest.raises(ValueError, match="cannot be written to"):
            records.RunFolder(tmp_path / path, "07")


@pytest.mark.slow
def test_a_folder_belongs_to_one_process(tmp_path):
    (tmp_path / f"{PARTIAL}1").write_bytes(b"half")
    ask = (
        f"from effnet_utils.experiments.records import RunFolder; run = RunFolder({str(tmp_path)!r}, '07'); run.lock()"
    )
    locked = [sys.executable, "-c", f"{ask}; run.lock(); print('locked', flush=True); input()"]
    with subprocess.Popen(locked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "locked\n"
        assert not list(tmp_path.glob(f"{PARTIAL}*"))
        refused = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
        assert refused.returncode == 1 and "is in use by another run; choose another" in refused.stderr
        holder.kill()
    assert subprocess.run([sys.executable, "-c", ask], capture_output=True).returncode == 0


def test_a_folder_is_free_again_after_the_block(tmp_path):
    for _ in range(2):
        with records.RunFolder(tmp_path, "07") as run:
            assert run.path == tmp_path
    assert not run._lock.is_locked


def test_history_is_a_table(tmp_path):
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    records.write_history(tmp_path / "history.csv", rows)
    with open(tmp_path / "history.csv", newline="") as file:
        assert list(csv.DictReader(file)) == [{"epoch": "1", "loss": "0.5"}, {"epoch": "2", "loss": "0.25"}]


def test_environment_and_memory():
    found = records.environment()
    assert found["keras"] == keras.__version__ and found["backend"] == keras.backend.backend()
    assert found["device"] and found["commit"] and found["cores"] >= 1
    assert 0.05 < records.peak_memory_gb() < 100


@pytest.mark.slow
def test_peak_memory_is_not_that_of_the_process_before():
    ballast = np.ones(1_500_000_000, np.uint8)
    ask = "from effnet_utils.experiments.records import peak_memory_gb; print(peak_memory_gb())"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert records.peak_memory_gb() > ballast.nbytes / 1e9 > 1.5 * float(done.stdout)
