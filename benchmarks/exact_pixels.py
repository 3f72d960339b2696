"""What the pixels of a mirror of CIFAR-10 cost: a model on the same test images, as the mirror has them and exact.

    python benchmarks/exact_pixels.py runs/finetune/NAME.keras --exact-dir DIR

DIR holds ``cifar-10-batches-py`` with exact pixels: the official files, or the first images of each of them. The model
is one that ``finetune.py`` kept; NAME is that of its record. Nothing is chosen by these figures. Writes
<out>/exact_pixels_<NAME>.json.
"""

import argparse
import json
import math
from pathlib import Path

import keras
import numpy as np
from throughput import ROOT

from effnet_utils import data, records, train


def by_chance(a, b):
    """How probable it is that a + b tosses of a coin fall at least as unevenly as a to b."""
    return min(1, 2 * sum(math.comb(a + b, k) for k in range(max(a, b), a + b + 1)) / 2 ** (a + b))


def compare(model, mirror, exact):
    """Test accuracy on both kinds of pixels, with two standard errors of a share, of the images that both have."""
    (theirs, labels), (ours, same) = exact, (part[: len(exact[1])] for part in mirror)
    if not np.array_equal(labels, same):
        raise ValueError("the two folders' test images have different labels; expected the same images in one order")
    right = {k: train.predict(model, x).argmax(axis=1) == labels for k, x in (("mirror", ours), ("exact", theirs))}
    found = {}
    for kind, other in (("mirror", "exact"), ("exact", "mirror")):
        accuracy = float(right[kind].mean())
        error = 2 * math.sqrt(accuracy * (1 - accuracy) / len(labels))
        alone = int((right[kind] & ~right[other]).sum())
        found[kind] = {"test_accuracy": accuracy, "two_errors": round(error, 4), "right_only_here": alone}
        print(f"{kind:6} pixels, {len(labels)} test images: {accuracy:.2%} ± {error:.2%}, {alone} right only here")
    found["by_chance"] = round(by_chance(*(row["right_only_here"] for row in found.values())), 4)
    apart = np.abs(theirs.astype(float) - ours)
    found["pixels"] = {"mean_absolute_difference": round(float(apart.mean()), 3)}
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data-dir", default="data", help="the mirror")
    parser.add_argument("--exact-dir", required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "records" / "benchmarks")
    given = parser.parse_args(arguments)
    _, exact = data.load_cifar10(given.exact_dir)
    _, mirror = data.load_cifar10(given.data_dir)
    found = compare(keras.saving.load_model(given.model), mirror, exact)
    counts = {"n_train": 0, "n_test": len(exact[1])}
    record = {
        "what": "a model on the same test images, with a mirror's pixels and exact: python benchmarks/exact_pixels.py",
        "model": given.model.stem,
        "datasets": {
            kind: data.describe_dataset("cifar10", folder, **counts)
            for kind, folder in (("mirror", given.data_dir), ("exact", given.exact_dir))
        },
        "results": found,
        "environment": records.environment(),
    }
    path = given.out / f"exact_pixels_{given.model.stem}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
