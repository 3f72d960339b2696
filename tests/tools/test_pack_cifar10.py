"""Batch files that may come from anybody: packed, or refused before anything acts."""

import codecs
import pickle
import struct
import tracemalloc
import warnings

import numpy as np
import pytest

from effnet_utils import datasets
from tests.cifar_fixture import (
    FORMS,
    Call,
    assert_same,
    batch_dict,
    dumps,
    made_up_batches,
    refusal,
    system_call,
    write_folder,
)
from tools import pack_cifar10


def packed(folder):
    """What ``load_cifar10`` reads of a folder after packing it."""
    path = folder.parent / "packed.npz"
    pack_cifar10.pack(folder, path)
    return datasets.load_cifar10(path)


@pytest.mark.parametrize("form", FORMS)
def test_packs_every_pickle_form(tmp_path, form):
    folder = write_folder(tmp_path, form)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(packed(folder))


@pytest.mark.parametrize("dtype", ["uint8", "int64", ">i4"])
def test_packs_text_keys_label_arrays_and_fortran_order(tmp_path, dtype):
    folder = write_folder(tmp_path)
    for name, (pixels, labels) in made_up_batches().items():
        batch = {"data": np.asfortranarray(pixels), "labels": np.array(labels, dtype)}
        (folder / name).write_bytes(dumps(batch, 4))
    assert_same(packed(folder))


def test_pack_keeps_the_source_and_overwrites_nothing(tmp_path, capsys):
    folder = write_folder(tmp_path)
    path = tmp_path / "out.npz"
    (folder / "SOURCE.txt").write_text("  a mirror: été\n", encoding="utf-8")
    pack_cifar10.main([str(folder), str(path)])
    assert datasets.describe_dataset("cifar10", path, 1, 1)["source"] == "a mirror: été"
    content = path.read_bytes()
    with pytest.raises(SystemExit, match="1"):
        pack_cifar10.main([str(folder), str(path)])
    assert "out.npz exists and is not overwritten" in capsys.readouterr().err
    assert path.read_bytes() == content
    pack_cifar10.pack(folder, tmp_path / "other.npz", "mine")
    assert datasets.describe_dataset("cifar10", tmp_path / "other.npz", 1, 1)["source"] == "mine"


def test_interrupted_pack_leaves_nothing(tmp_path, monkeypatch):
    def disk_full(file, **arrays):
        file.write(b"PK")
        raise OSError("no space")

    folder = write_folder(tmp_path)
    monkeypatch.setattr(pack_cifar10.np, "savez", disk_full)
    refusal(packed, folder, error=OSError, names=["no space"])
    assert list(tmp_path.iterdir()) == [folder]


def test_pack_names_missing_files(tmp_path):
    folder = write_folder(tmp_path)
    (folder / "data_batch_3").unlink()
    refusal(packed, folder, names=["lacks data_batch_3; expected data_batch_1, "])


@pytest.mark.parametrize("make", [system_call, lambda marker: Call(np.save, str(marker), [1])])
def test_foreign_objects_are_refused_before_they_act(tmp_path, make):
    marker = tmp_path / "marker.npy"
    path = write_folder(tmp_path) / "data_batch_2"
    path.write_bytes(content(extra=make(marker)))
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the attack must work on a reader without refusals"
    marker.unlink()
    refusal(packed, path.parent, names=[path, "which is not allowed"])
    assert not marker.exists()


def content(data=np.zeros((4, 3072), np.uint8), labels=(1, 2, 3, 4), extra=None, form=4):  # noqa: B008, read only
    """A batch file with something wrong in it."""
    labels = list(labels) if isinstance(labels, tuple) else labels
    return dumps({**batch_dict(data, labels), b"extra": extra}, form)


def unfolding():
    """A few hundred bytes of pickle that unfold to ten million labels."""
    labels = [0] * 10
    for _ in range(6):
        labels = [labels] * 10
    return labels


REFUSED = {
    "text": (b"not a pickle", "truncated or altered"),
    "truncated": (content()[:5000], "truncated or altered"),
    "a list": (dumps([1, 2], 2), "contains a list; expected a dict"),
    # The pickle names sizes beyond the file's.
    "memo": (b"\x80\x02}r" + struct.pack("<I", 2**22) + b".", "'data' is NoneType"),
    "bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**28) + b"ab.", "truncated or altered"),
    "no numbers": (content(Call(np.ndarray, (2**18, 3072), "u1")), "'data' is NoneType"),
    "codec": (content(extra=Call(codecs.encode, "text", "rot13"), form=2), "'rot13'"),
    "objects": (content(extra=np.array([None])), "contains an array of 'O8'"),
    "few pixels": (content(np.zeros((4, 3071), np.uint8)), "'data' is uint8 (4, 3071)"),
    "no images": (content(np.zeros((0, 3072), np.uint8), []), "'data' is uint8 (0, 3072)"),
    "float pixels": (content(np.zeros((4, 3072), np.float32)), "'data' is float32 (4, 3072)"),
    "no labels": (content(labels=None), "'labels' is NoneType; expected 4 integers 0..9"),
    "few labels": (content(labels=[1, 2, 3]), "'labels' is int64 (3,)"),
    "10": (content(labels=[1, 2, 3, 10]), "'labels' are in 1..10; expected 0..9"),
    "-1": (content(labels=[1, 2, -1, 3]), "'labels' are in -1..3; expected 0..9"),
    "large": (content(labels=[1, 2, 3, 2**70]), "'labels' is object (4,)"),
    "bools": (content(labels=[True, False, 1, 2]), "'labels' is list"),
    "nested": (content(labels=unfolding()), "'labels' is list"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pack_refuses_a_batch(tmp_path, name):
    """The message names the file; little memory is taken, and nothing is written."""
    batch, words = REFUSED[name]
    path = write_folder(tmp_path) / "data_batch_2"
    path.write_bytes(batch)
    tracemalloc.start()
    try:
        refusal(packed, path.parent, names=[path, words])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10e6, f"{peak / 1e6:.0f} MB for a file of {len(batch)} bytes"
    assert list(tmp_path.iterdir()) == [path.parent]
