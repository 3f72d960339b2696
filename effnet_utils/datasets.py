"""CIFAR-10 from its official files or from a packed copy, a toy dataset that needs no files, and folders of images.

CIFAR-10: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images". A data set of the same form, such as
a mirror or a subset, is converted once by the repository's ``python -m tools.pack_cifar10 FOLDER OUT.npz``.
"""

import hashlib
import os
import pickle
import struct
import tarfile
import tempfile
import warnings
from pathlib import Path

import numpy as np
from filelock import FileLock

from effnet_utils.files import check_sha256, project_path

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_PACKED = "cifar10.npz"
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
PACKED_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
TOY_CLASSES = ("disk", "ring", "square", "triangle", "cross", "rows", "columns", "diagonals", "checks", "dots")


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------


def load_cifar10(data_dir="data"):
    """CIFAR-10 from ``data_dir``; downloads the official archive there when the files are missing.

    Args:
        data_dir: a folder that contains ``cifar-10-batches-py`` or ``cifar10.npz``, or to which the official files are
            downloaded; or the path of ``cifar-10-batches-py`` or of a file that ``tools.pack_cifar10`` wrote.

    Returns:
        (x_train, y_train), (x_test, y_test): images uint8 (n, 32, 32, 3) with pixels 0..255, labels uint8 (n,) in
        0..9; officially 50,000 and 10,000.

    Raises:
        FileNotFoundError: the files are missing and cannot be downloaded; lists the options.
        ValueError: a file is damaged or not the official one, or the folder is ambiguous or incomplete; the message
            says what was found, what was expected and what to do.
    """
    place = _cifar10_place(data_dir)
    if place.is_file():
        splits, _ = _read_packed(place)
        return splits
    *train, test = [_read_official_batch(content) for content in _official_files(place)]
    x_train = np.concatenate([images for images, _ in train])
    y_train = np.concatenate([labels for _, labels in train])
    return (x_train, y_train), test


def describe_dataset(dataset, data_dir, n_train, n_test):
    """The ``dataset`` part of a record: which files were used, and whether they are the official ones.

    Args:
        dataset: "cifar10" or "toy".
        data_dir: as for ``load_cifar10``.
        n_train, n_test: number of images that a run trained on and was evaluated on.

    Returns:
        dict with the keys name, official (bool), source (text), sha256, n_train, n_test. The hash is that of the six
        official files in order; for a packed file and for the toy dataset, of the bytes of x_train, y_train, x_test
        and y_test in this order.
    """
    if dataset == "toy":
        official = False
        source = "effnet_utils.datasets.load_toy, seed 0"
        parts = _array_bytes(load_toy())
    else:
        place = _cifar10_place(data_dir)
        official = place.is_dir()
        if official:
            source = CIFAR10_URL
            parts = _official_files(place)
        else:
            splits, source = _read_packed(place)
            parts = _array_bytes(splits)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return {
        "name": dataset,
        "official": official,
        "source": source,
        "sha256": digest.hexdigest(),
        "n_train": n_train,
        "n_test": n_test,
    }


def _array_bytes(splits):
    return [array.tobytes() for split in splits for array in split]


def _cifar10_place(data_dir):
    """The folder with the six official files, downloaded if necessary, or the packed file."""
    place = project_path(data_dir)
    if place.is_file():
        return place
    if place.suffix == ".npz":
        raise FileNotFoundError(f"data_dir is {str(data_dir)!r}, and {place} is not a file")
    if place.name == CIFAR10_FOLDER:
        folder = place
    else:
        folder = place / CIFAR10_FOLDER
        packed = place / CIFAR10_PACKED
        if packed.is_file() and folder.exists():
            raise ValueError(
                f"{place} contains both {CIFAR10_FOLDER} and {CIFAR10_PACKED}: set data_dir to one of them, "
                f"{folder} or {packed}"
            )
        if packed.is_file():
            return packed
    if not folder.exists():
        _install(folder)
    return folder


def _official_files(folder):
    """The contents of the six official files, in order; any other file is refused."""
    missing = [name for name in CIFAR10_MD5 if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}: complete the folder, or remove it to download it anew")
    contents = []
    for name, expected in CIFAR10_MD5.items():
        content = (folder / name).read_bytes()
        found = hashlib.md5(content).hexdigest()
        if found != expected:
            raise ValueError(
                f"{folder / name} is not the official CIFAR-10 file (its MD5 is {found}, expected {expected}): if it "
                f"is damaged, remove {folder} to download it anew; if it is another data set of the same form (a "
                f'mirror, a subset), convert the folder once with `python -m tools.pack_cifar10 "{folder}" '
                f'"{folder.parent / CIFAR10_PACKED}"` and set data_dir to the new file'
            )
        contents.append(content)
    return contents


def _read_official_batch(content):
    """Images and labels of an official file. Unpickling can run code: check the MD5 first."""
    batch = pickle.loads(content, encoding="bytes")
    return to_images(batch[b"data"]), np.array(batch[b"labels"], np.uint8)


def to_images(pixels):
    """Images (n, 32, 32, 3) from rows (n, 3072), each of which holds the red plane, then green, then blue."""
    planes = pixels.reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _install(folder):
    """Download and unpack the official files, all or nothing; other processes that want the same folder wait."""
    user = getattr(os, "getuid", int)()
    name = hashlib.sha256(f"{user} {folder.resolve()}".encode()).hexdigest()
    with FileLock(Path(tempfile.gettempdir()) / f"effnet-utils-{name[:16]}.lock"):
        if folder.exists():
            return
        archive = folder.parent / Path(CIFAR10_URL).name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as temporary:
            if archive.is_file():
                check_sha256(archive, CIFAR10_SHA256, archive, "Delete it; it will be downloaded again")
            else:
                os.replace(_download(archive, temporary), archive)
            # Python 3.11 to 3.11.3 has no filters; the checksum says that the archive is the official one.
            options = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, **options)
            os.replace(Path(temporary) / CIFAR10_FOLDER, folder)


def _download(archive, temporary):
    """Path of the official archive in a temporary folder; ``archive`` is where it will be moved."""
    # Imported here: Keras takes seconds to load, and only a download needs it.
    from keras.utils import get_file

    try:
        return get_file(archive.name, CIFAR10_URL, cache_dir=temporary, cache_subdir="", file_hash=CIFAR10_SHA256)
    except ValueError as error:
        remedy = f"Run again, or put the archive at {archive}"
        raise ValueError(f"The file from {CIFAR10_URL} is not the published archive: {error} {remedy}") from error
    except Exception as error:  # get_file raises a bare Exception for every network fault
        raise FileNotFoundError(
            f"CIFAR-10 is not in {archive.parent} and could not be downloaded ({error}). Options: connect to the "
            f"network and run again; set data_dir to a folder that contains {CIFAR10_FOLDER} or {CIFAR10_PACKED}; or "
            'set dataset="toy", which needs no files'
        ) from error


def _read_packed(path):
    """((x_train, y_train), (x_test, y_test)) and the source of a packed file."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files if name in (*PACKED_ARRAYS, "source")}
    except Exception as error:  # a damaged zip file can raise almost anything
        remedy = "Delete it and pack the data set again"
        raise ValueError(f"{path} cannot be read as a packed data set ({error!r}). {remedy}") from error
    missing = [name for name in PACKED_ARRAYS if name not in found]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; expected the arrays {', '.join(PACKED_ARRAYS)}")
    source = found.get("source", np.array("unknown"))
    if not isinstance(source, np.ndarray) or source.dtype.kind != "U" or source.shape != ():
        raise ValueError(f"{path}: source is {kind(source)}; expected one text")
    splits = []
    for split in ("train", "test"):
        images = found[f"x_{split}"]
        labels = found[f"y_{split}"]
        if not _is_uint8(images) or images.shape[1:] != (32, 32, 3) or len(images) == 0:
            raise ValueError(f"{path}: x_{split} is {kind(images)}; expected uint8 (n, 32, 32, 3), n > 0")
        if not _is_uint8(labels) or labels.shape != (len(images),):
            raise ValueError(f"{path}: y_{split} is {kind(labels)}; expected uint8 ({len(images)},)")
        if labels.max() > 9:
            raise ValueError(f"{path}: y_{split} is in {labels.min()}..{labels.max()}; expected 0..9")
        splits.append((np.ascontiguousarray(images), labels))
    return tuple(splits), str(source)


def _is_uint8(value):
    return isinstance(value, np.ndarray) and value.dtype == np.uint8


def kind(value):
    """What a value is, for messages: dtype and shape of an array, else the name of its type."""
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


# --- The toy dataset ----------------------------------------------------------------------------------------------


def load_toy(seed=0):
    """A toy dataset of 32x32 colour images in ten classes: shapes and textures of any colour, place, size and tilt.

    Made by a formula in about a second, the same for the same seed. Colours say nothing about the class, so that a
    classifier has to see form. Between kinds of processors a few of the 18 million values differ by 1, from rounding.

    Args:
        seed: int, of the random numbers.

    Returns:
        (x_train, y_train), (x_test, y_test): uint8 (5000, 32, 32, 3) and uint8 (5000,), then 1000 of each; classes
        as in TOY_CLASSES, in equal numbers.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = load_toy()
        >>> x_train.shape, y_train[:5].tolist(), x_test.shape
        ((5000, 32, 32, 3), [1, 2, 7, 2, 9], (1000, 32, 32, 3))
    """
    rng = np.random.default_rng(seed)
    labels = np.concatenate([rng.permutation(np.arange(n) % 10).astype(np.uint8) for n in (5000, 1000)])
    images = np.concatenate([_toy_images(part, rng) for part in np.split(labels, 6)])
    return (images[:5000], labels[:5000]), (images[5000:], labels[5000:])


def _toy_images(labels, rng):
    def draw(low, high):
        return rng.uniform(low, high, (len(labels), 1, 1)).astype(np.float32)

    # Coordinates u, v of each pixel in the shape's own frame: shifted, rotated, scaled.
    grid = np.linspace(-1, 1, 32, dtype=np.float32)
    x = grid[None, None, :] - draw(-0.3, 0.3)
    y = grid[None, :, None] - draw(-0.3, 0.3)
    angle = draw(-0.25, 0.25)
    size = draw(0.45, 0.7)
    u = (np.cos(angle) * x + np.sin(angle) * y) / size
    v = (np.cos(angle) * y - np.sin(angle) * x) / size
    radius = np.hypot(u, v)

    # Each shape is the set where its function is above 0.
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

    # Background and shape differ by at least 0.35 in each channel; either may be the lighter.
    paper = rng.uniform(0, 1, (len(labels), 1, 1, 3)).astype(np.float32)
    step = rng.uniform(0.35, 0.65, paper.shape) * rng.choice([-1, 1], paper.shape)
    ink = np.where((paper + step < 0) | (paper + step > 1), paper - step, paper + step)
    images = paper + mask * (ink - paper) + rng.normal(0, 0.08, (*mask.shape[:3], 3))
    return np.clip(images * 255, 0, 255).astype(np.uint8)


# --- Folders of images --------------------------------------------------------------------------------------------

# Folders that no class is named after: what macOS packs into an archive, and parts of a data set split already.
NO_CLASS = "__MACOSX"
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def load_image_dir(image_dir, size):
    """Your own images, one folder per class; files that cannot be read are left out and named.

    Each image is rotated upright as its camera noted, put on white where it is transparent, converted to RGB, cropped
    to the square in its centre and resized. Names that begin with a dot and the folder __MACOSX are ignored; images
    in folders inside a class's folder belong to the class. All images are in memory: 150 kB each at 224 pixels.

    Args:
        image_dir: folder of folders; a folder's name is the class's. Any format that Pillow reads.
        size: int, height and width of the result in pixels.

    Returns:
        images uint8 (n, size, size, 3), labels int64 (n,), tuple of the classes' names in alphabetical order, list of
        "path: reason" for the files left out.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: fewer than two classes, a class without a readable image, or folders named train and test.
    """
    paths, labels, class_names = list_image_dir(image_dir)
    images, read, reasons = read_images(paths, size)
    folder = project_path(image_dir)
    left_out = [f"{path.relative_to(folder)}: {reason}" for path, reason in reasons.items()]
    labels = labels[read]
    for label, name in enumerate(class_names):
        if label not in labels:
            of_class = [line for line in left_out if Path(line).parts[0] == name]
            found = "; ".join(of_class[-3:]) or "the folder is empty"
            raise ValueError(f"class {name!r} has no readable image: {found}")
    return images, labels, class_names, left_out


def list_image_dir(image_dir):
    """The files of a folder of folders, in the order in which ``load_image_dir`` reads them; none is opened.

    Args:
        image_dir: as for ``load_image_dir``.

    Returns:
        list of Paths, labels int64 (n,), tuple of the classes' names.

    Raises:
        FileNotFoundError, ValueError: as ``load_image_dir``.
    """
    folder = project_path(image_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"image_dir is {str(image_dir)!r}, and {folder} is not a folder")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not _ignored(path.name))
    found = ", ".join(path.name for path in classes) or "none"
    if len(classes) < 2:
        raise ValueError(f"{folder} should contain one folder per class, at least two; found: {found}")
    if {path.name.lower() for path in classes} <= SPLITS:
        raise ValueError(
            f"{folder} is split already ({found}), and these would become the classes: put the folders of the classes "
            f"side by side into one folder, or set image_dir to {classes[0]}"
        )
    paths = []
    labels = []
    for label, class_folder in enumerate(classes):
        inside = image_files(class_folder)
        paths += inside
        labels += [label] * len(inside)
    return paths, np.array(labels, np.int64), tuple(path.name for path in classes)


def image_files(folder):
    """The files of a folder and of those inside it, sorted; hidden ones and __MACOSX are ignored."""
    folder = project_path(folder)
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(_ignored(name) for name in path.relative_to(folder).parts):
            found.append(path)
    return found


def read_images(paths, size):
    """Images of any kind and size, as ``load_image_dir`` reads them.

    Args:
        paths: of files.
        size: int, height and width of the result in pixels.

    Returns:
        images uint8 (n, size, size, 3), int64 (n,) which of ``paths`` they are, {path: reason} for those left out.
    """
    from PIL import Image, UnidentifiedImageError

    # What Pillow raises for files that are not images, truncated, damaged inside, or too large.
    unreadable = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
    images = []
    read = []
    left_out = {}
    for number, path in enumerate(paths):
        try:
            images.append(_read_image(path, size))
            read.append(number)
        except unreadable as error:
            unknown = isinstance(error, UnidentifiedImageError)
            left_out[Path(path)] = "not an image of a known format" if unknown else str(error)
    shape = (-1, size, size, 3)
    return np.array(images, np.uint8).reshape(shape), np.array(read, np.int64), left_out


def _ignored(name):
    return name.startswith(".") or name == NO_CLASS


def _read_image(path, size):
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            # 16-bit grey; Pillow's own conversion would cut it off at 255.
            image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC))


def stratified_split(labels, fractions=(0.6, 0.2, 0.2), seed=0):
    """Divide images at random into parts that have the same proportions of classes.

    Args:
        labels: integers (n,).
        fractions: of each part; the sum is 1.
        seed: int, of the random choice.

    Returns:
        list of int arrays, the indices of each part in random order; each image is in one part. Every part has at
        least one image of every class; what rounding leaves over is in the first.

    Raises:
        ValueError: the fractions do not add up to 1, or a class has fewer images than there are parts.
    """
    if min(fractions) <= 0 or not np.isclose(sum(fractions), 1):
        raise ValueError(f"fractions are {fractions}; expected positive numbers whose sum is 1")
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    parts = [[] for _ in fractions]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        later = [max(1, round(fraction * len(members))) for fraction in fractions[1:]]
        if sum(later) >= len(members):
            raise ValueError(f"class {label} has {len(members)} images, too few for {len(fractions)} parts")
        sizes = [len(members) - sum(later), *later]
        for part, chosen in zip(parts, np.split(members, np.cumsum(sizes)[:-1]), strict=True):
            part.append(chosen)
    return [rng.permutation(np.concatenate(part)) for part in parts]


# --- Any images ---------------------------------------------------------------------------------------------------


def check_images(images):
    """Raise where images are not what training expects; warn where pixels were scaled to 0..1.

    Args:
        images: uint8 (n, height, width, channels), pixels 0..255.

    Raises:
        TypeError: the dtype is not uint8.
        ValueError: the shape is wrong, or the channels come first.
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


def check_labels(labels, classes=None):
    """Labels as integers (n,), or an error that says what they are instead.

    Args:
        labels: integers (n,) or (n, 1), array or list.
        classes: int, how many there are; None where any number may come.

    Returns:
        int64 (n,).

    Raises:
        TypeError: they are not whole numbers.
        ValueError: they are one-hot or of another shape, or a label is out of range.
    """
    found = np.asarray(labels)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]  # as keras.datasets returns them
    if found.ndim != 1:
        remedy = "; one-hot labels: use labels.argmax(axis=1)" if found.ndim == 2 else ""
        raise ValueError(f"labels have shape {found.shape}; expected integers (n,){remedy}")
    if found.dtype.kind not in "iu":
        raise TypeError(f"labels are {found.dtype}; expected integers (n,), the number of each image's class")
    if len(found) and (found.min() < 0 or (classes is not None and found.max() >= classes)):
        last = "" if classes is None else f" to {classes - 1}"
        raise ValueError(f"labels are {found.min()} to {found.max()}; expected 0{last}")
    return found.astype(np.int64)


def warn_if_scaled(images):
    """Warn when all pixels are in 0..1: the model divides by 255 itself."""
    if images.size and images.max() <= 1:
        found = f"all pixels are in {images.min():.3g}..{images.max():.3g}"
        why = "Scaled twice, every image is nearly black, and accuracy stays near chance. Pass pixels as read"
        warnings.warn(f"{found}; the model expects 0..255 and scales them itself. {why}", stacklevel=3)


def resize(images, size):
    """Enlarge or reduce images: each new pixel is an average of those near it (bilinear; the area when reducing).

    Args:
        images: uint8 (n, height, width, 3).
        size: int >= 1, height and width of the result in pixels.

    Returns:
        uint8 (n, size, size, 3).
    """
    from PIL import Image

    return np.stack([Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in images])
