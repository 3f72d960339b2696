"""CIFAR-10 from its official files, a toy set that needs no files, and batches for training.

CIFAR-10: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

import hashlib
import io
import os
import pickle
import re
import struct
import tarfile
import tempfile
import warnings
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image, ImageOps

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
DELETE = "Delete it; it will be downloaded again"
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
    path, here = Path(path).expanduser(), Path.cwd()
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
    *batches, test = (_read_batch_file(folder / name) for name in CIFAR10_MD5)
    images, labels = zip(*batches, strict=True)
    return (np.concatenate(images), np.concatenate(labels)), test


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
        parts = [x.tobytes() for split in load_toy() for x in split]
        official, source = False, "effnet_utils.data.load_toy, seed 0"
    else:
        folder = _cifar10_folder(data_dir)
        parts = [(folder / name).read_bytes() for name in CIFAR10_MD5]
        official = [hashlib.md5(part).hexdigest() for part in parts] == list(CIFAR10_MD5.values())
        source = CIFAR10_URL if official else "unknown"
        if (folder / "SOURCE.txt").is_file():
            source = (folder / "SOURCE.txt").read_text(encoding="utf-8").strip()
    sha256 = hashlib.sha256(b"".join(parts)).hexdigest()
    return dict(name=dataset, official=official, source=source, sha256=sha256, n_train=n_train, n_test=n_test)


def _cifar10_folder(data_dir):
    data_dir = project_path(data_dir)
    folder = data_dir if data_dir.name == CIFAR10_FOLDER else data_dir / CIFAR10_FOLDER
    missing = [name for name in CIFAR10_MD5 if not (folder / name).is_file()]
    if missing and folder.exists():
        raise ValueError(f"{folder} lacks {', '.join(missing)}: complete the folder, or remove it to download it anew")
    if missing:
        # One process downloads, others that want the same wait for it.
        user = getattr(os, "getuid", int)()
        name = hashlib.sha256(f"{user} {folder.resolve()}".encode()).hexdigest()
        with FileLock(Path(tempfile.gettempdir()) / f"effnet-utils-{name[:16]}.lock"):
            if not folder.exists():
                archive = folder.parent / Path(CIFAR10_URL).name
                if archive.is_file():
                    check_sha256(archive, CIFAR10_SHA256, archive, DELETE)
                else:
                    _download(archive)
                _unpack(archive, folder)
    return folder


def check_sha256(path, expected, name, remedy):
    """Raise ValueError where a file is not the published one; the message calls it ``name``. Copy with: nothing."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        digests = f"its SHA-256 is {found}, expected {expected}"
        raise ValueError(f"{name} is not the published file (truncated or altered): {digests}. {remedy}")


def _download(archive):
    from keras.utils import get_file

    # Beside the archive's place, or above it where the folder is yet to be made: a failure leaves nothing behind.
    nearest = next(parent for parent in archive.parents if parent.is_dir())
    with tempfile.TemporaryDirectory(dir=nearest, prefix=".download-") as temporary:
        try:
            path = Path(get_file(archive.name, CIFAR10_URL, cache_dir=temporary, cache_subdir=""))
        except Exception as error:  # get_file raises a bare Exception for every network fault
            found = f"CIFAR-10 is not in {archive.parent} and could not be downloaded ({error})"
            ways = f'set data_dir to a folder that holds {CIFAR10_FOLDER}; or set dataset="toy", which needs no files'
            raise FileNotFoundError(
                f"{found}. Three ways on: connect to the network and run again; or {ways}"
            ) from error
        found, remedy = f"The file from {CIFAR10_URL}", f"Run again, or put the archive at {archive}"
        check_sha256(path, CIFAR10_SHA256, found, remedy)
        archive.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, archive)


def _unpack(archive, folder):
    """Take the six batches and the names out of the archive, all or nothing."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as temporary:
        unpacked = Path(temporary) / folder.name
        unpacked.mkdir()
        try:
            with tarfile.open(archive) as tar:
                for name in (*CIFAR10_MD5, "batches.meta"):
                    member = tar.getmember(f"{CIFAR10_FOLDER}/{name}")
                    if not member.isreg():
                        raise tarfile.TarError(f"{member.name} is not a file")
                    (unpacked / name).write_bytes(tar.extractfile(member).read())
        except (tarfile.TarError, KeyError, EOFError) as error:
            raise ValueError(f"{archive} cannot be unpacked: {error}. {DELETE}") from error
        os.replace(unpacked, folder)


class _Dtype:
    """Stands in for numpy.dtype while a pickle is read: plain numbers only, no objects and no fields."""

    def __init__(self, code, *_):
        code = code.decode() if isinstance(code, bytes) else code
        if not re.fullmatch("[biuf][1248]", code):
            raise pickle.UnpicklingError(f"it holds an array of {code!r}")
        self.value = np.dtype(code)

    def __setstate__(self, state):
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """Stands in for numpy.ndarray while a pickle is read: no more numbers than the pickle has bytes for."""

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


# The reader in Python: the one in C takes memory for whatever memo number a file names.
class ArrayUnpickler(pickle._Unpickler):
    """Builds arrays, strings, bytes, lists, dicts and numbers. Any other object is refused before it is made."""

    allowed = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy.core.numeric", "_frombuffer"): _from_buffer,
        ("_codecs", "encode"): _latin1_bytes,
    }

    def find_class(self, module, name):
        # numpy.core became numpy._core in NumPy 2; files of both ages name the same functions.
        place = module.replace("numpy._core", "numpy.core"), name
        if place not in self.allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which has no place in a file of arrays")
        return self.allowed[place]


def _read_batch_file(path):
    """One batch: images uint8 (n, 32, 32, 3) and labels uint8 (n,)."""
    file = io.BytesIO(path.read_bytes())
    try:
        batch = ArrayUnpickler(file, encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise almost anything
        why = f"truncated or altered: {error!r}"
        raise ValueError(f"{path} is no readable CIFAR-10 batch ({why}). Replace it by the official file") from error
    if not isinstance(batch, dict):
        raise ValueError(f"{path} holds a {type(batch).__name__}; expected a dict with b'data' and b'labels'")
    pixels, labels = (batch.get(key.encode(), batch.get(key)) for key in ("data", "labels"))
    pixels, labels = (getattr(part, "value", part) for part in (pixels, labels))
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (3072,):
        raise ValueError(f"{path}: 'data' is {_kind(pixels)}; expected uint8 (n, 3072)")
    if isinstance(labels, list) and all(type(label) is int for label in labels):
        labels = np.array(labels)
    if not isinstance(labels, np.ndarray) or labels.shape != (len(pixels),) or labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: 'labels' is {_kind(labels)}; expected {len(pixels)} integers 0..9")
    if not np.isin(labels, range(10)).all():
        raise ValueError(f"{path}: 'labels' lie in {labels.min()}..{labels.max()}; expected 0..9")
    # A row is the red plane, then green, then blue.
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.uint8)


def _kind(value):
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


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


# --- A folder of one's own ----------------------------------------------------------------------------------------


def load_image_dir(image_dir, side):
    """Images of one's own, one folder for each class; what cannot be read is named and left out.

    Each image is turned upright as its camera noted, laid on white where it is transparent, made RGB, and its middle is
    cut out as a square and resized. Names that begin with a dot are passed over.

    Args:
        image_dir: folder of folders; a folder's name is the class's. Anything that Pillow reads.
        side: int, height and width of the result in pixels.

    Returns:
        images uint8 (n, side, side, 3), labels int64 (n,), tuple of the classes' names in alphabetical order, list of
        "path: reason" for the files left out.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: fewer than two classes, or a class without a readable image.

    Copy with: _read_image, project_path.
    """
    # What Pillow raises for files that are no image, cut off, broken inside, or too large to be one.
    unreadable = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
    folder = project_path(image_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"image_dir is {str(image_dir)!r}, and {folder} is no folder")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        found = ", ".join(path.name for path in classes) or "none"
        raise ValueError(f"{folder} should hold one folder for each class, at least two; found: {found}")
    images, labels, left_out = [], [], []
    for label, place in enumerate(classes):
        for path in sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith(".")):
            try:
                images.append(_read_image(path, side))
                labels.append(label)
            except unreadable as error:
                left_out.append(f"{path.relative_to(folder)}: {error}")
        if label not in labels:
            reasons = "; ".join(left_out[-3:]) or "the folder is empty"
            raise ValueError(f"class {place.name!r} has no readable image: {reasons}")
    return np.stack(images), np.array(labels), tuple(path.name for path in classes), left_out


def _read_image(path, side):
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            # 16 bits of grey; Pillow's own conversion would cut them off at 255.
            image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC))


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
    expected = "expected (n, height, width, channels)"
    if images.ndim != 4:
        raise ValueError(f"images have shape {images.shape}; {expected}")
    if images.shape[1] in (1, 3, 4) and images.shape[3] not in (1, 3, 4):
        remedy = "use np.moveaxis(images, 1, -1)"
        raise ValueError(f"images have shape {images.shape}, with the channels first; {expected}: {remedy}")
    if images.dtype != np.uint8:
        found = f" in {images.min():.3g}..{images.max():.3g}" if images.size and images.dtype.kind in "iuf" else ""
        remedy = "The model scales pixels itself: pass them as they were read"
        raise TypeError(f"images are {images.dtype}{found}; expected uint8 in 0..255. {remedy}")
    warn_if_scaled(images)
    if labels is not None:
        labels = np.asarray(labels)
        if labels.dtype.kind not in "iu":
            raise TypeError(f"labels are {labels.dtype}; expected integers")
        if labels.shape != (len(images),):
            raise ValueError(f"labels have shape {labels.shape}; expected ({len(images)},), one for each image")


def warn_if_scaled(images):
    """Warn when all pixels lie in 0..1: the model divides by 255 itself. Copy with: nothing."""
    if images.size and images.max() <= 1:
        found = f"all pixels lie in {images.min():.3g}..{images.max():.3g}"
        why = "Scaled twice, every image is nearly black, and accuracy stays near chance. Pass pixels as read"
        warnings.warn(f"{found}; the model expects 0..255 and scales them itself. {why}", stacklevel=3)


def resize(images, side):
    """Images made larger or smaller, each new pixel an average of those near it (bilinear; the area when smaller).

    Args:
        images: uint8 (n, height, width, 3).
        side: int >= 1, height and width of the result in pixels.

    Returns:
        uint8 (n, side, side, 3).

    Copy with: nothing.
    """
    return np.stack([Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR) for image in images])


def augment(images, plan):
    """Choose images, mirror and move them, with indices alone: any backend, inside or outside a compiled graph.

    Args:
        images: tensor or array (n, height, width, channels), of any dtype.
        plan: integers (batch, 4): which image; 1 to mirror it left to right, else 0; rows and columns by which the
            cut-out begins below and right of the image's corner, each smaller than the image's side. What lies
            outside is the reflection at the edge.

    Returns:
        Tensor (batch, height, width, channels) of the images' dtype.

    Copy with: nothing.
    """
    from keras import ops

    height, width, channels = images.shape[1:]
    index, mirrored, row, column = (plan[:, k, None] for k in range(4))

    def reflect(places, size):
        return size - 1 - ops.abs(size - 1 - ops.abs(places))

    rows = reflect(row + ops.arange(height, dtype="int32"), height)
    columns = reflect(column + ops.arange(width, dtype="int32"), width)
    columns = ops.where(mirrored == 1, width - 1 - columns, columns)
    # Two small gathers, whole images and then pixels: one over all images would need indices beyond 32 bits.
    first = ops.arange(ops.shape(plan)[0], dtype="int32")[:, None] * height
    places = (first + rows)[:, :, None] * width + columns[:, None, :]
    chosen = ops.reshape(ops.take(images, index[:, 0], axis=0), (-1, channels))
    return ops.take(chosen, places, axis=0)
