"""Two devices take the steps of one; what cannot be spread is refused. On TensorFlow and on JAX, with virtual CPUs."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from effnet_utils.training._distribution import PROCESSES, distribution_scope, init_distributed
from effnet_utils.training.checkpoints import _read_checked

BACKEND = keras.backend.backend()
WORKER = Path(__file__).with_name("devices_worker.py")
XLA_FLAGS = os.environ.get("XLA_FLAGS", "")  # those of `make test-backends`
spreads = pytest.mark.skipif(BACKEND == "torch", reason="PyTorch takes one device")


def start(folder, variables=(), **given):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(WORKER), json.dumps({"folder": str(folder), **given})]
    environment = os.environ | {"XLA_FLAGS": f"{XLA_FLAGS} --xla_force_host_platform_device_count=2"} | dict(variables)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def results(*workers):
    found = []
    for worker in workers:
        out, errors = worker.communicate()
        assert worker.returncode == 0, errors[-3000:]
        found.append(json.loads(out.splitlines()[-1]))
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("devices")


@pytest.fixture(scope="module")
def one_and_two(place):
    # On TensorFlow, BatchNormalization's statistics are those of a share of the batch: here it uses its averages.
    frozen = BACKEND == "tensorflow"
    return results(*(start(place / f"on{devices}", devices=devices, frozen=frozen) for devices in (1, 2)))


@pytest.mark.slow
@spreads
def test_two_devices_take_the_steps_of_one(one_and_two, capsys):
    one, two = (np.array(run["losses"]) for run in one_and_two)
    assert len(two) == len(one) == 50 and one[-10:].mean() < one[0] - 0.1
    with capsys.disabled():
        print(f"\n{BACKEND}: two devices and one differ by at most {np.abs(two - one).max():.1e} in {len(one)} steps")
    np.testing.assert_allclose(two, one, atol=1e-4, rtol=0)


@pytest.mark.slow
@spreads
def test_what_two_devices_trained_loads_on_one(one_and_two):
    assert [run["saved"] for run in one_and_two] == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.slow
@spreads
def test_two_devices_resume_from_a_checkpoint(one_and_two, place):
    folder = shutil.copytree(place / "on2", place / "again")
    newest = folder / "checkpoint-0010"
    expected = _read_checked(newest.read_bytes())
    newest.unlink()
    results(start(folder, devices=2, frozen=BACKEND == "tensorflow", resume=True))
    found = _read_checked(newest.read_bytes())
    for ours, theirs in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    losses = [[row["loss"] for row in about["per_epoch"]] for about, _ in (found, expected)]
    assert len(losses[0]) == 10 and losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="JAX takes the statistics of the whole batch")
def test_statistics_of_parts_change_the_loss_less_than_two_deviations_of_seeds(place, capsys):
    runs = [start(place / f"seed{seed}", seed=seed) for seed in (0, 1, 2)] + [start(place / "parts", devices=2)]
    *seeds, parts = (np.mean(run["losses"][-10:]) for run in results(*runs))
    with capsys.disabled():
        print(f"\nmean loss of the last ten steps: {parts:.4f} on two devices, on one {np.round(seeds, 4)}")
    assert 0 < abs(parts - np.mean(seeds)) < 2 * np.std(seeds, ddof=1)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "jax", reason="JAX alone trains on several hosts")
def test_two_processes_take_the_steps_of_one(one_and_two, place):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address, PROCESSES: "2", "XLA_FLAGS": XLA_FLAGS}
    workers = [
        start(place / f"process{k}", together | {"KERAS_DISTRIBUTION_PROCESS_ID": str(k)}, devices=2) for k in range(2)
    ]
    for run in results(*workers):
        np.testing.assert_allclose(run["losses"], one_and_two[0]["losses"], atol=1e-4, rtol=0)
        assert run["rows"] == one_and_two[0]["rows"] / 2 and run["saved"] < 1e-6


def test_what_cannot_be_spread_is_refused_in_one_line(monkeypatch):
    found = "the one that PyTorch takes here" if BACKEND == "torch" else "(/device:CPU:0|cpu:0)"
    with pytest.raises(ValueError, match=rf"devices is 99; allowed: at most 1; found: {found}$") as caught:
        distribution_scope(99)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv(PROCESSES, "2")
    if BACKEND == "jax":
        monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0", "cpu:1"])
        with pytest.raises(ValueError, match="devices is 1; allowed: 2; found: cpu:0, cpu:1"):
            distribution_scope(1)
    else:
        with pytest.raises(ValueError, match=f"{PROCESSES} is set, and only JAX trains on several hosts"):
            init_distributed()
