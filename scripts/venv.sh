#!/usr/bin/env bash
# venv.sh PYTHON FOLDER: a virtual environment, made once. Debian keeps venv's pip in a package of its own.
set -euo pipefail
python=$1 folder=$2

if [ -x "$folder/bin/python" ] && "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "lllm needs Python 3.11 or newer; $python is $("$python" -V 2>&1). Try: make PYTHON=python3.12 venv" >&2
    exit 1
}

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "$python cannot make virtual environments. Try: sudo apt-get install python$version-venv" >&2
        exit 1
    fi
    apt-get update -qq
    apt-get install -y -qq "python$version-venv" || apt-get install -y -qq python3-venv
fi

"$python" -m venv "$folder"
