"""Whether this machine computes what TensorFlow computes on a CPU: logits of B0 and B4, and the device.

    KERAS_BACKEND=tensorflow python -m benchmarks.gpu_check --write    # on a CPU; writes .gpu/expected.npz
    KERAS_BACKEND=jax python -m benchmarks.gpu_check                   # on the GPU; seconds

Weights and images come from NumPy's generator, the same everywhere, in float32 with full precision in matrix products.
The largest difference of the logits, in units of their standard deviation, must be at most 1e-3: rounding alone gives
up to 5e-4 (JAX on a CPU, B4). Writes records/benchmarks/gpu_check.json, and ends with an error beyond that. --tiny: B0.
"""

import os
import sys

# Hopper multiplies float32 with 10 bits unless it is told otherwise.
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")

import keras  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks._common import ROOT, argument_parser, write_benchmark  # noqa: E402
from effnet_utils import efficientnet  # noqa: E402
from effnet_utils.experiments import records  # noqa: E402
from effnet_utils.parity import randomise, randomise_kernels  # noqa: E402

EXPECTED = ROOT / ".gpu" / "expected.npz"
VARIANTS = ("b0", "b4")
SIZE = 96
TOLERANCE = 1e-3


def logits(variant):
    """Those of four images (4, 1000), float32."""
    model = efficientnet(variant, input_shape=(SIZE, SIZE, 3), classifier_activation=None)
    randomise(model)
    randomise_kernels(model)
    images = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3)).astype("float32")
    return keras.ops.convert_to_numpy(model(images, training=False))


def main(arguments=None):
    parser = argument_parser("gpu_check", __doc__)
    parser.add_argument("--write", action="store_true", help="compute what is expected, here")
    parser.add_argument("--expected", default=EXPECTED, help="file of what is expected")
    given = parser.parse_args(arguments)
    variants = VARIANTS[:1] if given.tiny else VARIANTS
    if given.write:
        EXPECTED.parent.mkdir(exist_ok=True)
        np.savez(given.expected, **{variant: logits(variant) for variant in variants})
        print(given.expected)
        return
    differences = {}
    with np.load(given.expected) as expected:
        for variant in variants:
            difference = np.abs(logits(variant) - expected[variant]).max() / expected[variant].std()
            differences[variant] = float(f"{difference:.3g}")
    record = {
        "what": "largest difference of logits from TensorFlow's on a CPU, in standard deviations of the logits",
        "tolerance": TOLERANCE,
        "differences": differences,
        "environment": records.environment(),
    }
    write_benchmark(given, "gpu_check", record)
    print(differences, record["environment"]["device"])
    if max(differences.values()) > TOLERANCE:
        sys.exit(
            f"the logits differ by more than {TOLERANCE}: {differences}; what follows would measure another network"
        )


if __name__ == "__main__":
    main()
