"""The scripts that train on CIFAR-10, on a handful of made-up images."""

import json

import keras
import numpy as np
import pytest

from benchmarks import _common, ablations, exact_pixels, finetune, gpu, pilots, screen
from effnet_utils.training.trainer import EpochLogger
from tests.tiny import third


def arguments_of(folder):
    return ["--data-dir", str(folder), "--output-dir", str(folder)]


@pytest.fixture
def folder(tmp_path):
    """With 20 training and 4 test images; whatever precision a script sets is undone."""
    rng = np.random.default_rng(7)
    arrays = {}
    for split, n in (("train", 20), ("test", 4)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{split}"] = rng.integers(0, 10, n, dtype=np.uint8)
    np.savez(tmp_path / "cifar10.npz", **arrays)
    before = keras.config.dtype_policy()
    yield tmp_path
    keras.config.set_dtype_policy(before)


def test_the_validation_images_are_held_out(folder):
    (images, labels), (test_images, _) = _common.load_split(folder, 0, "test")
    assert len(images) == len(labels) == 20 and len(test_images) == 4
    (trained, _), (held_out, held_out_labels) = _common.load_split(folder, 5, "validation")
    assert np.array_equal(trained, images[:5])
    assert np.array_equal(held_out, images[18:]) and np.array_equal(held_out_labels, labels[18:])


def test_old_spellings_of_options_are_understood(folder, monkeypatch):
    asked = {}
    monkeypatch.setattr(finetune, "run_missing", lambda given, _, runs, train: asked.update({given.output_dir: runs}))
    finetune.main(["--sizes", "128", "224", "--eval-split", "validation", "--output-dir", "new", "--amounts", "0"])
    finetune.main(["--sides", "128", "224", "--evaluate-on", "validation", "--out", "old", "--amounts", "0"])
    new, old = asked.values()
    assert old == new and list(new) == ["finetune_lite0_128-224px_all_rate0.0005_validation_seed0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "name"),
    (
        (gpu, ["--layouts", "cifar-fast", "--eval-split", "validation"], "gpu_cifar-fast_rate0.01_validation_3"),
        (pilots, ["--only", "averaged+strides-stem-1+translate-4"], "pilot_averaged+strides-stem-1+translate-4_3"),
    ),
)
def test_a_run_writes_a_record_and_is_not_repeated(script, arguments, name, folder, monkeypatch):
    monkeypatch.setattr(_common, "efficientnet", third)
    monkeypatch.setattr(script, "TINY", {"batch_size": 9, "epochs": 1, "max_train_samples": 18})
    arguments = ["--tiny", "--seeds", "3", *arguments, *arguments_of(folder)]
    script.main(arguments)
    record = json.loads((folder / f"{name}.json").read_text())
    assert record["parameters"]["seed"] == 3 and record["notebook"] == f"benchmarks/{script.__name__[11:]}.py"
    assert record["results"].keys() >= {"validation_accuracy", "flip_averaged_accuracy", "per_epoch"}
    assert record["seconds"]["train"] > 0 and record["seconds"]["compile"] > 0
    if script is pilots:
        assert record["parameters"]["optimizer"] == "averaged" and record["parameters"]["strides"][0] == 1
        assert record["parameters"]["overrides"] == {"translate": 4}
    written = (folder / f"{name}.json").stat().st_mtime_ns
    script.main(arguments)
    assert (folder / f"{name}.json").stat().st_mtime_ns == written


def test_an_unknown_pilot_is_named():
    with pytest.raises(ValueError, match="unknown pilot batch-63; allowed, also joined by '\\+': base, "):
        pilots.settings_of("base+batch-63")


@pytest.mark.slow
def test_fine_tuning_resumes_where_it_was_stopped(folder, monkeypatch):
    monkeypatch.setattr(finetune, "CHECKPOINTS", folder / "checkpoints")
    monkeypatch.setattr(finetune, "TINY", {"sizes": [32, 64], "batch_size": 5, "amounts": [0], "epochs": 2})
    arguments = ["--tiny", "--precision", "float32", "--rates", "1e-3", *arguments_of(folder)]
    begin = EpochLogger.on_epoch_begin
    begun = []

    def begin_or_stop(logger, epoch, logs=None):
        if begun == [0]:
            begun.append("stopped")
            raise KeyboardInterrupt
        begun.append(epoch)
        begin(logger, epoch, logs)

    monkeypatch.setattr(EpochLogger, "on_epoch_begin", begin_or_stop)
    with pytest.raises(KeyboardInterrupt):
        finetune.main(arguments)
    finetune.main(arguments)
    assert begun == [0, "stopped", 1]
    (path,) = folder.glob("finetune_lite0_32-64px_all_rate0.001_test_seed0.json")
    assert [row["epoch"] for row in json.loads(path.read_text())["results"]["per_epoch"]] == [1, 2]
    assert {found.name for found in (folder / "checkpoints").rglob("*")} == {path.stem, f"{path.stem}.keras"}


@pytest.mark.slow
@pytest.mark.parametrize("row", ["cutout", "block6a"])
def test_a_row_of_the_screen_changes_what_it_says(row, folder, monkeypatch):
    tiny = {"image_size": 32, "batch_size": 9, "epochs": 2, "max_train_samples": 18}
    monkeypatch.setattr(screen, "CHECKPOINTS", folder / "checkpoints")
    monkeypatch.setattr(screen, "TINY", tiny)
    screen.main(["--tiny", "--only", row, "--seeds", "1", *arguments_of(folder)])
    record = json.loads((folder / f"screen_{row}_seed1.json").read_text())
    expected = {**screen.BASE, **screen.ROWS[row], **tiny, "row": row, "seed": 1}
    assert record["parameters"].items() >= expected.items() and record["notebook"] == "benchmarks/screen.py"
    assert [each["epoch"] for each in record["results"]["per_epoch"]] == [1, 2]
    assert (record["seconds"]["augment"] > 0) == (row == "cutout")
    assert (record["parameters"]["weights_that_learn"] == 3_328_992) == (row == "cutout")


def test_targets_that_change_reach_the_training():
    batches = screen.SoftBatches(np.arange(10), 5, 10, finetune.RECIPE, 0)
    _, before = batches[1]
    batches.targets = batches.targets / 2
    inputs, after = batches[1]
    assert np.array_equal(after, before / 2) and np.array_equal(after.argmax(axis=1), inputs["index"])


def test_each_augmentation_of_the_screen_depends_on_seed_and_epoch(folder):
    (images, labels), _ = _common.load_split(folder, 0, "test")
    targets = np.eye(10, dtype=np.float32)[labels]
    for name in screen.LAYERS:
        found, found_targets = screen.augmented(images, targets, name, 3, 0)
        assert found.dtype == np.uint8 and found.shape == images.shape and np.any(found != images)
        assert np.allclose(found_targets.sum(axis=1), 1) and np.any(found_targets != targets) == (name == "mixup")
        assert np.array_equal(found, screen.augmented(images, targets, name, 3, 0)[0])
        for seed, epoch in ((3, 1), (4, 0)):
            assert np.any(found != screen.augmented(images, targets, name, seed, epoch)[0])


def test_cutout_hides_a_square_of_16_pixels(folder):
    (images, labels), _ = _common.load_split(folder, 0, "test")
    found, _ = screen.augmented(images, np.eye(10, dtype=np.float32)[labels], "cutout", 0, 0)
    hidden = np.any(found != images, axis=-1)
    assert np.all(found[hidden] == 128)
    for axis in (1, 2):
        assert np.all(hidden.any(axis=axis).sum(axis=1) == 16)


@pytest.mark.slow
def test_the_screen_resumes_where_it_was_stopped(folder, monkeypatch):
    """And ends with the figures of a run that was never stopped."""
    tiny = {"image_size": 32, "batch_size": 9, "epochs": 3, "max_train_samples": 18}
    monkeypatch.setattr(screen, "CHECKPOINTS", folder / "checkpoints")
    monkeypatch.setattr(screen, "TINY", tiny)
    arguments = ["--tiny", "--only", "mixup", "--seeds", "0", "--data-dir", str(folder)]
    screen.main([*arguments, "--output-dir", str(folder / "whole")])
    augmented = screen.augmented

    def augment_or_stop(images, targets, name, seed, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return augmented(images, targets, name, seed, epoch)

    monkeypatch.setattr(screen, "augmented", augment_or_stop)
    with pytest.raises(KeyboardInterrupt):
        screen.main([*arguments, "--output-dir", str(folder / "resumed")])
    monkeypatch.setattr(screen, "augmented", augmented)
    screen.main([*arguments, "--output-dir", str(folder / "resumed")])
    losses = []
    for run in ("whole", "resumed"):
        record = json.loads((folder / run / "screen_mixup_seed0.json").read_text())
        losses.append([row["loss"] for row in record["results"]["per_epoch"]])
    assert len(losses[0]) == 3 and losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert not list((folder / "checkpoints").rglob("checkpoint-*"))


@pytest.mark.slow
def test_an_ablation_writes_the_record_of_its_run(tmp_path, monkeypatch):
    monkeypatch.setattr(ablations, "RUNS", tmp_path / "runs")
    ablations.main(["--tiny", "--only", "scale-start", "--seeds", "1", "--output-dir", str(tmp_path)])
    record = json.loads((tmp_path / "ablation_scale-start_seed1.json").read_text())
    assert record["notebook"] == "07_train_cifar10" and record["parameters"]["seed"] == 1
    assert json.loads(record["parameters"]["overrides"]) == {"resolution": 16, "width": 0.3, "depth": 0.5}


def test_failed_ablations_are_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablations, "run_many", lambda runs, *_: [(name, None, "no memory") for name in runs])
    with pytest.raises(SystemExit, match="2 runs failed"):
        ablations.main(["--only", "base", "--seeds", "0", "1", "--output-dir", str(tmp_path)])
    assert "ablation_base_seed1: no memory" in capsys.readouterr().out


def test_one_model_on_two_kinds_of_pixels(folder):
    model = keras.Sequential([keras.layers.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.save(folder / "any.keras")
    exact_pixels.main([str(folder / "any.keras"), "--exact-dir", str(folder), *arguments_of(folder)])
    results = json.loads((folder / "exact_pixels_any.json").read_text())["results"]
    assert results["mirror"] == results["exact"] and results["p_value"] == 1
    assert exact_pixels.mcnemar_p_value(0, 3) == exact_pixels.mcnemar_p_value(3, 0) == 2 / 8
    images = np.zeros((2, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="different labels"):
        exact_pixels.compare(model, (images, np.array([1, 2])), (images, np.array([1, 3])))
