"""What runs on GitHub: the commands exist, a failed notebook gets one issue."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from tools.notebooks import NOTEBOOKS, ROOT

GITHUB = ROOT / ".github"
TARGETS = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split()


def test_each_command_exists():
    for path in GITHUB.glob("workflows/*.yml"):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"\bmake (test[\w-]*|docs)", text)) <= set(TARGETS)
        for named in re.findall(r"(?:tests|\.github)/[\w./-]+\w", text):
            assert (ROOT / named).exists(), f"{path.name}: {named}"


def test_what_a_change_must_pass_runs_on_linux():
    ours = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    ci = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert {row["command"] for row in ci["jobs"]["linux"]["strategy"]["matrix"]["include"]} == set(ours)


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
    subprocess.run(script, cwd=tmp_path, env=variables, check=True, capture_output=True)
    titles = (tmp_path / "open").read_text().splitlines()
    assert titles == ["Something else", title.format("01_swish"), title.format("06_compound_scaling")]
    body = (tmp_path / f"body of {titles[-1]}").read_text()
    assert "https://none.example/1" in body and "tensorflow==9.9" in body and "1 failed" in body
    assert len(body) < 65_536 and body.count("```") == 2
