"""Many runs of a notebook, several at a time, each a process of its own: ``python -m effnet_utils sweep grid.yaml``."""

import hashlib
import itertools
import json
import os
import re
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path

from effnet_utils.experiments.parameters import parse_value
from effnet_utils.experiments.records import RunFolder
from effnet_utils.experiments.run import check, find_notebook, notebook_parameters
from effnet_utils.experiments.workers import LOG, LocalWorkers, RayWorkers

KEYS = ("notebook", "parameters", "grid", "seeds")


def read_grid(path):
    """The runs that a grid file asks for.

    Args:
        path: of a YAML file with the keys ``grid`` (parameter: list of values; all combinations are run), ``seeds``
            (list), ``parameters`` (of every run) and ``notebook`` ("07"); each may be missing.

    Returns:
        Path of the notebook, dict {name: parameters}; a name depends on nothing but the run's parameters.

    Raises:
        ValueError: no such file, not of this form, or a run's parameters are not what the notebook takes.
    """
    axes, fixed, notebook = _parts(path)
    return notebook, _runs(path, axes, fixed, notebook)


def _runs(path, axes, fixed, notebook):
    """{folder: values} of a grid's runs, checked."""
    model, cell = notebook_parameters(notebook)
    types = {name: type_ for name, (type_, _, _) in cell.items()}
    allowed = [name for name in cell if name not in ("output_dir", "resume")]
    unknown = [name for name in [*fixed, *axes] if model.present_name(name) not in allowed]
    if unknown:
        raise ValueError(f"{path}: {', '.join(unknown)} cannot be set; allowed: {', '.join(allowed)}")
    runs = {}
    for values in itertools.product(*axes.values()):
        run = {**fixed, **dict(zip(axes, values, strict=True))}
        run = {name: _value(name, value, types[model.present_name(name)]) for name, value in run.items()}
        check(model, cell, run)
        runs[_run_name(notebook, axes, run)] = run
    return runs


def _value(name, value, type_):
    """A parameter's value in a grid: text is read by the parameter's type, an object stands for its JSON text."""
    if isinstance(value, dict):
        return json.dumps(value)
    return parse_value(name, value, type_) if isinstance(value, str) and type_ is not str else value


def _as_written(typed, written):
    """What YAML holds, with each plain value as its text: by YAML's own rules 1e-3 is text, and 010 is eight."""
    if isinstance(typed, list):
        return [_as_written(one, text) for one, text in zip(typed, written, strict=True)]
    return typed if isinstance(typed, dict) else written


def _parts(path):
    """({parameter: list of values}, {parameter: value}, Path of the notebook) of a grid file; values are texts."""
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
        given, written = yaml.safe_load(text), yaml.load(text, yaml.BaseLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(given, dict) or not set(given) <= set(KEYS):
        raise ValueError(f"{path} holds {given!r:.200}; expected the keys {', '.join(KEYS)}")
    axes = given.get("grid") or {}
    fixed = given.get("parameters") or {}
    if not isinstance(axes, dict) or not isinstance(fixed, dict):
        raise ValueError(f"{path}: grid is {axes!r:.100} and parameters {fixed!r:.100}; expected names with values")
    texts = written.get("grid") or {}
    if "seeds" in given:
        axes = {**axes, "seed": given["seeds"]}
        texts = {**texts, "seed": written["seeds"]}
    for name, values in axes.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"{path}: {name} is {values!r}; expected a list of values")
    axes = {name: _as_written(values, texts[str(name)]) for name, values in axes.items()}
    fixed = {name: _as_written(value, written["parameters"][str(name)]) for name, value in fixed.items()}
    return axes, fixed, find_notebook(written.get("notebook", "07"))


def _run_name(notebook, axes, run):
    varied = "_".join(f"{name}-{run[name]}" for name in axes)
    readable = re.sub(r"[^\w.-]+", "", varied)[:80]
    digest = hashlib.sha256(json.dumps([notebook.stem, run], sort_keys=True).encode()).hexdigest()[:6]
    return f"{readable}_{digest}" if readable else digest


def run_sweep(grid, output_dir, workers=0, ray=""):
    """Run all of a grid that has no record yet. A run that failed is tried once more, after the others.

    A terminal shows a table that grows; elsewhere a line is printed for each run, and the table at the end.

    Args:
        grid: path of the grid file, as in ``read_grid``.
        output_dir: folder for the runs' folders; given again, the runs that are done are skipped.
        workers: int, runs at a time; 0 is one for each GPU, or one. Each has its own part of the cores, or its GPU.
        ray: address of a Ray cluster to run on, such as "auto"; ``workers`` has no meaning then.

    Returns:
        dict {name: last line of its log, and the log's path} of the runs that failed twice.

    Raises:
        ValueError: as ``read_grid``; ``output_dir`` is in use or cannot be written to; there is no such cluster.
    """
    from rich.console import Console
    from rich.live import Live

    if workers < 0:
        raise ValueError(f"workers is {workers}; expected a number of runs at a time, or 0 for one on each GPU")
    axes, fixed, notebook = _parts(grid)
    runs = _runs(grid, axes, fixed, notebook)
    groups = _without_seeds(axes, runs)
    with RunFolder(output_dir, "sweep") as folder:
        out = folder.path
        waiting = {name: (notebook, values) for name, values in runs.items() if read_run(out / name) is None}
        print(f"{len(runs)} runs, {len(runs) - len(waiting)} of them done before", flush=True)
        failed = {}
        # A notebook cannot redraw a table, although ipykernel says by FORCE_COLOR that it is a terminal.
        console = Console(force_terminal=False if "JPY_PARENT_PID" in os.environ else None)
        with Live(_table(out, groups, failed), console=console, refresh_per_second=1) as live:
            for name, record, line in run_many(waiting, out, workers, ray):
                if record is None:
                    failed[name] = f"{line} ({out / name / LOG})"
                if not console.is_terminal:
                    print(f"{name}: {'failed' if record is None else 'done'}", flush=True)
                live.update(_table(out, groups, failed))
    return failed


def run_many(runs, output_dir, workers=0, ray=""):
    """Run notebooks, several at a time. A run that leaves no record is tried once more, after the others.

    Args:
        runs: dict {name: (Path of the notebook, parameters)}.
        output_dir: Path for the runs' folders, one for each name.
        workers, ray: as in ``run_sweep``.

    Yields:
        (name, its record or None, last line of its log), as each is done.
    """
    pool = RayWorkers(ray) if ray else LocalWorkers(workers)
    tried = set()
    try:
        running = {pool.submit(*runs[name], output_dir / name): name for name in runs}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name = running.pop(future)
                record = read_run(output_dir / name)
                if record is None and name not in tried:
                    tried.add(name)
                    running[pool.submit(*runs[name], output_dir / name)] = name
                else:
                    yield name, record, str(future.exception() or future.result())
    finally:
        pool.close()


def read_run(folder):
    """The record that a run left in its folder, or None."""
    path = folder / "record.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _table(out, groups, failed):
    """Of each group of runs that ``_without_seeds`` found: runs done, seconds of training, accuracy and its range."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("run", "done", "failed", "training (s)", "accuracy", "lowest to highest")
    for title, names in groups.items():
        records = [record for name in names if (record := read_run(out / name))]
        seconds = [_seconds(record) for record in records if record.get("seconds")]
        accuracies = [_accuracy(record) for record in records]
        accuracies = [accuracy for accuracy in accuracies if accuracy is not None]
        mean = f"{sum(accuracies) / len(accuracies):.2%}" if accuracies else ""
        spread = f"{min(accuracies):.2%} to {max(accuracies):.2%}" if len(accuracies) > 1 else ""
        time = f"{sum(seconds) / len(seconds):.0f}" if seconds else ""
        bad = sum(name in failed for name in names)
        table.add_row(escape(title), f"{len(records)} of {len(names)}", str(bad or ""), time, mean, spread)
    return table


def _without_seeds(axes, runs):
    """{title: names of the runs that differ in nothing but the seed}."""
    groups = {}
    for name, run in runs.items():
        title = ", ".join(f"{axis} {run[axis]}" for axis in axes if axis != "seed")
        groups.setdefault(title or "all", []).append(name)
    return groups


def _seconds(record):
    seconds = record["seconds"]
    return seconds.get("train", sum(seconds.values()))


def _accuracy(record):
    results = record.get("results", {})
    return results.get("test_accuracy", results.get("validation_accuracy"))
