"""Run a notebook with checked parameters.

papermill only warns about a parameter that the notebook does not have, and takes a value of any type. Here both end
the run before a kernel starts.
"""

import ast
import json
import logging
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from effnet_utils.files import project_path

TIME_LIMIT = 4 * 3600
PACKAGE = Path(__file__).resolve().parents[1]
KERNEL_LOG = "kernel.log"
LONGEST = 60  # letters of a temporary folder's path, so that those of sockets inside are short enough
# Tags of cells that the result does not depend on: those that show something, and those that the reader completes.
TRIALS = {"trial", "exercise"}
TYPES = {"bool": bool, "int": int, "float": float, "str": str}


def run_notebook(number_or_path, parameters=None, output_dir="", *, force=False, time_limit=TIME_LIMIT, trials=False):
    """Execute a notebook and keep the executed copy beside the files that it writes.

    Args:
        number_or_path: "07" (a notebook of this checkout) or the path of a notebook.
        parameters: dict of values for the notebook's parameters.
        output_dir: folder for the results; "" makes ``runs/<notebook>/<date and time>``.
        force: bool, replace a record that the folder already holds.
        time_limit: int, seconds that one cell may take.
        trials: bool, execute also the cells tagged "trial" or "exercise", on which no result depends, such as 07's
            small trainings on the toy dataset. Without, the executed copy lacks them.

    Returns:
        Path of the executed notebook.

    Raises:
        ValueError: a parameter is unknown, of the wrong type or out of its range, or the folder cannot be used; the
            message is one line that names the parameter, what was given and what is allowed.
        papermill.PapermillExecutionError: a cell raised an error; the executed copy shows it.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    from effnet_utils.experiments.records import RunFolder

    path = find_notebook(number_or_path)
    model, cell = notebook_parameters(path)
    changes = check(model, cell, parameters or {})
    if changes.get("resume") and not output_dir:
        raise ValueError("resume is True, which needs the folder of the run to continue: give it by -o (output_dir)")
    record = project_path(output_dir) / "record.json"
    if output_dir and force and record.is_file():
        record.unlink()
    folder = RunFolder(output_dir, path.stem).path
    if "output_dir" in cell:
        changes["output_dir"] = str(folder)
    target = folder / path.name
    with tempfile.TemporaryDirectory(prefix="effnet-", dir=_short_folder()) as own, _no_false_alarm():
        try:
            papermill.execute_notebook(
                str(path if trials else _without_trials(path, own)),
                str(target),
                parameters=changes,
                cwd=str(working_folder(path)),
                kernel_name="python3",
                kernel_manager_class=_kernel_manager(own),
                progress_bar=False,
                execution_timeout=time_limit,
                stdout_file=sys.stdout,
            )
        except DeadKernelError:
            said = Path(own, KERNEL_LOG).read_text(errors="replace").splitlines()
            print(*said[-20:], sep="\n", file=sys.stderr)  # what it said last may tell why
            raise
    return target


def _short_folder():
    """Where sockets may be made: their paths can have about 100 letters, and a cluster's TMPDIR can be longer."""
    usual = tempfile.gettempdir()
    return "/tmp" if len(usual) > LONGEST and os.access("/tmp", os.W_OK) else usual


def working_folder(notebook):
    """Path of the folder in which a notebook runs, and from which its relative paths count (``files.project_path``).

    They mean the checkout that the notebook is in; one that came with the package is in none.
    """
    return Path.cwd() if PACKAGE in notebook.parents else notebook.parent


def _without_trials(path, folder):
    """The path of the notebook, or of a copy in ``folder`` if there are cells to leave out."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if not TRIALS & set(cell["metadata"].get("tags", []))]
    if len(cells) == len(notebook["cells"]):
        return path
    copy = Path(folder) / path.name
    copy.write_text(json.dumps(notebook | {"cells": cells}), encoding="utf-8")
    return copy


def find_notebook(number_or_path):
    """The path of a notebook, given its path or its number. Raises ValueError when there is none.

    Numbers are looked for in the checkout that holds the working folder, beside the package, and inside the installed
    package, which contains 07.
    """
    path = Path(number_or_path)
    if path.suffix == ".ipynb" and path.is_file():
        return path.resolve()
    known = []
    for folder in (project_path("notebooks"), PACKAGE.parent / "notebooks", PACKAGE / "_data" / "notebooks"):
        found = sorted(folder.glob(f"{number_or_path}_*.ipynb"))
        if len(found) == 1:
            return found[0]
        known = known or [path.name.split("_")[0] for path in sorted(folder.glob("*_*.ipynb"))]
    known = ", ".join(known) or "none here"
    raise ValueError(f"notebook {str(number_or_path)!r} not found; give a path, or one of: {known}")


def declared(path):
    """The parameters that a notebook takes: dict name -> (type, default, help).

    Those of its tagged cell; after them, for a notebook of this project, those that only its model has.
    """
    return notebook_parameters(path)[1]


def notebook_parameters(path):
    """The parameters of a notebook: a subclass of ``parameters.Parameters``, and what ``declared`` says."""
    import papermill

    from effnet_utils.experiments.parameters import NOTEBOOKS, parameters_of

    cell = {}
    for name, row in papermill.inspect_notebook(str(path)).items():
        cell[name] = (TYPES[row["inferred_type_name"]], ast.literal_eval(row["default"]), row["help"])
    model = parameters_of(path.stem, cell)
    if model is NOTEBOOKS.get(path.stem):
        for name, field in model.model_fields.items():
            cell.setdefault(name, (type(field.default), field.default, field.description))
    return model, cell


def check(model, cell, given):
    """The values that differ from a notebook's defaults, when all of them together are allowed.

    Args:
        model, cell: as ``notebook_parameters`` gives them.
        given: dict name -> value; old spellings of names are understood.

    Returns:
        dict name -> value.

    Raises:
        ValueError: as ``run_notebook``.
    """
    given = {model.present_name(name): value for name, value in given.items()}
    if "output_dir" in given:
        raise ValueError("output_dir is set by the runner's own argument (-o), not as a parameter")
    defaults = {name: default for name, (_, default, _) in cell.items()}
    values = dict(model.read(defaults | given))
    return {name: value for name, value in values.items() if value != defaults[name]}


@contextmanager
def _no_false_alarm():
    """Without papermill's warning of a parameter that is not in the notebook's cell: ``check`` has found it allowed."""
    logger = logging.getLogger("papermill")

    def matters(record):
        return not record.getMessage().startswith("Passed unknown parameter")

    logger.addFilter(matters)
    try:
        yield
    finally:
        logger.removeFilter(matters)


def explain(error, path, time_limit=TIME_LIMIT):
    """What ended a run, in one line; None for an error that is not known here.

    Args:
        error: the exception that ``run_notebook`` raised.
        path: of the notebook.
        time_limit: int, as given to ``run_notebook``.
    """
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        return f"cell {error.exec_count} of {path.name} raised {error.ename}: {error.evalue}"
    if isinstance(error, CellTimeoutError):
        return f"a cell of {path.name} took longer than {time_limit} s (--time-limit)"
    if isinstance(error, DeadKernelError):
        return f"the kernel of {path.name} died; the usual cause is that memory ran out"
    if isinstance(error, (OSError, ValueError)):
        return str(error)
    return None


def _kernel_manager(folder):
    """Kernels of this Python, whatever is registered under the name "python3", that talk through files in a folder.

    With TCP, of those that start at the same time some would find that another has taken their port (papermill's issue
    511). What a kernel writes past the notebook, such as TensorFlow's start-up lines, goes to KERNEL_LOG there.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    launcher = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]

    class KernelManager(AsyncKernelManager):
        def __init__(self, **options):
            # Windows has no sockets in files.
            own = {} if sys.platform == "win32" else {"transport": "ipc", "ip": str(Path(folder) / "kernel")}
            super().__init__(**options, **own)
            self._kernel_spec = KernelSpec(argv=launcher, display_name="Python 3", language="python")

        async def start_kernel(self, **options):
            with Path(folder, KERNEL_LOG).open("ab") as log:
                await super().start_kernel(**options, stderr=log)

    return KernelManager
