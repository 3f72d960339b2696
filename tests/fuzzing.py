"""Files and texts of all kinds of damage for the readers: nothing but a ValueError may come out of them."""

import io
import pickle
import string

import numpy as np
from cifar_fixture import batch_dict, dumps, made_up_batches

from effnet_utils import data, sweep, train, weights
from effnet_utils.run import parse_value

PIXELS, LABELS = made_up_batches(2)["data_batch_1"]
BATCHES = [dumps(batch_dict(PIXELS, LABELS), form) for form in ("python2", 2, 4, 5)]


def torch_file():
    """Two tensors as torch.save wrote them before version 1.6, put together by hand."""
    file = io.BytesIO()
    for head in (weights.MAGIC, weights.PROTOCOL, {"protocol_version": 1001, "little_endian": True}):
        pickle.dump(head, file, protocol=2)
    file.write(b"\x80\x02ccollections\nOrderedDict\n)R(")
    for name, key, shape in ((b"a", b"0", b"K\x02K\x02\x86"), (b"b", b"1", b"K\x03\x85")):
        count, strides = (b"K\x04", b"K\x02K\x01\x86") if key == b"0" else (b"K\x03", b"K\x01\x85")
        storage = b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0" + key + b"X\x03\0\0\0cpu" + count + b"NtQ"
        file.write(b"X\x01\0\0\0" + name + b"ctorch._utils\n_rebuild_tensor_v2\n" + storage)
        file.write(b"K\0" + shape + strides + b"\x89ccollections\nOrderedDict\n)RtR")
    file.write(b"u.")
    pickle.dump(["0", "1"], file, protocol=2)
    for count in (4, 3):
        file.write(count.to_bytes(8, "little") + np.arange(count, dtype="<f4").tobytes())
    return file.getvalue()


def damaged(rng, content):
    """A copy with one to four of: bytes changed, cut off, cut out, put in, repeated."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        a, b = sorted(rng.integers(0, len(content) + 1, 2))
        b = min(b, a + int(rng.integers(1, 20)))
        kind = rng.integers(6)
        if kind == 0:
            content[a:b] = rng.bytes(b - a)
        elif kind == 1 and a < len(content):
            content[a] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del content[a:]
        elif kind == 3:
            del content[a:b]
        elif kind == 4:
            content[a:a] = rng.bytes(int(rng.integers(1, 9)))
        else:
            content[a:a] = content[a:b] * int(rng.integers(1, 50))
    return bytes(content)


TEXTS = [
    "1", "-3", "0.5", "1e999", "nan", "true", "toy", "b0", "{}", '{"translate": 4}', '{"warmup": NaN}', "[]", "null",
    '{"translate": 1e400}', '{"activation": "relu", "se_ratio": 0}', "٣", "1_000", "[" * 5000, '{"a":' * 3000, "\ud800",
]  # fmt: skip
GRIDS = [
    "grid: {epochs: [1, 2], layout: [cifar]}\nseeds: [0, 1]\nparameters: {dataset: toy}\n",
    "seeds: [0]\nnotebook: '07'\n",
    "grid: {overrides: [{}, {translate: 4}]}\n",
    "a: &a [*a]\n", "2001-99-99: 1\n", "? [1]\n: 2\n", "!!python/object/apply:os.system ['true']\n", "- " * 400,
]  # fmt: skip


def _text(rng, texts):
    if rng.random() < 0.2:
        return "".join(rng.choice(list(string.printable), rng.integers(0, 40)))
    text = str(rng.choice(texts)) if rng.random() < 0.9 else texts[int(rng.integers(len(texts)))]
    return text if rng.random() < 0.3 else damaged(rng, text.encode(errors="replace")[:3000]).decode(errors="replace")


def batch_reader(rng, folder):
    path = folder / "batch"
    path.write_bytes(damaged(rng, BATCHES[rng.integers(len(BATCHES))]))
    images, labels = data._read_batch_file(path)
    assert images.shape[1:] == (32, 32, 3) and images.dtype == labels.dtype == np.uint8 and len(images) == len(labels)


def weights_reader(rng, folder, content=torch_file()):  # noqa: B008, made once
    assert all(
        isinstance(array, np.ndarray) and array.size <= 4
        for array in weights.read_torch(damaged(rng, content)).values()
    )


def parameter_parser(rng, folder):
    text, name = _text(rng, TEXTS), str(rng.choice(list(train.PARAMETERS)))
    type_ = train.PARAMETERS[name][0]
    values = {name: parse_value(name, text, type_.__name__)}
    assert train.check_parameters(values) is values
    assert isinstance(train.parse_overrides(values.get("overrides", "{}")), train.Recipe)


def grid_reader(rng, folder):
    path = folder / "grid.yaml"
    path.write_bytes(_text(rng, GRIDS).encode(errors="replace"))
    _, runs = sweep.read_grid(path)
    assert all(isinstance(run, dict) for run in runs.values())


READERS = {
    "batch reader": batch_reader,
    "weights reader": weights_reader,
    "parameter parser": parameter_parser,
    "grid reader": grid_reader,
}


def fuzz(name, cases, folder, seed=0):
    """(refused, read) of so many damaged inputs; any exception but ValueError goes through."""
    rng, refused = np.random.default_rng(seed), 0
    for case in range(cases):
        try:
            READERS[name](rng, folder)
        except ValueError:
            refused += 1
        except BaseException as error:
            raise AssertionError(f"{name}, case {case} of seed {seed}: {error!r:.500}") from error
    return refused, cases - refused
