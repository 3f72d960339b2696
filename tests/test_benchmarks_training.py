"""The scripts that train on CIFAR-10, the pilots and the GPU's ten epochs, on a handful of made-up images."""

import json
import sys
from pathlib import Path

import cifar_fixture
import keras
import numpy as np
import pytest

from effnet_utils import train

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import exact_pixels  # noqa: E402
import finetune  # noqa: E402
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


@pytest.mark.slow
def test_fine_tuning_chooses_a_rate_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    cifar_fixture.write_folder(tmp_path)
    monkeypatch.setattr(finetune, "CHECKPOINTS", tmp_path / "checkpoints")
    tiny = {"sides": [32, 64], "batch_size": 5, "choose_on": 10, "amounts": [0], "epochs": 2}
    monkeypatch.setattr(finetune, "TINY", tiny)
    arguments = ["--tiny", "--data-dir", str(tmp_path), "--out", str(tmp_path), "--precision", "float32", "--rates"]
    finetune.main([*arguments, "1e-3", "1e-4"])
    chosen = float(capsys.readouterr().out.split("chosen on the held-out images: ")[1].split()[0])
    path = tmp_path / f"finetune_lite0_32-64px_all_rate{chosen:g}_test_seed0.json"
    whole = json.loads(path.read_text())["results"]
    assert [row["epoch"] for row in whole["per_epoch"]] == [1, 2]
    assert len(list(tmp_path.glob("finetune_lite0_32-64px_10_rate*_validation_seed0.json"))) == 2
    assert not list((tmp_path / "checkpoints").glob("*/*"))
    assert (tmp_path / "checkpoints" / f"{path.stem}.keras").is_file()
    assert whole["flip_averaged_accuracy"] in (0, 0.25, 0.5, 0.75, 1)

    path.unlink()
    begin = train.EpochLines.on_epoch_begin

    def interrupt_in_second(lines, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt
        begin(lines, epoch, logs)

    with monkeypatch.context() as stopped:
        stopped.setattr(train.EpochLines, "on_epoch_begin", interrupt_in_second)
        with pytest.raises(KeyboardInterrupt):
            finetune.main([*arguments, "1e-3", "1e-4"])
    finetune.main([*arguments, "1e-3", "1e-4"])
    assert "1 epochs are done" in capsys.readouterr().out
    again = json.loads(path.read_text())["results"]
    assert again["test_accuracy"] == whole["test_accuracy"] and abs(again["loss"] - whole["loss"]) < 1e-3


def test_one_model_on_two_kinds_of_pixels():
    layers = [keras.layers.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
    model = keras.Sequential(layers)
    model.layers[-1].set_weights([np.zeros((3072, 10)), np.eye(10)[3]])  # says 3 whatever it sees
    labels = np.array([3, 3, 1, 3, 5])
    images = np.full((5, 32, 32, 3), 100, np.uint8)
    found = exact_pixels.compare(model, (images + 2, labels), (images[:4], labels[:4]))
    assert found["mirror"]["test_accuracy"] == found["exact"]["test_accuracy"] == 0.75
    assert found["pixels"]["mean_absolute_difference"] == 2
    assert found["by_chance"] == 1 and exact_pixels.by_chance(0, 3) == exact_pixels.by_chance(3, 0) == 2 / 8
    with pytest.raises(ValueError, match="different labels"):
        exact_pixels.compare(model, (images, labels), (images[:4], labels[1:]))


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
