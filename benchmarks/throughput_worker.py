"""One implementation of EfficientNet-B0, kept ready: throughput.py starts this file and asks it to train or to predict.

The first argument is a JSON object (``throughput.py`` makes it). The first line written says what was built; then each
line read, such as {"task": "train"}, is answered by one line. All lines are JSON.
"""

import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from effnet_utils import efficientnet, load_toy, records, train

CLASSES, WARMUP_RUNS, PROFILED_KERNELS = 10, 2, 15
PACKAGES = ("keras", "tensorflow", "jax", "torch", "efficientnet-pytorch", "timm")


def load(given):
    """uint8 images (steps * batch_size, size, size, 3) and their labels; the toy set again and again."""
    (images, labels), _ = load_toy()
    chosen = np.arange(given["steps"] * given["batch_size"]) % len(images)
    return images[chosen], labels[chosen]


# --- Keras: ours and keras.applications -----------------------------------------------------------------------------


def build_keras(given, images, labels):
    keras.config.set_dtype_policy(given["precision"])
    size = {"input_shape": images.shape[1:], "classes": CLASSES, "classifier_activation": None}
    if given["model"] == "keras.applications":
        net = keras.applications.EfficientNetB0(weights=None, **size)
    else:
        net = efficientnet("b0", layout=given["layout"], **size)
    if given["input"] == "device":
        model, loss = train.Learner(net, images), keras.losses.CategoricalCrossentropy(from_logits=True)
        model.accelerated = model.accelerated if given["accelerated"] else net
        data, options = (train.Batches(labels, given["batch_size"], CLASSES, train.Recipe()),), {}
    else:
        model, loss = net, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        data, options = (images, labels), {"batch_size": given["batch_size"]}
    model.compile(keras.optimizers.AdamW(1e-3), loss, metrics=["accuracy"])
    model.jit_compile = net.jit_compile = given["compiled"]

    def fit():
        model.fit(*data, epochs=1, verbose=0, **options)
        _wait_for(net)

    # On a GPU the images to predict are those in its memory; on a CPU they are an array for everybody.
    on_device = given["on"] == "gpu"
    plan = np.pad(np.arange(len(images), dtype=np.int32)[:, None], ((0, 0), (0, 3)))
    predictor, pixels = (model, plan) if on_device else (net, images)

    def predict():
        return predictor.predict(pixels, batch_size=given["batch_size"], verbose=0)

    stages = [f"block{k}" for k in range(1, 8)]
    ends = ["stem_bn", *(_last(net, stage) for stage in stages)]
    maps = [net.get_layer(end).output.shape[1] for end in ends]
    return fit, predict, sum(int(np.prod(w.shape)) for w in net.trainable_weights), maps


def _last(net, stage):
    return [layer.name for layer in net.layers if layer.name.startswith(stage) and "project_bn" in layer.name][-1]


def _wait_for(net):
    """JAX and CUDA return before the work is done."""
    if keras.backend.backend() == "jax":
        import jax

        jax.block_until_ready([weight.value for weight in net.weights])
    elif keras.backend.backend() == "torch":
        _wait_for_cuda()


def _wait_for_cuda():
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


# --- PyTorch: efficientnet-pytorch and timm ---------------------------------------------------------------------------


def efficientnet_pytorch(strides, size):
    """The network and the modules at whose ends the maps are compared: the stem and the seven stages."""
    from efficientnet_pytorch import EfficientNet
    from efficientnet_pytorch.utils import get_model_params, get_same_padding_conv2d

    stem, *stages = strides
    # Its padding is fixed when it is built, for a stem that halves the image: for another stem, as if the image were
    # larger, and the stem is then replaced.
    blocks, options = get_model_params(
        "efficientnet-b0", {"image_size": size * 2 // stem, "num_classes": CLASSES, "drop_connect_rate": 0.2}
    )
    blocks = [block._replace(stride=stride) for block, stride in zip(blocks, stages, strict=True)]
    net = EfficientNet(blocks, options)
    if stem != 2:
        net._conv_stem = get_same_padding_conv2d(size)(3, 32, kernel_size=3, stride=stem, bias=False)
    # The operator of PyTorch; the default trades time for memory.
    net.set_swish(memory_efficient=False)
    ends = np.cumsum([block.num_repeat for block in blocks]) - 1
    return net, [net._conv_stem, *(net._blocks[end] for end in ends)]


def timm_b0(strides, size):
    """As ``efficientnet_pytorch``. Its padding is the same on all sides, whatever the size."""
    import timm

    net = timm.create_model("efficientnet_b0", num_classes=CLASSES, drop_rate=0.2, drop_path_rate=0.2)
    first = [net.conv_stem, *(stage[0].conv_dw for stage in net.blocks)]
    for convolution, stride in zip(first, strides, strict=True):
        convolution.stride = (stride, stride)
    return net, [net.conv_stem, *net.blocks]


def build_torch(given, images, labels):
    import torch
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(os.cpu_count())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    make = {"efficientnet-pytorch": efficientnet_pytorch, "timm": timm_b0}[given["model"]]
    net, ends = make(given["strides"], given["size"])
    layout = torch.channels_last if given["channels_last"] else torch.contiguous_format
    net.to(device, memory_format=layout)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.004, fused=True)
    targets = torch.from_numpy(labels).long().to(device)
    pixels = torch.from_numpy(images).to(device)
    if given["on"] == "cpu":
        pixels = _normalised(pixels).contiguous(memory_format=layout)
    half = given["precision"] == "mixed_bfloat16"

    def scores(batch):
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            return net(_normalised(batch) if given["on"] == "gpu" else batch)

    maps = _maps(net, ends, _normalised(torch.from_numpy(images[:2]).to(device)))
    scores = torch.compile(scores) if given["compiled"] else scores
    starts = range(0, len(images), given["batch_size"])

    def fit():
        net.train()
        # On the GPU a new order for each epoch, gathered there; on the CPU in order, which costs nothing.
        order = torch.randperm(len(pixels), device=device) if given["on"] == "gpu" else None
        for start in starts:
            chosen = slice(start, start + given["batch_size"])
            chosen = chosen if order is None else order[chosen]
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(scores(pixels[chosen]).float(), targets[chosen]).backward()
            optimizer.step()
        _wait_for_cuda()

    def predict():
        net.eval()
        with torch.inference_mode():
            parts = [scores(pixels[start : start + given["batch_size"]]).float() for start in starts]
            return torch.cat(parts).cpu().numpy()

    return fit, predict, sum(w.numel() for w in net.parameters() if w.requires_grad), maps


def _normalised(pixels):
    """uint8 (n, height, width, 3) to float32 (n, 3, height, width), which keeps the channels last in memory."""
    import torch

    mean = torch.tensor([0.485, 0.456, 0.406], device=pixels.device) * 255
    deviation = torch.tensor([0.229, 0.224, 0.225], device=pixels.device) * 255
    return ((pixels.float() - mean) / deviation).permute(0, 3, 1, 2)


def _maps(net, ends, images):
    import torch

    sides = []
    hooks = [end.register_forward_hook(lambda *found: sides.append(found[-1].shape[-1])) for end in ends]
    net.eval()
    with torch.inference_mode():
        net(images)
    for hook in hooks:
        hook.remove()
    return sides


# --- What took the time -----------------------------------------------------------------------------------------------


def profile(run):
    """The kernels that took most of the time of one run: [{"name", "milliseconds", "calls"}, ...]."""
    kernels = (_jax_kernels if os.environ["KERAS_BACKEND"] == "jax" else _torch_kernels)(run)
    total = sum(milliseconds for milliseconds, _ in kernels.values())
    top = sorted(kernels.items(), key=lambda item: -item[1][0])[:PROFILED_KERNELS]
    rows = [{"name": name[:100], "milliseconds": round(ms, 3), "calls": calls} for name, (ms, calls) in top]
    return {"milliseconds": round(total, 3), "kernels": len(kernels), "top": rows}


def _torch_kernels(run):
    import torch
    from torch.profiler import ProfilerActivity

    activity = ProfilerActivity.CUDA if torch.cuda.is_available() else ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity]) as found:
        run()
    time_of = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    return {event.key: (getattr(event, time_of) / 1e3, event.count) for event in found.key_averages()}


def _jax_kernels(run):
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (file,) = Path(folder).rglob("*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    device = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    kernels = {}
    # On a CPU the operations are among the host's events; they have no plane of their own.
    for plane in device or [plane for plane in planes if plane.name == "/host:CPU"]:
        for line in plane.lines:
            # The lines of a GPU that are not streams repeat the same time by module and by operation.
            if device and "Stream" not in line.name:
                continue
            for event in line.events:
                milliseconds, calls = kernels.get(event.name, (0, 0))
                kernels[event.name] = milliseconds + event.duration_ns / 1e6, calls + 1
    return kernels


# --- The conversation -------------------------------------------------------------------------------------------------


def versions():
    """Of the packages that are here, and of Python."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main():
    # Whatever a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    given = json.loads(sys.argv[1])
    images, labels = load(given)
    build = build_torch if given["model"] in ("efficientnet-pytorch", "timm") else build_keras
    fit, predict, trainable, maps = build(given, images, labels)
    tasks, compiling = {"train": fit, "predict": predict}, {}
    for task, run in tasks.items():
        # The first run compiles; what the last one takes is the running.
        *warm, last = (timed(run) for _ in range(1 + WARMUP_RUNS))
        compiling[task] = round(sum(warm) - len(warm) * last, 2)
    shape = list(predict().shape)
    ready = {"trainable": trainable, "maps": maps, "output": shape, "compile_seconds": compiling}
    ready |= {"device": records.device_name(), "backend": os.environ["KERAS_BACKEND"], "versions": versions()}
    print(json.dumps(ready), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        run = tasks[request["task"]]
        answer = profile(run) if request.get("profile") else {"seconds": timed(run)}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
