"""Images of one's own: a folder for each class, read by load_image_dir."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from effnet_utils.datasets import load_image_dir

SIDE = 16
RNG = np.random.default_rng(0)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes with one ordinary image each."""
    for name, colour in (("cats", "red"), ("dogs", "blue")):
        save(tmp_path / name / "plain.png", Image.new("RGB", (20, 20), colour))
    return tmp_path


def the_other(folder, name="cats/z.png"):
    """What became of the one further image in cats."""
    images, labels, classes, left_out = load_image_dir(folder, SIDE)
    assert classes == ("cats", "dogs") and labels.tolist() == [0, 0, 1] and not left_out
    assert images.shape == (3, SIDE, SIDE, 3) and images.dtype == np.uint8
    return images[1]


def test_plain_images(folder):
    images, labels, classes, left_out = load_image_dir(folder, SIDE)
    assert (images == np.array([[255, 0, 0], [0, 0, 255]])[:, None, None]).all()
    assert labels.tolist() == [0, 1] and classes == ("cats", "dogs") and left_out == []


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (20, 20), 7), (7, 7, 7)),
        (Image.fromarray(np.full((20, 20), 514, np.uint16)), (2, 2, 2)),
        (Image.new("RGBA", (20, 20), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("RGB", (20, 20), (5, 6, 7)).quantize(2), (5, 6, 7)),
        (Image.new("RGB", (1, 1), (5, 6, 7)), (5, 6, 7)),
    ],
    ids=["grey", "16 bits", "half transparent", "palette", "one pixel"],
)
def test_other_kinds_of_images(folder, image, expected):
    save(folder / "cats" / "z.png", image)
    assert (the_other(folder) == np.array(expected)).all()


def test_the_middle_is_cut_out_and_shape_is_kept(folder):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    save(folder / "cats" / "z.png", Image.fromarray(wide))
    assert (the_other(folder)[:, 2:-2] == 200).all()


def test_images_are_turned_upright(folder):
    image = Image.fromarray(np.repeat(np.uint8([[[255] * 3], [[0] * 3]]), 20, axis=1).repeat(10, axis=0))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    save(folder / "cats" / "z.png", image, exif=exif)
    turned = the_other(folder)
    assert turned[0].mean() < 50 and turned[-1].mean() > 200


def test_unreadable_files_are_named_and_left_out(folder):
    image = (folder / "cats" / "plain.png").read_bytes()
    broken = {"empty.png": b"", "text.png": b"no image", "truncated.png": image[: len(image) // 2]}
    for name, content in broken.items():
        (folder / "cats" / name).write_bytes(content)
    (folder / "cats" / ".DS_Store").write_bytes(b"passed over")
    images, labels, _, left_out = load_image_dir(folder, SIDE)
    assert labels.tolist() == [0, 1] and len(images) == 2
    for name, line in zip(broken, left_out, strict=True):
        assert line.startswith(os.path.join("cats", name) + ": ") and len(line) > 20


def test_changed_bytes_raise_nothing_of_pillows_own(folder):
    """Images with bytes changed at random are read or left out."""
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"):
        buffer = io.BytesIO()
        Image.fromarray(RNG.integers(0, 256, (12, 12, 3), np.uint8)).save(buffer, kind)
        for trial in range(40):
            content = bytearray(buffer.getvalue())
            for place in RNG.integers(0, len(content), 1 + trial % 8):
                content[place] = RNG.integers(256)
            (folder / "cats" / f"{kind}{trial}").write_bytes(content)
    images, labels, _, left_out = load_image_dir(folder, SIDE)
    assert len(images) == len(labels) and len(labels) + len(left_out) == 242 and left_out


def test_folders_that_do_not_fit(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_image_dir(tmp_path / "nowhere", SIDE)
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="'empty' has no readable image: the folder is empty"):
        load_image_dir(folder, SIDE)
    with pytest.raises(ValueError, match="at least two; found: none"):
        load_image_dir(folder / "cats", SIDE)
