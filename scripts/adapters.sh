#!/usr/bin/env bash
# adapters.sh games|verifiers: the adapters of lllm/rl/adapters on the packages that they adapt, which no lock has.
#
# In an environment of its own, .venv-adapters or .venv-verifiers, which is kept. Nothing is uploaded: no command and no
# evaluation of verifiers runs, which would upload (`push`) unless it is told not to.
set -euo pipefail
cd "$(dirname "$0")/.."

case $1 in
games) venv=.venv-adapters script=games packages=(reasoning-gym==0.1.25 gymnasium==1.4.0 textarena==0.7.4) ;;
verifiers) venv=.venv-verifiers script=tasksets packages=('verifiers[ta]==0.4.0') ;;
*)
    echo "adapters.sh games|verifiers" >&2
    exit 2
    ;;
esac

scripts/venv.sh "${PYTHON:-python3}" "$venv"
PIP_USER=0 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt "${packages[@]}"
PYTHONPATH=$PWD exec "$venv/bin/python" -W ignore "tests/rl/adapters/real/$script.py"
