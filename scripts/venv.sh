#!/usr/bin/env bash
# venv.sh PYTHON FOLDER: a virtual environment, made once. Debian keeps venv's pip in a package of its own.
set -euo pipefail
python=$1 folder=$2

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if new_enough "$folder/bin/python" && "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

if ! new_enough "$python"; then
    for other in python3.13 python3.12 python3.11; do
        if new_enough "$other"; then
            echo "$python is $("$python" -V 2>&1 || true): using $other" >&2
            python=$other
            break
        fi
    done
    new_enough "$python" || {
        echo "lllm needs Python 3.11 or newer; $python is $("$python" -V 2>&1 || true)" >&2
        echo "Install one, and name it if it is not on PATH: make PYTHON=/path/to/python3.12 demo" >&2
        exit 1
    }
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! command -v apt-get >/dev/null; then
        echo "$python cannot make virtual environments: install its modules venv and ensurepip." >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "$python cannot make virtual environments. Type: sudo apt-get install python$version-venv" >&2
        exit 1
    fi
    apt-get update -qq
    apt-get install -y -qq "python$version-venv" || apt-get install -y -qq python3-venv
fi

# one that is there does not work, or is of an old Python
"$python" -m venv --clear "$folder"
