"""The benchmarks of cost, latency, sweeps and the cold start, at sizes that take seconds."""

import json
import os

import pytest

from benchmarks import _common, cold_start, cost, latency, sweep
from tests.tiny import third

pytestmark = pytest.mark.slow  # each test measures


def in_order(spread):
    return list(spread.values()) == sorted(spread.values())


def test_measurements_are_made_in_turn_summed_up_and_written(tmp_path, capsys):
    assert [_common.in_turn({"a": 1, "b": 2}, number) for number in (0, 1)] == [["a", "b"], ["b", "a"]]
    found = _common.spread([4.00004, 1, 2, 3, 5])
    assert found == {"min": 1, "quartile_1": 2, "median": 3, "quartile_3": 4, "max": 5}
    given = _common.argument_parser("cost", "").parse_args(["-o", str(tmp_path / "new")])
    _common.write_benchmark(given, "cost", {"seconds": {"train": found}})
    assert json.loads((tmp_path / "new" / "cost.json").read_text())["seconds"]["train"] == found
    assert "seconds, train" in capsys.readouterr().out


def test_cost_at_a_tiny_size(tmp_path):
    cost.main(["--tiny", "--output-dir", str(tmp_path)])
    record = json.loads((tmp_path / "cost.json").read_text())
    assert record["peak"]["operations_per_second"]["min"] > 1e8
    few, many = record["series"]["images"]
    assert many["macs"] == 4 * few["macs"] > 0
    for row in (few, many, *record["series"]["variant"]):
        # A training step does what inference does, and twice as much again.
        assert row["seconds"]["train"]["median"] > row["seconds"]["inference"]["median"] > 0
        for fraction in row["fraction_of_peak"].values():
            assert in_order(fraction) and 0 < fraction["min"] and fraction["max"] < 1.2


def test_latency_at_a_tiny_size(tmp_path, monkeypatch):
    # What it is compared with needs PyTorch; here ours again, from the same file.
    monkeypatch.setattr(latency, "load_theirs", lambda folder, size: latency.load_onnx(folder / "ours.onnx"))
    monkeypatch.setattr(latency, "efficientnet", third)
    latency.main(["--tiny", "--output-dir", str(tmp_path)])
    record = json.loads((tmp_path / "latency_cpu.json").read_text())
    differences = record["largest_difference_of_largest_logit"]
    assert set(differences) == {"tf.function", "ONNX", "ONNX, no reshapes", "ONNX, not folded", "LiteRT"}
    assert max(differences.values()) < 1e-4
    assert all(in_order(row) and row["min"] > 0 for row in record["milliseconds"].values())


def few_cores():
    return not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2


@pytest.mark.skipif(few_cores(), reason="needs Linux and two cores")
def test_a_sweep_is_timed(tmp_path):
    parameters = {"dataset": "toy", "layout": "cifar-fast", "epochs": 1, "max_train_samples": 128}
    (tmp_path / "grid.yaml").write_text(json.dumps({"parameters": parameters, "seeds": [0]}))
    found = sweep.sweep(tmp_path / "grid.yaml", tmp_path / "runs", os.sched_getaffinity(0), 1)
    assert set(found) == {"runs_an_hour", "start", "overhead"} and min(found.values()) > 0


@pytest.mark.skipif(few_cores(), reason="needs Linux and two cores")
def test_the_record_compares_one_worker_with_two(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "sweep", lambda *given: {"runs_an_hour": 50 * given[-1], "start": 8, "overhead": 4})
    sweep.main(["--tiny", "--output-dir", str(tmp_path)])
    record = json.loads((tmp_path / "sweep_cpu.json").read_text())
    assert record["two_workers_to_one"]["median"] == 2 and record["two_matrix_products_to_one"]["min"] > 0


def test_imports_are_timed_in_fresh_interpreters(monkeypatch):
    # The statements that bring Keras in take seconds each.
    monkeypatch.setattr(cold_start, "STATEMENTS", ("pass", "import numpy", "import effnet_utils"))
    found = {statement: row["beyond_python"] for statement, row in cold_start.imports(3).items()}
    assert found["pass"]["max"] == 0 and found["import numpy"]["median"] > 0
    # It imports Keras when it is first needed, not before.
    assert found["import effnet_utils"]["median"] < found["import numpy"]["median"]
