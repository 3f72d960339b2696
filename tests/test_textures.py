"""The folder of three textures: untidy on purpose, the same for the same seed, neither trivial nor hopeless."""

import time

import numpy as np
import pytest
from PIL import Image

from effnet_utils import textures
from effnet_utils.datasets import list_image_dir, load_image_dir

pytestmark = pytest.mark.slow  # makes and reads a folder of images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return textures.write_texture_folder(tmp_path_factory.mktemp("textures"), per_class=4, seed=3)


def test_the_folder_is_as_untidy_as_it_promises(folder):
    paths, labels, classes = list_image_dir(folder)
    assert classes == textures.TEXTURE_CLASSES and np.bincount(labels).tolist() == [5, 4, 4]
    broken = [path for path in paths if path.name == "broken.jpg"]
    modes = {}
    for path in set(paths) - set(broken):
        with Image.open(path) as image:
            assert 150 <= min(image.size) <= max(image.size) <= 400
            modes.setdefault(image.mode, []).append(path.relative_to(folder).as_posix())
    assert modes["L"] == ["bricks/bricks_000.jpg"] and modes["RGBA"] == ["cobbles/cobbles_000.png"]
    assert len(modes["RGB"]) == 10
    assert sum(path.parent.name == "more" for path in paths) == 3
    assert sum(not path.name.isascii() for path in paths) == 1


def test_it_is_read_but_for_the_broken_file(folder):
    images, labels, _, left_out = load_image_dir(folder, 64)
    assert len(images) == 12 and np.bincount(labels).tolist() == [4, 4, 4]
    assert len(left_out) == 1 and left_out[0].startswith("bricks") and "truncated" in left_out[0]
    # Neither black nor white nor even.
    assert (images.mean(axis=(1, 2, 3)) > 15).all() and (images.mean(axis=(1, 2, 3)) < 240).all()
    assert (images.std(axis=(1, 2, 3)) > 4).all()


def test_the_seed_decides(folder, tmp_path):
    same, other = (textures.write_texture_folder(tmp_path / str(seed), 4, seed) for seed in (3, 4))
    name = "planks/planks_003.jpg"
    assert (same / name).read_bytes() == (folder / name).read_bytes() != (other / name).read_bytes()


def test_colour_and_brightness_tell_little():
    """A nearest-mean classifier on each image's mean colour and contrast is not far above a third."""
    means = []
    for label in range(3):
        images = [textures.texture(label, np.random.default_rng((9, label, number))) for number in range(40)]
        means.append([[*image.mean(axis=(0, 1)), image.std()] for image in images])
    means = np.array(means)
    centres = means[:, :20].mean(axis=1)
    distances = np.linalg.norm(means[:, 20:, None] - centres, axis=-1)
    accuracy = (distances.argmin(axis=-1) == np.arange(3)[:, None]).mean()
    assert accuracy < 0.6


def test_it_takes_seconds():
    start = time.process_time()
    for number in range(12):
        textures.texture(number % 3, np.random.default_rng(number))
    assert time.process_time() - start < 12 * 0.06  # about four times what it takes on an idle core


def test_too_few_are_refused(tmp_path):
    with pytest.raises(ValueError, match="per_class is 2; at least 3"):
        textures.write_texture_folder(tmp_path, per_class=2)
