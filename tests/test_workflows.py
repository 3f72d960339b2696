"""What runs on GitHub: the commands exist, rights are the least, a failed notebook gets one issue."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from tools.notebooks import NOTEBOOKS, ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in GITHUB.glob("workflows/*.yml")}
TARGETS = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split()
VERSIONS = ["3.11", "3.12", "3.13"]


def jobs():
    return [(name, job) for workflow in WORKFLOWS.values() for name, job in workflow["jobs"].items()]


def commands():
    """Every line that a workflow runs; those of a matrix with its values put in."""
    for _, job in jobs():
        rows = job.get("strategy", {}).get("matrix", {}).get("include", [{}]) if "strategy" in job else [{}]
        for step in job["steps"]:
            for row in rows:
                for line in step.get("run", "").splitlines():
                    yield re.sub(r"\$\{\{ matrix\.(\w+) }}", lambda found, row=row: row.get(found[1], found[0]), line)


def test_each_command_exists():
    made = [line.split()[1] for line in commands() if line.startswith("make ")]
    assert {"test", "test-fast", "test-backends", "test-colab"} <= set(made) <= set(TARGETS)
    for line in commands():
        for path in re.findall(r"(?:tests|\.github|notebooks)/[\w./-]+\w", line):
            assert (ROOT / path).exists(), line
        if line.startswith("./") or line.startswith(".github/"):
            assert os.access(ROOT / line.split()[0], os.X_OK) or sys.platform == "win32", line


def test_what_a_change_must_pass_runs_on_linux():
    ours = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    rows = WORKFLOWS["ci"]["jobs"]["linux"]["strategy"]["matrix"]["include"]
    assert {row["command"] for row in rows} == set(ours)
    assert [row["python"] for row in rows if row["command"] == "make test"] == VERSIONS
    for name in ("macos", "windows"):
        assert WORKFLOWS["ci"]["jobs"][name]["strategy"]["matrix"]["python"] == VERSIONS


def test_rights_are_the_least_and_actions_githubs_own():
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"} and workflow["concurrency"]["group"]
    assert [name for name, job in jobs() if "permissions" in job] == ["issues"]
    for name, job in jobs():
        assert job["timeout-minutes"], name
        for step in job["steps"]:
            assert "uses" not in step or re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]), step


def test_the_issue_form_offers_every_notebook():
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / "notebook.yml").read_text(encoding="utf-8"))
    (options,) = [each["attributes"]["options"] for each in form["body"] if each.get("id") == "notebook"]
    assert options[:-1] == [path.stem for path in NOTEBOOKS]


# Stands for GitHub's gh: knows the titles in the file "open", adds those it is asked to create.
FAKE_GH = """#!/bin/sh
case "$1 $2" in
"issue list") cat open;;
"issue create") echo "$4" >> open; echo "$6" > "body of $4";;
*) exit 1;;
esac
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the script runs on GitHub's Linux machines")
def test_each_notebook_that_fails_gets_one_issue(tmp_path):
    (tmp_path / "gh").write_text(FAKE_GH)
    (tmp_path / "gh").chmod(0o755)
    title = "{} fails with the newest TensorFlow and Keras"
    (tmp_path / "open").write_text("Something else\n" + title.format("01_swish") + "\n")
    for notebook, text in (("01_swish", "old"), ("06_compound_scaling", "tensorflow==9.9\n```\n1 failed\n")):
        log = tmp_path / "failed" / f"failed-{notebook}" / "log.txt"
        log.parent.mkdir(parents=True)
        log.write_text("line\n" * 30_000 + text)
    variables = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "RUN": "https://none.example/1"}
    script = [str(GITHUB / "open_issues.sh"), "failed"]
    for _ in range(2):
        subprocess.run(script, cwd=tmp_path, env=variables, check=True, capture_output=True)
    titles = (tmp_path / "open").read_text().splitlines()
    assert titles == ["Something else", title.format("01_swish"), title.format("06_compound_scaling")]
    body = (tmp_path / f"body of {titles[-1]}").read_text()
    assert "https://none.example/1" in body and "tensorflow==9.9" in body and "1 failed" in body
    assert len(body) < 65_536 and body.count("```") == 2
