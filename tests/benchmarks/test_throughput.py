"""The benchmark of throughput: what it compares, what it refuses, and one implementation at a size of seconds."""

import json

import pytest

from benchmarks import _throughput, throughput


@pytest.mark.slow
@pytest.mark.parametrize(
    ("on", "sizes"), [("cpu", [16, 16, 8, 4, 2, 2, 1, 1]), ("gpu", [32, 32, 16, 8, 4, 4, 2, 2])], ids=["cpu", "gpu"]
)
def test_one_implementation_at_a_tiny_size(on, sizes, tmp_path, monkeypatch):
    """What a GPU would measure runs here, too: on TensorFlow, and on this machine's CPU."""
    monkeypatch.setitem(throughput.IMPLEMENTATIONS, on, {"ours": _throughput.OURS})
    monkeypatch.setitem(throughput.PAIRS, on, [("ours", "ours")])
    throughput.main(["--tiny", "--on", on, "--output-dir", str(tmp_path)])
    (path,) = tmp_path.glob(f"throughput_{on}*.json")
    record = json.loads(path.read_text())
    assert record["rounds"] == 2 and record["what"].startswith("tiny, no measurement")
    ours = record["implementations"]["ours"]
    assert ours["trainable"] == 4_020_358 and ours["feature_map_sizes"] == sizes
    for task in throughput.TASKS:
        assert record["images_per_second"][task]["ours"]["min"] > 0
        assert 0 < record["seconds_after_last_step"][task]["ours"]["max"] < 60


def test_ratios_are_formed_within_the_rounds():
    found = throughput.ratios({"a": [10, 30, 80], "b": [10, 20, 20]}, [("a", "b")])
    assert found["a / b"]["min"] == 1 and found["a / b"]["median"] == 1.5 and found["a / b"]["max"] == 4


def test_a_record_is_named_after_the_processors_maker():
    assert throughput.record_name("cpu", 32, "CPU: AMD EPYC") == "throughput_cpu_amd"
    assert throughput.record_name("cpu", 32, "CPU: Intel(R) Xeon(R) Processor") == "throughput_cpu_intel"
    assert throughput.record_name("cpu", 32, "CPU: ") == "throughput_cpu"
    assert throughput.record_name("gpu", 32, "NVIDIA H100") == "throughput_gpu"
    assert throughput.record_name("gpu", 224, "NVIDIA H100") == "throughput_gpu_224"


@pytest.mark.parametrize("key", ("trainable", "feature_map_sizes"))
def test_different_networks_are_not_compared(key):
    same = {"trainable": 1, "feature_map_sizes": [2, 1]}
    throughput.check_equal({"a": same, "b": {**same}})
    with pytest.raises(ValueError, match=f"differ in {key}"):
        throughput.check_equal({"a": same, "b": {**same, key: 7}})


def test_without_a_gpu_nothing_is_measured_for_one(monkeypatch):
    monkeypatch.setattr(throughput.records, "environment", lambda: {"device": "CPU: some"})
    with pytest.raises(SystemExit, match="needs a GPU"):
        throughput.check_machine("gpu", False, {})


def test_an_absent_python_is_named(tmp_path):
    with pytest.raises(SystemExit, match="nowhere is missing.*make .venv-backends"):
        throughput.check_machine("cpu", False, {"x": {"python": str(tmp_path / "nowhere")}})


@pytest.mark.parametrize("arguments", (["--rounds", "0"], ["--on", "tpu"], ["--image-size", "224"]))
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        throughput.main(arguments)
    assert arguments[1] in capsys.readouterr().err
