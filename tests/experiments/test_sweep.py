"""A sweep runs each combination once, continues where it was, and retries what failed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from rich.console import Console

from effnet_utils.experiments.cli import main
from effnet_utils.experiments.sweep import _table, read_grid, run_sweep
from effnet_utils.experiments.workers import absolute_paths
from tests.faults.cluster import records, sweep_and_lose_a_node
from tools.notebooks import ROOT

PROGRAM = [sys.executable, "-m", "effnet_utils"]
PARAMETERS = 'rate: float = 0.1  # a rate\nseed: int = 0  # a seed\noutput_dir: str = ""  # where to'
BODY = """
import json, os, time
from pathlib import Path
folder = Path(output_dir)
tries = Path(output_dir).parent / f"tries-{rate}-{seed}"
tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
if rate == 0.3 or (rate == 0.2 and seed == 1 and len(tries.read_text()) == 1):
    raise RuntimeError(f"no luck with {rate}")
if rate == 0.5 and len(tries.read_text()) == 1:
    time.sleep(600)
cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
record = {"parameters": {"rate": rate, "seed": seed}, "results": {"test_accuracy": rate + seed / 10, "cores": cores}}
(folder / "record.json").write_text(json.dumps(record | {"seconds": {"train": 1.0}}))
"""


@pytest.fixture
def grid(tmp_path):
    """Writes a grid of a small notebook that needs no Keras."""
    cells = [nbformat.v4.new_code_cell(source) for source in (PARAMETERS, BODY)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "small.ipynb")

    def write(**keys):
        path = tmp_path / "grid.yaml"
        path.write_text(json.dumps({"notebook": str(tmp_path / "small.ipynb")} | keys))
        return path

    return write


def test_a_grid_is_every_combination_and_a_name_depends_on_its_parameters_alone(grid):
    _, runs = read_grid(grid(grid={"rate": [0.1, 0.2]}, seeds=[0, 1]))
    assert list(runs.values()) == [{"rate": rate, "seed": seed} for rate in (0.1, 0.2) for seed in (0, 1)]
    assert [name[:-7] for name in runs] == ["rate-0.1_seed-0", "rate-0.1_seed-1", "rate-0.2_seed-0", "rate-0.2_seed-1"]
    _, fewer = read_grid(grid(grid={"rate": [0.2]}, seeds=[1]))
    assert list(fewer) == list(runs)[-1:]
    _, seven = read_grid(grid(notebook="07", grid={"overrides": [{}, {"translate": 4}]}, parameters={"dataset": "toy"}))
    assert [run["overrides"] for run in seven.values()] == ["{}", '{"translate": 4}']


def test_values_are_read_by_the_type_of_their_parameter(grid):
    path = grid()
    path.write_text(f"notebook: {path.parent / 'small.ipynb'}\ngrid:\n  rate: [1e-3, 010, .5]\nseeds: [08, 010]\n")
    _, runs = read_grid(path)
    assert list(runs.values()) == [{"rate": rate, "seed": seed} for rate in (0.001, 10.0, 0.5) for seed in (8, 10)]
    path.write_text(
        "notebook: 07\ngrid: {learning_rate: [1e-3], overrides: [{translate: 4}]}\nparameters: {dataset: toy}\n"
    )
    notebook, runs = read_grid(path)
    assert notebook.name.startswith("07_")
    assert list(runs.values()) == [{"dataset": "toy", "learning_rate": 0.001, "overrides": '{"translate": 4}'}]


def test_what_looks_like_markup_is_printed_as_it_is(capsys):
    Console(width=200).print(_table(Path("nowhere"), {"overrides [/red]": []}, {}))
    assert "overrides [/red]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"grid": {"rate": 0.1}}, "rate is 0.1; expected a list of values"),
        ({"grid": {"rate": []}}, r"rate is \[\]; expected a list"),
        ({"seeds": 3}, "seed is 3; expected a list"),
        ({"grid": {"rat": [0.1]}}, "rat cannot be set; allowed: rate, seed"),
        ({"parameters": {"output_dir": "x"}}, "output_dir cannot be set"),
        ({"seeds": [-1]}, "seed is -1; allowed: a whole number of at least 0"),
        ({"rates": [1]}, "expected the keys notebook, parameters, grid, seeds"),
        ({"notebook": "99"}, "notebook '99' not found"),
    ],
)
def test_a_wrong_grid_is_named_before_anything_runs(grid, keys, message):
    with pytest.raises(ValueError, match=message):
        read_grid(grid(**keys))


def test_fewer_than_no_workers_are_refused(grid, tmp_path):
    with pytest.raises(ValueError, match="workers is -1; expected a number of runs"):
        run_sweep(grid(seeds=[0]), tmp_path / "out", workers=-1)


@pytest.mark.parametrize("content", [None, b"[1, 2]", b"\xff\xfe\x00", b"a: [", b""])
def test_a_file_that_is_no_grid_ends_the_command(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "grid.yaml").write_bytes(content)
    assert main(["sweep", str(tmp_path / "grid.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert "grid.yaml" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_it_runs_all_retries_what_failed_and_then_runs_only_what_is_missing(grid, tmp_path, capsys, monkeypatch):
    # As in a notebook, where the table is printed once.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    path, out = grid(grid={"rate": [0.1, 0.2, 0.3]}, seeds=[1]), tmp_path / "out"
    command = ["sweep", str(path), "--output-dir", str(out), "--workers", "2"]
    assert main(command) == 1
    printed = capsys.readouterr()
    assert "3 runs, 0 of them done before" in printed.out and "20.00%" in printed.out
    assert printed.out.count("accuracy") == 1 and "\x1b" not in printed.out
    lines = [line for line in printed.out.splitlines() if line.startswith("rate-")]
    assert sorted(line.split(": ")[1] for line in lines) == ["done", "done", "failed"]
    (failure,) = printed.err.splitlines()
    assert "failed twice: error: cell 3 of small.ipynb raised RuntimeError: no luck with 0.3 (" in failure
    tries = {path.name: len(path.read_text()) for path in out.glob("tries-*")}
    assert tries == {"tries-0.1-1": 1, "tries-0.2-1": 2, "tries-0.3-1": 2}
    records = [json.loads(path.read_text()) for path in out.glob("*/record.json")]
    assert len(records) == 2
    if hasattr(os, "sched_getaffinity"):
        everywhere = sorted(os.sched_getaffinity(0))
        parts = [everywhere[0::2], everywhere[1::2] or everywhere]
        assert all(record["results"]["cores"] in parts for record in records)

    grid(grid={"rate": [0.1]}, seeds=[1, 0])
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "2 runs, 1 of them done before" in printed.out and "10.00% to 20.00%" in printed.out
    assert (out / "tries-0.1-1").read_text() == "x"


def begin(grid, tmp_path, in_background=False):
    """(process, command's arguments, folder of the runs) of a sweep whose two runs have begun, and would last.

    Shells let programs in the background ignore SIGINT, and nohup SIGHUP: these tests may run so themselves.
    """

    def as_from_a_shell():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN if in_background else signal.SIG_DFL)

    path, out = grid(grid={"rate": [0.5]}, seeds=[0, 1]), tmp_path / "out"
    command = ["sweep", str(path), "--output-dir", str(out), "--workers", "2"]
    sweep = subprocess.Popen([*PROGRAM, *command], start_new_session=True, preexec_fn=as_from_a_shell)
    until = time.monotonic() + 300
    while len(list(out.glob("tries-*"))) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    return sweep, command, out


def assert_it_continues(command, out):
    # In a process of its own: the one that starts the runs keeps the TMPDIR of its first test.
    again = subprocess.run([*PROGRAM, *command], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "2 runs, 0 of them done before" in again.stdout
    assert len(list(out.glob("*/record.json"))) == 2 and (out / "tries-0.5-0").read_text() == "xx"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Windows has no process groups")
@pytest.mark.parametrize("name", ["killpg", "kill"], ids=["to all, as a terminal does", "to the sweep alone"])
def test_ctrl_c_ends_the_runs_too_and_the_same_command_continues(name, grid, tmp_path):
    sweep, command, out = begin(grid, tmp_path)
    getattr(os, name)(sweep.pid, signal.SIGINT)
    assert sweep.wait(timeout=60) == 130
    assert {log.read_text().splitlines()[-1] for log in out.glob("*/log.txt")} == {"interrupted"}
    assert_it_continues(command, out)


def processes_of(folder):
    """What runs with a command line or a working folder that names the folder; Linux only."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder) in (process / "cmdline").read_text():
                found.append(process.name)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="only Linux lists processes so")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "SIGHUP"])  # the last one: its terminal is closed
def test_a_killed_sweep_leaves_no_run_behind_and_the_same_command_continues(how, grid, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # the kernels' command lines name a file in there
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    sweep, command, out = begin(grid, tmp_path, in_background=True)
    assert len(processes_of(tmp_path)) >= 3, "the sweep and two kernels"
    sweep.send_signal(getattr(signal, how))
    sweep.wait(timeout=60)
    until = time.monotonic() + 60
    while processes_of(tmp_path) and time.monotonic() < until:
        time.sleep(0.1)
    assert processes_of(tmp_path) == []
    assert_it_continues(command, out)


@pytest.mark.slow
def test_on_a_cluster_that_loses_a_node_all_records_arrive_once(grid, tmp_path):
    path, out = grid(grid={"rate": [0.1, 0.4]}, seeds=[0, 2, 3]), tmp_path / "out"
    code, printed, there = sweep_and_lose_a_node(path, out, 1)
    assert code == 0, printed
    assert 1 <= there < 6 and "6 runs, 0 of them done before" in printed
    assert sorted((run["rate"], run["seed"]) for run in records(out)) == [(r, s) for r in (0.1, 0.4) for s in (0, 2, 3)]
    assert not list(out.rglob(".partial-*")) and len(list(out.glob("*/small.ipynb"))) == 6


def test_a_node_reads_the_data_where_the_machine_that_asks_has_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seven = ROOT / "notebooks" / "07_train_cifar10.ipynb"
    assert absolute_paths(seven, {"seed": 1}) == {"seed": 1, "data_dir": str(ROOT / "data")}
    assert absolute_paths(seven, {"data_dir": "/data"}) == {"data_dir": "/data"}
    nine = ROOT / "notebooks" / "09_look_inside.ipynb"
    expected = {"data_dir": str(ROOT / "data"), "model_path": str(ROOT / "runs" / "model.keras")}
    assert absolute_paths(nine, {"model_path": "runs/model.keras"}) == expected


def test_where_there_is_no_cluster_the_command_says_so(grid, tmp_path, capsys):
    command = ["sweep", str(grid(seeds=[0])), "--out", str(tmp_path / "out"), "--ray", "127.0.0.1:1"]
    assert main(command) == 2
    assert capsys.readouterr().err.startswith("error: no Ray cluster at '127.0.0.1:1'")
