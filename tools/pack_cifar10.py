"""Convert a folder of batch files in CIFAR-10's official form to one .npz file for ``load_cifar10``.

    python -m tools.pack_cifar10 FOLDER OUT.npz

For mirrors and subsets: the official files are read as they are. The folder may come from anybody: no code in its files
can run.
"""

import argparse
import io
import pickle
import re
from pathlib import Path

import numpy as np

from effnet_utils.datasets import CIFAR10_MD5, describe_dataset, kind, load_cifar10, to_images
from effnet_utils.files import atomic_write


def pack(folder, path, source=None):
    """Convert a folder of batch files in CIFAR-10's official form to one .npz file for ``load_cifar10``.

    The folder may come from anybody: no code in its files can run.

    Args:
        folder: contains data_batch_1..5 and test_batch.
        path: of the new file.
        source: text for records and figures that says what these images are; by default the content of the folder's
            SOURCE.txt, or "unknown".

    Raises:
        FileExistsError: ``path`` exists.
        ValueError: a file is missing, damaged, or contains anything but arrays, lists and text.
    """
    folder = Path(folder)
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists and is not overwritten: delete it or choose another name")
    missing = [name for name in CIFAR10_MD5 if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}; expected {', '.join(CIFAR10_MD5)}")
    note = folder / "SOURCE.txt"
    if source is None:
        source = note.read_text(encoding="utf-8").strip() if note.is_file() else "unknown"
    *train, (x_test, y_test) = [_read_batch(folder / name) for name in CIFAR10_MD5]
    x_train = np.concatenate([images for images, _ in train])
    y_train = np.concatenate([labels for _, labels in train])
    with atomic_write(path) as file:
        np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, source=np.array(source))


class _Dtype:
    """Stands in for numpy.dtype, which believes any flags that a file sets: bytes would become addresses of objects."""

    def __init__(self, code, *_):
        code = code.decode() if isinstance(code, bytes) else code
        if not re.fullmatch("[biuf][1248]", code):
            raise pickle.UnpicklingError(f"it contains an array of {code!r}")
        self.value = np.dtype(code)

    def __setstate__(self, state):
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """Stands in for numpy.ndarray, which would also make arrays of memory that nobody has written to."""

    value = None

    def __init__(self, *_):
        """The numbers come later, in the state."""

    def __setstate__(self, state):
        _, shape, dtype, fortran, numbers = state
        self.value = np.frombuffer(numbers, dtype.value).reshape(shape, order="F" if fortran else "C")


def _from_buffer(numbers, dtype, shape, order):
    """Stands in for NumPy's function of the fifth protocol."""
    return np.frombuffer(numbers, dtype.value).reshape(shape, order=order)


def _latin1_bytes(text, encoding):
    """How protocol 2 spells bytes when Python 3 writes it."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"unexpected encoding {encoding!r}")
    return text.encode("latin1")


# The unpickler in Python: the one in C allocates memory for whatever memo index a file names.
class _BatchUnpickler(pickle._Unpickler):
    """Builds arrays of numbers and plain Python values; anything else is refused before it is made."""

    # {(module, name): the class or function that stands in for it}
    allowed = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy.core.numeric", "_frombuffer"): _from_buffer,
        ("_codecs", "encode"): _latin1_bytes,
    }

    def find_class(self, module, name):
        # numpy.core became numpy._core in NumPy 2; files of both ages name the same functions.
        place = (module.replace("numpy._core", "numpy.core"), name)
        if place not in self.allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")
        return self.allowed[place]


def _read_batch(path):
    """Images uint8 (n, 32, 32, 3) and labels uint8 (n,) of one batch file, which may come from anybody."""
    try:
        batch = _BatchUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(f"{path} cannot be read as a CIFAR-10 batch: truncated or altered ({error!r})") from error
    if not isinstance(batch, dict):
        raise ValueError(f"{path} contains a {type(batch).__name__}; expected a dict with b'data' and b'labels'")
    pixels = _entry(batch, "data")
    labels = _entry(batch, "labels")
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.shape[1:] != (3072,)
        or len(pixels) == 0
    ):
        raise ValueError(f"{path}: 'data' is {kind(pixels)}; expected uint8 (n, 3072), n > 0")
    if isinstance(labels, list) and all(type(label) is int for label in labels):
        labels = np.array(labels)
    if not isinstance(labels, np.ndarray) or labels.shape != (len(pixels),) or labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: 'labels' is {kind(labels)}; expected {len(pixels)} integers 0..9")
    if labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"{path}: 'labels' are in {labels.min()}..{labels.max()}; expected 0..9")
    return to_images(pixels), labels.astype(np.uint8)


def _entry(batch, key):
    """A batch's value: Python 2 wrote the keys as bytes, Python 3 may write them as text."""
    value = batch.get(key.encode(), batch.get(key))
    return value.value if isinstance(value, _Array) else value


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="contains data_batch_1..5 and test_batch")
    parser.add_argument("path", type=Path, metavar="OUT.npz", help="the new file; load_cifar10 takes it as data_dir")
    parser.add_argument("--source", metavar="TEXT", help="what the images are (default: the folder's SOURCE.txt)")
    given = parser.parse_args(arguments)
    try:
        pack(given.folder, given.path, given.source)
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    (x_train, _), (x_test, _) = load_cifar10(given.path.absolute())
    source = describe_dataset("cifar10", given.path.absolute(), len(x_train), len(x_test))["source"]
    print(f"{given.path}: {len(x_train)} training and {len(x_test)} test images; source: {source}")


if __name__ == "__main__":
    main()
