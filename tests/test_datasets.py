"""CIFAR-10's files, the toy set, and images on their way into batches. Nothing here needs a network."""

import codecs
import contextlib
import hashlib
import http.server
import io
import os
import pickle
import pickletools
import re
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest
from cifar_fixture import (
    ARCHIVE,
    BATCHES,
    FOLDER,
    FORMS,
    MEMBERS,
    Call,
    batch_dict,
    dumps,
    expected_arrays,
    file_member,
    made_up_batches,
    other_member,
    write_archive,
    write_folder,
)

from effnet_utils import data


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """Whatever a test does, a download ends at a file that is not there."""
    monkeypatch.setattr(data, "CIFAR10_URL", (tmp_path / "nowhere" / ARCHIVE).as_uri())


def assert_same(found, expected):
    for (images, labels), (expected_images, expected_labels) in zip(found, expected, strict=True):
        assert images.dtype == labels.dtype == np.uint8
        assert images.flags.c_contiguous and images.flags.writeable
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(labels, expected_labels)


def tree(folder):
    """Everything below a folder, hidden files too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# --- Reading the official files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [bytes, str])
@pytest.mark.parametrize("form", FORMS)
def test_reads_every_pickle_form(tmp_path, form, keys):
    write_folder(tmp_path, form, keys)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(data.load_cifar10(tmp_path), expected_arrays())


def opcodes(form):
    pixels, labels = made_up_batches()["data_batch_1"]
    return [
        (opcode.name, argument) for opcode, argument, _ in pickletools.genops(dumps(batch_dict(pixels, labels), form))
    ]


def test_fixture_writes_what_python_2_wrote():
    """The official files are of this form; a fixture that drifted from it would test nothing."""
    found = opcodes("python2")
    names = {name for name, _ in found}
    assert {"SHORT_BINSTRING", "BINSTRING", "BINPUT"} <= names
    assert not {name for name in names if "UNICODE" in name or "BINBYTES" in name}
    globals_ = {argument for name, argument in found if name == "GLOBAL"}
    assert globals_ == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    assert ("SHORT_BINSTRING", "labels") in found


@pytest.mark.parametrize(
    "form, mark",
    [
        (2, ("GLOBAL", "_codecs encode")),
        (4, ("SHORT_BINUNICODE", "_reconstruct")),
        (5, ("SHORT_BINUNICODE", "_frombuffer")),
    ],
)
def test_fixture_writes_each_form_in_its_own_way(form, mark):
    assert mark in opcodes(form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["uint8", "int64", ">i4"])
def test_reads_label_arrays_and_fortran_order(tmp_path, form, dtype):
    folder = write_folder(tmp_path)
    for name, (pixels, labels) in made_up_batches().items():
        batch = batch_dict(np.asfortranarray(pixels), np.array(labels, dtype))
        (folder / name).write_bytes(dumps(batch, form))
    assert_same(data.load_cifar10(tmp_path), expected_arrays())


def test_pixels_are_planes_of_rows(tmp_path):
    """Pixel by pixel: the number at channel * 1024 + row * 32 + column."""
    folder = write_folder(tmp_path)
    row = np.zeros((1, 3072), np.uint8)
    row[0, [0, 5 * 32 + 9, 1024 + 31, 2048 + 31 * 32]] = 11, 22, 33, 44
    (folder / "test_batch").write_bytes(dumps(batch_dict(row, [3]), "python2"))
    _, (images, labels) = data.load_cifar10(tmp_path)
    assert {tuple(map(int, at)): int(images[tuple(at)]) for at in np.argwhere(images)} == {
        (0, 0, 0, 0): 11,
        (0, 5, 9, 0): 22,
        (0, 0, 31, 1): 33,
        (0, 31, 0, 2): 44,
    }
    assert labels.tolist() == [3]


def test_data_dir_is_the_parent_or_the_folder(tmp_path):
    folder = write_folder(tmp_path)
    for data_dir in (tmp_path, folder, str(tmp_path), f"{folder}/"):
        assert_same(data.load_cifar10(data_dir), expected_arrays())


def test_relative_data_dir_counts_from_the_repository_root(tmp_path, monkeypatch):
    root = tmp_path / "repository"
    write_folder(root / "data")
    (root / "effnet_utils").mkdir()
    (root / "effnet_utils" / "data.py").touch()
    (root / "pyproject.toml").touch()
    (root / "notebooks" / "deep").mkdir(parents=True)
    monkeypatch.chdir(root / "notebooks" / "deep")
    assert data.project_path("data") == root / "data"
    assert_same(data.load_cifar10(), expected_arrays())
    assert_same(data.load_cifar10(f"data/{FOLDER}"), expected_arrays())


def test_relative_data_dir_without_a_repository(tmp_path, monkeypatch):
    write_folder(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    assert data.project_path("here") == tmp_path / "here"
    assert_same(data.load_cifar10("here"), expected_arrays())


# --- Refusing damaged and hostile files -------------------------------------------------------------------------


class Foreign:
    """A class of our own; reading it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __setstate__(self, state):
        state["marker"].touch()


def system_call(marker):
    return Call(os.system, f"touch '{marker}'")


def evaluation(marker):
    return Call(eval, f"open({str(marker)!r}, 'w').close()")


def hidden_in_npy(marker):
    """numpy.load unpickles object arrays, with no refusals at all."""
    array = np.empty(1, object)
    array[0] = system_call(marker)
    np.save(marker.with_suffix(".npy"), array, allow_pickle=True)
    return Call(np.load, str(marker.with_suffix(".npy")), None, True)


def saved(marker):
    return Call(np.save, str(marker), [1])


@pytest.mark.parametrize("form", [2, 4])
@pytest.mark.parametrize("make", [system_call, evaluation, hidden_in_npy, saved, Foreign])
def test_foreign_objects_are_refused_before_they_act(tmp_path, make, form):
    marker = tmp_path / "marker.npy" if make is saved else tmp_path / "marker"
    batch = {**batch_dict(*made_up_batches()["data_batch_2"]), b"extra": make(marker)}
    path = write_folder(tmp_path) / "data_batch_2"
    path.write_bytes(dumps(batch, form))
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the attack must work on a reader without refusals"
    marker.unlink()
    with pytest.raises(ValueError, match=re.escape(str(path)) + ".*no place in a file of arrays"):
        data.load_cifar10(tmp_path)
    assert not marker.exists()


def refused(folder, content, name="data_batch_2"):
    """The message of the refusal of a file's new content; it must name the file and take little memory."""
    path = folder / name
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            data.load_cifar10(folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak < 10e6, f"{peak / 1e6:.0f} MB for a file of {len(content)} bytes"
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["rot13", "utf-16", "idna"])
def test_other_codecs_are_refused(tmp_path, encoding):
    batch = {**batch_dict(*made_up_batches()["test_batch"]), b"extra": Call(codecs.encode, "text", encoding)}
    assert encoding in refused(write_folder(tmp_path), dumps(batch, 2), "test_batch")


RECONSTRUCT, FROM_BUFFER = np.empty(0).__reduce__()[0], np.empty(0).__reduce_ex__(5)[0]
BYTE = np.dtype(np.uint8)


def array_call(shape, dtype, numbers):
    return Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, numbers))


ABUSES = {
    "objects": np.array([[None] * 3072] * 4, object),
    "objects_at_made_up_addresses": array_call((1,), np.dtype(object), b"A" * 8),
    "hidden_objects": array_call((1,), np.dtype([("a", object)]), b"A" * 8),
    "fields": np.zeros((4, 3072), [("a", "u1")]),
    "text": np.array([["a"] * 3072] * 4),
    "void": np.zeros(4, "V3072"),
    "huge_item": Call(np.ndarray, (1,), np.dtype("V1000000000")),
    "shape_beyond_the_numbers": array_call((2**18, 3072), BYTE, b"ab"),
    "shape_beyond_any_memory": array_call((2**50, 3072), BYTE, b"ab"),
    "numbers_as_a_list": array_call((4, 3072), BYTE, [0] * 4 * 3072),
    "buffer_too_short": Call(FROM_BUFFER, b"ab", BYTE, (2**18, 3072), "C"),
    "buffer_of_objects": Call(FROM_BUFFER, b"A" * 8, np.dtype(object), (1,), "C"),
    # Memory that nobody wrote to: it would pass for pixels.
    "unwritten_array": Call(RECONSTRUCT, np.ndarray, (2**18, 3072), b"u1"),
    "array_called": Call(np.ndarray, (2**18, 3072), "u1"),
    "array_called_beyond_any_memory": Call(np.ndarray, (2**50, 3072), "u1"),
    "state_of_the_wrong_length": Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, 2)),
    "the_class_itself": np.ndarray,
    "a_bare_dtype": BYTE,
}


@pytest.mark.parametrize("form", [2, 4])
@pytest.mark.parametrize("name", ABUSES)
def test_abuse_of_allowed_functions_is_refused(tmp_path, name, form):
    labels = made_up_batches()["data_batch_2"][1]
    refused(write_folder(tmp_path), dumps(batch_dict(ABUSES[name], labels), form))


@pytest.mark.parametrize("dtype, name", [(object, "O8"), ("S3", "S3"), ("M8[s]", "M8"), ([("a", object)], "V8")])
def test_arrays_of_other_things_than_numbers_are_refused(tmp_path, dtype, name):
    """By the name of what they hold, before there is an array: under any key, even one that nobody reads."""
    batch = {**batch_dict(*made_up_batches()["data_batch_2"]), b"extra": array_call((0,), np.dtype(dtype), b"")}
    assert f"it holds an array of '{name}'" in refused(write_folder(tmp_path), dumps(batch, 2))


def nested_lists():
    """A few hundred bytes of pickle that unfold to ten million labels."""
    labels = [0] * 10
    for _ in range(6):
        labels = [labels] * 10
    return labels


@pytest.mark.parametrize("labels", [ABUSES["unwritten_array"], ABUSES["shape_beyond_the_numbers"], nested_lists()])
def test_abuse_in_the_labels_is_refused(tmp_path, labels):
    refused(write_folder(tmp_path), dumps(batch_dict(made_up_batches()["data_batch_2"][0], labels), 2))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r" + struct.pack("<I", 2**22) + b".",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**28) + b"ab.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"ab.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**28) + b"}.",
        b"\x80\x02T" + struct.pack("<i", -1) + b"ab.",
        b"\x80\x02P1\n.",
        b"\x80\xff}.",
        b"not a pickle",
        b"\x80\x02}U\x01\xffK\x01s.",
    ],
    ids="memo bytes bytes_2 frame negative persistent protocol text key".split(),
)
def test_hostile_opcodes_are_refused(tmp_path, content):
    refused(write_folder(tmp_path), content)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("part", [0, 0.001, 0.2, 0.5, 0.999, 1])
def test_truncated_batch_is_refused(tmp_path, form, part):
    folder = write_folder(tmp_path, form)
    content = (folder / "data_batch_4").read_bytes()
    message = refused(folder, content[: int(part * len(content)) - (part == 1)], "data_batch_4")
    assert "truncated" in message and "Replace it" in message


@pytest.mark.parametrize("value", [[1, 2], None, b"data", 7, np.zeros((4, 3072), np.uint8)])
def test_not_a_dict_is_refused(tmp_path, value):
    assert "expected a dict" in refused(write_folder(tmp_path), dumps(value, 2))


@pytest.mark.parametrize(
    "pixels, found",
    [
        (None, "NoneType"),
        (b"\0" * 3072 * 4, "bytes"),
        ([[0] * 3072] * 4, "list"),
        (np.zeros((4, 3071), np.uint8), "uint8 (4, 3071)"),
        (np.zeros((3072, 4), np.uint8), "uint8 (3072, 4)"),
        (np.zeros(4 * 3072, np.uint8), "uint8 (12288,)"),
        (np.zeros((4, 3, 32, 32), np.uint8), "uint8 (4, 3, 32, 32)"),
        (np.zeros((4, 3072), np.float32), "float32 (4, 3072)"),
        (np.zeros((4, 3072), np.int8), "int8 (4, 3072)"),
    ],
)
def test_wrong_pixels_are_refused(tmp_path, pixels, found):
    message = refused(write_folder(tmp_path), dumps(batch_dict(pixels, [1, 2, 3, 4]), 4))
    assert f"'data' is {found}; expected uint8 (n, 3072)" in message


@pytest.mark.parametrize(
    "labels, found",
    [
        ([1, 2, 3], "int64 (3,)"),
        ([1, 2, 3, 4, 5], "int64 (5,)"),
        ([1, 2, 3, 10], "1..10"),
        ([1, 2, -1, 3], "-1..3"),
        (np.array([250, 1, 2, 3], np.uint8), "1..250"),
        ([1, 2, 3, 2**70], "object (4,)"),
        ([1.0, 2.0, 3.0, 4.0], "list"),
        ([True, False, 1, 2], "list"),
        ([b"1", b"2", b"3", b"4"], "list"),
        ([[1], 2, 3, 4], "list"),
        ([[1], [2], [3], [4]], "list"),
        (np.zeros(4), "float64 (4,)"),
        (np.zeros((4, 1), int), "int64 (4, 1)"),
        ("1234", "str"),
        (None, "NoneType"),
    ],
)
def test_wrong_labels_are_refused(tmp_path, labels, found):
    batch = batch_dict(np.zeros((4, 3072), np.uint8), [0])
    message = refused(write_folder(tmp_path), dumps({**batch, b"labels": labels}, 4))
    assert "'labels'" in message and found in message and "0..9" in message


@pytest.mark.parametrize("instead", ["nothing", "a folder"])
def test_incomplete_folder_is_refused(tmp_path, instead):
    """A half-copied folder is the user's: it is named, not overwritten by a download."""
    folder = write_folder(tmp_path)
    (folder / "data_batch_3").unlink()
    if instead == "a folder":
        (folder / "data_batch_3").mkdir()
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=re.escape(str(folder)) + " lacks data_batch_3: complete"):
        data.load_cifar10(tmp_path)
    assert tree(tmp_path) == before


def test_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / FOLDER).write_text("mine")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / FOLDER))):
        data.load_cifar10(tmp_path)
    assert (tmp_path / FOLDER).read_text() == "mine"


# --- The archive ------------------------------------------------------------------------------------------------


UNPACKED = sorted([ARCHIVE, FOLDER, *(f"{FOLDER}/{name}" for name in MEMBERS)])


@pytest.fixture
def source(tmp_path):
    return write_folder(tmp_path / "source")


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def quiet():
    """Swallows the progress bar of downloads."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def make_official(monkeypatch, archive):
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(data, "CIFAR10_SHA256", digest)
    return digest


def test_unpacks_an_archive_that_lies_there(source, work, monkeypatch):
    make_official(monkeypatch, write_archive(work / ARCHIVE, source))
    assert_same(data.load_cifar10(work), expected_arrays())
    assert tree(work) == UNPACKED
    assert all((work / FOLDER / name).read_bytes() == (source / name).read_bytes() for name in MEMBERS)
    # Readable to whom every other new folder is: not to its maker alone, as temporary folders are.
    assert (work / FOLDER).stat().st_mode == work.stat().st_mode


@pytest.mark.parametrize("data_dir", ["", "new/data", f"new/{FOLDER}"])
def test_downloads_and_unpacks(source, work, monkeypatch, quiet, data_dir):
    served = write_archive(source.parent / "served" / ARCHIVE, source)
    make_official(monkeypatch, served)
    monkeypatch.setattr(data, "CIFAR10_URL", served.as_uri())
    assert_same(data.load_cifar10(work / data_dir), expected_arrays())
    parent = (work / data_dir).parent if data_dir.endswith(FOLDER) else work / data_dir
    assert tree(parent) == UNPACKED
    # The second time nothing is fetched.
    served.unlink()
    assert_same(data.load_cifar10(work / data_dir), expected_arrays())


@pytest.mark.slow
def test_two_processes_that_want_the_data_download_it_once(source, work):
    served, asked = write_archive(source.parent / "served" / ARCHIVE, source).read_bytes(), []

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            time.sleep(2)
            self.send_response(200)
            self.send_header("Content-Length", str(len(served)))
            self.end_headers()
            self.wfile.write(served)

        def log_message(self, *arguments):
            """Nothing on the screen."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, digest = f"http://127.0.0.1:{server.server_port}/{ARCHIVE}", hashlib.sha256(served).hexdigest()
    code = (
        f"from effnet_utils import data; data.CIFAR10_URL = {url!r}; data.CIFAR10_SHA256 = {digest!r}; "
        f"print(len(data.load_cifar10({str(work)!r})[0][1]))"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0].splitlines()[-1] for process in running]
    server.shutdown()
    server.server_close()
    assert printed == [str(len(expected_arrays()[0][1]))] * 2 and len(asked) == 1
    assert tree(work) == UNPACKED


def altered(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def truncated(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize("downloaded", [False, True])
@pytest.mark.parametrize("damage", [altered, truncated])
def test_damaged_archive_is_refused(source, work, monkeypatch, quiet, damage, downloaded):
    archive = write_archive((source.parent if downloaded else work) / ARCHIVE, source)
    expected = make_official(monkeypatch, archive)
    archive.write_bytes(damage(archive.read_bytes()))
    monkeypatch.setattr(data, "CIFAR10_URL", archive.as_uri())
    with pytest.raises(ValueError) as caught:
        data.load_cifar10(work)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    remedy = f"Run again, or put the archive at {work / ARCHIVE}" if downloaded else "Delete it"
    for part in (found, expected, remedy, archive.as_uri() if downloaded else str(archive)):
        assert part in str(caught.value)
    assert tree(work) == ([] if downloaded else [ARCHIVE])


def refused_archive(work):
    """The message of the refusal of an archive of the right hash; nothing but the archive may stay."""
    with pytest.raises(ValueError) as caught:
        data.load_cifar10(work)
    assert str(work / ARCHIVE) in str(caught.value) and "Delete it" in str(caught.value)
    assert tree(work) == [ARCHIVE]
    return str(caught.value)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_archive_that_lacks_a_member(source, work, monkeypatch, name):
    make_official(monkeypatch, write_archive(work / ARCHIVE, source, instead={name: None}))
    assert name in refused_archive(work)


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_member_that_is_no_file(source, work, monkeypatch, kind):
    """Links and devices too, even where they lead to something that could be read."""
    target = {tarfile.SYMTYPE: "data_batch_1", tarfile.LNKTYPE: f"{FOLDER}/data_batch_1"}.get(kind, "")
    member = other_member(f"{FOLDER}/data_batch_3", kind, target)
    make_official(monkeypatch, write_archive(work / ARCHIVE, source, instead={"data_batch_3": member}))
    assert "data_batch_3 is not a file" in refused_archive(work)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x1f\x8b\x08 not either"])
def test_archive_that_is_none(work, monkeypatch, content):
    (work / ARCHIVE).write_bytes(content)
    make_official(monkeypatch, work / ARCHIVE)
    refused_archive(work)


def test_archive_that_ends_early(source, work, monkeypatch):
    archive = write_archive(work / ARCHIVE, source)
    archive.write_bytes(truncated(archive.read_bytes()))
    make_official(monkeypatch, archive)
    refused_archive(work)


def test_hostile_members_write_nothing(source, work, monkeypatch):
    outside = work.parent / "outside"
    outside.mkdir()
    hostile = [
        file_member("../evil", b"evil"),
        file_member(f"{FOLDER}/../../evil", b"evil"),
        file_member(f"{outside}/evil", b"evil"),
        file_member(f"{FOLDER}/extra.py", b"evil"),
        # Were these made, the files that follow would be written through them.
        other_member(FOLDER, tarfile.SYMTYPE, str(outside)),
        other_member(f"{FOLDER}/data_batch_1", tarfile.SYMTYPE, str(outside / "evil")),
    ]
    make_official(monkeypatch, write_archive(work / ARCHIVE, source, first=hostile))
    assert_same(data.load_cifar10(work), expected_arrays())
    assert tree(work) == UNPACKED
    assert not (work / FOLDER).is_symlink()
    assert tree(outside) == [] and not list(work.parent.glob("evil*"))


def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/{ARCHIVE}"


@pytest.mark.parametrize("data_dir", ["", "new/data"])
@pytest.mark.parametrize("url", ["no such file", "closed port"])
def test_no_network(work, monkeypatch, quiet, url, data_dir):
    if url == "closed port":
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setattr(data, "CIFAR10_URL", closed_port())
    with pytest.raises(FileNotFoundError) as caught:
        data.load_cifar10(work / data_dir)
    for part in (str(work / data_dir), "connect to the network", "data_dir", FOLDER, 'dataset="toy"'):
        assert part in str(caught.value)
    assert tree(work) == []


# --- What a record says of the data -----------------------------------------------------------------------------


def md5_sums(folder):
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in BATCHES}


def test_describe_made_up_folder(tmp_path):
    folder = write_folder(tmp_path)
    digest = hashlib.sha256(b"".join((folder / name).read_bytes() for name in BATCHES)).hexdigest()
    assert data.describe_dataset("cifar10", tmp_path, 20, 4) == {
        "name": "cifar10",
        "official": False,
        "source": "unknown",
        "sha256": digest,
        "n_train": 20,
        "n_test": 4,
    }


@pytest.mark.parametrize("official", [False, True])
def test_describe_reads_the_source_note(tmp_path, monkeypatch, official):
    folder = write_folder(tmp_path)
    (folder / "SOURCE.txt").write_text("  rebuilt from a mirror: été\n", encoding="utf-8")
    if official:
        monkeypatch.setattr(data, "CIFAR10_MD5", md5_sums(folder))
    found = data.describe_dataset("cifar10", folder, 1, 1)
    assert (found["source"], found["official"]) == ("rebuilt from a mirror: été", official)


def test_describe_official_files(tmp_path, monkeypatch):
    folder = write_folder(tmp_path)
    monkeypatch.setattr(data, "CIFAR10_MD5", md5_sums(folder))
    found = data.describe_dataset("cifar10", tmp_path, 1, 1)
    assert (found["source"], found["official"]) == (data.CIFAR10_URL, True)


@pytest.mark.parametrize("name", BATCHES)
def test_describe_sees_one_changed_file(tmp_path, monkeypatch, name):
    folder = write_folder(tmp_path)
    monkeypatch.setattr(data, "CIFAR10_MD5", md5_sums(folder))
    before = data.describe_dataset("cifar10", tmp_path, 1, 1)
    (folder / name).write_bytes(altered((folder / name).read_bytes()))
    after = data.describe_dataset("cifar10", tmp_path, 1, 1)
    assert after["sha256"] != before["sha256"]
    assert (before["official"], after["official"]) == (True, False)


@pytest.mark.slow
def test_describe_toy(toy, tmp_path):
    found = data.describe_dataset("toy", tmp_path / "not used", 5000, 1000)
    arrays = [array for split in toy[0] for array in split]
    assert found["sha256"] == hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    assert (found["name"], found["official"], found["n_train"], found["n_test"]) == ("toy", False, 5000, 1000)
    assert "load_toy" in found["source"]


# --- The toy set ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy():
    """((x_train, y_train), (x_test, y_test)) and the seconds of work that they took."""
    # Processor time: other work on the machine does not count.
    start = time.process_time()
    splits = data.load_toy()
    return splits, time.process_time() - start


def test_toy_arrays(toy):
    splits, seconds = toy
    for (images, labels), n in zip(splits, (5000, 1000), strict=True):
        assert (images.dtype, images.shape) == (np.uint8, (n, 32, 32, 3))
        assert (labels.dtype, labels.shape) == (np.uint8, (n,))
        assert np.bincount(labels).tolist() == [n // 10] * 10
        assert images.min() == 0 and images.max() == 255
        # Shuffled: no long runs of a class, and no class at regular places.
        assert (np.diff(labels.astype(int)) == 0).mean() == pytest.approx(0.1, abs=0.05)
        assert not np.array_equal(labels, np.arange(n) % 10)
    assert len(data.TOY_CLASSES) == 10
    assert seconds < 10


@pytest.mark.slow
def test_toy_seeds(toy):
    again, other = data.load_toy(seed=0), data.load_toy(seed=1)
    for split, same, different in zip(toy[0], again, other, strict=True):
        for part, same_part, different_part in zip(split, same, different, strict=True):
            np.testing.assert_array_equal(part, same_part)
            assert (part != different_part).mean() > 0.5


def standardised(splits):
    """Pixels as features of mean 0 and deviation 1 (over the training images), and the labels."""
    (x_train, y_train), (x_test, y_test) = splits
    x_train, x_test = (x.reshape(len(x), -1).astype(np.float32) for x in (x_train, x_test))
    mean, deviation = x_train.mean(0), x_train.std(0)
    return (x_train - mean) / deviation, y_train, (x_test - mean) / deviation, y_test


def nearest_mean_accuracy(x_train, y_train, x_test, y_test):
    means = np.stack([x_train[y_train == k].mean(0) for k in range(10)])
    distances = (means**2).sum(1) - 2 * x_test @ means.T
    return (distances.argmin(1) == y_test).mean()


def test_toy_colours_say_nothing(toy):
    (x_train, y_train), (x_test, y_test) = toy[0]
    assert nearest_mean_accuracy(x_train.mean((1, 2)), y_train, x_test.mean((1, 2)), y_test) <= 0.2


def softmax_accuracies(x_train, y_train, x_test, y_test, decays=(0.0, 1.0, 5.0), steps=40, rate=0.01):
    """Best accuracies (training, test) of softmax regressions, one for each decay, trained side by side."""
    targets = np.eye(10, dtype=np.float32)[y_train][:, None]
    decay = np.repeat(np.float32(decays), 10)
    weights = np.zeros((x_train.shape[1], len(decay)), np.float32)
    velocity = np.zeros_like(weights)
    best = np.zeros(2)
    for step in range(steps):
        scores = (x_train @ weights).reshape(len(x_train), len(decays), 10)
        powers = np.exp(scores - scores.max(2, keepdims=True))
        errors = (powers / powers.sum(2, keepdims=True) - targets) / len(x_train)
        velocity = 0.9 * velocity - rate * (x_train.T @ errors.reshape(len(x_train), -1) + decay * weights)
        weights += velocity
        if step % 10 == 9:
            # The best over decays and over early stops: as strong as such a classifier can be made.
            for k, (x, y) in enumerate(((x_train, y_train), (x_test, y_test))):
                hits = (x @ weights).reshape(len(x), len(decays), 10).argmax(2) == y[:, None]
                best[k] = max(best[k], hits.mean(0).max())
    return best


@pytest.mark.slow
def test_toy_needs_more_than_pixels(toy, capsys):
    """Classes that linear classifiers tell apart by single pixels would need no convolutions."""
    arrays = standardised(toy[0])
    assert nearest_mean_accuracy(*arrays) <= 0.5
    train, test = softmax_accuracies(*arrays)
    assert train >= 0.35, "a regression that learns nothing would show nothing"
    assert test <= 0.6
    assert capsys.readouterr().out == ""


# --- Images into batches ----------------------------------------------------------------------------------------


def some_images(n=6, height=8, width=10, channels=3):
    return np.random.default_rng(3).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_check_images_accepts(dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.check_images(some_images())
        data.check_images(some_images(), np.arange(6).astype(dtype))
        data.check_images(some_images(), [0, 1, 2, 3, 4, 5])
        data.check_images(some_images(channels=1))
        data.check_images(some_images(n=0))


@pytest.mark.parametrize(
    "images, error, words",
    [
        (some_images()[0], ValueError, ["(8, 10, 3)", "(n, height, width, channels)"]),
        (some_images()[..., 0], ValueError, ["(6, 8, 10)", "(n, height, width, channels)"]),
        (some_images()[None], ValueError, ["(1, 6, 8, 10, 3)"]),
        (
            some_images().transpose(0, 3, 1, 2),
            ValueError,
            ["(6, 3, 8, 10)", "channels first", "np.moveaxis(images, 1, -1)"],
        ),
        (some_images().astype(np.float32), TypeError, ["float32", "..255", "expected uint8", "scales pixels itself"]),
        (some_images() / 255, TypeError, ["float64 in 0..1", "expected uint8"]),
        (some_images().astype(np.int64), TypeError, ["int64", "expected uint8"]),
        (some_images() > 9, TypeError, ["bool", "expected uint8"]),
        (some_images(n=0).astype(np.float32), TypeError, ["float32", "expected uint8"]),
    ],
)
def test_check_images_refuses_images(images, error, words):
    with pytest.raises(error) as caught:
        data.check_images(images)
    for word in words:
        assert word in str(caught.value)


def test_check_images_names_a_remedy_that_works():
    data.check_images(np.moveaxis(some_images().transpose(0, 3, 1, 2), 1, -1))


@pytest.mark.parametrize(
    "labels, error, words",
    [
        (np.arange(5), ValueError, ["(5,)", "(6,)"]),
        (np.arange(7), ValueError, ["(7,)", "(6,)"]),
        (np.eye(6, dtype=int), ValueError, ["(6, 6)", "(6,)"]),
        (np.arange(6)[:, None], ValueError, ["(6, 1)", "(6,)"]),
        (np.arange(6.0), TypeError, ["float64", "integers"]),
        (np.arange(6) > 2, TypeError, ["bool", "integers"]),
        (list("abcdef"), TypeError, ["integers"]),
    ],
)
def test_check_images_refuses_labels(labels, error, words):
    with pytest.raises(error) as caught:
        data.check_images(some_images(), labels)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("check", [data.check_images, data.warn_if_scaled])
def test_scaled_pixels_warn(check):
    """The usual mistake: divided by 255 before the model does it again, then perhaps cast."""
    with pytest.warns(UserWarning, match=r"lie in 0\.\.1; the model expects 0\.\.255.*Scaled twice.*as read"):
        check((some_images() / 255).round().astype(np.uint8))


def test_scaled_floats_warn_and_others_do_not():
    with pytest.warns(UserWarning, match="Scaled twice"):
        data.warn_if_scaled(some_images() / 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.warn_if_scaled(some_images().astype(np.float32))
        data.warn_if_scaled(np.array([0, 1, 2]))
        data.warn_if_scaled(some_images(n=0))


def augmented(images, flip, shift):
    """Every image once, in order."""
    # Imported here: the framework takes seconds to load, and most tests do without.
    from keras import ops

    n = len(images)
    plan = np.column_stack([np.arange(n), np.broadcast_to(flip, n), np.broadcast_to(shift, (n, 2))]).astype(np.int32)
    result = ops.convert_to_numpy(data.augment(images, plan))
    assert (result.dtype, result.shape) == (np.uint8, images.shape)
    return result


@pytest.mark.parametrize("channels", [1, 3])
def test_augment_can_leave_images_alone(channels):
    images = some_images(channels=channels)
    np.testing.assert_array_equal(augmented(images, False, 0), images)


def test_augment_takes_the_images_that_are_asked_for():
    images = some_images()
    plan = np.array([[5, 0, 0, 0], [2, 1, 0, 0], [5, 1, 0, 0]], np.int32)
    found = np.asarray(data.augment(images, plan))
    np.testing.assert_array_equal(found, np.stack([images[5], images[2][:, ::-1], images[5][:, ::-1]]))


def test_augment_mirrors_left_to_right():
    images, flip = some_images(), np.array([True, False, False, True, True, False])
    before = images.copy()
    for image, original, mirrored in zip(augmented(images, flip, 0), before, flip, strict=True):
        np.testing.assert_array_equal(image, original[:, ::-1] if mirrored else original)
    np.testing.assert_array_equal(images, before)


def mirrored_index(i, size):
    """Where reflection finds the place ``i`` that may lie outside: the edge is not doubled."""
    return abs(i) if i < size else 2 * (size - 1) - i


@pytest.mark.parametrize("flip", [False, True])
def test_augment_moves_with_reflection(flip):
    images = some_images()
    shift = np.array([[-3, -3], [3, 3], [0, 0], [-7, 5], [4, -1], [2, -9]])
    found = augmented(images, flip, shift)
    for image, original, (row, column) in zip(found, images, shift, strict=True):
        original = original[:, ::-1] if flip else original
        rows = [mirrored_index(i + row, 8) for i in range(8)]
        columns = [mirrored_index(i + column, 10) for i in range(10)]
        np.testing.assert_array_equal(image, original[rows][:, columns])


def batches_of(n=12, batch_size=4, seed=0, translate=0, **recipe):
    """Batches over images that no mirroring makes alike; the label is the image's number."""
    # Imported here: the framework takes seconds to load, and most tests do without.
    from effnet_utils.train import Batches, Recipe

    recipe = replace(Recipe(), translate=translate, **recipe)
    return Batches(np.arange(n), batch_size, n, recipe, seed)


def epoch_of(batches):
    parts = [batches[i] for i in range(len(batches))]
    batches.on_epoch_end()
    plans, targets = (np.concatenate(part) for part in zip(*parts, strict=True))
    return np.asarray(data.augment(some_images(batches.classes), plans)), targets


def mirrored_images(batches):
    """{image number: whether it came mirrored} of one epoch; every image must be a known one with its own label."""
    originals, seen = some_images(batches.classes), {}
    for image, target in zip(*epoch_of(batches), strict=True):
        number = int(target.argmax())
        assert target.sum() == 1 and number not in seen
        seen[number] = not np.array_equal(image, originals[number])
        np.testing.assert_array_equal(image, originals[number][:, ::-1] if seen[number] else originals[number])
    return seen


@pytest.mark.parametrize("n, used", [(12, 12), (11, 8), (4, 4)])
def test_batches_have_one_shape_and_use_no_image_twice(n, used):
    batches = batches_of(n)
    for _ in range(3):
        for i in range(len(batches)):
            plan, targets = batches[i]
            assert (plan.dtype, plan.shape) == (np.int32, (4, 4))
            assert (targets.dtype, targets.shape) == (np.float32, (4, n))
        assert len(mirrored_images(batches)) == used


def test_batches_mirror_each_image_in_every_other_epoch():
    batches = batches_of(40)
    first, second, third = (mirrored_images(batches) for _ in range(3))
    assert len(first) == 40 and 5 < sum(first.values()) < 35
    assert second == {number: not mirrored for number, mirrored in first.items()}
    assert third == first


def test_batches_without_flip_mirror_nothing():
    batches = batches_of(40, flip=False)
    assert not any(any(mirrored_images(batches).values()) for _ in range(2))


def test_batches_translate_every_image_by_its_own_shift():
    """With ``translate=1`` each image is one of nine known cut-outs, and not all are the same one."""
    originals, shifts = some_images(40), set()
    for image, target in zip(*epoch_of(batches_of(40, batch_size=40, translate=1, flip=False)), strict=True):
        one = originals[target.argmax()][None]
        fits = {
            (r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if np.array_equal(augmented(one, False, (r, c))[0], image)
        }
        assert len(fits) == 1
        shifts |= fits
    assert len(shifts) >= 6


@pytest.mark.parametrize("side", [16, 32, 48])
def test_resize_keeps_the_picture(side):
    (images, _), _ = data.load_toy()
    resized = data.resize(images[:3], side)
    assert (resized.shape, resized.dtype) == ((3, side, side, 3), np.uint8)
    np.testing.assert_allclose(resized.mean((1, 2)), images[:3].mean((1, 2)), atol=2)
    if side == 16:
        # What a pixel covers is averaged, its neighbours too: no pixel is merely left out.
        blocks = images[:3].reshape(3, 16, 2, 16, 2, 3).mean((2, 4))
        assert np.abs(resized - blocks).mean() < np.abs(images[:3, ::2, ::2] - blocks).mean()
    if side == 32:
        np.testing.assert_array_equal(resized, images[:3])


def test_batches_repeat_for_a_seed_and_differ_between_epochs():
    one, same, other = batches_of(translate=2), batches_of(translate=2), batches_of(translate=2, seed=1)
    epochs = [epoch_of(one) for _ in range(3)]
    for found in epochs:
        for part, again in zip(found, epoch_of(same), strict=True):
            np.testing.assert_array_equal(part, again)
    orders = [tuple(targets.argmax(1)) for _, targets in [*epochs, epoch_of(other)]]
    assert len(set(orders)) == 4


def test_batches_refuse_what_they_cannot_fill():
    with pytest.raises(ValueError, match=r"batch_size is 13\b.* only 12 images"):
        batches_of(12, batch_size=13)


def test_batches_check_their_labels():
    from effnet_utils.train import Batches, Recipe

    with pytest.raises(ValueError, match=r"labels lie in 0\.\.5; expected 0\.\.4"):
        Batches(np.arange(6), 2, 5, Recipe())
