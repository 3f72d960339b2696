"""Schedule, preparation, prediction, evaluation; a short real training; records and figures."""

import csv
import json
import math
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

from effnet_utils import data, efficientnet, plots, records, train


@pytest.fixture(scope="module")
def toy():
    return data.load_toy()


@pytest.fixture
def model():
    """A small network of the same build: B0 with narrow stages."""
    return efficientnet("b0", layout="cifar-fast", classes=10, classifier_activation=None, width=0.25)


def test_one_cycle_climbs_to_its_peak_and_falls_to_zero():
    cycle = train.OneCycle(0.4, 100, 0.2)
    rates = [float(cycle(step)) for step in range(101)]
    assert rates[0] == pytest.approx(0.04) and max(rates) == pytest.approx(rates[20]) == pytest.approx(0.4)
    assert rates[100] == 0 and rates == sorted(rates[:21]) + sorted(rates[21:], reverse=True)
    assert float(cycle(150)) == 0, "a step beyond the end must not make the rate negative"
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(cycle))
    assert float(again(33)) == float(cycle(33))


@pytest.mark.slow
def test_prepare_sets_zeros_and_leaves_norms_and_biases_undecayed(model, toy):
    learner = train.prepare(model, toy[0][0][:8], train.Recipe(), 1e-3, 100)
    with_skip = [layer.name for layer in model.layers if layer.name.endswith("_add")]
    assert len(with_skip) >= 9
    for layer in model.layers:
        if layer.name.endswith("project_bn"):
            zero = not keras.ops.convert_to_numpy(layer.gamma).any()
            assert zero == (layer.name.replace("project_bn", "add") in with_skip)
    assert not keras.ops.convert_to_numpy(model.get_layer("predictions").kernel).any()
    learner.optimizer.build(learner.trainable_variables)
    decayed = {v.path.split("/")[-1] for v in learner.trainable_variables if learner.optimizer._use_weight_decay(v)}
    assert decayed == {"kernel"}


@pytest.mark.slow
def test_prepare_can_leave_the_weights_alone(model, toy):
    before = [keras.ops.convert_to_numpy(w).copy() for w in model.weights]
    recipe = train.Recipe(zero_last_gamma=False, zero_classifier=False)
    train.prepare(model, toy[0][0][:8], recipe, 1e-3, 100)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))


def fit(model, toy, seed, epochs=2):
    (images, labels), _ = toy
    keras.utils.set_random_seed(seed)
    batches = train.Batches(labels[:320], 32, 10, train.Recipe(), seed)
    learner = train.prepare(model, images[:320], train.Recipe(), 2e-3, epochs * len(batches))
    lines = train.EpochLines(validation=(images[-100:], labels[-100:]))
    learner.fit(batches, epochs=epochs, verbose=0, callbacks=[lines])
    return lines


@pytest.mark.slow
def test_a_learner_sees_the_moved_images_and_trains_its_network(model, toy):
    (images, labels), _ = toy
    batches = train.Batches(labels[:64], 64, 10, train.Recipe(), seed=3)
    plan, _ = batches[0]
    learner = train.prepare(model, images[:64], train.Recipe(zero_classifier=False), 1e-3, 10)
    expected = model(data.augment(images[:64], plan), training=False)
    np.testing.assert_allclose(learner(plan, training=False), expected, atol=1e-5)
    assert [v.path for v in learner.trainable_variables] == [v.path for v in model.trainable_variables]


@pytest.mark.slow
def test_a_learners_weights_file_does_not_hold_the_images(model, toy, tmp_path):
    (images, _), _ = toy
    learner = train.prepare(model, images, train.Recipe(), 1e-3, 10)
    learner(np.zeros((2, 4), np.int32))
    learner.save_weights(tmp_path / "learner.weights.h5")
    model.save_weights(tmp_path / "net.weights.h5")
    sizes = [(tmp_path / f"{name}.weights.h5").stat().st_size for name in ("learner", "net")]
    assert abs(sizes[0] - sizes[1]) < images.nbytes / 10
    kernel = model.get_layer("stem_conv").kernel
    before = keras.ops.convert_to_numpy(kernel).copy()
    kernel.assign(kernel + 1)
    learner.load_weights(tmp_path / "learner.weights.h5")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kernel), before)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(learner.images), images)


def test_a_learner_checks_its_images(model):
    with pytest.raises(TypeError, match="expected uint8"):
        train.Learner(model, np.zeros((4, 32, 32, 3), np.float32))


@pytest.mark.slow
def test_training_lowers_the_loss_and_reports_each_epoch(model, toy, capsys):
    lines = fit(model, toy, seed=0, epochs=3)
    assert lines.per_epoch[-1]["loss"] < lines.per_epoch[0]["loss"] < 2.5
    assert [row["epoch"] for row in lines.per_epoch] == [1, 2, 3]
    assert lines.compile_seconds > 0
    printed = capsys.readouterr().out.strip().splitlines()
    assert len(printed) == 3 and all("accuracy" in line and "validation" in line for line in printed)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_first_epoch(toy):
    losses = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        net = efficientnet("b0", layout="cifar-fast", classes=10, classifier_activation=None, width=0.25)
        losses.append(fit(net, toy, seed=1, epochs=1).per_epoch[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.slow
def test_predict_gives_probabilities_for_logits_and_for_softmax(model, toy):
    images = toy[1][0][:20]
    softmax = efficientnet("b0", layout="cifar-fast", classes=10, width=0.25)
    softmax.set_weights(model.get_weights())
    first, second = train.predict(model, images), train.predict(softmax, images)
    np.testing.assert_allclose(first.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(first, second, atol=1e-5)
    np.testing.assert_allclose(train.predict(model, images.astype(np.float32)), first, atol=1e-5)


@pytest.mark.slow
def test_predict_warns_of_scaled_pixels_and_only_of_them(model, toy):
    images = toy[1][0][:4]
    with pytest.warns(UserWarning, match="expects 0..255 and scales them itself"):
        train.predict(model, images / np.float32(255))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train.predict(model, images)


@pytest.mark.parametrize("shape", [(4, 3, 32, 32), (32, 32, 3), (4, 28, 28, 3), (4, 32, 32, 1)])
def test_predict_names_the_shape_it_expects(model, shape):
    with pytest.raises(ValueError, match=r"the model expects \(n, 32, 32, 3\)"):
        train.predict(model, np.zeros(shape, np.uint8))


def test_evaluate():
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.6, 0.4, 0]])
    scores = train.evaluate(probabilities, np.array([0, 1, 1]))
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["loss"] == pytest.approx(-(math.log(0.9) + math.log(0.8) + math.log(0.4)) / 3)
    assert scores["per_class"] == [1.0, 0.5, None]


def test_overrides_change_the_recipe():
    recipe = train.parse_overrides('{"translate": 4, "weight_decay": 0, "preprocessing": "lite"}')
    assert (recipe.translate, recipe.weight_decay, recipe.builder()["preprocessing"]) == (4, 0, "lite")
    assert train.parse_overrides("{}") == train.Recipe()


def build(overrides, variant="b0"):
    return efficientnet(variant, layout="cifar-fast", classes=10, **train.parse_overrides(overrides).builder())


def shapes(model):
    return [tuple(weight.shape) for weight in model.weights]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["b0", "lite0"])
def test_a_recipe_without_overrides_builds_the_variant(variant):
    assert shapes(build("{}", variant)) == shapes(efficientnet(variant, layout="cifar-fast", classes=10))


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides, kernels, widest, gates, skips, blocks",
    [
        ("{}", {3, 5}, 1152, 16, 9, 16),
        ('{"kernel_size": 3}', {3}, 1152, 16, 9, 16),
        ('{"expand_ratio": 3}', {3, 5}, 576, 16, 9, 16),
        ('{"expand_ratio": 1}', {3, 5}, 192, 16, 9, 16),
        ('{"se_ratio": 0}', {3, 5}, 1152, 0, 9, 16),
        ('{"id_skip": false}', {3, 5}, 1152, 16, 0, 16),
        ('{"width": 2, "depth": 0.5}', {3, 5}, 2304, 10, 3, 10),
    ],
)
def test_overrides_take_the_network_apart(overrides, kernels, widest, gates, skips, blocks):
    model = build(overrides)
    names = [layer.name for layer in model.layers]
    depthwise = [layer for layer in model.layers if layer.name.endswith("dwconv")]
    assert {layer.kernel_size[0] for layer in depthwise} == kernels
    assert max(layer.output.shape[-1] for layer in depthwise) == widest
    assert sum(name.endswith("excite") for name in names) == gates
    assert sum(name.endswith("_add") for name in names) == skips
    assert len(depthwise) == blocks


def test_images_to_train_on():
    assert train.images_to_train_on(50_000, 0, "test") == 50_000
    assert train.images_to_train_on(50_000, 0, "validation") == 45_000
    assert train.images_to_train_on(50_000, 10_000, "validation") == 10_000


# --- records -----------------------------------------------------------------------------------------------------

RECORD = dict.fromkeys(records.KEYS, {})


def test_records_are_written_whole_and_with_the_right_keys(tmp_path):
    records.write_record(tmp_path / "record.json", RECORD)
    assert json.loads((tmp_path / "record.json").read_text()) == RECORD
    assert os.listdir(tmp_path) == ["record.json"]
    with pytest.raises(ValueError, match="a record has the keys parameters"):
        records.write_record(tmp_path / "other.json", {"parameters": {}})
    with pytest.raises(TypeError):
        records.write_record(tmp_path / "other.json", {**RECORD, "results": {1, 2}})
    assert os.listdir(tmp_path) == ["record.json"]


def test_every_shipped_record_has_the_same_keys():
    folder = data.project_path("records")
    names = [path.stem for path in folder.glob("*.json")]
    assert names
    for name in names:
        record = records.read_record(name)
        assert set(record) == set(records.KEYS)
        assert set(record["dataset"]) == {"name", "official", "source", "sha256", "n_train", "n_test"}
        parts = {"11_deploy": {"setup", "export", "time", "int8"}}
        assert set(record["seconds"]) == parts.get(record["notebook"], {"setup", "compile", "train", "evaluate"})
        assert set(record["environment"]) == set(records.environment())
        assert "/" not in record["parameters"].get("data_dir", "")
        assert not [value for value in record["parameters"].values() if str(value).startswith(("/", "~"))]
    with pytest.raises(FileNotFoundError, match=names[0]):
        records.read_record("no such record")
    assert list(records.read_records("*")) == sorted(names)
    assert records.read_records("no such record") == {}
    assert list(records.read_records("benchmarks/pro*")) == ["benchmarks/proof"]
    assert records.read_record("benchmarks/proof") == records.read_records("benchmarks/pro*")["benchmarks/proof"]


def test_open_output_dir(tmp_path, monkeypatch):
    folder = records.open_output_dir(tmp_path / "a" / "b", "07")
    assert folder.is_dir()
    (folder / "record.json").write_text("{}")
    with pytest.raises(ValueError, match="already holds a record"):
        records.open_output_dir(folder, "07")
    monkeypatch.chdir(tmp_path)
    first, second = (records.open_output_dir("", "07_x") for _ in range(2))
    assert first.parent == tmp_path / "runs" / "07_x" and first != second


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
    done = subprocess.run(
        [sys.executable, "-c", "from effnet_utils.records import peak_memory_gb; print(peak_memory_gb())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert records.peak_memory_gb() > ballast.nbytes / 1e9 > 1.5 * float(done.stdout)


# --- figures -----------------------------------------------------------------------------------------------------


def test_figures_show_what_they_are_given(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    grid = plots.image_grid(images, 3, titles=list("abcde"))
    assert sum(bool(ax.images) for ax in grid.axes) == 5
    history = [{"epoch": e, "loss": 1 / e, "accuracy": e / 5, "validation_accuracy": e / 6} for e in (1, 2, 3)]
    right = plots.curves(history, "t", final=("test", 0.6)).axes[1]
    assert [text.get_text() for text in right.get_legend().get_texts()] == [
        "training",
        "validation",
        "test, at the end",
    ]
    one = plots.curves(history[:1], "t").axes[0]
    low, high = one.get_xlim()
    assert [tick for tick in one.get_xticks() if low <= tick <= high] == [1]  # epochs are whole
    counts = plots.confusion_counts(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    assert counts.tolist() == [[1, 1], [0, 1]]
    texts = [text.get_text() for text in plots.confusion(counts, ["x", "y"], "t").axes[0].texts]
    assert texts == ["50", "50", "100"]
    ends = [("stem", 16, 32), ("head", 2, 1280)]
    boxes = plots.stages(ends, "t").axes[0].patches
    assert [box.get_height() for box in boxes] == [16, 2] and boxes[1].get_width() > boxes[0].get_width()
    bars = plots.bars(["x", "y"], [2, 1], "t", "share").axes[0]
    assert [bar.get_width() for bar in bars.patches] == [1, 2]
    forest = plots.forest({"low": [-1, -2], "high": [3, 1], "one": [0.5]}, "t", "gain").axes[0]
    assert [label.get_text() for label in forest.get_yticklabels()] == ["low", "one", "high"]
    means = [line.get_xdata()[0] for line in forest.lines if line.get_marker() == "D"]
    assert means == [-1.5, 0.5, 2]


def test_show_needs_alt_text_and_saves_a_png(tmp_path, capsys):
    fig, _ = plots.figure()
    with pytest.raises(ValueError, match="alt is empty"):
        plots.show(fig, " ")
    plots.show(fig, "An empty figure.", tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_no_name_of_the_data_layer_needs_keras():
    script = "import sys, effnet_utils.data, effnet_utils.scaling; print('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
