"""Images of one's own: a folder for each class, read by load_image_dir, and divided by stratified_split."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from effnet_utils.datasets import image_files, list_image_dir, load_image_dir, read_images, stratified_split

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
        (Image.fromarray(np.full((20, 20, 2), (9, 255), np.uint8)), (9, 9, 9)),
    ],
    ids=["grey", "16 bits", "half transparent", "palette", "one pixel", "grey with alpha"],
)
def test_other_kinds_of_images(folder, image, expected):
    save(folder / "cats" / "z.png", image)
    assert (the_other(folder) == np.array(expected)).all()


def test_four_colours_of_print(folder):
    save(folder / "cats" / "z.jpg", Image.new("CMYK", (20, 20), (0, 255, 255, 0)))
    red, green, blue = the_other(folder).mean(axis=(0, 1))
    assert red > 200 and green < 60 and blue < 60


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


def test_a_file_that_is_no_image_is_called_so(folder):
    (folder / "cats" / "notes.txt").write_text("no image")
    *_, left_out = load_image_dir(folder, SIDE)
    assert left_out == [f"{os.path.join('cats', 'notes.txt')}: not an image of a known format"]


def test_nested_folders_names_outside_ascii_and_what_archives_leave_behind(folder):
    image = Image.new("RGB", (20, 20), "green")
    for name in ("cats/from ’24/kätzchen 猫.png", "cats/__MACOSX/._z.png", "__MACOSX/cats/._z.png", ".cache/a/b.png"):
        save(folder / name, image)
    (folder / "__MACOSX" / "empty").mkdir()
    images, labels, classes, left_out = load_image_dir(folder, SIDE)
    assert classes == ("cats", "dogs") and labels.tolist() == [0, 0, 1] and left_out == []
    paths, listed, _ = list_image_dir(folder)
    assert [path.name for path in paths] == ["kätzchen 猫.png", "plain.png", "plain.png"]
    assert listed.tolist() == labels.tolist()


def test_a_folder_that_is_split_already_is_not_taken_for_two_classes(tmp_path):
    for part in ("train", "Test"):
        save(tmp_path / part / "cats" / "a.png", Image.new("RGB", (20, 20)))
    with pytest.raises(ValueError, match="is split already .*Test, train.* side by side into one folder, or set"):
        load_image_dir(tmp_path, SIDE)


def test_read_images_says_which_were_read(folder):
    (folder / "cats" / "broken.png").write_bytes(b"no image")
    paths = image_files(folder)
    assert [path.name for path in paths] == ["broken.png", "plain.png", "plain.png"]
    images, read, left_out = read_images(paths, SIDE)
    assert images.shape == (2, SIDE, SIDE, 3) and read.tolist() == [1, 2] and list(left_out) == [paths[0]]
    images, read, _ = read_images([], SIDE)
    assert images.shape == (0, SIDE, SIDE, 3) and len(read) == 0


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


# --- The split --------------------------------------------------------------------------------------------------------


def test_every_part_has_the_same_proportions():
    labels = RNG.permutation([0] * 100 + [1] * 50 + [2] * 10)
    parts = stratified_split(labels, (0.6, 0.2, 0.2), seed=1)
    counts = [np.bincount(labels[part]).tolist() for part in parts]
    assert counts == [[60, 30, 6], [20, 10, 2], [20, 10, 2]]
    assert sorted(np.concatenate(parts)) == list(range(160))
    again = stratified_split(labels, (0.6, 0.2, 0.2), seed=1)
    other = stratified_split(labels, (0.6, 0.2, 0.2), seed=2)
    assert all(np.array_equal(one, two) for one, two in zip(parts, again, strict=True))
    assert not any(np.array_equal(one, two) for one, two in zip(parts, other, strict=True))


def test_a_small_class_is_in_every_part():
    labels = np.array([0] * 50 + [1] * 3)
    parts = stratified_split(labels)
    assert [np.bincount(labels[part])[1] for part in parts] == [1, 1, 1]


@pytest.mark.parametrize(
    ("labels", "fractions", "message"),
    [
        ([0] * 9 + [1] * 2, (0.6, 0.2, 0.2), "class 1 has 2 images, too few for 3 parts"),
        ([0] * 9, (0.6, 0.2), "fractions are .* whose sum is 1"),
        ([0] * 9, (1.0, 0.0), "fractions are .* positive"),
    ],
)
def test_what_cannot_be_split_is_refused(labels, fractions, message):
    with pytest.raises(ValueError, match=message):
        stratified_split(labels, fractions)
