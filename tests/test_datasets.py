"""CIFAR-10's files, packed data sets, the toy dataset, and checks of images. Nothing here needs a network."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from effnet_utils import datasets
from tests.cifar_fixture import (
    ARCHIVE,
    BATCHES,
    FOLDER,
    assert_same,
    dumps,
    md5_sums,
    packed_arrays,
    refusal,
    system_call,
    write_archive,
    write_folder,
    write_packed,
)
from tools import pack_cifar10


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """Whatever a test does, a download ends at a file that does not exist."""
    monkeypatch.setattr(datasets, "CIFAR10_URL", (tmp_path / "nowhere" / ARCHIVE).as_uri())


@pytest.fixture
def official(tmp_path, monkeypatch):
    """A folder of made-up batches that have the published hashes, as far as this test is concerned."""
    folder = write_folder(tmp_path)
    monkeypatch.setattr(datasets, "CIFAR10_MD5", md5_sums(folder))
    return folder


def tree(folder):
    """Every file below a folder, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def altered(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def truncated(content):
    return content[: len(content) // 2]


# --- The official files -----------------------------------------------------------------------------------------


def test_reads_the_official_files_wherever_data_dir_points(official, monkeypatch):
    monkeypatch.chdir(official.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data_dir in (official.parent, official, f"{official}/", FOLDER):
            assert_same(datasets.load_cifar10(data_dir))


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("damage", [altered, truncated])
def test_file_of_another_hash_is_refused(official, damage, name):
    path = official / name
    expected = hashlib.md5(path.read_bytes()).hexdigest()
    path.write_bytes(damage(path.read_bytes()))
    found = hashlib.md5(path.read_bytes()).hexdigest()
    names = (f"{path} is not the official", found, expected, f"remove {official}")
    refusal(datasets.load_cifar10, official.parent, names=names)
    refusal(datasets.describe_dataset, "cifar10", official.parent, 1, 1, names=names)


def test_file_of_another_hash_runs_no_code(official, tmp_path):
    (official / "data_batch_2").write_bytes(dumps(system_call(tmp_path / "marker"), 2))
    refusal(datasets.load_cifar10, official, names=["not the official"])
    assert not (tmp_path / "marker").exists()


def test_refusal_names_a_command_that_works(tmp_path, capsys):
    """Another data set of the same form: the message says how to convert it."""
    message = refusal(datasets.load_cifar10, write_folder(tmp_path / "my data"))
    _, command, _ = message.split("`")
    *python, folder, path = shlex.split(command)
    assert python == ["python", "-m", "tools.pack_cifar10"]
    pack_cifar10.main([folder, path])
    assert capsys.readouterr().out == f"{path}: 20 training and 4 test images; source: unknown\n"
    assert_same(datasets.load_cifar10(path))


def test_incomplete_folder_is_refused(official):
    """A half-copied folder is the user's: it is named, not overwritten by a download."""
    (official / "data_batch_3").unlink()
    before = tree(official)
    refusal(datasets.load_cifar10, official.parent, names=[f"{official} lacks data_batch_3: complete"])
    assert tree(official) == before


def test_file_in_the_folders_place_is_refused(tmp_path):
    path = tmp_path / FOLDER
    path.write_text("mine")
    for data_dir in (tmp_path, path):
        refusal(datasets.load_cifar10, data_dir, names=[path])
    assert path.read_text() == "mine"


# --- The archive ------------------------------------------------------------------------------------------------

UNPACKED = sorted([ARCHIVE, *(f"{FOLDER}/{name}" for name in (*BATCHES, "batches.meta"))])


@pytest.fixture
def archive(official, monkeypatch):
    """The official archive, in a folder of its own; downloads find it there."""
    path = write_archive(official.parent / "served" / ARCHIVE, official)
    monkeypatch.setattr(datasets, "CIFAR10_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(datasets, "CIFAR10_URL", path.as_uri())
    return path


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_unpacks_an_archive_that_is_already_there(archive, work):
    os.replace(archive, work / ARCHIVE)
    assert_same(datasets.load_cifar10(work))
    assert tree(work) == UNPACKED
    # Not private, as temporary folders are.
    assert (work / FOLDER).stat().st_mode == work.stat().st_mode


@pytest.mark.parametrize("data_dir", ["", "new/data", f"new/{FOLDER}"])
def test_downloads_once_and_unpacks(archive, work, data_dir):
    assert_same(datasets.load_cifar10(work / data_dir))
    parent = work / data_dir.removesuffix(FOLDER)
    assert tree(parent) == UNPACKED
    archive.unlink()
    assert_same(datasets.load_cifar10(work / data_dir))


def test_one_downloads_while_others_wait(archive, work, monkeypatch):
    downloads = []
    download = datasets._download

    def slow(*arguments):
        downloads.append(arguments)
        time.sleep(0.5)
        return download(*arguments)

    monkeypatch.setattr(datasets, "_download", slow)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(datasets.load_cifar10, [work] * 3):
            assert_same(found)
    assert len(downloads) == 1


@pytest.mark.parametrize("downloaded", [False, True])
@pytest.mark.parametrize("damage", [altered, truncated, lambda content: b"not an archive"])
def test_wrong_archive_is_refused_before_it_is_opened(archive, work, monkeypatch, damage, downloaded):
    archive.write_bytes(damage(archive.read_bytes()))
    monkeypatch.setattr(datasets.tarfile, "open", None)
    names = ["is not the published", datasets.CIFAR10_SHA256]
    if downloaded:
        names += [archive.as_uri(), f"Run again, or put the archive at {work / ARCHIVE}"]
    else:
        os.replace(archive, work / ARCHIVE)
        names += [work / ARCHIVE, "Delete it"]
    refusal(datasets.load_cifar10, work, names=names)
    assert tree(work) == ([] if downloaded else [ARCHIVE])


def test_interrupted_unpacking_leaves_no_folder(archive, work, monkeypatch):
    def interrupted(tar, temporary, **options):
        tar.extract(f"{FOLDER}/data_batch_1", temporary, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(datasets.tarfile.TarFile, "extractall", interrupted)
        with pytest.raises(KeyboardInterrupt):
            datasets.load_cifar10(work)
    assert tree(work) == [ARCHIVE]
    assert_same(datasets.load_cifar10(work))


def test_without_a_network_the_options_are_listed(work):
    names = [work / "new", "Options: connect to the network", "data_dir", FOLDER, "cifar10.npz", 'dataset="toy"']
    refusal(datasets.load_cifar10, work / "new", error=FileNotFoundError, names=names)
    assert tree(work) == []


# --- Packed files -----------------------------------------------------------------------------------------------

IMAGES = np.zeros((4, 32, 32, 3), np.uint8)
LABELS = np.zeros(4, np.uint8)


def test_reads_a_packed_file_or_its_folder(tmp_path):
    path = write_packed(tmp_path)
    for data_dir in (path, str(path), tmp_path):
        assert_same(datasets.load_cifar10(data_dir))
    assert_same(datasets.load_cifar10(path.rename(tmp_path / "mine.npz")))


def test_folder_with_both_forms_is_refused(official):
    path = write_packed(official.parent)
    refusal(datasets.load_cifar10, official.parent, names=["contains both", path, official])
    for data_dir in (path, official):
        assert_same(datasets.load_cifar10(data_dir))


def test_missing_packed_file_is_not_downloaded(tmp_path):
    names = ["cifar10.npz is not a file"]
    refusal(datasets.load_cifar10, tmp_path / "cifar10.npz", error=FileNotFoundError, names=names)


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"x_test": None, "y_train": None}, "lacks y_train, x_test; expected the arrays x_train"),
        ({"x_test": IMAGES / 255}, "x_test is float64 (4, 32, 32, 3); expected uint8 (n, 32, 32, 3)"),
        ({"x_test": IMAGES.transpose(0, 3, 1, 2)}, "x_test is uint8 (4, 3, 32, 32); expected"),
        ({"x_train": IMAGES[:0], "y_train": LABELS[:0]}, "x_train is uint8 (0, 32, 32, 3); expected"),
        ({"x_test": np.array([None])}, "Object arrays cannot be loaded"),
        ({"y_test": LABELS.astype(np.int64)}, "y_test is int64 (4,); expected uint8 (4,)"),
        ({"y_test": LABELS[:3]}, "y_test is uint8 (3,); expected uint8 (4,)"),
        ({"y_test": LABELS + np.uint8(10)}, "y_test is in 10..10; expected 0..9"),
        ({"source": np.array(["a", "b"])}, "source is <U1 (2,); expected one text"),
        ({"source": np.array(7)}, "source is int64 (); expected one text"),
    ],
)
def test_wrong_packed_arrays_are_refused(tmp_path, changed, words):
    path = write_packed(tmp_path, **changed)
    refusal(datasets.load_cifar10, tmp_path, names=[path, words])


@pytest.mark.parametrize("damage", [altered, truncated, lambda _: b"", lambda _: dumps({}, 2)])
def test_damaged_packed_file_is_refused(tmp_path, damage):
    path = write_packed(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    refusal(datasets.load_cifar10, tmp_path, names=[f"{path} cannot be read as a packed data set", "pack the data"])


# --- What a record says of the data -----------------------------------------------------------------------------


def assert_described(data_dir, official, source, parts):
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    expected = {"name": "cifar10", "official": official, "source": source, "sha256": digest, "n_train": 20, "n_test": 4}
    assert datasets.describe_dataset("cifar10", data_dir, 20, 4) == expected


def test_describe_official_files(official):
    (official / "SOURCE.txt").write_text("official files need no note")
    files = [(official / name).read_bytes() for name in BATCHES]
    assert_described(official.parent, True, datasets.CIFAR10_URL, files)


@pytest.mark.parametrize("source", [None, "a mirror: été"])
def test_describe_packed_file(tmp_path, source):
    write_packed(tmp_path, source=source)
    assert_described(tmp_path, False, source or "unknown", [array.tobytes() for array in packed_arrays().values()])


# --- The toy dataset --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy():
    return datasets.load_toy()


def test_toy_arrays(toy):
    for (images, labels), n in zip(toy, (5000, 1000), strict=True):
        assert (images.dtype, images.shape) == (np.uint8, (n, 32, 32, 3))
        assert (labels.dtype, labels.shape) == (np.uint8, (n,))
        assert np.bincount(labels).tolist() == [n // 10] * len(datasets.TOY_CLASSES)


@pytest.mark.slow
def test_toy_pixels_stay_the_same(toy):
    """Records name the toy dataset by its hash, which depends on how sine and cosine are rounded."""
    (x_train, y_train), (x_test, y_test) = toy
    labels = hashlib.sha256(y_train.tobytes() + y_test.tobytes()).hexdigest()
    assert labels == "9d4d166a8a4cd04ac0aef609ca8c8a5f847598fc520e475f090382995de1f7b4"
    expected = [[103, 88, 139], [217, 98, 168], [100, 62, 159], [118, 170, 35], [177, 135, 179]]
    np.testing.assert_allclose(x_train[::1000, 16, 16], expected, atol=1)
    found = datasets.describe_dataset("toy", "not used", 5, 3)
    digest = found.pop("sha256")
    assert digest == hashlib.sha256(b"".join(part.tobytes() for part in (x_train, y_train, x_test, y_test))).hexdigest()
    if (sys.platform, platform.machine()) == ("linux", "x86_64"):
        # With and without the processor's fused multiply-add: three values differ by 1.
        assert digest in (
            "7ca2499aba64a292533681f2533e387f8b40549a32a140243f827f533a108aa9",
            "61973f476c114cfad1a4606d319466899436f60cf0ac44fa1538d5dba1574a86",
        )
    source = "effnet_utils.datasets.load_toy, seed 0"
    assert found == {"name": "toy", "official": False, "source": source, "n_train": 5, "n_test": 3}
    (other, _), _ = datasets.load_toy(seed=1)
    assert (other != x_train).mean() > 0.5


# --- Any images -------------------------------------------------------------------------------------------------


def some_images(n=6, height=8, width=10, channels=3):
    return np.random.default_rng(3).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize(
    "images, error, words",
    [
        (some_images()[0], ValueError, ["(8, 10, 3)", "(n, height, width, channels)"]),
        (some_images().transpose(0, 3, 1, 2), ValueError, ["(6, 3, 8, 10)", "first", "np.moveaxis(images, 1, -1)"]),
        (some_images().astype(np.float32), TypeError, ["float32", "..255", "expected uint8", "scales pixels itself"]),
        (some_images() > 9, TypeError, ["bool", "expected uint8"]),
        (some_images(n=0).astype(np.float32), TypeError, ["float32", "expected uint8"]),
    ],
)
def test_check_images_refuses(images, error, words):
    refusal(datasets.check_images, images, error=error, names=words)


@pytest.mark.parametrize("check", [datasets.check_images, datasets.warn_if_scaled])
def test_scaled_pixels_warn_and_others_do_not(check):
    """The usual mistake: divided by 255 before the model does it again, then perhaps cast."""
    with pytest.warns(UserWarning, match=r"are in 0\.\.1; the model expects 0\.\.255.*Scaled twice.*as read"):
        check((some_images() / 255).round().astype(np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for images in (some_images(), some_images(channels=1), some_images(n=0)):
            check(images)
        check(np.moveaxis(some_images().transpose(0, 3, 1, 2), 1, -1))


def test_resize_averages_what_a_pixel_covers(toy):
    images = toy[0][0][:3]
    resized = datasets.resize(images, 16)
    assert (resized.shape, resized.dtype) == ((3, 16, 16, 3), np.uint8)
    blocks = images.reshape(3, 16, 2, 16, 2, 3).mean((2, 4))
    assert np.abs(resized - blocks).mean() < np.abs(images[:, ::2, ::2] - blocks).mean()


def test_reading_needs_neither_keras_nor_pillow(tmp_path):
    write_packed(tmp_path)
    code = (
        "import sys; from effnet_utils import datasets; "
        f"datasets.load_toy(); datasets.load_cifar10({str(tmp_path)!r}); "
        "print({'keras', 'tensorflow', 'PIL'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
