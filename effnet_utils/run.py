"""Run a notebook with checked parameters: ``python -m effnet_utils run 07 -p epochs=2 -p dataset=toy``.

papermill only warns about a parameter that the notebook does not have, and takes a value of any type. Here both end
the run before a kernel starts.
"""

import argparse
import ast
import sys
import tempfile
from pathlib import Path

from effnet_utils.data import project_path

TIME_LIMIT = 4 * 3600
PACKAGE = Path(__file__).resolve().parent


def run_notebook(number_or_path, parameters=None, output_dir="", *, force=False, time_limit=TIME_LIMIT):
    """Execute a notebook and keep the executed copy beside the files that it writes.

    Args:
        number_or_path: "07" (a notebook of this checkout) or the path of a notebook.
        parameters: dict of values for the notebook's parameters.
        output_dir: folder for the results; "" makes ``runs/<notebook>/<date and time>``.
        force: bool, replace a record that the folder already holds.
        time_limit: int, seconds that one cell may take.

    Returns:
        Path of the executed notebook.

    Raises:
        ValueError: a parameter is unknown, of the wrong type or impossible, or the folder cannot be used; the
            message is one line that names the parameter, what was given and what is allowed.
        papermill.PapermillExecutionError: a cell raised an error; the executed copy shows it.

    Copy with: this whole module.
    """
    import papermill

    from effnet_utils.records import open_output_dir
    from effnet_utils.train import check_parameters

    path = find_notebook(number_or_path)
    known = notebook_parameters(path)
    values = {name: row["default"] for name, row in known.items()}
    for name, value in (parameters or {}).items():
        if name == "output_dir":
            raise ValueError("output_dir is set by the runner's own argument (-o), not as a parameter")
        _require_known(name, known, path)
        values[name] = value
    check_parameters(values)
    if values.get("resume") and not output_dir:
        raise ValueError("resume is True, which needs the folder of the run to go on with: give it by -o (output_dir)")
    record = project_path(output_dir) / "record.json"
    if output_dir and force and record.is_file():
        record.unlink()
    folder = open_output_dir(output_dir, path.stem, hold=False)
    if "output_dir" in known:
        values["output_dir"] = str(folder)
    target = folder / path.name
    with tempfile.TemporaryDirectory(prefix="effnet-") as sockets:
        papermill.execute_notebook(
            str(path),
            str(target),
            parameters={name: values[name] for name in values if values[name] != known[name]["default"]},
            # Relative paths mean the checkout that the notebook is in; one that came with the package is in none.
            cwd=str(Path.cwd() if PACKAGE in path.parents else path.parent),
            kernel_name="python3",
            kernel_manager_class=_kernel_manager(sockets),
            progress_bar=False,
            execution_timeout=time_limit,
            stdout_file=sys.stdout,
        )
    return target


def _kernel_manager(sockets):
    """Kernels that talk through files of their own: of those that start at the same time, some would find that another
    has taken their TCP port (papermill's issue 511)."""
    from jupyter_client.manager import AsyncKernelManager

    class KernelManager(AsyncKernelManager):
        def __init__(self, **options):
            # Windows has no sockets in files.
            own = {} if sys.platform == "win32" else {"transport": "ipc", "ip": str(Path(sockets) / "kernel")}
            super().__init__(**options, **own)

    return KernelManager


def find_notebook(number_or_path):
    """The path of a notebook, given its path or its number. Raises ValueError when there is none.

    Numbers are looked for in the checkout that holds the working folder, beside the package, and inside the installed
    package, which brings 07 along.
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


def notebook_parameters(path):
    """The parameters that a notebook declares in its tagged cell.

    Returns:
        dict name -> {"type": str, "default": value, "help": str}, in the order of the cell.

    Copy with: nothing.
    """
    import papermill

    return {
        name: {"type": row["inferred_type_name"], "default": ast.literal_eval(row["default"]), "help": row["help"]}
        for name, row in papermill.inspect_notebook(str(path)).items()
    }


def parse_value(name, text, type_name):
    """The value that a command-line text means for a parameter of the given type. Raises ValueError."""
    try:
        if type_name == "bool":
            return {"true": True, "false": False}[text.lower()]
        return {"int": int, "float": float, "str": str}[type_name](text)
    except (KeyError, ValueError):
        allowed = {"bool": "true or false", "int": "a whole number", "float": "a number"}[type_name]
        raise ValueError(f"{name} is {text!r}; allowed: {allowed}") from None


def _require_known(name, known, path):
    if name not in known:
        raise ValueError(f"{name} is not a parameter of {path.stem}; allowed: {', '.join(known)}")


def _failed(why, code=1):
    print(f"error: {why}", file=sys.stderr)
    return code


def main(arguments=None):
    """The command line. Returns the exit code: 0 done, 1 the notebook failed, 2 the request was wrong."""
    parser = argparse.ArgumentParser(prog="python -m effnet_utils")
    commands = parser.add_subparsers(required=True, metavar="run or sweep", dest="command")
    run = commands.add_parser("run", help="run a notebook with parameters")
    run.add_argument("notebook", help="its number, such as 07, or its path")
    run.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="a parameter; the last one counts")
    run.add_argument("-o", default="", metavar="DIR", help="folder for the results (default: a new one in runs/)")
    run.add_argument("--force", action="store_true", help="replace a record that the folder already holds")
    run.add_argument("--time-limit", type=int, default=TIME_LIMIT, metavar="S", help="seconds that one cell may take")
    run.add_argument("--list", action="store_true", help="print the notebook's parameters and stop")
    sweep = commands.add_parser("sweep", help="run a notebook over a grid of parameters, several runs at a time")
    sweep.add_argument("grid", help="YAML file with grid, seeds, parameters and notebook (default: 07)")
    sweep.add_argument("--out", required=True, metavar="DIR", help="folder for the runs; given again, it goes on there")
    sweep.add_argument("--workers", type=int, default=0, metavar="N", help="runs at a time (default: the GPUs, or 1)")
    sweep.add_argument("--ray", default="", metavar="ADDRESS", help="run on this Ray cluster, such as auto")
    given = parser.parse_args(arguments)
    try:
        if given.command == "sweep":
            from effnet_utils.sweep import report

            return report(given.grid, given.out, given.workers, given.ray)
        path = find_notebook(given.notebook)
        known, values = notebook_parameters(path), {}
        if given.list:
            width = max(map(len, known))
            for name, row in known.items():
                print(f"{name:<{width}}  {row['type']:<5}  {row['default']!r:<12}  {row['help']}")
            return 0
        for item in given.p:
            name, equals, text = item.partition("=")
            if not equals:
                raise ValueError(f"-p {item}: expected NAME=VALUE")
            _require_known(name, known, path)
            values[name] = parse_value(name, text, known[name]["type"])
        return _execute(path, values, given)
    except ValueError as error:
        return _failed(error, 2)


def _execute(path, values, given):
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError

    try:
        target = run_notebook(path, values, given.o, force=given.force, time_limit=given.time_limit)
    except PapermillExecutionError as error:
        return _failed(f"cell {error.exec_count} of {path.name} raised {error.ename}: {error.evalue}")
    except CellTimeoutError:
        return _failed(f"a cell of {path.name} took longer than {given.time_limit} s (--time-limit)")
    except DeadKernelError:
        return _failed(f"the kernel of {path.name} died; the usual cause is that memory ran out")
    except OSError as error:
        return _failed(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(f"executed notebook and results: {target.parent}")
    return 0
