"""What the pixels of a mirror of CIFAR-10 cost: one model's accuracy on the mirror's test images and on the exact ones.

    python -m benchmarks.exact_pixels runs/finetune/NAME.keras --exact-dir DIR

DIR contains CIFAR-10 with exact pixels: the official files, or cifar10.npz with the first test images of theirs. The
model is one that ``finetune`` or 07 saved; NAME is that of its record. Nothing is chosen by these figures. The exact
images are also taken through JPEG as tools/jpeg_mirror.py does, to compare that with the mirror. Writes
records/benchmarks/exact_pixels_<NAME>.json.
"""

import math
from pathlib import Path

import keras
import numpy as np

from benchmarks._common import argument_parser, write_benchmark
from effnet_utils.datasets import describe_dataset, load_cifar10
from effnet_utils.evaluation import predict_proba
from effnet_utils.experiments import records
from tools.jpeg_mirror import through_jpeg


def mcnemar_p_value(a, b):
    """Two-sided p-value of McNemar's exact test, where only one of two is right on a images and only the other on b."""
    tail = sum(math.comb(a + b, k) for k in range(max(a, b), a + b + 1))
    return min(1, 2 * tail / 2 ** (a + b))


def compare(model, mirror, exact, kinds=("mirror", "exact")):
    """A model's accuracy on (images, labels) of both kinds; the exact ones may be fewer, from the first on.

    Returns:
        dict: for both kinds the test_accuracy, interval_95 (half the width of its 95 % confidence interval)
        and right_only_here (images); p_value of the difference (McNemar's exact test).

    Raises:
        ValueError: the labels differ.
    """
    labels = exact[1]
    n = len(labels)
    if not np.array_equal(labels, mirror[1][:n]):
        raise ValueError("the two folders' test images have different labels; expected the same images in one order")
    right = {}
    for kind, images in zip(kinds, (mirror[0][:n], exact[0]), strict=True):
        right[kind] = predict_proba(model, images).argmax(axis=1) == labels
    found = {}
    for kind, other in (kinds, kinds[::-1]):
        accuracy = float(right[kind].mean())
        interval = 2 * math.sqrt(accuracy * (1 - accuracy) / n)
        alone = int((right[kind] & ~right[other]).sum())
        found[kind] = {"test_accuracy": accuracy, "interval_95": round(interval, 4), "right_only_here": alone}
        print(f"{kind:6} pixels, {n} test images: {accuracy:.2%} ± {interval:.2%}, {alone} right only here")
    p_value = mcnemar_p_value(*(found[kind]["right_only_here"] for kind in kinds))
    found["p_value"] = round(p_value, 4)
    return found


def main(arguments=None):
    parser = argument_parser("exact_pixels", __doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data-dir", default="data", help="the mirror")
    parser.add_argument("--exact-dir", required=True)
    given = parser.parse_args(arguments)
    _, exact = load_cifar10(given.exact_dir)
    _, mirror = load_cifar10(given.data_dir)
    model = keras.saving.load_model(given.model)
    results = compare(model, mirror, exact)
    ours = through_jpeg(exact[0])
    of_mirror = mirror[0][: len(ours)].astype(int)
    datasets = {}
    for kind, folder in (("mirror", given.data_dir), ("exact", given.exact_dir)):
        datasets[kind] = describe_dataset("cifar10", folder, n_train=0, n_test=len(exact[1]))
    record = {
        "what": "a model on the same test images, with a mirror's pixels and exact: python -m benchmarks.exact_pixels",
        "model": given.model.stem,
        "datasets": datasets,
        "results": results,
        "our_jpeg": compare(model, mirror, (ours, exact[1]), ("mirror", "our JPEG")),
        "grey_levels_from_mirror": {
            kind: round(float(np.abs(images - of_mirror).mean()), 3)
            for kind, images in (("exact", exact[0]), ("our JPEG", ours))
        },
        "environment": records.environment(),
    }
    write_benchmark(given, f"exact_pixels_{given.model.stem}", record)


if __name__ == "__main__":
    main()
