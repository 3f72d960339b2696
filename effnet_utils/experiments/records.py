"""Records of runs: one JSON file for each run that a text quotes, and the folder that a run writes into."""

import csv
import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

from filelock import FileLock, Timeout

from effnet_utils.experiments.parameters import OLD_NAMES
from effnet_utils.files import PARTIAL, atomic_write, project_path, shipped_folders

KEYS = ("parameters", "dataset", "results", "seconds", "environment", "notebook")


class RunFolder:
    """The folder for a run's files, made and tried; ``with RunFolder(...) as run:`` locks it for this process.

    Args:
        output_dir: path; "" makes ``runs/<notebook>/<date and time>``. Relative paths as in ``project_path``.
        notebook: str, name of the notebook.

    Attributes:
        path: Path of an existing, writable folder without a record.

    Raises:
        ValueError: the folder holds a record already, or cannot be written to.
    """

    def __init__(self, output_dir, notebook):
        self.path = project_path(output_dir or f"runs/{notebook}/{datetime.datetime.now():%Y%m%d-%H%M%S-%f}")
        # The same lock for all who ask in this process; the system releases it when the process ends, however it ends.
        self._lock = FileLock(self.path / ".lock", is_singleton=True)
        if (self.path / "record.json").exists():
            raise ValueError(
                f"output_dir {self.path} already holds a record; choose another folder, or move the record away"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise ValueError(f"output_dir {self.path} cannot be written to ({error}); choose another folder") from error

    def lock(self):
        """Keep other processes out until this one ends or ``unlock`` is called. Returns ``path``.

        Removes unfinished files of a run that was killed while it wrote.

        Raises:
            ValueError: another process has locked the folder.
        """
        try:
            # The kernel of a run that was killed lives on for a second or two.
            self._lock.acquire(timeout=10)
        except Timeout:
            raise ValueError(f"output_dir {self.path} is in use by another run; choose another folder") from None
        except NotImplementedError:
            warnings.warn(f"{self.path} cannot be locked; make sure that no other run writes there", stacklevel=2)
        for path in self.path.glob(f"{PARTIAL}*"):
            path.unlink()
        return self.path

    def unlock(self):
        self._lock.release()

    def __enter__(self):
        self.lock()
        return self

    def __exit__(self, *_):
        self.unlock()


def write_record(path, record):
    """Write a record whole or not at all.

    Args:
        path: of the JSON file.
        record: dict with the keys in KEYS.

    Raises:
        ValueError: a key is missing or unknown.
    """
    if set(record) != set(KEYS):
        raise ValueError(f"a record has the keys {', '.join(KEYS)}; found {', '.join(record)}")
    write_json(path, record)


def write_json(path, value):
    """Write a value as JSON, whole or not at all."""
    with atomic_write(path) as file:
        file.write(f"{json.dumps(value, indent=1)}\n".encode())


def write_history(path, per_epoch):
    """Write the figures of each epoch as a table, a column for each key."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, per_epoch[0])
        writer.writeheader()
        writer.writerows(per_epoch)


def read_record(name):
    """A record that ships with the project.

    Args:
        name: file name in ``records/`` without ".json".

    Returns:
        dict, as ``read_records``.

    Raises:
        FileNotFoundError: no such record; lists those there are.
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
        dict {name: dict with the keys in KEYS}, sorted by name; empty when none fits. Old names of parameters are
        given in their present spelling.
    """
    folder, _ = shipped_folders()
    paths = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.glob(f"{pattern}.json")}
    return {name: _read(paths[name]) for name in sorted(paths)}


def validation_accuracies(pattern, row):
    """Runs grouped as ``evidence.compare`` takes them.

    Args:
        pattern: as for ``read_records``.
        row: name of the parameter that says which row of a table a run belongs to, such as "pilot".

    Returns:
        dict {value of ``row``: {seed: accuracy in 0..1 on the validation images}}.
    """
    accuracies = {}
    for record in read_records(pattern).values():
        given = record["parameters"]
        accuracies.setdefault(given[row], {})[given["seed"]] = record["results"]["validation_accuracy"]
    return accuracies


def _read(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    for old, new in OLD_NAMES.items():
        if old in record.get("parameters", {}):
            record["parameters"][new] = record["parameters"].pop(old)
    return record


def environment():
    """The ``environment`` part of a record."""
    import keras  # here, since a sweep reads records and does not wait for Keras

    from effnet_utils.training._distribution import device_name

    backend = keras.backend.backend()
    # Those this process may use; macOS and Windows only say how many there are.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": backend,
        # Not from the installed distribution, which can have another name, such as tensorflow-cpu.
        "backend_version": importlib.import_module(backend).__version__,
        "device": device_name(),
        "cores": cores,
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
    }


def _commit():
    """The checkout's commit, marked when files differ from it; the package's version without a checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    try:
        return f"effnet-utils {importlib.metadata.version('effnet-utils')}"
    except importlib.metadata.PackageNotFoundError:
        return "unknown: neither a checkout nor an installed package"


class Stopwatch:
    """``lap()`` gives the seconds since the last lap, or since the start."""

    def __init__(self):
        self.started = time.perf_counter()

    def lap(self):
        before = self.started
        self.started = time.perf_counter()
        return self.started - before


def peak_memory_gb():
    """The most memory this process has held so far, in gigabytes (1e9 bytes)."""
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
