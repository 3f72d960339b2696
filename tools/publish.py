"""Make the committed notebooks: with the package's code, executed, and without traces of the machine that ran them.

    python -m tools.publish                 # all that run for minutes: every notebook but 07 to 12
    python -m tools.publish 04              # one of them
    python -m tools.publish 07              # of a long one the cells that read records; the others keep their outputs
    python -m tools.publish --code-only 07  # copy the package's code, before `make execute` runs a long one
    python -m tools.publish runs/07_train_cifar10/20260101-120000/07_train_cifar10.ipynb   # store an executed copy

Time and memory of each run go into records/benchmarks/notebooks.json, and from there into the notebook's first cell, if
everything was committed when the command began.
"""

import argparse
import base64
import io
import json
import re
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from effnet_utils import run_notebook
from effnet_utils.experiments.records import environment
from tools import reading
from tools.notebooks import (
    LONG,
    MARK,
    NOTEBOOKS,
    ROOT,
    code_cells,
    committed_metadata,
    number_of,
    read,
    tags,
    with_package_code,
)

COSTS = ROOT / "records" / "benchmarks" / "notebooks.json"
KEPT_METADATA = ("kernelspec", "language_info", "accelerator")
# What TensorFlow's and LiteRT's C++ code says at start-up whatever the log level, and a kernel started by a kernel.
STARTUP = re.compile(
    r"^(WARNING: All log messages|[IWE]0000 |To enable the following|INFO: Created TensorFlow Lite|fully_quantize: |"
    r"\[IPKernelApp\] WARNING \| Kernel is running over TCP|\s*$)"
)
# A figure is a photograph if many of its values change by much where it has so few colours.
COLOURS = 64
LARGE_CHANGE = 8  # of 255
MANY = 0.02
MADE_SMALLER = "made smaller by tools.publish"
STATED = re.compile(r"^\| (Running|Memory) \| ([0-9.]+) (seconds|minutes?|GB)", re.MULTILINE)


# --- The committed form -------------------------------------------------------------------------------------------


def _own_cells(notebook):
    """Without the cell that papermill adds."""
    return [cell for cell in notebook.cells if "injected-parameters" not in tags(cell)]


def clean(notebook):
    """Drop injected parameters and the run's metadata, number the cells 1..n; raise for an error or stderr output."""
    notebook.cells = _own_cells(notebook)
    notebook.metadata = {key: value for key, value in notebook.metadata.items() if key in KEPT_METADATA}
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = committed_metadata(tags(cell))
    for count, cell in enumerate(code_cells(notebook), 1):
        cell.execution_count = count
        kept = [output for output in cell.outputs if not (_is_startup_noise(output) or _is_empty(output))]
        cell.outputs = _joined(kept)
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                raise ValueError(f"cell {count} has an error or something on stderr: {output}")
            if "execution_count" in output:
                output.execution_count = count
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _smaller(output.data["image/png"])
    return notebook


def _smaller(png):
    """A chart in 64 colours, about a quarter of its size; a photograph with all its colours, and half as wide.

    A figure that was made so before stays as it is, and so does an animation.
    """
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    if image.info.get("Comment") == MADE_SMALLER or image.is_animated:
        return png
    full = image.convert("RGB")
    # Not the most frequent colours, as by default, but those that leave no colour far off: markers are small.
    small = full.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    change = np.abs(np.asarray(full, int) - np.asarray(small.convert("RGB"), int))
    if np.mean(change > LARGE_CHANGE) > MANY:
        small = full.reduce(2)
    about = PngInfo()
    about.add_text("Comment", MADE_SMALLER)
    buffer = io.BytesIO()
    small.save(buffer, "png", optimize=True, pnginfo=about)
    return base64.b64encode(buffer.getvalue()).decode()


def _is_startup_noise(output):
    return output.get("name") == "stderr" and all(STARTUP.match(line) for line in output.text.splitlines())


def _is_empty(output):
    """A place that was filled while the cell ran, such as a progress bar's."""
    return output.get("data", {}).get("text/html") == ""


def _joined(outputs):
    """What a cell prints as one text: the kernel cuts it into pieces at random places."""
    joined = []
    for output in outputs:
        if joined and output.output_type == "stream" == joined[-1].output_type and output.name == joined[-1].name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def marked_outputs(notebook):
    """What the cells tagged nbval-check-output print, by their source."""
    found = {}
    for cell in code_cells(notebook):
        if MARK in tags(cell):
            texts = [output.get("text") or output.data["text/plain"] for output in cell.outputs]
            found[cell.source] = "".join(texts)
    return found


def store(notebook, name):
    """Write the committed form, with its reading time, and print which marked outputs have changed."""
    target = ROOT / "notebooks" / name
    before = marked_outputs(read(target)) if target.exists() else {}
    notebook = clean(notebook)
    reading_time = reading.row(reading.measured(notebook))
    notebook.cells[0].source = reading.READING.sub(reading_time, notebook.cells[0].source)
    nbformat.write(notebook, target)
    after = marked_outputs(notebook)
    changed = [source for source in after if source in before and before[source] != after[source]]
    kilobytes = target.stat().st_size / 1e3
    print(f"{name}: {kilobytes:.0f} kB, {len(after)} marked cells, {len(changed)} with a different output")
    for source in changed:
        print("   ", source.split("\n")[0], before[source], "->", after[source])


# --- What a notebook costs ----------------------------------------------------------------------------------------


def stated(notebook):
    """(seconds, gigabytes) that the first cell states."""
    found = {kind: (float(value), unit) for kind, value, unit in STATED.findall(notebook.cells[0].source)}
    value, unit = found["Running"]
    seconds = value if unit == "seconds" else 60 * value
    gigabytes, _ = found["Memory"]
    return seconds, gigabytes


def state(notebook, seconds, gigabytes):
    """Write the measured figures into the first cell, unless what it states is within a fifth of them."""
    old_seconds, old_gigabytes = stated(notebook)
    for kind, old, new, text in (
        ("Running", old_seconds, seconds, _duration(seconds)),
        ("Memory", old_gigabytes, gigabytes, f"{gigabytes:.1f} GB"),
    ):
        if not 0.8 < new / old < 1.25:
            pattern = re.compile(rf"^\| {kind} \| [0-9.]+ \w+", re.MULTILINE)
            notebook.cells[0].source = pattern.sub(f"| {kind} | {text}", notebook.cells[0].source)


def _duration(seconds):
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    minutes = round(2 * seconds / 60) / 2
    return "1 minute" if minutes == 1 else f"{minutes:g} minutes"


def note_cost(name, seconds, gigabytes, made):
    """Add a run to the record of what the notebooks cost."""
    record = json.loads(COSTS.read_text()) if COSTS.exists() else {"notebooks": {}}
    record["what"] = "one execution of each notebook with its defaults, kernel start included: make notebooks"
    record["environment"] = made
    record["notebooks"][name] = {"seconds": round(seconds), "peak_gb": round(gigabytes, 2)}
    record["notebooks"] = dict(sorted(record["notebooks"].items()))
    COSTS.write_text(json.dumps(record, indent=1) + "\n")


# --- Execution ----------------------------------------------------------------------------------------------------


def _run(notebook, name):
    """The notebook after an execution in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / name
        nbformat.write(notebook, source)
        return read(run_notebook(source, output_dir=Path(folder) / "out", trials=True))


def execute(path):
    """Execute a notebook that has the package's code. Returns (notebook, seconds, peak gigabytes)."""
    notebook = with_package_code(path)
    probe = "from effnet_utils.experiments.records import peak_memory_gb\nprint(peak_memory_gb())"
    notebook.cells.append(nbformat.v4.new_code_cell(probe))
    start = time.perf_counter()
    executed = _run(notebook, path.name)
    seconds = time.perf_counter() - start
    return executed, seconds, float(executed.cells.pop().outputs[0].text)


def refresh(path):
    """The notebook with new outputs of the cells tagged "records", which need only set-up, imports and parameters."""
    notebook = read(path)
    cells = code_cells(notebook)
    first_cells = cells[:3]
    record_cells = [cell for cell in cells if "records" in tags(cell)]
    small = nbformat.v4.new_notebook(metadata=notebook.metadata)
    small.cells = [nbformat.v4.new_code_cell(cell.source) for cell in first_cells + record_cells]
    executed = _run(small, path.name)
    for cell, new_cell in zip(record_cells, _own_cells(executed)[len(first_cells) :], strict=True):
        cell.outputs = new_cell.outputs
    return notebook


def publish(path, made):
    """Execute and store one notebook; of a long one only the cells that read records.

    ``made`` is the ``environment`` part of the record, from before the first notebook was stored.
    """
    if number_of(path) in LONG:
        store(refresh(path), path.name)
        return
    notebook, seconds, gigabytes = execute(path)
    committed = not made["commit"].endswith("-dirty")
    if committed:
        note_cost(path.stem, seconds, gigabytes, made)
        state(notebook, seconds, gigabytes)
    store(notebook, path.name)
    print(f"    {seconds:.0f} s, {gigabytes:.1f} GB{'' if committed else '; not noted, since not all is committed'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = "a number (04) or an executed copy; without one, all short notebooks"
    parser.add_argument("given", nargs="*", metavar="NOTEBOOK", help=what)
    parser.add_argument("--code-only", action="store_true", help="copy the package's code, execute nothing")
    given = parser.parse_args()
    made = environment()
    numbers = [number_of(path) for path in NOTEBOOKS]
    for name in given.given or [number for number in numbers if number not in LONG]:
        if name.endswith(".ipynb"):
            store(read(name), Path(name).name)
        elif name not in numbers:
            parser.error(f"there is no notebook {name}; notebooks: {', '.join(numbers)}")
        elif given.code_only:
            path = NOTEBOOKS[numbers.index(name)]
            nbformat.write(with_package_code(path), path)
        else:
            publish(NOTEBOOKS[numbers.index(name)], made)


if __name__ == "__main__":
    main()
