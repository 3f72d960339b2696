"""Are two models the same function? Their maps compared block by block, with weights under which a mistake shows.

The models need the layers' names of ``efficientnet`` and ``keras.applications``: ``stem_...``, ``block1a_...``,
``top_...``::

    randomise(theirs)
    copy_weights(theirs, ours)
    print(compare(ours, theirs, images))
"""

import re
from dataclasses import dataclass

import keras
import numpy as np

CLOSE = 1e-5  # largest difference that counts as close, in standard deviations of the map

# Fresh BatchNormalization multiplies by 1 and adds 0, fresh biases are 0: nothing puts to the test what they should do.
DRAWS = {
    "gamma": lambda rng, shape: rng.uniform(0.5, 1.5, shape),
    "moving_variance": lambda rng, shape: rng.uniform(0.3, 2, shape),
    **dict.fromkeys(("beta", "moving_mean", "bias"), lambda rng, shape: rng.normal(0, 0.3, shape)),
}


def randomise(model, seed=0):
    """Give every scale, shift and bias a random value of its own; kernels are random already and stay.

    Args:
        model: ``keras.Model``; changed in place.
        seed: int.

    Copy with: DRAWS.
    """
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in DRAWS:
            weight.assign(DRAWS[weight.name](rng, weight.shape))


def copy_weights(source, target):
    """Give the layers of ``target`` the weights of those of the same names in ``source``.

    Args:
        source, target: ``keras.Model``; target is changed in place. A Normalization layer's weights do not count:
            that of ``keras.applications`` has some (mean 0, variance 1), ours has none.

    Raises:
        ValueError: a layer with weights lacks a partner, or the two differ in shape; nothing is copied then.

    Copy with: nothing.
    """
    given, wanted = (
        {part.name: part for part in model.layers if part.weights and not isinstance(part, keras.layers.Normalization)}
        for model in (source, target)
    )
    for name in [*given, *wanted]:
        if name not in given or name not in wanted:
            here, there = ("source", "target") if name in given else ("target", "source")
            raise ValueError(f"layer {name!r} of the {here} has weights and no partner: the {there} has no such layer")
    for name in wanted:
        a, b = ([tuple(weight.shape) for weight in part[name].weights] for part in (given, wanted))
        if a != b:
            raise ValueError(f"layer {name!r} has weights of shapes {a} in the source, {b} in the target")
    for name, layer in wanted.items():
        layer.set_weights(given[name].get_weights())


@dataclass(frozen=True)
class Row:
    """One map of both models: ``max_difference`` and, in standard deviations of the map, ``relative``."""

    name: str
    exact: bool
    close: bool
    max_difference: float
    relative: float
    note: str = ""

    def __str__(self):
        verdict = "exact" if self.exact else "close" if self.close else "differs"
        figures = self.note or f"{self.max_difference:<14.3g}  {self.relative:.3g}"
        return f"{self.name:<8}  {verdict:<7}  {figures}"


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` found: a Row for each map. ``print`` shows a table."""

    rows: tuple

    @property
    def first(self):
        """Name of the first map that is not equal to the last bit, or None."""
        return next((row.name for row in self.rows if not row.exact), None)

    def __str__(self):
        title = f"{'map':<8}  {'':<7}  {'max difference':<14}  in standard deviations"
        end = f"first that differs: {self.first}" if self.first else f"all {len(self.rows)} maps are exactly equal"
        return "\n".join([title, *map(str, self.rows), end])


def compare(model_a, model_b, images):
    """Compare the maps of two models after the stem, after each block, after the head, and the outputs.

    Both run as for prediction. A block's map is the output of the last layer whose name begins with the block's.

    Args:
        model_a, model_b: functional ``keras.Model`` with the layers' names of ``efficientnet``.
        images: array (batch, height, width, channels) that fits both.

    Returns:
        Comparison; ``exact`` in a row means equal to the last bit, ``close`` within CLOSE standard deviations of
        model_a's map. A map that one model lacks, or that has another shape there, differs by NaN; ``note`` says so.

    Copy with: map_outputs, _maps, _row, _in_order, Comparison, Row, CLOSE.
    """
    maps_a, maps_b = _maps(model_a, images), _maps(model_b, images)
    return Comparison(tuple(_row(name, maps_a.get(name), maps_b.get(name)) for name in _in_order(maps_a | maps_b)))


def map_outputs(model):
    """Where ``compare`` looks: {"stem", "block1a", ..., "head", "output": symbolic tensor}.

    Args:
        model: functional ``keras.Model`` with the layers' names of ``efficientnet``.

    Returns:
        dict of ``keras.KerasTensor``, in the model's order.

    Raises:
        ValueError: no layer has such a name.

    Copy with: nothing.
    """
    ends = {}
    for layer in model.layers:
        # The dropout before the classifier comes after the pooling: not the head's map.
        part = re.match(r"(stem|block\d+[a-z]|top)_(?!dropout)", layer.name)
        if part:
            ends[part[1].replace("top", "head")] = layer.output
    if not ends:
        raise ValueError(f"{model.name!r} has no layer named stem_..., block1a_... or top_...; nothing to compare")
    return {**ends, "output": model.output}


def _maps(model, images):
    maps = keras.Model(model.input, map_outputs(model))(images, training=False)
    return {name: keras.ops.convert_to_numpy(found) for name, found in maps.items()}


def _row(name, a, b):
    if a is None or b is None:
        note = f"not in the {'first' if a is None else 'second'} model"
    elif a.shape != b.shape:
        note = f"shape {a.shape} in the first model, {b.shape} in the second"
    else:
        difference = float(np.abs(a - b).max())
        relative = difference / max(float(a.std()), 1e-30)  # a map may be constant
        return Row(name, np.array_equal(a, b), relative <= CLOSE, difference, relative)
    return Row(name, False, False, np.nan, np.nan, note)


def _in_order(names):
    """Stem, blocks by number and letter, head, output; also where only one of the models has a block."""
    last = {"stem": -1, "head": 1e3, "output": 1e4}
    return sorted(names, key=lambda name: (last[name] if name in last else int(name[5:-1]), name))
