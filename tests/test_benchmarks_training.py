"""The scripts that train on CIFAR-10, the pilots and the GPU's ten epochs, on a handful of made-up images."""

import json
import sys
from pathlib import Path

import cifar_fixture
import keras
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import gpu  # noqa: E402
import pilots  # noqa: E402


@pytest.mark.slow
def test_a_gpu_run_writes_a_record_and_is_not_repeated(tmp_path, monkeypatch, capsys):
    cifar_fixture.write_folder(tmp_path)
    monkeypatch.setattr(gpu, "TINY", {"batch_size": 10, "epochs": 1, "train_limit": 20})
    arguments = [
        "--tiny", "--data-dir", str(tmp_path), "--layouts", "cifar-fast", "--rates", "0.01", "--out", str(tmp_path),
        "--precision", "mixed_bfloat16", "--seeds",
    ]  # fmt: skip
    before = keras.config.dtype_policy()
    try:
        gpu.main([*arguments, "3"])
        path = tmp_path / "gpu_cifar-fast_rate0.01_test_3.json"
        record = json.loads(path.read_text())
        assert record["parameters"]["precision"] == "mixed_bfloat16"
        assert record["parameters"]["seed"] == 3 and record["parameters"]["optimizer"] == "muon"
        assert record["results"]["test_accuracy"] in (0, 0.25, 0.5, 0.75, 1)
        assert record["results"]["flip_averaged_accuracy"] in (0, 0.25, 0.5, 0.75, 1)
        assert record["seconds"]["train"] > 0 and record["seconds"]["compile"] > 0
        assert "cifar-fast   0.01  test " in capsys.readouterr().out
        written = path.stat().st_mtime_ns
        with pytest.raises(SystemExit, match="no time left for 1 runs: gpu_cifar-fast_rate0.01_test_4"):
            gpu.main([*arguments, "3", "4", "--minutes", "0"])
        assert path.stat().st_mtime_ns == written
    finally:
        keras.config.set_dtype_policy(before)


def test_the_table_has_the_spread_of_the_seeds():
    def record(seed, accuracy, seconds):
        parameters = {"pilot": "cifar", "learning_rate": 0.01, "evaluate_on": "test", "seed": seed}
        results = {"test_accuracy": accuracy, "flip_averaged_accuracy": accuracy + 0.01}
        return {"parameters": parameters, "results": results, "seconds": {"train": seconds}}

    head, line = gpu.table([record(0, 0.90, 31), record(1, 0.92, 30), record(2, 0.93, 35)]).splitlines()
    assert head.split()[-2:] == ["training", "seconds"]
    assert line.split() == "cifar 0.01 test 3 92.00 90.00 93.00 93.00 31.0 (30.0 to 35.0)".split()


def test_pilots_combine_changes_and_name_an_unknown_one():
    assert pilots.differences("strides-stem-1+batch-64") == {"strides": (1, 1, 2, 2, 2, 1, 2, 1), "batch_size": 64}
    with pytest.raises(ValueError, match="unknown pilot batch-63; allowed, also joined by '\\+': base, "):
        pilots.differences("base+batch-63")


@pytest.mark.parametrize("name", [name for name in pilots.PILOTS if "optimizer" in pilots.PILOTS[name]])
def test_the_optimizers_of_the_pilots_move_every_weight(name):
    optimizer = pilots.PILOTS[name]["optimizer"](0.01)
    weights = [keras.Variable(keras.random.normal(shape, seed=1)) for shape in ((1, 1, 4, 6), (3, 3, 4, 1), (6,))]
    before = [keras.ops.copy(keras.ops.convert_to_numpy(weight)) for weight in weights]
    optimizer.build(weights)
    optimizer.apply([keras.ops.ones_like(weight) for weight in weights])
    for old, new in zip(before, weights, strict=True):
        assert keras.ops.max(keras.ops.abs(new - old)) > 1e-4
