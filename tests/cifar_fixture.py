"""Tiny data sets in CIFAR-10's official form and packed, in the pickle forms that such files are found in."""

import hashlib
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

FOLDER = "cifar-10-batches-py"
BATCHES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")
ARCHIVE = "cifar-10-python.tar.gz"
FORMS = ("python2", 2, 4, 5)


class _Python2Pickler(pickle._Pickler):
    """Writes protocol 2 as Python 2 did: there, str was bytes, and a dtype's flags were the numbers 0 and 1."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_bytes(self, value):
        size = len(value)
        head = pickle.SHORT_BINSTRING + bytes([size]) if size < 256 else pickle.BINSTRING + struct.pack("<i", size)
        self.write(head + value)
        self.memoize(value)

    def save_str(self, value):
        self.save_bytes(value.encode("latin1"))

    dispatch[bytes] = save_bytes
    dispatch[str] = save_str

    def reducer_override(self, value):
        if isinstance(value, np.dtype):
            return np.dtype, (value.str[1:], 0, 1), value.__reduce__()[2]
        return NotImplemented


def dumps(value, form):
    """The pickle of a value: form is "python2" or a protocol of today's Python."""
    if form != "python2":
        return pickle.dumps(value, form)
    file = io.BytesIO()
    _Python2Pickler(file, 2).dump(value)
    # The module's name of that time.
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


class Call:
    """Pickles as a call: reading it calls the function."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def made_up_batches(n=4):
    """{file name: (pixels uint8 (n, 3072), list of labels)}, the same every time, no two files alike."""
    rng = np.random.default_rng(7)
    return {
        name: (rng.integers(0, 256, (n, 3072), dtype=np.uint8), rng.integers(0, 10, n).tolist()) for name in BATCHES
    }


def batch_dict(pixels, labels):
    """What an official batch file contains."""
    return {b"batch_label": b"a made-up batch", b"labels": labels, b"data": pixels, b"filenames": [b"image.png"] * 4}


def write_folder(parent, form="python2"):
    """Write the seven files below ``parent``; returns their folder."""
    folder = parent / FOLDER
    folder.mkdir(parents=True)
    for name, (pixels, labels) in made_up_batches().items():
        (folder / name).write_bytes(dumps(batch_dict(pixels, labels), form))
    (folder / "batches.meta").write_bytes(b"not read")
    return folder


def md5_sums(folder):
    """In place of ``datasets.CIFAR10_MD5`` they make the folder's files the official ones."""
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in BATCHES}


def write_archive(path, folder):
    """A tar.gz of the folder in the official form."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, FOLDER)
    return path


def expected_arrays():
    """What a reader must make of ``write_folder``, by planes: red, green and blue, one behind the other."""

    def split(names):
        batches = [made_up_batches()[name] for name in names]
        pixels = np.concatenate([pixels for pixels, _ in batches])
        planes = [pixels[:, k * 1024 : (k + 1) * 1024].reshape(-1, 32, 32) for k in range(3)]
        return np.stack(planes, axis=-1), np.concatenate([labels for _, labels in batches]).astype(np.uint8)

    return split(BATCHES[:5]), split(BATCHES[5:])


def packed_arrays(**changed):
    """The arrays of a packed file; ``changed`` replaces some, and None leaves one out."""
    (x_train, y_train), (x_test, y_test) = expected_arrays()
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, **changed}
    return {name: array for name, array in arrays.items() if array is not None}


def write_packed(folder, **changed):
    """A packed file that ``load_cifar10(folder)`` finds; returns its path."""
    path = folder / "cifar10.npz"
    np.savez(path, **packed_arrays(**changed))
    return path


def assert_same(found):
    """Images and labels are those of ``write_folder``."""
    for (images, labels), (expected_images, expected_labels) in zip(found, expected_arrays(), strict=True):
        assert images.dtype == labels.dtype == np.uint8
        assert images.flags.c_contiguous and images.flags.writeable
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(labels, expected_labels)


def refusal(function, *arguments, error=ValueError, names=()):
    """The message of a refusal; it must contain all ``names``."""
    with pytest.raises(error) as caught:
        function(*arguments)
    for name in names:
        assert str(name) in str(caught.value)
    return str(caught.value)


def system_call(marker):
    return Call(os.system, f"touch '{marker}'")
