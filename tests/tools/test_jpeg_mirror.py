"""CIFAR-10 through JPEG: the same labels and order, other pixels, a file that load_cifar10 reads."""

import numpy as np
import pytest

from effnet_utils.datasets import describe_dataset, load_cifar10, load_toy
from tools import jpeg_mirror


@pytest.fixture
def small(tmp_path):
    """A folder with a small data set of CIFAR-10's form, and its arrays."""
    (images, labels), _ = load_toy()
    arrays = {"x_train": images[:20], "y_train": labels[:20], "x_test": images[20:30], "y_test": labels[20:30]}
    np.savez(tmp_path / "cifar10.npz", **arrays, source="a test")
    return tmp_path, arrays


def test_the_new_file_has_other_pixels_and_the_same_labels(small, capsys):
    folder, arrays = small
    jpeg_mirror.main([str(folder / "mirror.npz"), "--data-dir", str(folder)])
    (x_train, y_train), (x_test, y_test) = load_cifar10(folder / "mirror.npz")
    np.testing.assert_array_equal(y_train, arrays["y_train"])
    np.testing.assert_array_equal(y_test, arrays["y_test"])
    for found, exact in ((x_train, arrays["x_train"]), (x_test, arrays["x_test"])):
        off = np.abs(found.astype(int) - exact)
        assert found.dtype == np.uint8 and 0.5 < off.mean() < 40  # the toy images are full of noise
    assert describe_dataset("cifar10", folder / "mirror.npz", 20, 10)["source"] == jpeg_mirror.SOURCE
    assert jpeg_mirror.SOURCE in capsys.readouterr().out


def test_grey_stays_grey_and_colour_edges_spread():
    """With chroma at half the resolution, a red pixel column colours its neighbour, and a grey image has no colour."""
    grey = np.full((1, 16, 16, 3), 99, np.uint8)
    np.testing.assert_array_equal(jpeg_mirror.through_jpeg(grey), grey)
    red = grey.copy()
    red[:, :, 7] = (255, 0, 0)
    found = jpeg_mirror.through_jpeg(red)[0, 8].astype(int)
    assert found[6, 0] - found[6, 2] > 40, "the chroma of columns 6 and 7 is one value"


@pytest.mark.parametrize(("name", "said"), [("mirror.npy", "does not end in .npz"), ("cifar10.npz", "exists already")])
def test_wrong_names_are_refused(small, capsys, name, said):
    folder, _ = small
    with pytest.raises(SystemExit):
        jpeg_mirror.main([str(folder / name), "--data-dir", str(folder)])
    assert said in capsys.readouterr().err
