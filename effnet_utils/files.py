"""Paths, checksums, atomic writes, and the files that ship with the package."""

import hashlib
import json
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

# Names of files that are being written begin with this.
PARTIAL = ".partial-"


def project_path(path, here=None):
    """An absolute path. Relative ones count from the repository's root where there is one, else the working folder.

    Args:
        path: str or Path.
        here: Path, the folder from which the repository is looked for; None is the working folder.
    """
    path = Path(path).expanduser()
    here = here or Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "effnet_utils" / "files.py").is_file() and (folder / "pyproject.toml").is_file():
            return folder / path
    return here / path


def python_command():
    """How a shell in the repository's root calls this Python: ``.venv/bin/python``, or "python" if it is elsewhere."""
    root = project_path("")
    folder = Path(sys.prefix)
    if not folder.is_relative_to(root):
        return "python"
    return (folder.relative_to(root) / ("Scripts" if os.name == "nt" else "bin") / "python").as_posix()


def check_sha256(path, expected, name, remedy):
    """Raise ValueError where a file is not the published one; the message calls it ``name`` and ends in ``remedy``."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        digests = f"its SHA-256 is {found}, expected {expected}"
        raise ValueError(f"{name} is not the published file (truncated or altered): {digests}. {remedy}")


@contextmanager
def atomic_write(path):
    """Write a file completely or not at all: under another name, renamed when everything is on the disk.

    Args:
        path: of the file; an existing one is replaced.

    Yields:
        The file, open for bytes.
    """
    path = Path(path)
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=PARTIAL, delete=False)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is private; this one is for everybody who may read the folder.
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise


def shipped_folders():
    """(records, data): in an installed package both are inside it, in a checkout beside it."""
    inside = Path(__file__).parent / "_data"
    if inside.is_dir():
        return inside / "records", inside
    checkout = Path(__file__).parents[1]
    return checkout / "records", checkout / "data"


def photographs():
    """The photographs that ship with the project; data/README.md names their makers and licences.

    Returns:
        dict {name: Path of a JPEG file}.
    """
    _, data = shipped_folders()
    return {path.stem: path for path in sorted(data.glob("photos/*.jpg"))}


def shipped_script(name):
    """The path of a program for readers, such as "predict.py": beside the notebooks, or in the installed package."""
    _, data = shipped_folders()
    folder = data if data.name == "_data" else data.parent / "notebooks"
    return folder / "scripts" / name


def read_published(table):
    """A table of published figures, as ``data/published.json`` holds it.

    Args:
        table: name, e.g. "imagenet_v5" (the paper's table 2 in its fifth version).

    Returns:
        dict: ``source`` (full citation), ``where`` (table or section), ``columns`` (meaning and unit of each), ``rows``
        (dict of dicts, by model).

    Raises:
        KeyError: no such table; lists those there are.
    """
    _, data = shipped_folders()
    published = json.loads((data / "published.json").read_text(encoding="utf-8"))
    tables = published["tables"]
    if table not in tables:
        raise KeyError(f"there is no table {table!r}; tables: {', '.join(tables)}")
    return {**tables[table], "source": published["sources"][tables[table]["source"]]}
