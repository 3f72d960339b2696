"""Tiny folders and archives in CIFAR-10's official layout, in every pickle form that such files are found in."""

import io
import pickle
import struct
import tarfile

import numpy as np

FOLDER = "cifar-10-batches-py"
BATCHES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")
MEMBERS = (*BATCHES, "batches.meta")
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

    dispatch[bytes], dispatch[str] = save_bytes, save_str

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


def made_up_batches(n=4):
    """{file name: (pixels uint8 (n, 3072), list of labels)}, the same every time, no two files alike."""
    rng = np.random.default_rng(7)
    return {
        name: (rng.integers(0, 256, (n, 3072), dtype=np.uint8), rng.integers(0, 10, n).tolist()) for name in BATCHES
    }


def batch_dict(pixels, labels, keys=bytes):
    """What an official batch file holds, with keys and names of the wanted type."""

    def text(value):
        return value.encode() if keys is bytes else value

    return {
        text("batch_label"): text("a made-up batch"),
        text("labels"): labels,
        text("data"): pixels,
        # One name is longer than 255 characters: long strings have an opcode of their own.
        text("filenames"): [text(f"image_{i}" + "_" * 300 * (i == 0) + ".png") for i in range(4)],
    }


def write_folder(parent, form="python2", keys=bytes):
    """Write the seven files below ``parent``; returns their folder."""
    folder = parent / FOLDER
    folder.mkdir(parents=True)
    for name, (pixels, labels) in made_up_batches().items():
        (folder / name).write_bytes(dumps(batch_dict(pixels, labels, keys), form))
    (folder / "batches.meta").write_bytes(dumps({b"label_names": [b"airplane"]}, form))
    return folder


def expected_arrays():
    """What a reader must make of ``write_folder``, by planes: red, green and blue lie one behind the other."""
    batches = made_up_batches()

    def images(name):
        planes = [batches[name][0][:, k * 1024 : (k + 1) * 1024].reshape(-1, 32, 32) for k in range(3)]
        return np.stack(planes, axis=-1)

    x_train = np.concatenate([images(name) for name in BATCHES[:5]])
    y_train = np.concatenate([batches[name][1] for name in BATCHES[:5]])
    return (x_train, y_train), (images("test_batch"), np.array(batches["test_batch"][1]))


def file_member(name, content):
    """(TarInfo, file) of a plain file in an archive."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, io.BytesIO(content)


def other_member(name, kind, target=""):
    """(TarInfo, None) of a folder, link or device in an archive."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, None


def write_archive(path, folder, first=(), instead=None):
    """A tar.gz of the folder's files in the official layout.

    ``first``: members to put before them. ``instead``: {file name: member, or None to leave it out}.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    members = {name: file_member(f"{FOLDER}/{name}", (folder / name).read_bytes()) for name in MEMBERS}
    members.update(instead or {})
    with tarfile.open(path, "w:gz") as tar:
        for member in (*first, *members.values()):
            if member is not None:
                tar.addfile(*member)
    return path


class Call:
    """Pickles as a call: reading it calls the function and then hands ``state`` to what came back."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced
