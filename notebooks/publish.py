"""Make the committed form of executed notebooks: outputs and counts stay, what tells of the machine goes.

    python notebooks/publish.py runs/07_train_cifar10/20260101-120000/07_train_cifar10.ipynb   # take this run's copy
    python notebooks/publish.py         # execute all notebooks but 07 with their defaults, and take those

07 trains for a long time: its committed copy is taken from the run whose record the text quotes.
"""

import re
import sys
import tempfile
from pathlib import Path

import nbformat

from effnet_utils import run_notebook

HERE = Path(__file__).parent
# What TensorFlow's C++ code says at start-up whatever the log level.
STARTUP = re.compile(r"^(WARNING: All log messages|[IWE]0000 |To enable the following|\s*$)")


def clean(notebook):
    """Drop injected parameters and the run's metadata, number the cells 1..n; raise for an error or stderr output."""
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    notebook.metadata = {
        key: value for key, value in notebook.metadata.items() if key in ("kernelspec", "language_info", "accelerator")
    }
    notebook.metadata["language_info"] = {"name": "python"}
    count = 0
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags" and value}
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = [output for output in cell.outputs if not _startup_noise(output)]
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                raise ValueError(f"cell {count} has an error or something on stderr: {output}")
            if "execution_count" in output:
                output.execution_count = count
    return notebook


def _startup_noise(output):
    return output.get("name") == "stderr" and all(STARTUP.match(line) for line in output.text.splitlines())


def publish(executed):
    """Write the committed form of an executed copy."""
    notebook = clean(nbformat.read(executed, as_version=4))
    target = HERE / Path(executed).name
    nbformat.write(notebook, target)
    print(f"{target.name}: {target.stat().st_size / 1e3:.0f} kB")


def main():
    if sys.argv[1:]:
        for executed in sys.argv[1:]:
            publish(executed)
        return
    for path in sorted(HERE.glob("[0-9A]*_*.ipynb")):
        if not path.name.startswith("07_"):
            with tempfile.TemporaryDirectory() as folder:
                publish(run_notebook(path, output_dir=folder))


if __name__ == "__main__":
    main()
