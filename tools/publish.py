"""Make the committed notebooks: the package's code taken over, executed, and cleaned of what tells of the machine.

    python notebooks/publish.py          # all with short runs: every notebook but 07 to 12
    python notebooks/publish.py 04       # one of them
    python notebooks/publish.py 07       # of this long one the cells that read records; the others keep their outputs
    python notebooks/publish.py code 07  # the package's code alone, before `make full` executes a long one
    python notebooks/publish.py runs/07_train_cifar10/20260101-120000/07_train_cifar10.ipynb   # store an executed copy

Seconds and memory of each run go into records/benchmarks/notebooks.json, and from there into the notebook's first cell.
07 and 08 run for half an hour or more, 09 and 11 take what 07 left, and 10 and 12 run 07 several times: their committed
copies are taken from the runs whose records the texts quote.
"""

import ast
import base64
import io
import json
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from PIL import Image

from effnet_utils import run_notebook

HERE = Path(__file__).parent
COSTS = HERE.parent / "records" / "benchmarks" / "notebooks.json"
LONG = ("07", "08", "09", "10", "11", "12")
# What TensorFlow's and LiteRT's C++ code says at start-up whatever the log level, and a kernel started by a kernel.
STARTUP = re.compile(
    r"^(WARNING: All log messages|[IWE]0000 |To enable the following|INFO: Created TensorFlow Lite|fully_quantize: |"
    r"\[IPKernelApp\] WARNING \| Kernel is running over TCP|\s*$)"
)
STATED = re.compile(r"^\| (Time|Memory) \| ([0-9.]+) (seconds|minutes?|GB)", re.MULTILINE)


# --- One source for each function ---------------------------------------------------------------------------------


def module_of(cell):
    """The module's path that a cell's first line names (``# -> effnet_utils/blocks.py``), or None."""
    first = cell.source.split("\n", 1)[0]
    return HERE.parent / first.removeprefix("# -> ").strip() if first.startswith("# -> ") else None


def definitions(source):
    """The functions, classes and constants of a source text: {name: (syntax tree without docstrings, its node)}."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = (_without_docstrings(ast.parse(ast.unparse(node))), node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = (ast.unparse(node), node)
    return found


def _without_docstrings(tree):
    for inner in ast.walk(tree):
        if isinstance(inner, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(inner):
            inner.body = inner.body[1:]
    return ast.unparse(tree)


def take_over(cell):
    """Put the module's code into a shared cell where the two differ; the cell keeps its own, shorter docstring."""
    module_text = module_of(cell).read_text()
    module, lines = definitions(module_text), cell.source.split("\n")
    for name, (code, node) in reversed(definitions(cell.source).items()):
        if name in module and module[name][0] != code:
            new = _lines(module_text, module[name][1])
            docs = [_docstring_lines(each) for each in (module[name][1], node)]
            if all(docs):
                start = _first_line(module[name][1])
                new[docs[0][0] - start : docs[0][1] - start + 1] = lines[docs[1][0] - 1 : docs[1][1]]
            lines[_first_line(node) - 1 : node.end_lineno] = new
    cell.source = "\n".join(lines)


def _first_line(node):
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])


def _lines(text, node):
    return text.split("\n")[_first_line(node) - 1 : node.end_lineno]


def _docstring_lines(node):
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
        return node.body[0].lineno, node.body[0].end_lineno
    return None


# --- The committed form -------------------------------------------------------------------------------------------


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
        cell.outputs = _joined([output for output in cell.outputs if not _startup_noise(output)])
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                raise ValueError(f"cell {count} has an error or something on stderr: {output}")
            if "execution_count" in output:
                output.execution_count = count
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _smaller(output.data["image/png"])
    return notebook


def _smaller(png):
    """A figure in 256 colours, about a third of its size; one that was made so before stays as it is."""
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    if image.mode == "P":
        return png
    buffer = io.BytesIO()
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _startup_noise(output):
    return output.get("name") == "stderr" and all(STARTUP.match(line) for line in output.text.splitlines())


def _joined(outputs):
    """What a cell prints as one text: where the kernel cuts it into pieces is chance."""
    joined = []
    for output in outputs:
        if joined and output.output_type == "stream" == joined[-1].output_type and output.name == joined[-1].name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def marked_outputs(notebook):
    """What the cells marked NBVAL_CHECK_OUTPUT print, by their source."""
    return {
        cell.source: "".join(output.get("text") or output.data["text/plain"] for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.startswith("# NBVAL_CHECK_OUTPUT")
    }


def store(notebook, name):
    """Write the committed form and say which marked outputs are not what they were."""
    target = HERE / name
    before = marked_outputs(nbformat.read(target, as_version=4)) if target.exists() else {}
    notebook = clean(notebook)
    nbformat.write(notebook, target)
    after = marked_outputs(notebook)
    changed = [source for source in after if source in before and before[source] != after[source]]
    print(
        f"{name}: {target.stat().st_size / 1e3:.0f} kB, {len(after)} marked cells, {len(changed)} with another output"
    )
    for source in changed:
        print("   ", source.split("\n")[1], before[source], "->", after[source])


# --- What a notebook costs ----------------------------------------------------------------------------------------


def stated(notebook):
    """(seconds, gigabytes) that the first cell states."""
    found = {kind: (float(value), unit) for kind, value, unit in STATED.findall(notebook.cells[0].source)}
    value, unit = found["Time"]
    return value * (1 if unit == "seconds" else 60), found["Memory"][0]


def state(notebook, seconds, gigabytes):
    """Write the measured figures into the first cell, unless what stands there is within a fifth."""
    texts = {"Time": _duration(seconds), "Memory": f"{gigabytes:.1f} GB"}
    old = dict(zip(("Time", "Memory"), stated(notebook), strict=True))
    for kind, new in (("Time", seconds), ("Memory", gigabytes)):
        if not 0.8 < new / old[kind] < 1.25:
            text = notebook.cells[0].source
            notebook.cells[0].source = re.sub(
                rf"^\| {kind} \| [0-9.]+ \w+", f"| {kind} | {texts[kind]}", text, flags=re.M
            )


def _duration(seconds):
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    minutes = round(2 * seconds / 60) / 2
    return "1 minute" if minutes == 1 else f"{minutes:g} minutes"


def note_cost(name, seconds, gigabytes):
    """Add a run to the record of what the notebooks cost."""
    from effnet_utils import records  # here: it brings TensorFlow, and `make lint` needs but the functions above

    record = json.loads(COSTS.read_text()) if COSTS.exists() else {"notebooks": {}}
    record["what"] = "one execution of each notebook with its defaults, kernel start included: make notebooks"
    record["environment"] = records.environment()
    record["notebooks"][name] = {"seconds": round(seconds), "peak_gb": round(gigabytes, 2)}
    record["notebooks"] = dict(sorted(record["notebooks"].items()))
    COSTS.write_text(json.dumps(record, indent=1) + "\n")


def with_packages_code(path):
    """The notebook with the package's code in its shared cells."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and module_of(cell):
            take_over(cell)
    return notebook


def execute(path):
    """Execute a notebook after taking over the package's code. Returns (notebook, seconds, peak gigabytes)."""
    notebook = with_packages_code(path)
    probe = "from effnet_utils.records import peak_memory_gb\nprint(peak_memory_gb())"
    notebook.cells.append(nbformat.v4.new_code_cell(probe))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / path.name
        nbformat.write(notebook, source)
        start = time.perf_counter()
        executed = nbformat.read(run_notebook(source, output_dir=Path(folder) / "out"), as_version=4)
        seconds = time.perf_counter() - start
    return executed, seconds, float(executed.cells.pop().outputs[0].text)


def refresh(path):
    """The notebook with new outputs of the cells tagged "records": they need but set-up, imports and parameters."""
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    chosen = cells[:3] + [cell for cell in cells if "records" in cell.metadata.get("tags", [])]
    small = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.source) for cell in chosen])
    small.metadata = notebook.metadata
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / path.name
        nbformat.write(small, source)
        executed = nbformat.read(run_notebook(source, output_dir=Path(folder) / "out"), as_version=4)
    for cell, new in zip(chosen[3:], executed.cells[3:], strict=True):
        cell.outputs = new.outputs
    return notebook


def main():
    for given in sys.argv[1:]:
        if given.endswith(".ipynb"):
            store(nbformat.read(given, as_version=4), Path(given).name)
    numbers = [given for given in sys.argv[1:] if not given.endswith(".ipynb")]
    for path in sorted(HERE.glob("[0-9A]*_*.ipynb")):
        number = path.name.split("_")[0]
        if number in numbers and "code" in numbers:
            nbformat.write(with_packages_code(path), path)
        elif number in numbers and number in LONG:
            store(refresh(path), path.name)
        elif number in numbers or not (sys.argv[1:] or number in LONG):
            notebook, seconds, gigabytes = execute(path)
            note_cost(path.stem, seconds, gigabytes)
            state(notebook, seconds, gigabytes)
            store(notebook, path.name)
            print(f"    {seconds:.0f} s, {gigabytes:.1f} GB")


if __name__ == "__main__":
    main()
