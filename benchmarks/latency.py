"""Milliseconds that one image takes, by runtime: EfficientNet-B0 at 224 pixels on the CPU.

    python -m benchmarks.latency         # about 3 minutes on 2 cores; writes records/benchmarks/latency_cpu.json
    python -m benchmarks.latency --tiny  # few calls with a small image; writes runs/tiny/latency_cpu.json

Ours with random weights, BatchNorm folded (effnet_utils.deploy) and exported to ONNX and LiteRT, against Keras's own
ways to call it and against the ONNX export of efficientnet-pytorch 0.7.1 (made in .venv-backends, by ``make
.venv-backends/.stamp``): the same runtime, threads, image size and number of classes. "not folded" shows what folding
is worth where the runtime folds by itself, "no reshapes" what Keras's export leaves behind. In a round each is called
ten times in a row; the order is reversed from one round to the next, and ratios are formed within a round. Needs the
extra "deploy".
"""

import os
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from benchmarks._common import BACKENDS_PYTHON, argument_parser, in_turn, seconds_of, spread, write_benchmark
from effnet_utils import efficientnet
from effnet_utils.deploy import fold_batch_norm
from effnet_utils.experiments import records

THREADS = os.cpu_count()
THEIRS = "efficientnet-pytorch, ONNX"
# The package's own swish cannot be exported. efficientnet-pytorch fixes the padding for one image size.
EXPORT = """
import sys, torch
from efficientnet_pytorch import EfficientNet
path, size = sys.argv[1], int(sys.argv[2])
net = EfficientNet.from_name("efficientnet-b0", image_size=size)
net.set_swish(memory_efficient=False)
assert sum(weight.numel() for weight in net.parameters()) == 5_288_548
torch.onnx.export(net.eval(), torch.zeros(1, 3, size, size), path, dynamo=False)
"""


def load_onnx(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options)
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


def load_litert(path):
    interpreter = Interpreter(str(path), num_threads=THREADS)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    end = interpreter.get_output_details()[0]["index"]

    def answer(image):
        interpreter.set_tensor(entry, image)
        interpreter.invoke()
        return interpreter.get_tensor(end)

    return answer


def load_theirs(folder, size):
    """As the functions of ``runtimes``, from efficientnet-pytorch's ONNX export."""
    path = folder / "theirs.onnx"
    subprocess.run([BACKENDS_PYTHON, "-c", EXPORT, path, str(size)], check=True, capture_output=True)
    theirs = load_onnx(path)
    return lambda image: theirs(image.reshape(1, 3, size, size))


def drop_reshapes(path, target):
    """Write a network without the Reshapes of its SE blocks.

    They give (n, channels, 1, 1) the shape that it has already, where Keras had the channels last, but the runtime
    changes the memory layout of the feature maps for each of them.
    """
    network = onnx.load(path)
    graph = network.graph
    shapes = {each.name: onnx.numpy_helper.to_array(each).tolist() for each in graph.initializer}
    instead = {}
    kept = []
    for node in graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = instead.get(name, name)
        if node.op_type == "Reshape" and shapes[node.input[1]][2:] == [1, 1]:
            instead[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input}
    weights = [each for each in graph.initializer if each.name in used]
    for field, values in ((graph.node, kept), (graph.initializer, weights)):
        del field[:]
        field.extend(values)
    onnx.checker.check_model(network)
    onnx.save(network, target)


def runtimes(model, folder, image):
    """{name: function from one image (1, size, size, 3), pixels 0..255, to its output}."""
    size = image.shape[1]
    folded = fold_batch_norm(model)
    for network in (model, folded):
        network.predict_on_batch(image)  # Keras exports only what was called
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converters' own, about NumPy's names
        folded.export(folder / "ours.onnx", format="onnx", verbose=False)
        folded.export(folder / "ours.tflite", format="litert", verbose=False)
        model.export(folder / "plain.onnx", format="onnx", verbose=False)
    drop_reshapes(folder / "ours.onnx", folder / "short.onnx")
    compiled = tf.function(model, input_signature=[tf.TensorSpec((1, size, size, 3), tf.float32)])
    return {
        "model.predict": lambda image: model.predict(image, verbose=0),
        "tf.function": lambda image: compiled(tf.constant(image)).numpy(),
        "ONNX": load_onnx(folder / "ours.onnx"),
        "ONNX, no reshapes": load_onnx(folder / "short.onnx"),
        "ONNX, not folded": load_onnx(folder / "plain.onnx"),
        "LiteRT": load_litert(folder / "ours.tflite"),
        THEIRS: load_theirs(folder, size),
    }


def differences(calls, image):
    """Largest difference from ``model.predict``, as a fraction of its largest output, of the others that are ours."""
    expected = calls["model.predict"](image)
    largest = np.abs(expected).max()
    found = {}
    for name, call in calls.items():
        if name not in ("model.predict", THEIRS):
            found[name] = float(np.abs(call(image) - expected).max() / largest)
    return found


def measure(calls, image, rounds):
    """Milliseconds (rounds,) of each, in turn: the median of ten calls one after the other, after one to warm up."""
    spent = {name: [] for name in calls}
    for number in range(rounds):
        for name in in_turn(calls, number):
            time.sleep(0.1)  # until the threads of the previous runtime no longer busily wait for work
            calls[name](image)
            ten = [seconds_of(calls[name], image) for _ in range(10)]
            spent[name].append(1000 * np.median(ten))
    return {name: np.array(values) for name, values in spent.items()}


def main(arguments=None):
    given = argument_parser("latency", __doc__).parse_args(arguments)
    size = 64 if given.tiny else 224
    rounds = 3 if given.tiny else 40
    keras.utils.set_random_seed(0)
    # Logits: random weights make them so large that a softmax would hide any difference.
    model = efficientnet("b0", input_shape=(size, size, 3), classifier_activation=None)
    image = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        calls = runtimes(model, Path(folder), image)
        found = differences(calls, image)
        spent = measure(calls, image, rounds)
    record = {
        "what": f"milliseconds for one image, B0 at {size} pixels: python -m benchmarks.latency",
        "rounds": rounds,
        "threads": THREADS,
        "largest_difference_of_largest_logit": found,
        "milliseconds": {name: spread(values) for name, values in spent.items()},
        "ratio_to_onnx": {name: spread(values / spent["ONNX"]) for name, values in spent.items()},
        "environment": records.environment() | {"onnxruntime": onnxruntime.__version__},
    }
    write_benchmark(given, "latency_cpu", record)


if __name__ == "__main__":
    main()
