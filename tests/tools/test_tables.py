"""The README's numbers are those of the records; tools/lint.py checks its links and its table of notebooks."""

import pytest

from tools import tables

README = tables.README.read_text(encoding="utf-8")


def test_the_readme_is_what_the_records_say():
    named = {name for _, name, _ in tables.BLOCK.findall(README)}
    assert named == {*tables.README_ONLY, "start"}
    assert tables.filled(README) == README, "README.md and records/ disagree; `make tables` fixes it"


def test_a_mark_that_names_no_block_is_refused():
    with pytest.raises(KeyError, match="none"):
        tables.filled("<!-- from records: none -->\n\n<!-- end -->")


def test_results_are_mean_and_range_of_the_seeds(monkeypatch):
    runs = {}
    for seed, accuracy in enumerate((0.9, 0.92, 0.91)):
        runs[f"gpu_cifar-fine_rate0.01_test_{seed}"] = {
            "parameters": {"pilot": "cifar-fine", "epochs": 10, "batch_size": 512},
            "dataset": {"name": "cifar10", "official": False, "source": "JPEG mirror of CIFAR-10"},
            "results": {"test_accuracy": accuracy, "flip_averaged_accuracy": accuracy + 0.01},
            "seconds": {"train": 30 * (seed + 1)},
            "environment": {"device": "NVIDIA made up", "cores": 16},
        }
    assert "| a GPU | 0 | not measured |" in tables.results()
    monkeypatch.setattr(tables.records, "read_records", lambda pattern: runs if pattern.startswith("gpu") else {})
    said = "| NVIDIA made up | 3 | 91.00 % (90.00 to 92.00) | 92.00 % (91.00 to 93.00) | 0.5 min | [record]"
    assert said in tables.results() and "not measured" not in tables.results()


def test_keys_of_earlier_records_are_read():
    assert tables.value({"macs": 2}, "macs") == tables.value({"mult_adds": 2}, "macs") == 2
    assert tables.image_sizes({"parameters": {"side": 160}}) == "160 pixels"
    assert tables.image_sizes({"parameters": {"side": 1, "sides": [2, 3]}}) == "2 to 3 pixels"
    assert tables.image_sizes({"parameters": {"image_sizes": [2, 3]}}) == "2 to 3 pixels"


def test_training_is_not_slower_than_the_others():
    ratio = tables.records.read_record("benchmarks/throughput_cpu_amd")["ratio"]["train"]
    others = {name: row["median"] for name, row in ratio.items() if name.startswith("ours / ")}
    assert {"ours / keras.applications", "ours / PyTorch compiled, channels last"} <= set(others)
    assert min(others.values()) >= 1.2, others
