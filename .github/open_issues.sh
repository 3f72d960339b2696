#!/usr/bin/env bash
# Open one issue for each notebook that failed, unless one with the same title is open: open_issues.sh FOLDER
# FOLDER holds failed-<notebook>/log.txt for each. Asks for gh, GH_TOKEN, and RUN, the address of the run.
set -euo pipefail
shopt -s nullglob
open=$(gh issue list --state open --limit 1000 --json title --jq '.[].title')
for log in "$1"/failed-*/log.txt; do
    notebook=$(basename "$(dirname "$log")")
    notebook=${notebook#failed-}
    title="$notebook fails with the newest TensorFlow and Keras"
    if grep -qxF "$title" <<<"$open"; then
        echo "already open: $title"
        continue
    fi
    # The first lines are the versions, the last ones pytest's summary; GitHub takes 65,536 characters.
    gh issue create --title "$title" --body "$(
        printf 'The weekly run without the lock: %s\n\n```text\n' "$RUN"
        grep -iE '^(tensorflow|keras|numpy)==' "$log" || true
        tail -c 20000 "$log" | tail -n 80 | tr -d '\033`'
        printf '```\n\nOn your machine, in an environment of its own: `python -m pip install -e ".[dev]"`, then\n'
        printf '`python -m pytest tests/notebooks/test_notebooks.py -k "runs_offline and %s"`\n' "$notebook"
    )"
done
