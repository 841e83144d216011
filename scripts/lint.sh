#!/usr/bin/env bash
# Every check runs, so that one look shows all there is to mend; the exit status says whether any failed.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
failed=()

check() {
    echo "+ $*"
    "$@" || failed+=("$*")
}

check $bin/ruff check .
check $bin/ruff format --check .
check $bin/mypy
check $bin/lint-imports --no-logo --no-cache
if [ -f docs/generate.py ]; then
    check $bin/python -m docs.generate --check
fi

if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
