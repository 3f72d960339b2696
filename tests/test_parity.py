"""efficientnet against keras.applications to the last bit, and mistakes made on purpose that must be noticed."""

import json
import sys
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest

from effnet_utils import efficientnet, parity

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import proof  # noqa: E402

pytestmark = pytest.mark.slow

RECORD = json.loads(proof.RECORD.read_text())
README = (ROOT / "README.md").read_text()


# --- Equal --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", proof.PUBLISHED)
def test_equals_the_reference(variant):
    """Counts, names, order, shapes, settings, drop rates, then every map and the logits: nothing differs."""
    ours, theirs = proof.ours(variant), proof.reference(variant)
    assert proof.noticed(ours, theirs) == dict.fromkeys(proof.CHECKS, "")
    assert ours.count_params() == theirs.count_params() - 7  # the reference's Normalization layer
    assert theirs.get_layer("predictions").output.shape == ours.output.shape
    measured = proof.parity(ours, theirs)
    assert measured == RECORD["parity"][variant] and measured["max_difference"] == 0


@pytest.mark.parametrize(("variant", "size"), proof.SIZES)
def test_equals_the_reference_at_other_sizes(variant, size):
    measured = proof.parity(proof.ours(variant, size), proof.reference(variant, size))
    assert measured == RECORD["sizes"][f"{variant.upper()} at {proof.text(size)}"] and measured["max_difference"] == 0


def test_one_training_step_equals_the_reference():
    ours, theirs = proof.ours("b0"), proof.reference("b0")
    measured = proof.training_step(ours, theirs)
    assert measured == RECORD["training step"]
    assert [row["tensors"] for row in measured.values()] == [len(ours.trainable_weights), 2 * 49]
    assert all(row["max_difference"] == 0 for row in measured.values())


def test_an_open_size_gives_the_same_maps(say):
    assert proof.open_size(proof.ours) == {"75×75": None, "96×64": None}
    # A fact about Keras, not a demand on it: a later version may differ.
    say(f"Keras {keras.__version__}, open size, first map that differs: {proof.open_size(proof.reference)}")


def test_prediction_equals_the_reference():
    """The maps above are computed layer by layer; predict compiles the whole network."""
    ours, theirs = proof.ours("b0"), proof.reference("b0")
    parity.randomise(theirs)
    parity.copy_weights(theirs, ours)
    a, b = (model.predict(proof.pixels((75, 75)), verbose=0) for model in (ours, theirs))
    assert b.std() > 0.01, "the logits hardly vary: a comparison would prove nothing"
    np.testing.assert_array_equal(a, b)


# --- Teeth --------------------------------------------------------------------------------------------------------

reference = cache(proof.reference)


@pytest.mark.parametrize("name", proof.MUTANTS)
def test_a_mistake_is_noticed(name):
    found = proof.noticed(proof.mutant(name), reference(proof.MUTANTS[name][0]))
    assert any(found.values()), "no check notices this mistake"
    # Not the words: they hold figures whose last digit may be another machine's.
    assert [bool(said) for said in found.values()] == [bool(said) for said in RECORD["teeth"][name].values()]


def test_the_record_and_the_readme_say_what_is_tested():
    assert list(RECORD["parity"]) == proof.PUBLISHED and list(RECORD["teeth"]) == list(proof.MUTANTS)
    assert all(list(row) == list(proof.CHECKS) for row in RECORD["teeth"].values())
    assert proof.parity_table(RECORD) in README and proof.teeth_table(RECORD) in README
    for sentence in proof.sentences(RECORD):
        assert sentence in README


# --- compare, copy_weights, randomise -----------------------------------------------------------------------------


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)


def small(**arguments):
    """Seven narrow blocks."""
    return efficientnet("b0", **{"input_shape": (64, 64, 3), "classes": 10, "width": 0.25, "depth": 0.25, **arguments})


@pytest.fixture
def copies():
    """Two small models with the same random weights."""
    first, second = small(), small()
    parity.randomise(first)
    parity.copy_weights(first, second)
    return first, second


def rows(*models):
    return {row.name: row for row in parity.compare(*models, IMAGES).rows}


def test_compare_equal_models(copies):
    found = parity.compare(*copies, IMAGES)
    names = ["stem", *(f"block{number}a" for number in range(1, 8)), "head", "output"]
    assert [row.name for row in found.rows] == names and found.first is None
    assert all(row.exact and row.close and row.max_difference == row.relative == 0 for row in found.rows)
    assert str(found).count("exact  ") == 10 and str(found).endswith("all 10 maps are exactly equal")


def test_compare_finds_the_first_block_that_differs(copies):
    first, second = copies
    beta = second.get_layer("block3a_project_bn").beta
    beta.assign(beta + 1)
    found = parity.compare(first, second, IMAGES)
    by_name = {row.name: row for row in found.rows}
    assert found.first == "block3a" and by_name["block2a"].exact and not by_name["output"].exact
    row = by_name["block3a"]
    assert row.max_difference == pytest.approx(1, rel=1e-5) and not row.close
    spread = np.std(keras.Model(first.input, parity.map_outputs(first)["block3a"])(IMAGES))
    assert row.relative == pytest.approx(row.max_difference / spread, rel=1e-5)
    assert "block3a   differs  1 " in str(found) and str(found).endswith("first that differs: block3a")


def test_close_is_not_exact(copies):
    beta = copies[1].get_layer("block3a_project_bn").beta
    beta.assign(beta * (1 + 1e-6))
    row = rows(*copies)["block3a"]
    assert row.close and not row.exact and 0 < row.relative < 1e-5


def test_compare_says_what_a_model_lacks():
    whole, short = small(), small(blocks=proof.B0_BLOCKS[:6])
    assert rows(whole, short)["block7a"].note == "not in the second model"
    assert list(rows(short, whole)) == list(rows(whole, short)) and not rows(whole, short)["block7a"].close
    assert "block7a   differs  not in the first model" in str(parity.compare(short, whole, IMAGES))
    note = rows(whole, small(classes=5))["output"].note
    assert note == "shape (2, 10) in the first model, (2, 5) in the second"


def test_compare_needs_the_names():
    inputs = keras.Input((64, 64, 3))
    with pytest.raises(ValueError, match="'plain' has no layer named stem_"):
        parity.compare(keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs), name="plain"), small(), IMAGES)


def test_copy_weights_names_the_first_layer_that_does_not_fit():
    whole, short = small(), small(blocks=proof.B0_BLOCKS[:6])
    with pytest.raises(ValueError, match="'block7a_expand_conv' of the source has weights and no partner: the target"):
        parity.copy_weights(whole, short)
    with pytest.raises(ValueError, match="'block7a_expand_conv' of the target has weights and no partner: the source"):
        parity.copy_weights(short, whole)
    before = whole.get_weights()
    with pytest.raises(ValueError, match=r"'predictions' has weights of shapes \[\(320, 5\), \(5,\)\] in the source, "):
        parity.copy_weights(small(classes=5), whole)
    assert all(np.array_equal(a, b) for a, b in zip(before, whole.get_weights(), strict=True))


def test_randomise_leaves_nothing_at_its_start_and_repeats():
    model = small()
    start = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    parity.randomise(model, seed=3)
    for weight in model.weights:
        same = keras.ops.convert_to_numpy(weight) == start[weight.path]
        assert same.all() if weight.name == "kernel" else not same.any(), weight.path
    assert float(keras.ops.min(model.get_layer("top_bn").moving_variance)) >= 0.3
    first = model.get_weights()
    parity.randomise(model, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(first, model.get_weights(), strict=True))
    parity.randomise(model, seed=4)
    assert not np.array_equal(model.get_layer("top_bn").gamma, first[-6])
