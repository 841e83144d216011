#!/usr/bin/env bash
# install.sh VENV EXTRAS: installs this checkout in editable form with these extras, and what they need from outside PyPI.
#
# llama-cpp-python is compiled: in a form that runs on every x86-64 CPU of the last ten years, because a default build
# crashes on CPUs with AMX. The wheel is kept in VENV/wheels, so that it is built once. torch comes first and pinned: left
# to itself, pip takes the build for whatever GPU the index prefers.
set -euo pipefail
venv=$1 extras=$2
pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet)
torch=2.13.0 llama=0.3.36

if [[ ,$extras, == *,dev,* ]]; then
    "$venv/bin/python" -c 'import torch' 2>/dev/null || "${pip[@]}" install "torch==$torch" numpy
    wheels=$venv/wheels
    if ! compgen -G "$wheels/llama_cpp_python-$llama-*.whl" >/dev/null; then
        if ! command -v c++ >/dev/null; then
            if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
                echo "llama-cpp-python needs a C++ compiler. Try: sudo apt-get install g++" >&2
                exit 1
            fi
            apt-get update -qq && apt-get install -y -qq g++
        fi
        CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF" \
            "${pip[@]}" wheel --no-deps --wheel-dir "$wheels" "llama-cpp-python==$llama"
    fi
    "${pip[@]}" install --find-links "$wheels" "llama-cpp-python==$llama"

    # The tests of the Postgres store start a server of their own: only its programs are needed.
    if ! command -v initdb >/dev/null && ! compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            # the package would start a server, which nobody here uses
            mkdir -p /etc/postgresql-common
            [ -e /etc/postgresql-common/createcluster.conf ] ||
                echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
            apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql
        else
            echo "The tests of the Postgres store need a Postgres server. Try: sudo apt-get install postgresql" >&2
        fi
    fi
fi
"${pip[@]}" install --editable ".[$extras]"
