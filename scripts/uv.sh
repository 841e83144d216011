#!/usr/bin/env bash
# uv.sh: .venv-uv, with the package uv, which writes locks. Nothing that is installed from a lock needs it.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/venv.sh "${PYTHON:-python3}" .venv-uv
.venv-uv/bin/python -c 'import uv' 2>/dev/null ||
    PIP_USER=0 .venv-uv/bin/python -m pip install --quiet --disable-pip-version-check uv
