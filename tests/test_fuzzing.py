"""The readers of files and parameters against damaged input; `make faults` tries 10,000 cases of each."""

import fuzzing
import pytest


def test_the_undamaged_files_are_read(tmp_path):
    for content in fuzzing.BATCHES:
        (tmp_path / "batch").write_bytes(content)
        images, labels = fuzzing.data._read_batch_file(tmp_path / "batch")
        assert len(images) == 2 and labels.tolist() == fuzzing.LABELS
    assert fuzzing.weights.read_torch(fuzzing.torch_file())["a"].tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize("name", fuzzing.READERS)
def test_nothing_but_a_value_error_comes_out(name, tmp_path):
    refused, read = fuzzing.fuzz(name, 2_000, tmp_path)
    assert refused > 100 and read > 0, "the damage is too great or too small to say anything"
