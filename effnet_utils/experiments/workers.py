"""Where the runs of a sweep go: processes of this machine, or a Ray cluster.

Both have the same two methods: ``submit(notebook, values, folder)`` returns a future of the last line of the run's log,
and ``close()``. The record, when there is one, is in ``folder`` before the future is done.
"""

import multiprocessing
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from effnet_utils.experiments.run import declared, explain, run_notebook, working_folder
from effnet_utils.files import atomic_write, project_path

LOG = "log.txt"
TIME_TO_STOP = 60  # seconds that a run has to stop its kernel when the sweep was killed
TIME_TO_HEAR = 10  # seconds after which runs that did not end at Ctrl-C are told by their pipe
PATHS = ("data_dir", "image_dir", "model_path", "lite_path")  # parameters that name files which a run reads


class LocalWorkers:
    """Runs on this machine, each on its part of the cores or on its GPU.

    Args:
        count: int, runs at a time; 0 is one for each GPU, or one.
    """

    def __init__(self, count=0):
        gpus = _gpus()
        count = count or gpus or 1
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.parts = queue.SimpleQueue()
        for number in range(count):
            variables = {"CUDA_VISIBLE_DEVICES": str(number % gpus)} if gpus else {}
            self.parts.put((cores[number::count] or cores, variables))
        self.pool = ThreadPoolExecutor(count)
        self.futures = []
        self.pipes = []

    def submit(self, notebook, values, folder):
        self.futures.append(self.pool.submit(self._run, notebook, values, folder))
        return self.futures[-1]

    def _run(self, notebook, values, folder):
        cores, variables = self.parts.get()
        try:
            return run_in_process(notebook, values, folder, cores, variables, self.pipes)
        finally:
            self.parts.put((cores, variables))

    def close(self):
        """End the runs that still go on; Ctrl-C in a terminal reaches them, a signal to the sweep alone does not."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        wait(self.futures, TIME_TO_HEAR)
        for pipe in self.pipes:
            pipe.close()
        self.pool.shutdown()


class RayWorkers:
    """Runs on a Ray cluster; a run whose node is lost is started on another one.

    Args:
        address: of the cluster, such as "auto".

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address):
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
        self.ray = ray
        gpus = min(1, int(ray.cluster_resources().get("GPU", 0)))
        self.remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=-1)(_on_node)
        self.pool = ThreadPoolExecutor(64)

    def submit(self, notebook, values, folder):
        # The notebook travels along: all nodes run the same one.
        reference = self.remote.remote(notebook.name, notebook.read_bytes(), absolute_paths(notebook, values))
        return self.pool.submit(self._collect, reference, folder)

    def _collect(self, reference, folder):
        line, files = self.ray.get(reference)
        folder.mkdir(exist_ok=True)
        # The record last: where it is, everything is.
        for name in sorted(files, key=lambda name: name == "record.json"):
            with atomic_write(folder / name) as file:
                file.write(files[name])
        return line

    def close(self):
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.ray.shutdown()


def absolute_paths(notebook, values):
    """A run's values with its paths made absolute, for a run in another folder: each node has the files at that path.

    Args:
        notebook: Path.
        values: dict of its parameters.
    """
    all_values = {name: default for name, (_, default, _) in declared(notebook).items()} | values
    named = [name for name in PATHS if all_values.get(name)]
    return values | {name: str(project_path(all_values[name], working_folder(notebook))) for name in named}


def _on_node(name, content, values):
    """On a node of the cluster: (last line of the log, {file name: content} of what the run left)."""
    with tempfile.TemporaryDirectory() as place:
        notebook = Path(place, name)
        notebook.write_bytes(content)
        folder = Path(place, "run")
        line = run_in_process(notebook, values, folder)
        files = {}
        for path in folder.iterdir():
            if path.is_file() and not path.name.startswith((".", "checkpoint-")):
                files[path.name] = path.read_bytes()
        return line, files


def run_in_process(notebook, values, folder, cores=(), variables=None, pipes=None):
    """One run in a process of its own; returns the last line of its log.

    Args:
        notebook: Path.
        values: dict of its parameters; ``resume`` is set where the notebook has it.
        folder: Path for its files and log.txt, made when it is not there.
        cores: numbers of the cores that it may use; empty is all.
        variables: dict of environment variables, in addition.
        pipes: list that gets the connection which the run has to this process; closing it ends the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Forked from a process that has imported what the runner needs, so that a run does not wait for that.
    context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
    context.set_forkserver_preload(["papermill", "effnet_utils.experiments.parameters"])
    # The run reads from this pipe, and finds it closed when this process ends, by whatever cause.
    parent, held_open = context.Pipe(duplex=False)
    if pipes is not None:
        pipes.append(held_open)
    process = context.Process(target=_child, args=(notebook, values, folder, cores, variables or {}, parent))
    process.start()
    process.join()
    held_open.close()
    lines = (folder / LOG).read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"the runner ended with {process.exitcode} and printed nothing"


def _child(notebook, values, folder, cores, variables, parent):
    # Not SIGINT: a shell that starts a sweep in the background has it ignored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    if cores:
        os.sched_setaffinity(0, cores)
    os.environ.update(variables)
    if "resume" in declared(notebook):
        values = {**values, "resume": True}
    try:
        run_notebook(notebook, values, folder)
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except Exception as error:
        why = explain(error, notebook)
        if why is None:
            raise
        sys.exit(f"error: {why}")


def _end_with(parent):
    """Interrupt this process, as Ctrl-C does, when the one at the other end of the pipe is gone."""
    try:
        parent.recv()
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(TIME_TO_STOP)
        os._exit(1)


def _gpus():
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        return 0
    return listed.count("GPU ")
