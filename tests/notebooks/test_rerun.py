"""07 with its cells run again, in orders that nobody planned: each starts afresh, or says in a sentence what to do."""

import json

import nbclient
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from tools.notebooks import ROOT, tags

pytestmark = pytest.mark.slow  # trains twice

TINY = {
    "dataset": "toy", "layout": "imagenet", "epochs": 2, "batch_size": 32, "max_train_samples": 256,
    "eval_split": "validation", "overrides": '{"width": 0.2, "depth": 0.3}',
}  # fmt: skip


class Kernel:
    """A notebook in a kernel, whose cells can be executed in any order."""

    def __init__(self, notebook, folder):
        self.notebook = notebook
        self.client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})

    def place(self, text):
        """The number of the code cell that contains a text."""
        (found,) = [i for i, cell in enumerate(self.notebook.cells) if cell.cell_type == "code" and text in cell.source]
        return found

    def run(self, text):
        """Execute the cell that contains a text; returns what it printed."""
        place = self.place(text)
        cell = self.client.execute_cell(self.notebook.cells[place], place)
        return "".join(output.get("text", "") for output in cell.outputs)


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    """07 with small values, executed from top to bottom but for the trials and exercises; a kernel that still runs."""
    folder = tmp_path_factory.mktemp("rerun")
    notebook = load_notebook_node(str(ROOT / "notebooks" / "07_train_cifar10.ipynb"))
    notebook = parameterize_notebook(notebook, TINY | {"output_dir": str(folder / "out")})
    notebook.cells = [cell for cell in notebook.cells if not {"trial", "exercise"} & set(tags(cell))]
    last = max(i for i, cell in enumerate(notebook.cells) if "checkpoints.remove()" in cell.source)
    notebook = nbformat.from_dict(notebook | {"cells": notebook.cells[: last + 1]})
    kernel = Kernel(notebook, folder)
    with kernel.client.setup_kernel():
        for place, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                kernel.client.execute_cell(cell, place)
        kernel.record = json.loads((folder / "out" / "record.json").read_text())
        kernel.folder = folder / "out"
        yield kernel


def refused(kernel, text):
    """The sentence with which a cell refuses to run."""
    with pytest.raises(CellExecutionError) as found:
        kernel.run(text)
    return found.value.evalue


def test_the_cell_that_writes_the_record_does_not_write_a_second_one(seven):
    before = (seven.folder / "record.json").read_bytes()
    assert "run the notebook from its beginning" in refused(seven, "checkpoints.remove()")
    assert (seven.folder / "record.json").read_bytes() == before


def test_a_second_fit_is_refused_and_the_network_stays(seven):
    probabilities = seven.run("probabilities = evaluation.predict_proba")
    assert "build the network and the trainer anew" in refused(seven, "trainer.fit(batches, epochs")
    assert seven.run("probabilities = evaluation.predict_proba") == probabilities


def test_holding_out_again_takes_the_same_images(seven):
    for text in ("n_train = images_to_train_on", "# @title Resize the images", "# @title Resize the images"):
        said = seven.run(text)
    assert "256 images to train on, 500 to evaluate on (validation)" in said


def test_a_network_built_anew_is_trained_from_the_beginning(seven):
    (seven.folder / "record.json").unlink()
    seven.run("trainer.compile(optimizer, loss")
    said = seven.run("trainer.fit(batches, epochs")
    assert said.count("epoch  1/2") == 1 and "goes on" not in said
    for text in ("# @title Time and memory", "probabilities = evaluation.predict_proba", "# @title Plot loss and"):
        seven.run(text)
    for text in ("# @title Plot the confusion", "model_path = save_classifier", "checkpoints.remove()"):
        seven.run(text)
    again = json.loads((seven.folder / "record.json").read_text())["results"]
    assert [row["epoch"] for row in again["per_epoch"]] == [1, 2]
    assert again["loss"] == pytest.approx(seven.record["results"]["loss"], rel=0.2)
