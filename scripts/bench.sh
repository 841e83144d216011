#!/usr/bin/env bash
# Every benchmark in its quick form; each prints a table.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0
for file in benchmarks/*.py; do
    case $file in
        */_*.py | "benchmarks/*.py") continue ;; # helpers; no benchmark at all
    esac
    name=benchmarks.$(basename "$file" .py)
    echo "+ python -m $name --quick"
    .venv/bin/python -m "$name" --quick || status=1
done
exit $status
