"""efficientnet against keras.applications to the last bit, and mistakes made on purpose that must be noticed.

The fast tests use a network of two stages, for which keras.applications has a builder, too; the slow ones B0..B7.
"""

import json
from dataclasses import asdict, replace
from functools import cache

import keras
import numpy as np
import pytest
from keras.src.applications.efficientnet import EfficientNet as KerasEfficientNet

from effnet_utils import B0_BLOCKS, efficientnet, parity
from tools import proof

RECORD = json.loads(proof.RECORD.read_text())
STAGES = (B0_BLOCKS[0], replace(B0_BLOCKS[2], num_repeat=2, input_filters=16))
SIZE = (33, 33)


def small(**arguments):
    return efficientnet(
        "b0", **{"blocks": STAGES, "input_shape": (*SIZE, 3), "classes": 10, "classifier_activation": None, **arguments}
    )


def small_reference():
    """keras.applications' network of the same two stages."""
    stages = []
    for stage in STAGES:
        values = asdict(stage)
        values["repeats"] = values.pop("num_repeat")
        values["filters_in"] = values.pop("input_filters")
        values["filters_out"] = values.pop("output_filters")
        stages.append(values)
    return KerasEfficientNet(
        1.0, 1.0, SIZE[0], blocks_args=stages, weights=None, input_shape=(*SIZE, 3), classes=10,
        classifier_activation=None,
    )  # fmt: skip


# --- Two stages -----------------------------------------------------------------------------------------------------


def test_equals_the_reference_in_small():
    ours = small()
    theirs = small_reference()
    assert proof.noticed(ours, theirs) == dict.fromkeys(proof.CHECKS, "")
    assert proof.parity(ours, theirs)["max_difference"] == 0


@pytest.mark.parametrize(
    ("mistake", "check"),
    [
        ({"activation": "relu"}, "settings"),
        ({"drop_connect_rate": 0.3}, "drop rates"),
        ({"se_ratio": 0.125}, "parameter count"),
        ({"layout": (1, 1, 2)}, "fresh weights, 1e-5"),
        ({"bn_epsilon": 1e-5}, "random weights, exact"),
    ],
)
def test_a_mistake_is_noticed_in_small(mistake, check):
    assert proof.CHECKS[check](small(**mistake), small_reference())


# --- B0..B7 ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("variant", proof.PUBLISHED)
def test_equals_the_reference(variant):
    """Counts, names, order, shapes, settings, drop rates, then every feature map and the logits: nothing differs."""
    ours = proof.ours(variant)
    theirs = proof.reference(variant)
    assert proof.noticed(ours, theirs) == dict.fromkeys(proof.CHECKS, "")
    assert ours.count_params() == theirs.count_params() - 7  # the reference's Normalization layer
    assert theirs.get_layer("predictions").output.shape == ours.output.shape
    measured = proof.parity(ours, theirs)
    assert measured == RECORD["parity"][variant] and measured["max_difference"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "size"), proof.SIZES)
def test_equals_the_reference_at_other_sizes(variant, size):
    measured = proof.parity(proof.ours(variant, size), proof.reference(variant, size))
    assert measured == RECORD["sizes"][f"{variant.upper()} at {proof.text(size)}"] and measured["max_difference"] == 0


@pytest.mark.slow
def test_one_training_step_equals_the_reference():
    ours = proof.ours("b0")
    measured = proof.training_step(ours, proof.reference("b0"))
    assert measured == RECORD["training step"]
    assert [row["tensors"] for row in measured.values()] == [len(ours.trainable_weights), 2 * 49]
    assert all(row["max_difference"] == 0 for row in measured.values())


@pytest.mark.slow
def test_an_open_size_gives_the_same_feature_maps():
    assert proof.open_size(proof.ours) == {"75×75": None, "96×64": None}


@pytest.mark.slow
def test_prediction_equals_the_reference():
    """The feature maps above are computed layer by layer; predict compiles the whole network."""
    ours = proof.ours("b0")
    theirs = proof.reference("b0")
    parity.randomise(theirs)
    parity.copy_weights(theirs, ours)
    expected = theirs.predict(proof.pixels((75, 75)), verbose=0)
    assert expected.std() > 0.01, "the logits hardly vary: a comparison would prove nothing"
    np.testing.assert_array_equal(ours.predict(proof.pixels((75, 75)), verbose=0), expected)


# --- Mutation tests -------------------------------------------------------------------------------------------------

reference = cache(proof.reference)


@pytest.mark.slow
@pytest.mark.parametrize("name", proof.MUTANTS)
def test_a_mistake_is_noticed(name):
    found = proof.noticed(proof.mutant(name), reference(proof.MUTANTS[name][0]))
    assert any(found.values()), "no check notices this mistake"
    # Not the words: they hold figures whose last digit may be another machine's.
    assert [bool(said) for said in found.values()] == [bool(said) for said in RECORD["teeth"][name].values()]


def test_the_record_is_of_these_variants_mutants_and_checks():
    assert list(RECORD["parity"]) == proof.PUBLISHED
    assert list(RECORD["teeth"]) == list(proof.MUTANTS)
    assert all(list(row) == list(proof.CHECKS) for row in RECORD["teeth"].values())


# --- compare, copy_weights, randomise -------------------------------------------------------------------------------

IMAGES = proof.pixels(SIZE)


@pytest.fixture
def copies():
    """Two small models with the same random weights."""
    first = small()
    second = small()
    parity.randomise(first)
    parity.copy_weights(first, second)
    return first, second


def rows(*models):
    return {row.name: row for row in parity.compare(*models, IMAGES).rows}


def test_compare_equal_models(copies):
    found = parity.compare(*copies, IMAGES)
    assert [row.name for row in found.rows] == ["stem", "block1a", "block2a", "block2b", "head", "output"]
    assert all(row.exact and row.close and row.max_difference == row.relative == 0 for row in found.rows)
    assert str(found).count("exact  ") == 6 and str(found).endswith("all 6 feature maps are exactly equal")


def test_compare_finds_the_block(copies):
    first, second = copies
    beta = second.get_layer("block2a_project_bn").beta
    beta.assign(beta + 1)
    found = parity.compare(first, second, IMAGES)
    by_name = {row.name: row for row in found.rows}
    assert found.first == "block2a" and by_name["block1a"].exact and not by_name["output"].exact
    row = by_name["block2a"]
    assert row.max_difference == pytest.approx(1, rel=1e-5) and not row.close
    spread = np.std(keras.Model(first.input, parity.map_outputs(first)["block2a"])(IMAGES))
    assert row.relative == pytest.approx(row.max_difference / spread, rel=1e-5)
    assert "block2a      differs  1 " in str(found) and str(found).endswith("first that differs: block2a")


def test_close_is_not_exact(copies):
    beta = copies[1].get_layer("block2a_project_bn").beta
    beta.assign(beta * (1 + 1e-6))
    row = rows(*copies)["block2a"]
    assert row.close and not row.exact and 0 < row.relative < 1e-5


def test_compare_says_what_a_model_lacks():
    whole = small()
    short = small(blocks=STAGES[:1])
    assert rows(whole, short)["block2b"].note == "not in the second model"
    assert list(rows(short, whole)) == list(rows(whole, short)) and not rows(whole, short)["block2b"].close
    assert "block2b      differs  not in the first model" in str(parity.compare(short, whole, IMAGES))
    note = rows(whole, small(classes=5))["output"].note
    assert note == "shape (2, 10) in the first model, (2, 5) in the second"


def test_compare_needs_the_names():
    inputs = keras.Input((*SIZE, 3))
    plain = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs), name="plain")
    with pytest.raises(ValueError, match="'plain' has no layer named stem_"):
        parity.compare(plain, small(), IMAGES)


def test_copy_weights_names_the_first_layer_that_does_not_fit():
    whole = small()
    short = small(blocks=STAGES[:1])
    with pytest.raises(ValueError, match="'block2a_expand_conv' of the source has weights and no partner: the target"):
        parity.copy_weights(whole, short)
    with pytest.raises(ValueError, match="'block2a_expand_conv' of the target has weights and no partner: the source"):
        parity.copy_weights(short, whole)
    before = whole.get_weights()
    with pytest.raises(ValueError, match=r"'predictions' has weights of shapes .*\(5,\)\] in the source, .*\(10,\)\]"):
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
