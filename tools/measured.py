"""Which records were measured before the code behind them changed.

    python -m tools.measured

writes their names into records/measured_before.txt; tables mark them. `make lint` compares the file with the history,
and refuses records of code that was not committed. Code has changed when its syntax tree has, docstrings aside; a file
that did not exist under its name counts as changed.
"""

import ast
import json
import subprocess
import sys
from functools import cache

from tools.notebooks import ROOT

RECORDS = ROOT / "records"
LIST = RECORDS / "measured_before.txt"
NETWORK = ("effnet_utils/blocks.py", "effnet_utils/scaling.py", "effnet_utils/model.py")
TRAINING = (
    *NETWORK,
    *(
        f"effnet_utils/training/{name}.py"
        for name in ("augment", "muon", "recipe", "schedules", "trainer", "_fast_cpu")
    ),
)
FINE_TUNING = (*NETWORK, "benchmarks/_finetune.py", "effnet_utils/transfer.py", "effnet_utils/pretrained.py")
THROUGHPUT = (*TRAINING, "benchmarks/_throughput.py", "benchmarks/_throughput_worker.py")
# By the beginning of a record's name.
CODE = {
    "ablation_": TRAINING,
    "cifar10": TRAINING,
    "deploy_": (*NETWORK, "effnet_utils/deploy.py"),
    "few_": (*NETWORK, "effnet_utils/transfer.py", "effnet_utils/pretrained.py"),
    "finetune_": FINE_TUNING,
    "gpu_": TRAINING,
    "inside_": (*NETWORK, "effnet_utils/inspection.py"),
    "pilot_": TRAINING,
    "screen_": (*FINE_TUNING, "benchmarks/screen.py"),
    "toy_": TRAINING,
    "transfer_": (*NETWORK, "effnet_utils/transfer.py", "effnet_utils/pretrained.py"),
    "benchmarks/batches": (*TRAINING, "benchmarks/batches.py"),
    "benchmarks/cold_start": (*TRAINING, "benchmarks/cold_start.py"),
    "benchmarks/cost": (*TRAINING, "benchmarks/cost.py"),
    "benchmarks/exact_pixels": (*NETWORK, "benchmarks/exact_pixels.py"),
    "benchmarks/faults": (*TRAINING, "effnet_utils/training/checkpoints.py", "effnet_utils/experiments/run.py"),
    "benchmarks/gpu_check": (*NETWORK, "benchmarks/gpu_check.py"),
    "benchmarks/latency": (*NETWORK, "effnet_utils/deploy.py", "benchmarks/latency.py"),
    "benchmarks/notebooks": NETWORK,
    "benchmarks/profile": (*THROUGHPUT, "benchmarks/gpu_profile.py"),
    "benchmarks/proof": (*NETWORK, "effnet_utils/parity.py", "tools/proof.py"),
    "benchmarks/sweep": (*TRAINING, "effnet_utils/experiments/sweep.py", "benchmarks/sweep.py"),
    "benchmarks/throughput": (*THROUGHPUT, "benchmarks/throughput.py"),
    "benchmarks/web_runtimes": (),  # sizes of other people's files
}


def listed():
    """The names in records/measured_before.txt."""
    return LIST.read_text(encoding="utf-8").split() if LIST.exists() else []


def code_behind(name):
    """The files whose code made a record. Raises KeyError for a kind of record that CODE does not have."""
    for beginning, files in CODE.items():
        if name.startswith(beginning):
            return files
    raise KeyError(f"{name}: no files are named for this kind of record in CODE of tools/measured.py")


def without_docstrings(source):
    """A comparable form of a source text."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def at(commit, file):
    """A file's text at a commit; None when there was none."""
    done = subprocess.run(["git", "-C", ROOT, "show", f"{commit}:{file}"], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


@cache
def changed(commit, file):
    """Whether a file's code differs from what it was at a commit."""
    then = at(commit, file)
    now = (ROOT / file).read_text(encoding="utf-8")
    return then is None or (then != now and without_docstrings(then) != without_docstrings(now))


@cache
def known(commit):
    """Whether the history here has a commit; that of a shallow clone ends early."""
    command = ["git", "-C", ROOT, "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(command, capture_output=True).returncode == 0


def commits():
    """{name: commit} of the records."""
    found = {}
    for path in sorted(RECORDS.rglob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        found[path.relative_to(RECORDS).with_suffix("").as_posix()] = record["environment"]["commit"]
    return found


def measured_before():
    """The records whose code has changed since, of those whose commit is in the history here; and those others."""
    before = []
    unknown = []
    for name, commit in commits().items():
        commit = commit.removesuffix("-dirty")
        if not known(commit):
            unknown.append(name)
        elif any(changed(commit, file) for file in code_behind(name)):
            before.append(name)
    return before, unknown


def problems():
    """What `make lint` says of the records."""
    found = commits()
    dirty = sorted(name for name, commit in found.items() if commit.endswith("-dirty"))
    for name in dirty:
        yield f"records/{name}.json was measured with code that is not committed; commit it and measure again"
    before, unknown = measured_before()
    wrong = (set(listed()) ^ set(before)) - {*unknown}
    if wrong:
        yield f"records/measured_before.txt is not right about {', '.join(sorted(wrong))}; `make tables` writes it"


def main():
    before, unknown = measured_before()
    if unknown:
        sys.exit(f"the history here does not have the commits of {', '.join(unknown)}; fetch all of it first")
    LIST.write_text("".join(f"{name}\n" for name in sorted(before)), encoding="utf-8")
    print(f"{LIST.relative_to(ROOT)}: {len(before)} of {len(commits())} records")


if __name__ == "__main__":
    main()
