"""efficientnet against keras.applications to the last bit, and mistakes made on purpose that must be noticed.

The fast tests use a network of two stages, for which keras.applications has a builder, too; the slow ones B0..B7.
"""

import json
from dataclasses import asdict, replace
from functools import partial
from unittest import mock

import keras
import numpy as np
import pytest
from keras.src.applications.efficientnet import EfficientNet as KerasEfficientNet

from effnet_utils import B0_BLOCKS, blocks, efficientnet, parity
from tools import proof

RECORD = json.loads(proof.RECORD.read_text())
STAGES = (B0_BLOCKS[0], replace(B0_BLOCKS[2], num_repeat=2, input_filters=16))
SIZE = (33, 33)


NOTHING = dict.fromkeys(
    ("names and shapes", "parameters", "MACs", "feature maps", "training mode", "odd sizes", "initialisation"), ""
)


def small(size=SIZE, **arguments):
    return efficientnet(
        "b0", **{"blocks": STAGES, "input_shape": (*size, 3), "classes": 10, "classifier_activation": None, **arguments}
    )


def small_reference(size=SIZE):
    """keras.applications' network of the same two stages."""
    stages = []
    for stage in STAGES:
        values = asdict(stage)
        values["repeats"] = values.pop("num_repeat")
        values["filters_in"] = values.pop("input_filters")
        values["filters_out"] = values.pop("output_filters")
        stages.append(values)
    return KerasEfficientNet(
        1.0, 1.0, size[0], blocks_args=stages, weights=None, input_shape=(*size, 3), classes=10,
        classifier_activation=None,
    )  # fmt: skip


# --- Two stages -----------------------------------------------------------------------------------------------------


def test_equals_the_reference_in_small():
    assert parity.verify(small, small_reference) == NOTHING
    assert proof.parity(small(), small_reference())["max_difference"] == 0


def default_initialiser(size):
    with mock.patch.object(blocks, "CONV_INITIALIZER", "glorot_uniform"):
        return small(size)


def stem_with_gammas_of_zero(size):
    model = small(size)
    gamma = model.get_layer("stem_bn").gamma
    gamma.assign(0 * gamma)
    return model


def padded_for_even_sizes(size):
    """One pixel to the right and below, whatever the size: what keras.applications does for an open size."""
    with mock.patch.object(keras.layers, "Conv2D", proof.padded(keras.layers.Conv2D, ((0, 1), (0, 1)))):
        return small(size)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (partial(small, drop_connect_rate=0.3), {"training mode": "block2b_drop: 0.2 for 0.133333333333"}),
        (partial(small, bn_momentum=0.9), {"training mode": "stem_bn/moving_mean differs by "}),
        (
            partial(small, layout=(1, 2, 2)),
            {
                "MACs": " for ",
                "feature maps": "stem: shape ",
                "training mode": "output differs by ",
                "odd sizes": "stem: shape ",
            },
        ),
        (padded_for_even_sizes, {"odd sizes": "stem: shape (2, 18, 17, 32) in the first model, (2, 17, 16, 32) in"}),
        (default_initialiser, {"initialisation": "block1a_dwconv/kernel: 0.0"}),
        (stem_with_gammas_of_zero, {"initialisation": "stem_bn/gamma: 0.00 for 1.00"}),
        (
            partial(small, se_ratio=0.125),
            {
                "names and shapes": "block1a_se_reduce/kernel (1, 1, 32, 4) for block1a_se_reduce/kernel (1, 1, 32, 8)",
                "parameters": " for ",
                "MACs": " for ",
                "feature maps": "layer 'block1a_se_reduce' has weights of shapes ",
                "training mode": "layer 'block1a_se_reduce' has weights of shapes ",
                "odd sizes": "layer 'block1a_se_reduce' has weights of shapes ",
            },
        ),
    ],
)
def test_a_mistake_is_noticed_in_small(build, said):
    found = parity.verify(build, small_reference, (32, 32), (35, 33))
    assert [check for check in NOTHING if found[check]] == list(said)
    for check, text in said.items():
        assert text in found[check]


# --- B0..B7 ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("variant", proof.PUBLISHED)
def test_equals_the_reference(variant):
    """All seven checks, then every feature map and the logits at another size: nothing differs."""
    assert parity.verify(partial(proof.ours, variant), partial(proof.reference, variant)) == NOTHING
    ours = proof.ours(variant)
    theirs = proof.reference(variant)
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


@pytest.mark.slow
@pytest.mark.parametrize("name", proof.MUTANTS)
def test_a_mistake_is_noticed(name):
    found = proof.noticed(name)
    assert any(found[check] for check in NOTHING), "no check notices this mistake"
    # Not the words: they hold figures whose last digit may be another machine's.
    assert [bool(said) for said in found.values()] == [bool(said) for said in RECORD["teeth"][name].values()]


def test_the_record_is_of_these_variants_mutants_and_checks():
    assert list(RECORD["parity"]) == proof.PUBLISHED
    assert list(RECORD["teeth"]) == list(proof.MUTANTS)
    assert all(list(row) == [*NOTHING, proof.USUAL] for row in RECORD["teeth"].values())


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


def test_randomise_kernels_draws_with_numpy_by_fan_out():
    model = small()
    before = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    parity.randomise_kernels(model)
    for weight in model.weights:
        same = keras.ops.convert_to_numpy(weight) == before[weight.path]
        assert not same.any() if weight.name == "kernel" else same.all(), weight.path
    kernel = keras.ops.convert_to_numpy(model.get_layer("block1a_dwconv").kernel)
    assert kernel.std() == pytest.approx((2 / 9) ** 0.5, rel=0.2)
    first = model.get_weights()
    keras.utils.set_random_seed(5)
    parity.randomise_kernels(model)
    assert all(np.array_equal(a, b) for a, b in zip(first, model.get_weights(), strict=True))


# --- compare_initialisation -----------------------------------------------------------------------------------------


def test_initial_values_of_all_weights_are_compared():
    theirs = small_reference()
    found = parity.compare_initialisation(small(), theirs)
    assert {row.path for row in found} == {w.path for w in theirs.weights if not w.path.startswith("normalization")}
    assert not any(row.differs for row in found)
    row = next(row for row in found if row.path == "block1a_dwconv/kernel")
    assert row.shape == (3, 3, 32, 1) and row.expected == pytest.approx((2 / 9) ** 0.5, rel=0.2)


def test_initial_values_do_not_need_the_names():
    def plain(initializer):
        inputs = keras.Input((8, 8, 3))
        return keras.Model(inputs, keras.layers.Conv2D(64, 3, kernel_initializer=initializer)(inputs))

    assert not any(row.differs for row in parity.compare_initialisation(plain("he_normal"), plain("he_normal")))
    kernel, bias = parity.compare_initialisation(plain("glorot_uniform"), plain("he_normal"))
    assert kernel.differs and not bias.differs
    assert kernel.found == pytest.approx((2 / (67 * 9)) ** 0.5, rel=0.1)
    assert parity.compare_initialisation(plain("zeros"), plain("he_normal"))[0].differs
