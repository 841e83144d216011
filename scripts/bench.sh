#!/usr/bin/env bash
# Every benchmark in its quick form; each prints a table.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0
for file in benchmarks/*.py; do
    case $file in
        */_*.py | "benchmarks/*.py") continue ;; # helpers; no benchmark at all
    esac
    echo "+ python $file --quick"
    .venv/bin/python "$file" --quick || status=1
done
exit $status
