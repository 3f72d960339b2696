"""Everything that is measured on a GPU, in one command that ends by itself within nine minutes of its start.

    make gpu-kit GPU_DATA=cifar10_jpeg.npz            # before, on a CPU with a network: the folder .gpu
    python -m benchmarks.gpu_day --bundle gpu.tar     # on the GPU, beside .gpu; again, to go on with what is left
    python -m benchmarks.gpu_day --tiny               # every part with the smallest values, on any machine

It needs no network. Parts come in the order of their value, each is a benchmark of this folder with its own records,
and what has a record is not measured again. No part begins when its usual time is not left any more. The bundle holds
all records so far.

    check       does this machine compute what TensorFlow computes on a CPU?
    choose      B0 from scratch, 10 epochs, on 45,000 images: which peak rate, for "cifar" and "cifar-fine"
    test        the chosen rates on all 50,000 images, five seeds, evaluated on the test images
    step        images per second of a training step against timm under torch.compile, at 32 and at 224 pixels
    fine-tune   all of Lite0 on all 50,000 images at 224 pixels
    batches     images per second and memory, by batch size
    profile     which operations take the GPU's time in a training step
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

# No Keras here, nor anything that imports it: the kit's wheels are not installed when this begins.
ROOT = Path(__file__).resolve().parents[1]

KIT = ROOT / ".gpu"
PACKED = "cifar10_jpeg.npz"
LAYOUTS = ("cifar", "cifar-fine")
RATES = ("6e-3", "1e-2")
DEFAULT_RATE = "1e-2"
# The usual seconds of each part, by which it is decided whether to begin; compilation included. Not measured yet.
USUAL = {
    "check": 40,
    "choose": 60,
    "test": 60,
    "step": 120,
    "step at 224": 120,
    "fine-tune": 150,
    "batches": 90,
    "profile": 120,
}
# Of the parts that have one record; those that train look themselves, for each run.
RECORDS = {
    "step": "throughput_gpu",
    "step at 224": "throughput_gpu_224",
    "batches": "batches_gpu",
    "profile": "profile_gpu",
}


def set_up():
    """Install the kit's wheels into .gpu/site and unpack its images, once."""
    wheels = sorted((KIT / "wheels").glob("*.whl"))
    if wheels and not (KIT / "site").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(KIT / "site")]
        subprocess.run([*pip, *map(str, wheels)], check=True)
    if (KIT / PACKED).is_file() and not (KIT / "cifar10.npz").is_file():
        unpack(KIT / PACKED, KIT / "cifar10.npz")


def unpack(source, target):
    """Write a file that load_cifar10 takes, from one with 60,000 JPEG files: "jpeg", "jpeg_offsets", "labels"."""
    import numpy as np
    from PIL import Image

    with np.load(source) as packed:
        files, offsets, labels = packed["jpeg"].tobytes(), packed["jpeg_offsets"], packed["labels"]
    images = np.empty((len(labels), 32, 32, 3), np.uint8)
    for place in range(len(labels)):
        file = io.BytesIO(files[offsets[place] : offsets[place + 1]])
        images[place] = np.asarray(Image.open(file).convert("RGB"))
    n = len(labels) * 5 // 6
    arrays = {"x_train": images[:n], "y_train": labels[:n], "x_test": images[n:], "y_test": labels[n:]}
    np.savez(target, **arrays, source="JPEG mirror of CIFAR-10")


def bundle(path, folder):
    """All records of a folder in one file, which is small and comes back whole."""
    with tarfile.open(path, "w") as file:
        for record in sorted(folder.glob("*.json")):
            file.add(record, record.name)


def chosen_rate(folder, layout):
    """The peak rate with the highest validation accuracy among the records of a layout, as the command takes it."""
    found = {}
    for rate in RATES:
        path = folder / f"gpu_{layout}_rate{float(rate):g}_validation_0.json"
        if path.is_file():
            found[rate] = json.loads(path.read_text())["results"]["validation_accuracy"]
    return max(found, key=found.get) if found else DEFAULT_RATE


def parts(folder, data, tiny):
    """(name, module, arguments) in the order of their value; what comes later depends on the records of before."""
    shared = ["--output-dir", str(folder), *(["--tiny"] if tiny else [])]
    trained = ["--data-dir", str(data), *shared]
    expected = ["--expected", str(KIT / ("expected_tiny.npz" if tiny else "expected.npz"))]
    yield "check", "gpu_check", [*expected, *shared]
    for layout in LAYOUTS:
        search = ["--eval-split", "validation", "--layouts", layout, "--rates", *RATES, "--seeds", "0"]
        yield "choose", "gpu", [*search, *trained]
    for seed in range(1 if tiny else 5):
        for layout in reversed(LAYOUTS):
            rate = chosen_rate(folder, layout)
            yield "test", "gpu", ["--layouts", layout, "--rates", rate, "--seeds", str(seed), *trained]
        if seed == 0:
            yield "step", "throughput", ["--on", "gpu", "--rounds", "3", *shared]
            yield "fine-tune", "finetune", ["--rates", "5e-4", "--amounts", "0", *trained]
    if not tiny:  # the same code as "step"
        yield "step at 224", "throughput", ["--on", "gpu", "--image-size", "224", "--rounds", "3", *shared]
    yield "batches", "batches", shared
    yield "profile", "gpu_profile", shared


def done(name, folder):
    """Whether a part has its record."""
    return name in RECORDS and (folder / f"{RECORDS[name]}.json").is_file()


def environment(folder):
    """JAX, with programs compiled once kept beside the records; PyTorch finds the wheels of the kit as well."""
    site = str(KIT / "site")
    return {
        "KERAS_BACKEND": "jax",
        **os.environ,
        "PYTHONPATH": os.pathsep.join([site, os.environ.get("PYTHONPATH", "")]),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="try every part with the smallest values")
    parser.add_argument("--output-dir", "-o", type=Path, help="folder for the records (default: runs/gpu_day)")
    parser.add_argument("--bundle", type=Path, help="a tar file of all records, written again after each part")
    parser.add_argument("--minutes", type=float, default=9, help="after which it ends (default: 9)")
    parser.add_argument("--data", type=Path, default=KIT / "cifar10.npz", help="CIFAR-10 as load_cifar10 takes it")
    given = parser.parse_args(arguments)
    end = time.monotonic() + 60 * given.minutes
    folder = (given.output_dir or ROOT / "runs" / ("tiny" if given.tiny else "gpu_day")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    set_up()
    failed = []
    for name, module, own in parts(folder, given.data, given.tiny):
        left = end - time.monotonic()
        if done(name, folder):
            continue
        if left < (0 if given.tiny else USUAL[name]):
            print(f"{name}: not begun, {max(left, 0):.0f} s are left", flush=True)
            continue
        start = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{module}", *own]
        print(f"--- {name}: {' '.join(command[1:])}", flush=True)
        try:
            code = subprocess.run(command, cwd=ROOT, env=environment(folder), timeout=left).returncode
        except subprocess.TimeoutExpired:
            code = "cut off"
        print(f"--- {name}: {time.monotonic() - start:.0f} s, {code or 'done'}", flush=True)
        if given.bundle:
            bundle(given.bundle, folder)
        if code:
            failed.append(name)
            if name == "check":
                break  # nothing that follows would be a measurement
    if failed:
        sys.exit(f"failed or cut off: {', '.join(failed)}; the same command continues")


if __name__ == "__main__":
    main()
