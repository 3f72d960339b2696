"""The command line: ``python -m effnet_utils run 07 -p epochs=2 -p dataset=toy``, ``... sweep``, ``... copy``."""

import argparse
import sys

from effnet_utils.experiments.parameters import parse_value
from effnet_utils.experiments.run import TIME_LIMIT, explain, find_notebook, notebook_parameters, run_notebook


def main(arguments=None):
    """Returns the exit code: 0 done, 1 the notebook failed, 2 the request was wrong, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a pipe on Windows may not be able to print every letter
            stream.reconfigure(errors="backslashreplace")
    given = _parser().parse_args(arguments)
    try:
        return given.command(given)
    except ValueError as error:
        return _failed(error, 2)
    except ModuleNotFoundError as error:
        return _failed(f"the package {error.name} is not installed; install what pyproject.toml lists", 2)


def _parser():
    parser = argparse.ArgumentParser(prog="python -m effnet_utils")
    commands = parser.add_subparsers(required=True, metavar="run, sweep or copy")

    run = commands.add_parser("run", help="run a notebook with parameters")
    run.set_defaults(command=_run)
    run.add_argument("notebook", help="its number, such as 07, or its path")
    run.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="a parameter; the last one counts")
    run.add_argument("-o", "--output-dir", default="", metavar="DIR", help="for the results (default: new, in runs/)")
    run.add_argument("--force", action="store_true", help="replace a record that the folder already holds")
    run.add_argument("--time-limit", type=int, default=TIME_LIMIT, metavar="S", help="seconds that one cell may take")
    run.add_argument("--no-trials", action="store_true", help="leave out the cells on which no result depends")
    run.add_argument("--list", action="store_true", help="print the notebook's parameters and stop")

    sweep = commands.add_parser("sweep", help="run a notebook over a grid of parameters, several runs at a time")
    sweep.set_defaults(command=_sweep)
    sweep.add_argument("grid", help="YAML file with grid, seeds, parameters and notebook (default: 07)")
    sweep.add_argument(
        "-o",
        "--output-dir",
        "--out",
        required=True,
        metavar="DIR",
        help="for the runs; given again, it continues there",
    )
    sweep.add_argument("--workers", type=int, default=0, metavar="N", help="runs at a time (default: the GPUs, or 1)")
    sweep.add_argument("--ray", default="", metavar="ADDRESS", help="run on this Ray cluster, such as auto")

    copy = commands.add_parser("copy", help="print a function with all it needs, as one file")
    copy.set_defaults(command=_copy)
    copy.add_argument("name", help="such as efficientnet or mbconv_block")
    return parser


def _run(given):
    path = find_notebook(given.notebook)
    if given.list:
        _print_parameters(path)
        return 0
    values = _parsed(path, given.p)
    try:
        target = run_notebook(
            path,
            values,
            given.output_dir,
            force=given.force,
            time_limit=given.time_limit,
            trials=not given.no_trials,
        )
    except ValueError:
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        why = explain(error, path, given.time_limit)
        if why is None:
            raise
        return _failed(why, 1)
    print(f"executed notebook and results: {target.parent}")
    return 0


def _sweep(given):
    from effnet_utils.experiments.sweep import run_sweep

    try:
        failed = run_sweep(given.grid, given.output_dir, given.workers, given.ray)
    except KeyboardInterrupt:
        print("interrupted; the same command continues with the runs that have no record", file=sys.stderr)
        return 130
    for name, line in failed.items():
        print(f"error: {name} failed twice: {line}", file=sys.stderr)
    return 1 if failed else 0


def _copy(given):
    from effnet_utils.experiments.copying import copy_source

    print(copy_source(given.name), end="")
    return 0


def _print_parameters(path):
    from effnet_utils.training._validation import allowed_values

    model, cell = notebook_parameters(path)
    if not cell:
        print(f"{path.stem} has no parameters")
        return
    width = max(map(len, cell))
    for name, (type_, default, _) in cell.items():
        help_ = model.model_fields[name].description
        print(f"{name:<{width}}  {type_.__name__:<5}  {default!r:<12}  {help_} [{allowed_values(model, name)}]")


def _parsed(path, items):
    """{name: value} of the texts NAME=VALUE. Raises ValueError."""
    model, cell = notebook_parameters(path)
    values = {}
    for item in items:
        given, equals, text = item.partition("=")
        if not equals:
            raise ValueError(f"-p {item}: expected NAME=VALUE")
        name = model.present_name(given)
        if name not in cell:
            raise ValueError(f"{given} is not a parameter of {path.stem}; allowed: {', '.join(cell)}")
        values[name] = parse_value(name, text, cell[name][0])
    return values


def _failed(why, code):
    print(f"error: {why}", file=sys.stderr)
    return code
