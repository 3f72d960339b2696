"""Training speed of efficientnet("b0") against keras.applications.EfficientNetB0: same strides, size, batch, data.

    python benchmarks/fit_ratio.py                     # 21 pairs, about 3 minutes on 2 cores

Both models are compiled and warmed up, then fitted in turn (A B, B A, ...) so that a drift of the machine's speed hits
both; runs are short so that the two of a pair meet the same speed. Prints images a second of each and the ratio of each
pair (ours / theirs) as median, quartiles and range, and writes
records/benchmarks/fit_ratio.json.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np

from effnet_utils import efficientnet, load_toy, records

BATCH_SIZE, STEPS = 128, 8


def build(ours):
    arguments = {"input_shape": (32, 32, 3), "classes": 10, "classifier_activation": None}
    model = efficientnet("b0", **arguments) if ours else keras.applications.EfficientNetB0(weights=None, **arguments)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-3), loss, metrics=["accuracy"])
    return model


def images_per_second(model, images, labels):
    start = time.perf_counter()
    model.fit(images, labels, batch_size=BATCH_SIZE, epochs=1, verbose=0)
    return len(images) / (time.perf_counter() - start)


def spread(values):
    names = ("min", "quartile_1", "median", "quartile_3", "max")
    return dict(zip(names, np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).round(4).tolist(), strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=21)
    pairs = parser.parse_args().pairs
    (images, labels), _ = load_toy()
    images, labels = images[: BATCH_SIZE * STEPS], labels[: BATCH_SIZE * STEPS]
    models = {"ours": build(True), "keras.applications": build(False)}
    for model in models.values():
        images_per_second(model, images, labels)
    rates = {name: [] for name in models}
    for pair in range(pairs):
        for name in sorted(models, reverse=pair % 2 == 1):
            rates[name].append(images_per_second(models[name], images, labels))
        ratio = rates["ours"][-1] / rates["keras.applications"][-1]
        print(f"pair {pair + 1}: " + ", ".join(f"{n} {r[-1]:.0f}" for n, r in rates.items()) + f", ratio {ratio:.3f}")
    ratios = [a / b for a, b in zip(rates["ours"], rates["keras.applications"], strict=True)]
    result = {
        "what": f"fit, B0 at 32x32, strides of the paper, batch {BATCH_SIZE}, {STEPS} steps a run, {pairs} pairs",
        "images_per_second": {name: spread(values) for name, values in rates.items()},
        "ratio": spread(ratios),
        "environment": records.environment(),
    }
    path = Path(__file__).parents[1] / "records" / "benchmarks" / "fit_ratio.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["ratio"]), "->", path.name)


if __name__ == "__main__":
    main()
