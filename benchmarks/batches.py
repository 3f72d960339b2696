"""Which batch fits a GPU, and what it is worth: images per second and memory of a training step, by batch size.

    KERAS_BACKEND=jax python -m benchmarks.batches          # about a minute for each image size
    python -m benchmarks.batches --tiny                     # one small batch, on any machine

B0 for 10 classes with the stride layout "cifar" at 32×32 and the paper's at 224×224, bfloat16, the step of notebook 07.
Each batch has a process of its own, so that its peak of memory is its own. A batch that does not fit is recorded as
such. Writes records/benchmarks/batches_gpu.json, after each batch.
"""

import json
import os
import subprocess
import sys
import time

import keras

from benchmarks._common import ROOT, argument_parser, output_folder, toy_images
from effnet_utils import efficientnet
from effnet_utils.experiments import records
from effnet_utils.training.augment import Batches
from effnet_utils.training.recipe import Recipe
from effnet_utils.training.trainer import make_trainer

BATCHES = {32: (64, 128, 256, 512, 1024), 224: (32, 64, 128, 256)}
TINY = {32: (4,)}
LAYOUTS = {32: "cifar", 224: "imagenet"}
STEPS = 20


def memory_bytes():
    """The most that the device held, in bytes; None where the backend does not say."""
    if keras.backend.backend() == "jax":
        import jax

        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return None


def measure(size, batch_size, steps):
    """One batch size, in this process: images per second of the second of two epochs, seconds of the first step."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    images, labels = toy_images(batch_size * steps, size)
    recipe = Recipe()
    options = {"input_shape": (size, size, 3), "classes": 10, "classifier_activation": None, **recipe.build_options()}
    network = efficientnet("b0", layout=LAYOUTS[size], **options)
    trainer = make_trainer(network, images, recipe, 1e-3, 2 * steps)
    batches = Batches(labels, batch_size, 10, recipe, 0)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        trainer.fit(batches, epochs=1, verbose=0)
        keras.ops.convert_to_numpy(network.weights[0])  # the device has finished
        seconds.append(time.perf_counter() - start)
    return {
        "images_per_second": float(f"{batch_size * steps / seconds[1]:.4g}"),
        "first_epoch_seconds": round(seconds[0], 1),
        "memory_bytes": memory_bytes(),
    }


def main(arguments=None):
    parser = argument_parser("batches", __doc__)
    parser.add_argument("--one", nargs=3, type=int, metavar=("SIZE", "BATCH", "STEPS"), help="measure one, print it")
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(measure(*given.one)))
        return
    path = output_folder(given) / "batches_gpu.json"
    found = {}
    environment = records.environment()
    for size, batches in (TINY if given.tiny else BATCHES).items():
        for batch_size in batches:
            command = [sys.executable, "-m", "benchmarks.batches", "--one", str(size), str(batch_size)]
            command.append("2" if given.tiny else str(STEPS))
            variables = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
            done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
            if done.returncode == 0:
                row = json.loads(done.stdout.splitlines()[-1])
            else:
                row = {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][-200:]}
            found[f"{size} pixels, batch {batch_size}"] = row
            print(f"{size} pixels, batch {batch_size}: {row}", flush=True)
            what = "B0, bfloat16, one training step of notebook 07, by image size and batch"
            records.write_json(path, {"what": what, "batches": found, "environment": environment})
    if all("failed" in row for row in found.values()):
        sys.exit(f"no batch could be measured: {row['failed']}")


if __name__ == "__main__":
    main()
