"""Milliseconds that one image takes, by way of calling: EfficientNet-B0 at 224 pixels on the CPU.

    python benchmarks/latency.py         # about 3 minutes on 2 cores; writes records/benchmarks/latency_cpu.json
    python benchmarks/latency.py --tiny  # few calls of a small image; writes runs/latency_tiny.json

Ours with random weights, BatchNorm folded (effnet_utils.deploy) and exported to ONNX and LiteRT, against Keras's own
ways of calling it and against the ONNX export of efficientnet-pytorch 0.7.1 (made in .venv-backends, by ``make
.venv-backends/.stamp``): the same runtime, threads, size of image and number of classes. "not folded" shows what
folding is worth where the runtime folds by itself, "no reshapes" what Keras's export leaves behind. In a round each is
called ten times in a row; the order is turned round from one to the next, and ratios are formed inside a round. Needs
the extra "deploy".
"""

import argparse
import json
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
from throughput import BACKENDS_PYTHON, ROOT, spread

from effnet_utils import efficientnet, records
from effnet_utils.deploy import fold_batch_norm

PARAMETERS = 5_288_548
THREADS = os.cpu_count()
THEIRS = "efficientnet-pytorch, ONNX"
# The package's own swish cannot be exported. efficientnet-pytorch fixes the padding for one size of image.
EXPORT = """
import sys, torch
from efficientnet_pytorch import EfficientNet
path, side = sys.argv[1], int(sys.argv[2])
net = EfficientNet.from_name("efficientnet-b0", image_size=side)
net.set_swish(memory_efficient=False)
assert sum(weight.numel() for weight in net.parameters()) == int(sys.argv[3])
torch.onnx.export(net.eval(), torch.zeros(1, 3, side, side), path, dynamo=False)
"""


def by_onnx(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options)
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


def drop_reshapes(path, target):
    """Write the network without the gates' Reshapes: they give (n, channels, 1, 1) the shape it has, where Keras had
    the channels last, but the runtime lays the maps out anew for each of them."""
    network = onnx.load(path)
    graph, instead, kept = network.graph, {}, []
    shapes = {each.name: onnx.numpy_helper.to_array(each).tolist() for each in graph.initializer}
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


def by_litert(path):
    interpreter = Interpreter(str(path), num_threads=THREADS)
    interpreter.allocate_tensors()
    entry, end = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def answer(image):
        interpreter.set_tensor(entry, image)
        interpreter.invoke()
        return interpreter.get_tensor(end)

    return answer


def ways(model, folder, image):
    """Functions from one image (1, side, side, 3), pixels 0..255, to its output, by name."""
    folded, side = fold_batch_norm(model), image.shape[1]
    for net in (model, folded):
        net.predict_on_batch(image)  # Keras exports only what was called
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converters' own, about NumPy's names
        folded.export(folder / "ours.onnx", format="onnx", verbose=False)
        folded.export(folder / "ours.tflite", format="litert", verbose=False)
        model.export(folder / "plain.onnx", format="onnx", verbose=False)
    drop_reshapes(folder / "ours.onnx", folder / "short.onnx")
    arguments = [BACKENDS_PYTHON, "-c", EXPORT, folder / "theirs.onnx", str(side), str(PARAMETERS)]
    subprocess.run(arguments, check=True, capture_output=True)
    compiled = tf.function(model, input_signature=[tf.TensorSpec((1, side, side, 3), tf.float32)])
    theirs = by_onnx(folder / "theirs.onnx")
    return {
        "model.predict": lambda image: model.predict(image, verbose=0),
        "tf.function": lambda image: compiled(tf.constant(image)).numpy(),
        "ONNX": by_onnx(folder / "ours.onnx"),
        "ONNX, no reshapes": by_onnx(folder / "short.onnx"),
        "ONNX, not folded": by_onnx(folder / "plain.onnx"),
        "LiteRT": by_litert(folder / "ours.tflite"),
        THEIRS: lambda image: theirs(image.reshape(1, 3, side, side)),
    }


def measure(calls, image, rounds):
    """Milliseconds (rounds,) of each, in turn: the median of ten calls one after the other, after one to warm up."""
    spent = {name: [] for name in calls}
    for k in range(rounds):
        for name in list(calls)[:: 1 if k % 2 else -1]:
            time.sleep(0.1)  # until the threads of the one before no longer wait for work, busily
            calls[name](image)
            ten = []
            for _ in range(10):
                start = time.perf_counter()
                calls[name](image)
                ten.append(1000 * (time.perf_counter() - start))
            spent[name].append(np.median(ten))
    return {name: np.array(values) for name, values in spent.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    tiny = parser.parse_args().tiny
    side, rounds = (64, 3) if tiny else (224, 40)
    keras.utils.set_random_seed(0)
    # Logits: random weights make them so large that a softmax would hide any difference.
    model = efficientnet("b0", input_shape=(side, side, 3), classifier_activation=None)
    image = np.random.default_rng(0).uniform(0, 255, (1, side, side, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        calls = ways(model, Path(folder), image)
        expected = calls["model.predict"](image)
        largest = np.abs(expected).max()
        differences = {name: float(np.abs(calls[name](image) - expected).max() / largest) for name in list(calls)[1:-1]}
        spent = measure(calls, image, rounds)
    record = {
        "what": f"milliseconds for one image, B0 at {side} pixels: python benchmarks/latency.py",
        "rounds": rounds,
        "threads": THREADS,
        "largest_difference_of_largest_logit": differences,
        "milliseconds": {name: spread(values) for name, values in spent.items()},
        "ratio_to_onnx": {name: spread(values / spent["ONNX"]) for name, values in spent.items()},
        "ratio_of_theirs": {name: spread(spent[THEIRS] / values) for name, values in spent.items()},
        "environment": records.environment() | {"onnxruntime": onnxruntime.__version__},
    }
    for name in calls:
        ms, ratio = record["milliseconds"][name], record["ratio_to_onnx"][name]
        print(f"{name:28} {ms['median']:7.2f} ms   ONNX is {ratio['median']:5.2f} times as fast")
    path = ROOT / ("runs/latency_tiny.json" if tiny else "records/benchmarks/latency_cpu.json")
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
