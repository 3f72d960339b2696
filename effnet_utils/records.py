"""Records of runs: one JSON file for each run that a text quotes."""

import csv
import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import keras
from filelock import FileLock, Timeout

from effnet_utils.data import project_path

# How the names of files begin that are being written.
PARTIAL = ".partial-"
KEYS = ("parameters", "dataset", "results", "seconds", "environment", "notebook")


def open_output_dir(output_dir, notebook, *, hold=True):
    """The folder for a run's files, made and tried.

    Args:
        output_dir: path; "" makes ``runs/<notebook>/<date and time>``. Relative paths as in ``project_path``.
        notebook: str, name of the notebook.
        hold: bool, keep other processes out of the folder for as long as this one lives.

    Returns:
        Path of an existing, writable folder without a record and without unfinished files.

    Raises:
        ValueError: the folder holds a record already, cannot be written to, or another process holds it.

    Copy with: project_path, PARTIAL, _held, _hold.
    """
    folder = project_path(output_dir or f"runs/{notebook}/{datetime.datetime.now():%Y%m%d-%H%M%S-%f}")
    if (folder / "record.json").exists():
        raise ValueError(f"output_dir {folder} already holds a record; choose another folder, or move the record away")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"output_dir {folder} cannot be written to ({error}); choose another folder") from error
    if hold and folder not in _held:
        _hold(folder)
    return folder


_held = {}  # folder: its lock; the system takes the lock away when the process ends, however it ends


def _hold(folder):
    lock = FileLock(folder / ".lock")
    try:
        # The kernel of a run that was killed lives on for a second or two.
        lock.acquire(timeout=10)
    except Timeout:
        raise ValueError(f"output_dir {folder} is in use by another run; choose another folder") from None
    except NotImplementedError:
        warnings.warn(f"{folder} cannot be locked; see to it that no other run writes there", stacklevel=3)
    _held[folder] = lock
    # Of a run that was killed while it wrote.
    for path in folder.glob(f"{PARTIAL}*"):
        path.unlink()


@contextmanager
def whole_file(path):
    """A file that is there whole or not at all: written under another name, and renamed when all is on the disk.

    Args:
        path: of the file; one that is there is replaced.

    Yields:
        The file, open for bytes.

    Copy with: PARTIAL.
    """
    path = Path(path)
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=PARTIAL, delete=False)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is private; this one may be read by everybody who may read the folder.
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise


def write_record(path, record):
    """Write a record whole or not at all.

    Args:
        path: of the JSON file.
        record: dict with the keys in KEYS.

    Raises:
        ValueError: a key is missing or unknown.

    Copy with: KEYS, whole_file.
    """
    if set(record) != set(KEYS):
        raise ValueError(f"a record has the keys {', '.join(KEYS)}; found {', '.join(record)}")
    with whole_file(path) as file:
        file.write(f"{json.dumps(record, indent=1)}\n".encode())


def write_history(path, per_epoch):
    """Write the figures of each epoch as a table, a column for each key. Copy with: nothing."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, per_epoch[0])
        writer.writeheader()
        writer.writerows(per_epoch)


def read_record(name):
    """A record that ships with the project.

    Args:
        name: file name in ``records/`` without ".json".

    Returns:
        dict with the keys in KEYS.

    Raises:
        FileNotFoundError: no such record; lists those there are.

    Copy with: nothing.
    """
    found = read_records(name)
    if not found:
        raise FileNotFoundError(f"there is no record {name!r}; records: {', '.join(read_records('*')) or 'none'}")
    return found[name]


def read_records(pattern):
    """Records that ship with the project.

    Args:
        pattern: file names in ``records/`` without ".json"; ``*`` stands for any letters.

    Returns:
        dict {name: dict with the keys in KEYS}, sorted by name; empty when none fits.

    Copy with: nothing.
    """
    folder, _ = _shipped()
    paths = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.glob(f"{pattern}.json")}
    return {name: json.loads(paths[name].read_text()) for name in sorted(paths)}


def read_published(table):
    """A table of published figures, as ``data/published.json`` holds it.

    Args:
        table: name, e.g. "imagenet_v5" (the paper's table 2 in its fifth version).

    Returns:
        dict: ``source`` (full citation), ``where`` (table or section), ``columns`` (meaning and unit of each), ``rows``
        (dict of dicts, by model).

    Raises:
        KeyError: no such table; lists those there are.

    Copy with: nothing.
    """
    published = json.loads((_shipped()[1] / "published.json").read_text())
    if table not in published["tables"]:
        raise KeyError(f"there is no table {table!r}; tables: {', '.join(published['tables'])}")
    found = published["tables"][table]
    return {**found, "source": published["sources"][found["source"]]}


def photographs():
    """The photographs that ship with the project; data/README.md names their makers and licences.

    Returns:
        dict {name: Path of a JPEG file}.

    Copy with: nothing.
    """
    return {path.stem: path for path in sorted(_shipped()[1].glob("photos/*.jpg"))}


def _shipped():
    """The folders of records and of data: installed, inside the package; in a checkout, beside it."""
    inside, checkout = Path(__file__).parent / "_data", Path(__file__).parents[1]
    return (inside / "records", inside) if inside.is_dir() else (checkout / "records", checkout / "data")


def environment():
    """The ``environment`` part of a record. Copy with: device_name."""
    backend = keras.backend.backend()
    # Those this process may use; macOS and Windows only say how many there are.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": backend,
        "backend_version": importlib.metadata.version(backend),
        "device": device_name(),
        "cores": cores,
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
    }


def device_name():
    """What the backend computes on: the GPU's name, or "CPU" and the processor's. Copy with: nothing."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    elif backend == "jax":
        import jax

        if jax.devices()[0].platform != "cpu":
            return jax.devices()[0].device_kind
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0)
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.is_file() else "", re.MULTILINE)
    return f"CPU: {model[1].strip() if model else platform.processor() or platform.machine()}"


class Stopwatch:
    """``lap()`` gives the seconds since the last lap, or since the start. Copy with: nothing."""

    def __init__(self):
        self.started = time.perf_counter()

    def lap(self):
        before, self.started = self.started, time.perf_counter()
        return self.started - before


def peak_memory_gb():
    """The most memory this process has held so far, in gigabytes (1e9 bytes). Copy with: nothing."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset / 1e9
    if platform.system() == "Linux":
        # What getrusage says begins with the peak of the process that started this one.
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


def _commit():
    """The checkout's commit, marked when files differ from it; the package's version without a checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"effnet-utils {importlib.metadata.version('effnet-utils')}"
