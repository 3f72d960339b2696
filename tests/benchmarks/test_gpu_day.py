"""The command for a day with a GPU: all its parts on a CPU with the smallest values, and what it does with its time."""

import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from benchmarks import gpu_check, gpu_day, gpu_profile
from tools import gpu_kit, measured
from tools.notebooks import ROOT


@pytest.fixture
def data(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (240, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(240, dtype=np.uint8) % 10
    np.savez(tmp_path / "cifar10.npz", x_train=images, y_train=labels, x_test=images, y_test=labels, source="noise")
    return tmp_path / "cifar10.npz"


def record_runs(monkeypatch, seconds=0, code=0):
    """The commands that would be started; each takes so many seconds of a clock that stands still otherwise."""
    clock = [0.0]
    started = []

    def run(command, **options):
        started.append(command[2:])
        clock[0] += seconds
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(gpu_day.subprocess, "run", run)
    monkeypatch.setattr(gpu_day.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(gpu_day, "set_up", lambda: None)
    return started


def test_no_part_begins_that_would_not_end(tmp_path, monkeypatch, capsys):
    started = record_runs(monkeypatch, seconds=100)
    gpu_day.main(["--output-dir", str(tmp_path), "--minutes", "5"])
    # At 0, 100 and 200 s; at 300 s the time is over.
    assert [command[0] for command in started] == ["benchmarks.gpu_check", "benchmarks.gpu", "benchmarks.gpu"]
    assert "test: not begun, 0 s are left" in capsys.readouterr().out


def test_nothing_is_measured_on_a_machine_that_computes_something_else(tmp_path, monkeypatch):
    started = record_runs(monkeypatch, code=1)
    with pytest.raises(SystemExit, match="failed or cut off: check"):
        gpu_day.main(["--output-dir", str(tmp_path)])
    assert len(started) == 1


def test_the_rate_is_the_best_on_validation_images(tmp_path):
    assert gpu_day.chosen_rate(tmp_path, "cifar") == gpu_day.DEFAULT_RATE
    for rate, accuracy in (("0.006", 0.91), ("0.01", 0.9)):
        record = {"results": {"validation_accuracy": accuracy}}
        (tmp_path / f"gpu_cifar_rate{rate}_validation_0.json").write_text(json.dumps(record))
    assert gpu_day.chosen_rate(tmp_path, "cifar") == "6e-3"


def test_jpeg_files_become_what_load_cifar10_takes(tmp_path):
    files = []
    for value in range(12):
        file = tmp_path / "one.jpg"
        Image.new("RGB", (32, 32), (20 * value,) * 3).save(file)
        files.append(file.read_bytes())
    offsets = np.cumsum([0, *map(len, files)])
    jpeg = np.frombuffer(b"".join(files), np.uint8)
    np.savez(tmp_path / "packed.npz", jpeg=jpeg, jpeg_offsets=offsets, labels=np.arange(12, dtype=np.uint8))
    gpu_day.unpack(tmp_path / "packed.npz", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found:
        assert found["x_train"].shape == (10, 32, 32, 3) and list(found["y_test"]) == [10, 11]
        assert abs(int(found["x_test"][1].mean()) - 220) <= 1


def test_the_kit_takes_the_locked_versions(tmp_path, capsys):
    for package in gpu_kit.PACKAGES:
        assert f"\n{gpu_kit.locked(package)} " in (ROOT / "requirements.lock").read_text()
    with pytest.raises(SystemExit):
        gpu_kit.main([str(tmp_path / "none.npz")])
    assert "none.npz is not there; expected a file of JPEG images" in capsys.readouterr().err


def test_another_network_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "logits", lambda variant: np.arange(8.0))
    expected = tmp_path / "expected.npz"
    arguments = ["--tiny", "--expected", str(expected), "--output-dir", str(tmp_path)]
    gpu_check.main(["--write", *arguments])
    gpu_check.main(arguments)
    assert json.loads((tmp_path / "gpu_check.json").read_text())["differences"] == {"b0": 0}
    monkeypatch.setattr(gpu_check, "logits", lambda variant: np.arange(8.0) + 0.01)
    with pytest.raises(SystemExit, match="would measure another network"):
        gpu_check.main(arguments)


def test_a_profile_begins_with_the_longest_operation():
    found = gpu_profile.percentages({"a": 0.001, "b": 0.003}, 0.005)
    assert found == [
        " 75.0%       3.00 ms  b",
        " 25.0%       1.00 ms  a",
        "2 names, 4.00 ms in all, in steps that took 5.00 ms",
    ]


def test_the_code_behind_its_records_is_known():
    for name in ("gpu_check", *gpu_day.RECORDS.values()):
        assert measured.code_behind(f"benchmarks/{name}")


@pytest.mark.slow
def test_its_parts_run_on_a_cpu(tmp_path, data, monkeypatch):
    """With the backend of these tests; the scripts of the other parts have tests of their own."""
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setattr(gpu_day, "KIT", tmp_path / "kit")
    monkeypatch.setattr(gpu_day, "LAYOUTS", ("cifar-fast",))
    monkeypatch.setattr(gpu_day, "RATES", ("1e-2",))
    (tmp_path / "kit").mkdir()
    expected = tmp_path / "kit" / "expected_tiny.npz"
    write = [sys.executable, "-m", "benchmarks.gpu_check", "--tiny", "--write", "--expected", expected]
    subprocess.run(write, cwd=ROOT, env=os.environ, check=True)
    every = list(gpu_day.parts(tmp_path / "records", data, tiny=True))
    assert [name for name, *_ in every] == ["check", "choose", "test", "step", "fine-tune", "batches", "profile"]
    monkeypatch.setattr(gpu_day, "done", lambda name, folder: name not in ("check", "batches"))
    arguments = ["--tiny", "--output-dir", str(tmp_path / "records"), "--data", str(data)]
    gpu_day.main([*arguments, "--bundle", str(tmp_path / "gpu.tar")])
    with tarfile.open(tmp_path / "gpu.tar") as file:
        names = file.getnames()
    assert names == ["batches_gpu.json", "gpu_check.json"]
