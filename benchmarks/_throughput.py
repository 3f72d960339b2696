"""The implementations of B0 that throughput and gpu_profile measure, each in a process of its own."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from benchmarks._common import BACKENDS_PYTHON, ROOT
from effnet_utils.experiments import records

OURS = {"model": "ours", "input": "device", "accelerated": True}
TORCH = {"model": "efficientnet-pytorch", "python": str(BACKENDS_PYTHON), "backend": "torch", "channels_last": False}
# What differs from DEFAULTS. "steps": optimizer steps in a run, few for the slow ones.
CPU = {
    "ours": OURS,
    "ours, arrays": {**OURS, "input": "arrays"},
    "ours, plain operations": {**OURS, "accelerated": False},
    "ours, XLA": {**OURS, "compiled": True, "steps": 2},
    "keras.applications": {"model": "keras.applications", "input": "arrays"},
    "PyTorch eager": {**TORCH, "steps": 2},
    "PyTorch eager, channels last": {**TORCH, "channels_last": True, "steps": 2},
    "PyTorch compiled": {**TORCH, "compiled": True},
    "PyTorch compiled, channels last": {**TORCH, "channels_last": True, "compiled": True},
}
GPU = {
    "ours, JAX": {**OURS, "backend": "jax", "compiled": True},
    "ours, PyTorch": {**OURS, "backend": "torch", "compiled": True},
    "timm": {"model": "timm", "backend": "torch", "compiled": True, "channels_last": True},
}
IMPLEMENTATIONS = {"cpu": CPU, "gpu": GPU}
DEFAULTS = {
    ("cpu", 32): {"layout": "imagenet", "precision": "float32", "steps": 8, "batch_size": 128},
    ("gpu", 32): {"layout": "cifar", "precision": "mixed_bfloat16", "steps": 96, "batch_size": 512},
    ("gpu", 224): {"layout": "imagenet", "precision": "mixed_bfloat16", "steps": 24, "batch_size": 128},
}
TINY = {"steps": 1, "batch_size": 8}


class Worker:
    """The process of one implementation: it says what it built, then answers one request after the other."""

    def __init__(self, name, options):
        self.name = name
        self.options = options
        environment = {
            **os.environ,
            "KERAS_BACKEND": options["backend"],
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # Several processes share the GPU's memory; JAX would take three quarters of it.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        command = [options["python"], "-m", "benchmarks._throughput_worker", json.dumps(options)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, bufsize=0)

    def read(self):
        """The worker's next answer. Raises RuntimeError when it has stopped."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} stopped with exit code {self.process.wait()}; its output is above")
        return json.loads(line)

    def ask(self, task):
        """The worker's answer, a dict, to one of its tasks. Raises RuntimeError when it has stopped."""
        with suppress(BrokenPipeError):  # it stopped; reading says so
            self.process.stdin.write(json.dumps({"task": task}).encode() + b"\n")
        return self.read()

    def run(self, task):
        """(images per second in the steps of one run, seconds that its call went on after the last step)."""
        answer = self.ask(task)
        return self.options["steps"] * self.options["batch_size"] / answer["seconds"], answer["waited"]

    def stop(self):
        self.process.kill()
        self.process.wait()


def worker_options(on, size, tiny):
    """{name: everything that a worker is told}, in the order of a round."""
    shared = {"python": sys.executable, "on": on, "backend": "tensorflow", "compiled": False, "image_size": size}
    shared |= DEFAULTS[on, size]
    options = {}
    for name, own in IMPLEMENTATIONS[on].items():
        options[name] = {**shared, **own}
        if tiny:
            options[name].update(TINY)
    return options


def check_machine(on, tiny, options):
    """Exit with a message when this machine lacks what will be measured."""
    # Asking JAX for its devices must not take the memory that the workers need.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    device = records.environment()["device"]
    if on == "gpu" and not tiny and device.startswith("CPU"):
        sys.exit(f"--on gpu needs a GPU; Keras's backend sees {device}. On a CPU: --on cpu, or --on gpu --tiny")
    missing = {row["python"] for row in options.values() if not Path(row["python"]).is_file()}
    if missing:
        sys.exit(f"{', '.join(sorted(missing))} is missing; make it: make .venv-backends/.stamp")
