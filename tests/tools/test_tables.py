"""The README's numbers are those of the records; lint.py checks its links and its table of notebooks."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import tables  # noqa: E402

README = (ROOT / "README.md").read_text()


def test_figures_are_those_of_the_records():
    named = {name for _, name, _ in tables.BLOCK.findall(README)}
    assert "results" in named and named <= set(tables.BLOCKS)
    for name in set(tables.BLOCKS) - named:
        with pytest.raises(FileNotFoundError):
            tables.BLOCKS[name]()  # there is a record, and README.md lacks a block with its figures
    assert tables.filled(README) == README, "README.md and records/ disagree; python benchmarks/tables.py mends it"


def test_results_of_a_gpu_are_medians_of_the_seeds(monkeypatch):
    parameters = {"pilot": "cifar-fine", "epochs": 10, "batch_size": 512}
    facts = {"name": "cifar10", "official": False, "source": "JPEG mirror of CIFAR-10"}
    runs = {
        f"gpu_cifar-fine_rate0.01_test_{seed}": {
            "parameters": parameters,
            "dataset": facts,
            "results": {"test_accuracy": accuracy, "flip_averaged_accuracy": accuracy + 0.01},
            "seconds": {"train": 30 * (seed + 1)},
            "environment": {"device": "NVIDIA made up", "cores": 16},
        }
        for seed, accuracy in enumerate((0.9, 0.92, 0.91))
    }
    before = tables.results()
    assert "| a GPU | not measured |" in before
    monkeypatch.setattr(tables.records, "read_records", lambda pattern: runs if pattern.startswith("gpu") else {})
    cells = [cell.strip() for cell in tables.results().splitlines()[-1].split("|")[1:-1]]
    assert cells == [
        "JPEG mirror of CIFAR-10", "`cifar-fine`", "10", "512", "NVIDIA made up", "91.00 %", "92.00 %", "1.0 min",
        "3 seeds, `gpu_cifar-fine_rate0.01_test`",
    ]  # fmt: skip


def test_training_is_not_slower_than_the_others():
    ratio = tables.records.read_record("benchmarks/throughput_cpu")["ratio"]["train"]
    others = {name: row["median"] for name, row in ratio.items() if name.startswith("ours / ")}
    assert {"ours / keras.applications", "ours / PyTorch compiled, channels last"} <= set(others)
    assert min(others.values()) >= 1.2, others
