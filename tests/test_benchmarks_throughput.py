"""The benchmark of throughput: what it compares, what it refuses, and one implementation at a size of seconds."""

import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import throughput  # noqa: E402


def made_up(names=("ours", "keras.applications", "PyTorch compiled")):
    rates = {name: [100.0 * (k + 1), 110.0 * (k + 1)] for k, name in enumerate(names)}
    return {
        "what": "made up",
        "images_per_second": {
            task: {name: throughput.spread(values) for name, values in rates.items()} for task in throughput.TASKS
        },
        "ratio": {task: throughput.ratios(rates, throughput.pairs_of(list(names))) for task in throughput.TASKS},
    }


@pytest.mark.slow
def test_one_implementation_at_a_tiny_size(monkeypatch):
    monkeypatch.setattr(throughput, "CPU", {"ours": throughput.OURS})
    record, profiles = throughput.measure("cpu", "cifar-fast", rounds=2, tiny=True, minutes=5)
    assert profiles == {} and record["failed"] == {} and record["rounds"] == 2
    ours = record["implementations"]["ours"]
    assert ours["trainable"] == 4_020_358
    assert ours["maps"] == [16, 16, 16, 8, 4, 4, 2, 2]
    assert ours["output"] == [8, 10]
    assert ours["compile_seconds"]["train"] > 0
    for task in throughput.TASKS:
        found = record["images_per_second"][task]["ours"]
        assert 0 < found["min"] <= found["median"] <= found["max"]


def test_ratios_are_formed_within_the_rounds():
    found = throughput.ratios({"a": [10, 30, 80], "b": [10, 20, 20]}, [("a", "b")])
    assert found["a / b"]["min"] == 1 and found["a / b"]["median"] == 1.5 and found["a / b"]["max"] == 4


def test_pairs():
    assert throughput.pairs_of(["ours", "x", "y"]) == [("ours", "x"), ("ours", "y")]
    assert throughput.pairs_of(list(throughput.CPU))[-1] == ("ours, plain operations", "ours, arrays")
    assert throughput.pairs_of(list(throughput.GPU)) == [
        ("ours, JAX", "ours, PyTorch"), ("ours, JAX", "timm"), ("ours, PyTorch", "timm"),
    ]  # fmt: skip


@pytest.mark.parametrize("key", ("trainable", "maps"))
def test_different_networks_are_not_compared(key):
    same = {"trainable": 1, "maps": [2, 1]}
    throughput.check_equal({"a": same, "b": {**same}})
    with pytest.raises(ValueError, match=f"differ in {key}"):
        throughput.check_equal({"a": same, "b": {**same, key: 7}})


def test_options_of_the_workers():
    options = throughput.worker_options("cpu", "imagenet", tiny=False)
    assert list(options) == list(throughput.CPU)
    assert {row["batch_size"] for row in options.values()} == {128}
    assert options["ours"]["compiled"] is False and options["ours, XLA"]["compiled"] is True
    # keras.applications has the paper's strides and no others.
    assert "keras.applications" not in throughput.worker_options("cpu", "cifar", tiny=False)
    assert {row["precision"] for row in throughput.worker_options("gpu", "cifar", False).values()} == {"mixed_bfloat16"}


@pytest.mark.slow
def test_a_worker_that_cannot_start_says_why():
    options = {**throughput.worker_options("cpu", "imagenet", tiny=True)["ours"], "layout": "none"}
    worker = throughput.Worker("ours", options, time.monotonic() + 120)
    with pytest.raises(throughput.WorkerError, match=r"(?s)ours stopped.*layout.*none"):
        worker.read()
    worker.stop()


def test_a_slow_worker_is_not_waited_for():
    worker = throughput.Worker(
        "ours", throughput.worker_options("cpu", "imagenet", tiny=True)["ours"], time.monotonic()
    )
    with pytest.raises(throughput.WorkerError, match="not done in time"):
        worker.read()
    worker.stop()
    assert worker.process.returncode


def test_without_a_gpu_nothing_is_measured_for_one(monkeypatch):
    monkeypatch.setattr(throughput.records, "device_name", lambda: "CPU: some")
    with pytest.raises(SystemExit, match="needs a GPU"):
        throughput.check_machine("gpu", False, {})


def test_an_absent_python_is_named(tmp_path):
    with pytest.raises(SystemExit, match="nowhere.*make .venv-backends"):
        throughput.check_machine("cpu", False, {"x": {"python": str(tmp_path / "nowhere")}})


def test_tables_and_files(tmp_path):
    record = made_up()
    text = throughput.tables(record)
    assert "ours / keras.applications" in text and "train, images/s" in text
    path = throughput.write(tmp_path / "new", "cpu", record, {})
    assert path.name == "throughput_cpu.json" and sorted(tmp_path.rglob("*.json")) == [path]
    throughput.write(tmp_path / "new", "gpu", record, {"what": "96 steps"})
    assert (tmp_path / "new" / "throughput_gpu_profile.json").is_file()


@pytest.mark.parametrize("arguments", (["--rounds", "0"], ["--layout", "none"], ["--on", "tpu"]))
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        throughput.parse(arguments)
    assert arguments[1] in capsys.readouterr().err
