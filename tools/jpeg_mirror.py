"""CIFAR-10 with the pixels of the JPEG mirror, for those who have the official files.

    python -m tools.jpeg_mirror OUT.npz

Every image goes once through JPEG with quality 75 and chroma at half the resolution (4:2:0); labels and order stay.
``load_cifar10`` takes the new file as ``data_dir``.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from effnet_utils.datasets import load_cifar10
from effnet_utils.files import atomic_write

QUALITY = 75
CHROMA_420 = 2  # Pillow's number for chroma at half the resolution in both directions
SOURCE = "CIFAR-10 through JPEG once, quality 75, chroma 4:2:0"


def through_jpeg(images):
    """Images as they come back from JPEG.

    Args:
        images: uint8 (n, height, width, 3).

    Returns:
        uint8 of the same shape; other pixels, a few grey levels off.
    """
    found = np.empty_like(images)
    for place, image in enumerate(images):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=QUALITY, subsampling=CHROMA_420)
        found[place] = np.asarray(Image.open(file))
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, metavar="OUT.npz", help="the new file; load_cifar10 takes it as data_dir")
    parser.add_argument("--data-dir", default="data", help="the official files; downloaded there if they are absent")
    given = parser.parse_args(arguments)
    if given.path.suffix != ".npz" or given.path.exists():
        problem = "exists already" if given.path.exists() else "does not end in .npz"
        parser.exit(1, f"error: {given.path} {problem}; expected the name of a new file, such as data/mirror.npz\n")
    try:
        (x_train, y_train), (x_test, y_test) = load_cifar10(given.data_dir)
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    arrays = {"x_train": through_jpeg(x_train), "y_train": y_train, "x_test": through_jpeg(x_test), "y_test": y_test}
    with atomic_write(given.path) as file:
        np.savez(file, **arrays, source=SOURCE)
    print(f"{given.path}: {len(x_train)} training and {len(x_test)} test images; source: {SOURCE}")


if __name__ == "__main__":
    main()
