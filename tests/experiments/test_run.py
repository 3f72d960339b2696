"""The strict runner: what it refuses before a kernel starts, and what it writes."""

import json
import logging
import os
import signal
import subprocess
import sys

import nbformat
import papermill
import pytest

from effnet_utils import run_notebook
from effnet_utils.experiments.cli import main
from effnet_utils.experiments.parameters import parse_value
from effnet_utils.experiments.run import declared, find_notebook
from effnet_utils.files import PARTIAL


@pytest.fixture(autouse=True)
def no_kernel_unless_wanted(request, monkeypatch):
    """A kernel that starts for a wrong request fails the test."""
    if "kernel" not in request.fixturenames:
        monkeypatch.setattr(papermill, "execute_notebook", lambda *a, **k: pytest.fail("a kernel was started"))


@pytest.fixture
def kernel():
    """For tests that mean to start one."""


def make_notebook(path, parameters, *sources):
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    kernelspec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernelspec), path)
    return path


@pytest.fixture
def small(tmp_path):
    return make_notebook(
        tmp_path / "small.ipynb",
        'steps: int = 3  # how many\nfast: bool = True  # skip the slow part\noutput_dir: str = ""  # results',
        "import pathlib\npathlib.Path(output_dir, 'seen.txt').write_text(repr((steps, fast)))",
        "print('steps are', steps)",
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["epoch=2"], "epoch is not a parameter of 07_train_cifar10; allowed: dataset"),
        (["epochs=two"], "epochs is 'two'; allowed: a whole number"),
        (["epochs=1.5"], "epochs is '1.5'; allowed: a whole number"),
        (["epochs=0"], "epochs is 0; allowed: a whole number of at least 1"),
        (["learning_rate=nan"], "learning_rate is nan; allowed: a number of at least"),
        (["dataset=toy", "batch_size=6000"], "batch_size is 6000; allowed: at most 5000"),
        (["train_limit=100", "batch_size=101"], "batch_size is 101; allowed: at most 100"),
        (['overrides={"droput": 1}'], "overrides: there is no 'droput'"),
        (["output_dir=x"], "output_dir is set by the runner's own argument (-o)"),
        (["resume=true"], "resume is True, which needs the folder of the run to continue"),
        (["epochs"], "-p epochs: expected NAME=VALUE"),
    ],
)
def test_wrong_parameters_end_with_2_and_one_line(given, message, capsys):
    """Everything else that is refused: test_parameters.py and training/test_recipe.py."""
    arguments = ["run", "07"]
    for item in given:
        arguments += ["-p", item]
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}") and printed.count("\n") == 1


def test_unknown_notebook(capsys):
    assert main(["run", "99"]) == 2
    assert "'99' not found" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_with_a_record_is_refused_and_force_replaces_it(small, tmp_path, kernel, capsys):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "record.json").write_text("{}")
    assert main(["run", str(small), "-o", str(folder)]) == 2
    assert "already holds a record" in capsys.readouterr().err
    assert (folder / "record.json").read_text() == "{}"
    assert main(["run", str(small), "-o", str(folder), "--force"]) == 0
    assert not (folder / "record.json").exists() and (folder / "small.ipynb").exists()


def test_force_does_not_cost_a_record_when_a_parameter_is_wrong(tmp_path):
    (tmp_path / "record.json").write_text("{}")
    assert main(["run", "07", "-p", "epochs=0", "-o", str(tmp_path), "--force"]) == 2
    assert (tmp_path / "record.json").exists()


@pytest.mark.slow
def test_values_reach_the_notebook_with_their_types(small, tmp_path, kernel, capfd):
    assert main(["run", str(small), "-p", "steps=5", "-p", "fast=false", "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "seen.txt").read_text() == "(5, False)"
    printed = capfd.readouterr().out
    assert "steps are 5" in printed and str(tmp_path / "out") in printed


@pytest.mark.slow
def test_the_kernel_is_this_python_in_a_short_folder(tmp_path, kernel, monkeypatch):
    """Whatever kernel is registered as python3, and however long the path of temporary files is."""
    spec = tmp_path / "share" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["false"], "display_name": "Another", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    source = "import sys\nfrom pathlib import Path\nPath(output_dir, 'python.txt').write_text(sys.executable)"
    notebook = make_notebook(tmp_path / "which.ipynb", 'output_dir: str = ""  # where to', source)
    target = run_notebook(notebook, {}, tmp_path / "out")
    assert (target.parent / "python.txt").read_text() == sys.executable


@pytest.mark.slow
def test_run_notebook_returns_the_executed_copy(small, tmp_path, kernel):
    path = run_notebook(small, {"steps": 7}, tmp_path / "out")
    assert path == tmp_path / "out" / "small.ipynb"
    assert "steps are 7" in json.dumps(nbformat.read(path, 4))


@pytest.mark.slow
@pytest.mark.parametrize("trials", [False, True])
@pytest.mark.parametrize("tag", ["trial", "exercise"])
def test_trials_are_left_out(tag, trials, tmp_path, kernel):
    path = make_notebook(tmp_path / "small.ipynb", 'output_dir: str = ""  # results', "print(1)", "print(2)")
    notebook = nbformat.read(path, 4)
    notebook.cells[1].metadata["tags"] = [tag]
    nbformat.write(notebook, path)
    copy = nbformat.read(run_notebook(path, {}, tmp_path / "out", trials=trials), 4)
    assert ("print(1)" in [cell.source for cell in copy.cells]) == trials
    assert copy.cells[-1].outputs[0].text == "2\n"


@pytest.mark.slow
def test_a_failing_notebook_ends_with_1_and_leaves_the_copy(tmp_path, kernel, capsys):
    broken = make_notebook(tmp_path / "broken.ipynb", 'output_dir: str = ""  # results', "1 / 0")
    assert main(["run", str(broken), "-o", str(tmp_path / "out")]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert (tmp_path / "out" / "broken.ipynb").exists()


@pytest.mark.slow
def test_time_limit(tmp_path, kernel, capsys):
    slow = make_notebook(tmp_path / "slow.ipynb", 'output_dir: str = ""  # results', "import time; time.sleep(60)")
    assert main(["run", str(slow), "-o", str(tmp_path / "out"), "--time-limit", "2"]) == 1
    assert "longer than 2 s" in capsys.readouterr().err


@pytest.mark.slow
def test_a_kernel_that_dies(tmp_path, kernel, capsys):
    body = "import os, signal\nos.write(2, b'last words')\n"
    body += "os.kill(os.getpid(), getattr(signal, 'SIGKILL', signal.SIGTERM))"
    dead = make_notebook(tmp_path / "dead.ipynb", 'output_dir: str = ""  # results', body)
    assert main(["run", str(dead), "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("error: the kernel of dead.ipynb died")
    if sys.platform == "linux":
        assert "last words" in said


@pytest.mark.slow
def test_a_run_says_nothing_of_the_libraries_start(tmp_path):
    body = "import keras\nprint(keras.ops.ones(2).shape)"
    notebook = make_notebook(tmp_path / "quiet.ipynb", 'output_dir: str = ""  # results', body)
    command = [sys.executable, "-m", "effnet_utils", "run", str(notebook), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines() == ["(2,)", f"executed notebook and results: {tmp_path / 'out'}"]


def test_what_a_library_says_before_it_aborts_is_not_lost():
    body = """
import os
from effnet_utils.__main__ import without_start_up_lines
with without_start_up_lines():
    os.write(2, b"I0000 00:00:1 port.cc:153] oneDNN custom operations are on.\\nno AVX here\\n")
    os.abort()
"""
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True)
    assert done.returncode and done.stderr.startswith("no AVX here\n")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_disk_that_is_full(tmp_path, kernel, capsys):
    """A write that fails in the middle leaves no record and no half of one; the run can be made again."""
    body = """
import os, resource
from pathlib import Path
from effnet_utils.files import atomic_write
if not Path(output_dir, "again").exists():
    Path(output_dir, "again").touch()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))
with atomic_write(Path(output_dir, "record.json")) as file:
    file.write(b"x" * 200_000)
"""
    notebook = make_notebook(tmp_path / "full.ipynb", 'output_dir: str = ""  # results', body)
    command = ["run", str(notebook), "-o", str(tmp_path / "out")]
    assert main(command) == 1
    assert "error: cell 3 of full.ipynb raised OSError: [Errno 27]" in capsys.readouterr().err.splitlines()[-1]
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert "record.json" not in left and not [name for name in left if name.startswith(PARTIAL)]
    assert main(command) == 0 and (tmp_path / "out" / "record.json").stat().st_size == 200_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_an_interrupted_run_ends_with_130_and_takes_its_kernel_along(tmp_path, kernel):
    body = "import os, time; print('kernel', os.getpid(), flush=True); time.sleep(300)"
    slow = make_notebook(tmp_path / "slow.ipynb", 'output_dir: str = ""  # results', body)
    command = [sys.executable, "-m", "effnet_utils", "run", str(slow), "-o", str(tmp_path / "out")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Whatever starts the tests in the background of a script has them ignore Ctrl-C, and all that they start with them.
    with subprocess.Popen(command, **pipes, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as runner:
        pid = int(next(line for line in runner.stdout if line.startswith("kernel")).split()[1])
        runner.send_signal(signal.SIGINT)
        _, errors = runner.communicate(timeout=60)
    assert runner.returncode == 130 and errors.splitlines()[-1] == "interrupted"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_list_prints_every_parameter_with_type_default_help_and_range(capsys):
    assert main(["run", "07", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(declared(find_notebook("07")))
    epochs = next(line for line in lines if line.startswith("epochs"))
    for part in ("int", "10", "passes over the training images", "[a whole number of at least 1]"):
        assert part in epochs


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [("false", bool, False), ("True", bool, True), ("05", int, 5), ("1e-3", float, 0.001), ("007", str, "007")],
)
def test_parse_value(text, type_, value):
    parsed = parse_value("x", text, type_)
    assert parsed == value and type(parsed) is type_


def test_list_of_a_notebook_without_parameters(tmp_path, capsys):
    path = make_notebook(tmp_path / "none.ipynb", "", "print(1)")
    assert main(["run", str(path), "--list"]) == 0
    assert capsys.readouterr().out == "none has no parameters\n"


def test_a_package_that_is_missing_is_named(monkeypatch, capsys, small):
    monkeypatch.setitem(sys.modules, "papermill", None)
    assert main(["run", str(small), "-p", "steps=2"]) == 2
    assert capsys.readouterr().err.startswith("error: the package papermill is not installed; install what")


@pytest.mark.slow
def test_what_cannot_be_printed_is_escaped():
    command = [sys.executable, "-m", "effnet_utils", "run", "07", "-p", "\N{RIGHTWARDS ARROW}=1"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "error: \\u2192 is not a parameter of 07" in done.stderr


@pytest.mark.parametrize(("text", "type_"), [("yes", bool), ("1", bool), ("1.0", int), ("a", float)])
def test_parse_value_refuses(text, type_):
    with pytest.raises(ValueError, match="x is"):
        parse_value("x", text, type_)


def test_old_spellings_are_understood(monkeypatch):
    seen = {}
    monkeypatch.setattr(papermill, "execute_notebook", lambda *args, **options: seen.update(options["parameters"]))
    assert main(["run", "07", "-p", "train_limit=128", "-p", "evaluate_on=validation"]) == 0
    assert seen.pop("output_dir") and seen == {"max_train_samples": 128, "eval_split": "validation"}


def test_a_parameter_that_the_cell_does_not_show_is_no_alarm(monkeypatch, caplog, tmp_path):
    def execute(*args, parameters, **options):
        logger = logging.getLogger("papermill")
        for name in parameters:
            logger.warning("Passed unknown parameter: %s", name)
        logger.warning("something else")

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    assert main(["run", "07", "-p", "seed=1", "-o", str(tmp_path / "out")]) == 0
    assert caplog.messages == ["something else"]
    assert not logging.getLogger("papermill").filters


@pytest.mark.slow
def test_what_starts_runs_does_not_wait_for_keras():
    """A run has a process of its own, the kernel, which imports it."""
    overrides = '{"translate": 4}'
    code = (
        "import sys; from effnet_utils.experiments import cli, sweep, run; "
        "from effnet_utils.experiments.parameters import TrainParameters; "
        f"TrainParameters.read({{'overrides': {overrides!r}}}); "
        "print({'keras', 'tensorflow'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.slow
def test_the_module_is_a_command():
    done = subprocess.run([sys.executable, "-m", "effnet_utils", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "run, sweep or copy" in done.stdout
