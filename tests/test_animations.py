"""The animations of the notebooks: short, small, and as the code draws them now; browser/widgets.py plays them."""

import base64
import io
import re
from functools import cache
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from effnet_utils import B0_BLOCKS, animations, datasets, model, widgets
from tools.notebooks import NOTEBOOKS, code_cells, number_of, read

LARGEST = 300_000  # bytes
FRAMES = np.stack([np.full((8, 10, 3), (60 * i, 255 - 60 * i, 128), "uint8") for i in range(4)])


def stored():
    """{name of the function: (notebook's number, its cell)}."""
    found = {}
    for path in NOTEBOOKS:
        for cell in code_cells(read(path)):
            if "animations.show(" in cell.source:
                name = re.search(r"animations\.show\(animations\.(\w+)", cell.source)[1]
                found[name] = (number_of(path), cell)
    return found


STORED = stored()
each = pytest.mark.parametrize("name", STORED)


def png_of(name):
    _, cell = STORED[name]
    return base64.b64decode(cell.outputs[0].data["image/png"])


def decoded(png):
    """(still, frames, seconds) of an animated PNG; frames uint8 (frames, height, width, 3)."""
    image = Image.open(io.BytesIO(png))
    assert image.default_image and image.info["loop"] == 1, "a still for programs that show no motion; plays once"
    pictures, milliseconds = [], 0
    for number in range(image.n_frames):
        image.seek(number)
        pictures.append(np.asarray(image.convert("RGB")))
        milliseconds += image.info["duration"] if number else 0
    return pictures[0], np.stack(pictures[1:]), milliseconds / 1000


@cache
def drawn(name):
    """(frames, seconds, alt) that a notebook's cell shows now."""
    shown = []
    block3b = model.BlockArgs(5, num_repeat=1, input_filters=40, output_filters=40, expand_ratio=6)
    space = {"animations": animations, "datasets": datasets, "np": np, "B0_BLOCKS": B0_BLOCKS, "block3b": block3b}
    with mock.patch.object(animations, "show", lambda *given: shown.append(given)):
        exec(STORED[name][1].source, space)
    return shown[0]


def test_all_are_shown():
    assert set(STORED) == {"depthwise", "mbconv", "stochastic_depth"}


@pytest.mark.slow
@each
def test_a_stored_one_is_small_and_short_and_what_is_drawn_now(name):
    png = png_of(name)
    assert len(png) <= LARGEST
    still, frames, seconds = decoded(png)
    assert 2 < seconds <= animations.LONGEST
    np.testing.assert_array_equal(still, frames[-1])
    now, *_ = drawn(name)
    _, now, duration = decoded(animations.encode(now, seconds))
    assert now.shape == frames.shape, f"`make notebooks NB={STORED[name][0]}` stores the new one"
    assert duration == pytest.approx(seconds, abs=0.1)
    # Another version of matplotlib may place a letter a little differently.
    assert np.abs(now.astype(int) - frames).mean(axis=(1, 2, 3)).max() < 2


@pytest.mark.slow
@each
def test_alt_text_and_the_controls_are_stored(name):
    image, controls = STORED[name][1].outputs
    _, _, alt = drawn(name)
    about = image.metadata["image/png"]
    assert about["alt"] == alt
    html = controls.data["text/html"]
    still = re.search(r'"still":"([^"]*)"', html)[1]
    assert html == widgets.html("animation", still=base64.b64decode(still), **about)


def test_encode():
    still, frames, seconds = decoded(animations.encode(FRAMES, 2))
    assert len(frames) == 4 and seconds == 2
    assert np.abs(frames - FRAMES.astype(int)).max() < 8 and (still == frames[-1]).all()
    with pytest.raises(ValueError, match="6 seconds; an animation lasts at most 5"):
        animations.encode(FRAMES, 6)


def test_show_needs_alt_text():
    with pytest.raises(ValueError, match="alt is empty"):
        animations.show(FRAMES, 1, " ")


def test_depthwise_covers_what_is_not_computed_yet():
    frames = animations.depthwise(np.eye(3)[..., None], np.ones((3, 3, 1, 1)))
    assert len(frames) == 10
    white = (frames[:, :, frames.shape[2] // 2 :] == 255).all(axis=-1).sum(axis=(1, 2))
    assert (np.diff(white[:9]) < 0).all(), "one more pixel of the output each time"


def test_shapes_of_an_mbconv_block():
    args = model.BlockArgs(3, num_repeat=1, input_filters=8, output_filters=8, expand_ratio=2)
    shapes = animations.shapes_of(args, 6)
    assert shapes["input"] == shapes["project_bn"] == shapes["add"] == (6, 6, 8)
    assert shapes["activation"] == shapes["se_excite"] == (6, 6, 16)
    assert shapes["se_squeeze"] == (1, 1, 16) and shapes["se_reduce"] == (1, 1, 2)


def test_draws_follow_the_drop_rates():
    kept = animations.draws([0, 0.1, 0.4], 4000)
    assert kept.shape == (3, 4000) and kept.dtype == bool
    np.testing.assert_allclose(1 - kept.mean(axis=1), [0, 0.1, 0.4], atol=0.02)


def test_the_drop_rates_are_those_of_the_network():
    layers = [layer for layer in model.efficientnet("b0").layers if layer.name.endswith("_drop")]
    found = animations.block_rates(B0_BLOCKS, 0.2)
    assert [rate for rate in found.values() if rate] == pytest.approx([layer.rate for layer in layers])
    assert [f"block{name}_drop" for name, rate in found.items() if rate] == [layer.name for layer in layers]
