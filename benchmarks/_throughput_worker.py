"""One implementation of EfficientNet-B0, kept ready: started by `throughput`, and asked to train or to predict.

The first argument is a JSON object (``throughput`` makes it). The first line written says what was built; then each
line read, such as {"task": "train"}, is answered by one line: the seconds from the first step's beginning to the last
one's end, and how long the call went on after that. The task "profile" trains, too, and adds the seconds of each of the
device's operations. All lines are JSON.
"""

import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import keras
import numpy as np

from benchmarks._common import seconds_of, toy_images
from effnet_utils import LAYOUTS, efficientnet
from effnet_utils.experiments import records
from effnet_utils.training.augment import Batches
from effnet_utils.training.recipe import Recipe
from effnet_utils.training.trainer import OnDeviceTrainer

CLASSES = 10
WARMUP_RUNS = 2
PACKAGES = ("keras", "tensorflow", "jax", "torch", "efficientnet-pytorch", "timm")


class StepClock(keras.callbacks.Callback):
    """When the first step began and the last one had ended, on the device, too.

    Not the whole call: after the last step, ``fit`` and ``predict`` wait for the thread that autotunes tf.data's
    pipelines. It sleeps 10 ms, then 20, 40, 80, ..., so that a run of 0.7 seconds may take 1.27, and one of 2.6, 5.11.

    Args:
        steps: int, of a run.
    """

    async_safe = True  # else Keras on JAX and PyTorch would wait for the device after each step

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            self.begin = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.steps - 1:
            self.end = time.perf_counter()  # Keras has fetched the loss for the logs, so the step has ended

    on_predict_batch_begin = on_train_batch_begin

    def on_predict_batch_end(self, batch, logs=None):
        if batch == self.steps - 1:
            keras.tree.map_structure(keras.ops.convert_to_numpy, logs["outputs"])
            self.end = time.perf_counter()

    def seconds(self, call):
        """(seconds of the steps, seconds of the call after them)."""
        call(callbacks=[self])
        return self.end - self.begin, time.perf_counter() - self.end


def whole_call(call):
    """(seconds of a call, 0.0): without tf.data nothing is waited for after the steps."""
    return seconds_of(call), 0.0


def build_keras(given, images, labels):
    """What a worker needs: functions that train and predict once, trainable parameters, sizes of the feature maps.

    The functions return (seconds of the steps, seconds of the call after them).
    """
    keras.config.set_dtype_policy(given["precision"])
    size = {"input_shape": images.shape[1:], "classes": CLASSES, "classifier_activation": None}
    if given["model"] == "keras.applications":
        network = keras.applications.EfficientNetB0(weights=None, **size)
    else:
        network = efficientnet("b0", layout=given["layout"], **size)
    batch_size = given["batch_size"]
    if given["input"] == "device":
        model = OnDeviceTrainer(network, images)
        if not given["accelerated"]:
            model.accelerated = network
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        fit = partial(model.fit, Batches(labels, batch_size, CLASSES, Recipe()))
    else:
        model = network
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        fit = partial(model.fit, images, labels, batch_size=batch_size)
    model.compile(keras.optimizers.AdamW(1e-3), loss, metrics=["accuracy"])
    model.jit_compile = given["compiled"]
    network.jit_compile = given["compiled"]

    clock = StepClock(given["steps"])

    def train():
        return clock.seconds(partial(fit, epochs=1, verbose=0))

    # On a GPU the images to predict are those in its memory; on a CPU they are an array for everybody.
    call = partial(network.predict, images)
    if given["on"] == "gpu":
        n = len(images)
        inputs = {"index": np.arange(n, dtype="int32"), "flip": np.zeros(n, bool), "shift": np.zeros((n, 2), "int32")}
        call = partial(keras.Model.predict, model, inputs)  # the trainer's own takes images

    def predict():
        return clock.seconds(partial(call, batch_size=batch_size, verbose=0))

    trainable = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    return train, predict, trainable, keras_map_sizes(network)


def keras_map_sizes(network):
    """Sizes of the feature maps after the stem and the seven stages."""
    last = {}
    for layer in network.layers:
        if layer.name == "stem_bn" or layer.name.endswith("project_bn"):
            last[layer.name[:6]] = layer.output.shape[1]
    return list(last.values())


def efficientnet_pytorch(size):
    """The network, and the modules after which feature maps are compared: the stem and the seven stages."""
    from efficientnet_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-b0", image_size=size, num_classes=CLASSES, drop_connect_rate=0.2)
    # PyTorch's own operator; the package's default trades time for memory.
    network.set_swish(memory_efficient=False)
    ends = np.cumsum([block.num_repeat for block in network._blocks_args]) - 1
    return network, [network._conv_stem, *(network._blocks[end] for end in ends)]


def timm_b0(layout):
    """As ``efficientnet_pytorch``, with any strides. Its padding is the same on all sides, whatever the size."""
    import timm

    network = timm.create_model("efficientnet_b0", num_classes=CLASSES, drop_rate=0.2, drop_path_rate=0.2)
    first = [network.conv_stem, *(stage[0].conv_dw for stage in network.blocks)]
    for convolution, stride in zip(first, LAYOUTS[layout], strict=True):
        convolution.stride = (stride, stride)
    return network, [network.conv_stem, *network.blocks]


def build_torch(given, images, labels):
    """As ``build_keras``."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(os.cpu_count())
    on_gpu = given["on"] == "gpu"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, ends = timm_b0(given["layout"]) if given["model"] == "timm" else efficientnet_pytorch(images.shape[1])
    layout = torch.channels_last if given["channels_last"] else torch.contiguous_format
    network.to(device, memory_format=layout)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.004, fused=True)
    targets = torch.from_numpy(labels).long().to(device)
    pixels = torch.from_numpy(images).to(device)
    sizes = torch_map_sizes(network, ends, normalised(pixels[:2]))
    if not on_gpu:
        pixels = normalised(pixels).contiguous(memory_format=layout)
    half = given["precision"] == "mixed_bfloat16"

    def scores(batch):
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            return network(normalised(batch) if on_gpu else batch)

    if given["compiled"]:
        scores = torch.compile(scores)
    starts = range(0, len(images), given["batch_size"])

    def train():
        network.train()
        # On the GPU a new order for each epoch, gathered there; on the CPU in order, which costs nothing.
        order = torch.randperm(len(pixels), device=device) if on_gpu else None
        for start in starts:
            chosen = slice(start, start + given["batch_size"])
            if on_gpu:
                chosen = order[chosen]
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(scores(pixels[chosen]).float(), targets[chosen]).backward()
            optimizer.step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # CUDA returns before the work is done

    def predict():
        network.eval()
        with torch.inference_mode():
            parts = [scores(pixels[start : start + given["batch_size"]]).float() for start in starts]
            return torch.cat(parts).cpu().numpy()

    trainable = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    return partial(whole_call, train), partial(whole_call, predict), trainable, sizes


def normalised(pixels):
    """uint8 (n, height, width, 3) to float32 (n, 3, height, width), which keeps the channels last in memory."""
    import torch

    mean = torch.tensor([0.485, 0.456, 0.406], device=pixels.device) * 255
    deviation = torch.tensor([0.229, 0.224, 0.225], device=pixels.device) * 255
    return ((pixels.float() - mean) / deviation).permute(0, 3, 1, 2)


def torch_map_sizes(network, ends, images):
    import torch

    sizes = []
    hooks = [end.register_forward_hook(lambda *found: sizes.append(found[-1].shape[-1])) for end in ends]
    network.eval()
    with torch.inference_mode():
        network(images)
    for hook in hooks:
        hook.remove()
    return sizes


# --- Profiles -----------------------------------------------------------------------------------------------------


def jax_operations(run):
    """{name: seconds on the device} of a call on JAX."""
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (path,) = Path(folder).rglob("*.xplane.pb")
        planes = {plane.name: plane for plane in jax.profiler.ProfileData.from_file(str(path)).planes}
    # A GPU's kernels and copies are on its streams; a CPU's operations are in XLA's threads.
    plane = planes.get("/device:GPU:0") or planes["/host:CPU"]
    found = Counter()
    for line in plane.lines:
        if line.name.startswith(("Stream", "tf_XLA")):
            for event in line.events:
                found[event.name] += event.duration_ns / 1e9
    return found


def torch_operations(run):
    """{name: seconds on the device} of a call on PyTorch."""
    import torch

    with torch.profiler.profile() as profile:
        run()
    found = Counter()
    on_gpu = torch.cuda.is_available()
    wanted = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    for row in profile.key_averages():
        if row.device_type == wanted:
            found[row.key] += (row.self_device_time_total if on_gpu else row.self_cpu_time_total) / 1e6
    return found


def profile(train):
    """The answer to "profile"."""
    operations = {"jax": jax_operations, "torch": torch_operations}[keras.backend.backend()]
    found = []
    seconds_by_name = operations(lambda: found.append(train()))
    return {"seconds": found[0][0], "operations": seconds_by_name}


def versions():
    """Of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def main():
    # Whatever a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    given = json.loads(sys.argv[1])
    images, labels = toy_images(given["steps"] * given["batch_size"], given["image_size"])
    build = build_torch if given["model"] in ("efficientnet-pytorch", "timm") else build_keras
    train, predict, trainable, sizes = build(given, images, labels)
    tasks = {"train": train, "predict": predict}
    compiling = {}
    for task, run in tasks.items():
        # The first run compiles; what the last one takes is the running.
        *warm, last = [run()[0] for _ in range(1 + WARMUP_RUNS)]
        compiling[task] = round(sum(warm) - len(warm) * last, 2)
    ready = {
        "trainable": trainable,
        "feature_map_sizes": sizes,
        "compile_seconds": compiling,
        "device": records.environment()["device"],
        "backend": os.environ["KERAS_BACKEND"],
        "versions": versions(),
    }
    print(json.dumps(ready), file=answers)
    for line in sys.stdin:
        task = json.loads(line)["task"]
        if task == "profile":
            answer = profile(train)
        else:
            answer = dict(zip(("seconds", "waited"), tasks[task](), strict=True))
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
