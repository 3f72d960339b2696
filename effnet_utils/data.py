"""CIFAR-10 from its official files, a toy set that needs no files, and batches for training.

CIFAR-10: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

import hashlib
import os
import pickle
import shutil
import tarfile
import tempfile
import warnings
from pathlib import Path

import numpy as np

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
# MD5 sums of the six files in the official archive, as torchvision publishes them.
CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
TOY_CLASSES = ("disk", "ring", "square", "triangle", "cross", "rows", "columns", "diagonals", "checks", "dots")


def project_path(path):
    """An absolute path; relative ones count from the repository's root when there is one, else from the working folder.

    Copy with: nothing.
    """
    path = Path(path).expanduser()
    if path.is_absolute():
        return path
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "effnet_utils" / "data.py").is_file() and (folder / "pyproject.toml").is_file():
            return folder / path
    return here / path


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------


def load_cifar10(data_dir="data"):
    """CIFAR-10 from ``data_dir``; downloads the official archive there when the files are missing.

    Args:
        data_dir: folder that holds (or will hold) ``cifar-10-batches-py``, or that folder itself.

    Returns:
        (x_train, y_train), (x_test, y_test): images uint8 (n, 32, 32, 3) with pixels 0..255, labels uint8 (n,) in
        0..9; officially 50,000 and 10,000.

    Raises:
        FileNotFoundError: no files and no network; names the ways on.
        ValueError: an archive or batch file is not what it should be; names the file, what was found and expected.

    Copy with: this whole module.
    """
    folder = _cifar10_folder(data_dir)
    batches = [_read_batch_file(folder / name) for name in CIFAR10_MD5]
    x_train = np.concatenate([images for images, _ in batches[:-1]])
    y_train = np.concatenate([labels for _, labels in batches[:-1]])
    return (x_train, y_train), batches[-1]


def describe_dataset(dataset, data_dir, n_train, n_test):
    """The ``dataset`` part of a record: which files were used, and whether they are the official ones.

    Args:
        dataset: "cifar10" or "toy".
        data_dir: as for ``load_cifar10``.
        n_train, n_test: images that a run trained on and was evaluated on.

    Returns:
        dict with the keys name, official (bool), source, sha256 (of the six files in order; of the images for the
        toy set), n_train, n_test.
    """
    if dataset == "toy":
        digest = hashlib.sha256(b"".join(x.tobytes() for split in load_toy() for x in split))
        official, source = False, "effnet_utils.data.load_toy, seed 0"
    else:
        folder = _cifar10_folder(data_dir)
        files = {name: (folder / name).read_bytes() for name in CIFAR10_MD5}
        digest = hashlib.sha256(b"".join(files.values()))
        official = all(hashlib.md5(files[name]).hexdigest() == md5 for name, md5 in CIFAR10_MD5.items())
        note = folder / "SOURCE.txt"
        source = note.read_text().strip() if note.is_file() else (CIFAR10_URL if official else "unknown")
    return {
        "name": dataset,
        "official": official,
        "source": source,
        "sha256": digest.hexdigest(),
        "n_train": n_train,
        "n_test": n_test,
    }


def _cifar10_folder(data_dir):
    data_dir = project_path(data_dir)
    folder = data_dir if data_dir.name == CIFAR10_FOLDER else data_dir / CIFAR10_FOLDER
    missing = [name for name in CIFAR10_MD5 if not (folder / name).is_file()]
    if missing and folder.is_dir():
        raise ValueError(f"{folder} lacks {', '.join(missing)}: complete the folder, or remove it to download it anew")
    if missing:
        _unpack(_official_archive(folder.parent), folder)
    return folder


def _official_archive(data_dir):
    archive = data_dir / Path(CIFAR10_URL).name
    if not archive.is_file():
        _download(archive)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != CIFAR10_SHA256:
        raise ValueError(
            f"{archive} is not the official archive (truncated or altered): its SHA-256 is {found}, expected "
            f"{CIFAR10_SHA256}. Delete it; it will be downloaded again"
        )
    return archive


def _download(archive):
    from keras.utils import get_file

    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".download-") as temporary:
        try:
            path = get_file(archive.name, CIFAR10_URL, file_hash=CIFAR10_SHA256, cache_dir=temporary, cache_subdir="")
        except Exception as error:  # get_file raises a bare Exception for every network fault
            raise FileNotFoundError(
                f"CIFAR-10 is not in {archive.parent} and could not be downloaded ({error}). Three ways on: connect to "
                f"the network and run again; or set data_dir to a folder that holds {CIFAR10_FOLDER}; or set "
                'dataset="toy", which needs no files'
            ) from error
        os.replace(path, archive)


def _unpack(archive, folder):
    """Take the six batches out of the archive, all or nothing."""
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unpack-"))
    try:
        with tarfile.open(archive) as tar:
            for name in (*CIFAR10_MD5, "batches.meta"):
                with tar.extractfile(f"{CIFAR10_FOLDER}/{name}") as source, open(temporary / name, "wb") as target:
                    shutil.copyfileobj(source, target)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _latin1_bytes(text, encoding):
    """How protocol 2 spells bytes when Python 3 writes it."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"unexpected encoding {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Builds arrays, strings, bytes, lists, dicts and numbers. Any other object is refused before it is made."""

    def find_class(self, module, name):
        # numpy.core became numpy._core in NumPy 2; files of both ages name the same functions.
        module = module.replace("numpy._core", "numpy.core")
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): np.ndarray.__reduce__(np.empty(0))[0],
            ("numpy.core.numeric", "_frombuffer"): np.empty(0).__reduce_ex__(5)[0],
            ("_codecs", "encode"): _latin1_bytes,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which has no place in a file of arrays")
        return allowed[module, name]


def _read_batch_file(path):
    """One batch: images uint8 (n, 32, 32, 3) and labels uint8 (n,)."""
    try:
        with open(path, "rb") as file:
            batch = _ArrayUnpickler(file, encoding="bytes").load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(
            f"{path} cannot be read as a CIFAR-10 batch: {error}. Replace it by the official file"
        ) from error
    if not isinstance(batch, dict):
        raise ValueError(f"{path} holds a {type(batch).__name__}; expected a dict with b'data' and b'labels'")
    batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
    pixels, labels = batch.get("data"), batch.get("labels")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072:
        found = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ValueError(f"{path}: 'data' is {found}; expected uint8 (n, 3072)")
    labels = np.asarray(labels)
    if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu" or not np.isin(labels, range(10)).all():
        raise ValueError(f"{path}: 'labels' is {labels.dtype} {labels.shape}; expected {len(pixels)} integers 0..9")
    # A row is the red plane, then green, then blue.
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.uint8)


# --- The toy set ------------------------------------------------------------------------------------------------


def load_toy(seed=0):
    """Ten classes of drawn 32x32 colour images: shapes and textures of any colour, place, size and tilt.

    Made by a formula in about a second, the same for the same seed. Colours say nothing about the class, so that a
    classifier must see form.

    Args:
        seed: int, of the random numbers.

    Returns:
        (x_train, y_train), (x_test, y_test): uint8 (5000, 32, 32, 3) and uint8 (5000,), then 1000 of each; classes
        as in TOY_CLASSES, in equal numbers.

    Copy with: TOY_CLASSES, _toy_images.
    """
    rng = np.random.default_rng(seed)
    labels = np.concatenate([rng.permutation(np.arange(n) % 10).astype(np.uint8) for n in (5000, 1000)])
    images = np.concatenate([_toy_images(part, rng) for part in np.split(labels, 6)])
    return (images[:5000], labels[:5000]), (images[5000:], labels[5000:])


def _toy_images(labels, rng):
    def draw(low, high):
        return rng.uniform(low, high, (len(labels), 1, 1)).astype(np.float32)

    # Coordinates u, v of each pixel in the drawing's own frame: moved, turned, scaled.
    grid = np.linspace(-1, 1, 32, dtype=np.float32)
    x, y = grid[None, None, :] - draw(-0.3, 0.3), grid[None, :, None] - draw(-0.3, 0.3)
    angle, size = draw(-0.25, 0.25), draw(0.45, 0.7)
    u = (np.cos(angle) * x + np.sin(angle) * y) / size
    v = (np.cos(angle) * y - np.sin(angle) * x) / size
    radius = np.hypot(u, v)

    # Each drawing is the set where its function is above 0.
    wave = np.pi * draw(1.6, 2.2)
    forms = [
        1 - radius,
        0.3 - np.abs(radius - 0.8),
        0.85 - np.maximum(np.abs(u), np.abs(v)),
        np.minimum(0.7 - v, 0.5 * v + 0.65 - np.abs(u)),
        np.minimum(0.28 - np.minimum(np.abs(u), np.abs(v)), 1 - np.maximum(np.abs(u), np.abs(v))),
        np.sin(wave * v),
        np.sin(wave * u),
        np.sin(wave * (u + v) * 0.75),
        np.sin(wave * u) * np.sin(wave * v),
        0.6 - np.hypot(np.cos(wave * u / 2), np.cos(wave * v / 2)),
    ]
    chosen = np.choose(labels[:, None, None], [np.broadcast_to(form, radius.shape) for form in forms])
    mask = np.clip(chosen * 8 + 0.5, 0, 1)[..., None]

    # Two colours at least 0.35 apart on average; either may be the lighter.
    paper = rng.uniform(0, 1, (len(labels), 1, 1, 3)).astype(np.float32)
    step = rng.uniform(0.35, 0.65, paper.shape) * rng.choice([-1, 1], paper.shape)
    ink = np.where((paper + step < 0) | (paper + step > 1), paper - step, paper + step)
    images = paper + mask * (ink - paper) + rng.normal(0, 0.08, (*mask.shape[:3], 3))
    return np.clip(images * 255, 0, 255).astype(np.uint8)


# --- Images into batches ----------------------------------------------------------------------------------------


def check_images(images, labels=None):
    """Raise where images (or labels) are not what training expects; warn where pixels were scaled to 0..1.

    Args:
        images: uint8 (n, height, width, channels), pixels 0..255.
        labels: integers (n,), or None.

    Raises:
        TypeError: the dtype is not uint8 (labels: not an integer type).
        ValueError: the shape is off, the channels come first, or the counts differ.

    Copy with: warn_if_scaled.
    """
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(f"images have shape {images.shape}; expected (n, height, width, channels)")
    if images.shape[1] in (1, 3, 4) and images.shape[3] not in (1, 3, 4):
        raise ValueError(
            f"images have shape {images.shape}, with the channels first; expected (n, height, width, channels): "
            "use np.moveaxis(images, 1, -1)"
        )
    if images.dtype != np.uint8:
        raise TypeError(
            f"images are {images.dtype} in {images.min():.3g}..{images.max():.3g}; expected uint8 in 0..255. The model "
            "scales pixels itself: pass them as they were read"
        )
    warn_if_scaled(images)
    if labels is None:
        return
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels are {labels.dtype}; expected integers")
    if labels.shape != (len(images),):
        raise ValueError(f"labels have shape {labels.shape}; expected ({len(images)},), one for each image")


def warn_if_scaled(images):
    """Warn when all pixels lie in 0..1: the model divides by 255 itself. Copy with: nothing."""
    if images.size and images.max() <= 1:
        warnings.warn(
            f"all pixels lie in {images.min():.3g}..{images.max():.3g}; the model expects 0..255 and scales them "
            "itself. Scaled twice, every image is nearly black, and accuracy stays near chance. Pass pixels as read",
            stacklevel=3,
        )


def augment(images, flip, shift, pad):
    """Mirror and move images.

    Args:
        images: uint8 (n, height, width, channels).
        flip: bool (n,), which images to mirror left to right.
        shift: int (n, 2) in 0..2 * pad, the first row and column of each cut-out; ``pad`` means not moved.
        pad: int >= 0, pixels added on each side by reflection before cutting out.

    Returns:
        uint8, the shape of ``images``.

    Copy with: nothing.
    """
    n, height, width, _ = images.shape
    images = np.where(flip[:, None, None, None], images[:, :, ::-1], images)
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    return windows[np.arange(n), shift[:, 0], shift[:, 1]].transpose(0, 2, 3, 1)
