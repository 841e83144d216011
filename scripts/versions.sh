#!/usr/bin/env bash
# versions.sh newest|lowest [PYTEST ARGUMENTS]: the suite on the newest, or the lowest, versions that pyproject.toml allows.
#
# In an environment of its own, .venv-newest or .venv-lowest, which is kept. Of torch it has the build of locks/torch.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=$1
shift
venv=.venv-$kind

scripts/venv.sh "${PYTHON:-python3}" "$venv"
scripts/uv.sh
.venv-uv/bin/python scripts/lock.py "--$kind" "$venv/locks"
scripts/install.sh "$venv" dev "$venv/locks"
exec "$venv/bin/python" -m pytest -n 2 --dist worksteal "$@"
