"""Many runs of a notebook, several at a time, each a process of its own: ``python -m effnet_utils sweep grid.yaml``."""

import hashlib
import itertools
import json
import multiprocessing
import os
import queue
import re
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from effnet_utils.data import project_path
from effnet_utils.records import open_output_dir, whole_file
from effnet_utils.run import find_notebook, main, notebook_parameters
from effnet_utils.train import check_parameters

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

    Copy with: this whole module.
    """
    import yaml

    try:
        given = yaml.safe_load(Path(path).read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(given, dict) or not set(given) <= set(KEYS):
        raise ValueError(f"{path} holds {given!r:.200}; expected the keys {', '.join(KEYS)}")
    axes, fixed = given.get("grid") or {}, given.get("parameters") or {}
    if not isinstance(axes, dict) or not isinstance(fixed, dict):
        raise ValueError(f"{path}: grid is {axes!r:.100} and parameters {fixed!r:.100}; expected names with values")
    if "seeds" in given:
        axes = {**axes, "seed": given["seeds"]}
    for name, values in axes.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"{path}: {name} is {values!r}; expected a list of values")
    notebook = find_notebook(str(given.get("notebook", "07")))
    known = notebook_parameters(notebook)
    defaults = {name: row["default"] for name, row in known.items()}
    runs = {}
    for values in itertools.product(*axes.values()):
        run = {**fixed, **dict(zip(axes, values, strict=True))}
        unknown = [name for name in run if name not in known or name in ("output_dir", "resume")]
        if unknown:
            raise ValueError(f"{path}: {', '.join(unknown)} cannot be set; allowed: {', '.join(known)}")
        run = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in run.items()}
        check_parameters(defaults | run)
        text = "_".join(f"{name}-{run[name]}" for name in axes)
        digest = hashlib.sha256(json.dumps([notebook.stem, run], sort_keys=True).encode()).hexdigest()
        runs["_".join(filter(None, (re.sub(r"[^\w.-]+", "", text)[:80], digest[:6])))] = run
    return notebook, runs


def run_sweep(grid, out, workers=0, ray=""):
    """Run all of a grid that has no record yet. A run that failed is tried once more, after the others.

    Args:
        grid: path of the grid file, as in ``read_grid``.
        out: folder for the runs' folders; given again, the runs that are done are passed over.
        workers: int, runs at a time; 0 is one for each GPU, or one. Each has its own share of the cores, or its GPU.
        ray: address of a Ray cluster to run on, such as "auto"; ``workers`` has no meaning then.

    Returns:
        dict {name: last line of its log} of the runs that failed twice.

    Raises:
        ValueError: as ``read_grid``; ``out`` is in use or cannot be written to.
    """
    from rich.live import Live

    notebook, runs = read_grid(grid)
    out = open_output_dir(out, "sweep")
    waiting = [name for name in runs if _record(out / name) is None]
    print(f"{len(runs)} runs, {len(runs) - len(waiting)} of them done before", flush=True)
    tries, failed = dict.fromkeys(waiting, 0), {}
    submit, close = _on_ray(ray, out) if ray else _here(workers, out)
    running = {submit(name, notebook, runs[name]): name for name in waiting}
    try:
        with Live(_table(out, runs, failed), refresh_per_second=1) as live:
            while running:
                for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    tries[name] += 1
                    why = future.exception() or future.result()
                    if _record(out / name) is None and tries[name] == 1:
                        running[submit(name, notebook, runs[name])] = name
                    elif _record(out / name) is None:
                        failed[name] = str(why)
                    live.update(_table(out, runs, failed))
    finally:
        close()
    return failed


def _record(folder):
    path = folder / "record.json"
    return json.loads(path.read_text()) if path.is_file() else None


def _table(out, runs, failed):
    """Of each combination but for the seed: runs done, seconds of training, accuracy and its spread."""
    from rich.table import Table

    table = Table("run", "done", "failed", "training (s)", "accuracy", "lowest to highest")
    values = {parameter: {run[parameter] for run in runs.values()} for parameter in next(iter(runs.values()))}
    varied = [parameter for parameter, found in values.items() if len(found) > 1 and parameter != "seed"]
    groups = {}
    for name, run in runs.items():
        key = ", ".join(f"{parameter} {run[parameter]}" for parameter in varied)
        groups.setdefault(key or "all", []).append(name)
    for key, names in groups.items():
        found = [record for name in names if (record := _record(out / name))]
        seconds = [record["seconds"].get("train", sum(record["seconds"].values())) for record in found]
        kinds = ("test_accuracy", "validation_accuracy")
        reached = [r["results"][kind] for r in found for kind in kinds if kind in r["results"]]
        mean = f"{sum(reached) / len(reached):.2%}" if reached else ""
        spread = f"{min(reached):.2%} to {max(reached):.2%}" if len(reached) > 1 else ""
        time = f"{sum(seconds) / len(seconds):.0f}" if seconds else ""
        bad = sum(name in failed for name in names)
        table.add_row(key, f"{len(found)} of {len(names)}", str(bad or ""), time, mean, spread)
    return table


def _unit(notebook, values, folder, cores=(), variables=None):
    """One run in a process of its own; returns the last line of its log."""
    folder.mkdir(parents=True, exist_ok=True)
    # Forked from a process that has imported what the runner needs, so that a run does not wait for that.
    kind = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
    kind.set_forkserver_preload(["papermill", "effnet_utils.train"])
    process = kind.Process(target=_child, args=(str(notebook), values, folder, cores, variables or {}))
    process.start()
    process.join()
    lines = (folder / "log.txt").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"the runner ended with {process.exitcode} and printed nothing"


def _child(notebook, values, folder, cores, variables):
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    if cores:
        os.sched_setaffinity(0, cores)
    os.environ.update(variables)
    if "resume" in notebook_parameters(notebook):
        values = {**values, "resume": True}
    command = ["run", notebook, "-o", str(folder)]
    for name, value in values.items():
        command += ["-p", f"{name}={value}"]
    sys.exit(main(command))


def _gpus():
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        return 0
    return listed.count("GPU ")


def _here(workers, out):
    """(submit, close) for runs on this machine, each on its share of the cores or on its GPU."""
    gpus = _gpus()
    workers = workers or gpus or 1
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    shares = queue.SimpleQueue()
    for k in range(workers):
        shares.put((cores[k::workers] or cores, {"CUDA_VISIBLE_DEVICES": str(k % gpus)} if gpus else {}))

    def unit(name, notebook, values):
        share = shares.get()
        try:
            return _unit(notebook, values, out / name, *share)
        finally:
            shares.put(share)

    pool = ThreadPoolExecutor(workers)
    return (lambda *run: pool.submit(unit, *run)), (lambda: pool.shutdown(cancel_futures=True))


def _on_ray(address, out):
    """(submit, close) for runs on a Ray cluster; a run whose node is lost is started on another one."""
    try:
        import ray
    except ImportError:
        raise ValueError('--ray needs Ray, here and on each node: pip install "effnet-utils[scale]"') from None

    host, _, port = address.rpartition("//")[2].rpartition(":")
    try:
        if port.isdigit():
            # Ray itself would look for it for minutes.
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"no Ray cluster at {address!r}: {error}; `ray start --head` begins one") from error
    gpus = min(1, int(ray.cluster_resources().get("GPU", 0)))

    @ray.remote(num_cpus=1, num_gpus=gpus, max_retries=-1)
    def unit(name, content, values):
        with tempfile.TemporaryDirectory() as place:
            notebook, folder = Path(place, name), Path(place, "run")
            notebook.write_bytes(content)
            line = _unit(notebook, values, folder)
            paths = [path for path in folder.iterdir() if not path.name.startswith((".", "checkpoint-"))]
            return line, {path.name: path.read_bytes() for path in paths if path.is_file()}

    def collect(name, reference):
        line, files = ray.get(reference)
        (out / name).mkdir(exist_ok=True)
        # The record comes last: where it is, all is.
        for file in sorted(files, key=lambda file: file == "record.json"):
            with whole_file(out / name / file) as target:
                target.write(files[file])
        return line

    pool = ThreadPoolExecutor(64)

    def submit(name, notebook, values):
        # The notebook travels along: all nodes run the same one.
        return pool.submit(collect, name, unit.remote(notebook.name, notebook.read_bytes(), values))

    def close():
        pool.shutdown(wait=False, cancel_futures=True)
        ray.shutdown()

    return submit, close


def report(grid, out, workers, ray):
    """The command: 0 all runs are done, 1 some failed (named, with the ends of their logs), 130 interrupted."""
    try:
        failed = run_sweep(grid, out, workers, ray)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the runs that have no record", file=sys.stderr)
        return 130
    for name, line in failed.items():
        print(f"error: {name} failed twice: {line} ({project_path(out) / name / 'log.txt'})", file=sys.stderr)
    return 1 if failed else 0
