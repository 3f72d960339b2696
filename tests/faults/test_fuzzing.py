"""Damaged files for every reader: nothing but a ValueError may come out.

FUZZ_EXAMPLES is the number of damaged files per reader, 100 by default. The same files are tried each time.
"""

import io
import os
import pickle
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effnet_utils import datasets
from effnet_utils.experiments.cli import parse_value
from effnet_utils.experiments.parameters import TrainParameters
from effnet_utils.experiments.sweep import read_grid
from effnet_utils.training.checkpoints import _read_checked, _with_checksum
from effnet_utils.training.recipe import Recipe
from tests.cifar_fixture import BATCHES, FORMS, batch_dict, dumps, made_up_batches, packed_arrays
from tools import pack_cifar10

pytestmark = pytest.mark.slow  # thousands of damaged files

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 100))
OPCODES = sorted(value for name, value in vars(pickle).items() if name.isupper() and type(value) is bytes)


# --- Damage -----------------------------------------------------------------------------------------------------


@st.composite
def damaged(draw, valid, fragments=()):
    """One of the valid files (bytes), damaged one to four times.

    Args:
        valid: list of bytes.
        fragments: list of bytes that mean something in this kind of file, such as opcodes.
    """
    content = bytearray(draw(st.sampled_from(valid)))
    inserted = st.binary(min_size=1, max_size=8)
    if fragments:
        inserted |= st.lists(st.sampled_from(fragments), min_size=1, max_size=4).map(b"".join)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["flip", "overwrite", "insert", "delete", "repeat", "truncate"]))
        start = draw(st.integers(0, len(content)))
        stop = min(start + draw(st.integers(1, 20)), len(content))
        if kind == "flip" and start < len(content):
            content[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "overwrite":
            content[start:stop] = draw(inserted)
        elif kind == "insert":
            content[start:start] = draw(inserted)
        elif kind == "delete":
            del content[start:stop]
        elif kind == "repeat":
            content[start:start] = content[start:stop] * draw(st.integers(1, 50))
        elif kind == "truncate":
            del content[start:]
    return bytes(content)


# --- Readers: for each, its valid files, their damage, and a function that reads a file and checks what came out --

PIXELS, LABELS = made_up_batches(2)["data_batch_1"]
PICKLES = [dumps(batch_dict(PIXELS, LABELS), form) for form in FORMS]


def read_batch(content, folder):
    for name in BATCHES:
        (folder / name).write_bytes(PICKLES[0])
    (folder / "data_batch_1").write_bytes(content)
    path = folder / "packed.npz"
    pack_cifar10.pack(folder, path)
    read_packed(path.read_bytes(), folder)
    path.unlink()


def npz_members():
    file = io.BytesIO()
    np.savez(file, **packed_arrays(source=np.array("a mirror")))
    with zipfile.ZipFile(file) as members:
        return {name: members.read(name) for name in members.namelist()}


MEMBERS = npz_members()


def npz_file(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def damaged_npz():
    """Damage anywhere in the file, or within one array of an intact zip file, which the zip's checksums would hide."""
    one_member = st.sampled_from(list(MEMBERS)).flatmap(
        lambda name: damaged([MEMBERS[name]], [b"'descr': '|O'", b"(9999999,)"]).map(
            lambda content: npz_file({**MEMBERS, name: content})
        )
    )
    return damaged([npz_file(MEMBERS)]) | one_member


def read_packed(content, folder):
    path = folder / "data.npz"
    path.write_bytes(content)
    for images, labels in datasets.load_cifar10(path):
        assert images.shape[1:] == (32, 32, 3) and images.dtype == labels.dtype == np.uint8
        assert labels.shape == images.shape[:1] and labels.max() < 10


VALUES = [
    b"1", b"0.5", b"1e-3", b"true", b"toy", b"b0", b"cifar", b"test", b"float32", b"{}", b'{"translate": 4}', b"nan",
    b'{"activation": "relu", "se_ratio": 0}', b"1e999", b'{"warmup": NaN}', "\u0663".encode(), b"1_000", b"[" * 5000,
]  # fmt: skip


def read_parameter(content, folder):
    """The value for every parameter of 07 in turn, as the command line reads it."""
    text = content.decode(errors="surrogateescape")
    understood = 0
    for name, field in TrainParameters.model_fields.items():
        try:
            parameters = TrainParameters.read({name: parse_value(name, text, type(field.default))})
        except ValueError:
            continue
        assert isinstance(parameters.recipe, Recipe)
        understood += name not in ("data_dir", "output_dir")
    if not understood:
        raise ValueError("no parameter takes it")


GRIDS = [
    b"grid: {epochs: [1, 2], layout: [cifar]}\nseeds: [0, 1]\nparameters: {dataset: toy}\n",
    b"seeds: [0]\nnotebook: '07'\n",
    b"grid: {overrides: [{}, {translate: 4}]}\n",
]
YAML = [b"&a [*a]", b"2001-99-99", b"? [1]\n: 2\n", b"!!python/object/apply:os.system ['true']", b"- " * 400, b"{}"]


def read_grid_file(content, folder):
    path = folder / "grid.yaml"
    path.write_bytes(content)
    _, runs = read_grid(path)
    assert all(isinstance(run, dict) for run in runs.values())


CHECKPOINT = _with_checksum({"epochs": 1}, {"0000": np.arange(3)})


def read_checkpoint(content, folder):
    about, arrays = _read_checked(content)
    assert about == {"epochs": 1} and arrays[0].tolist() == [0, 1, 2]


# {name: (strategy of damaged files, function of the content and an empty folder)}
READERS = {
    "pack": (damaged(PICKLES, OPCODES), read_batch),
    "load_cifar10 of a packed file": (damaged_npz(), read_packed),
    "parameters": (damaged(VALUES), read_parameter),
    "grids": (damaged(GRIDS, YAML), read_grid_file),
    "checkpoints": (damaged([CHECKPOINT]) | st.just(CHECKPOINT), read_checkpoint),
}


@pytest.mark.parametrize("name", READERS)
def test_nothing_but_a_value_error_comes_out(name, say):
    strategy, read = READERS[name]
    outcomes = Counter()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(strategy)
    def try_one(content):
        with tempfile.TemporaryDirectory() as folder:
            try:
                read(content, Path(folder))
                outcomes["read"] += 1
            except ValueError:
                outcomes["refused"] += 1

    try_one()
    say(f"{name}: {outcomes['refused']} damaged files refused, {outcomes['read']} read")
    assert outcomes["refused"] and outcomes["read"], "the damage is too great or too small to say anything"
