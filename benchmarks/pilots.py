"""The short runs by which stride layout and recipe were chosen.

    python -m benchmarks.pilots  # all, three seeds each; about 3 minutes per run on 2 cores
    python -m benchmarks.pilots --only base batch-64+sgd --seeds 0

10,000 training images, 4 epochs, evaluated on the 5,000 training images that are held out for validation; the test
images are not touched. Each pilot changes one thing of the first, or several where names are joined by "+". Writes
records/pilot_<name>_<seed>.json; a pilot that has a record is not run again. --tiny: 200 images, one epoch.
"""

from benchmarks._common import argument_parser, run_missing, train_b0
from effnet_utils import LAYOUTS

BASE = {"strides": LAYOUTS["cifar-fast"], "learning_rate": 3e-3, "batch_size": 128, "optimizer": "adamw"}
BUDGET = {"epochs": 4, "max_train_samples": 10_000, "eval_split": "validation"}
TINY = {"epochs": 1, "max_train_samples": 200}
# name -> what differs from BASE. What is not in BASE belongs to the recipe.
PILOTS = {
    "base": {},
    # Strides of the stem and the stages
    "strides-late-1": {"strides": (2, 1, 1, 2, 2, 1, 1, 1)},
    "strides-stem-1": {"strides": (1, 1, 2, 2, 2, 1, 2, 1)},
    "strides-stem-late-1": {"strides": (1, 1, 2, 2, 2, 1, 1, 1)},
    "strides-paper": {"strides": LAYOUTS["imagenet"]},
    # Optimizer, its peak learning rate, batch
    "rate-0.0015": {"learning_rate": 1.5e-3},
    "rate-0.006": {"learning_rate": 6e-3},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.2},
    "muon": {"optimizer": "muon"},
    "batch-64": {"batch_size": 64},
    "averaged": {"optimizer": "averaged"},
    # BatchNorm, initialisation, input
    "bn-0.99": {"bn_momentum": 0.99},
    "gamma-one": {"zero_last_gamma": False},
    "classifier-not-zero": {"zero_classifier": False},
    "input-0-1": {"preprocessing": "rescale"},
    # Regularisation
    "no-smoothing": {"label_smoothing": 0.0},
    "no-augmentation": {"translate": 0, "flip": False},
    "translate-4": {"translate": 4},
    "drop-connect": {"drop_connect_rate": 0.1},
}
COMBINED = (
    "batch-64+sgd",
    "batch-64+muon",
    "strides-stem-1+batch-64",
    "strides-stem-1+batch-64+sgd",
    "strides-stem-1+batch-64+muon",
)


def settings_of(name):
    """The settings of a pilot but for budget and seed. Raises ValueError for a name that is not in PILOTS."""
    settings = {**BASE, "overrides": {}, "pilot": name}
    for part in name.split("+"):
        if part not in PILOTS:
            raise ValueError(f"unknown pilot {part}; allowed, also joined by '+': {', '.join(PILOTS)}")
        for key, value in PILOTS[part].items():
            changed = settings if key in BASE else settings["overrides"]
            changed[key] = value
    return settings


def main(arguments=None):
    parser = argument_parser("pilots", __doc__)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--only", nargs="+", default=[*PILOTS, *COMBINED], metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args(arguments)
    pilots = {name: settings_of(name) for name in given.only}
    budget = {**BUDGET, **TINY} if given.tiny else BUDGET
    runs = {}
    for seed in given.seeds:
        for name, settings in pilots.items():
            runs[f"pilot_{name}_{seed}"] = {**settings, **budget, "seed": seed}
    run_missing(given, "pilots.py", runs, lambda settings, name: train_b0(settings, given.data_dir))


if __name__ == "__main__":
    main()
