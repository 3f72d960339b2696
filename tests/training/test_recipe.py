"""Overrides change the recipe; what is impossible is refused in one line."""

import pytest

from effnet_utils import efficientnet
from effnet_utils.training.recipe import Recipe, parse_overrides


def test_overrides_change_the_recipe():
    recipe = parse_overrides('{"translate": 4, "weight_decay": 0, "preprocessing": "lite"}')
    assert (recipe.translate, recipe.weight_decay) == (4, 0)
    assert recipe.build_options()["preprocessing"] == "lite"
    assert parse_overrides("{}") == Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", r"overrides is '\[1\]'; expected one JSON object"),
        ("{", "overrides is '{'; expected one JSON object"),
        ("[" * 100_000, "expected one JSON object"),
        ('{"droput": 1}', "overrides: there is no 'droput'; allowed: warmup, weight_decay"),
        ('{"translate": 1.5}', "translate is 1.5; allowed: a whole number of at least 0"),
        ('{"translate": -1}', "translate is -1; allowed: a whole number of at least 0"),
        ('{"flip": 1}', "flip is 1; allowed: true or false"),
        ('{"weight_decay": true}', "weight_decay is True; allowed: a number"),
        ('{"weight_decay": -1}', "weight_decay is -1; allowed: a number of at least 0 and below 1"),
        ('{"id_skip": 0}', "id_skip is 0; allowed: true or false or null"),
        ('{"kernel_size": "5"}', "kernel_size is '5'; allowed: a whole number of at least 1 or null"),
        ('{"kernel_size": 0}', "kernel_size is 0"),
        ('{"expand_ratio": 0}', "expand_ratio is 0"),
        ('{"resolution": 0}', "resolution is 0"),
        ('{"depth": 0}', "depth is 0; allowed: a number above 0"),
        ('{"width": 1e999}', "width is inf"),
        ('{"se_ratio": 1.5}', "se_ratio is 1.5"),
        ('{"warmup": 1}', "warmup is 1; allowed: a number of at least 0 and below 1"),
        ('{"bn_momentum": 1.5}', "bn_momentum is 1.5"),
        ('{"dropout_rate": 1.0}', "dropout_rate is 1.0"),
        ('{"drop_connect_rate": NaN}', "drop_connect_rate is nan"),
        ('{"label_smoothing": 1.5}', "label_smoothing is 1.5"),
        ('{"bn_epsilon": 0}', "bn_epsilon is 0; allowed: a number above 0"),
        ('{"activation": "swich"}', "activation is 'swich'; expected auto or the name of an activation of Keras"),
        ('{"preprocessing": "none"}', "preprocessing is 'none'; allowed: 'auto' or 'rescale'"),
    ],
)
def test_what_is_impossible_is_refused(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_overrides(text)
    assert "\n" not in str(caught.value)


def build(overrides, variant="b0"):
    arguments = parse_overrides(overrides).build_options()
    return efficientnet(variant, layout="cifar-fast", classes=10, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["b0", "lite0"])
def test_a_recipe_without_overrides_builds_the_variant(variant):
    expected = efficientnet(variant, layout="cifar-fast", classes=10)
    assert [weight.shape for weight in build("{}", variant).weights] == [weight.shape for weight in expected.weights]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "kernels", "widest", "se_blocks", "skips", "blocks"),
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
def test_overrides_take_the_network_apart(overrides, kernels, widest, se_blocks, skips, blocks):
    model = build(overrides)
    names = [layer.name for layer in model.layers]
    depthwise = [layer for layer in model.layers if layer.name.endswith("dwconv")]
    assert {layer.kernel_size[0] for layer in depthwise} == kernels
    assert max(layer.output.shape[-1] for layer in depthwise) == widest
    assert sum(name.endswith("excite") for name in names) == se_blocks
    assert sum(name.endswith("_add") for name in names) == skips
    assert len(depthwise) == blocks
