"""Ten epochs of EfficientNet-B0 from scratch on a GPU, by stride layout, peak learning rate and seed.

    export KERAS_BACKEND=jax JAX_COMPILATION_CACHE_DIR=.cache/jax  # the second run of a layout compiles in no time
    python -m benchmarks.gpu --eval-split validation --layouts cifar cifar-fine --rates 6e-3 1e-2 --seeds 0
    python -m benchmarks.gpu --layouts cifar-fine --rates 1e-2 --seeds 0 1 2 3 4

The first command chooses: a tenth of the training images is held out and the test images are not touched. The second
one uses the test images once for each seed. bfloat16 with the classifier in float32, batch 512, and otherwise the
recipe of notebook 07. Writes records/gpu_<layout>_rate<rate>_<test or validation>_<seed>.json, a record like those of
07, as soon as a run is done. A run that has a record is not repeated. --tiny: 200 images, 1 epoch, on any machine.
"""

import itertools

import keras

from benchmarks._common import add_training_options, argument_parser, run_missing, train_b0
from effnet_utils import LAYOUTS

FULL = {"batch_size": 512, "epochs": 10, "max_train_samples": 0}
TINY = {"batch_size": 50, "epochs": 1, "max_train_samples": 200}


def main(arguments=None):
    parser = argument_parser("gpu", __doc__)
    add_training_options(parser, rates=[1e-2], seeds=[0, 1, 2, 3, 4])
    parser.add_argument("--layouts", nargs="+", default=["cifar", "cifar-fine"], choices=LAYOUTS)
    given = parser.parse_args(arguments)
    keras.config.set_dtype_policy(given.precision)
    runs = {}
    # Seeds outermost: whatever changes on the machine affects all layouts and rates.
    for seed, layout, rate in itertools.product(given.seeds, given.layouts, given.rates):
        runs[f"gpu_{layout}_rate{rate:g}_{given.eval_split}_{seed}"] = {
            **(TINY if given.tiny else FULL),
            "pilot": layout,
            "strides": LAYOUTS[layout],
            "learning_rate": rate,
            "optimizer": "muon",
            "overrides": {},
            "eval_split": given.eval_split,
            "seed": seed,
        }
    run_missing(given, "gpu.py", runs, lambda settings, name: train_b0(settings, given.data_dir))


if __name__ == "__main__":
    main()
